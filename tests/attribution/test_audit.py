import numpy as np
import pytest
import torch
from networks import PLAIN, X, image, shaken, trained, untouched, used
from strangers import DeepLab, SmpUNet, settled

from hsiutils.attribution import cams
from hsiutils.attribution.audit import AUDITED, audit
from hsiutils.attribution.hooks import INPUT, activations, frozen, logits_of, to_image
from hsiutils.attribution.leaderboard import Counted
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.sums import Audited
from hsiutils.attribution.tape import NotPiecewiseLinear
from hsiutils.attribution.targets import pixel, region
from hsiutils.models.unet import UNetConfig

SHAPE = (5, 13, 18)
LAYERS = ["conv2d_1", "conv2d_5", "conv2d_9"]  # the skip, the base, the one before the head
RULES = {
    "GradCAM": lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0).clamp_min(0),
    "GradCAM signed": lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0),
    "HiResCAM": lambda a, g: (g * a).sum(0),
}
SCALE = {torch.float64: 1e-9, torch.float32: 1e-4}


def brute_force(model, x, targets, layer, rule, after=True, upsample=False):
    """What the methods are by definition: a copy of the image for each target, each with a backward pass of its own."""
    with frozen(model), activations(model, [layer], after, leaf=True) as seen:
        logits = model(x.expand(len(targets), -1, -1, -1))
        torch.stack([target.value(one[None])[0] for target, one in zip(targets, logits, strict=True)]).sum().backward()
    maps = torch.stack([rule(a, g) for a, g in zip(seen[layer].detach(), seen[layer].grad, strict=True)])
    if upsample:
        maps = to_image(maps[:, None], (16, 20), (13, 18))
    return maps.flatten(1).sum(1).tolist()


