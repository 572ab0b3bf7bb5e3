"""Attributions to the input by gradients and by rules of back-propagation, computed by captum.

Maps are (band, y, x), signed. A reference, where a method has one, is an argument; its own logit is handed out in
`biases`, because these methods share out the difference to it. Targets are frozen weights, so a class mask does not
move along an integration path.

captum takes an `Explained`, one number an image. Where it would hang rules on modules, it is used for LRP alone:
captum 0.9 silently misses functions, and modules that are called twice, and hangs a module's backward rule on the
tensor that the module reads, which a skip connection may carry, too, so that its DeepLIFT leaks by 1e-3 on a U-Net.
Guided BackProp and DeepLIFT are reverse passes through what `hsiutils.attribution.gates` recorded, of any network
(`hsiutils.attribution.rescale`). For LRP, which knows the layers of a `UNet` only, pooling reads a copy, and the sum
over the target is a module with a rule of its own: captum starts from the gradient of the explained number, which is
right for one logit only; here each logit starts with its own relevance.

What all maps sum to (`hsiutils.attribution.sums`): a sum of gradients is the network's derivative applied to a tangent,
one pass for all logits; an average over noisy copies, or over the nodes of a path, takes a pass a copy. Guided BackProp
and LRP send each logit back by a rule of their own: no one pass does it. DeepLIFT needs none, it sums by construction.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Literal, cast

import captum.attr as captum
import torch
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, PropagationRule
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hsiutils.attribution.cams import cam_map, gradcam
from hsiutils.attribution.decompose import gauss_legendre
from hsiutils.attribution.hooks import INPUT, ask, full_precision, logits_of
from hsiutils.attribution.linearise import input_image, linearise
from hsiutils.attribution.rescale import Chords
from hsiutils.attribution.result import REFERENCE, Attribution, as_map
from hsiutils.attribution.sums import Audited, Sums
from hsiutils.attribution.targets import Target, reference_image
from hsiutils.models.unet import UNet


class Explained(nn.Module):
    """Images (n, channels, h, w) -> the target's value for each, (n,).

    A copy, of a `UNet` with batch normalisation folded in (LRP has no use for it as a layer of its own), so that
    whatever captum does to it, interrupted or not, the model is not touched.
    """

    def __init__(self, model: nn.Module, target: Target) -> None:
        super().__init__()
        with torch.inference_mode(False):  # a tensor made in it knows no gradient
            self.network = model.folded() if isinstance(model, UNet) else copy.deepcopy(model)
            if isinstance(model, UNet) and model.head.weight.is_cpu and model.head.weight.dtype == torch.float32:
                # a third of the time less
                self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in self.network.modules():
            module.training = False
        self.network.requires_grad_(False)
        self.value = _Value(target)

    def forward(self, x: Tensor) -> Tensor:
        """Value of the target, (n,)."""
        return cast(Tensor, self.value(logits_of(self.network(x.clone()))))  # the network may write into its input

    def at(self, image: Tensor) -> float:
        """Value of the target for one image (channels, h, w)."""
        return float(ask(self, image[None]))


class _Value(nn.Module):
    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, logits: Tensor) -> Tensor:
        return self.target.value(logits)


class _PoolOfCopy(nn.Module):
    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.pool(x.clone()))


def _with_modules_of_their_own(network: UNet) -> None:
    network.pools = nn.ModuleList(_PoolOfCopy(pool) for pool in network.pools)
    for block in network.blocks():
        # What does nothing: LRP wants one use a module, which folding's Identity is not, and knows Dropout as a module
        # that hands relevance on. An Identity of its own would not do: it returns the very tensor that it was given.
        block.norm1, block.norm2, block.dropout = (nn.Dropout(0.0).eval() for _ in range(3))
    if not network.config.entrance:
        network.entrance = nn.Dropout(0.0).eval()


_DIMS = ("band", "y", "x")
LrpRule = Literal["epsilon", "gamma", "alpha1beta0"]


def gradient(model: nn.Module, x: Tensor, target: Target) -> Attribution:
    """Gradient of the target with its sign (Simonyan 2013, there absolute): (band, y, x), per unit of the input."""
    return _explain("gradient", model, x, target, lambda f, x: captum.Saliency(f).attribute(x, abs=False))


def gradient_x_input(model: nn.Module, x: Tensor, target: Target) -> Attribution:
    """Gradient times input: the input's part of the linear decomposition, without the biases."""
    return _explain("gradient x input", model, x, target, lambda f, x: captum.InputXGradient(f).attribute(x))


