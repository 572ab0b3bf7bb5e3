from dataclasses import replace

import captum.attr
import numpy as np
import pytest
import torch
from networks import shaken
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hsiutils.models.unet import UNet, UNetConfig, flops, layer_shapes, parameter_count, receptive_field

SMALL = UNetConfig(channels=3, depth=2, filters=4)


def images(n=1, channels=3, h=8, w=12, seed=0):
    return torch.randn(n, channels, h, w, generator=torch.Generator().manual_seed(seed))


def trained(config=SMALL):
    """A network whose batch normalisation is not the identity."""
    return shaken(config, torch.float32)


def test_flops_are_the_authors_with_their_six_outputs_and_those_that_torch_counts():
    for shape, gflop in (((224, 416), 43.65), ((216, 409), 43.65), ((192, 384), 34.54)):
        assert round(flops(UNetConfig(classes=6), shape) / 1e9, 2) == gflop
    with FlopCounterMode(display=False) as counter:
        UNet(SMALL).eval()(images(h=7, w=9))
    assert counter.get_total_flops() == flops(SMALL, (7, 9))


def test_receptive_field_table_of_the_authors():
    table = {"conv2d_1": 5, "conv2d_3": 14, "conv2d_5": 32, "conv2d_7": 68, "conv2d_9": 140, "conv2d_11": 284}
    table |= {"conv2d_15": 380, "conv2d_17": 396, "conv2d_19": 404, "conv2d_21": 408, "conv2d_22": 408}
    assert receptive_field(UNetConfig()).items() >= table.items()


@pytest.mark.parametrize("name", ["conv2d_1", "conv2d_3", "conv2d_5", "conv2d_9"])
def test_receptive_field_is_what_gradients_reach(name):
    config = replace(SMALL, channels=1)
    model = UNet(config).eval()
    for module in model.modules():  # all-positive weights: no path can cancel or be switched off
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data.abs_()
    model.pools = nn.ModuleList(nn.AvgPool2d(2) for _ in range(config.depth))
    seen = {}
    model.layer(name).register_forward_hook(lambda _m, _i, out: seen.update(out=out))
    x = torch.ones(1, 1, 96, 96, requires_grad=True)
    model(x)
    reach = 0
    centre = seen["out"].shape[-1] // 2
    for offset in range(4):  # the reach depends on the pixel's place in the pooling grid; the table has the largest
        gradient = torch.autograd.grad(seen["out"][0, :, centre + offset, centre].sum(), x, retain_graph=True)[0]
        rows = torch.nonzero(gradient[0, 0].abs().sum(dim=1))
        reach = max(reach, int(rows.max() - rows.min()) + 1)
    assert reach == receptive_field(config)[name]


def test_layer_shapes_are_the_built_networks():
    built = {name: (layer.in_channels, layer.out_channels) for name, layer in UNet(SMALL).keras_layers().items()}
    assert {shape.name: (shape.inputs, shape.outputs) for shape in layer_shapes(SMALL)} == built


def test_size_and_keras_names_of_the_paper_network():
    model = UNet()
    assert round(parameter_count(model) / 1e6, 3) == 31.125
    layers = model.keras_layers()
    assert len([name for name in layers if "transpose" not in name]) == 23
    assert len([name for name in layers if "transpose" in name]) == 5
    assert layers["conv2d_22"] is model.head
    assert layers["conv2d_22"].weight.shape == (5, 32, 1, 1)
    assert layers["conv2d_21"].weight.shape == (32, 32, 3, 3)
    assert layers["conv2d_1"] is model.encoder[0].conv2
    assert layers["conv2d_12"].weight.shape == (512, 1024, 3, 3)
    assert layers["conv2d_transpose"].weight.shape == (1024, 512, 2, 2)


