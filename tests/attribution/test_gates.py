import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import X, hooks, random_like, state
from strangers import Attention, DeepLab, Says, SmpUNet, around, settled
from torch import nn
from torch.nn import functional

from hsiutils.attribution.gates import Affine
from hsiutils.attribution.hooks import layer_of
from hsiutils.attribution.leaderboard import Counted
from hsiutils.attribution.tape import NotPiecewiseLinear
from hsiutils.models.examples import Gate, Residual

IMAGE = torch.randn(3, 12, 15, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
RELU = nn.ReLU(inplace=True)


def written(x):
    """A write into a view of a tensor, which the tensor shows."""
    x = x + 1
    x[:, :2].clamp_(-0.5, 0.5).mul_(2)
    x[:, 2:, ::2] = x[:, :2, ::2].abs()
    return x


def buffered(x):
    """Zeros that are written on."""
    buffer = x.new_zeros((*x.shape[:2], x.shape[2] + 2, x.shape[3]))
    buffer[:, :, 1:-1] = x
    return buffer


NETWORKS = {
    "DeepLabV3": DeepLab,
    "FCN": lambda: DeepLab(pyramid=False),
    "smp's U-Net": SmpUNet,
    "reused in-place ReLU": lambda: around(RELU, nn.Conv2d(4, 4, 3), RELU, nn.BatchNorm2d(4), RELU),
    "residual": lambda: around(Residual(4, 4)),
}
BLOCKS = {
    "PReLU": lambda: nn.PReLU(4),
    "one PReLU": nn.PReLU,
    "LeakyReLU": lambda: nn.LeakyReLU(0.2, inplace=True),
    "RReLU": nn.RReLU,
    "ReLU6": lambda: nn.ReLU6(inplace=True),
    "Hardtanh": lambda: nn.Hardtanh(-0.3, 0.7),
    "Hardsigmoid": nn.Hardsigmoid,
    "Softshrink": lambda: nn.Softshrink(0.2),
    "Threshold": lambda: nn.Threshold(0.1, -2.0),
    "clamp": lambda: Says(lambda x: x.clamp(-0.5, 0.5)),
    "clamp from below": lambda: Says(lambda x: x.clamp(min=0.2)),
    "abs": lambda: Says(torch.abs),
    "written ReLU": lambda: Says(lambda x: x * (x > 0)),
    "where": lambda: Says(lambda x: torch.where(x > 0, x, 0.3)),
    "maximum": lambda: Says(lambda x: torch.maximum(x, x.roll(1, 1))),
    "minimum with a constant": lambda: Says(lambda x: torch.minimum(x, torch.full_like(x, 0.2))),
    "largest channel": lambda: Says(lambda x: x - x.max(1, keepdim=True)[0]),
    "least channel": lambda: Says(lambda x: x.min(1)[0].unsqueeze(1).repeat(1, 4, 1, 1)),
    "masked fill": lambda: Says(lambda x: x.masked_fill(x < 0, 0.25)),
    "max-pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max-pool, dilated": lambda: nn.MaxPool2d(2, 1, dilation=2, ceil_mode=True),
    "adaptive max-pool": lambda: nn.AdaptiveMaxPool2d((3, 4)),
    "unpool": lambda: Says(lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 3, return_indices=True), 3)),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1),
    "adaptive average pool": lambda: nn.AdaptiveAvgPool2d((3, 4)),
    "batch normalisation": lambda: nn.BatchNorm2d(4),
    "batch normalisation without weights": lambda: nn.BatchNorm2d(4, affine=False),
    "instance normalisation by statistics": lambda: nn.InstanceNorm2d(4, track_running_stats=True),
    "transposed convolution": lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2),
    "even convolution": lambda: nn.Conv2d(4, 4, 2, padding="same"),
    "circular padding": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "reflection padding": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "constant padding": lambda: nn.ConstantPad2d(1, 0.7),
    "pixel shuffle": lambda: nn.PixelShuffle(2),
    "pixel unshuffle": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 0)), nn.PixelUnshuffle(2)),
    "channel shuffle": lambda: nn.ChannelShuffle(2),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.UpsamplingBilinear2d(scale_factor=1.5),
    "bicubic": lambda: nn.Upsample(size=(7, 9), mode="bicubic"),
    "dropout": lambda: nn.Dropout2d(0.3, inplace=True),
    "unfold and fold": lambda: Says(lambda x: functional.fold(functional.unfold(x, 3), x.shape[2:], 3)),
    "concat with a constant": lambda: Says(lambda x: torch.cat([x, torch.ones_like(x[:, :1])], 1)),
    "concat with what a batch shares": lambda: Says(lambda x: torch.cat([x, torch.ones(1, 1, *x.shape[2:]).to(x)], 1)),
    "arithmetic": lambda: Says(lambda x: 2 - (x - 0.5) / 3 + 0.1 * x),
    "halves": lambda: Says(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "einsum": lambda: Says(lambda x: torch.einsum("nkyx,jk->njyx", x, torch.eye(4).roll(1, 0).to(x))),
    "write into a view": lambda: Says(written),
    "buffer": lambda: Says(buffered),
}
BLOCKS["linear by pixel"] = lambda: nn.Sequential(
    Says(lambda x: x.permute(0, 2, 3, 1)), nn.Linear(4, 4), Says(lambda x: x.permute(0, 3, 1, 2))
)
SMOOTH = {
    "squeeze and excitation": (lambda: Gate(4), ("sigmoid in 1.fc.3",)),
    "SiLU": (lambda: nn.SiLU(inplace=True), ("silu in 1",)),
    "GELU": (nn.GELU, ("gelu in 1",)),
    "Hardswish": (nn.Hardswish, ("hardswish in 1",)),
    "tanh": (nn.Tanh, ("tanh in 1",)),
    "group normalisation": (lambda: nn.GroupNorm(2, 4), ("native_group_norm in 1",)),
    "instance normalisation": (lambda: nn.InstanceNorm2d(4, affine=True), ("native_batch_norm in 1",)),
    "attention": (lambda: Attention(4), ("native_layer_norm in 1.norm", "bmm in 1.mix", "_softmax in 1.mix")),
    "product": (lambda: Says(lambda x: x * x.mean((2, 3), keepdim=True)), ("mul in 1",)),
    "quotient": (lambda: Says(lambda x: x / (1 + x.abs().sum(1, keepdim=True))), ("div in 1",)),
    "unit length": (lambda: Says(lambda x: functional.normalize(x)), ("linalg_vector_norm in 1",)),
}


