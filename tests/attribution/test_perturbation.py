"""Score, ablation and occlusion against loops that change one thing at a time."""

import numpy as np
import pytest
import torch
from networks import MASK, PLAIN, X, shaken
from torch.nn import functional

from hsiutils.attribution import perturbation
from hsiutils.attribution.hooks import activations, replaced
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import region

TARGET = region(PLAIN, X, 1, MASK, mean=True)


def value(model, x):
    with torch.no_grad():
        return float(TARGET.value(model(x[None])))


def seen_at(model, layer):
    with torch.no_grad(), activations(model, [layer]) as seen:
        model(X[None])
    return seen[layer][0]


@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_5", "conv2d_9"])
def test_scorecam_masks_the_image_with_each_channel(layer):
    model = shaken()
    activation = seen_at(model, layer)
    scores = []
    for channel in activation:
        whole = functional.interpolate(channel[None, None], (16, 20), mode="bilinear")[0, 0, :13, :18]
        spread = whole.max() - whole.min()
        mask = (whole - whole.min()) / spread if spread > 0 else torch.zeros_like(whole)
        scores.append(value(model, X * mask))
    weight = np.exp(scores) / np.exp(scores).sum()
    expected = sum(w * channel.numpy() for w, channel in zip(weight, activation, strict=True))
    np.testing.assert_allclose(METHODS["ScoreCAM"](model, X, TARGET, layer).map.values, expected, rtol=1e-9)


def test_scorecam_of_a_channel_that_is_the_same_everywhere_is_a_number():
    model = shaken()
    with torch.no_grad():
        model.encoder[0].norm2.weight[0] = 0
        model.encoder[0].norm2.bias[0] = -1
    assert np.isfinite(METHODS["ScoreCAM"](model, X, TARGET, "conv2d_1").map.values).all()


@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_5", "conv2d_9"])
def test_ablationcam_removes_each_channel(layer):
    model = shaken()
    activation, full = seen_at(model, layer), value(model, X)
    expected = np.zeros(activation.shape[1:])
    for number, channel in enumerate(activation):
        kept = torch.ones(len(activation), 1, 1, dtype=X.dtype)
        kept[number] = 0
        with replaced(model, layer, lambda output, kept=kept: output * kept):
            expected += (full - value(model, X)) / full * channel.numpy()
    np.testing.assert_allclose(METHODS["AblationCAM"](model, X, TARGET, layer).map.values, expected, rtol=1e-9)


@pytest.mark.parametrize("reference", [0.0, [0.1, -0.2, 0.3, 0.4]])
def test_occlusion_replaces_one_patch_at_a_time(reference):
    model = shaken()
    found = perturbation.occlusion(model, X, TARGET, patch=5, reference=reference)
    filler = torch.as_tensor(reference, dtype=X.dtype).reshape(-1, 1, 1).expand_as(X)
    falls = []
    for top in range(0, 13, 5):
        for left in range(0, 18, 5):
            changed = X.clone()
            changed[:, top : top + 5, left : left + 5] = filler[:, top : top + 5, left : left + 5]
            falls.append(value(model, X) - value(model, changed))
            patch = found.map.values[top : top + 5, left : left + 5]
            assert patch.sum() == pytest.approx(falls[-1], rel=1e-9, abs=1e-12)
            assert np.ptp(patch) == 0
    assert found.total == pytest.approx(sum(falls), rel=1e-9)
    assert found.logit == pytest.approx(value(model, X))


def test_band_occlusion_replaces_one_band_at_a_time():
    model, reference = shaken(), [0.5, 0.1, 0.0, -0.3]
    found = perturbation.band_occlusion(model, X[None], TARGET, reference=reference)
    assert found.map.dims == ("band",)
    for band in range(4):
        changed = X.clone()
        changed[band] = reference[band]
        assert float(found.map[band]) == pytest.approx(value(model, X) - value(model, changed), rel=1e-9)


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="patch must be at least 1"):
        perturbation.occlusion(shaken(), X, TARGET, patch=0)
    with pytest.raises(ValueError, match="attributes to the input"):
        METHODS["band occlusion"](shaken(), X, TARGET, "conv2d_1")
    with pytest.raises(ValueError, match=r"the reference must be .* got shape \(3,\)"):
        perturbation.occlusion(shaken(), X, TARGET, reference=[1.0, 2.0, 3.0])
