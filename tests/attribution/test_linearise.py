from itertools import product

import numpy as np
import pytest
import torch
import xarray as xr
from networks import SMALL, X, hooks, image, random_like, shaken
from torch import nn

from hsiutils.attribution.hooks import activations, ask, replaced
from hsiutils.attribution.leaderboard import Counted
from hsiutils.attribution.linearise import (
    MEMORY,
    Output,
    Parts,
    bias_names,
    input_image,
    linearise,
    pushed,
)
from hsiutils.attribution.tape import NotPiecewiseLinear
from hsiutils.models.examples import Gate
from hsiutils.models.unet import UNet, UNetConfig


def test_push_is_torch_s_jacobian_vector_product(model):
    tangents = random_like(X)
    network = model.folded()
    expected = [torch.func.jvp(lambda x: network(x[None]), (X,), (t,))[1][0] for t in tangents]
    torch.testing.assert_close(linearise(model, X).push(tangents), torch.stack(expected))


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("name", ["conv2d", "conv2d_1", "conv2d_5", "conv2d_transpose", "conv2d_9", "conv2d_10"])
def test_push_from_an_inner_layer(model, name, after):
    """Against the derivative of the folded network with respect to something added to the layer's output."""
    at = linearise(model, X)
    with activations(at.model, [name]) as seen:
        ask(at.model, X[None])
    value = seen[name][0]

    def shifted(change):
        with replaced(at.model, name, lambda output: output + change, after=after or name == "conv2d_10"):
            return at.model(X[None])[0]

    # A folded network's normalisation is the identity: its convolution's output is the tensor before the ReLU.
    tangents = random_like(value)
    expected = torch.stack([torch.func.jvp(shifted, (torch.zeros_like(value),), (t,))[1] for t in tangents])
    torch.testing.assert_close(at.push(tangents, name, after), expected)


def test_layers_that_do_not_exist_and_too_little_memory_are_errors(model):
    at = linearise(model, X)
    with pytest.raises(KeyError, match=r"no layer 'conv2d_77' in a U-Net of depth 2"):
        at.push(X[None], "conv2d_77")
    with pytest.raises(ValueError, match=r"one tangent .* needs \d+ bytes, 1000 are left for it: raise the memory"):
        at.tangents_within(1000)


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_ties_in_pooling_and_relu_at_zero_close(value):
    """A constant image makes every pooling window a tie, and a network without biases every ReLU zero at zero."""
    model = UNet(SMALL).double().eval() if value == 0 else shaken()
    at = linearise(model, torch.full_like(X, value))
    total = at.push(at.image[None])[0] + at.bias()
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
    for tangents in (1, 3):
        tight = tangents * at.footprint
        with Counted() as live:
            values = pushed(at, parts, x, output, tight)
        assert live.peak <= tight + 2 * values.nbytes
        assert live.peak >= tight / 6  # and the limit is made use of


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_default_memory_is_enough_for_the_full_size_network(dtype):
    """Also for an audit, which gives half of it to the tangents."""
    model = UNet(UNetConfig(), torch.Generator().manual_seed(0)).to(dtype)
    quarter = linearise(model, torch.zeros(25, 108, 205, dtype=dtype))
    assert 4 * quarter.footprint <= MEMORY // 2


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
    precise, exact = linearise(single.unhooked().double(), x.double()), linearise(single, x, exact=True)
    assert exact.gated == torch.float64
    assert linearise(single, x).gated == torch.float32
    first = [at._tape.kept[0][0].double() for at in (exact, precise)]  # slopes of the first ReLU
    assert torch.equal(*first)


def test_what_is_asked_of_the_map_is_asked_of_any_network():
    x = torch.randn(2, 4, 6)
    other, smooth = (nn.Sequential(nn.Conv2d(2, 3, 1), last) for last in (nn.ReLU(), Gate(3)))
    assert linearise(other, x).gated == torch.float32
    assert linearise(other, x, exact=True).gated == torch.float64
    with pytest.raises(NotPiecewiseLinear, match="sigmoid"):
        linearise(smooth, x)
    assert linearise(smooth, x, freeze=True).frozen
    with pytest.raises(NotPiecewiseLinear, match=r"convolution\.default in 0 has no rule"):
        linearise(other, x, rules={})
    with pytest.raises(NotPiecewiseLinear, match="has no rule"):
        linearise(shaken(), X, rules={})
    ours = shaken()
    assert not any(weight.requires_grad for weight in linearise(ours, X).model.parameters())
    with torch.inference_mode():
        inferred = X.clone()
    assert not input_image(ours, inferred).is_inference()
    ours.base.relu1 = nn.SiLU()
    with pytest.raises(NotPiecewiseLinear, match="silu"):
        linearise(ours, X)
    assert linearise(ours, X, freeze=True).frozen == ("silu in base.relu1",)


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


