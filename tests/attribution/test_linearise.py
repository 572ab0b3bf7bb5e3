import pytest
import torch
from networks import SMALL, Live, X, hooks, image, random_like, shaken
from torch import nn

from hsiutils.attribution.hooks import INPUT, replaced
from hsiutils.attribution.linearise import MEMORY, Linearisation, Output, Parts, Site, linearise, pushed
from hsiutils.models.unet import UNet, UNetConfig


def test_push_is_torch_s_jacobian_vector_product(model):
    tangents = random_like(X)
    network = model.folded()
    expected = [torch.func.jvp(lambda x: network(x[None]), (X,), (t,))[1][0] for t in tangents]
    torch.testing.assert_close(linearise(model, X).push({Site(INPUT): tangents}), torch.stack(expected))


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("name", ["conv2d", "conv2d_1", "conv2d_5", "conv2d_transpose", "conv2d_9", "conv2d_10"])
def test_push_from_an_inner_layer(model, name, after):
    """Against the derivative of the folded network with respect to something added to the layer's output."""
    at = linearise(model, X)
    value = at.activations([name])[name][0]

    def shifted(change):
        with replaced(at.network, name, lambda output: output + change, after=after or name == "conv2d_10"):
            return at.network(X[None])[0]

    # A folded network's normalisation is the identity: its convolution's output is the tensor before the ReLU.
    tangents = random_like(value)
    expected = torch.stack([torch.func.jvp(shifted, (torch.zeros_like(value),), (t,))[1] for t in tangents])
    torch.testing.assert_close(at.push({Site(name, after=after): tangents}), expected)


def test_sites_that_do_not_exist_nothing_to_push_and_too_little_memory_are_errors(model):
    at = linearise(model, X)
    with pytest.raises(KeyError, match=r"no such site in a U-Net of depth 2.*conv2d_77"):
        at.push({Site(INPUT): X[None], Site("conv2d_77"): X[None]})
    with pytest.raises(ValueError, match="no tangent"):
        at.push({})
    with pytest.raises(ValueError, match=r"one tangent .* needs \d+ bytes, 1000 are left for it: raise the memory"):
        at.tangents_within(1000)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_ties_in_pooling_and_relu_at_zero_close(value):
    """A constant image makes every pooling window a tie, and a network without biases every ReLU zero at zero."""
    model = UNet(SMALL).double().eval() if value == 0 else shaken()
    at = linearise(model, torch.full_like(X, value))
    total = at.push({Site(INPUT): at.image[None], **at.biases()})[0]
    torch.testing.assert_close(total, at.logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.float(), "x is torch.float32 and the network torch.float64"),
        (torch.full_like(X, torch.nan), "not finite"),
        (X[None].expand(2, -1, -1, -1), "x must be those of one image"),
        (X[0], "x must be those of one image"),
        (X[:3], r"expects \(n, 4, h, w\)"),
        (X.bfloat16(), r"x and the network are torch.bfloat16, too coarse .* take .float\(\) of both"),
        (X.half(), r"x and the network are torch.float16, too coarse .* take .float\(\) of both"),
    ],
)
def test_bad_images_are_named_and_leave_no_hook(x, message):
    model = shaken(dtype=x.dtype if x.dtype.itemsize == 2 else torch.float64)
    with pytest.raises(ValueError, match=message):
        linearise(model, x)
    assert hooks(model) == 0


@pytest.mark.parametrize(
    "config", [UNetConfig(channels=25, depth=3, filters=4), UNetConfig(channels=1, depth=3, filters=8)]
)
def test_working_memory_stays_under_the_limit(config):
    x = image(config, 64, 96, torch.float32)
    at = linearise(shaken(config, torch.float32), x)
    parts, output = Parts.of(x, torch.arange(64)[:, None].expand(64, 96) // 4, bands=False), Output.of(at, None, None)
    tight = 16 << 20
    with Live() as live:
        values = pushed(at, parts, x, output, tight)
    results = values.nbytes
    assert live.peak <= tight + 2 * results
    assert live.peak >= tight / 6  # and the limit is made use of


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_default_memory_is_enough_for_the_full_size_network(dtype):
    """Also for an audit, which gives half of it to the tangents."""
    model = UNet(UNetConfig(), torch.Generator().manual_seed(0)).to(dtype)
    with torch.device("meta"):
        at = Linearisation(model, torch.empty(25, 216, 409, dtype=dtype), torch.empty(5, 216, 409), {}, {}, dtype)
    assert at.tangents_within(MEMORY // 2) >= 1


def test_pull_is_the_adjoint_of_push(model):
    at = linearise(model, X)
    weights = torch.randn(5, 13, 18, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    tangents = {Site(INPUT): random_like(X, 1), **at.biases()}
    slopes = at.pull(weights)
    assert slopes.keys() == tangents.keys()
    pulled = sum((slopes[site] * tangents[site][0].squeeze()).sum() for site in slopes)
    assert float(pulled) == pytest.approx(float((at.push(tangents)[0] * weights).sum()), rel=1e-9)
    network, x = model.folded(), X.clone().requires_grad_()
    (expected,) = torch.autograd.grad((network(x[None])[0] * weights).sum(), x)
    torch.testing.assert_close(slopes[Site(INPUT)], expected)


def test_exact_gates_are_those_of_double_precision():
    """A unit so near to zero that single precision opens it: (1 + 2**-24) - 1 is nothing there."""
    model, x = shaken(UNetConfig(channels=1, depth=1, filters=1)).folded(), torch.ones(1, 4, 4)
    with torch.no_grad():
        first = model.encoder[0].conv1
        first.weight.zero_()
        first.weight[0, 0, 1, 1], first.bias[0] = 1 / 3, -0.3333333
    single, double = model.unhooked().float(), model.unhooked().float().double()
    before = double.encoder[0].conv1(x.double()[None])
    assert float(before.min()) > 0
    with torch.no_grad():
        single.encoder[0].conv1.bias -= float(before.min())  # now zero but for rounding
    precise = linearise(single.unhooked().double(), x.double()).gates["conv2d"]
    assert linearise(single, x, exact=True).gated == torch.float64
    assert linearise(single, x).gated == torch.float32
    assert torch.equal(linearise(single, x, exact=True).gates["conv2d"].double(), precise)


@pytest.mark.parametrize("change", ["adds", "looks"])
def test_a_hook_that_changes_the_logits_is_refused(change):
    model, seen = shaken(), []
    model.base.relu2.register_forward_hook(lambda _m, _i, out: out + 1 if change == "adds" else seen.append(out))
    if change == "adds":
        with pytest.raises(ValueError, match=r"a hook on the network changes its logits by up to \d.*: remove"):
            linearise(model, X)
    else:
        linearise(model, X)
        assert len(seen) == 1  # of the network itself, asked once; no copy tells of its own passes
        assert hooks(model.folded()) == hooks(model.unhooked()) == 0
        assert hooks(model) == 1


def test_of_another_activation_or_pooling_the_affine_map_does_not_close(model):
    assert linearise(model, X).closes
    for change in (
        lambda m: setattr(m.base, "relu1", nn.LeakyReLU(0.1)),
        lambda m: setattr(m.base, "relu1", nn.Softplus()),
        lambda m: m.pools.__setitem__(1, nn.AvgPool2d(2)),
    ):
        other = model.unhooked()
        change(other)
        assert not linearise(other, X).closes
