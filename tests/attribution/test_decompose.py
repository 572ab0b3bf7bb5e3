import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SMALL, hooks, image, same, shaken, state, trained
from torch.func import jacrev

from hsiutils.attribution.decompose import decompose, influence, spatial, split_at_skips
from hsiutils.attribution.result import TOLERANCE, closure
from hsiutils.attribution.targets import class_map, pixel, region
from hsiutils.models.unet import UNetConfig

X = image()
GRID = np.add.outer(np.arange(13) // 5, np.arange(18) // 6 * 10)


@pytest.fixture(scope="module", params=[shaken, trained])
def model(request):
    return request.param()


def jacobian(model, x):
    """The definition: derivative of every logit by every input value, and by every bias of the folded network."""
    network = model.folded()
    by_input = jacrev(lambda v: network(v[None])[0])(x).detach()
    biases = {name: p.detach() for name, p in network.named_parameters() if name.endswith("bias")}
    by_bias = jacrev(lambda b: torch.func.functional_call(network, b, x[None])[0])(biases)
    return by_input, {name: (by_bias[name] @ biases[name]).detach() for name in biases}


def test_bands_regions_and_both_are_sums_of_jacobian_times_input(model):
    x, grid = X[:, :7, :9], GRID[:7, :9]
    by_input, by_bias = jacobian(model, x)
    products = (by_input * x).numpy()
    bands = decompose(model, x)
    np.testing.assert_allclose(bands["contribution"], np.moveaxis(products.sum((4, 5)), 3, 0), rtol=1e-9, atol=1e-12)
    joint = decompose(model, x, grid)["contribution"]
    for label in np.unique(grid):
        expected = np.moveaxis((products * (label == grid)).sum((4, 5)), 3, 0)
        np.testing.assert_allclose(joint.sel(region=label), expected, rtol=1e-9, atol=1e-12)
    regions = decompose(model, x, grid, bands=False)["contribution"]
    np.testing.assert_allclose(regions, joint.sum("band"), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(bands["bias"].sel(layer="all"), sum(by_bias.values()), rtol=1e-9, atol=1e-12)


def test_bias_parts_by_layer_are_derivative_times_bias(model):
    x = X[:, :7, :9]
    _, by_bias = jacobian(model, x)
    found = decompose(model, x, biases="layers")["bias"]
    modules = {name: id(module) for name, module in model.keras_layers().items()}
    paths = {id(module): path for path, module in model.named_modules()}
    assert found["layer"].values.tolist() == list(modules)
    for name, key in modules.items():
        np.testing.assert_allclose(found.sel(layer=name), by_bias[f"{paths[key]}.bias"], rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
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
    found = decompose(model, x, partition, bands=bands or partition is None, biases=biases)
    judged = closure(found)
    limit = TOLERANCE[found["logit"].dtype]
    assert limit == (1e-4 if dtype == torch.float32 else 1e-10)
    assert judged["relative"].shape == (classes, *size)
    assert float(judged["relative"].max()) <= limit
    assert bool(judged["closes"].all())
    np.testing.assert_allclose(found["logit"], model(x[None])[0].detach(), rtol=1e-3, atol=1e-4)


def test_closure_condemns_what_does_not_sum(model):
    found = decompose(model, X)
    found["bias"] = found["bias"] * (1 + 1e-6)
    judged = closure(found)
    assert not judged["closes"].all()
    np.testing.assert_allclose(judged["residual"], 1e-6 * found["bias"].sum("layer"), rtol=1e-3, atol=1e-12)


def test_gradient_times_input_alone_does_not_close(model):
    found = decompose(model, X)
    found["bias"] = found["bias"] * 0
    assert not closure(found)["closes"].any()


def test_blocks_of_any_size_give_the_same(model):
    whole = decompose(model, X, GRID)
    blocked = decompose(model, X, GRID, memory=200_000)
    np.testing.assert_allclose(blocked["contribution"], whole["contribution"], rtol=1e-9, atol=1e-12)


def test_means_over_targets_are_the_means_of_the_pixels(model):
    every = decompose(model, X)
    means = decompose(model, X, over=GRID, classes=[2, 0])
    for label in np.unique(GRID):
        expected = every.isel({"class": [2, 0]}).where(xr_mask(every, label)).mean(("y", "x"))
        for name in ("contribution", "bias", "logit"):
            np.testing.assert_allclose(means[name].sel(target=label), expected[name], rtol=1e-9, atol=1e-12)
    assert bool(closure(means)["closes"].all())


def xr_mask(found, label):
    return found["logit"].isel({"class": 0}, drop=True).copy(data=label == GRID)


def test_influence_is_a_matrix_whose_columns_sum_to_the_mean_logit(model):
    targets = (GRID > 10).astype(int)
    table = influence(model, X, GRID, targets)
    assert table.dims == ("source", "target", "class")
    assert table["source"].values.tolist() == [*np.unique(GRID).tolist(), "bias"]
    logits = model(X[None])[0].detach().numpy()
    np.testing.assert_allclose(table.sum("source").sel(target=1), logits[:, targets == 1].mean(1), rtol=1e-9)


def test_a_source_feeds_only_what_lies_within_the_receptive_field():
    """Depth 1, kernel 1: a pixel reaches no farther than its own pooling window."""
    config = UNetConfig(channels=3, depth=1, filters=4, kernel=1)
    halves = (np.arange(8)[None, :] >= 4).astype(int).repeat(6, axis=0)
    table = influence(shaken(config), image(config, 6, 8), halves)
    assert abs(table.sel(source=0, target=1)).max() == 0
    assert abs(table.sel(source=0, target=0)).max() > 0


@pytest.mark.parametrize("level", [0, 1])
def test_skip_and_upsampled_halves_close(model, level):
    found = split_at_skips(model, X, level)
    names = ["upsampled", "skip conv2d_1", "skip conv2d_3"][: level + 2]
    assert found["part"].values.tolist() == names
    assert bool(closure(found)["closes"].all())
    assert all(float(abs(found["contribution"].sel(part=name)).max()) > 0 for name in names)
    later = {"conv2d_8", "conv2d_9", "conv2d_10"} | ({"conv2d_6", "conv2d_7", "conv2d_transpose_1"} if level else set())
    assert set(found["layer"].values) == later


def test_halves_of_the_last_concat_are_derivative_times_half(model):
    network = model.folded().requires_grad_(False)
    last = network.decoder[-1]
    inputs = []
    handle = last.block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    network(X[None])
    handle.remove()
    joined = inputs[0]
    slopes = jacrev(lambda j: network.head(last.block(j))[0, :, :13, :18].sum((1, 2)))(joined)[:, 0]
    halves = (slopes * joined[0]).unflatten(1, (2, SMALL.filters)).sum((2, 3, 4))
    found = split_at_skips(model, X)["contribution"].sum(("y", "x"))
    np.testing.assert_allclose(found.sel(part="upsampled"), halves[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found.sel(part="skip conv2d_1"), halves[:, 1], rtol=1e-9)


def test_an_unknown_level_is_an_error(model):
    with pytest.raises(ValueError, match=r"no decoder level 2 in a U-Net of depth 2: levels are 0\.\.1"):
        split_at_skips(model, X, 2)


def test_biases_are_summed_or_by_layer(model):
    with pytest.raises(ValueError, match=r"\"sum\" or \"layers\", got 'all'"):
        decompose(model, X, biases="all")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spatial_map_agrees_with_forward_mode(dtype):
    network, x = trained(dtype=dtype), X.to(dtype)
    logits = network(x[None])
    mask = torch.as_tensor(GRID == 10)
    every = decompose(network, x, biases="layers")
    shape, winner = (5, 13, 18), int(logits[0, :, 0, 0].argmax())
    for target in (pixel(shape, 3, 7, 9), class_map(logits, winner), region(shape, 0, mask)):
        found = spatial(network, x, target)
        weighted = (every * target.weights.numpy()).sum(("class", "y", "x"))
        rtol = 1e-3 if dtype == torch.float32 else 1e-9
        np.testing.assert_allclose(found.map.sum(("y", "x")), weighted["contribution"], rtol=rtol, atol=rtol)
        for name, value in found.biases.items():
            assert value == pytest.approx(float(weighted["bias"].sel(layer=name)), rel=rtol, abs=rtol)
        assert found.closes
        assert found.map.dims == ("band", "y", "x")


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_left_as_it_was(error, monkeypatch):
    model = shaken().train()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = state(model)
    target = pixel((5, 13, 18), 0, 0, 0)
    calls = [lambda: decompose(model, X), lambda: spatial(model, X, target), lambda: split_at_skips(model, X)]
    if error:
        monkeypatch.setattr(torch.nn.ReLU, "forward", lambda *_: (_ for _ in ()).throw(error("in the middle")))
    for call in calls:
        if error:
            with pytest.raises(error):
                call()
        else:
            call()
    assert hooks(model) == 0
    assert same(before, state(model))
    assert not X.requires_grad


def test_spatial_map_of_a_frozen_network_is_the_same():
    model, x = shaken(), image(SMALL, 8, 8)
    target = pixel((SMALL.classes, 8, 8), 0, 3, 4)
    before = spatial(model, x, target)
    after = spatial(model.requires_grad_(False), x, target)
    assert np.array_equal(before.map.values, after.map.values)