def test_layer_before_and_after():
    model = trained()
    seen = {}
    for after in (False, True):
        model.layer("conv2d_9", after).register_forward_hook(lambda _m, _i, out, after=after: seen.update({after: out}))
    logits = model(images())
    norm = model.decoder[-1].block.norm2
    torch.testing.assert_close(seen[True], torch.relu(norm(seen[False])))
    # The head sees the tensor after BN and ReLU, and only that one decomposes the logit.
    weight, bias = model.layer("conv2d_10").weight[:, :, 0, 0], model.layer("conv2d_10").bias
    torch.testing.assert_close(torch.einsum("ck,nkyx->ncyx", weight, seen[True]) + bias[:, None, None], logits)
    assert model.layer("conv2d_10", after=True) is model.head


def test_forward_is_the_textbook_composition():
    """The definition, written out once more with functional calls for depth 1."""
    config = UNetConfig(channels=2, classes=3, depth=1, filters=2)
    model = trained(config)
    state = model.state_dict()
    x = images(channels=2, h=4, w=6)

    def conv_norm_relu(x, block, n):
        x = nn.functional.conv2d(x, state[f"{block}.conv{n}.weight"], state[f"{block}.conv{n}.bias"], padding=1)
        names = ("running_mean", "running_var", "weight", "bias")
        return torch.relu(nn.functional.batch_norm(x, *(state[f"{block}.norm{n}.{name}"] for name in names), eps=1e-5))

    skip = conv_norm_relu(conv_norm_relu(x, "encoder.0", 1), "encoder.0", 2)
    base = conv_norm_relu(conv_norm_relu(nn.functional.max_pool2d(skip, 2), "base", 1), "base", 2)
    weight, bias = state["decoder.0.transpose.weight"], state["decoder.0.transpose.bias"]
    up = torch.relu(nn.functional.conv_transpose2d(base, weight, bias, stride=2))
    out = torch.cat([up, skip], dim=1)
    out = conv_norm_relu(conv_norm_relu(out, "decoder.0.block", 1), "decoder.0.block", 2)
    expected = nn.functional.conv2d(out, state["head.weight"], state["head.bias"])
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize(("h", "w"), [(8, 12), (7, 9), (1, 1), (5, 16)])
def test_any_size_is_padded_below_and_right_with_zeros(h, w):
    model, x = trained(), images(h=h, w=w)
    padded = torch.zeros(1, 3, h + -h % 4, w + -w % 4)
    padded[:, :, :h, :w] = x
    torch.testing.assert_close(model(x), model(padded)[:, :, :h, :w])
    assert model(x).shape == (1, 5, h, w)


def test_wrong_input_or_layer_says_what_there_is():
    with pytest.raises(ValueError, match=r"expects \(n, 3, h, w\), got \(1, 25, 8, 12\)"):
        UNet(SMALL)(images(channels=25))
    with pytest.raises(KeyError, match=r"conv2d_22.*depth 2.*conv2d_10, conv2d_transpose"):
        UNet(SMALL).layer("conv2d_22")


def test_dropout_spares_the_first_block_and_the_decoder():
    model = UNet(UNetConfig(filters=2, channels=1))
    kinds = [type(block.dropout) for block in model.blocks()]
    assert kinds == [nn.Identity] + [nn.Dropout] * 5 + [nn.Identity] * 5
    model.train()
    seen = {}
    model.encoder[1].register_forward_hook(lambda _m, _i, out: seen.update(skip=out))
    model.decoder[3].block.register_forward_pre_hook(lambda _m, args: seen.update(concat=args[0]))
    model.pools[1].register_forward_pre_hook(lambda _m, args: seen.update(pooled=args[0]))
    model(images(channels=1, h=64, w=64))
    assert (seen["skip"] == 0).float().mean() > 0.5  # dropped
    assert torch.equal(seen["concat"][:, -4:], seen["skip"])  # what is skipped is the dropped tensor, after [up, ...
    assert torch.equal(seen["pooled"], seen["skip"])


