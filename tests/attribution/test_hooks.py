from contextlib import nullcontext

import networks
import pytest
import torch
from networks import SMALL, hooks, shaken, untouched, used
from torch.nn import functional

from hsiutils.attribution.hooks import (
    INPUT,
    activations,
    frozen,
    full_precision,
    replaced,
    to_image,
    upsampling_weights,
)

X = networks.X[None]


def test_activations_are_those_before_and_after_normalisation_and_relu():
    model = shaken()
    block = model.encoder[0]
    with activations(model, ["conv2d"], after=False) as before, activations(model, ["conv2d", INPUT]) as after:
        model(X)
    padded = functional.pad(X, (0, 2, 0, 3))
    torch.testing.assert_close(before["conv2d"], block.conv1(padded))
    torch.testing.assert_close(after["conv2d"], block.norm1(block.conv1(padded)).relu())
    assert torch.equal(after[INPUT], X)


@pytest.mark.parametrize("name", ["conv2d_1", INPUT])
def test_a_leaf_stops_the_backward_pass_and_holds_its_gradient(name):
    model = shaken()
    with frozen(model), activations(model, [name], leaf=True) as seen:
        model(X).sum().backward()
    assert seen[name].is_leaf
    assert seen[name].grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_replaced_output_is_what_the_network_goes_on_with():
    model = shaken()
    with replaced(model, SMALL.last, torch.zeros_like):
        logits = model(X)
    torch.testing.assert_close(logits, model.head.bias[None, :, None, None].expand_as(logits))
    with replaced(model, INPUT, torch.zeros_like):
        assert torch.equal(model(X), model.eval()(torch.zeros_like(X)))


def test_replaced_reaches_both_ways_out_of_a_skip():
    model = shaken()
    with replaced(model, "conv2d_1", torch.zeros_like), activations(model, ["conv2d_2"], after=False) as seen:
        model(X)
    bias = model.encoder[1].conv1.bias
    torch.testing.assert_close(seen["conv2d_2"], bias[None, :, None, None].expand_as(seen["conv2d_2"]))


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_behind(error):
    model = used()

    def spoil(output):
        if error:
            raise error("in the middle")
        return output

    def look():
        with frozen(model), activations(model, ["conv2d", "conv2d_3", INPUT]), replaced(model, "conv2d_4", spoil):
            assert hooks(model) == 4
            assert not any(module.training for module in model.modules())
            model(X)

    with untouched(model), pytest.raises(error) if error else nullcontext():
        look()


def test_an_unknown_layer_leaves_no_hook_of_the_others():
    model = shaken()
    with untouched(model), pytest.raises(KeyError, match="conv2d_99"):
        activations(model, ["conv2d", "conv2d_99"]).__enter__()


def test_full_precision_switches_tf32_off_and_back(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    inside = []

    def work():
        with full_precision():
            inside.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert inside == [(False, False)]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("grid", [(2, 3), (4, 6), (8, 12)])
def test_weights_are_the_adjoint_of_upsampling(grid):
    values = torch.randn(1, 1, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = upsampling_weights(grid, (8, 12), (7, 10), values)
    assert (weights * values[0, 0]).sum().item() == pytest.approx(to_image(values, (8, 12), (7, 10)).sum().item())


def test_upsampling_keeps_constants_and_multiplies_sums_and_full_size_maps_are_only_cropped():
    values = torch.full((1, 1, 2, 3), 7.0)
    assert (to_image(values, (8, 12), (8, 12)) == 7).all()
    assert upsampling_weights((2, 3), (8, 12), (8, 12), values).sum() == 96
    values = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert torch.equal(to_image(values, (3, 4), (2, 3)), values[:, :, :2, :3])
