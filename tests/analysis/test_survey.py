import numpy as np
import pytest
import torch
import xarray as xr
from planted import VEGETATION, planted, scenes, trained_like

from hsiutils.analysis import (
    Subject,
    contributions,
    edge_statistics,
    head_table,
    region_statistics,
    skip_edges,
    skip_statistics,
    survey,
)
from hsiutils.analysis.survey import head_gap


@pytest.fixture(scope="module")
def pairs():
    return scenes(3)


@pytest.fixture(scope="module")
def subjects(pairs):
    """Two networks of one input, and one of an input with a channel less."""
    fewer = [(image[:2], truth) for image, truth in pairs]
    return [Subject(planted(), pairs), Subject(trained_like(1), pairs), Subject(trained_like(2, channels=2), fewer)]


@pytest.fixture(scope="module")
def found(subjects):
    return survey(subjects, ["a", "b", "c"])


@pytest.mark.parametrize("number", range(3))
def test_one_pass_gives_what_each_measure_gives_alone(number, subjects, found):
    model, pairs, names = subjects[number].model, subjects[number].scenes, ["a", "b", "c"]
    alone = {
        "head": region_statistics(model, pairs, names=names).merge(head_table(model)),
        "edges": edge_statistics(model, pairs, names=names),
        "skip": skip_statistics(model, pairs, names),
        "skip_edges": skip_edges(model, pairs, names),
    }
    assert list(found[number]) == list(alone)
    for kind, expected in alone.items():
        xr.testing.assert_allclose(found[number][kind].drop_vars("gap", errors="ignore"), expected, rtol=1e-6)
    assert found[number]["head"].attrs == alone["head"].attrs
    assert found[number]["edges"].attrs == alone["edges"].attrs


def test_contributions_and_halves_close(found):
    for sums in found:
        assert (sums["head"]["gap"] < 1e-5).all()
        assert (sums["skip"]["gap"] < 1e-5).all()
        assert sums["head"]["gap"].dims == ("scene",)


def test_a_head_that_does_not_add_up_is_seen():
    model, image = trained_like(), scenes(1)[0][0]
    seen, head = contributions(model, image), head_table(model)
    maps, logits = seen["activation"].values, seen["logit"].values
    assert head_gap(head, maps, logits) < 1e-6
    assert head_gap(head.assign(weight=1.01 * head["weight"]), maps, logits) > 1e-3
    shifted = head.assign(bias=head["bias"] + np.abs(logits).max())
    assert head_gap(shifted, maps, logits) == pytest.approx(1, abs=1e-6)


def test_each_scene_is_read_once_for_each_input():
    class Counted(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    pairs = Counted(scenes(2))
    survey([Subject(planted(), pairs), Subject(trained_like(), pairs)])
    assert pairs.reads == 2


def test_looking_leaves_no_trace(pairs):
    model = trained_like().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    survey([Subject(model, pairs)])
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_subjects_must_see_the_same_scenes(pairs):
    with pytest.raises(ValueError, match=r"got \[2, 3\] scenes"):
        survey([Subject(planted(), pairs), Subject(planted(), pairs[:2])])
    with pytest.raises(ValueError, match=r"at least one; got \[\]"):
        survey([])
    other = [(image, torch.full_like(truth, VEGETATION)) for image, truth in pairs]
    with pytest.raises(ValueError, match="scene 0: subjects are given different labels"):
        survey([Subject(planted(), pairs), Subject(planted(), other)])
