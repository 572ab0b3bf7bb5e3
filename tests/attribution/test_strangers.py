"""Every method on networks that are not ours: it answers, and as by definition, or says in a sentence why not."""

import numpy as np
import pytest
import torch
from networks import hooks, shaken, state
from strangers import Attention, DeepLab, Says, SmpUNet, around, settled
from torch import nn
from torch.nn import functional

from hsiutils.attribution.audit import AUDITED, audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.gates import Affine
from hsiutils.attribution.hooks import INPUT, ask, logits_of
from hsiutils.attribution.methods import METHODS, attribute
from hsiutils.attribution.tape import NotPiecewiseLinear
from hsiutils.attribution.targets import class_map, margin, pixel, region
from hsiutils.models.examples import Gate

X = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NETWORKS = {
    "FCN": lambda: DeepLab(pyramid=False),
    "DeepLab": DeepLab,
    "smp's U-Net": SmpUNet,
    "coarse logits": lambda: around(nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3), nn.ReLU()),
}
EVERY = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def places(model, count, seed=1):
    shape, rng = logits_of(model(X[None])).shape[1:], np.random.default_rng(seed)
    return [tuple(int(rng.integers(size)) for size in shape) for _ in range(count)]


@EVERY
def test_the_audit_is_every_methods_own_map_of_single_logits(make):
    model = settled(make(), X)
    costly = ("Integrated Gradients", "SmoothGrad", "occlusion")  # asked of the smallest network alone
    asked = None if make is NETWORKS["coarse logits"] else [name for name in AUDITED if name not in costly]
    before, found = state(model), audit(model, X, asked).isel(image=0)
    for place in places(model, 2):
        target = pixel(model, X, *place)
        for key, name, layer in zip(found["method"].values, found["name"].values, found["layer"].values, strict=True):
            options = {"relu": True} if name == "GradCAM" else {}
            one = attribute(name.removesuffix(" signed"), model, X, target, layer, **options)
            limit = 1e-6 if name == "Integrated Gradients" else 1e-9  # captum keeps its weights in single precision
            size = max(1, abs(one.logit), abs(one.total))
            measured = float(found["residual"].sel({"method": key})[place])
            assert measured == pytest.approx(one.residual, rel=limit, abs=limit * size), key
    assert before == state(model)
    assert hooks(model) == 0


@EVERY
@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_or_refuses_in_a_sentence(name, make):
    model = settled(make(), X)
    before, place = state(model), places(model, 1)[0]
    target = pixel(model, X, *place)
    if name == "CAM" and make is SmpUNet:  # its head is 3 x 3
        with pytest.raises(ValueError, match=r"CAM needs the layer that a 1 x 1 convolution reads, .* not 'up.2'"):
            attribute(name, model, X, target)
    else:
        found = attribute(name, model, X[None], target)
        assert found.logit == pytest.approx(float(ask(model, X[None])[0][place]))
        assert np.isfinite(found.map).all()
        assert found.closes == (name in ("CAM", "linear decomposition", "DeepLIFT"))
        assert found.exact
    assert before == state(model)
    assert hooks(model) == 0


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, slope):
        return slope.clamp_min(0) * (ctx.saved_tensors[0] > 0)


@EVERY
def test_guided_backprop_by_its_definition_where_a_relu_is_reused_and_in_place(make, monkeypatch):
    model = settled(make(), X)
    target = pixel(model, X, *places(model, 1)[0])
    found = attribute("Guided BackProp", model, X, target)
    monkeypatch.setattr(nn.ReLU, "forward", lambda _, x: _Guided.apply(x))
    leaf = X[None].clone().requires_grad_()
    (expected,) = torch.autograd.grad(target.value(logits_of(model(leaf))).sum(), leaf)
    np.testing.assert_allclose(found.map, expected[0], rtol=1e-9, atol=1e-12)


SMOOTH = {"SiLU": nn.SiLU, "sigmoid": nn.Sigmoid, "GELU": nn.GELU, "Hardswish": nn.Hardswish, "softplus": nn.Softplus}


