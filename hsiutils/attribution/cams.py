"""Class activation maps at any layer: weighted sums of a layer's activations.

Every method is one rule that turns a layer's activation A_k(p) and the target's gradient g_k(p) = dy/dA_k(p) into one
signed map; Z is the number of the layer's pixels. Why most cannot sum to the logit: arXiv 2502.14416 Eqs. 5-7.

What the maps of all single logits sum to (`hsiutils.attribution.sums`), with J the network's derivative from the layer:

- HiResCAM sums to J a, with the layer's activation a as the tangent: one pass. XGradCAM sums to the same.
- GradCAM's weights alpha_k(p), the mean over the layer's Z pixels of the gradient of y(p), are J applied to 1/Z all
  over channel k: one pass a channel, for all pixels p. The signed sum needs only the one tangent mean(a_k); with the
  ReLU, the sums of the rectified maps follow by a blocked matrix product.
- GradCAM++ and LayerCAM take the gradient of each single logit through a ReLU, which no one pass does for all of them;
  before the head the gradient of y_c(p) is w_ck at p and zero elsewhere, and their sums are written down at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.attribution.hooks import (
    INPUT,
    Size,
    activations,
    ask,
    frozen,
    full_precision,
    layer_of,
    layer_sizes,
    logits_of,
    padded_size,
    to_image,
)
from hsiutils.attribution.linearise import input_image, usual_layers
from hsiutils.attribution.result import Attribution, as_map
from hsiutils.attribution.sums import Audited, Sums
from hsiutils.attribution.targets import Target
from hsiutils.models.unet import UNet


@dataclass(frozen=True, eq=False)
class Seen:
    """What a rule may look at: one layer of one image (channels, h, w), and the target's gradient there.

    Activation and gradient are (k, h', w'), of the padded size; `logit` is the value of the target.
    """

    model: nn.Module
    image: Tensor
    target: Target
    layer: str
    after: bool
    activation: Tensor
    gradient: Tensor
    logit: float

    @property
    def sizes(self) -> tuple[Size, Size]:
        """(rows, columns) of the image after the network's padding, and as it is."""
        _, height, width = self.image.shape
        return padded_size(self.model, (height, width)), (height, width)


Rule = Callable[[Seen], Tensor]
"""Map (h', w') of a layer."""


def cam_map(
    rule: Rule,
    model: nn.Module,
    x: Tensor,
    target: Target,
    layer: str | None = None,
    *,
    after: bool = True,
    relu: bool = False,
    normalise: bool = False,
    upsample: bool = False,
    biases: Callable[[Seen], dict[str, float]] | None = None,
) -> Attribution:
    """The map of a rule, by one forward and one backward pass; rectified, upsampled, rescaled where that is asked for.

    The map (y, x) is on the layer's own, padded grid unless upsampled.

    Parameters
    ----------
    layer : Keras name of a `UNet`, torch name of another network, or "input"; None for the last convolution before the
        head, of another network for the last layer before the logits.
    after : take the layer after batch normalisation and ReLU; else as Keras calls `get_layer(name).output`.
    relu : set what speaks against the target to zero.
    normalise : divide by the largest absolute value; zero stays zero, signs stay.
    upsample : bilinear to the image's size; the sum grows with the ratio of the pixels.
    biases : what the method hands out beside its map, if anything.

    Raises
    ------
    KeyError, ValueError
        If there is no such layer, or it is called several times or puts out no (n, channels, h', w').
    """
    image = input_image(model, x)
    name = _layer(model, image, layer)
    with torch.enable_grad(), full_precision(), frozen(model), activations(model, [name], after, leaf=True) as layers:
        value = target.value(logits_of(model(image[None]))).sum()
        (gradient,) = torch.autograd.grad(value, layers[name])
    activation, logit = layers[name][0].detach(), float(value.detach())
    seen = Seen(model, image, target, name, after, activation, gradient[0], logit)
    with full_precision():
        values = rule(seen)
    if relu:
        values = values.clamp_min(0)
    if upsample and seen.layer != INPUT:
        values = to_image(values[None, None], *seen.sizes)[0, 0]  # (h', w') -> (1, 1, h', w') -> (h, w)
    if normalise and values.any():
        values = values / values.abs().max()
    beside = biases(seen) if biases else {}
    return Attribution(rule.__name__, seen.layer, as_map(values, ("y", "x")), seen.logit, beside)


