"""Linear decomposition: every logit of an image as an exact sum over bands, regions and biases.

At a given input the network is an affine map (`hsiutils.attribution.linearise`), so the input may be cut into any parts
that add up to it, and the parts' contributions and the biases' add up to the logits, at every pixel and for every
class, up to rounding. This answers the open question of arXiv 2502.14416 on its terms. What it does not say: how the
logit would change if a part went away, because the gates would change with it; zero input is the silent reference.

The exact decomposition against a reference: what parts of the input add because they are not the average pixel.

The affine map of `hsiutils.attribution.linearise` may be read from any origin: y = J (x - r) + (J r + biases), exactly.
With r = 0 this is `hsiutils.attribution.decompose.decompose`. Inputs here are scaled to [-1, 1), so zero is half as
bright as the clip limits, which no scene holds for long; against the mean spectrum, an average pixel says nothing.

The decomposition along a path from a reference spectrum: approximate where `linear` is exact, with a reference.

Integrated gradients (Sundararajan 2017) for every logit of the image at once: the tangents of `linear`, averaged over
the nodes of a Gauss-Legendre rule between the reference and the input.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hsiutils.attribution.hooks import INPUT, full_precision
from hsiutils.attribution.linearise import (
    MEMORY,
    Linearisation,
    Output,
    Parts,
    Site,
    conv_name,
    input_image,
    linearise,
    pushed,
    transpose_name,
)
from hsiutils.attribution.result import Attribution, as_map, closed
from hsiutils.attribution.targets import Target, reference_image
from hsiutils.models.unet import UNet

Biases = Literal["sum", "layers"]
ALL = "all"
"""Label of the bias part where the layers are taken together."""


def decompose(
    model: UNet,
    x: Tensor,
    partition: ArrayLike | None = None,
    *,
    bands: bool = True,
    biases: Biases = "sum",
    classes: Sequence[int] | None = None,
    over: ArrayLike | None = None,
    memory: int = MEMORY,
) -> xr.Dataset:
    """Contributions of parts of the input, and of the biases, to every logit of one image.

    Costs about one forward pass a part.

    Parameters
    ----------
    x : (channels, h, w) or (1, channels, h, w).
    partition : (h, w) integers, one number a region: label classes, sunlit and shadow, superpixels.
    bands : cut by band too, jointly with the regions if there is a partition.
    biases : "sum" takes the biases of all layers together, "layers" one by one.
    classes : channels of the logits; None for all.
    over : (h, w) integers: average over each of these target regions instead of keeping every pixel; the full result
        is then never held.
    memory : limit on working memory, bytes; the result comes on top.

    Returns
    -------
    Dataset
        `contribution` (band, region, class, y, x), with the part axes that were asked for; `bias` (layer, class, y, x);
        `logit` (class, y, x). With `over`, target stands in the place of y, x. It closes:
        `hsiutils.attribution.result` judges it, and computes in float64 where it must.

    Raises
    ------
    ValueError
        If x, a partition, a class or the memory limit does not fit, or there is nothing to cut by.
    """

    def compute(model: UNet, x: Tensor) -> xr.Dataset:
        at = linearise(model, x)
        parts, output = Parts.of(at.image, partition, bands), Output.of(at, classes, over)
        contribution = output.named(pushed(at, parts, at.image, output, memory), parts.coords)
        return _dataset(at, output, contribution, bias_parts(at, output, biases))

    return closed(compute, model, x)


def influence(
    model: UNet, x: Tensor, sources: ArrayLike, targets: ArrayLike | None = None, *, memory: int = MEMORY
) -> xr.DataArray:
    """Who feeds whom: how much each source region adds, on average, to the logits of each target region.

    Parameters
    ----------
    sources, targets : (h, w) integers, one number a region; targets None for the same as the sources.

    Returns
    -------
    DataArray
        (source, target, class). The last source, "bias", is what all biases together add, so that the sum over the
        sources is the mean logit of the target region.
    """
    found = decompose(model, x, sources, bands=False, over=sources if targets is None else targets, memory=memory)
    regions = found["contribution"].rename(region="source")
    regions = regions.assign_coords(source=regions["source"].astype(object))
    bias = found["bias"].rename(layer="source").assign_coords(source=np.array(["bias"], dtype=object))
    return xr.concat([regions, bias], dim="source").transpose("source", "target", "class")


def split_at_skips(
    model: UNet, x: Tensor, level: int = 0, *, classes: Sequence[int] | None = None, over: ArrayLike | None = None
) -> xr.Dataset:
    """Cut the network before a decoder block: what comes up from below, and what comes through the skip connections.

    Parameters
    ----------
    level : of the decoder block, 0 for the last. The skip connections of this level and above cross the cut.
    classes, over : as in `decompose`.

    Returns
    -------
    Dataset
        `contribution` (part, class, y, x), part "upsampled", "skip conv2d_1" and so on; `bias` of the layers after the
        cut, one by one; `logit`. It closes, as `decompose` does.

    Raises
    ------
    ValueError
        If there is no such level.
    """
    depth = model.config.depth
    if not 0 <= level < depth:
        raise ValueError(f"no decoder level {level} in a U-Net of depth {depth}: levels are 0..{depth - 1}")
    return closed(lambda model, x: _split(model, x, level, classes, over), model, x)


def _split(model: UNet, x: Tensor, level: int, classes: Sequence[int] | None, over: ArrayLike | None) -> xr.Dataset:
    at, depth = linearise(model, x), model.config.depth
    up = transpose_name(depth - 1 - level)
    skips = [conv_name(2 * above + 1) for above in range(level + 1)]
    seen = at.activations([up, *skips])
    sites = {"upsampled": Site(up)} | {f"skip {name}": Site(name, skip=True) for name in skips}
    output = Output.of(at, classes, over)
    values = [output.keep(at.push({site: seen[site.layer]}, output.classes)) for site in sites.values()]
    contribution = output.named(np.concatenate(values), {"part": list(sites)})
    later = [conv_name(number) for number in range(2 * (2 * depth - level), 4 * depth + 3)]
    later += [transpose_name(step) for step in range(depth - level, depth)]
    return _dataset(at, output, contribution, bias_parts(at, output, "layers", later))


def spatial(model: UNet, x: Tensor, target: Target) -> Attribution:
    """The same decomposition of one target, in space: which band of which pixel, by a single reverse pass.

    Summed over pixels it is the target's weighting of `decompose` by band; likewise for any region.

    Returns
    -------
    Attribution
        map (band, y, x): input times gradient of the folded network; biases by layer. It closes.
    """
    return closed(lambda model, x: _spatial(model, x, target), model, x)


def _spatial(model: UNet, x: Tensor, target: Target) -> Attribution:
    image = input_image(model, x).requires_grad_()
    network = model.folded().requires_grad_(True)  # also where the caller froze some of it
    layers = network.keras_layers()
    biases = [cast(Tensor, layer.bias) for layer in layers.values()]
    with torch.enable_grad(), full_precision():
        value = target.value(network(image[None]))
        gradient, *slopes = torch.autograd.grad(value.sum(), [image, *biases])
    parts = {
        name: float((slope * bias.detach()).sum()) for name, slope, bias in zip(layers, slopes, biases, strict=True)
    }
    return Attribution(
        "linear decomposition", INPUT, as_map(gradient * image, ("band", "y", "x")), float(value.detach()), parts
    )


def bias_parts(at: Linearisation, output: Output, biases: Biases, layers: Sequence[str] | None = None) -> xr.DataArray:
    """What biases add to every logit: (layer, class, y, x), or the kept form of it.

    Parameters
    ----------
    biases : "sum" for one pass with every bias in its place, "layers" for one pass a layer.
    layers : Keras names; None for all.

    Raises
    ------
    ValueError
        If `biases` is neither.
    """
    tangents = at.biases(layers)
    if biases == "sum":
        return output.named(output.keep(at.push(tangents, output.classes)), {"layer": [ALL]})
    if biases != "layers":
        raise ValueError(f'biases must be "sum" or "layers", got {biases!r}')
    values: list[NDArray[Any]] = [output.keep(at.push({site: t}, output.classes)) for site, t in tangents.items()]
    return output.named(np.concatenate(values), {"layer": [site.layer for site in tangents]})


def _dataset(at: Linearisation, output: Output, contribution: xr.DataArray, bias: xr.DataArray) -> xr.Dataset:
    logit = output.named(output.keep(at.logits[None, list(output.classes)]))
    return xr.Dataset({"contribution": contribution, "bias": bias, "logit": logit})


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
    partition, bands, classes, over, memory : as in `hsiutils.attribution.decompose.decompose`.

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


def decompose_path(
    model: UNet,
    x: Tensor,
    reference: ArrayLike,
    partition: ArrayLike | None = None,
    *,
    nodes: int = 16,
    bands: bool = True,
    classes: Sequence[int] | None = None,
    over: ArrayLike | None = None,
    memory: int = MEMORY,
) -> xr.Dataset:
    """Approximate contributions of parts of the input, against a reference.

    Parameters
    ----------
    reference : a number, a spectrum (channels,) such as the mean training spectrum, or an image (channels, h, w), in
        the input's units.
    nodes : of the quadrature; each costs what `decompose` costs. Completeness improves with the nodes, never exactly:
        the gates switch along the path, and the integrand is not smooth there.
    partition, bands, classes, over, memory : as in `decompose`.

    Returns
    -------
    Dataset
        `contribution` as in `decompose`; `logit` and `reference`, the logits of the input and of the reference image;
        `residual`, the sum of the contributions plus the reference's logit minus the logit. Attribute `completeness`:
        largest |residual| over largest |logit - reference|; zero would be complete.

    Raises
    ------
    ValueError
        If the reference does not fit the image, or nodes is not positive.
    """
    at = linearise(model, x)
    start = reference_image(reference, at.image)
    parts, output = Parts.of(at.image, partition, bands), Output.of(at, classes, over)
    away = at.image - start
    total = np.zeros(())
    for node, weight in gauss_legendre(nodes):
        along = linearise(model, start + node * away)
        total = total + weight * pushed(along, parts, away, output, memory)
    keep = list(output.classes)
    found = xr.Dataset(
        {
            "contribution": output.named(total.astype(str(at.image.dtype).removeprefix("torch.")), parts.coords),
            "logit": output.named(output.keep(at.logits[None, keep])),
            "reference": output.named(output.keep(linearise(model, start).logits[None, keep])),
        }
    )
    return _completeness(found, list(parts.coords))


def _completeness(found: xr.Dataset, axes: list[str]) -> xr.Dataset:
    change = found["logit"].astype(np.float64) - found["reference"].astype(np.float64)
    found["residual"] = found["contribution"].sum(axes, dtype=np.float64) - change
    largest = float(abs(change).max())
    found.attrs["completeness"] = float(abs(found["residual"]).max()) / largest if largest else float("nan")
    return found


def gauss_legendre(nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights of the quadrature on [0, 1].

    Raises
    ------
    ValueError
        If nodes is not positive.
    """
    if nodes < 1:
        raise ValueError(f"nodes must be at least 1, got {nodes}")
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return [(float(place + 1) / 2, float(weight) / 2) for place, weight in zip(places, weights, strict=True)]
