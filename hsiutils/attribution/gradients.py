"""Attributions to the input by gradients and by rules of back-propagation, computed by captum.

Maps are (band, y, x), signed. A reference, where a method has one, is an argument; its own logit is handed out in
`biases`, because these methods share out the difference to it. Targets are frozen weights, so a class mask does not
move along an integration path.

captum takes an `Explained`, one number an image. Where it would hang rules on modules, it is not used: captum 0.9
silently misses functions, and modules that are called twice, and hangs a module's backward rule on the tensor that the
module reads, which a skip connection may carry, too, so that its DeepLIFT leaks by 1e-3 on a U-Net. Its LRP starts from
the gradient of the explained number, which is right for one logit only. Guided BackProp, DeepLIFT
(`hsiutils.attribution.rescale`) and LRP (`hsiutils.attribution.lrp`) are reverse passes through what
`hsiutils.attribution.gates` recorded, of any network.

What all maps sum to (`hsiutils.attribution.sums`): a sum of gradients is the network's derivative applied to a tangent,
one pass for all logits; an average over noisy copies, or over the nodes of a path, takes a pass a copy. Guided BackProp
and LRP send each logit back by a rule of their own: no one pass does it. DeepLIFT needs none, it sums by construction.
"""

import copy
import warnings
from collections.abc import Callable
from typing import cast

import captum.attr as captum
import torch
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

    A copy, of a `UNet` with batch normalisation folded in, so that whatever captum does to it, interrupted or not, the
    model is not touched.
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
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        """Value of the target, (n,)."""
        return self.target.value(logits_of(self.network(x.clone())))  # the network may write into its input

    def at(self, image: Tensor) -> float:
        """Value of the target for one image (channels, h, w)."""
        return float(ask(self, image[None]))


_DIMS = ("band", "y", "x")


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
