from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from networks import image, shaken
from torch import nn

from hsiutils.attribution.audit import audit
from hsiutils.attribution.hooks import ask
from hsiutils.attribution.leaderboard import (
    FLIPPED,
    cost,
    leaderboard,
    leakage,
    pixel_maps,
    question,
    robustness,
    upper_layers,
)
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import region

NETWORK, IMAGE = shaken(dtype=torch.float32), image(height=16, width=24, dtype=torch.float32)


def test_the_question_is_about_the_largest_region_and_its_rival():
    asked = question(NETWORK, IMAGE, pixels=4)
    with torch.no_grad():
        logits = NETWORK(IMAGE[None])[0]
    chosen = logits.argmax(0)
    largest = int(np.bincount(chosen.flatten()).argmax())
    mask = chosen == largest
    means = [float(logits[c][mask].mean()) for c in range(5)]
    assert float(asked.region.value(logits[None])) == pytest.approx(means.pop(largest), rel=1e-5)
    assert float(asked.rival.value(logits[None])) == pytest.approx(max(means), rel=1e-5)
    assert asked.scale == pytest.approx(float((logits[largest] ** 2).mean() ** 0.5), rel=1e-6)
    assert len(set(asked.places)) == 4
    for target, (row, column) in zip(asked.pixels, asked.places, strict=True):
        assert mask[row, column]
        assert float(target.value(logits[None])) == pytest.approx(float(logits[largest, row, column]), rel=1e-5)
    with pytest.raises(ValueError, match="at least one pixel"):
        question(NETWORK, IMAGE, pixels=0)


def test_upper_layers_are_the_head_and_the_whole_decoder():
    upper = ["conv2d_10", "conv2d_9", "conv2d_8", "conv2d_transpose_1", "conv2d_7", "conv2d_6", "conv2d_transpose"]
    assert upper_layers(NETWORK, IMAGE) == upper


def test_a_network_without_pooling_is_asked_all_the_same():
    flat = shaken(replace(NETWORK.config, depth=0, kernel=1), dtype=torch.float32)
    assert upper_layers(flat, IMAGE) == ["conv2d_2"]
    for name, method in METHODS.items():
        found = method(flat, IMAGE, question(flat, IMAGE, pixels=1).pixels[0])
        assert np.isfinite(found.map.values).all(), name
        assert found.closes or name not in ("linear decomposition", "CAM", "DeepLIFT"), name
    every = audit(flat, IMAGE)
    assert len(set(every["method"].values)) == every.sizes["method"]
    assert float(abs(every["residual"]).sel({"method": "CAM conv2d_1"}).max()) < 1e-4


def test_before_the_head_gradcams_map_does_not_depend_on_the_pixel():
    asked = question(NETWORK, IMAGE)
    found = pixel_maps(NETWORK, IMAGE, asked)
    maps = found["map"].sel({"method": "GradCAM"}).values
    assert maps[1:] == pytest.approx(np.repeat(maps[:1], 2, axis=0), rel=1e-5)
    assert abs(found["residual"].sel({"method": "CAM"}).values).max() < 1e-5
    assert found["logit"].values == pytest.approx(
        [target.value(NETWORK(IMAGE[None])).item() for target in asked.pixels]
    )


def test_answers_tell_good_methods_from_bad():
    def picture(model, x, target):
        """A map that sees neither NETWORK nor class."""
        found = METHODS["gradient x input"](model, x, target)
        return replace(found, map=found.map.copy(data=x.numpy()))

    def broken(model, x, target):
        found = METHODS["gradient x input"](model, x, target)
        return replace(found, map=found.map * np.nan)

    methods = {name: METHODS[name] for name in ("linear decomposition", "GradCAM", "band occlusion")}
    methods |= {"picture": picture, "broken": broken}
    answers = leaderboard(NETWORK, IMAGE, question(NETWORK, IMAGE), methods).to_dataframe()
    assert answers["residual"]["linear decomposition"] < 1e-5 < 1e-2 < answers["residual"]["GradCAM"]
    assert answers["sanity"]["picture"] == pytest.approx(1)
    assert answers["class_sensitivity"]["picture"] == pytest.approx(1)
    assert answers["sanity"]["linear decomposition"] < 0.9
    assert np.isnan(answers["band_faithfulness"][["GradCAM", "broken"]]).all()
    assert np.isnan(answers["faithfulness"][["band occlusion", "broken"]]).all()
    assert answers["band_faithfulness"]["band occlusion"] == pytest.approx(1)
    assert (answers["seconds"] > 0).all()


def test_what_is_taken_out_far_from_the_target_leaks():
    shallow = nn.Conv2d(4, 2, 1)
    with torch.no_grad():
        shallow.weight.fill_(1)
    x = torch.zeros(4, 10, 10)
    x[:, :5] = 1
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[0] = True
    target = region(shallow, x, 0, mask, mean=True)

    def told(rows):
        values = np.zeros((10, 10))
        values[rows] = 1
        return Attribution("planted", "input", xr.DataArray(values, dims=("y", "x")), 0.0)

    assert leakage(shallow, x, target, told(0)) == 0
    assert leakage(shallow, x, target, told(7)) == 1
    bands = Attribution("planted", "input", xr.DataArray(np.ones(4), dims=("band",)), 0.0)
    assert np.isnan(leakage(shallow, x, target, bands))


def test_a_map_of_the_picture_follows_the_picture_and_one_of_noise_does_not():
    target = question(NETWORK, IMAGE).region

    def picture(model, x, target):
        return Attribution("picture", "input", xr.DataArray(x.numpy(), dims=("band", "y", "x")), 0.0)

    def noise(model, x, target):
        drawn = np.random.default_rng(int(x.sum() * 1e6) % 2**32).normal(size=tuple(x.shape))
        return Attribution("noise", "input", xr.DataArray(drawn, dims=("band", "y", "x")), 0.0)

    images = {"brightness": 2 * IMAGE, FLIPPED: IMAGE.flip(-1)}
    assert robustness(NETWORK, IMAGE, target, picture, images) == pytest.approx({"brightness": 1, FLIPPED: 1})
    assert abs(robustness(NETWORK, IMAGE, target, noise, images)["brightness"]) < 0.3
    gradient = robustness(NETWORK, IMAGE, target, METHODS["gradient"], {FLIPPED: IMAGE.flip(-1), "same": IMAGE})
    assert gradient["same"] == pytest.approx(1)
    assert gradient[FLIPPED] < 0.99


def test_cost_is_counted_in_forward_passes():
    target = question(NETWORK, IMAGE).region
    assert cost(NETWORK, IMAGE, lambda: ask(NETWORK, IMAGE[None])) == (1, 1)
    ten = cost(NETWORK, IMAGE, lambda: [ask(NETWORK, IMAGE[None]) for _ in range(10)])
    assert ten[0] == 10
    gradient = cost(NETWORK, IMAGE, lambda: METHODS["gradient"](NETWORK, IMAGE, target))
    assert 2 < gradient[0] < 6
    assert gradient[1] > 2
    bands = cost(NETWORK, IMAGE, lambda: METHODS["band occlusion"](NETWORK, IMAGE, target))
    assert 4 <= bands[0] <= 7