def test_another_activation_or_pooling_of_ours_is_followed(model):
    for change in (
        lambda m: setattr(m.base, "relu1", nn.LeakyReLU(0.1)),
        lambda m: m.pools.__setitem__(1, nn.AvgPool2d(2)),
    ):
        other = model.unhooked()
        change(other)
        at = linearise(other, X)
        torch.testing.assert_close(at.push(X[None])[0] + at.bias(), ask(other, X[None])[0], rtol=1e-10, atol=1e-10)


def test_biases_have_keras_names():
    at = linearise(shaken(UNetConfig(channels=3, depth=1, filters=2, entrance=True)), torch.randn(3, 4, 6).double())
    assert list(bias_names(at).values()) == [*at.model.keras_layers(), "input"]


SHARES = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-4.0, 0.25]]).double()  # (classes, bands)
GRID = np.array([[7, 7, -2, -2], [7, 7, -2, -2], [7, 0, 0, 0]])
SUNLIT = GRID == 7


@pytest.fixture(scope="module")
def weighed():
    """A network of weights alone, logit c = sum of SHARES[c, b] x[b], its map at an image, and every summand.

    The summands are (band, region, class, y, x).
    """
    network = nn.Conv2d(2, 3, 1).double()
    with torch.no_grad():
        network.weight[:, :, 0, 0] = SHARES
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    member = np.stack([label == GRID for label in (-2, 0, 7)])
    summands = np.einsum("cb,byx,ryx->brcyx", SHARES, x, member)
    names = {"band": [0, 1], "region": [-2, 0, 7], "class": ["class 0", "class 1", "class 2"]}
    return linearise(network, x), x, xr.DataArray(summands, names, ("band", "region", "class", "y", "x"))


@pytest.mark.parametrize(
    ("bands", "partition", "tangents"), [*product((True, False), (GRID, torch.as_tensor(GRID), None), (1, 4, 99))]
)
def test_what_parts_do_adds_up_from_the_summands(weighed, bands, partition, tangents):
    at, x, summands = weighed
    parts, output = Parts.of(x, partition, bands), Output.of(at, None, None)
    taken = [name for name, wanted in (("band", bands), ("region", partition is not None)) if wanted]
    expected = summands.sum([name for name in ("band", "region") if name not in taken])
    assert len(parts) == np.prod([summands.sizes[name] for name in taken])
    values = pushed(at, parts, x, output, tangents * at.footprint)
    xr.testing.assert_allclose(output.named(values, parts.coords), expected)


@pytest.mark.parametrize(("classes", "kept"), [(None, [0, 1, 2]), ([2, 0, 1], [2, 0, 1]), (["class 1"], [1])])
@pytest.mark.parametrize("over", [None, GRID, SUNLIT])
def test_what_is_kept_are_classes_and_means_over_targets(weighed, classes, kept, over):
    at, x, summands = weighed
    parts, output = Parts.of(x, GRID, False), Output.of(at, classes, over)
    found = output.named(pushed(at, parts, x, output, MEMORY), parts.coords)
    expected = summands.sum("band")[:, kept]
    if over is not None:
        labels = np.unique(over)
        means = [expected.where(xr.DataArray(over == label, dims=("y", "x"))).mean(("y", "x")) for label in labels]
        expected = xr.concat(means, xr.Variable("target", labels))
        expected = expected.transpose("region", "class", "target")
    xr.testing.assert_allclose(found, expected)
    logits = output.named(output.keep(at.logits[None])[0])
    assert logits.dims == expected.dims[1:]
    assert logits["class"].values.tolist() == [f"class {number}" for number in kept]


def test_classes_in_any_order_are_those_of_the_network_by_name():
    names = ("Road", "Sky", "Car")
    at = linearise(shaken(UNetConfig(2, 3, 1, filters=2, class_names=names)), torch.randn(2, 2, 6).double())
    every, turned = (Output.of(at, classes, None) for classes in (None, ["Car", "Road", 1]))
    found = turned.named(turned.keep(at.logits[None])[0])
    assert found["class"].values.tolist() == ["Car", "Road", "Sky"]
    assert Output.of(at, [0, 1], None).keep(at.logits[None]).shape == (1, 2, 2, 6)  # of three, as many as rows
    xr.testing.assert_equal(found.sel({"class": list(names)}), every.named(every.keep(at.logits[None])[0]))


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (GRID + 0.5, "must hold integers or booleans, one number a region, got dtype float64"),
        (GRID[:2], r"must have the image's size \(3, 4\), got \(2, 4\)"),
    ],
)
def test_a_map_that_tells_no_regions_is_refused(partition, message):
    image = torch.zeros(2, 3, 4)
    for given in (partition, torch.as_tensor(partition)):
        with pytest.raises(ValueError, match=f"^partition {message}"):
            Parts.of(image, given, bands=True)
        with pytest.raises(ValueError, match=f"^over {message}"):
            Output.of(linearise(nn.Identity(), image), None, given)