def test_initial_weights_are_glorot_uniform_and_seeded():
    config, before = UNetConfig(channels=25, filters=16, depth=2), torch.get_rng_state()
    model = UNet(config, torch.Generator().manual_seed(3))
    for layer in model.keras_layers().values():
        area = layer.weight[0, 0].numel()
        bound = np.sqrt(6 / (area * (layer.in_channels + layer.out_channels)))
        peak = layer.weight.abs().max().item()
        assert peak <= bound
        assert peak > 0.9 * bound
        assert not layer.bias.any()
    twin, other = UNet(config, torch.Generator().manual_seed(3)), UNet(config, torch.Generator().manual_seed(4))
    assert torch.equal(model.head.weight, twin.head.weight)
    assert not torch.equal(model.head.weight, other.head.weight)
    assert torch.equal(before, torch.get_rng_state())


def test_no_relu_is_shared_or_in_place():
    model = UNet(SMALL)
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    assert len({id(relu) for relu in relus}) == 2 * 5 + 2
    assert not any(relu.inplace for relu in relus)
    calls = []
    for relu in relus:
        relu.register_forward_hook(lambda module, _i, _o: calls.append(id(module)))
    model(images())
    assert len(calls) == len(set(calls)) == len(relus)


def test_folded_network_gives_the_same_logits_without_normalisation():
    """Its layers keep their names, and give the normalised tensor."""
    model, x, seen = trained().double(), images().double(), {}
    model.encoder[0].norm2.register_forward_hook(lambda _m, _i, out: seen.update(whole=out))
    folded = model.folded()
    folded.layer("conv2d_1").register_forward_hook(lambda _m, _i, out: seen.update(folded=out))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(x), model(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(seen["folded"], seen["whole"], rtol=1e-10, atol=1e-10)
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(folded.folded()(x), folded(x))


@pytest.mark.parametrize(
    "wrong", [{"channels": 0}, {"depth": -1}, {"kernel": 4}, {"dropout": 1.0}, {"filters": -1}, {"norm_momentum": 0.0}]
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"UNetConfig\.{next(iter(wrong))}"):
        UNetConfig(**wrong)


def test_a_network_of_depth_0_and_kernel_1_sees_single_pixels():
    config = UNetConfig(channels=4, classes=3, depth=0, filters=6, kernel=1)
    assert (config.skips, config.base, config.last, config.head) == ((), "conv2d_1", "conv2d_1", "conv2d_2")
    assert set(receptive_field(config).values()) == {1}
    assert flops(config, (5, 7)) == 2 * 35 * (4 * 6 + 6 * 6 + 6 * 3)
    model, x = UNet(config).eval(), torch.rand(1, 4, 5, 7)
    assert list(model.units()) == ["conv2d", "conv2d_1", "conv2d_2"]
    order = torch.randperm(35, generator=torch.Generator().manual_seed(0))
    shuffled = x.flatten(2)[..., order].reshape(x.shape)
    torch.testing.assert_close(model(shuffled).flatten(2), model(x).flatten(2)[..., order])
    wide = UNet(UNetConfig(channels=4, classes=3, depth=0, filters=6)).eval()
    assert set(receptive_field(wide.config).values()) == {3, 5}


def test_captum_takes_the_network_and_its_layers_as_they_are():
    model, x, target = trained(), images().requires_grad_(), (2, 5, 3)
    (expected,) = torch.autograd.grad(model(x)[(0, *target)], x)
    torch.testing.assert_close(captum.attr.Saliency(model).attribute(x, target, abs=False), expected)
    seen, last = {}, model.layer("conv2d_9", after=True)
    last.register_forward_hook(lambda _m, _i, out: seen.update(out=out.detach()))
    found = captum.attr.LayerGradCam(model, last).attribute(x, target)[0, 0]
    # Grad-CAM of one pixel at the last layer in closed form: alpha_k = w_ck / Z (Selvaraju 2017, Vinogradova 2020).
    alpha = model.head.weight[2, :, 0, 0] / found.numel()
    torch.testing.assert_close(found, torch.einsum("k,kyx->yx", alpha, seen["out"][0]), rtol=1e-4, atol=1e-7)
