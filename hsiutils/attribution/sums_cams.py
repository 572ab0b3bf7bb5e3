"""What the other class activation maps sum to at every pixel and class; the maps themselves are in `cams`.

HiResCAM sums to J a, with the layer's activation a as the tangent: one pass. XGradCAM sums to the same. AblationCAM and
ScoreCAM change something and ask again, and an answer holds every logit: one forward pass a channel, for all pixels.
GradCAM++ and LayerCAM take the gradient of each single logit through a ReLU, which no one pass does for all of them;
before the head the gradient of y_c(p) is w_ck at p and zero elsewhere, and their sums are written down at once.
"""

from typing import cast

import torch
from torch import Tensor

from hsiutils.attribution.audited import Audited, Sums
from hsiutils.attribution.cams import eigen_direction, last_layer
from hsiutils.attribution.capture import full_precision
from hsiutils.attribution.perturbation import channel_masks, logits_without


def cam(image: Audited) -> Sums:
    """The proposal of arXiv 2502.14416: activations before the head times its weights, plus its bias."""
    last = last_layer(image.model)
    with full_precision():
        parts = torch.einsum("ck,kyx->cyx", _head_weights(image), image.at.activations([last])[last][0])
    height, width = image.logits.shape[1:]
    return image.linear(parts[:, :height, :width] + cast(Tensor, image.model.head.bias).detach()[:, None, None])


def hirescam(image: Audited, layer: str) -> Sums:
    """Elementwise gradient x activation, summed over the layer's channels and pixels."""
    tangent = image.seen[layer] * image.gains[layer][:, None, None] * image.counts(layer)
    return image.linear(image.at.push({image.site(layer): tangent[None]})[0])


def xgradcam(image: Audited, layer: str) -> Sums:
    """XGradCAM: each channel's gradient x activation, in the ratio in which upsampling changed the channel's sum."""
    values = image.seen[layer]
    plain = values.sum((1, 2))
    ratio = torch.where(plain == 0, 0, image.masses(layer) / plain) * image.gains[layer]
    return image.linear(image.at.push({image.site(layer): (values * ratio[:, None, None])[None]})[0])


def layercam(image: Audited, layer: str) -> Sums:
    """LayerCAM before the head: positive weights only, at the pixel itself."""
    counts = image.counts(layer)
    with full_precision():
        parts = torch.einsum("ck,kyx->cyx", _head_weights(image).clamp_min(0), image.seen[layer] * counts)
    height, width = image.logits.shape[1:]
    return image.linear(parts[:, :height, :width])


def gradcam_plus_plus(image: Audited, layer: str) -> Sums:
    """GradCAM++ before the head: one map a class, whatever the pixel, as for GradCAM."""
    weights = _head_weights(image)
    alpha = 1 / (2 + weights * image.seen[layer].sum((1, 2)))
    with full_precision():
        each = (alpha * weights.clamp_min(0)) @ image.masses(layer)
    return Sums(each[:, None, None].expand_as(image.logits), each * image.masks.sum((1, 2)))


def eigencam(image: Audited, layer: str) -> Sums:
    """EigenCAM: one map, whatever the class and the pixel."""
    direction = eigen_direction(image.seen[layer])
    total = direction @ image.masses(layer)
    return Sums(total.expand_as(image.logits), total.expand(len(image.logits)))


def ablationcam(image: Audited, layer: str) -> Sums:
    """AblationCAM: one forward pass a channel."""
    masses, pixels = image.masses(layer), torch.zeros_like(image.logits)
    for numbers in image.blocks(len(masses)):
        falls = image.logits - logits_without(image.model, image.image, layer, numbers, image.after)
        pixels += torch.einsum("k,kcyx->cyx", masses[numbers], falls)
    return Sums(pixels / image.logits, image.over_regions(pixels) / image.over_regions(image.logits))


def scorecam(image: Audited, layer: str) -> Sums:
    """ScoreCAM: one forward pass a channel; the softmax over channels is taken along the way."""
    height, width = image.image.shape[1:]
    masks = channel_masks(image.seen[layer], layer, image.at.padded, (height, width))
    masses = image.masses(layer)
    pixels, regions = _SoftmaxMean(image.logits), _SoftmaxMean(image.logits.sum((1, 2)))
    for numbers in image.blocks(len(masses)):
        scores = image.ask(image.image * masks[numbers])
        pixels.add(scores, masses[numbers])
        regions.add(image.over_regions(scores), masses[numbers])
    return Sums(pixels.mean, regions.mean)


class _SoftmaxMean:
    """Mean of values weighted by the softmax of scores that come in blocks; nothing but running sums is held."""

    def __init__(self, like: Tensor) -> None:
        self.highest = torch.full_like(like, -torch.inf)
        self.weight, self.total = torch.zeros_like(like), torch.zeros_like(like)

    def add(self, scores: Tensor, values: Tensor) -> None:
        """Scores (n, ...) with a value each, (n,)."""
        highest = torch.maximum(self.highest, scores.amax(0))
        before, now = (self.highest - highest).exp(), (scores - highest).exp()
        self.weight = self.weight * before + now.sum(0)
        self.total = self.total * before + torch.einsum("n,n...->...", values, now)
        self.highest = highest

    @property
    def mean(self) -> Tensor:
        return self.total / self.weight


def _head_weights(image: Audited) -> Tensor:
    """(classes, channels)."""
    return image.model.head.weight.detach().flatten(1)
