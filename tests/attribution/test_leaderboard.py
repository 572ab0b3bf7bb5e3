from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import image, shaken

from hsiutils.attribution.audit import audit
from hsiutils.attribution.leaderboard import leaderboard, pixel_maps, question, stops, upper_layers
from hsiutils.attribution.methods import METHODS

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
    assert upper_layers(NETWORK) == upper
    assert stops(NETWORK) == ["conv2d_10", "conv2d_9", "conv2d_7", "conv2d_transpose", "conv2d_5", "conv2d_1"]


def test_a_network_without_pooling_has_fewer_layers_to_stop_at():
    flat = shaken(replace(NETWORK.config, depth=0, kernel=1), dtype=torch.float32)
    assert upper_layers(flat) == ["conv2d_2"]
    assert stops(flat) == ["conv2d_2", "conv2d_1"]
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
