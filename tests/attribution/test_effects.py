"""What maps foretell of changes: planted in networks of which the truth is known by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from networks import SMALL, image, shaken
from torch import nn

from hsiutils.attribution.effects import (
    IN_LOGITS,
    NULLS,
    PER_UNIT,
    effects,
    everywhere,
    foretells,
    judged,
    nulls,
    rank_agreement,
)
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import pixel, region

SHAPE = (3, 6, 8)
X = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)).double() + 0.2
MASK = torch.zeros(6, 8, dtype=torch.bool)
MASK[1:3, 2:6] = True


@pytest.fixture
def linear():
    torch.manual_seed(1)
    return nn.Conv2d(3, 2, 3, padding=1).double().eval()


def changed(count=6):
    """Images of which some bands of some pixels are others."""
    draw = torch.Generator().manual_seed(2)
    where = torch.rand(count, *SHAPE, generator=draw) < 0.3
    return torch.where(where, torch.rand(count, *SHAPE, generator=draw).double() + 0.2, X)


def test_what_a_linear_network_does_is_foretold_exactly(linear):
    others, target = changed(), pixel(linear, X, 1, 2, 3)
    true = effects(linear, X, others, [target])[0]
    for name in ("gradient", "gradient x input", "linear decomposition", "Integrated Gradients", "DeepLIFT"):
        assert foretells(linear, X, others, METHODS[name](linear, X, target)) == pytest.approx(true, rel=1e-7), name
    whole = everywhere(linear, X, others)
    assert float(whole["logit_error"].sum()) < 1e-18 < 1 < float(whole["logit_effect"].sum())


def test_a_map_without_bands_or_without_space_foretells_what_happens_to_whole_pixels_and_bands(linear):
    pointwise = nn.Conv2d(3, 2, 1).double().eval()
    target = region(pointwise, X, 0, MASK, mean=True)
    dimmed = torch.stack([X * (1 - 0.3 * MASK), X * 0.5, X])
    true = effects(pointwise, X, dimmed, [target])[0]
    said = foretells(pointwise, X, dimmed, METHODS["occlusion"](pointwise, X, target, patch=1))
    assert said == pytest.approx(true, rel=1e-9)
    darker = torch.stack([X * torch.tensor([1, 0.8, 1]).view(3, 1, 1), X * torch.tensor([0.5, 1, 1]).view(3, 1, 1)])
    said = foretells(linear, X, darker, METHODS["band occlusion"](linear, X, target))
    assert said == pytest.approx(effects(linear, X, darker, [target])[0], rel=1e-9)


def test_a_change_that_changes_nothing_has_no_effect_and_none_is_foretold():
    model, x = shaken(), image()
    target = pixel(model, x, 0, 3, 4)
    same = torch.stack([x, x])
    assert not effects(model, x, same, [target]).any()
    for name, method in {**METHODS, **nulls(x, 0)}.items():
        assert not np.nan_to_num(foretells(model, x, same, method(model, x, target))).any(), name
    assert not float(everywhere(model, x, same).to_dataarray().sum())


def test_a_small_change_of_a_network_is_foretold_by_its_gradient_and_not_by_noise():
    model, x, draw = shaken(), image(), torch.Generator().manual_seed(3)
    target = pixel(model, x, 0, 3, 4)
    others = x + 1e-7 * torch.randn(40, *x.shape, generator=draw).double()
    (true,) = effects(model, x, others, [target])
    said = {name: foretells(model, x, others, METHODS[name](model, x, target)) for name in ("gradient", "LRP epsilon")}
    asked = nulls(image(seed=5), 0)
    noise = foretells(model, x, others, asked["noise"](model, x, target))
    assert said["gradient"] == pytest.approx(true, rel=1e-4, abs=1e-10)
    assert said["LRP epsilon"] == pytest.approx(true, rel=1e-3, abs=1e-9)
    assert abs(rank_agreement(noise, true)) < 0.4
    again = asked["noise"](model, x, pixel(model, x, 1, 3, 4))
    assert not np.allclose(again.map, asked["noise"](model, x, target).map)


def test_agreement_knows_who_says_nothing():
    true = np.array([1.0, -2.0, 3.0, 0.5])
    assert rank_agreement(true**3, true) == 1
    assert rank_agreement(np.zeros(4), true) == 0
    assert np.isnan(rank_agreement(np.array([1, np.nan, 2, 3]), true))
    assert np.isnan(rank_agreement(true, np.zeros(4)))
    assert np.isnan(rank_agreement(true[:2], true[:2]))


def test_scores_are_by_kind_and_leave_out_what_was_not_there():
    true = np.array([[1.0, 2, 3, np.nan, 10, 20, 30], [-1, -2, -3, np.nan, 5, 4, 3]])
    kinds = ["swap"] * 4 + ["light"] * 3
    draw = np.random.default_rng(0)
    noise = np.array([judged({"m": draw.normal(size=true.shape)}, true, kinds)["rank"].values for _ in range(100)])
    assert abs(noise.mean(0)).max() < 0.15
    found = judged({"gradient": true, "GradCAM": -true, "occlusion": np.zeros_like(true)}, true, kinds)
    assert found["rank"].sel({"method": "gradient"}).values.tolist() == [1, 1]
    assert found["rank"].sel({"method": "GradCAM"}).values.tolist() == [-1, -1]
    assert found["size"].sel({"method": "GradCAM"}).values.tolist() == [1, 1]
    assert found["error"].sel({"method": "gradient"}).values.tolist() == [0, 0]
    assert np.isnan(found["error"].sel({"method": "GradCAM"})).all()  # not in logits
    assert found["error"].sel({"method": "occlusion"}).values == pytest.approx(found["effect"].values)
    broken = judged({"gradient": true * np.nan}, true, kinds)
    assert np.isnan(broken["rank"]).all()


def test_every_method_has_a_unit_or_none():
    assert set(METHODS) | set(NULLS) >= PER_UNIT | IN_LOGITS
    bad = Attribution("GradCAM", "input", xr.DataArray(np.full((13, 18), np.nan), dims=("y", "x")), 0.0)
    assert np.isnan(foretells(shaken(SMALL), image(), image()[None], bad)).all()
