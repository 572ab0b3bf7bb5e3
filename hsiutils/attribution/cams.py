"""Class activation maps at any layer: weighted sums of a layer's activations.

Every method is one rule that turns a layer's activation A_k(p) and the target's gradient g_k(p) = dy/dA_k(p) into one
signed map; Z is the number of the layer's pixels. Nothing is rectified, rescaled or upsampled unless asked for. Which
of them sum to the logit: `Attribution.closes` says so for each map, arXiv 2502.14416 Eqs. 5-7 why most cannot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from hsiutils.attribution.hooks import INPUT, activations, frozen, full_precision, to_image
from hsiutils.attribution.linearise import conv_name, input_image
from hsiutils.attribution.result import Attribution, as_map
from hsiutils.attribution.targets import Target
from hsiutils.models.unet import UNet


@dataclass(frozen=True, eq=False)
class Seen:
    """What a rule may look at: one layer of one image, and the target's gradient there.

    Attributes
    ----------
    image : (channels, h, w).
    activation, gradient : (k, h', w') of the layer, of the padded size.
    logit : value of the target.
    """

    model: UNet
    image: Tensor
    target: Target
    layer: str
    after: bool
    activation: Tensor
    gradient: Tensor
    logit: float

    @property
    def padded(self) -> tuple[int, int]:
        """(rows, columns) of the image after the network's padding."""
        stride = self.model.config.stride
        height, width = self.image.shape[1:]
        return height + -height % stride, width + -width % stride


Rule = Callable[[Seen], Tensor]
"""Map (h', w') of a layer."""


class CamMethod(Protocol):
    """How every class activation map is called."""

    def __call__(
        self,
        model: UNet,
        x: Tensor,
        target: Target,
        layer: str | None = None,
        *,
        after: bool = True,
        relu: bool = False,
        normalise: bool = False,
        upsample: bool = False,
    ) -> Attribution:
        """One map (y, x) for one target."""
        ...


OPTIONS = """

    Parameters
    ----------
    x : (channels, h, w) or (1, channels, h, w).
    layer : Keras name, or "input"; None for the last convolution before the head.
    after : take the layer after batch normalisation and ReLU; else as Keras calls `get_layer(name).output`.
    relu : set what speaks against the target to zero.
    normalise : divide by the largest absolute value; zero stays zero, signs stay.
    upsample : bilinear to the image's size; the sum grows with the ratio of the pixels.

    Returns
    -------
    Attribution
        map (y, x) on the layer's own, padded grid unless upsampled.

    Raises
    ------
    KeyError
        If there is no such layer.
    ValueError
        If x or the target does not fit the network.
    """


def cam_method(name: str, biases: Callable[[Seen], dict[str, float]] | None = None) -> Callable[[Rule], CamMethod]:
    """Make a method with the common options of a rule; its docstring is the rule's and what the options mean.

    Parameters
    ----------
    biases : what the method hands out beside its map, if anything.
    """

    def method_of(rule: Rule) -> CamMethod:
        def method(
            model: UNet,
            x: Tensor,
            target: Target,
            layer: str | None = None,
            *,
            after: bool = True,
            relu: bool = False,
            normalise: bool = False,
            upsample: bool = False,
        ) -> Attribution:
            seen = look(model, x, target, layer, after)
            shown = show(seen, rule(seen), relu, normalise, upsample)
            beside = biases(seen) if biases else {}
            return Attribution(name, seen.layer, as_map(shown, ("y", "x")), seen.logit, beside)

        method.__name__ = method.__qualname__ = getattr(rule, "__name__", name)
        method.__module__ = rule.__module__
        method.__doc__ = (rule.__doc__ or name).rstrip() + OPTIONS
        return method

    return method_of


def last_layer(model: UNet) -> str:
    """Keras name of the last convolution before the head: conv2d_21 for a depth of 5."""
    return conv_name(4 * model.config.depth + 1)


def look(model: UNet, x: Tensor, target: Target, layer: str | None = None, after: bool = True) -> Seen:
    """Activation and gradient of one layer by one forward and one backward pass; the model stays as it was.

    Raises
    ------
    KeyError
        If there is no such layer.
    ValueError
        If x or the target does not fit the network.
    """
    name, image = last_layer(model) if layer is None else layer, input_image(model, x)
    with torch.enable_grad(), full_precision(), frozen(model), activations(model, [name], after, leaf=True) as seen:
        value = target.value(model(image[None])).sum()
        (gradient,) = torch.autograd.grad(value, seen[name])
    return Seen(model, image, target, name, after, seen[name][0].detach(), gradient[0], float(value.detach()))


def show(seen: Seen, values: Tensor, relu: bool, normalise: bool, upsample: bool) -> Tensor:
    """What was asked to be done to a map (h', w'), in this order: rectify, upsample, rescale."""
    if relu:
        values = values.clamp_min(0)
    if upsample and seen.layer != INPUT:
        height, width = seen.image.shape[1:]
        values = to_image(values[None, None], seen.padded, (height, width))[0, 0]
    if normalise and values.any():
        values = values / values.abs().max()
    return values


def weighted(seen: Seen, weights: Tensor) -> Tensor:
    """Sum over the channels of weight (k,) times activation: (h', w')."""
    return torch.einsum("k,kyx->yx", weights, seen.activation)


