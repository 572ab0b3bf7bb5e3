from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SMALL, X, image, shaken, trained
from strangers import DeepLab, Says, SmpUNet, around, settled
from torch.func import jacrev

from hsiutils.attribution.decompose import decompose, linear_decomposition, margins
from hsiutils.attribution.hooks import ask
from hsiutils.attribution.result import TOLERANCE
from hsiutils.attribution.tape import NotPiecewiseLinear
from hsiutils.attribution.targets import class_map, pixel, region
from hsiutils.models.examples import Gate
from hsiutils.models.unet import UNet, UNetConfig

SPECTRUM = np.array([0.5, -0.2, 0.1, 0.3])
GRID = np.add.outer(np.arange(13) // 5, np.arange(18) // 6 * 10)


def jacobian(model, x):
    """The definition: derivative of every logit by every input value, and by every bias of the folded network."""
    network = model.folded()
    by_input = jacrev(lambda v: network(v[None])[0])(x).detach()
    biases = {name: p.detach() for name, p in network.named_parameters() if name.endswith("bias")}
    by_bias = jacrev(lambda b: torch.func.functional_call(network, b, x[None])[0])(biases)
    return by_input, {name: (by_bias[name] @ biases[name]).detach() for name in biases}


def test_parts_are_sums_of_jacobian_times_input_and_of_derivative_times_bias(model):
    x, grid = X[:, :7, :9], GRID[:7, :9]
    by_input, by_bias = jacobian(model, x)
    products = (by_input * x).numpy()
    bands = decompose(model, x)
    np.testing.assert_allclose(bands.contribution, np.moveaxis(products.sum((4, 5)), 3, 0), rtol=1e-9, atol=1e-12)
    joint = decompose(model, x, ("bands", grid)).contribution
    for label in np.unique(grid):
        expected = np.moveaxis((products * (label == grid)).sum((4, 5)), 3, 0)
        np.testing.assert_allclose(joint.sel(region=label), expected, rtol=1e-9, atol=1e-12)
    regions = decompose(model, x, grid).contribution
    np.testing.assert_allclose(regions, joint.sum("band"), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(bands.bias.sel(layer="all"), sum(by_bias.values()), rtol=1e-9, atol=1e-12)
    found = decompose(model, x, biases="layers").bias
    modules = {name: id(module) for name, module in model.keras_layers().items()}
    paths = {id(module): path for path, module in model.named_modules()}
    assert found["layer"].values.tolist() == list(modules)
    for name, key in modules.items():
        np.testing.assert_allclose(found.sel(layer=name), by_bias[f"{paths[key]}.bias"], rtol=1e-9, atol=1e-12)


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    depth=st.integers(1, 3),
    channels=st.integers(1, 6),
    classes=st.integers(1, 6),
    kernel=st.sampled_from([1, 3, 5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**16),
    regions=st.none() | st.integers(1, 4),
    bands=st.booleans(),
    biases=st.sampled_from(["sum", "layers"]),
    fit=st.booleans(),
)
def test_every_pixel_and_class_closes(size, depth, channels, classes, kernel, dtype, seed, regions, bands, biases, fit):
    config = UNetConfig(channels, classes, depth, filters=3, kernel=kernel)
    model = trained(config, dtype, steps=2, seed=seed) if fit else shaken(config, dtype, seed)
    x = image(config, *size, dtype, seed)
    partition = None if regions is None else np.random.default_rng(seed).integers(0, regions, size)
    by = "bands" if partition is None else ("bands", partition) if bands else partition
    found = decompose(model, x, by, biases=biases)
    limit = TOLERANCE[found.logit.dtype]
    assert limit == (1e-4 if dtype == torch.float32 else 1e-10)
    assert found.relative.shape == (classes, *size)
    assert float(found.relative.max()) <= limit
    assert found.closes
    np.testing.assert_allclose(found.logit, model(x[None])[0].detach(), rtol=1e-3, atol=1e-4)


def test_closure_condemns_what_does_not_sum(model):
    found = decompose(model, X)
    spoilt = replace(found, bias=found.bias * (1 + 1e-6))
    assert not spoilt.closes
    np.testing.assert_allclose(spoilt.residual, 1e-6 * found.bias.sum("layer"), rtol=1e-3, atol=1e-12)
    assert (abs(spoilt.residual) > spoilt.tolerance).any()


def test_blocks_of_any_size_give_the_same(model):
    whole = decompose(model, X, ("bands", GRID))
    blocked = decompose(model, X, ("bands", GRID), memory=200_000)
    np.testing.assert_allclose(blocked.contribution, whole.contribution, rtol=1e-9, atol=1e-12)


def test_means_over_targets_are_the_means_of_the_pixels(model):
    every = decompose(model, X)
    means = decompose(model, X, over=GRID, classes=[2, 0])
    for label in np.unique(GRID):
        for name in ("contribution", "bias", "logit"):
            expected = getattr(every, name).values[..., [2, 0], :, :][..., label == GRID].mean(-1)
            np.testing.assert_allclose(getattr(means, name).sel(target=label), expected, rtol=1e-9, atol=1e-12)
    assert means.closes
    assert means.logit["class"].values.tolist() == ["Vegetation", "Road"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spatial_map_agrees_with_forward_mode(dtype):
    network, x = trained(dtype=dtype), X.to(dtype)
    logits = network(x[None])
    mask = torch.as_tensor(GRID == 10)
    every = decompose(network, x, biases="layers")
    winner = int(logits[0, :, 0, 0].argmax())
    for target in (pixel(network, x, 3, 7, 9), class_map(network, x, winner), region(network, x, 0, mask)):
        found = linear_decomposition(network, x, target)
        by_band, by_layer = (
            (part * target.weights.numpy()).sum(("class", "y", "x")) for part in (every.contribution, every.bias)
        )
        rtol = 1e-3 if dtype == torch.float32 else 1e-9
        np.testing.assert_allclose(found.map.sum(("y", "x")), by_band, rtol=rtol, atol=rtol)
        for name, value in found.biases.items():
            assert value == pytest.approx(float(by_layer.sel(layer=name)), rel=rtol, abs=rtol)
        assert found.closes
        assert found.map.dims == ("band", "y", "x")


@pytest.mark.parametrize("options", [{}, {"by": GRID}, {"by": ("bands", GRID), "over": GRID}, {"biases": "layers"}])
def test_against_a_reference_it_closes_too(model, options):
    found = decompose(model, X, reference=SPECTRUM, **options)
    assert found.closes
    assert float(found.relative.max()) < 1e-10
    assert found.bias["layer"].values[-1] == "reference"


def test_from_zero_it_is_the_plain_decomposition(model):
    anchored, plain = (decompose(model, X, ("bands", GRID), reference=zero) for zero in (np.zeros(4), 0))
    np.testing.assert_allclose(anchored.contribution, plain.contribution, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(anchored.bias.sel(layer=["all"]), plain.bias)
    assert not anchored.bias.sel(layer="reference").any()


def test_contributions_are_the_derivative_times_the_distance(model):
    found = decompose(model, X, reference=SPECTRUM).contribution
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x[None])[0, 2, 6, 11], x)
    expected = (gradient * (X - torch.as_tensor(SPECTRUM)[:, None, None])).sum((1, 2))
    np.testing.assert_allclose(found[:, 2, 6, 11], expected, rtol=1e-9, atol=1e-12)
    flat = torch.as_tensor(SPECTRUM)[:, None, None].expand(SMALL.channels, 8, 8)
    found = decompose(model, flat, reference=SPECTRUM)
    assert not found.contribution.any()
    np.testing.assert_allclose(found.bias.sum("layer"), found.logit, rtol=1e-9, atol=1e-12)


def test_margins_ignore_what_all_classes_share_and_keep_sums(model):
    logits = xr.DataArray([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]], dims=("y", "class"))
    np.testing.assert_allclose(margins(logits), [[1.5, -1.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(margins(logits + 7), margins(logits))
    found = decompose(model, X, reference=SPECTRUM)
    summed = margins(found.contribution).sum("band") + margins(found.bias).sum("layer")
    np.testing.assert_allclose(summed, margins(found.logit), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="at least two classes"):
        margins(logits.isel({"class": [0]}))


def test_along_a_path_contributions_are_integrated_gradients(model):
    """Against autograd at the nodes of the same rule, for one logit."""
    target = pixel(model, X, 2, 6, 11)
    start = torch.as_tensor(SPECTRUM)[:, None, None].expand_as(X)
    places, weights = np.polynomial.legendre.leggauss(5)
    expected = torch.zeros_like(X)
    for place, weight in zip(places, weights, strict=True):
        point = (start + (place + 1) / 2 * (X - start)).requires_grad_()
        (gradient,) = torch.autograd.grad(target.value(model(point[None])).sum(), point)
        expected += weight / 2 * gradient * (X - start)
    found = decompose(model, X, reference=SPECTRUM, nodes=5).contribution
    np.testing.assert_allclose(found.values[:, 2, 6, 11], expected.sum((1, 2)), rtol=1e-9, atol=1e-12)


def test_completeness_of_a_path_improves_with_the_nodes(model):
    found = [decompose(model, X, reference=SPECTRUM, nodes=nodes) for nodes in (1, 8, 64)]
    completeness = [result.completeness for result in found]
    assert completeness[0] > completeness[1] > completeness[2] > 0
    last = found[-1]
    assert not last.closes
    start = torch.as_tensor(SPECTRUM)[None, :, None, None].expand(1, -1, 13, 18)
    np.testing.assert_allclose(last.bias.sel(layer="reference"), model(start)[0].detach(), rtol=1e-9, atol=1e-9)
    change = last.logit - last.bias.sel(layer="reference")
    missed = last.contribution.sum("band") - change
    np.testing.assert_allclose(last.residual, missed, rtol=1e-6, atol=1e-12)
    assert completeness[2] == pytest.approx(float(abs(missed).max() / abs(change).max()))
    assert completeness[2] < 0.05
    with pytest.raises(ValueError, match="completeness is of a path"):
        decompose(model, X).completeness  # noqa: B018


def test_a_path_takes_regions_and_means_and_keeps_the_dtype(model):
    halves = np.arange(13)[:, None].repeat(18, axis=1) // 7
    joint = decompose(model, X, ("bands", halves), reference=SPECTRUM, nodes=2)
    means = decompose(model, X, reference=SPECTRUM, nodes=2, over=halves, classes=[1])
    bands = joint.contribution.sum("region")
    np.testing.assert_allclose(means.contribution.sel(target=0)[:, 0], bands[:, 1, :7].mean(("y", "x")), rtol=1e-9)
    flat = torch.as_tensor(SPECTRUM)[:, None, None].expand(SMALL.channels, 8, 8)
    silent = decompose(model, flat, reference=SPECTRUM, nodes=1)
    assert float(abs(silent.contribution).max()) == 0
    assert np.isnan(silent.completeness)
    single = decompose(trained(dtype=torch.float32), X.float(), reference=SPECTRUM, nodes=2)
    assert {str(part.dtype) for part in (single.contribution, single.bias, single.logit)} == {"float32"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": SPECTRUM[:3]}, "reference must be a finite number, a spectrum"),
        ({"reference": np.full(4, np.nan)}, "reference must be a finite number, a spectrum"),
        ({"nodes": 0}, "nodes must be at least 1, got 0"),
        ({"biases": "all"}, '"sum" or "layers", got \'all\''),
        ({"by": "band"}, "decompose by \"bands\", by regions .* got 'band'"),
        ({"by": ("bands",)}, "decompose by"),
        ({"by": GRID[:3]}, r"partition must have the image's size \(13, 18\), got \(3, 18\)"),
        ({"over": GRID + 0.5}, "over must hold integers"),
        ({"classes": ["Lane"]}, "no class 'Lane'"),
        ({"classes": [5]}, "no class 5"),
    ],
)
def test_what_does_not_fit_is_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        decompose(model, X, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_another_activation_is_followed(dtype):
    model, x = shaken(dtype=dtype), X.to(dtype)
    for block in model.blocks():
        block.relu1 = torch.nn.LeakyReLU(0.1)
    assert decompose(model, x).closes
    assert linear_decomposition(model, x, pixel(model, x, 0, 5, 5)).closes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [DeepLab, SmpUNet, lambda: around(torch.nn.PReLU(), torch.nn.MaxPool2d(2))])
def test_any_network_is_decomposed_by_band_region_and_layer(make, dtype):
    x = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = settled(make(), x, dtype)
    halves = np.arange(16) // 8 + np.zeros((12, 1), dtype=int)
    found = decompose(model, x.to(dtype), ("bands", halves), biases="layers", reference=np.array([0.1, 0.2, 0.3]))
    assert found.closes
    assert found.exact
    assert found.computed == str(dtype).removeprefix("torch.")
    assert dict(found.contribution.sizes) | {"y": 0, "x": 0} == {"band": 3, "region": 2, "class": 3, "y": 0, "x": 0}
    logits = ask(model, x.to(dtype)[None])[0]
    np.testing.assert_allclose(found.logit, logits.numpy(), rtol=1e-5, atol=1e-6)
    grid = np.zeros(tuple(logits.shape[1:]), dtype=int)
    mean = decompose(model, x.to(dtype), classes=["class 2"], over=grid)
    np.testing.assert_allclose(mean.logit, logits[2:].mean((1, 2))[:, None].numpy(), rtol=1e-4, atol=1e-5)
    target = pixel(model, x.to(dtype), "class 1", 2, 3)
    single = linear_decomposition(model, x.to(dtype), target)
    assert single.closes
    assert single.logit == pytest.approx(float(logits[1, 2, 3]), rel=1e-4)


def test_a_smooth_network_is_refused_or_marked():
    x = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    model = settled(around(Gate(4), torch.nn.ReLU()), x)
    with pytest.raises(NotPiecewiseLinear, match=r"because of sigmoid in 1.fc.3: .* freeze=True"):
        decompose(model, x)
    found = decompose(model, x, freeze=True)
    assert found.closes
    assert not found.exact
    assert found.frozen == ("sigmoid in 1.fc.3",)
    picked = decompose(torch.nn.Sequential(model, Says(lambda y: [y])), x, output=lambda y: y[0], freeze=True)
    np.testing.assert_array_equal(picked.contribution, found.contribution)


def test_parts_in_single_precision_are_those_of_double_precision():
    """By band and by layer, at every pixel and class: gates are taken once, in float64, for all of them."""
    config = UNetConfig(channels=6, depth=3, filters=16)
    model = UNet(config, torch.Generator().manual_seed(0)).eval()
    x = image(config, 40, 56, torch.float32).cumsum(1) / 8
    single = decompose(model, x, biases="layers")
    double = decompose(model.unhooked().double(), x.double(), biases="layers")
    assert (single.computed, single.gated, double.gated) == ("float32", "float64", "float64")
    for name in ("contribution", "bias"):
        one, other = getattr(single, name).values, getattr(double, name).values
        scale = np.abs(other).max(axis=(-1, -2, -3), keepdims=True)
        assert (np.abs(one - other) <= 1e-4 * np.maximum(scale, 1e-30)).all(), name