def _layer(model: nn.Module, image: Tensor, layer: str | None) -> str:
    """The layer that is asked for, if a map can be taken there, or the usual one."""
    if isinstance(model, UNet):
        return layer or model.config.last
    if layer == INPUT:
        return layer
    sizes = layer_sizes(model, image)
    if layer is None:
        return usual_layers(model, sizes, len(ask(model, image[None])[0]))[-1]
    layer_of(model, layer)
    if layer not in sizes:
        raise ValueError(
            f"no map at {layer!r}: the network must call it once, and it must put out one tensor (n, channels, h', "
            f"w'), as {', '.join(sizes)}"
        )
    return layer


def weighted(seen: Seen, weights: Tensor) -> Tensor:
    """Sum over the channels of weight (k,) times activation (k, h', w'): (h', w')."""
    return torch.einsum("k,kyx->yx", weights, seen.activation)


def head_bias(seen: Seen) -> dict[str, float]:
    """Share of the head's bias in the target."""
    assert isinstance(seen.model, UNet)  # noqa: S101
    bias = cast(Tensor, seen.model.head.bias).detach().cpu().double()
    return {seen.model.config.head: float(seen.target.weights.sum((1, 2)).cpu() @ bias)}


def cam(seen: Seen) -> Tensor:
    """CAM for segmentation: y_c(p) = b_c + sum_k w_ck A_k(p), summed as the target weighs the logits.

    The reliable explanation that arXiv 2502.14416 proposes (activations of conv2d_21 after its ReLU, weights and bias
    of conv2d_22); after Zhou 2016. It needs no gradient, hands the bias out in `biases`, and closes. A ValueError at
    any layer but that one, and for another network than a `UNet`.
    """
    if not isinstance(seen.model, UNet):
        raise ValueError(
            "CAM reads the weights of a 1 x 1 head, which is known of a UNet alone: take HiResCAM at the last layer "
            "before the logits, which sums to the logit less the biases behind it, or the linear decomposition"
        )
    last = seen.model.config.last
    if seen.layer != last or not seen.after:
        raise ValueError(
            f"CAM reads the head's input, {last} after its ReLU, got {seen.layer!r} with "
            f"after={seen.after}: take HiResCAM at other layers"
        )
    (rows, columns), (height, width) = seen.sizes
    weights = functional.pad(seen.target.weights, (0, columns - width, 0, rows - height)).to(seen.activation)
    with full_precision():  # (classes, k), (classes, h', w') -> (k, h', w')
        slopes = torch.einsum("ck,cyx->kyx", seen.model.head.weight.detach().flatten(1), weights)
    return (slopes * seen.activation).sum(0)


def gradcam(seen: Seen) -> Tensor:
    """GradCAM (Selvaraju 2017): alpha_k = (1/Z) sum_p g_k(p), map sum_k alpha_k A_k(p).

    The mean over pixels takes the gradient away from where it was: before the head, alpha_k = w_ck / Z for every pixel,
    and the maps of all pixels are one and the same. For the summed logits of a region it is SegGradCAM (Vinogradova
    2020, arXiv 2002.11434): before the head that spreads |M| / Z of the class's map over the whole image.
    """
    return weighted(seen, seen.gradient.mean((1, 2)))


def gradcam_plus_plus(seen: Seen) -> Tensor:
    """GradCAM++ (Chattopadhay 2018): weights sum_p alpha_k(p) ReLU(g_k(p)).

    alpha_k(p) = g^2 / (2 g^2 + g^3 sum_q A_k(q)), which is 1 / (2 + g sum_q A_k(q)) where g is not zero; written so, it
    needs no guard against small numbers. The paper's score is exp(y), whose own factor is left out as everywhere.
    Before a ReLU (after=False) the denominator may come near zero.
    """
    mass = seen.activation.sum((1, 2), keepdim=True)
    alpha = torch.where(seen.gradient == 0, 0, 1 / (2 + seen.gradient * mass))
    return weighted(seen, (alpha * seen.gradient.clamp_min(0)).sum((1, 2)))


