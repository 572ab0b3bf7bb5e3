"""Exact decomposition: every logit of an image as a sum over bands, regions and biases.

At a given input the network is an affine map (`hsiutils.attribution.gates`), so the contributions of any parts that
add up to the input, and the biases', add up to the logits, up to rounding. What this does not say: how the logit would
change if a part went away, because the gates would change with it.

The affine map may be read from any reference r: y = J (x - r) + (J r + biases), exactly. Zero is the silent reference;
inputs scaled to [-1, 1) are zero at half the clip limit, which no scene holds for long, and against the mean spectrum
an average pixel says nothing. Along the path from r to x (Integrated Gradients, Sundararajan 2017) the same is done at
the nodes of a Gauss-Legendre rule and averaged: approximate, because the gates switch along the path.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Literal, cast

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hsiutils.attribution.gates import Affine
from hsiutils.attribution.hooks import INPUT, Picker, picked
from hsiutils.attribution.linearise import MEMORY, Output, Parts, bias_names, linearise, pushed
from hsiutils.attribution.result import REFERENCE, Attribution, Decomposition, as_map, closed, dtype_name
from hsiutils.attribution.sums import Audited, Sums
from hsiutils.attribution.targets import Target, reference_image

Biases = Literal["sum", "layers"]
By = Literal["bands"] | ArrayLike | tuple[Literal["bands"], ArrayLike]
ALL = "all"
"""Label of the bias part where the layers are taken together."""


def decompose(
    model: nn.Module,
    x: Tensor,
    by: By = "bands",
    *,
    reference: ArrayLike | Tensor = 0,
    nodes: int | None = None,
    biases: Biases = "sum",
    classes: Sequence[int | str] | None = None,
    over: ArrayLike | None = None,
    memory: int = MEMORY,
    output: Picker | None = None,
    freeze: bool = False,
) -> Decomposition:
    """Contributions of parts of the input, and of the biases, to every logit of one image.

    Costs about one forward pass a part, and with `nodes` as much for each node.

    Parameters
    ----------
    model : any torch network of images (n, channels, h, w) and logits (n, classes, h', w'), in evaluation.
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
    over : (h', w') integers: average over each of these target regions instead of keeping every pixel; the full result
        is then never held.
    memory : limit on working memory, bytes; the result comes on top.
    output, freeze : as of `hsiutils.attribution.gates.Affine`, for networks that return more than logits, or have
        smooth gates; the result then says `exact` is false, and names them.

    Returns
    -------
    Decomposition
        Of the network's dtype; computed in float64 where float32 does not close.

    Raises
    ------
    NotPiecewiseLinear
        If the network has operations without a rule, or smooth gates that are not to be frozen.
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

    def exact(model: nn.Module, x: Tensor) -> Decomposition:
        at = linearise(model, x, exact=True, freeze=freeze)
        silent = isinstance(reference, int | float) and reference == 0
        start = None if silent else reference_image(reference, at.image)
        parts, kept = Parts.of(at.image, partition, bands), Output.of(at, classes, over)
        layers: dict[str, str | None] = {ALL: None}
        if biases == "layers":
            layers = {name: module for module, name in bias_names(at).items()}
        values = [kept.keep(at.bias(module)[None]) for module in layers.values()]
        bias = kept.named(np.concatenate(values), {"layer": list(layers)})
        if start is not None:
            constant = kept.keep(at.push(start[None]))
            bias = xr.concat([bias, kept.named(constant, {"layer": [REFERENCE]})], dim="layer")
        away = at.image if start is None else at.image - start
        contribution = kept.named(pushed(at, parts, away, kept, memory), parts.coords)
        return _result(at, kept, contribution, bias)

    def path(nodes: int) -> Decomposition:
        at = linearise(model, x, freeze=freeze)
        start = reference_image(reference, at.image)
        parts, kept = Parts.of(at.image, partition, bands), Output.of(at, classes, over)
        away, total = at.image - start, np.zeros(())
        rule = gauss_legendre(nodes)
        weights = iter([weight for _, weight in rule])
        for along in at.along((start + node * away for node, _ in rule), memory):
            some = list(islice(weights, len(along.logits)))
            each = (kept.keep(parts.pushed(along, away, [part] * len(some))) for part in range(len(parts)))
            total = total + np.stack([np.tensordot(some, values, 1) for values in each])
        bias = kept.named(kept.keep(linearise(model, start, freeze=freeze).logits[None]), {"layer": [REFERENCE]})
        contribution = kept.named(total.astype(dtype_name(at.image.dtype)), parts.coords)
        return _result(at, kept, contribution, bias, nodes)

    with picked(model, output):
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
    at: Affine, kept: Output, contribution: xr.DataArray, bias: xr.DataArray, nodes: int | None = None
) -> Decomposition:
    logit, computed = kept.named(kept.keep(at.logits[None])), dtype_name(at.image.dtype)
    return Decomposition(contribution, bias, logit, computed, dtype_name(at.gated), nodes, at.frozen)


def linear_decomposition(model: nn.Module, x: Tensor, target: Target, *, freeze: bool = False) -> Attribution:
    """The exact decomposition of one target, in space: which band of which pixel, by a single reverse pass.

    Summed over pixels it is the target's weighting of `decompose` by band; likewise for any region.

    The map (band, y, x) is input times gradient of the folded network; biases by layer. It closes. `freeze` as of
    `decompose`.
    """

    def reverse(model: nn.Module, x: Tensor) -> Attribution:
        at = linearise(model, x, exact=True, freeze=freeze)
        value, pulled = float(target.value(at.logits[None])), at.pull(target.weights)
        parts = {name: pulled.biases[module] for module, name in bias_names(at).items()}
        values = as_map(pulled.gradient * at.image, ("band", "y", "x"))
        return Attribution("linear decomposition", INPUT, values, value, parts, at.frozen)

    return closed(reverse, model, x)


def linear_sums(image: Audited, layer: str) -> Sums:
    """All parts of the input together, and all biases."""
    return image.linear(image.at.push(image.image[None])[0] + image.at.bias())


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
