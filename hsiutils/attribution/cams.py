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

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.attribution.head import head_at
from hsiutils.attribution.hooks import (
    INPUT,
    Size,
    activations,
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
        return _sizes(self.model, self.image)


Rule = Callable[[Seen], Tensor]
"""Map (h', w') of a layer."""


def _sizes(model: nn.Module, image: Tensor) -> tuple[Size, Size]:
    _, height, width = image.shape
    return padded_size(model, (height, width)), (height, width)


def cam_map(
    rule: Rule,
    model: nn.Module,
    x: Tensor,
    target: Target,
    layer: str | None = None,
    *,
    after: bool = True,
    **shown: bool,
) -> Attribution:
    """The map of a rule, by one forward and one backward pass.

    The map (y, x) is on the layer's own, padded grid unless upsampled.

    Parameters
    ----------
    layer : Keras name of a `UNet`, torch name of another network, or "input"; None for the last convolution before the
        head, of another network for the last layer before the logits.
    after : take the layer after batch normalisation and ReLU; else as Keras calls `get_layer(name).output`.
    **shown : `relu` to set what speaks against the target to zero; `upsample`, bilinear, to the image's size, where the
        sum grows with the ratio of the pixels; `normalise` to divide by the largest absolute value: zero stays zero,
        signs stay. None of these unless it is asked for.

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
    return Attribution(rule.__name__, name, _shown(values, name, seen.sizes, **shown), logit)


def _shown(
    values: Tensor,
    layer: str,
    sizes: tuple[Size, Size],
    *,
    relu: bool = False,
    normalise: bool = False,
    upsample: bool = False,
) -> xr.DataArray:
    """A map (h', w') rectified, upsampled, rescaled where that is asked for."""
    if relu:
        values = values.clamp_min(0)
    if upsample and layer != INPUT:
        values = to_image(values[None, None], *sizes)[0, 0]  # (h', w') -> (1, 1, h', w') -> (h, w)
    if normalise and values.any():
        values = values / values.abs().max()
    return as_map(values, ("y", "x"))


def _layer(model: nn.Module, image: Tensor, layer: str | None) -> str:
    """The layer that is asked for, if a map can be taken there, or the usual one."""
    if layer is None:
        return usual_layers(model, image)[-1]
    if layer == INPUT or isinstance(model, UNet):
        return layer
    layer_of(model, layer)
    if layer not in (sizes := layer_sizes(model, image)):
        raise ValueError(
            f"no map at {layer!r}: the network must call it once, and it must put out one tensor (n, channels, h', "
            f"w'), as {', '.join(sizes)}"
        )
    return layer


def weighted(seen: Seen, weights: Tensor) -> Tensor:
    """Sum over the channels of weight (k,) times activation (k, h', w'): (h', w')."""
    return torch.einsum("k,kyx->yx", weights, seen.activation)


def cam(
    model: nn.Module, x: Tensor, target: Target, layer: str | None = None, *, after: bool = True, **shown: bool
) -> Attribution:
    """CAM for segmentation: y_c(p) = b_c + sum_k w_ck A_k(p), summed as the target weighs the logits.

    The reliable explanation that arXiv 2502.14416 proposes (activations of conv2d_21 after its ReLU, weights and bias
    of conv2d_22); after Zhou 2016. It needs no gradient, hands the bias out in `biases`, and closes. Where the logits
    are upsampled from the head's grid, the map is on that grid, and the target's weights are brought to it.

    Options are those of `cam_map`. A ValueError at any layer but the one that the head reads
    (`hsiutils.attribution.head`).
    """
    image = input_image(model, x)
    name = _layer(model, image, layer)
    head = head_at(model, image, name, after)
    if head is None:
        raise ValueError(
            f"CAM needs the layer that a 1 x 1 convolution reads, with nothing but cropping or upsampling of the "
            f"logits behind it; that is not {name!r} (after={after}) in this network. Name that layer if it has one; "
            "else take HiResCAM, whose map sums to the logit less the biases behind the layer where no ReLU follows"
        )
    logit = float(target.value(head.logits[None]))
    back = head.back(target.weights)
    with full_precision():  # (classes, k), (classes, h', w') -> (k, h', w')
        slopes = torch.einsum("ck,cyx->kyx", head.weight, back.to(head.activation))
    values = (slopes * head.activation).sum(0)
    biases = {}
    if head.bias is not None:
        share = float(back.sum((1, 2)).cpu() @ head.bias.detach().cpu().to(back.dtype))
        biases[model.config.head if isinstance(model, UNet) else head.name] = share
    return Attribution("CAM", name, _shown(values, name, _sizes(model, image), **shown), logit, biases)


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


def cam_sums(image: Audited, layer: str) -> Sums:
    """The proposal of arXiv 2502.14416: activations before the head times its weights, plus its bias."""
    head = image.head
    return image.linear(head.scores(head.activation, bias=head.bias))


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
    """LayerCAM before the head: positive weights only, at the pixels of the layer that the logit reads."""
    head = image.head
    return image.linear(head.scores(image.seen[layer] * image.counts(layer), head.weight.clamp_min(0)))


def gradcam_plus_plus_sums(image: Audited, layer: str) -> Sums:
    """GradCAM++ before the head, where the gradient of a logit at the layer is the head's weights times its reading."""
    head, pixels = image.head, torch.zeros_like(image.logits)

    def summed(reading: Tensor) -> Tensor:
        """Sum of the map for how much each class reads a pixel of the layer, (classes, n) -> (classes, n)."""
        slope = head.weight[..., None] * reading[:, None]  # (classes, k, 1), (classes, 1, n) -> (classes, k, n)
        alpha = 1 / (2 + slope * image.seen[layer].sum((1, 2))[:, None])
        with full_precision():
            return torch.einsum("ckn,k->cn", alpha * slope.clamp_min(0), image.masses(layer))

    if head.plain:  # one map a class, whatever the pixel, as for GradCAM
        each = summed(image.logits.new_ones((len(head.weight), 1)))
        return Sums(each[..., None].expand_as(image.logits), each[:, 0] * image.masks.sum((1, 2)))
    grid, places = head.activation.shape[1:], pixels.flatten(1)
    for cells in image.blocks(grid.numel()):  # of the layer, with all pixels that read them
        ones = functional.one_hot(cells, grid.numel()).to(pixels).view(-1, 1, *grid)
        read = head.spread(ones.expand(-1, len(pixels), -1, -1))[:, 0].flatten(1)  # (n, h w)
        values, which = torch.unique(read[read != 0], return_inverse=True)
        each = summed(values.expand(len(pixels), -1))
        places.index_add_(1, read.nonzero()[:, 1], each[:, which])
    return Sums(pixels, summed(head.back(image.masks).flatten(1)).sum(1))


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
    if image.after and image.is_last(layer) and image.found and image.head.plain:
        # One map a class, whatever the pixel: alpha = w / Z, and |M| times that for a region of |M| pixels.
        weights = image.head.weight.T / image.seen[layer][0].numel()
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
