"""What a method's maps sum to at every pixel and class at once: one image under audit, and the sums found for it.

A method that explains one pixel at a time would need a backward pass for each pixel and class. Many methods' sums have
a closed form that needs one pass, a pass a channel, or a pass a changed copy of the image, for all logits together: a
function (Audited, layer, **options) -> `Sums` beside the method's map, named in `hsiutils.attribution.methods.Method`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hsiutils.attribution.gates import Affine
from hsiutils.attribution.head import Head, head_at
from hsiutils.attribution.hooks import INPUT, activations, ask, padded_size, upsampling_weights
from hsiutils.attribution.linearise import input_image, linearise, usual_layers
from hsiutils.attribution.tape import NotPiecewiseLinear
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

    model: nn.Module
    at: Affine
    logits: Tensor
    """(classes, h, w) of the network as it is, unfolded."""
    seen: dict[str, Tensor]
    """Layer -> (channels, h', w') activation of the network as it is."""
    gains: dict[str, Tensor]
    """Layer -> (channels,) factor between the layer's tensor and the folded network's at the same site."""
    masks: Tensor
    """(classes, h, w), 1 where a class has the largest logit."""
    last: str
    """The usual layer before the logits."""
    after: bool
    upsample: bool
    memory: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        x: Tensor,
        layers: Sequence[str] | None,
        after: bool,
        upsample: bool,
        memory: int,
        freeze: bool = False,
    ) -> "Audited":
        """Look once at an image (channels, h, w); arguments as of `hsiutils.attribution.audit.audit`."""
        image = input_image(model, x)
        at = linearise(model, image, freeze=freeze)
        usual = usual_layers(model, image)
        layers = usual if layers is None else layers
        with activations(model, layers, after) as seen:
            logits = ask(model, image[None])[0]
        inside = {name: value[0] for name, value in seen.items()}
        # (h, w) -> (h, w, classes) -> (classes, h, w)
        masks = nn.functional.one_hot(logits.argmax(0), len(logits)).permute(2, 0, 1).to(logits)
        gains = {name: torch.ones(len(inside[name])).to(logits) for name in layers}
        if not after and isinstance(model, UNet):
            norms = {name: unit.norm for name, unit in model.units().items() if name in gains}
            for name, norm in norms.items():
                if norm is not None:  # what it multiplies its convolution's output by, in evaluation
                    gains[name] = norm.weight.detach() * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
        return cls(model, at, logits, inside, gains, masks, usual[-1], after, upsample, memory)

    @property
    def image(self) -> Tensor:
        """(channels, h, w)."""
        return self.at.image

    @cached_property
    def found(self) -> Head | None:
        """The head that reads the last layer, if there is one; of our network, folded."""
        return head_at(self.at.model, self.image, self.last)

    @property
    def head(self) -> Head:
        """The same, where it is known that there is one."""
        assert self.found is not None  # noqa: S101
        return self.found

    def is_last(self, layer: str) -> bool:
        """Whether this layer puts out what the last one does."""
        return layer == self.last or self.at.same(layer, self.last, self.after)

    @property
    def padded(self) -> tuple[int, int]:
        """(rows, columns) of the image inside the network."""
        _, height, width = self.image.shape
        return padded_size(self.model, (height, width))

    def push(self, tangents: Tensor, layer: str) -> Tensor:
        """The derivative of every logit along tangents of a layer's tensor, as it was asked for, or of the image.

        NotPiecewiseLinear if gates are frozen: then no push is the derivative.
        """
        self._require_exact()
        return self.at.push(tangents, layer, self.after)

    def averaged(self, images: Iterable[Tensor], weights: Iterable[float], tangent: Tensor) -> Tensor:
        """The same along one tangent of the input at other images, times their weights and summed: (classes, h, w)."""
        self._require_exact()
        total, each = torch.zeros_like(self.logits), iter(weights)
        for at in self.at.along(images, self.memory):
            slopes = at.push(tangent.expand(len(at.logits), -1, -1, -1))
            total += sum(weight * slope for slope, weight in zip(slopes, each, strict=False))
        return total

    def _require_exact(self) -> None:
        if not self.at.exact:
            raise NotPiecewiseLinear(
                f"the sums of this method's maps need the network's derivative, which is not known with frozen gates "
                f"({', '.join(self.at.frozen)}): ask `attribute` for the map of one target",
                self.at.frozen,
            )

    def counts(self, layer: str) -> Tensor:
        """How often each pixel of a layer counts in the sum of its map, (h', w')."""
        values, image = self.seen[layer], self.image.shape[1:]
        if not self.upsample or layer == INPUT:
            return torch.ones_like(values[0])
        rows, columns = values.shape[1:]
        return upsampling_weights((rows, columns), self.padded, (image[0], image[1]), values)

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
