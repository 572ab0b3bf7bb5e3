"""Gradient methods against captum on the plain network, and against what they must sum to."""

import copy
from functools import partial

import captum.attr as captum
import numpy as np
import pytest
import torch
from captum.attr._utils.lrp_rules import EpsilonRule
from networks import MASK, PLAIN, X, image, shaken
from torch import nn
from torch.nn import functional

from hsiutils.attribution import gradients
from hsiutils.attribution.lrp import lrp
from hsiutils.attribution.targets import region
from hsiutils.models.unet import UNet, UNetConfig

EVEN = image(height=16, width=20)
TARGET = region(PLAIN, X, 1, MASK)
REFERENCE = [0.3, -0.2, 0.5, 0.1]


class Plain(nn.Module):
    """What one would write to hand a network to captum."""

    def __init__(self, model: UNet, target=TARGET) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x):
        return self.target.value(self.model(x))


def peer(explainer, model, x=X, target=TARGET, **options):
    inputs = x[None].clone().requires_grad_()
    return explainer(Plain(model, target)).attribute(inputs, **options)[0].detach().numpy()


def start(x=X):
    return torch.tensor(REFERENCE, dtype=x.dtype).reshape(1, -1, 1, 1).expand(1, *x.shape).clone()


def without_biases(model):
    """No bias anywhere: every method that shares out relevance has nothing to lose."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.zero_()
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.zero_()
    return model


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (gradients.gradient, captum.Saliency, {"abs": False}),
        (gradients.gradient_x_input, captum.InputXGradient, {}),
        (gradients.guided_backprop, captum.GuidedBackprop, {}),
        (
            partial(gradients.integrated_gradients, reference=REFERENCE, nodes=8),
            captum.IntegratedGradients,
            {"baselines": start(), "n_steps": 8, "method": "gausslegendre"},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_agrees_with_captum_on_the_plain_network(ours, theirs, options):
    model = shaken()
    found = ours(model, X, TARGET)
    assert found.map.dims == ("band", "y", "x")
    assert found.layer == "input"
    np.testing.assert_allclose(found.map.values, peer(theirs, model, **options), rtol=1e-8, atol=1e-12)


def test_integrated_gradients_close_better_with_more_nodes_and_never_exactly():
    def residual(nodes):
        found = [gradients.integrated_gradients(shaken(seed=seed), X, TARGET, nodes=nodes) for seed in range(3)]
        assert not any(one.closes for one in found)
        return sum(abs(one.residual) for one in found) / sum(abs(one.logit) for one in found)

    coarse, middle, fine = residual(2), residual(16), residual(64)
    assert coarse > 3 * middle > 6 * fine
    assert fine < 1e-2


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deeplift_closes_where_captum_alone_leaks_through_the_skip_connections():
    model = shaken()
    found = gradients.deeplift(model, X, TARGET, reference=REFERENCE)
    assert found.closes
    alone = peer(captum.DeepLift, model.folded(), baselines=start())
    leak = alone.sum() + found.biases["reference"] - found.logit
    assert abs(leak) > 1e5 * found.tolerance
    assert gradients.deeplift(shaken(dtype=torch.float32), X.float(), TARGET).closes


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deeplift_is_captums_where_no_pooling_reads_a_skip_connection():
    model = shaken()
    model.pools = nn.ModuleList(nn.AvgPool2d(2) for _ in model.pools)  # captum has no rule for it and needs none
    found = gradients.deeplift(model, X, TARGET, reference=REFERENCE)
    np.testing.assert_allclose(found.map.values, peer(captum.DeepLift, model, baselines=start()), rtol=1e-7, atol=1e-11)


def test_lrp_epsilon_is_gradient_x_input_with_or_without_biases():
    for model in (shaken(), without_biases(shaken())):
        found, other = lrp(model, X, TARGET, epsilon=1e-13), gradients.gradient_x_input(model, X, TARGET)
        np.testing.assert_allclose(found.map.values, other.map.values, atol=1e-6 * np.abs(other.map.values).max())


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "alpha1beta0"])
def test_lrp_hands_on_all_relevance_where_no_bias_takes_any(rule):
    # All weights positive: no unit of alpha1beta0 is without a positive share to hand on.
    model = without_biases(shaken())
    with torch.no_grad():
        for layer in model.keras_layers().values():
            layer.weight.abs_()
    found = lrp(model, X.abs(), TARGET, rule=rule, epsilon=1e-12)
    assert found.total == pytest.approx(found.logit, rel=1e-5)


def test_lrp_gamma_of_zero_is_epsilon_and_a_large_one_is_alpha1beta0():
    model = without_biases(shaken())
    epsilon = lrp(model, X, TARGET, rule="epsilon").map.values
    small = lrp(model, X, TARGET, rule="gamma", gamma=0).map.values
    np.testing.assert_allclose(small, epsilon, atol=1e-5 * np.abs(epsilon).max())
    middle = lrp(model, X, TARGET, rule="gamma").map.values
    assert np.abs(middle - epsilon).max() > 1e-2 * np.abs(epsilon).max()
    large = lrp(model, X.abs(), TARGET, rule="gamma", gamma=1e9).map.values
    alpha = lrp(model, X.abs(), TARGET, rule="alpha1beta0").map.values
    np.testing.assert_allclose(large, alpha, atol=1e-4 * np.abs(alpha).max())


def relevance(layer, read, share, gamma, epsilon):
    """The gamma rule (Montavon 2019) by its definition: shares of a (w + gamma w+) in its sum with the bias."""
    twin = copy.deepcopy(layer)
    twin.weight.data += gamma * twin.weight.data.clamp(min=0)
    read = read.detach().requires_grad_()
    total = twin(read)
    (slope,) = torch.autograd.grad((total * (share / (total + epsilon * total.sign())).detach()).sum(), read)
    return (read * slope).detach()


def lrp_by_definition(model, x, target, gamma, epsilon=1e-9):
    """Layer by layer down a U-Net of depth 1, its first and its last layer with gamma 0."""
    network = model.folded().requires_grad_(False)
    first, base, up = network.encoder[0], network.base, network.decoder[0]
    seen = {}
    for name, layer in network.keras_layers().items():
        layer.register_forward_hook(lambda _m, args, _o, name=name: seen.update({name: args[0]}))
    share = network(x[None]) * target.weights
    back = lambda name, share, gamma=gamma: relevance(network.keras_layers()[name], seen[name], share, gamma, epsilon)  # noqa: E731
    share = back("conv2d_4", back("conv2d_5", back("conv2d_6", share, 0)))
    width = up.transpose.out_channels
    below = back("conv2d_2", back("conv2d_3", back("conv2d_transpose", share[:, :width])))
    skip = torch.relu(first.conv2(seen["conv2d_1"])).requires_grad_()
    (routed,) = torch.autograd.grad((functional.max_pool2d(skip, 2) * below).sum(), skip)
    assert base.conv1 is network.keras_layers()["conv2d_2"]
    return back("conv2d", back("conv2d_1", share[:, width:] + routed), 0)[0]


@pytest.mark.parametrize("gamma", [0.25, 2.0])
def test_lrp_gamma_is_its_definition_with_epsilon_where_the_input_may_be_negative(gamma):
    config = UNetConfig(channels=4, depth=1, filters=4)
    model, x = shaken(config), image(config, 12, 16)
    assert (x < 0).any()
    target = region(model, x, 1, torch.ones(12, 16, dtype=torch.bool))
    expected = lrp_by_definition(model, x, target, gamma).numpy()
    found = lrp(model, x, target, rule="gamma", gamma=gamma).map.values
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())
    assert np.abs(expected).min(axis=0).max() > 0  # no unit lost its relevance on the way


def test_captums_lrp_alone_is_another_method_on_a_network_with_skip_connections():
    model = without_biases(shaken()).folded()
    for module in model.modules():
        if isinstance(module, nn.Identity | nn.ConvTranspose2d):
            module.rule = EpsilonRule(1e-13)
    for block in model.blocks():
        block.norm1, block.norm2, block.dropout = nn.Dropout(0.0), nn.Dropout(0.0), nn.Dropout(0.0)
    expected = peer(captum.InputXGradient, model)
    alone = peer(captum.LRP, model)
    assert np.abs(alone - expected).max() > 0.1 * np.abs(expected).max()


def test_smoothgrad_is_the_mean_of_seeded_noisy_gradients():
    model = shaken()
    before = torch.random.get_rng_state()
    found = [gradients.smoothgrad(model, X, TARGET, samples=3, seed=seed).map.values for seed in (5, 5, 6)]
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3 * np.abs(found[0]).max()
    still = gradients.smoothgrad(model, X, TARGET, noise=0.0).map.values
    np.testing.assert_allclose(still, gradients.gradient(model, X, TARGET).map.values, rtol=1e-9)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        spread = torch.full(X.shape, 0.15 * float(np.ptp(X.numpy())))
        noisy = [X + torch.normal(0.0, spread) for _ in range(3)]
    expected = np.mean([gradients.gradient(model, x, TARGET).map.values for x in noisy], axis=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_guided_gradcam_agrees_with_captum_where_nothing_is_padded():
    model = shaken()
    target = region(PLAIN, EVEN, 1, torch.ones(16, 20, dtype=torch.bool))
    found = gradients.guided_gradcam(model, EVEN, target)
    inputs = EVEN[None].clone().requires_grad_()
    theirs = captum.GuidedGradCam(Plain(model, target), model.layer("conv2d_9", after=True)).attribute(inputs)
    assert found.layer == "conv2d_9"
    assert gradients.guided_gradcam(model, X, TARGET, "conv2d_4").map.shape == X.shape  # the padding is cropped
    np.testing.assert_allclose(found.map.values, theirs[0].detach().numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradients.smoothgrad(shaken(), X, TARGET, samples=0), "samples >= 1"),
        (lambda: gradients.smoothgrad(shaken(), X, TARGET, noise=-1), "noise >= 0"),
        (lambda: gradients.integrated_gradients(shaken(), X, TARGET, nodes=0), "nodes must be at least 1"),
        (lambda: gradients.deeplift(shaken(), X, TARGET, reference=[1.0]), r"a spectrum \(4,\)"),
        (lambda: lrp(shaken(), X, TARGET, rule="delta"), "LRP rule must be"),
        (lambda: gradients.gradient(shaken(), X.float(), TARGET), "float32"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