@pytest.mark.parametrize("make", [*SMOOTH.values(), lambda: nn.PReLU(4), lambda: nn.MaxPool2d(3, 1, 1)])
def test_deeplift_closes_with_chords_of_smooth_functions_too(make):
    model = settled(around(make(), nn.Conv2d(4, 4, 3), nn.ReLU6(inplace=True), nn.AdaptiveMaxPool2d(4)), X)
    target = region(model, X, 1, np.ones((4, 4), bool))
    found = attribute("DeepLIFT", model, X, target, reference=[0.2, -0.1, 0.4])
    assert found.closes
    assert found.biases["reference"] != 0


def test_deeplift_of_one_layer_is_weight_times_chord_times_change():
    weights, bias = torch.tensor([0.5, -2.0, 1.5]).double(), 0.3
    model = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(weights[None, :, None, None])
        model[0].bias.fill_(bias)
    inside = torch.einsum("k,kyx->yx", weights, X) + bias
    chord = (inside.clamp_min(0) - bias) / (inside - bias)
    found = attribute("DeepLIFT", model, X, region(model, X, 0, np.ones((12, 16), bool)))
    np.testing.assert_allclose(found.map, weights[:, None, None] * chord * X, rtol=1e-9)


@pytest.mark.parametrize(
    ("block", "named"),
    [
        (Gate(4), "mul in 1"),
        (Attention(4), "_safe_softmax|_softmax|native_layer_norm|bmm"),
        (Says(lambda x: x * (x > 0)), "gt.Scalar in 1"),
        (nn.GroupNorm(2, 4), "native_group_norm in 1"),
    ],
)
def test_deeplift_names_what_has_no_chord(block, named):
    model = settled(around(block), X)
    with pytest.raises(NotPiecewiseLinear, match=f"rescale rule knows functions .* not .*({named}).*: take Integrated"):
        attribute("DeepLIFT", model, X, pixel(model, X, 0, 1, 1))


NEEDS_GATES = ("linear decomposition", "Guided BackProp", "Guided GradCAM", "LRP epsilon", "LRP gamma")


