"""On a GPU: every method, audit and sum says what it says on the processor, and a training repeats itself."""

import hashlib

import numpy as np
import pytest
import torch
from networks import shaken

import hsiutils as hu
from hsiutils.attribution.audit import AUDITED
from hsiutils.models.recipe import Recipe

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
SHAPE = (16, 24)
NOISY = "SmoothGrad"
"""Draws its noise where the image is, as captum does: another device has another noise."""


@pytest.fixture(scope="module")
def pair():
    """A network and an image (channels, h, w) in double precision on the processor, and the same on the GPU."""
    model = shaken().double().eval()
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(model.config.channels, *SHAPE, generator=draw, dtype=torch.float64)
    return (model, x), (shaken().double().eval().to(DEVICE), x.to(DEVICE))


def agree(here, there):
    scale = float(abs(here).max())
    np.testing.assert_allclose(there.values, here.values, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("name", sorted(set(hu.METHODS) - {NOISY}))
def test_a_map_is_the_same(name, pair):
    here, there = (hu.attribute(name, model, x, hu.pixel(model, x, 1, 5, 7)) for model, x in pair)
    agree(here.map, there.map)
    assert there.total == pytest.approx(here.total, rel=1e-9)


def test_an_audit_is_the_same(pair):
    here, there = (hu.audit(model, x, sorted(set(AUDITED) - {NOISY})) for model, x in pair)
    agree(here["residual"].fillna(0), there["residual"].fillna(0))
    agree(here["logit"], there["logit"])


def test_noise_is_the_same_in_a_map_and_in_the_audit(pair):
    model, x = pair[1]
    asked = hu.pixel(model, x, 1, 5, 7)
    found = hu.audit(model, x, [NOISY]).isel(image=0, method=0).isel({"class": 1, "y": 5, "x": 7})
    assert float(found["residual"] + found["logit"]) == pytest.approx(hu.attribute(NOISY, model, x, asked).total)


def test_an_exact_sum_is_the_same(pair):
    regions = np.arange(np.prod(SHAPE)).reshape(SHAPE) // 100
    here, there = (hu.decompose(model, x, regions, reference=x.mean((1, 2))) for model, x in pair)
    agree(here.contribution, there.contribution)
    assert there.closes


@pytest.mark.parametrize("precision", ["32-true", "auto"])
def test_a_training_repeats_itself(precision, tmp_path):
    data = hu.simulate_dataset(tmp_path / "scenes", scenes=10, tiles=(16, 32), workers=1, progress=False)
    inputs = hu.fit_inputs("25-PN", data)
    config = hu.UNetConfig(depth=2, filters=4)
    recipe = Recipe(epochs=2, batch=2, precision=precision)
    for name in "ab":
        hu.train(data, inputs, tmp_path / name, config=config, recipe=recipe, progress=False, device=DEVICE)
    one, other = (hashlib.sha256((tmp_path / name / "weights.safetensors").read_bytes()).hexdigest() for name in "ab")
    assert one == other
