"""The exact decomposition against a reference: what parts of the input add because they are not the average pixel.

The affine map of `hsiutils.attribution.affine` may be read from any origin: y = J (x - r) + (J r + biases), exactly.
With r = 0 this is `hsiutils.attribution.linear.decompose`. Inputs here are scaled to [-1, 1), so zero is half as
bright as the clip limits, which no scene holds for long; against the mean spectrum, an average pixel says nothing.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from hsiutils.attribution.affine import MEMORY, Site, linearise
from hsiutils.attribution.capture import INPUT
from hsiutils.attribution.closing import closed
from hsiutils.attribution.linear import ALL, bias_parts
from hsiutils.attribution.parts import Output, Parts, pushed
from hsiutils.attribution.reference import reference_image
from hsiutils.unet import UNet

REFERENCE = "reference"
"""Label, beside the biases, of what the reference adds."""

Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)


def decompose_from(
    model: UNet,
    x: Tensor,
    reference: ArrayLike,
    partition: ArrayLike | None = None,
    *,
    bands: bool = True,
    classes: Sequence[int] | None = None,
    over: ArrayLike | None = None,
    memory: int = MEMORY,
) -> xr.Dataset:
    """Contributions of parts of the input's distance from a reference, to every logit of one image.

    Parameters
    ----------
    x : (channels, h, w) or (1, channels, h, w).
    reference : a number, a spectrum (channels,), or an image (channels, h, w), in the input's units.
    partition, bands, classes, over, memory : as in `hsiutils.attribution.linear.decompose`.

    Returns
    -------
    Dataset
        As `decompose`; `bias` (layer) holds "all", the biases of all layers, and "reference", what this very affine map
        makes of the reference everywhere. It closes.
    """

    def compute(model: UNet, x: Tensor) -> xr.Dataset:
        at = linearise(model, x)
        start = reference_image(np.asarray(reference), at.image)
        parts, output = Parts.of(at.image, partition, bands), Output.of(at, classes, over)
        constant = output.keep(at.push({Site(INPUT): start[None]}, output.classes))
        bias = [bias_parts(at, output, "sum"), output.named(constant, {"layer": [REFERENCE]})]
        return xr.Dataset(
            {
                "contribution": output.named(pushed(at, parts, at.image - start, output, memory), parts.coords),
                "bias": xr.concat(bias, dim="layer").assign_coords(layer=[ALL, REFERENCE]),
                "logit": output.named(output.keep(at.logits[None, list(output.classes)])),
            }
        )

    return closed(compute, model, x)


def margins(found: Labelled) -> Labelled:
    """Each class less the mean of the others, along `class`.

    A number added to all logits of a pixel changes no prediction and no loss, so training leaves it undetermined; only
    differences between classes are said. They are linear, so parts that add up to logits add up to margins too.

    Raises
    ------
    ValueError
        If there are fewer than two classes.
    """
    count = found.sizes.get("class", 0)
    if count < 2:
        raise ValueError(f"a margin needs at least two classes, got {count}")
    return found - (found.sum("class", skipna=False) - found) / (count - 1)