def random_logits(count, seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return [tuple(int(rng.integers(size)) for size in shape) for _ in range(count)]


def agree_at(places, network, x, layers, after=True, upsample=False):
    """The sums of every rule against brute force, relative to each; about 1 was subtracted from them."""
    found = audit(network, x, [*RULES, "gradient x input"], layers, after=after, upsample=upsample).isel(image=0)
    sums, targets = found["residual"] + found["logit"], [pixel(network, x, *place) for place in places]
    limit = SCALE[x.dtype]
    for layer in layers:
        for name, rule in RULES.items():
            expected = brute_force(network, x, targets, layer, rule, after, upsample)
            key = "gradient x input input" if (name, layer) == ("HiResCAM", INPUT) else f"{name} {layer}"
            measured = [float(sums.sel({"method": key})[place]) for place in places]
            floor = 0.01 * limit * np.abs(expected).max() + 4 * torch.finfo(x.dtype).eps
            np.testing.assert_allclose(measured, expected, rtol=limit, atol=floor)


@pytest.mark.parametrize("make", [shaken, trained])
@pytest.mark.parametrize(
    ("count", "dtype", "after", "upsample"),
    [
        (50, torch.float32, True, False),
        (50, torch.float64, True, False),
        (6, torch.float64, False, False),
        (6, torch.float64, True, True),
        (6, torch.float64, False, True),
    ],
)
def test_pixels_against_one_backward_pass_each(make, count, dtype, after, upsample):
    layers = [*LAYERS, "conv2d_transpose", "conv2d_10", *([] if upsample else [INPUT])]
    agree_at(random_logits(count), make(dtype=dtype), X.to(dtype), layers, after, upsample)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fifty_pixels_at_the_papers_depth(dtype):
    """conv2d_1, the base and conv2d_21 of a network of depth 5."""
    config = UNetConfig(channels=3, depth=5, filters=2)
    places = random_logits(50, shape=(5, 32, 64))
    network, x = trained(config, dtype, steps=3), image(config, 32, 64, dtype)
    agree_at(places, network, x, ["conv2d_1", "conv2d_11", "conv2d_21"])


def test_a_folded_network_has_no_gain(model):
    agree_at(random_logits(3), model.folded(), X, ["conv2d_1"], after=False)


@pytest.mark.parametrize(("make", "upsample"), [(shaken, True), (trained, False)])
def test_every_method_and_layer_against_its_own_maps_of_single_logits_and_regions(make, upsample):
    model = make()
    found = audit(model, X, upsample=upsample).isel(image=0)
    winners = model(X[None])[0].argmax(0)
    targets = {place: pixel(PLAIN, X, *place) for place in random_logits(2, seed=2)}
    targets |= {int(index): region(PLAIN, X, int(index), winners == index) for index in winners.unique()}
    for key, name, layer in zip(found["method"].values, found["name"].values, found["layer"].values, strict=True):
        options = {"upsample": upsample} if layer != INPUT else {}
        options |= {"relu": True} if name == "GradCAM" else {}
        limit = 1e-6 if name == "Integrated Gradients" else 1e-9  # captum keeps its weights in single precision
        for place, target in targets.items():
            expected = METHODS[name.removesuffix(" signed")](model, X, target, layer, **options)
            one = found["residual" if isinstance(place, tuple) else "region_residual"].sel({"method": key})
            size = max(1, abs(expected.logit), abs(expected.total))
            assert float(one[place]) == pytest.approx(expected.residual, rel=limit, abs=limit * size), (key, place)
    absent = [index for index in range(5) if index not in targets]
    assert np.isnan(found["region_logit"][absent]).all()
    assert np.isnan(found["region_residual"][:, absent]).all()


def test_what_closes_and_what_does_not(model):
    found = audit(model, X, layers=LAYERS).isel(image=0)
    worst = abs(found["residual"]).max(("class", "y", "x"))
    exact = ["linear decomposition input", "CAM conv2d_9"]
    assert (worst.sel({"method": exact}) < 1e-10).all()
    assert (worst.drop_sel(method=exact) > 1e-4).all()
    # HiResCAM before the head misses the bias and nothing else.
    bias = np.broadcast_to(-model.head.bias.detach().numpy()[:, None, None], SHAPE)
    np.testing.assert_allclose(found["residual"].sel({"method": "HiResCAM conv2d_9"}), bias, atol=1e-10)


@pytest.mark.parametrize("memory", [60_000, 80_000, 120_000])
def test_blocks_of_any_size_give_the_same(model, memory, monkeypatch):
    monkeypatch.setattr(cams, "CACHE", 700)
    small, x = X[:, :8, :8], X[:, :8, :8]
    np.testing.assert_allclose(audit(model, small, memory=memory)["residual"], audit(model, x)["residual"], atol=1e-10)


@pytest.mark.parametrize(
    ("less", "more", "memory", "results"),
    [
        ({"layers": []}, {"layers": ["conv2d_7"]}, 3 << 19, 3),
        ({"layers": []}, {"layers": ["conv2d_7"]}, 3 << 20, 3),
        ({"methods": ["CAM"]}, {"methods": ["occlusion"]}, 1 << 20, 0),
        ({"methods": ["CAM"]}, {"methods": ["AblationCAM"]}, 1 << 20, 0),
        ({"methods": ["CAM"]}, {"methods": ["ScoreCAM"]}, 1 << 20, 0),
    ],
)
def test_working_memory_stays_under_the_limit(less, more, memory, results):
    """At a deep layer the channel weights of all logits together take 2 MB."""
    config = UNetConfig(channels=2, depth=3, filters=4)
    model, x = shaken(config, torch.float32), image(config, 48, 64, torch.float32)
    peaks = []
    for options in (less, more):
        with Counted() as live:
            audit(model, x, **{"layers": ["conv2d_13"]} | options, memory=memory)
        peaks.append(live.peak)
    assert peaks[1] - peaks[0] <= memory + results * 3 * 5 * 48 * 64 * 4


def test_windows_cover_every_logit_once():
    for memory in (5_000, 60_000, 10**9):  # some rows of a class, whole classes, all at once
        count = np.zeros(SHAPE)
        for classes, rows in cams._windows(Audited.of(shaken(), X, ["conv2d_1"], True, False, memory), 4):
            count[classes, rows] += 1
        assert (count == 1).all()


def test_a_batch_is_its_images(model):
    batch = torch.stack([X, image(seed=3)])[..., :8, :8]
    found = audit(model, batch)
    assert found["residual"].dims == ("image", "method", "class", "y", "x")
    for number in range(2):
        np.testing.assert_array_equal(found["residual"][number], audit(model, batch[number])["residual"][0])


def summed(*places):
    return [name for name, method in AUDITED.items() if method.summed in places]


def test_methods_are_named_with_their_layers_and_only_what_was_asked_for_is_done():
    found = audit(shaken(), X)
    assert found["method"].values.tolist() == [
        "CAM conv2d_9",
        *(f"{name} input" for name in summed("input")),
        *(f"{name} {layer}" for layer in LAYERS for name in summed("layers", "inner")),
        *(f"{name} conv2d_9" for name in summed("last", "read")),
    ]
    assert (found["method"] == found["name"].astype(object) + " " + found["layer"].astype(object)).all()
    assert set(AUDITED) - {"GradCAM signed"} < set(METHODS)
    assert found["class"].values.tolist() == ["Road", "Road Marks", "Vegetation", "Sky", "Other"]
    found = audit(shaken(), X, ["ScoreCAM", "GradCAM"], ["conv2d_9"])
    assert found["method"].values.tolist() == ["GradCAM conv2d_9", "ScoreCAM conv2d_9"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"methods": ["CAM"]}, ["CAM conv2d_5"]),
        (
            {"methods": ["occlusion", "GradCAM"], "layers": ["conv2d_1", INPUT]},
            ["occlusion input", "GradCAM input", "GradCAM conv2d_1"],
        ),
        ({"methods": ["HiResCAM", "XGradCAM", "GradCAM"], "layers": [INPUT]}, ["GradCAM input"]),
        ({"methods": ["EigenCAM", "GradCAM"], "layers": ["conv2d_5"], "after": False}, ["GradCAM conv2d_5"]),
        ({"methods": ["EigenCAM", "GradCAM"], "layers": ["conv2d_1"]}, ["GradCAM conv2d_1"]),
        ({"methods": ["EigenCAM", "LayerCAM"], "layers": ["conv2d_5"]}, ["LayerCAM conv2d_5", "EigenCAM conv2d_5"]),
    ],
)
def test_a_method_is_asked_where_its_sums_are_known(options, expected):
    config = UNetConfig(channels=2, classes=3, depth=1, filters=3)
    found = audit(shaken(config), image(config, 5, 3), **options)
    assert found["method"].values.tolist() == expected
    assert found["region_residual"].dims == ("image", "method", "class")
    assert found["region_logit"].dims == ("image", "class")