def logits_of(model, x):
    out = model(x)
    return out["out"] if isinstance(out, dict) else out


def holds(affine, relative):
    """Closure at every pixel and class, of channels, of layers' biases, and of the adjoint."""
    x, logits, scale = affine.image, affine.logits, relative * affine.logits.abs().max()
    channels = affine.push(torch.eye(len(x)).to(x)[:, :, None, None] * x)
    assert (channels.sum(0) + affine.bias() - logits).abs().max() <= scale
    torch.testing.assert_close(affine.push(x[None])[0], channels.sum(0), rtol=0, atol=float(scale))
    biases = [affine.bias(layer) for layer in affine.biased]
    assert (sum(biases) - affine.bias()).abs().max() <= scale
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).to(x)
    pulled = affine.pull(weights)
    assert float((pulled.gradient * x).sum()) == pytest.approx(
        float((channels.sum(0) * weights).sum()), abs=float(scale) * weights.numel() ** 0.5
    )
    for layer, bias in zip(affine.biased, biases, strict=True):
        expected = float((bias * weights).sum())
        assert pulled.biases[layer] == pytest.approx(expected, abs=float(scale) * weights.numel() ** 0.5)
    return pulled.gradient, weights


def held_to(model, dtype):
    x = IMAGE.to(dtype)
    before = state(model)
    affine = Affine(model, x)
    with torch.no_grad():
        torch.testing.assert_close(affine.logits, logits_of(model, x[None])[0], rtol=1e-5, atol=1e-5)
    gradient, weights = holds(affine, 1e-10 if dtype == torch.float64 else 1e-4)
    if dtype == torch.float64:
        tangents = torch.stack([x, x.flip(1)])
        slopes = [torch.func.jvp(lambda x: logits_of(model, x[None].clone())[0], (x,), (t,))[1] for t in tangents]
        torch.testing.assert_close(affine.push(tangents), torch.stack(slopes))
        by_push = (torch.stack(slopes) * weights).sum((1, 2, 3))
        torch.testing.assert_close((tangents * gradient).sum((1, 2, 3)), by_push)
    assert affine.exact
    assert before == state(model)
    assert hooks(model) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_strangers_close_and_give_torch_s_derivative(name, dtype):
    held_to(settled(NETWORKS[name](), IMAGE, dtype), dtype)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_closes_and_gives_torch_s_derivative(name):
    held_to(settled(around(BLOCKS[name]()), IMAGE), torch.float64)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_gates_are_refused_by_name_or_held_and_then_close(name):
    make, operations = SMOOTH[name]
    model = settled(around(nn.ReLU(), make(), nn.Conv2d(4, 4, 3), nn.ReLU()), IMAGE)
    operations = tuple(operation.replace(" in 1", " in 2") for operation in operations)
    with pytest.raises(NotPiecewiseLinear, match=r"because of .*freeze=True") as refused:
        Affine(model, IMAGE)
    assert refused.value.operations[: len(operations)] == operations
    affine = Affine(model, IMAGE, freeze=True)
    assert affine.frozen == refused.value.operations
    assert not affine.exact
    holds(affine, 1e-10)


