"""Where the borders of a scene's labels are probed, made ready once for any number of maps.

What is measured at a border is linear in the maps before it is squared and summed: differences along the border, and
differences across it. So a class's border becomes a few sparse matrices that any network's maps are multiplied by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hsiutils.analysis.borders import Border, Labels, border, sampling, step_along
from hsiutils.classes import CLASSES

REACH = 8
"""Largest distance to the border that is looked at, pixels."""

ARM = 3
"""How far (pixels) to either side of the border the contrast is taken: beyond the blur of the optics and two 3x3
convolutions, and still inside a road mark's neighbour."""

_RIM = ARM + 1
"""Pixels along the image's rim that are left out: padding shows there, and steps would leave the image."""


@dataclass(frozen=True, eq=False)
class Probe:
    """The border of one class in one scene; n pixels lie near it, m of them at it.

    Attributes
    ----------
    shape : (h, w) of the label map.
    reach : largest distance, pixels.
    places : (n,) the pixels near the border, as indices into the flattened image.
    member : (2 reach, n) which bin of distance, one pixel wide, each of them is in.
    along : (n, h w) second difference along the border, of unit variance for white noise of unit variance.
    across : (m, h w) difference across the border, outside less inside.
    """

    shape: tuple[int, int]
    reach: int
    places: NDArray[np.intp]
    member: sparse.csr_array
    along: sparse.csr_array
    across: sparse.csr_array


def border_probes(labels: Labels, classes: Sequence[str] = CLASSES, reach: int = REACH) -> dict[str, Probe]:
    """The probes of every class, by name; a class without a border has one of no pixels.

    Parameters
    ----------
    labels : (h, w) class indices with `hsiutils.classes.VOID`.
    classes : names of the indices.
    reach : largest distance, pixels.
    """
    return {name: _probe(labels, border(labels, index), reach) for index, name in enumerate(classes)}


def _probe(labels: Labels, found: Border | None, reach: int) -> Probe:
    height, width = labels.shape
    rows, columns = (np.zeros(0, np.intp),) * 2 if found is None else _near(found, reach)
    distance, direction = np.zeros(0), np.zeros((2, 0))
    if found is not None:
        distance, direction = found.distance[rows, columns], found.across[:, rows, columns]
    points, at_border = np.stack([rows, columns]).astype(float), np.abs(distance) < 1
    return Probe(
        (height, width),
        reach,
        rows * width + columns,
        _bins(np.floor(distance).astype(int) + reach, 2 * reach),
        _second_difference(points, direction, (height, width)),
        _crossing(points[:, at_border], direction[:, at_border], (height, width)),
    )


def _near(found: Border, reach: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels that are counted."""
    inner = np.zeros(found.usable.shape, dtype=bool)
    inner[_RIM:-_RIM, _RIM:-_RIM] = True
    directed = found.across.any(axis=0)
    rows, columns = np.nonzero(found.usable & inner & directed & (np.abs(found.distance) < reach))
    return rows, columns


def _bins(numbers: NDArray[np.intp], count: int) -> sparse.csr_array:
    order = np.arange(len(numbers))
    return sparse.csr_array((np.ones(len(numbers)), (numbers, order)), shape=(count, len(numbers)))


def _second_difference(
    points: NDArray[np.float64], across: NDArray[np.float64], shape: tuple[int, int]
) -> sparse.csr_array:
    step = step_along(across)
    sides = sampling(points + step, shape) + sampling(points - step, shape)
    between = np.abs(step).min(axis=0)
    scale = 1 / np.sqrt(1 + ((1 - between) ** 2 + between**2) / 2)
    return sparse.csr_array(sparse.diags_array(scale) @ (sampling(points, shape) - sides / 2))


def _crossing(points: NDArray[np.float64], across: NDArray[np.float64], shape: tuple[int, int]) -> sparse.csr_array:
    return sampling(points + ARM * across, shape) - sampling(points - ARM * across, shape)
