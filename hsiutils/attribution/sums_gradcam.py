"""What GradCAM's maps sum to at every pixel and class, with and without its ReLU (Selvaraju 2017; Vinogradova 2020).

GradCAM's weights alpha_k(p), the mean over the layer's Z pixels of the gradient of y(p), are J applied to 1/Z all over
channel k: one pass a channel, for all pixels p. The signed sum needs only the one tangent mean(a_k); with the ReLU, the
sums of the rectified maps follow by a blocked matrix product. At the last convolution J is the head, alpha = w / Z
whatever the pixel, and there is one map for all pixels.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from hsiutils.attribution.audited import Audited, Sums
from hsiutils.attribution.cams import last_layer
from hsiutils.attribution.capture import full_precision

CACHE = 1 << 20
"""Numbers in a block of the rectified product: about what a processor keeps at hand."""


def signed_gradcam(image: Audited, layer: str) -> Sums:
    """GradCAM without its ReLU: one tangent, constant in each channel."""
    mean = image.masses(layer) / image.seen[layer][0].numel()
    return image.linear(image.at.push({image.site(layer): (image.gains[layer] * mean)[None, :, None, None]})[0])


def gradcam(image: Audited, layer: str) -> Sums:
    """GradCAM with its ReLU; of a region, SegGradCAM."""
    if image.after and layer == last_layer(image.model):
        return _before_head(image, layer)
    pixels = torch.empty_like(image.logits)
    regions = image.logits.new_zeros((len(image.seen[layer]), len(image.logits)))
    for classes, rows in windows(image, len(image.seen[layer])):
        alpha = _alphas(image, layer, classes, rows)
        regions[:, classes] += (alpha * image.masks[classes, rows]).sum((2, 3))
        pixels[classes, rows] = _rectified(image, layer, alpha.flatten(1)).view(alpha.shape[1:])
    return Sums(pixels, _rectified(image, layer, regions))


def _before_head(image: Audited, layer: str) -> Sums:
    """One map a class, whatever the pixel: alpha = w / Z, and |M| times that for a region of |M| pixels."""
    alpha = image.model.head.weight.detach().flatten(1).T / image.seen[layer][0].numel()
    pixels = _rectified(image, layer, alpha)[:, None, None].expand_as(image.logits)
    return Sums(pixels, _rectified(image, layer, alpha * image.masks.sum((1, 2))))


def _alphas(image: Audited, layer: str, classes: list[int], rows: slice) -> Tensor:
    """GradCAM's channel weights for the logits in a window, (channels, classes, rows, w)."""
    weight = torch.diag(image.gains[layer] / image.seen[layer][0].numel())[:, :, None, None]
    block = image.at.tangents_within(image.memory // 2)
    alpha = image.logits.new_empty((len(weight), *image.logits[classes, rows].shape))
    for start in range(0, len(weight), block):
        chosen = slice(start, start + block)
        alpha[chosen] = image.at.push({image.site(layer): weight[chosen]}, classes)[:, :, rows]
    return alpha


def _rectified(image: Audited, layer: str, alpha: Tensor) -> Tensor:
    """Sums over the layer's pixels of ReLU(sum over k of alpha_k a_k), (targets,) for alpha (channels, targets)."""
    values, counts = image.seen[layer].flatten(1), image.counts(layer).flatten()
    block = max(1, min(CACHE, image.memory // (4 * alpha.element_size())) // len(counts))
    with full_precision():
        return torch.cat([(rows @ values).clamp_min_(0) @ counts for rows in torch.split(alpha.T, block)])


def windows(image: Audited, channels: int) -> Iterator[tuple[list[int], slice]]:
    """Cut the logits into windows whose channel weights fit into half the memory.

    Raises
    ------
    ValueError
        If the memory limit is too small for one row.
    """
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