def sigmoid_last():
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sigmoid())


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (around(nn.Softplus()), {}, r"softplus.default in 1 has no rule: explain a tensor before it"),
        (around(nn.Softplus()), {"freeze": True}, r"softplus.default in 1 has no rule"),
        (sigmoid_last(), {}, r"held by sigmoid in 1: explain the logits before that \(pick them by output=, or leave"),
        (sigmoid_last(), {"freeze": True}, r"held by sigmoid in 1: explain the logits"),
        (around(Says(lambda x: x * float(x.mean()))), {}, r"_local_scalar_dense.default in 1 has no rule"),
        (around(Says(lambda x: x.round())), {}, r"round.default in 1 has no rule"),
        (around(Says(lambda x: x.long().to(x))), {}, r"_to_copy.default in 1 makes whole numbers"),
        (around(Says(lambda x: torch.zeros(x.shape).to(x).copy_(x))), {}, r"copy.default in 1 writes .* a constant"),
        (around(Says(lambda x: functional.conv2d(x, x[:, :, :3, :3]))), {}, r"because of convolution in 1"),
        (around(Says(lambda x: x.clamp(min=x.roll(1, 1)))), {}, r"clamp.Tensor in 1 depends on the image by another"),
        (around(Says(lambda x: torch.div(x, 2, rounding_mode="floor"))), {}, r"div.Tensor_mode in 1 is no product"),
        (around(Says(torch.rand_like)), {}, r"rand_like.default in 1 has no rule"),
        (around(nn.Softplus(), nn.SiLU()), {}, "softplus"),
    ],
)
def test_what_has_no_rule_is_refused_with_what_to_do(model, options, message):
    model = settled(model, IMAGE)
    with pytest.raises(NotPiecewiseLinear, match=message):
        Affine(model, IMAGE, **options)
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (IMAGE.float(), r"float32 or float64 as the network \(torch.float64\), got \(3, 12, 15\) torch.float32"),
        (IMAGE[None].expand(2, -1, -1, -1), r"x must be one image"),
        (IMAGE[0], r"x must be one image"),
    ],
)
def test_bad_images_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        Affine(settled(SmpUNet(), IMAGE), x)


