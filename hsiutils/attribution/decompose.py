"""Exact decomposition: every logit of an image as a sum over bands, regions and biases.

At a given input the network is an affine map (`hsiutils.attribution.linearise`), so the contributions of any parts that
add up to the input, and the biases', add up to the logits, up to rounding. What this does not say: how the logit would
change if a part went away, because the gates would change with it.

The affine map may be read from any reference r: y = J (x - r) + (J r + biases), exactly. Zero is the silent reference;
inputs scaled to [-1, 1) are zero at half the clip limit, which no scene holds for long, and against the mean spectrum
an average pixel says nothing. Along the path from r to x (Integrated Gradients, Sundararajan 2017) the same is done at
the nodes of a Gauss-Legendre rule and averaged: approximate, because the gates switch along the path.
"""

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from hsiutils.attribution.hooks import INPUT
from hsiutils.attribution.linearise import MEMORY, Linearisation, Output, Parts, Site, linearise, pushed
from hsiutils.attribution.result import REFERENCE, Attribution, Decomposition, as_map, closed, dtype_name
from hsiutils.attribution.sums import Audited, Sums
from hsiutils.attribution.targets import Target, reference_image
from hsiutils.models.unet import UNet

Biases = Literal["sum", "layers"]
By = Literal["bands"] | ArrayLike | tuple[Literal["bands"], ArrayLike]
ALL = "all"
"""Label of the bias part where the layers are taken together."""


def decompose(
    model: UNet,
    x: Tensor,
    by: By = "bands",
    *,
    reference: ArrayLike | Tensor = 0,
    nodes: int | None = None,
    biases: Biases = "sum",
    classes: Sequence[int | str] | None = None,
    over: ArrayLike | None = None,
    memory: int = MEMORY,
) -> Decomposition:
    """Contributions of parts of the input, and of the biases, to every logit of one image.

    Costs about one forward pass a part, and with `nodes` as much for each node.

    Parameters
    ----------
    x : (channels, h, w) or (1, channels, h, w).
    by : "bands"; integers (h, w), one number a region (label classes, sunlit and shadow, superpixels); or both jointly,
        ("bands", regions).
    reference : a number, a spectrum (channels,) such as the mean training spectrum, or an image (channels, h, w), in
        the input's units. What is decomposed is the input's distance from it; another than 0 adds to `bias` the layer
        "reference", what this very affine map makes of the reference.
    nodes : of the path from the reference to the input; None for the exact decomposition at the input. Completeness
        improves with the nodes, never exactly. The only `bias` then is "reference", the reference's own logits.
    biases : "sum" takes the biases of all layers together, "layers" one by one.
    classes : names or channels of the logits; None for all.
    over : (h, w) integers: average over each of these target regions instead of keeping every pixel; the full result
        is then never held.
    memory : limit on working memory, bytes; the result comes on top.

    Returns
    -------
    Decomposition
        Of the network's dtype; computed in float64 where float32 does not close.

    Raises
    ------
    ValueError
        If x, the regions, the reference, a class, the nodes or the memory limit does not fit.

    Warns
    -----
    UserWarning
        If the exact decomposition does not close in float64 either (`hsiutils.attribution.result.closed`).

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)).eval()
    >>> x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    >>> halves = torch.arange(6).expand(4, 6) // 3
    >>> found = hu.decompose(model, x, by=("bands", halves), reference=x.mean((1, 2)))
    >>> dict(found.contribution.sizes)
    {'band': 3, 'region': 2, 'class': 2, 'y': 4, 'x': 6}
    >>> found.closes
    True
    """
    bands, partition = _cut(by)
    if biases not in ("sum", "layers"):
        raise ValueError(f'biases must be "sum" or "layers", got {biases!r}')

    def exact(model: UNet, x: Tensor) -> Decomposition:
        at = linearise(model, x, exact=True)
        silent = isinstance(reference, int | float) and reference == 0
        start = None if silent else reference_image(reference, at.image)
        parts, output = Parts.of(at.image, partition, bands), Output.of(at, classes, over)
        tangents = at.biases()
        groups = {ALL: tangents} if biases == "sum" else {site.layer: {site: t} for site, t in tangents.items()}
        values = [output.keep(at.push(group, output.classes)) for group in groups.values()]
        bias = output.named(np.concatenate(values), {"layer": list(groups)})
        if start is not None:
            constant = output.keep(at.push({Site(INPUT): start[None]}, output.classes))
            bias = xr.concat([bias, output.named(constant, {"layer": [REFERENCE]})], dim="layer")
        away = at.image if start is None else at.image - start
        contribution = output.named(pushed(at, parts, away, output, memory), parts.coords)
        return _result(at, output, contribution, bias)

    def path(nodes: int) -> Decomposition:
        at = linearise(model, x)
        start = reference_image(reference, at.image)
        parts, output = Parts.of(at.image, partition, bands), Output.of(at, classes, over)
        away, total = at.image - start, np.zeros(())
        for node, weight in gauss_legendre(nodes):
            along = linearise(model, start + node * away)
            total = total + weight * pushed(along, parts, away, output, memory)
        own = linearise(model, start).logits[None, list(output.classes)]
        bias = output.named(output.keep(own), {"layer": [REFERENCE]})
        contribution = output.named(total.astype(dtype_name(at.image.dtype)), parts.coords)
        return _result(at, output, contribution, bias, nodes)

    return closed(exact, model, x) if nodes is None else path(nodes)


