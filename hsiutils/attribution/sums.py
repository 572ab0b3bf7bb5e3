"""What a method's maps sum to at every pixel and class at once: one image under audit, and the sums found for it.

A method that explains one pixel at a time would need a backward pass for each pixel and class. Many methods' sums have
a closed form that needs one pass, a pass a channel, or a pass a changed copy of the image, for all logits together: a
function (Audited, layer, **options) -> `Sums` beside the method's map, named in `hsiutils.attribution.methods.Method`.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hsiutils.attribution.hooks import INPUT, activations, ask, upsampling_weights
from hsiutils.attribution.linearise import Linearisation, Site, input_image, linearise
from hsiutils.models.unet import UNet


class Sums(NamedTuple):
    """What a method's maps sum to, with what it hands out beside them."""

    pixels: Tensor
    """(classes, h, w), the map of each logit."""
    regions: Tensor
    """(classes,), the map of each class's region, for the sum of its logits there (SegGradCAM)."""


@dataclass(frozen=True, eq=False)
class Audited:
    """One image under audit, and the affine map at it; make it with `Audited.of`. `memory` is a limit in bytes."""

    model: UNet
    at: Linearisation
    logits: Tensor
    """(classes, h, w) of the network as it is, unfolded."""
    seen: dict[str, Tensor]
    """Layer -> (channels, h', w') activation of the network as it is."""
    gains: dict[str, Tensor]
    """Layer -> (channels,) factor between the layer's tensor and the folded network's at the same site."""
    masks: Tensor
    """(classes, h, w), 1 where a class has the largest logit."""
    after: bool
    upsample: bool
    memory: int

    @classmethod
    def of(cls, model: UNet, x: Tensor, layers: Sequence[str], after: bool, upsample: bool, memory: int) -> "Audited":
        """Look once at an image (channels, h, w); arguments as of `hsiutils.attribution.audit.audit`."""
        image = input_image(model, x)
        with activations(model, layers, after) as seen:
            logits = ask(model, image[None])[0]
        inside = {name: value[0] for name, value in seen.items()}
        # (h, w) -> (h, w, classes) -> (classes, h, w)
        masks = nn.functional.one_hot(logits.argmax(0), len(logits)).permute(2, 0, 1).to(logits)
        gains = {name: torch.ones(len(inside[name])).to(logits) for name in layers}
        if not after:
            norms = {name: unit.norm for name, unit in model.units().items() if name in gains}
            for name, norm in norms.items():
                if norm is not None:  # what it multiplies its convolution's output by, in evaluation
                    gains[name] = norm.weight.detach() * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
        at = linearise(model, image)
        if not at.closes:
            warnings.warn(
                "the network is not the affine map that its layers say at this image, such as by another activation or "
                "pooling: sums that follow from it, of GradCAM and of gradients, are of another network",
                stacklevel=3,
            )
        return cls(model, at, logits, inside, gains, masks, after, upsample, memory)

    @property
    def image(self) -> Tensor:
        """(channels, h, w)."""
        return self.at.image

    @property
    def head(self) -> Tensor:
        """Weights of the head, (classes, channels)."""
        return self.model.head.weight.detach().flatten(1)

    def site(self, layer: str) -> Site:
        """Where a tangent enters for the layer's tensor as it was asked for."""
        return Site(layer, after=self.after or layer == INPUT)

    def counts(self, layer: str) -> Tensor:
        """How often each pixel of a layer counts in the sum of its map, (h', w')."""
        values, image = self.seen[layer], self.image.shape[1:]
        if not self.upsample or layer == INPUT:
            return torch.ones_like(values[0])
        rows, columns = values.shape[1:]
        return upsampling_weights((rows, columns), self.at.padded, (image[0], image[1]), values)

    def masses(self, layer: str) -> Tensor:
        """What each channel of a layer sums to, (channels,)."""
        return (self.seen[layer] * self.counts(layer)).sum((1, 2))

    def linear(self, pixels: Tensor) -> Sums:
        """Sums of a method whose map is linear in the target: a region's is the sum of its pixels'."""
        return Sums(pixels, self.over_regions(pixels))

    def over_regions(self, logits: Tensor) -> Tensor:
        """Sum of (..., classes, h, w) over each class's region, (..., classes)."""
        return (logits * self.masks).sum((-2, -1))

    def blocks(self, count: int) -> Iterator[Tensor]:
        """Numbers 0..count-1, as many at a time as may go through the network together within the memory limit."""
        return iter(torch.split(torch.arange(count, device=self.image.device), self.at.tangents_within(self.memory)))
