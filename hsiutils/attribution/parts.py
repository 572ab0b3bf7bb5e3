"""How an input is cut into parts, and what is kept of the logits that they contribute to."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hsiutils.attribution.affine import Linearisation, Site
from hsiutils.attribution.capture import INPUT, full_precision
from hsiutils.attribution.targets import class_name, class_number

Coords = Mapping[str, Sequence[Hashable] | NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Parts:
    """A cut of an image (channels, h, w) into bands, regions, or both: the parts add up to the image.

    Attributes
    ----------
    bands : number of bands, or 1 if all bands stay together.
    codes : (h, w) number of each pixel's region, 0..regions-1.
    coords : part axes in their order, with the label of each band and region.
    """

    bands: int
    codes: Tensor
    coords: Coords

    @classmethod
    def of(cls, image: Tensor, partition: ArrayLike | None, bands: bool) -> "Parts":
        """Cut by band, by the regions of an integer map (h, w), or jointly.

        Raises
        ------
        ValueError
            If the partition does not fit the image, or there is nothing to cut by.
        """
        channels, height, width = image.shape
        if partition is None and not bands:
            raise ValueError("cut the input by bands, by a partition, or by both: neither was asked for")
        coords: dict[str, Sequence[Hashable] | NDArray[Any]] = {"band": np.arange(channels)} if bands else {}
        codes = torch.zeros((height, width), dtype=torch.long, device=image.device)
        if partition is not None:
            coords["region"], codes = region_codes(partition, image, "partition")
        return cls(channels if bands else 1, codes, coords)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each part axis."""
        return tuple(len(labels) for labels in self.coords.values())

    def cut(self, image: Tensor, numbers: range) -> Tensor:
        """Some of the parts, counted with the last axis fastest: (len(numbers), channels, h, w)."""
        regions = len(self.coords.get("region", (0,)))
        cut = image.new_zeros((len(numbers), *image.shape))
        for row, number in enumerate(numbers):
            band, region = divmod(number, regions)
            chosen = slice(band, band + 1) if "band" in self.coords else slice(None)
            cut[row, chosen] = image[chosen] * (self.codes == region)
        return cut


@dataclass(frozen=True, eq=False)
class Output:
    """What is kept of logits (n, classes, h, w): every pixel, or the mean over target regions.

    Attributes
    ----------
    classes : channels of the logits that are computed.
    averages : (h w, targets) weights of the means; None to keep every pixel.
    coords : class and target labels.
    """

    classes: tuple[int, ...]
    averages: Tensor | None
    coords: Coords

    @classmethod
    def of(cls, at: Linearisation, classes: Sequence[int] | None, over: ArrayLike | None) -> "Output":
        """Keep some classes (None for all), at every pixel or averaged over the regions of an integer map (h, w)."""
        count = at.logits.shape[0]
        chosen = tuple(range(count)) if classes is None else tuple(class_number(number, count) for number in classes)
        coords: dict[str, Sequence[Hashable] | NDArray[Any]] = {"class": [class_name(number) for number in chosen]}
        if over is None:
            return cls(chosen, None, coords)
        coords["target"], codes = region_codes(over, at.image, "over")
        member = torch.nn.functional.one_hot(codes.flatten(), len(coords["target"])).to(at.image)
        return cls(chosen, member / member.sum(0), coords)

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes that follow the part axes."""
        return ("class", "y", "x") if self.averages is None else ("class", "target")

    def keep(self, logits: Tensor) -> NDArray[Any]:
        """(n, classes, h, w) -> the same or (n, classes, targets), on the CPU."""
        with full_precision():
            kept = logits if self.averages is None else logits.flatten(2) @ self.averages
        return np.asarray(kept.detach().cpu().numpy())

    def named(self, values: NDArray[Any], parts: Coords | None = None) -> xr.DataArray:
        """Values with the part axes in front, as a DataArray."""
        axes = parts or {}
        shaped = values.reshape(tuple(len(labels) for labels in axes.values()) + values.shape[-len(self.dims) :])
        return xr.DataArray(shaped, dims=(*axes, *self.dims), coords={**axes, **self.coords})


def pushed(at: Linearisation, parts: Parts, image: Tensor, output: Output, memory: int) -> NDArray[Any]:
    """J v for every part v of an image, blocked: (parts, *kept logits).

    Parameters
    ----------
    image : (channels, h, w) to be cut; the input itself, or its distance from a reference.
    memory : limit on working memory, bytes.
    """
    total, block = int(np.prod(parts.shape)), at.tangents_within(memory)
    blocks = [range(start, min(start + block, total)) for start in range(0, total, block)]
    return np.concatenate(
        [output.keep(at.push({Site(INPUT): parts.cut(image, numbers)}, output.classes)) for numbers in blocks]
    )


def region_codes(partition: ArrayLike, image: Tensor, what: str) -> tuple[NDArray[Any], Tensor]:
    """Labels of the regions of an integer map, ascending, and each pixel's place among them (h, w).

    Raises
    ------
    ValueError
        If the map is not of integers, or not of the image's size.
    """
    regions = np.asarray(partition)
    if not np.issubdtype(regions.dtype, np.integer) and regions.dtype != np.bool_:
        raise ValueError(f"{what} must hold integers or booleans, one number a region, got dtype {regions.dtype}")
    if regions.shape != tuple(image.shape[1:]):
        raise ValueError(f"{what} must have the image's size {tuple(image.shape[1:])}, got {regions.shape}")
    labels, codes = np.unique(regions, return_inverse=True)
    return labels, torch.as_tensor(codes.reshape(regions.shape), device=image.device)
