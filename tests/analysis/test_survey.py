import numpy as np
import pytest
import torch
import xarray as xr
from planted import VEGETATION, planted, scenes, trained_like

from hsiutils.analysis.activations import contributions, head_table, observe, region_sums
from hsiutils.analysis.edges import border_probes, border_sums
from hsiutils.analysis.survey import Subject, head_gap, survey
from hsiutils.data.classes import CLASSES
from hsiutils.models.unet import UNet, UNetConfig


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
def test_what_is_kept_of_a_network_does_not_depend_on_the_company(number, subjects, found):
    (alone,) = survey([subjects[number]], ["a", "b", "c"])
    for kind, expected in alone.items():
        xr.testing.assert_identical(found[number][kind], expected)


def test_one_pass_gives_what_each_measure_gives_alone(subjects, found, pairs):
    model = subjects[1].model
    for index, (image, truth) in enumerate(pairs):
        maps, _ = observe(model, image, ["conv2d_1", "conv2d_9"])
        head = found[1]["head"].isel(scene=index, drop=True)
        xr.testing.assert_allclose(
            head[["pixels", "total", "square"]], region_sums(maps["conv2d_9"], truth.numpy(), CLASSES)
        )
        edges = border_sums(maps["conv2d_1"], border_probes(truth.numpy(), CLASSES))
        xr.testing.assert_allclose(found[1]["edges"].isel(scene=index, drop=True), edges)
    xr.testing.assert_identical(found[1]["head"][["weight", "bias"]].drop_attrs(), head_table(model))
    assert found[1]["head"].attrs == {"layer": "conv2d_9", "after": True}
    assert found[1]["edges"].attrs == {"layer": "conv2d_1", "after": True}
    assert found[1]["head"]["scene"].values.tolist() == ["a", "b", "c"]


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
    with pytest.raises(ValueError, match="subjects must have the same classes"):
        survey([Subject(planted(), pairs), Subject(UNet(UNetConfig(channels=3, classes=6, depth=1, filters=4)), pairs)])
