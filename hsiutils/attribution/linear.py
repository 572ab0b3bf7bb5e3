"""Linear decomposition: every logit of an image as an exact sum over bands, regions and biases.

At a given input the network is an affine map (`hsiutils.attribution.affine`), so the input may be cut into any parts
that add up to it, and the parts' contributions and the biases' add up to the logits, at every pixel and for every
class, up to rounding. This answers the open question of arXiv 2502.14416 on its terms. What it does not say: how the
logit would change if a part went away, because the gates would change with it; zero input is the silent reference.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hsiutils.attribution.affine import MEMORY, Linearisation, Site, conv_name, input_image, linearise, transpose_name
from hsiutils.attribution.capture import INPUT, full_precision
from hsiutils.attribution.closing import closed
from hsiutils.attribution.parts import Output, Parts, pushed
from hsiutils.attribution.result import Attribution, as_map
from hsiutils.attribution.targets import Target
from hsiutils.unet import UNet

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
        `hsiutils.attribution.closing` judges it, and computes in float64 where it must.

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
