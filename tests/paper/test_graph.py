"""The graph for the browser, run by onnxruntime, against torch and the exact decomposition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import shaken
from onnxruntime import InferenceSession

from hsiutils.attribution.decompose import decompose
from hsiutils.data.classes import CLASSES
from hsiutils.data.cube import make_cube
from hsiutils.data.inputs import FittedVariant, variant
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.models.unet import UNetConfig
from hsiutils.paper.graph import live_graph

SMALL = UNetConfig(depth=3, filters=3, class_names=CLASSES)
SIZE = (16, 24)
PIXELS = [(0, 0), (7, 11), (15, 23)]
AVERAGE = np.linspace(-0.5, 0.5, 25)
CUBE = np.random.default_rng(0).gamma(2, 0.2, (25, *SIZE)).astype(np.float32)
CUBE[:, 4:12, 8:16] = CUBE[:, 4:5, 8:9]  # alike: the maxima of poolings tie
CUBE[:, 2, 3] = 0  # without light


def fitted(name):
    high = HSI_DRIVE.clip_max if "PN" in name else np.linspace(0.5, 1, 25)
    return FittedVariant(variant(name), tuple(HSI_DRIVE.wavelengths_nm), (0.0,) * 25, tuple(high.tolist()), 99.9)


@pytest.fixture(scope="module")
def network():
    return shaken(SMALL, torch.float32)


@pytest.mark.parametrize("name", ["25", "25-PN", "all"])
@pytest.mark.parametrize("off", [[], [3, 20]])
def test_logits_and_contributions_are_torchs(network, name, off):
    inputs = fitted(name)
    session = InferenceSession(live_graph(network, inputs, AVERAGE, SIZE).SerializeToString())
    asked = np.zeros((3, 5, *SIZE), np.float32)
    for number, place in enumerate(PIXELS):
        asked[number, number, *place] = 1
    feeds = {"reflectance": CUBE[None], "off": np.isin(np.arange(25), off).astype(np.float32).reshape(1, -1, 1, 1)}
    logits, bands, start = session.run(["logits", "bands", "start"], feeds | {"asked": asked})
    x = torch.from_numpy(inputs.apply(make_cube(CUBE, HSI_DRIVE)).values)
    x[off] = torch.as_tensor(AVERAGE, dtype=x.dtype)[off, None, None]
    found = decompose(network, x, reference=AVERAGE)
    np.testing.assert_allclose(logits[0], network(x[None])[0].detach(), rtol=1e-5, atol=1e-5)
    for number, (row, column) in enumerate(PIXELS):
        parts = found.contribution.isel({"class": number, "y": row, "x": column})
        scale = float(abs(parts).max())
        np.testing.assert_allclose(bands[number], parts, atol=1e-4 * scale)
        assert start[number] == pytest.approx(float(found.bias.sum("layer")[number, row, column]), abs=1e-4 * scale)
        assert bands[number].sum() + start[number] == pytest.approx(logits[0, number, row, column], abs=1e-4 * scale)
        assert (bands[number][off] == 0).all()
    assert abs(bands[0] - bands[1]).max() > 0.01 * abs(bands).max()  # a mistaken pixel would be seen


@pytest.mark.parametrize("name", ["25-clr", "3", "25+I", "25-PN@0.5"])
def test_other_inputs_are_refused(network, name):
    with pytest.raises(ValueError, match=r"a graph takes all bands, with PN or without"):
        live_graph(network, replace(fitted("25"), variant=variant(name)), AVERAGE, SIZE)


def test_a_size_that_would_be_padded_is_refused(network):
    with pytest.raises(ValueError, match=r"multiples of 8, got \(16, 20\)"):
        live_graph(network, fitted("25"), AVERAGE, (16, 20))
