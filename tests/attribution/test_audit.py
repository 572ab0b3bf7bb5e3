import numpy as np
import pytest
import torch
from networks import PLAIN, SMALL, Live, hooks, image, shaken, state, trained

from hsiutils.attribution import cams
from hsiutils.attribution.audit import AUDITED, audit
from hsiutils.attribution.hooks import INPUT, activations, frozen, to_image
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.sums import Audited
from hsiutils.attribution.targets import pixel, region
from hsiutils.models.unet import UNetConfig

X = image()
SHAPE = (5, 13, 18)
LAYERS = ["conv2d_1", "conv2d_5", "conv2d_9"]  # the skip, the base, the one before the head
RULES = {
    "GradCAM": lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0).clamp_min(0),
    "GradCAM signed": lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0),
    "HiResCAM": lambda a, g: (g * a).sum(0),
}
SCALE = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.fixture(scope="module", params=[shaken, trained])
def model(request):
    return request.param()


def brute_force(model, x, targets, layer, rule, after=True, upsample=False):
    """What the methods are by definition: a copy of the image for each target, each with a backward pass of its own."""
    with frozen(model), activations(model, [layer], after, leaf=True) as seen:
        logits = model(x.expand(len(targets), -1, -1, -1))
        torch.stack([target.value(one[None])[0] for target, one in zip(targets, logits, strict=True)]).sum().backward()
    maps = torch.stack([rule(a, g) for a, g in zip(seen[layer].detach(), seen[layer].grad, strict=True)])
    if upsample:
        maps = to_image(maps[:, None], (16, 20), (13, 18))
    return maps.flatten(1).sum(1).tolist()


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("make", [shaken, trained])
def test_every_method_against_its_own_map_of_single_logits_and_regions(make, upsample):
    network = make()
    found = audit(network, X, upsample=upsample).isel(image=0)
    winners = network(X[None])[0].argmax(0)
    index = int(winners.flatten().mode().values)
    whole = region(PLAIN, X, index, winners == index)
    places = {place: pixel(PLAIN, X, *place) for place in random_logits(3, seed=2)}
    for name in AUDITED:
        layer = INPUT if AUDITED[name].summed == "input" else "conv2d_9"
        options = {"upsample": upsample} if layer != INPUT else {}
        options |= {"relu": True} if name == "GradCAM" else {}
        method, one = METHODS[name.removesuffix(" signed")], {"method": f"{name} {layer}"}
        limit = 1e-6 if name == "Integrated Gradients" else 1e-9  # captum keeps its weights in single precision
        for place, target in places.items():
            expected = method(network, X, target, layer, **options).residual
            assert float(found["residual"].sel(one)[place]) == pytest.approx(expected, rel=limit, abs=limit), (
                name,
                place,
            )
        expected = method(network, X, whole, layer, **options)
        residual = float(found["region_residual"].sel(one)[index])
        assert residual == pytest.approx(expected.residual, rel=limit, abs=limit * abs(expected.logit)), name


