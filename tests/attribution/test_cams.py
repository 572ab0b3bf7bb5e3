"""CAMs against their definitions, written out slowly in float64, and against the closed forms before the head."""

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam, LayerGradientXActivation
from networks import PLAIN, SMALL, image, shaken

from hsiutils.attribution import cams
from hsiutils.attribution.hooks import activations, replaced
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import Target, pixel, region

X = image()
EVEN = image(height=16, width=20)
LAST = "conv2d_9"
LAYERS = [("conv2d_1", True), ("conv2d_4", True), ("conv2d_transpose", True), (LAST, True), ("conv2d_3", False)]
LAYERS += [("input", True), ("conv2d_10", True)]
GRADIENT_CAMS = ["GradCAM", "GradCAM++", "XGradCAM", "HiResCAM", "LayerCAM", "EigenCAM"]


def block(height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[3:7, 5:11] = True
    return mask


def target_for(x: torch.Tensor, class_index: int = 1) -> Target:
    return region(PLAIN, x, class_index, block(*x.shape[1:]))


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
    model, target = shaken(), target_for(X)
    expected = by_definition(name, *definition(model, X, target, layer, after))
    found = METHODS[name](model, X, target, layer, after=after)
    assert (found.method, found.layer) == (name, layer)
    assert found.map.dims == ("y", "x")
    np.testing.assert_allclose(found.map.values, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


def test_the_gradient_is_the_slope_of_the_logit():
    model, target = shaken(), target_for(X)
    looks = []
    cams.cam_map(lambda seen: looks.append(seen) or seen.activation[0], model, X, target, "conv2d_3")
    (seen,) = looks
    step = 1e-6
    alive = [number for number, channel in enumerate(seen.activation) if channel.any()]
    assert len(alive) > 2
    for channel in alive:  # at the largest activation, away from the kinks of ReLU and the ties of pooling
        row, column = divmod(int(seen.activation[channel].argmax()), seen.activation.shape[2])
        place, values = (channel, row, column), []
        for sign in (1, -1):
            moved = seen.activation.clone()
            moved[place] += sign * step
            with replaced(model, "conv2d_3", lambda _, moved=moved: moved[None]), torch.no_grad():
                values.append(float(target.value(model(X[None]))))
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(seen.gradient[place]), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_4", LAST])
def test_gradcam_and_hirescam_agree_with_captum(layer):
    model, target = shaken(), target_for(X)
    wrapper, module = lambda x: target.value(model(x)), model.layer(layer, after=True)
    peer = LayerGradCam(wrapper, module).attribute(X[None])[0, 0].detach().numpy()
    np.testing.assert_allclose(METHODS["GradCAM"](model, X, target, layer).map.values, peer, rtol=1e-9, atol=1e-12)
    product = LayerGradientXActivation(wrapper, module).attribute(X[None])[0].sum(0).detach().numpy()
    np.testing.assert_allclose(METHODS["HiResCAM"](model, X, target, layer).map.values, product, rtol=1e-9, atol=1e-12)


def test_gradcam_before_the_head_does_not_know_its_pixel_and_sums_to_the_image_mean():
    model = shaken()
    logits = model(EVEN[None]).detach()[0]
    maps = [METHODS["GradCAM"](model, EVEN, pixel(model, EVEN, 2, *place)) for place in [(3, 4), (15, 0)]]
    np.testing.assert_array_equal(maps[0].map.values, maps[1].map.values)
    expected = float((logits[2] - model.head.bias[2]).detach().mean())
    assert [found.total for found in maps] == pytest.approx([expected, expected], rel=1e-12)
    assert maps[0].logit != maps[1].logit
    assert not any(found.closes for found in maps)
    elsewhere = [
        METHODS["GradCAM"](model, EVEN, pixel(model, EVEN, 2, *place), "conv2d_1") for place in [(3, 4), (15, 0)]
    ]
    assert not np.allclose(elsewhere[0].map.values, elsewhere[1].map.values)


def test_seggradcam_before_the_head_spreads_the_region_over_the_image():
    model, mask = shaken(), block(16, 20)
    logits = model(EVEN[None]).detach()[0]
    found = METHODS["GradCAM"](model, EVEN, region(model, EVEN, 3, mask))
    share = int(mask.sum()) / mask.numel()
    np.testing.assert_allclose(found.map.values, share * (logits[3] - model.head.bias[3]).detach().numpy(), rtol=1e-9)
    assert np.abs(found.map.values[~mask.numpy()]).min() > 0


def test_hirescam_before_the_head_stays_in_the_region_and_sums_to_the_logit_less_the_bias():
    model, mask = shaken(), block(16, 20)
    logits = model(EVEN[None]).detach()[0]
    found = METHODS["HiResCAM"](model, EVEN, region(model, EVEN, 3, mask))
    assert not found.map.values[~mask.numpy()].any()
    assert found.total == pytest.approx(float((logits[3] - model.head.bias[3]).detach()[mask].sum()), rel=1e-12)


def test_cam_closes_and_needs_no_gradient_to_agree_with_hirescam():
    model = shaken()
    draw = torch.Generator().manual_seed(3)
    target = Target(torch.randn(SMALL.classes, 13, 18, generator=draw), "any weights")
    found = METHODS["CAM"](model, X, target)
    np.testing.assert_allclose(
        found.map.values, METHODS["HiResCAM"](model, X, target).map.values, rtol=1e-9, atol=1e-12
    )
    assert found.closes
    assert set(found.biases) == {"conv2d_10"}
    assert METHODS["CAM"](shaken(dtype=torch.float32), X.float(), target).closes


@pytest.mark.parametrize("options", [{"layer": "conv2d_1"}, {"layer": LAST, "after": False}])
def test_cam_is_refused_away_from_the_head(options):
    with pytest.raises(ValueError, match=r"conv2d_9 after its ReLU, got .* take HiResCAM"):
        METHODS["CAM"](shaken(), X, target_for(X), **options)


def test_options_do_what_they_say_and_nothing_by_default():
    model, target, layer = shaken(), target_for(X), "conv2d_4"
    plain = METHODS["GradCAM"](model, X, target, layer).map.values
    assert plain.min() < 0 < plain.max()
    rectified = METHODS["GradCAM"](model, X, target, layer, relu=True).map.values
    np.testing.assert_array_equal(rectified, np.maximum(plain, 0))
    scaled = METHODS["GradCAM"](model, X, target, layer, normalise=True).map.values
    np.testing.assert_allclose(scaled, plain / np.abs(plain).max())
    larger = METHODS["GradCAM"](model, X, target, layer, upsample=True).map.values
    padded = LayerAttribution.interpolate(torch.as_tensor(plain)[None, None], (16, 20), "bilinear")
    np.testing.assert_allclose(larger, padded[0, 0, :13, :18].numpy())
    at_input = METHODS["GradCAM"](model, X, target, "input", upsample=True).map.values
    np.testing.assert_array_equal(at_input, METHODS["GradCAM"](model, X, target, "input").map.values)
    all_three = METHODS["GradCAM"](model, X, target, layer, relu=True, normalise=True, upsample=True).map.values
    assert (all_three.min(), all_three.max(), all_three.shape) == (0, 1, (13, 18))


def test_a_map_of_zeros_stays_zero_when_normalised():
    model, target = shaken(), target_for(X)
    with torch.no_grad():
        model.head.weight.zero_()
    assert not METHODS["GradCAM"](model, X, target, normalise=True).map.values.any()


def test_what_is_wrong_is_said():
    model = shaken()
    with pytest.raises(KeyError, match="no layer 'conv2d_99'"):
        METHODS["GradCAM"](model, X, target_for(X), "conv2d_99")
    with pytest.raises(ValueError, match="make the target with this image's logits shape"):
        METHODS["GradCAM"](model, EVEN, target_for(X))
    with pytest.raises(ValueError, match="one image"):
        METHODS["GradCAM"](model, torch.stack([X, X]), target_for(X))