def test_a_smooth_network_is_explained_by_what_needs_no_gates_and_marked_where_they_are_held():
    model = settled(around(nn.ReLU(), Gate(4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()), X)
    target = class_map(model, X, 1, mean=True)
    for name in METHODS:
        if name in NEEDS_GATES:
            held = "mul in 2" if "LRP" in name else "sigmoid in 2.fc.3"  # relevance passes functions of single numbers
            with pytest.raises(NotPiecewiseLinear, match=rf"because of {held}: .* freeze=True"):
                attribute(name, model, X, target)
            found = attribute(name, model, X, target, freeze=True)
            assert f"exact=False (held: {held})" in repr(found)
            assert found.closes == (name == "linear decomposition")
        elif name != "DeepLIFT":
            assert attribute(name, model, X, target).exact
    gradient = attribute("gradient", model, X, target)
    leaf = X[None].clone().requires_grad_()
    (expected,) = torch.autograd.grad(target.value(model(leaf)).sum(), leaf)
    np.testing.assert_allclose(gradient.map, expected[0], rtol=1e-9, atol=1e-12)


def test_an_audit_with_frozen_gates_says_so_and_leaves_out_what_needs_the_derivative():
    model = settled(around(nn.ReLU(), Gate(4)), X)
    with pytest.raises(NotPiecewiseLinear, match=r"because of sigmoid in 2.fc.3"):
        audit(model, X)
    found = audit(model, X, freeze=True)
    asked_again = ["ScoreCAM", "AblationCAM", "EigenCAM"]
    assert found["name"].values.tolist() == ["linear decomposition", "occlusion", "band occlusion", *asked_again]
    assert (found.attrs["exact"], found.attrs["frozen"]) == (0, "sigmoid in 2.fc.3")
    assert "sigmoid in 2.fc.3" in repr(found)
    assert abs(found["residual"][0, 0]).max() < 1e-10
    with pytest.raises(NotPiecewiseLinear, match=r"the network's derivative, .* \(sigmoid in 2.fc.3\)"):
        audit(model, X, ["gradient x input"], freeze=True)
    assert audit(settled(SmpUNet(), X), X, ["gradient"]).attrs == {"exact": 1, "frozen": ""}
    held = "exact=False (held: sigmoid in 2.fc.3)"
    assert held in repr(decompose(model, X, freeze=True))
    assert held in repr(Affine(model, X, freeze=True))


def test_logits_are_picked_out_of_what_a_network_returns():
    plain = settled(SmpUNet(), X)
    model, output = nn.Sequential(plain, Says(lambda y: (y.mean(), [y]))), lambda out: out[1][0]
    names = ("road", "sky", "other")
    target = pixel(model, X, "sky", 3, 4, output=output, names=names)
    assert target.name == "sky at (3, 4)"
    for name in ("GradCAM", "linear decomposition", "DeepLIFT", "occlusion", "gradient"):
        expected = attribute(name, plain, X, pixel(plain, X, 1, 3, 4), "up.2" if name == "GradCAM" else None)
        found = attribute(name, model, X, target, "0.up.2" if name == "GradCAM" else None, output=output)
        np.testing.assert_allclose(found.map, expected.map, rtol=1e-12, atol=1e-14)
    found = audit(model, X[None].repeat(2, 1, 1, 1), ["linear decomposition"], output=output)
    assert found["residual"].sizes["image"] == 2
    np.testing.assert_allclose(decompose(model, X, output=output).logit, decompose(plain, X).logit)
    mask = np.arange(192).reshape(12, 16) % 2 == 0
    assert region(model, X, "road", mask, output=output, names=names).name == "road, sum of 96 pixels"
    assert margin(model, X, 0, mask, output=output, names=names).name == "margin of road, mean of 96 pixels"
    winner = int(plain(X[None])[0].flatten(1).sum(1).argmax())
    assert names[winner] in class_map(model, X, names[winner], output=output, names=names).name
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, t: attribute("GradCAM", m, X, t, "backbone.4.relu"), ValueError, "no map at .* must call it once"),
        (lambda m, t: attribute("GradCAM", m, X, t, "backbone.9"), KeyError, "no layer 'backbone.9' in the network"),
        (lambda m, t: attribute("GradCAM", m, X[None].repeat(2, 1, 1, 1), t), ValueError, "x must be those of one"),
        (lambda m, t: attribute("gradient", m, X, t, "project"), ValueError, "attributes to the input"),
        (lambda m, _: pixel(m, X, "Sky", 0, 0), ValueError, "no class 'Sky' among .* class 0, class 1, class 2"),
        (lambda m, _: pixel(m, X, 0, 0, 0, names=("a", "b")), ValueError, "names must be one a class, 3 of them"),
        (lambda m, _: pixel(m, X, 0, 0, 16), IndexError, "outside the logits of 12 rows and 16 columns"),
        (lambda m, _: pixel(m, X, 0, 0, 0, output=lambda y: y["out"].sum(1)), ValueError, "pick by output="),
        (lambda m, _: pixel(shaken(), X, 0, 0, 0, output=logits_of), ValueError, "a UNet returns them"),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    model = settled(DeepLab(), X)
    with pytest.raises(error, match=message):
        call(model, pixel(model, X, 0, 1, 1))
    assert hooks(model) == 0


