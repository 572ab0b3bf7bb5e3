"""Which part each ray meets first: a depth buffer over exact ray-solid intersections.

Who sees the sun: depth images from the sun's side, one fine for what is near the camera, one coarse for the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.builder import Part
from hsiutils.simulate.geometry import NEAR_M, Faces, Parallel, Vector, View
from hsiutils.simulate.surfaces import Image
from hsiutils.simulate.textures import Field, Noise

_LEAVES: Final = Noise(seed=7)
_LEAF_CLUMP_M = 0.24
_NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class Hits:
    """What each ray meets first.

    Attributes
    ----------
    t : ray parameter, inf where nothing is met.
    part : index of the part, -1 for none.
    face : face of its solid.
    """

    t: Image
    part: NDArray[np.int32]
    face: Faces


def rasterise(view: View, parts: Sequence[Part]) -> Hits:
    """The nearest part along every ray of a view."""
    hits = Hits(
        np.full(view.shape, np.inf, dtype=np.float32),
        np.full(view.shape, -1, dtype=np.int32),
        np.zeros(view.shape, dtype=np.uint8),
    )
    if not parts:
        return hits
    windows = view.windows(np.stack([part.solid.corners for part in parts]))
    visible = (windows[:, 1] > windows[:, 0]) & (windows[:, 3] > windows[:, 2])
    for index in np.flatnonzero(visible):
        _draw(view, parts[int(index)], int(index), windows[index], hits)
    return hits


def _draw(view: View, part: Part, index: int, window: NDArray[np.intp], hits: Hits) -> None:
    top, end, left, right = (int(edge) for edge in window)
    rows, columns, block = np.arange(top, end), np.arange(left, right), np.s_[top:end, left:right]
    t, face = part.solid.meet(view, rows, columns)
    nearer = (t < hits.t[block]) & (t > NEAR_M)
    if part.porosity:
        place = np.nonzero(nearer)
        points = points_at(view, rows[place[0]], columns[place[1]], t[place])
        nearer[place] = _LEAVES.space(points, _LEAF_CLUMP_M) > _NORMAL.inv_cdf(part.porosity)
    np.copyto(hits.t[block], t, where=nearer)
    np.copyto(hits.part[block], np.int32(index), where=nearer)
    np.copyto(hits.face[block], face, where=nearer)


def points_at(view: View, rows: NDArray[np.intp], columns: NDArray[np.intp], t: Field) -> Field:
    """World points (3, n) at parameters t (n,) of the rays in cells (n,), metres."""
    return np.asarray(view.origin.at(rows, columns) + t * view.direction.at(rows, columns))


NEAR_FIELD_M, FAR_FIELD_M = 22.0, 160.0
"""Ranges ahead of the camera that the two sun images cover; farther points count as sunlit."""
_CELLS: Final = 900
_LOWEST_SUN: Final = 0.02
"""Sine of the elevation under which the terrain around hides the sun."""


def sun_visible(parts: Sequence[Part], sun: Vector, points: Field, normals: Field, ahead: Field) -> Field:
    """Share of the sun's disc that each point sees.

    Parameters
    ----------
    sun : (3,) unit vector towards the sun.
    points, normals : (3, n) world.
    ahead : (n,) distance from the camera, metres; decides which sun image is looked up.
    """
    if sun[2] < _LOWEST_SUN:
        return np.zeros(points.shape[1], dtype=np.float32)
    visible = np.ones(points.shape[1], dtype=np.float32)
    for low, high in ((0.0, NEAR_FIELD_M), (NEAR_FIELD_M, FAR_FIELD_M)):
        inside = np.flatnonzero((ahead >= low) & (ahead < high))
        if inside.size:
            visible[inside] = _lit(parts, sun, points[:, inside], normals[:, inside])
    return visible


def _lit(parts: Sequence[Part], sun: Vector, points: Field, normals: Field) -> Field:
    corners = _bounding_box(points)
    view = Parallel.covering(sun, corners, _CELLS)
    depth = rasterise(view, parts).t
    # A surface must not shade itself: look from a cell's width above it.
    lifted = points + normals * np.float32(1.2 * view.cell_m)
    placed = view.axes.astype(np.float32) @ (lifted - view.corner.astype(np.float32)[:, None])
    column, row = placed[:2] / np.float32(view.cell_m)
    return _filtered(depth, row, column, placed[2] - np.float32(view.cell_m + 0.02))


def _bounding_box(points: Field) -> NDArray[np.float64]:
    low, high = points.min(axis=1), points.max(axis=1)
    grid = np.meshgrid(*zip(low, high, strict=True), indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1).astype(float)


def _filtered(depth: Image, row: Field, column: Field, receiver: Field) -> Field:
    """Percentage-closer filter: compare with the four cells around, then weigh the verdicts bilinearly."""
    rows, columns = depth.shape
    first_row, first_column = np.floor(row), np.floor(column)
    down, right = row - first_row, column - first_column
    lit = np.zeros(row.shape, dtype=np.float32)
    for step_row, weight_row in ((0, 1 - down), (1, down)):
        i = np.clip(first_row.astype(np.int32) + step_row, 0, rows - 1) * columns
        for step_column, weight_column in ((0, 1 - right), (1, right)):
            j = np.clip(first_column.astype(np.int32) + step_column, 0, columns - 1)
            lit += weight_row * weight_column * (depth.ravel().take(i + j) > receiver)
    return lit
