"""The decomposition along a path from a reference spectrum: approximate where `linear` is exact, with a reference.

Integrated gradients (Sundararajan 2017) for every logit of the image at once: the tangents of `linear`, averaged over
the nodes of a Gauss-Legendre rule between the reference and the input.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from hsiutils.attribution.affine import MEMORY, linearise
from hsiutils.attribution.parts import Output, Parts, pushed
from hsiutils.attribution.reference import reference_image
from hsiutils.unet import UNet


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