class Reused(nn.Module):
    """One ReLU for everything, in place, also on what is read again."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.one(x)
        y = self.two(self.relu(x))  # from here on x is what the ReLU wrote
        y += x
        return self.head(functional.relu_(self.relu(y) - 0.1) + x)


def test_gradients_at_layers_that_relus_write_on_are_those_of_what_the_layers_put_out():
    model = settled(Reused(), X)
    target = pixel(model, X, 1, 5, 6)
    expected = {}
    for layer in ("one", "two"):
        kept = []
        handle = getattr(model, layer).register_forward_hook(
            lambda _, __, out, kept=kept: kept.append(out) or out.clone()
        )
        model(X[None].clone().requires_grad_())
        value = target.value(model(X[None].requires_grad_())).sum()
        (slope,) = torch.autograd.grad(value, kept[-1])
        handle.remove()
        expected[layer] = float((slope * kept[-1]).sum())
        assert attribute("HiResCAM", model, X, target, layer).total == pytest.approx(expected[layer], rel=1e-9)
    found = audit(model, X, ["HiResCAM"], ["one", "two"])
    for layer, total in expected.items():
        residual = found["residual"].sel({"method": f"HiResCAM {layer}"})[0, 1, 5, 6]
        assert float(residual) == pytest.approx(total - float(model(X[None])[0, 1, 5, 6]), rel=1e-9)
    with pytest.raises(ValueError, match="was called 2 times"):
        audit(model, X, ["HiResCAM"], ["relu"])


def test_a_tangent_enters_at_one_reader_of_a_skip_connection():
    model = settled(SmpUNet(), X)
    affine = Affine(model, X)
    readers = affine.consumers("down1")
    assert readers[-1] == "cat in the network itself"
    assert len(readers) == 3  # both convolutions of the next block, and the decoder
    tangents = torch.randn(2, *affine.layers["down1"], generator=torch.Generator().manual_seed(1)).double()

    def decoded(change):
        skip = model.down1(X[None])
        x = functional.interpolate(model.down2(skip), scale_factor=2.0, mode="nearest")
        return model.head(model.up(torch.cat([x[:, :, : skip.shape[2], : skip.shape[3]], skip + change], dim=1)))[0]

    expected = [torch.func.jvp(decoded, (torch.zeros_like(t),), (t,))[1] for t in tangents]
    torch.testing.assert_close(affine.push(tangents, "down1", consumer=readers[-1]), torch.stack(expected))
    shares = [affine.push(tangents, "down1", consumer=reader) for reader in readers]
    torch.testing.assert_close(sum(shares), affine.push(tangents, "down1"))
    with pytest.raises(KeyError, match="nothing called 'cat' reads 'down1', but convolution in down2"):
        affine.push(tangents, "down1", consumer="cat")
    assert hooks(model) == 0


def test_the_skip_of_a_unet_is_one_of_two_readers_by_keras_name(model):
    x = torch.randn(4, 13, 18, generator=torch.Generator().manual_seed(2)).double()
    affine = Affine(model, x)
    pooled, skipped = affine.consumers("conv2d_1")
    assert (pooled.split()[-1], skipped) == ("pools.0", "cat in decoder.1")
    tangents = torch.randn(1, 4, 16, 20, generator=torch.Generator().manual_seed(3)).double()
    parts = [affine.push(tangents, "conv2d_1", consumer=reader) for reader in (pooled, skipped)]
    torch.testing.assert_close(parts[0] + parts[1], affine.push(tangents, "conv2d_1"))
    assert all(part.abs().max() > 0 for part in parts)


def test_a_reader_that_writes_and_one_that_reads_twice():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 2, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.conv(x)
            y = torch.cat([x, x], 1)
            return self.head(y) + functional.relu_(x)

    model = settled(Net(), X)
    affine = Affine(model, X)
    assert affine.consumers("conv") == ("cat in the network itself", "relu in the network itself")
    tangent = torch.ones(1, 2, 1, 1).double()
    by_cat, by_relu = (affine.push(tangent, "conv", consumer=reader) for reader in affine.consumers("conv"))
    torch.testing.assert_close(by_cat, model.head.weight.sum((1, 2, 3))[None, :, None, None].expand_as(by_cat))
    torch.testing.assert_close(by_relu[0], (model.conv(X[None])[0] > 0).double())


def test_layers_of_the_image_itself():
    model = settled(NETWORKS["coarse logits"](), X)
    target = pixel(model, X, 0, 1, 1)
    assert attribute("HiResCAM", model, X, target, INPUT).total == pytest.approx(
        attribute("gradient x input", model, X, target).total
    )
    assert attribute("GradCAM", model, X, target, "1", upsample=True).map.shape == (12, 16)
    assert attribute("GradCAM", model, X, target).layer == "4"