def test_only_what_was_asked_for_is_done(model):
    found = audit(model, X, ["ScoreCAM", "GradCAM"], ["conv2d_9"])
    assert found["method"].values.tolist() == ["GradCAM conv2d_9", "ScoreCAM conv2d_9"]
    with pytest.raises(ValueError, match="no audit of LRP epsilon: every pixel can be asked of linear"):
        audit(model, X, methods=["CAM", "LRP epsilon"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fifty_pixels_at_the_papers_depth(dtype):
    """conv2d_1, the base and conv2d_21 of a network of depth 5."""
    config = UNetConfig(channels=3, depth=5, filters=2)
    network, x = trained(config, dtype, steps=3), image(config, 32, 64, dtype)
    layers = ["conv2d_1", "conv2d_11", "conv2d_21"]
    rng = np.random.default_rng(0)
    places = [tuple(int(rng.integers(size)) for size in (5, 32, 64)) for _ in range(50)]
    found = totals(audit(network, x, list(RULES), layers))
    for layer in layers:
        for name, rule in RULES.items():
            expected = brute_force(network, x, [pixel(network, x, *place) for place in places], layer, rule)
            agree([float(found.sel({"method": f"{name} {layer}"})[place]) for place in places], expected, dtype)


def random_logits(count, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(int(rng.integers(size)) for size in SHAPE) for _ in range(count)]


def totals(found):
    return (found["residual"] + found["logit"]).isel(image=0)


def agree(measured, expected, dtype):
    """Relative to each total, or to a hundredth of the largest near zero; about 1 was subtracted from them."""
    limit = SCALE[dtype]
    floor = 0.01 * limit * np.abs(expected).max() + 4 * torch.finfo(dtype).eps
    np.testing.assert_allclose(measured, expected, rtol=limit, atol=floor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [shaken, trained])
def test_fifty_pixels_against_one_backward_pass_each(make, dtype):
    network, x = make(dtype=dtype), X.to(dtype)
    found, places = totals(audit(network, x, layers=[*LAYERS, INPUT])), random_logits(50)
    for layer in [*LAYERS, INPUT]:
        for name, rule in RULES.items():
            expected = brute_force(network, x, [pixel(PLAIN, X, *place) for place in places], layer, rule)
            key = "gradient x input input" if (name, layer) == ("HiResCAM", INPUT) else f"{name} {layer}"
            agree([float(found.sel({"method": key})[place]) for place in places], expected, dtype)


@pytest.mark.parametrize(("after", "upsample"), [(False, False), (True, True), (False, True)])
def test_keras_outputs_and_upsampled_maps(model, after, upsample):
    layers = [*LAYERS, "conv2d_transpose", "conv2d_10"]
    found = totals(audit(model, X, layers=layers, after=after, upsample=upsample))
    for layer in layers:
        for name, rule in RULES.items():
            places = random_logits(6, seed=1)
            expected = brute_force(model, X, [pixel(PLAIN, X, *p) for p in places], layer, rule, after, upsample)
            agree([float(found.sel({"method": f"{name} {layer}"})[p]) for p in places], expected, torch.float64)


def test_class_regions_against_one_backward_pass_each(model):
    found = audit(model, X, layers=LAYERS).isel(image=0)
    winners = model(X[None])[0].argmax(0)
    seen = winners.unique().tolist()
    for index in seen:
        target = region(PLAIN, X, index, winners == index)
        logit = float(target.value(model(X[None])).detach())
        assert float(found["region_logit"][index]) == pytest.approx(logit, rel=1e-9)
        for layer in LAYERS:
            for name, rule in RULES.items():
                residual = float(found["region_residual"].sel({"method": f"{name} {layer}"})[index])
                (total,) = brute_force(model, X, [target], layer, rule)
                assert residual == pytest.approx(total - logit, rel=1e-9, abs=1e-9 * abs(total))
    absent = [index for index in range(5) if index not in seen]
    assert np.isnan(found["region_logit"][absent]).all()
    assert np.isnan(found["region_residual"][:, absent]).all()


def test_closed_forms_at_the_last_convolution(model):
    """The proof: for any pixel GradCAM sums to the image's mean of ReLU(y - b), over the padded grid."""
    at_padded = torch.nn.functional.pad(X, (0, 2, 0, 3))[None]
    logits = model(at_padded)[0].detach() - model.head.bias.detach()[:, None, None]
    found = totals(audit(model, X, layers=["conv2d_9"]))
    gradcam = found.sel({"method": "GradCAM conv2d_9"}).values
    np.testing.assert_allclose(gradcam, np.broadcast_to(logits.clamp_min(0).mean((1, 2))[:, None, None], SHAPE))
    signed = found.sel({"method": "GradCAM signed conv2d_9"}).values
    np.testing.assert_allclose(
        signed, np.broadcast_to(logits.mean((1, 2))[:, None, None], SHAPE), rtol=1e-9, atol=1e-12
    )


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


@pytest.mark.parametrize("memory", [3 << 20, 6 << 20])
def test_working_memory_stays_under_the_limit(memory):
    """At a deep layer the channel weights of all logits together take 4 MB."""
    config = UNetConfig(channels=2, depth=3, filters=4)
    model, x = shaken(config, torch.float32), image(config, 64, 96, torch.float32)
    peaks = {}
    for layers in ([], ["conv2d_7"]):
        with Live() as live:
            audit(model, x, layers=layers, memory=memory)
        peaks[len(layers)] = live.peak
    results = 3 * 5 * 64 * 96 * 4
    assert peaks[1] - peaks[0] <= memory + 3 * results


@pytest.mark.parametrize("name", ["occlusion", "AblationCAM", "ScoreCAM"])
def test_changed_images_go_through_within_the_limit(name):
    config = UNetConfig(channels=2, depth=3, filters=4)
    model, x, memory = shaken(config, torch.float32), image(config, 64, 96, torch.float32), 2 << 20
    peaks = []
    for methods in (["CAM"], [name]):
        with Live() as live:
            audit(model, x, methods, ["conv2d_13"], memory=memory)
        peaks.append(live.peak)
    assert peaks[1] - peaks[0] <= memory


def test_windows_cover_every_logit_once(model):
    for memory in (5_000, 60_000, 10**9):
        look = Audited.of(model, X, ["conv2d_1"], True, False, memory)
        count = np.zeros(SHAPE)
        for classes, rows in cams._windows(look, 4):
            count[classes, rows] += 1
        assert (count == 1).all()


def test_too_little_memory_is_an_error(model):
    with pytest.raises(ValueError, match="memory limit of 100 bytes is too small for a layer of 4 channels"):
        audit(model, X, ["GradCAM"], ["conv2d_1"], memory=100)


def test_a_batch_is_its_images(model):
    batch = torch.stack([X, image(seed=3)])
    found = audit(model, batch)
    assert found["residual"].dims == ("image", "method", "class", "y", "x")
    for number in range(2):
        np.testing.assert_array_equal(found["residual"][number], audit(model, batch[number])["residual"][0])


def summed(*places):
    return [name for name, method in AUDITED.items() if method.summed in places]


def test_methods_are_named_with_their_layers(model):
    found = audit(model, X)
    assert found["method"].values.tolist() == [
        "CAM conv2d_9",
        *(f"{name} input" for name in summed("input")),
        *(f"{name} {layer}" for layer in LAYERS for name in summed("layers", "inner")),
        *(f"{name} conv2d_9" for name in summed("last")),
    ]
    assert (found["method"] == found["name"].astype(object) + " " + found["layer"].astype(object)).all()
    assert set(AUDITED) - {"GradCAM signed"} < set(METHODS)
    assert found["class"].values.tolist() == ["Road", "Road Marks", "Vegetation", "Sky", "Other"]


@pytest.mark.parametrize("case", ["fine", "layer", "image", RuntimeError, KeyboardInterrupt])
def test_the_model_is_left_as_it_was(case, monkeypatch):
    model = shaken().train()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = state(model)
    if case == "fine":
        audit(model, X)
    elif case == "layer":
        with pytest.raises(KeyError, match="conv2d_99"):
            audit(model, X, layers=["conv2d_1", "conv2d_99"])
    elif case == "image":
        with pytest.raises(ValueError, match="expects"):
            audit(model, X[:2])
    else:
        monkeypatch.setattr(torch.nn.ReLU, "forward", lambda *_: (_ for _ in ()).throw(case("in the middle")))
        with pytest.raises(case):
            audit(model, X)
    assert hooks(model) == 0
    assert before == state(model)


def test_a_folded_network_has_no_gain(model):
    folded = model.folded()
    before = audit(folded, X, layers=["conv2d_1"], after=False)
    places = random_logits(3)
    targets = [pixel(PLAIN, X, *place) for place in places]
    expected = brute_force(folded, X, targets, "conv2d_1", RULES["HiResCAM"], after=False)
    agree([float(totals(before).sel({"method": "HiResCAM conv2d_1"})[p]) for p in places], expected, torch.float64)


def test_other_sizes_and_depths():
    config = UNetConfig(channels=2, classes=3, depth=1, filters=3, kernel=5)
    found = audit(shaken(config), image(config, 5, 3))
    assert found["residual"].shape == (1, 1 + 7 + 3 * 4 + 5, 3, 5, 3)
    assert abs(found["residual"].sel({"method": "linear decomposition input"})).max() < 1e-10
    assert SMALL.depth == 2


def test_an_audit_in_the_callers_modes_is_the_same():
    model, x = shaken(dtype=torch.float32), X.float()
    expected = audit(model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert audit(model, x).identical(expected)
    with torch.inference_mode():
        assert audit(model, x.clone()).identical(expected)


def test_an_audit_of_another_network_warns():
    model = shaken()
    model.base.relu1 = torch.nn.LeakyReLU(0.1)
    with pytest.warns(UserWarning, match="is not the affine map that its layers say"):
        audit(model, X, ["CAM"])