def xgradcam(seen: Seen) -> Tensor:
    """XGradCAM (Fu 2020, arXiv 2008.02312): alpha_k = sum_p g_k(p) A_k(p) / sum_p A_k(p); a silent channel has none.

    It sums to what HiResCAM sums to, wherever that was.
    """
    mass = seen.activation.sum((1, 2))
    weights = torch.where(mass == 0, 0, (seen.gradient * seen.activation).sum((1, 2)) / mass)
    return weighted(seen, weights)


def hirescam(seen: Seen) -> Tensor:
    """HiResCAM (Draelos and Carin 2020, arXiv 2011.08891): sum_k g_k(p) A_k(p), element by element.

    Seg-XRes-CAM (Hasany 2023) without its pooling window, and what the authors of arXiv 2502.14416 turned to. Before
    the head it sums to the logit less the bias.
    """
    return (seen.gradient * seen.activation).sum(0)


def layercam(seen: Seen) -> Tensor:
    """LayerCAM (Jiang 2021): sum_k ReLU(g_k(p)) A_k(p), element by element, positive gradients only."""
    return (seen.gradient.clamp_min(0) * seen.activation).sum(0)


def eigencam(seen: Seen) -> Tensor:
    """EigenCAM (Muhammad and Yeasin 2020, arXiv 2008.00299): activations on their first principal direction.

    v^T A with v the first left singular vector of A (channels x pixels), not centred, as in the paper; its sign, which
    a singular vector leaves open, is that of a positive sum. The target plays no part: the map is the same for every
    class and pixel.
    """
    return weighted(seen, _eigen_direction(seen.activation))


def _eigen_direction(activation: Tensor) -> Tensor:
    """First left singular vector (k,) of activations (k, h', w'), with the sign that makes the map's sum positive."""
    flat = activation.flatten(1).double()  # (k, h' w')
    direction: Tensor = torch.linalg.eigh(flat @ flat.T).eigenvectors[:, -1].to(activation)
    return -direction if direction @ activation.sum((1, 2)) < 0 else direction


def _headed(image: Audited, weights: Tensor, values: Tensor) -> Tensor:
    """Values (k, h', w') times the head's weights (classes, k), summed over k and cropped to the image."""
    with full_precision():  # (classes, k), (k, h', w') -> (classes, h', w')
        parts = torch.einsum("ck,kyx->cyx", weights, values)
    height, width = image.logits.shape[1:]
    return parts[:, :height, :width]


def cam_sums(image: Audited, layer: str) -> Sums:
    """The proposal of arXiv 2502.14416: activations before the head times its weights, plus its bias."""
    parts = _headed(image, image.head, image.folded(layer))
    return image.linear(parts + cast(Tensor, cast(UNet, image.model).head.bias).detach()[:, None, None])


def hirescam_sums(image: Audited, layer: str) -> Sums:
    """Elementwise gradient x activation, summed over the layer's channels and pixels."""
    tangent = image.seen[layer] * image.gains[layer][:, None, None] * image.counts(layer)
    return image.linear(image.push(tangent[None], layer)[0])


def xgradcam_sums(image: Audited, layer: str) -> Sums:
    """XGradCAM: each channel's gradient x activation, in the ratio in which upsampling changed the channel's sum."""
    values = image.seen[layer]
    plain = values.sum((1, 2))
    ratio = torch.where(plain == 0, 0, image.masses(layer) / plain) * image.gains[layer]
    return image.linear(image.push((values * ratio[:, None, None])[None], layer)[0])


def layercam_sums(image: Audited, layer: str) -> Sums:
    """LayerCAM before the head: positive weights only, at the pixel itself."""
    return image.linear(_headed(image, image.head.clamp_min(0), image.seen[layer] * image.counts(layer)))


def gradcam_plus_plus_sums(image: Audited, layer: str) -> Sums:
    """GradCAM++ before the head: one map a class, whatever the pixel, as for GradCAM."""
    weights = image.head
    alpha = 1 / (2 + weights * image.seen[layer].sum((1, 2)))
    with full_precision():
        each = (alpha * weights.clamp_min(0)) @ image.masses(layer)
    return Sums(each[:, None, None].expand_as(image.logits), each * image.masks.sum((1, 2)))