def _cut(by: By) -> tuple[bool, ArrayLike | None]:
    """Whether to cut by band, and the regions to cut by."""
    named = by[0] if isinstance(by, tuple) and by else by
    if not isinstance(named, str):
        return False, cast(ArrayLike, by)
    if named != "bands" or (isinstance(by, tuple) and len(by) != 2):
        raise ValueError(f'decompose by "bands", by regions (h, w), or by ("bands", regions), got {by!r}')
    return True, cast(ArrayLike, by[1]) if isinstance(by, tuple) else None


def _result(
    at: Linearisation, output: Output, contribution: xr.DataArray, bias: xr.DataArray, nodes: int | None = None
) -> Decomposition:
    logit = output.named(output.keep(at.logits[None, list(output.classes)]))
    return Decomposition(contribution, bias, logit, dtype_name(at.image.dtype), dtype_name(at.gated), nodes)


def linear_decomposition(model: UNet, x: Tensor, target: Target) -> Attribution:
    """The exact decomposition of one target, in space: which band of which pixel, by a single reverse pass.

    Summed over pixels it is the target's weighting of `decompose` by band; likewise for any region.

    The map (band, y, x) is input times gradient of the folded network; biases by layer. It closes.
    """

    def reverse(model: UNet, x: Tensor) -> Attribution:
        at = linearise(model, x, exact=True)
        value, slopes = float(target.value(at.logits[None])), at.pull(target.weights)
        gradient = slopes.pop(Site(INPUT))
        biases = {site.layer: bias.flatten() for site, bias in at.biases().items()}
        parts = {site.layer: float((slope * biases[site.layer]).sum()) for site, slope in slopes.items()}
        return Attribution("linear decomposition", INPUT, as_map(gradient * at.image, ("band", "y", "x")), value, parts)

    return closed(reverse, model, x)


def linear_sums(image: Audited, layer: str) -> Sums:
    """All parts of the input together, and all biases."""
    by_input = image.at.push({Site(INPUT): image.image[None]})[0]
    return image.linear(by_input + image.at.push(image.at.biases())[0])


def margins(found: xr.DataArray) -> xr.DataArray:
    """Each class less the mean of the others, along `class`.

    A number added to all logits of a pixel changes no prediction and no loss, so training leaves it undetermined; only
    differences between classes are said. They are linear, so parts that add up to logits add up to margins too. A
    ValueError if there are fewer than two classes.
    """
    count = found.sizes.get("class", 0)
    if count < 2:
        raise ValueError(f"a margin needs at least two classes, got {count}")
    return found - (found.sum("class", skipna=False) - found) / (count - 1)


def gauss_legendre(nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights of the quadrature on [0, 1]."""
    if nodes < 1:
        raise ValueError(f"nodes must be at least 1, got {nodes}")
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return [(float(place + 1) / 2, float(weight) / 2) for place, weight in zip(places, weights, strict=True)]