def guided_backprop(model: nn.Module, x: Tensor, target: Target, *, freeze: bool = False) -> Attribution:
    """Guided BackProp (Springenberg 2015): the gradient, where every ReLU also stops what is negative on the way back.

    It fails the randomisation check (Adebayo 2018; arXiv 2502.14416 section 2.1): see `hsiutils.attribution.checks`.
    `freeze` as of `hsiutils.attribution.gates.Affine`: smooth gates are refused, or held.
    """
    at = linearise(model, x, freeze=freeze)
    logit = float(target.value(at.logits[None]))
    values = as_map(at.pull(target.weights, guided=True).gradient, _DIMS)
    return Attribution("Guided BackProp", INPUT, values, logit, frozen=at.frozen)


def guided_gradcam(
    model: nn.Module, x: Tensor, target: Target, layer: str | None = None, *, freeze: bool = False
) -> Attribution:
    """Guided GradCAM (Selvaraju 2017): Guided BackProp times the rectified, upsampled GradCAM of a layer.

    The product is taken here and not by captum, which would stretch the map of a padded image instead of cropping it.
    `layer` is that of the GradCAM; None for the last convolution before the head. `freeze` as of `guided_backprop`.
    """
    guided = guided_backprop(model, x, target, freeze=freeze)
    where = cam_map(gradcam, model, x, target, layer, relu=True, upsample=True)
    values = guided.map * where.map.values  # (band, y, x) * (y, x)
    return Attribution("Guided GradCAM", where.layer, values, guided.logit, frozen=guided.frozen)


def smoothgrad(
    model: nn.Module, x: Tensor, target: Target, *, samples: int = 16, noise: float = 0.15, seed: int = 0
) -> Attribution:
    """SmoothGrad (Smilkov 2017): the mean gradient of noisy copies of the input.

    `noise`, a standard deviation as a share of the input's range, is drawn from `seed` and leaves torch's state alone.
    """
    if samples < 1 or noise < 0:
        raise ValueError(f"SmoothGrad needs samples >= 1 and noise >= 0, got {samples} and {noise}")

    def mean(explained: Explained, x: Tensor) -> Tensor:
        spread = noise * float((x.max() - x.min()).detach())
        options = {"nt_samples": samples, "nt_samples_batch_size": 1, "stdevs": spread}
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):  # captum draws from the global generator
            torch.manual_seed(seed)
            return cast(Tensor, captum.NoiseTunnel(captum.Saliency(explained)).attribute(x, abs=False, **options))

    return _explain("SmoothGrad", model, x, target, mean)


def integrated_gradients(
    model: nn.Module, x: Tensor, target: Target, *, reference: ArrayLike | Tensor = 0.0, nodes: int = 32
) -> Attribution:
    """Integrated Gradients (Sundararajan 2017) by Gauss-Legendre quadrature; completeness improves with the nodes.

    The path starts at the reference, a number, a spectrum (channels,) or an image (channels, h, w).
    """
    if nodes < 1:
        raise ValueError(f"nodes must be at least 1, got {nodes}")
    options = {"n_steps": nodes, "method": "gausslegendre", "internal_batch_size": 1}
    integrate = lambda f, x, start: captum.IntegratedGradients(f).attribute(x, start, **options)  # noqa: E731
    return _explain("Integrated Gradients", model, x, target, integrate, reference)


def deeplift(model: nn.Module, x: Tensor, target: Target, *, reference: ArrayLike | Tensor = 0.0) -> Attribution:
    """DeepLIFT, rescale rule (Shrikumar 2017): exact shares of the difference to the reference's logit.

    The reference is a number, a spectrum (channels,) or an image (channels, h, w). Smooth functions of single numbers
    have their chord as well; a NotPiecewiseLinear for products of two tensors, softmax and the like.
    """
    image = input_image(model, x)
    start = reference_image(reference, image)
    chords = Chords(model.folded() if isinstance(model, UNet) else model, start, image)
    before, after = target.value(chords.logits).tolist()
    values = chords.pull(target.weights).gradient * (image - start)
    return Attribution("DeepLIFT", INPUT, as_map(values, _DIMS), after, {REFERENCE: before})