def test_without_a_head_no_method_is_asked_that_one_reads():
    x = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0)).double()
    found = audit(settled(SmpUNet(), x), x, ["CAM", *summed("last", "read")], ["up.2"])
    assert set(found["name"].values) == set(summed("last"))


def test_occlusion_is_of_patches_of_the_asked_size():
    config = UNetConfig(channels=2, classes=3, depth=1, filters=3)
    model, x = shaken(config), image(config, 5, 7)
    for patch in (2, 3):
        found = audit(model, x, ["occlusion"], patch=patch).sel({"method": "occlusion input"})
        single = METHODS["occlusion"](model, x, pixel(model, x, 1, 2, 4), patch=patch)
        assert float(found["residual"][0, 1, 2, 4]) == pytest.approx(single.residual, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"methods": ["CAM", "LRP epsilon"]},
            ValueError,
            "no audit of LRP epsilon: every pixel can be asked of",
        ),
        ({"layers": ["conv2d_1", "conv2d_99"]}, KeyError, "conv2d_99"),
        ({"x": X[:2]}, ValueError, "expects"),
        (
            {"methods": ["HiResCAM", "XGradCAM"], "layers": [INPUT]},
            ValueError,
            "no sums of XGradCAM, HiResCAM are known at input",
        ),
        (
            {"layers": ["conv2d_1"], "memory": 100},
            ValueError,
            "100 bytes is too small for a layer of 4 channels",
        ),
    ],
)
def test_what_is_wrong_is_said_and_leaves_nothing_behind(options, error, message):
    model = used()
    with untouched(model), pytest.raises(error, match=message):
        audit(model, **{"x": X, "methods": ["GradCAM"]} | options)


def test_other_sizes_and_depths():
    config = UNetConfig(channels=2, classes=3, depth=1, filters=3, kernel=5)
    found = audit(shaken(config), image(config, 5, 3))
    assert found["residual"].shape == (1, 1 + 7 + 3 * 4 + 5, 3, 5, 3)
    assert abs(found["residual"].sel({"method": "linear decomposition input"})).max() < 1e-10


def test_an_audit_in_the_callers_modes_is_the_same():
    model, x = shaken(dtype=torch.float32), X[:, :8, :8].float()
    expected = audit(model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert audit(model, x).identical(expected)
    with torch.inference_mode():
        assert audit(model, x.clone()).identical(expected)


def test_a_network_of_ours_with_another_activation_is_followed_and_with_a_smooth_one_refused():
    model = shaken()
    model.base.relu1 = torch.nn.LeakyReLU(0.1)
    found = audit(model, X, ["CAM", "linear decomposition"])
    assert abs(found["residual"]).max() < 1e-10
    model.base.relu1 = torch.nn.SiLU()
    with pytest.raises(NotPiecewiseLinear, match=r"because of silu in base.relu1"):
        audit(model, X)


@pytest.mark.parametrize(("make", "usual"), [(DeepLab, {"classifier.0"}), (SmpUNet, {"down2.downsample.1", "up.2"})])
def test_any_network_can_be_audited(make, usual):
    x = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0)).double()
    model = settled(make(), x)
    found = audit(model, x, ["linear decomposition", "GradCAM", "HiResCAM", "CAM", "occlusion", "gradient"]).isel(
        image=0
    )
    layers = set(found["layer"].values.tolist()) - {INPUT}
    assert layers == usual
    expected = {"linear decomposition", "GradCAM", "HiResCAM", "occlusion", "gradient"}
    assert set(found["name"].values) == expected | ({"CAM"} if make is DeepLab else set())
    assert found["class"].values.tolist() == ["class 0", "class 1", "class 2"]
    assert abs(found["residual"].sel({"method": "linear decomposition input"})).max() < 1e-10
    for layer in layers:
        for name, rule in list(RULES.items())[::2]:
            for place in random_logits(4, shape=found["logit"].shape):
                with frozen(model), activations(model, [layer], leaf=True) as seen:
                    logit = logits_of(model(x[None]))[0][place]
                    logit.backward()
                value = rule(seen[layer].detach()[0], seen[layer].grad[0]).sum()
                measured = found["residual"].sel({"method": f"{name} {layer}"})[place]
                assert float(measured) == pytest.approx(float(value - logit), rel=1e-8, abs=1e-9)


def test_a_network_with_no_layer_inside_is_audited_at_its_input():
    model = torch.nn.Conv2d(3, 2, 1).double()
    found = audit(model, torch.randn(3, 4, 5).double(), ["GradCAM", "linear decomposition"])
    assert set(found["layer"].values.tolist()) == {INPUT}