def head_contributions(seen: Seen) -> Tensor:
    """Sum over classes of t_c(p) w_ck A_k(p), for the target's weights t: (k, h', w')."""
    (height, width), (rows, columns) = seen.image.shape[1:], seen.padded
    weights = functional.pad(seen.target.weights, (0, columns - width, 0, rows - height)).to(seen.activation)
    with full_precision():
        slopes = torch.einsum("ck,cyx->kyx", seen.model.head.weight.detach().flatten(1), weights)
    return slopes * seen.activation


def head_bias(seen: Seen) -> dict[str, float]:
    """Share of the head's bias in the target."""
    bias = cast(Tensor, seen.model.head.bias).detach().cpu().double()
    return {conv_name(4 * seen.model.config.depth + 2): float(seen.target.weights.sum((1, 2)).cpu() @ bias)}


@cam_method("CAM", head_bias)
def cam(seen: Seen) -> Tensor:
    """CAM for segmentation: y_c(p) = b_c + sum_k w_ck A_k(p), summed as the target weighs the logits.

    The reliable explanation that arXiv 2502.14416 proposes (activations of conv2d_21 after its ReLU, weights and bias
    of conv2d_22); after Zhou 2016. It needs no gradient, hands the bias out in `biases`, and closes. A ValueError at
    any layer but that one.
    """
    if seen.layer != last_layer(seen.model) or not seen.after:
        raise ValueError(
            f"CAM reads the head's input, {last_layer(seen.model)} after its ReLU, got {seen.layer!r} with "
            f"after={seen.after}: take HiResCAM at other layers"
        )
    return head_contributions(seen).sum(0)


@cam_method("GradCAM")
def gradcam(seen: Seen) -> Tensor:
    """GradCAM (Selvaraju 2017): alpha_k = (1/Z) sum_p g_k(p), map sum_k alpha_k A_k(p).

    The mean over pixels takes the gradient away from where it was: before the head, alpha_k = w_ck / Z for every pixel,
    and the maps of all pixels are one and the same.
    """
    return weighted(seen, seen.gradient.mean((1, 2)))


@cam_method("SegGradCAM")
def seggradcam(seen: Seen) -> Tensor:
    """SegGradCAM (Vinogradova 2020, arXiv 2002.11434): the formula of GradCAM, for the summed logits of a region.

    Only the target differs, so with the same target it is GradCAM: before the head it spreads |M| / Z of the class's
    map over the whole image.
    """
    return weighted(seen, seen.gradient.mean((1, 2)))


@cam_method("GradCAM++")
def gradcam_plus_plus(seen: Seen) -> Tensor:
    """GradCAM++ (Chattopadhay 2018): weights sum_p alpha_k(p) ReLU(g_k(p)).

    alpha_k(p) = g^2 / (2 g^2 + g^3 sum_q A_k(q)), which is 1 / (2 + g sum_q A_k(q)) where g is not zero; written so, it
    needs no guard against small numbers. The paper's score is exp(y), whose own factor is left out as everywhere.
    Before a ReLU (after=False) the denominator may come near zero.
    """
    mass = seen.activation.sum((1, 2), keepdim=True)
    alpha = torch.where(seen.gradient == 0, 0, 1 / (2 + seen.gradient * mass))
    return weighted(seen, (alpha * seen.gradient.clamp_min(0)).sum((1, 2)))


@cam_method("XGradCAM")
def xgradcam(seen: Seen) -> Tensor:
    """XGradCAM (Fu 2020, arXiv 2008.02312): alpha_k = sum_p g_k(p) A_k(p) / sum_p A_k(p); a silent channel has none.

    It sums to what HiResCAM sums to, wherever that was.
    """
    mass = seen.activation.sum((1, 2))
    weights = torch.where(mass == 0, 0, (seen.gradient * seen.activation).sum((1, 2)) / mass)
    return weighted(seen, weights)


@cam_method("HiResCAM")
def hirescam(seen: Seen) -> Tensor:
    """HiResCAM (Draelos and Carin 2020, arXiv 2011.08891): sum_k g_k(p) A_k(p), element by element.

    Seg-XRes-CAM (Hasany 2023) without its pooling window, and what the authors of arXiv 2502.14416 turned to. Before
    the head it sums to the logit less the bias.
    """
    return (seen.gradient * seen.activation).sum(0)


@cam_method("LayerCAM")
def layercam(seen: Seen) -> Tensor:
    """LayerCAM (Jiang 2021): sum_k ReLU(g_k(p)) A_k(p), element by element, positive gradients only."""
    return (seen.gradient.clamp_min(0) * seen.activation).sum(0)


@cam_method("EigenCAM")
def eigencam(seen: Seen) -> Tensor:
    """EigenCAM (Muhammad and Yeasin 2020, arXiv 2008.00299): activations on their first principal direction.

    v^T A with v the first left singular vector of A (channels x pixels), not centred, as in the paper; its sign, which
    a singular vector leaves open, is that of a positive sum. The target plays no part: the map is the same for every
    class and pixel.
    """
    return weighted(seen, eigen_direction(seen.activation))


def eigen_direction(activation: Tensor) -> Tensor:
    """First left singular vector (k,) of activations (k, h', w'), with the sign that makes the map's sum positive."""
    flat = activation.flatten(1).double()
    direction: Tensor = torch.linalg.eigh(flat @ flat.T).eigenvectors[:, -1].to(activation)
    return -direction if direction @ activation.sum((1, 2)) < 0 else direction