def eigencam_sums(image: Audited, layer: str) -> Sums:
    """EigenCAM: one map, whatever the class and the pixel."""
    direction = _eigen_direction(image.seen[layer])
    total = direction @ image.masses(layer)
    return Sums(total.expand_as(image.logits), total.expand(len(image.logits)))


CACHE = 1 << 17
"""Numbers in a block of the rectified product: what a processor keeps at hand."""


def signed_gradcam_sums(image: Audited, layer: str) -> Sums:
    """GradCAM without its ReLU: one tangent, constant in each channel."""
    mean = image.masses(layer) / image.seen[layer][0].numel()
    return image.linear(image.push((image.gains[layer] * mean)[None, :, None, None], layer)[0])


def gradcam_sums(image: Audited, layer: str) -> Sums:
    """GradCAM with its ReLU; of a region, SegGradCAM."""
    if image.after and layer == image.last:
        # One map a class, whatever the pixel: alpha = w / Z, and |M| times that for a region of |M| pixels.
        weights = image.head.T / image.seen[layer][0].numel()
        each = _rectified(image, layer, weights)[:, None, None].expand_as(image.logits)
        return Sums(each, _rectified(image, layer, weights * image.masks.sum((1, 2))))
    pixels = torch.empty_like(image.logits)
    regions = image.logits.new_zeros((len(image.seen[layer]), len(image.logits)))
    for classes, rows in _windows(image, len(image.seen[layer])):
        alpha = _alphas(image, layer, classes, rows)
        regions[:, classes] += (alpha * image.masks[classes, rows]).sum((2, 3))
        # (k, classes, rows, w) -> (k, targets) -> (targets,) -> (classes, rows, w)
        pixels[classes, rows] = _rectified(image, layer, alpha.flatten(1)).view(alpha.shape[1:])
    return Sums(pixels, _rectified(image, layer, regions))


def _alphas(image: Audited, layer: str, classes: list[int], rows: slice) -> Tensor:
    """GradCAM's channel weights for the logits in a window, (channels, classes, rows, w)."""
    weight = torch.diag(image.gains[layer] / image.seen[layer][0].numel())[:, :, None, None]
    block = image.at.tangents_within(image.memory // 2)
    alpha = image.logits.new_empty((len(weight), *image.logits[classes, rows].shape))
    for start in range(0, len(weight), block):
        chosen = slice(start, start + block)
        alpha[chosen] = image.push(weight[chosen], layer)[:, classes, rows]
    return alpha


def _rectified(image: Audited, layer: str, alpha: Tensor) -> Tensor:
    """Sums over the layer's pixels of ReLU(sum over k of alpha_k a_k), (targets,) for alpha (channels, targets)."""
    values, counts = image.seen[layer].flatten(1), image.counts(layer).flatten()
    total, targets = alpha.new_zeros(alpha.shape[1]), isqrt(CACHE // 2)
    side = CACHE // targets if alpha.device.type == "cpu" else len(counts)
    parts = list(zip(torch.split(values, side, 1), torch.split(counts, side), strict=True))
    with full_precision():
        for sums, rows in zip(torch.split(total, targets), torch.split(alpha.T, targets), strict=True):
            for part, often in parts:  # (targets, k) @ (k, pixels) -> (targets, pixels) -> (targets,)
                sums.addmv_((rows @ part).clamp_min_(0), often)
    return total


def _windows(image: Audited, channels: int) -> Iterator[tuple[list[int], slice]]:
    """Cut the logits into windows whose channel weights fit into half the memory."""
    classes, height, width = image.logits.shape
    fitting = image.memory // 2 // (channels * width * image.logits.element_size())
    if not fitting:
        raise ValueError(f"a memory limit of {image.memory} bytes is too small for a layer of {channels} channels")
    if fitting >= height:
        for numbers in torch.split(torch.arange(classes), fitting // height):
            yield numbers.tolist(), slice(None)
        return
    for number in range(classes):
        for start in range(0, height, fitting):
            yield [number], slice(start, start + fitting)
