"""CAMs against their definitions, written out slowly in float64, and against the closed forms before the head."""

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution
from networks import MASK, PLAIN, SMALL, X, image, shaken

from hsiutils.attribution.hooks import activations, replaced
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import Target, pixel, region

EVEN = image(height=16, width=20)
LAST = "conv2d_9"
LAYERS = [("conv2d_1", True), ("conv2d_4", True), ("conv2d_transpose", True), (LAST, True), ("conv2d_3", False)]
LAYERS += [("input", True), ("conv2d_10", True)]
TARGET = region(PLAIN, X, 1, MASK)
GRADIENT_CAMS = ["GradCAM", "GradCAM++", "XGradCAM", "HiResCAM", "LayerCAM", "EigenCAM"]


def definition(model, x, target, layer, after):
    """Activation and gradient as numpy arrays (k, h', w'), by putting a variable in the layer's place."""
    with torch.no_grad(), activations(model, [layer], after) as seen:
        model(x[None])
    variable = seen[layer].clone().requires_grad_()
    with replaced(model, layer, lambda _: variable, after):
        logits = model(x[None])[0]
    (slope,) = torch.autograd.grad((logits * target.weights).sum(), variable)
    return variable.detach()[0].numpy(), slope[0].numpy()


def by_definition(name, a, g):
    """The map, channel by channel and pixel by pixel."""
    channels, rows, columns = a.shape
    if name == "EigenCAM":
        left = np.linalg.svd(a.reshape(channels, -1))[0][:, 0]
        found = np.tensordot(left, a, axes=1)
        return found * np.sign(found.sum())
    found = np.zeros((rows, columns))
    for k in range(channels):
        mass = a[k].sum()
        if name == "GradCAM":
            found += g[k].sum() / (rows * columns) * a[k]
        elif name == "XGradCAM":
            found += (0 if mass == 0 else (g[k] * a[k]).sum() / mass) * a[k]
        elif name == "HiResCAM":
            found += g[k] * a[k]
        elif name == "LayerCAM":
            found += np.maximum(g[k], 0) * a[k]
        elif name == "GradCAM++":
            alpha = [v**2 / (2 * v**2 + v**3 * mass) * max(v, 0) for v in g[k].ravel() if v != 0]
            found += sum(alpha) * a[k]
    return found


@pytest.mark.parametrize(("layer", "after"), LAYERS)
@pytest.mark.parametrize("name", GRADIENT_CAMS)
def test_each_cam_is_its_definition(name, layer, after):
    model = shaken()
    expected = by_definition(name, *definition(model, X, TARGET, layer, after))
    found = METHODS[name](model, X, TARGET, layer, after=after)
    assert (found.method, found.layer) == (name, layer)
    assert found.map.dims == ("y", "x")
    np.testing.assert_allclose(found.map.values, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_gradcam_before_the_head_does_not_know_its_pixel_and_sums_to_the_image_mean():
    model = shaken()
    expected = (model(EVEN[None])[0, 2] - model.head.bias[2]).mean().item()
    targets = [pixel(model, EVEN, 2, *place) for place in [(3, 4), (15, 0)]]
    maps = [METHODS["GradCAM"](model, EVEN, target) for target in targets]
    np.testing.assert_array_equal(maps[0].map.values, maps[1].map.values)
    assert [found.total for found in maps] == pytest.approx([expected, expected], rel=1e-12)
    assert maps[0].logit != maps[1].logit
    assert not any(found.closes for found in maps)
    elsewhere = [METHODS["GradCAM"](model, EVEN, target, "conv2d_1").map.values for target in targets]
    assert not np.allclose(*elsewhere)


def test_before_the_head_seggradcam_spreads_a_region_over_the_image_and_hirescam_stays_in_it():
    model, mask = shaken(), torch.zeros(16, 20, dtype=torch.bool)
    mask[3:7, 5:11] = True
    target, logit = region(model, EVEN, 3, mask), (model(EVEN[None])[0, 3] - model.head.bias[3]).detach()
    spread = METHODS["GradCAM"](model, EVEN, target).map.values
    np.testing.assert_allclose(spread, int(mask.sum()) / mask.numel() * logit.numpy(), rtol=1e-9)
    assert np.abs(spread[~mask.numpy()]).min() > 0
    found = METHODS["HiResCAM"](model, EVEN, target)
    assert not found.map.values[~mask.numpy()].any()
    assert found.total == pytest.approx(float(logit[mask].sum()), rel=1e-12)


def test_cam_closes_and_needs_no_gradient_to_agree_with_hirescam():
    model = shaken()
    draw = torch.Generator().manual_seed(3)
    target = Target(torch.randn(SMALL.classes, 13, 18, generator=draw), "any weights")
    found = METHODS["CAM"](model, X, target)
    peer = METHODS["HiResCAM"](model, X, target).map.values
    np.testing.assert_allclose(found.map.values, peer, rtol=1e-9, atol=1e-12)
    assert found.closes
    assert set(found.biases) == {"conv2d_10"}
    assert METHODS["CAM"](shaken(dtype=torch.float32), X.float(), target).closes


@pytest.mark.parametrize("options", [{"layer": "conv2d_1"}, {"layer": LAST, "after": False}])
def test_cam_is_refused_away_from_the_head(options):
    with pytest.raises(ValueError, match=r"the layer that a 1 x 1 convolution reads, .* that is not .* take HiResCAM"):
        METHODS["CAM"](shaken(), X, TARGET, **options)


def test_options_do_what_they_say_and_nothing_by_default():
    model = shaken()

    def gradcam(layer="conv2d_4", **options):
        return METHODS["GradCAM"](model, X, TARGET, layer, **options).map.values

    plain = gradcam()
    assert plain.min() < 0 < plain.max()
    np.testing.assert_array_equal(gradcam(relu=True), np.maximum(plain, 0))
    np.testing.assert_allclose(gradcam(normalise=True), plain / np.abs(plain).max())
    padded = LayerAttribution.interpolate(torch.as_tensor(plain)[None, None], (16, 20), "bilinear")
    np.testing.assert_allclose(gradcam(upsample=True), padded[0, 0, :13, :18].numpy())
    np.testing.assert_array_equal(gradcam("input", upsample=True), gradcam("input"))
    all_three = gradcam(relu=True, normalise=True, upsample=True)
    assert (all_three.min(), all_three.max(), all_three.shape) == (0, 1, (13, 18))


def test_a_map_of_zeros_stays_zero_when_normalised():
    model = shaken()
    with torch.no_grad():
        model.head.weight.zero_()
    assert not METHODS["GradCAM"](model, X, TARGET, normalise=True).map.values.any()
