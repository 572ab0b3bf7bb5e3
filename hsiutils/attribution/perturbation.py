"""Attributions that ask the network again with something changed: a mask on the input, a channel or a patch removed.

They cost a forward pass a channel, patch or band, and every answer holds all logits, so that their sums at every pixel
and class (`hsiutils.attribution.sums`) cost no more. Single changes need not add up to the logit, and their sums are
handed out as they are.
"""

import captum.attr as captum
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hsiutils.attribution.cams import Seen, weighted
from hsiutils.attribution.gradients import Explained
from hsiutils.attribution.hooks import INPUT, Size, ask, full_precision, replaced, to_image
from hsiutils.attribution.linearise import input_image
from hsiutils.attribution.result import Attribution, as_map
from hsiutils.attribution.sums import Audited, Sums
from hsiutils.attribution.targets import Target, reference_image

BATCH = 16
"""Changed copies that go through the network together."""


def scorecam(seen: Seen) -> Tensor:
    """ScoreCAM (Wang 2020, arXiv 1910.01279): weights softmax_k of y(x masked by channel k).

    The mask is the channel's activation, upsampled to the image and scaled to 0..1; a channel that is the same
    everywhere masks all. The softmax takes the target as it is: for the sum of a large region's logits it picks a
    single channel, for their mean it does not. Masked means multiplied, so zero is the reference.
    """
    masks = channel_masks(seen.activation, seen.layer, *seen.sizes)
    scores = torch.cat([seen.target.value(ask(seen.model, seen.image * part)) for part in torch.split(masks, BATCH)])
    return weighted(seen, scores.softmax(0))


def ablationcam(seen: Seen) -> Tensor:
    """AblationCAM (Desai and Ramaswamy 2020): alpha_k = (y - y without channel k) / y.

    The channel is set to zero. Dividing by y turns every sign where y is negative: that is the method's definition. At
    the head's input alpha_k y is exactly the channel's contribution. There is no answer where y is zero.
    """
    without = [
        seen.target.value(logits_without(seen.model, seen.image, seen.layer, channels, seen.after))
        for channels in torch.split(torch.arange(len(seen.activation)), BATCH)
    ]
    return weighted(seen, (seen.logit - torch.cat(without)) / seen.logit)


def occlusion(
    model: nn.Module, x: Tensor, target: Target, *, patch: int = 8, reference: ArrayLike | Tensor = 0.0
) -> Attribution:
    """Occlusion by patches (Zeiler and Fergus 2014): how much y falls when all bands of a patch are replaced.

    The map (y, x) shares each patch's fall evenly among its pixels; its total is the sum of the falls. Patches are
    squares with sides of `patch` pixels, those at the right and lower border what is left; the reference that replaces
    them is a number, a spectrum (channels,) or an image (channels, h, w).
    """
    labels = patches(x.shape[-2], x.shape[-1], patch)
    falls, value = _falls(model, x, target, labels.expand(x.shape[-3:]), reference)
    shares = falls[0] / labels.flatten().bincount().to(falls)[labels.to(falls.device)]
    return Attribution("occlusion", INPUT, as_map(shares, ("y", "x")), value)


def patches(height: int, width: int, patch: int) -> Tensor:
    """Number of the square patch that each pixel is in, (height, width), counted in reading order."""
    if patch < 1:
        raise ValueError(f"patch must be at least 1 pixel, got {patch}")
    columns = -(-width // patch)
    return torch.arange(height)[:, None] // patch * columns + torch.arange(width) // patch


def band_occlusion(model: nn.Module, x: Tensor, target: Target, *, reference: ArrayLike | Tensor = 0.0) -> Attribution:
    """How much y falls when one band of the whole image is replaced: map (band,); `reference` as in `occlusion`."""
    labels = torch.arange(x.shape[-3])[:, None, None].expand(x.shape[-3:])
    falls, value = _falls(model, x, target, labels, reference)
    return Attribution("band occlusion", INPUT, as_map(falls[:, 0, 0], ("band",)), value)


def _falls(
    model: nn.Module, x: Tensor, target: Target, labels: Tensor, reference: ArrayLike | Tensor
) -> tuple[Tensor, float]:
    """At every element (channels, h, w), how much y falls when all elements of its label are replaced; and y."""
    explained, image = Explained(model, target), input_image(model, x)
    start = reference_image(reference, image)
    with full_precision(), torch.no_grad():
        falls: Tensor = captum.FeatureAblation(explained).attribute(
            image[None], start[None], feature_mask=labels[None].to(image.device), perturbations_per_eval=BATCH
        )
    return falls[0], explained.at(image)


def logits_without(model: nn.Module, image: Tensor, layer: str, channels: Tensor, after: bool = True) -> Tensor:
    """Logits (n, classes, h, w) of an image (bands, h, w) with one channel of a layer set to zero, for each of n."""

    def remove(output: Tensor) -> Tensor:
        output = output.clone()
        output[range(len(channels)), channels] = 0
        return output

    with replaced(model, layer, remove, after):
        return ask(model, image.expand(len(channels), -1, -1, -1))


def channel_masks(activation: Tensor, layer: str, padded: Size, image: Size) -> Tensor:
    """Every channel (k, h', w') of a layer upsampled to the image and scaled to 0..1, (k, 1, h, w)."""
    values = activation[:, None]  # (k, 1, h', w')
    if layer != INPUT:
        values = to_image(values, padded, image)
    low = values.amin((1, 2, 3), keepdim=True)
    spread = values.amax((1, 2, 3), keepdim=True) - low
    return torch.where(spread == 0, 0, (values - low) / spread)


def ablationcam_sums(image: Audited, layer: str) -> Sums:
    """AblationCAM: one forward pass a channel."""
    masses, pixels = image.masses(layer), torch.zeros_like(image.logits)
    for numbers in image.blocks(len(masses)):
        falls = image.logits - logits_without(image.model, image.image, layer, numbers, image.after)
        # (k,), (k, classes, h, w) -> (classes, h, w)
        pixels += torch.einsum("k,kcyx->cyx", masses[numbers], falls)
    return Sums(pixels / image.logits, image.over_regions(pixels) / image.over_regions(image.logits))


def scorecam_sums(image: Audited, layer: str) -> Sums:
    """ScoreCAM: one forward pass a channel; the softmax over channels is taken along the way."""
    height, width = image.image.shape[1:]
    masks = channel_masks(image.seen[layer], layer, image.padded, (height, width))
    masses = image.masses(layer)
    pixels, regions = _SoftmaxMean(image.logits), _SoftmaxMean(image.logits.sum((1, 2)))
    for numbers in image.blocks(len(masses)):
        scores = ask(image.model, image.image * masks[numbers])
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


def occlusion_sums(image: Audited, layer: str, patch: int = 8) -> Sums:
    """The falls of every logit when one patch after the other becomes zero."""
    height, width = image.image.shape[1:]
    return image.linear(_summed_falls(image, patches(height, width, patch)))


def band_occlusion_sums(image: Audited, layer: str) -> Sums:
    """The falls of every logit when one band after the other becomes zero."""
    return image.linear(_summed_falls(image, torch.arange(len(image.image))[:, None, None]))


def _summed_falls(image: Audited, labels: Tensor) -> Tensor:
    """Sum over the labels of what every logit loses when the input is zero there, (classes, h, w)."""
    labels, total = labels.to(image.image.device), torch.zeros_like(image.logits)
    for numbers in image.blocks(int(labels.max()) + 1):
        kept = image.image * (labels != numbers[:, None, None, None])
        total += (image.logits - ask(image.model, kept)).sum(0)
    return total