def lrp(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    rule: LrpRule = "epsilon",
    epsilon: float = 1e-9,
    gamma: float = 0.25,
) -> Attribution:
    """Layer-wise relevance propagation (Bach 2015): every layer shares its relevance out among its inputs.

    Max-pooling passes relevance to what it picked, and batch normalisation is folded in. With the epsilon rule and a
    small epsilon a ReLU network gives gradient x input (Ancona 2018). Relevance that a bias takes is not handed on.

    Parameters
    ----------
    rule : of the convolutions and transposed convolutions; the head always has the epsilon rule, and so has the first
        layer: gamma and alpha1beta0 take what a layer reads for positive, and the input is not.
    epsilon : added to denominators, away from zero.
    gamma : of the gamma rule: how much positive weights are favoured.
    """
    rules: dict[str, Callable[[], PropagationRule]] = {
        "epsilon": lambda: EpsilonRule(epsilon),
        "gamma": lambda: GammaRule(gamma),
        "alpha1beta0": Alpha1_Beta0_Rule,
    }
    if rule not in rules:
        raise ValueError(f'LRP rule must be "epsilon", "gamma" or "alpha1beta0", got {rule!r}')
    if not isinstance(model, UNet):
        raise ValueError(
            "LRP needs a rule for every layer, and has them for a UNet alone: take gradient x input, which LRP epsilon "
            "is on a network of ReLUs (Ancona 2018), or the linear decomposition"
        )

    def propagate(explained: Explained, x: Tensor) -> Tensor:
        network = explained.network
        assert isinstance(network, UNet)  # noqa: S101
        _with_modules_of_their_own(network)
        ruled = set(network.keras_layers().values()) - {network.head, next(network.blocks()).conv1}
        for module in explained.modules():  # captum lets relevance pass through ReLU and Dropout
            if not list(module.children()) and not isinstance(module, nn.ReLU | nn.Dropout):
                module.rule = rules[rule if module in ruled else "epsilon"]()
        return cast(Tensor, captum.LRP(explained).attribute(x))

    return _explain(f"LRP {rule}", model, x, target, propagate)


def _explain(
    method: str,
    model: nn.Module,
    x: Tensor,
    target: Target,
    compute: Callable[..., Tensor],
    reference: ArrayLike | Tensor | None = None,
) -> Attribution:
    """What captum computes of (explained, image) or (explained, image, reference), images being batches of one."""
    explained, image = Explained(model, target), input_image(model, x)
    start = None if reference is None else reference_image(reference, image)
    with full_precision(), warnings.catch_warnings():
        # captum says each time that it sets hooks and will remove them
        warnings.filterwarnings("ignore", message="Setting (forward|backward)", category=UserWarning)
        leaf = image[None].clone().requires_grad_()  # made here, since a tensor of inference mode knows no gradient
        values = compute(explained, leaf) if start is None else compute(explained, leaf, start[None])
    biases = {} if start is None else {REFERENCE: explained.at(start)}
    return Attribution(method, INPUT, as_map(values[0], _DIMS), explained.at(image), biases)


def gradient_x_input_sums(image: Audited, layer: str) -> Sums:
    """The input's part of the linear decomposition."""
    return image.linear(image.push(image.image[None], INPUT)[0])


def gradient_sums(image: Audited, layer: str) -> Sums:
    """The sum of the gradient's entries: what an input brighter by one everywhere would add, were the map affine."""
    return image.linear(image.push(torch.ones_like(image.image)[None], INPUT)[0])


def smoothgrad_sums(image: Audited, layer: str, samples: int = 16, noise: float = 0.15, seed: int = 0) -> Sums:
    """The mean over noisy copies of the same, `hsiutils.attribution.gradients.smoothgrad`'s own copies."""
    # In single precision whatever the image is in: so captum draws them, and these must be the same.
    scale = noise * float(image.image.max() - image.image.min())
    spread = torch.full(image.image.shape, scale, device=image.image.device)
    draw = torch.Generator(image.image.device).manual_seed(seed)
    copies = (image.image + torch.normal(0, spread, generator=draw) for _ in range(samples))
    return image.linear(image.averaged(copies, [1 / samples] * samples, torch.ones_like(image.image)))


def integrated_gradients_sums(image: Audited, layer: str, nodes: int = 32) -> Sums:
    """From zero input along the straight path, with the logit of zero input, which the method hands out beside."""
    start = ask(image.model, torch.zeros_like(image.image)[None])[0]
    places, weights = zip(*gauss_legendre(nodes), strict=True)
    return image.linear(start + image.averaged((place * image.image for place in places), weights, image.image))