def test_logits_of_another_shape_ask_for_output():
    pooled = settled(nn.Sequential(SmpUNet(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGE)
    with pytest.raises(
        ValueError, match=r"the logits must be \(1, classes, h, w\), got \(1, 3\): pick them by output="
    ):
        Affine(pooled, IMAGE)
    holds(Affine(pooled, IMAGE, output=lambda y: y[:, :, None, None]), 1e-10)
    both = Says(lambda x: (x.sum(), x))
    holds(Affine(nn.Sequential(settled(SmpUNet(), IMAGE), both), IMAGE, output=lambda y: y[1]), 1e-10)


def test_a_network_in_training_is_taken_in_evaluation_and_left_in_training():
    model = settled(DeepLab(), IMAGE).train()
    before = state(model)
    holds(Affine(model, IMAGE), 1e-10)
    assert before == state(model)


def test_a_network_and_its_folded_twin_have_the_same_map(model):
    twin, weights = Affine(model.folded(), X), random_like(torch.empty(5, 13, 18).double(), 1)[0]
    affine, tangents = Affine(model, X), random_like(X)
    close = {"rtol": 1e-12, "atol": 1e-12 * float(affine.logits.abs().max())}
    torch.testing.assert_close(twin.push(tangents), affine.push(tangents), **close)
    torch.testing.assert_close(twin.bias(), affine.bias(), **close)
    torch.testing.assert_close(twin.pull(weights).gradient, affine.pull(weights).gradient, rtol=1e-11, atol=1e-12)
    for name in ("conv2d", "conv2d_5", "conv2d_transpose", "conv2d_10"):
        entering = random_like(torch.empty(affine.layers[name_of(model, name)], dtype=torch.float64))
        torch.testing.assert_close(twin.push(entering, name), affine.push(entering, name), **close)


def name_of(model, layer):
    return next(name for name, module in model.named_modules() if module is layer_of(model, layer))


def test_tangents_enter_at_any_layer_that_is_called_once():
    model = settled(DeepLab(), IMAGE)
    affine = Affine(model, IMAGE)
    assert affine.layers["backbone.4.bn2"] == (4, 3, 4)
    entering = random_like(torch.empty(affine.layers["backbone.4.bn2"], dtype=torch.float64))
    value = torch.zeros_like(entering[0])

    def shifted(change):
        handle = model.backbone[4].bn2.register_forward_hook(lambda _, __, out: out + change)
        try:
            return model(IMAGE[None])["out"][0]
        finally:
            handle.remove()

    expected = [torch.func.jvp(shifted, (value,), (tangent,))[1] for tangent in entering]
    torch.testing.assert_close(affine.push(entering, "backbone.4.bn2"), torch.stack(expected))
    everywhere = affine.push(torch.ones(1, 4, 1, 1).double(), "backbone.4.bn2")
    torch.testing.assert_close(everywhere, affine.push(torch.ones_like(entering[:1]), "backbone.4.bn2"))
    with pytest.raises(ValueError, match=r"enter at 'backbone.4.relu', which was called 2 times"):
        affine.push(entering, "backbone.4.relu")
    with pytest.raises(KeyError, match=r"no layer 'backbone.9' in the network; it has backbone,"):
        affine.push(entering, "backbone.9")
    with pytest.raises(KeyError, match=r"no bias at 'backbone.2'; there are biases at backbone.1,"):
        affine.bias("backbone.2")
    assert hooks(model) == 0


def test_operations_on_zeros_are_passed_over_and_change_nothing():
    """A tangent that enters late, also where it is written into a tensor that was zero so far."""

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.conv(x)
            x[:, :, 1:] += self.relu(x)[:, :, 1:]
            return self.head(functional.max_pool2d(x, 2))

    for make, layer in ((Late, "relu"), (DeepLab, "project"), (SmpUNet, "down2.bn1")):
        model = settled(make(), IMAGE)
        affine = Affine(model, IMAGE)
        tangents = random_like(torch.empty(affine.layers[layer], dtype=torch.float64))
        whole = affine._pass(model, tangents, layer_of(model, layer), skip=False)
        torch.testing.assert_close(affine.push(tangents, layer), whole, rtol=1e-13, atol=1e-13)
        skip, skipped = affine._tape.skip, []
        affine._tape.skip = lambda step, flows: skipped.append(skip(step, flows)) or skipped[-1]  # noqa: B023
        affine.push(tangents, layer)
        assert any(skipped)
    holds(Affine(settled(Late(), IMAGE), IMAGE), 1e-10)


def test_a_network_that_mixes_the_batch_into_another_axis_goes_one_tangent_at_a_time():
    mixed = Says(lambda x: x.reshape(-1, 1, *x.shape[2:]))
    apart = Says(lambda x: x.reshape(-1, 4, *x.shape[2:]))
    holds(Affine(settled(around(mixed, nn.ReLU(), nn.MaxPool2d(2), apart), IMAGE), IMAGE), 1e-10)
    holds(Affine(settled(around(nn.InstanceNorm2d(4)), IMAGE), IMAGE, freeze=True), 1e-10)


def test_a_network_that_does_not_repeat_itself_is_told_so():
    calls = []

    def once(first, later):
        calls.clear()
        return settled(around(Says(lambda x: calls.append(1) or (first(x) if len(calls) == 2 else later(x)))), IMAGE)

    affine = Affine(once(torch.relu, torch.abs), IMAGE)
    with pytest.raises(
        RuntimeError, match=r"went another way than at the image \(it called abs\): it must do the same"
    ):
        affine.push(IMAGE[None])
    affine = Affine(once(lambda x: x.neg().neg(), torch.neg), IMAGE)
    with pytest.raises(RuntimeError, match="it called convolution"):
        affine.push(IMAGE[None])
    model = Says(lambda x: calls.append(1) or (x.neg() if len(calls) == 1 else x))
    calls.clear()
    affine = Affine(model, IMAGE)
    with pytest.raises(RuntimeError, match="it ended early"):
        affine.push(IMAGE[None])


def test_exact_gates_are_those_of_double_precision():
    model = settled(DeepLab(), IMAGE, torch.float32)
    affine, double = Affine(model, IMAGE.float(), exact=True), Affine(settled(DeepLab(), IMAGE), IMAGE.float().double())
    assert affine.gated == torch.float64
    assert affine.logits.dtype == torch.float32
    holds(affine, 1e-4)
    tangents = random_like(IMAGE)
    torch.testing.assert_close(
        affine.push(tangents.float()).double(),
        double.push(tangents),
        rtol=1e-4,
        atol=1e-4 * float(double.logits.abs().max()),
    )


def test_the_image_is_not_written_on():
    model = settled(nn.Sequential(Says(lambda x: x[:, :2].relu_()), nn.Conv2d(2, 2, 1)), IMAGE)
    x, tangents = IMAGE.clone(), random_like(IMAGE)
    before = x.clone(), tangents.clone()
    affine = Affine(model, x)
    affine.push(tangents)
    assert torch.equal(before[0], x)
    assert torch.equal(before[1], tangents)


def test_the_footprint_is_what_a_tangent_takes():
    x = torch.randn(25, 64, 96)
    affine = Affine(settled(DeepLab(25), x, torch.float32), x)
    with Counted() as live:
        affine.push(x[None].expand(4, -1, -1, -1))
    assert live.peak / 4 < 1.5 * affine.footprint
    assert live.peak / 4 > affine.footprint / 3


SAME_SIZE = [
    name
    for name in BLOCKS
    if name not in ("pixel unshuffle", "concat with a constant", "concat with what a batch shares", "pixel shuffle")
]


class Random(nn.Module):
    """Blocks in a row, each with a skip connection of some kind from an earlier tensor."""

    def __init__(self, blocks, joins):
        super().__init__()
        self.blocks = nn.ModuleList(BLOCKS[name]() for name in blocks)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in blocks)
        self.mixes = nn.ModuleList(nn.LazyConv2d(4, 3, padding=1) for _ in blocks)
        self.stem, self.head, self.joins = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1), joins
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        seen = [self.stem(x)]
        for block, norm, mix, (back, kind) in zip(self.blocks, self.norms, self.mixes, self.joins, strict=True):
            new, old = block(seen[-1].clone()), seen[-1 - back % len(seen)]
            old = functional.interpolate(old, size=new.shape[2:], mode="nearest")
            new = mix(torch.cat([new, old], 1)) if kind == "cat" else mix(new) + old
            seen.append(self.relu(norm(new)) if kind != "bare" else new)
        return functional.interpolate(self.head(seen[-1]), size=x.shape[2:], mode="bilinear")


@settings(max_examples=40)
@given(
    blocks=st.lists(st.sampled_from(sorted(SAME_SIZE)), min_size=1, max_size=4),
    joins=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["cat", "add", "bare"])), min_size=4, max_size=4),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_random_graphs_close(blocks, joins, seed, dtype):
    x = torch.randn(3, 16, 18, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    model = settled(Random(blocks, joins[: len(blocks)]), x, dtype, seed)
    affine = Affine(model, x.to(dtype))
    parts = torch.cat([affine.push(torch.eye(3).to(dtype)[:, :, None, None] * x.to(dtype)), affine.bias()[None]])
    scale = torch.maximum(affine.logits.abs().max(), parts.norm(dim=0))
    assert ((parts.sum(0) - affine.logits).abs() <= (1e-10 if dtype == torch.float64 else 1e-4) * scale).all()
    if dtype == torch.float64:
        tangent = x.flip(2)
        slope = torch.func.jvp(lambda x: model(x[None])[0], (x,), (tangent,))[1]
        torch.testing.assert_close(affine.push(tangent[None])[0], slope, rtol=1e-9, atol=1e-9 * float(scale.max()))
