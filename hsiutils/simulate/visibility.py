"""What each ray meets first, and how much of the sun and of the sky each point sees.

Rays are followed by a depth buffer over exact intersections. Shadows come from depth images from the sun's side, one
fine for what is near the camera, one coarse for the rest. The sky's light comes from horizons over a height map, sector
by sector, as in terrain radiation models (Dozier and Frew 1990, doi 10.1109/36.58986): over one sector of azimuth phi
with horizon h, a surface with unit normal n receives from an even sky the share
    n . (A cos phi, A sin phi, B) / pi * sector,   A = (pi/2 - h)/2 - sin(2h)/4,   B = cos(h)^2 / 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.builder import Part
from hsiutils.simulate.geometry import NEAR_M, Faces, Parallel, Vector, View
from hsiutils.simulate.surfaces import Float32, Noise

NEAR_FIELD_M, FAR_FIELD_M = 22.0, 160.0
"""Ranges ahead of the camera that the two sun images cover; farther points count as sunlit."""
_CELLS: Final = 900
_LEAVES: Final = Noise(seed=7)
SECTORS: Final = 8
_AZIMUTHS: Final = np.arange(SECTORS) * 2 * np.pi / SECTORS
_LEVELS_M: Final = np.array([0.0, 0.8, 1.6, 3.0, 5.0, 8.0], dtype=np.float32)
_REACH_CELLS: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 60)
_CELL_M: Final = 0.5
_REGION: Final = np.array([[x, y, 0.0] for x in (-32.0, 32.0) for y in (-6.0, 90.0)])
_TOLERANCE_M: Final = 0.2
"""A cell's one height is that far off on a slope; what is lower than this hides no sky."""


@dataclass(frozen=True)
class Hits:
    """What each ray meets first: ray parameter (inf for nothing), index of the part (-1 for none), and its face."""

    t: Float32
    part: NDArray[np.int32]
    face: Faces


def rasterise(view: View, parts: Sequence[Part]) -> Hits:
    """The nearest part along every ray of a view; gaps between leaves let rays through."""
    hits = Hits(
        np.full(view.shape, np.inf, dtype=np.float32),
        np.full(view.shape, -1, dtype=np.int32),
        np.zeros(view.shape, dtype=np.uint8),
    )
    if not parts:
        return hits
    windows = view.windows(np.stack([part.solid.corners for part in parts]))
    for index, (part, (top, end, left, right)) in enumerate(zip(parts, windows, strict=True)):
        if end <= top or right <= left:
            continue
        rows, columns, block = np.arange(top, end), np.arange(left, right), np.s_[top:end, left:right]
        t, face = part.solid.meet(view, rows, columns)
        nearer = (t < hits.t[block]) & (t > NEAR_M)
        if part.porosity:
            place = np.nonzero(nearer)
            rays = rows[place[0]], columns[place[1]]
            points = view.origin.at(*rays) + t[place] * view.direction.at(*rays)
            nearer[place] = _LEAVES.space(points, 0.24) > NormalDist().inv_cdf(part.porosity)
        np.copyto(hits.t[block], t, where=nearer)
        np.copyto(hits.part[block], np.int32(index), where=nearer)
        np.copyto(hits.face[block], face, where=nearer)
    return hits


def sun_visible(parts: Sequence[Part], sun: Vector, points: Float32, normals: Float32, ahead: Float32) -> Float32:
    """Share of the sun's disc that each point (3, n) with its normal (3, n) sees.

    The distance `ahead` (n,) of the camera, metres, decides which sun image is looked up.
    """
    if sun[2] < 0.02:  # the terrain around hides it
        return np.zeros(points.shape[1], dtype=np.float32)
    visible = np.ones(points.shape[1], dtype=np.float32)
    for low, high in ((0.0, NEAR_FIELD_M), (NEAR_FIELD_M, FAR_FIELD_M)):
        inside = np.flatnonzero((ahead >= low) & (ahead < high))
        if inside.size:
            visible[inside] = _lit(parts, sun, points[:, inside], normals[:, inside])
    return visible


def _lit(parts: Sequence[Part], sun: Vector, points: Float32, normals: Float32) -> Float32:
    """Percentage-closer filter: compare with the four cells around, then weigh the verdicts bilinearly."""
    box = np.meshgrid(*zip(points.min(axis=1), points.max(axis=1), strict=True), indexing="ij")
    view = Parallel.covering(sun, np.stack([axis.ravel() for axis in box], axis=1).astype(float), _CELLS)
    depth = rasterise(view, parts).t
    # A surface must not shade itself: look from a cell's width above it.
    row, column, t = view.place(points + normals * np.float32(1.2 * view.cell_m))
    receiver = t - np.float32(view.cell_m + 0.02)
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


@dataclass(frozen=True)
class SkyView:
    """Diffuse light that reaches places and heights of a scene."""

    view: Parallel  # the grid, as seen from the zenith
    vectors: Float32  # (levels, cells, 2, sectors) A and B at each height and cell
    ground: Float32  # (rows, columns) share of the sky that level ground sees
    crowns: Float32  # (rows, columns) share that the solids around leave to tree crowns
    crown_top: Float32  # (rows, columns) height of the top of the crowns, 0 where none is

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "SkyView":
        """Scan a scene; poles and other things thinner than half a cell are left out."""
        view = Parallel.covering(np.array([0.0, 0.0, 1.0]), _REGION, round(np.ptp(_REGION[:, 1]) / _CELL_M))
        parts = [part for part in parts if np.ptp(part.solid.corners[:, :2], axis=0).max() > _CELL_M / 2]
        crowns = [part for part in parts if part.porosity]
        top, _ = _heights(view, [part for part in parts if not part.porosity])
        # Their gaps are in the opacity; the hulls are whole.
        crown_top, crown_part = _heights(view, [replace(part, porosity=0.0) for part in crowns])
        lowest: dict[int, float] = {}
        for part in crowns:
            bottom = float(part.solid.corners[:, 2].min())
            lowest[part.object_id] = min(lowest.get(part.object_id, np.inf), bottom)
        bases = [max(lowest[part.object_id], 0.0) for part in crowns]
        crown_base = np.array([*bases, 1e4], dtype=np.float32)[crown_part]  # far up where there is none
        # A crown without gaps between its leaves would have an opacity of 0.8.
        opacity = float(0.8 * (1 - np.mean([part.porosity for part in crowns]))) if crowns else 0.0
        vectors = [_scan(top, crown_top, crown_base, opacity, float(level)) for level in _LEVELS_M]
        ground, around = (
            (received[:, 1].sum(axis=-1) * np.float32(2 / SECTORS)).reshape(view.shape)
            # Light past houses reaches crowns at 3 m.
            for received in (vectors[0], _scan(top, crown_top, crown_top, 0.0, 3.0))
        )
        # Inside a solid there is no light to know of; its surface looks up from the next level above.
        for level in reversed(range(_LEVELS_M.size - 1)):
            inside = top.ravel() > _LEVELS_M[level] + _TOLERANCE_M
            vectors[level][inside] = vectors[level + 1][inside]
        return cls(view, np.stack(vectors), ground, around, crown_top)

    def on_surfaces(self, points: Float32, normals: Float32) -> Float32:
        """Share of the sky's light on surfaces at points (3, n) with normals (3, n)."""
        # The horizon is looked up 0.85 m in front of a wall: past eaves, and past half the diagonal of a cell.
        beside = points + np.float32(0.85) * normals * np.array([[1], [1], [0]], dtype=np.float32)
        row, column = self._place(beside)
        cell = np.rint(row).astype(np.int32) * self.view.shape[1] + np.rint(column).astype(np.int32)
        height = np.interp(points[2], _LEVELS_M, np.arange(_LEVELS_M.size)).astype(np.float32)
        level = np.minimum(height.astype(np.int32), _LEVELS_M.size - 2)
        upper = (height - level)[:, None, None]
        flat, cells = self.vectors.reshape(-1, 2, SECTORS), self.vectors.shape[1]
        here = (1 - upper) * flat[level * cells + cell] + upper * flat[(level + 1) * cells + cell]
        seen = _received(normals, here[:, 0], here[:, 1])
        free = _received(normals, *_sector_integrals(np.zeros((1, SECTORS), dtype=np.float32)))
        return np.asarray((1 + normals[2]) / 2 * seen / np.maximum(free, 1e-6))

    def on_ground(self, points: Float32) -> Float32:
        """The same for level ground at points (3, n), bilinear between cells."""
        return self._bilinear(self.ground, points)

    def in_crowns(self, points: Float32, normals: Float32) -> Float32:
        """The same for leaves: it falls off from the top of the crown, and solids around hide their part.

        Beer-Lambert extinction of 0.22 / m: a leaf area of about 0.5 per metre at random angles.
        """
        depth = np.maximum(self._bilinear(self.crown_top, points) - points[2], 0)
        around = self._bilinear(self.crowns, points)
        return np.asarray((0.7 + 0.3 * normals[2]) * around * np.exp(-0.22 * depth))

    def _place(self, points: Float32) -> tuple[Float32, Float32]:
        """Rows and columns of points, held inside the grid."""
        row, column, _ = self.view.place(points)
        return np.clip(row, 0, self.view.shape[0] - 1), np.clip(column, 0, self.view.shape[1] - 1)

    def _bilinear(self, values: Float32, points: Float32) -> Float32:
        row, column = self._place(points)
        i, j = (np.minimum(a.astype(np.int32), n - 2) for a, n in zip((row, column), values.shape, strict=True))
        down, right = row - i, column - j
        cell, width, flat = i * values.shape[1] + j, values.shape[1], values.ravel()
        upper = flat.take(cell) * (1 - right) + flat.take(cell + 1) * right
        lower = flat.take(cell + width) * (1 - right) + flat.take(cell + width + 1) * right
        return np.asarray(upper * (1 - down) + lower * down)


def _received(normals: Float32, a: Float32, b: Float32) -> Float32:
    """What a surface with each normal (3, n) receives from all sectors in front of it, up to a factor."""
    facing = normals[0][:, None] * np.cos(_AZIMUTHS, dtype=np.float32)
    facing += normals[1][:, None] * np.sin(_AZIMUTHS, dtype=np.float32)
    return np.asarray(np.maximum(facing * a + normals[2][:, None] * b, 0).sum(axis=1))


def _heights(view: Parallel, parts: Sequence[Part]) -> tuple[Float32, NDArray[np.int32]]:
    """Height of the top of things over each cell, 0 for the ground, and the part that is on top."""
    hits = rasterise(view, parts)
    return np.where(hits.part >= 0, np.float32(view.corner[2]) - hits.t, 0).astype(np.float32), hits.part


def _scan(top: Float32, crown_top: Float32, crown_base: Float32, opacity: float, level: float) -> Float32:
    """(cells, 2, sectors) A and B of every cell at one height."""
    horizon = np.maximum([_steepest(top, level, azimuth, np.maximum) for azimuth in _AZIMUTHS], 0)
    seen = np.stack(_sector_integrals(horizon))
    if opacity:
        high, low = (
            np.maximum([_steepest(surface, level, azimuth, choose) for azimuth in _AZIMUTHS], horizon)
            for surface, choose in ((crown_top, np.maximum), (crown_base, np.minimum))
        )
        behind = np.stack(_sector_integrals(low)) - np.stack(_sector_integrals(high))
        seen -= opacity * np.maximum(behind, 0)
    return np.ascontiguousarray(seen.transpose(2, 0, 1))


def _steepest(surface: Float32, level: float, azimuth: float, choose: np.ufunc) -> Float32:
    """Extreme tangent of elevation of a surface above a height, going out from every cell in one direction."""
    margin = max(_REACH_CELLS)
    rows, columns = surface.shape
    padded = np.pad(surface - np.float32(level + _TOLERANCE_M), margin, mode="edge")
    best = padded[margin : margin + rows, margin : margin + columns] / np.float32(0.3 * _CELL_M)
    for reach in _REACH_CELLS:
        # Rows of the zenith's view run against y.
        i, j = margin - round(reach * np.sin(azimuth)), margin + round(reach * np.cos(azimuth))
        choose(best, padded[i : i + rows, j : j + columns] / np.float32((reach - 0.5) * _CELL_M), out=best)
    return np.asarray(best.ravel())


def _sector_integrals(tangent: Float32) -> tuple[Float32, Float32]:
    """A and B for horizons given by their tangent, 0 for a free one."""
    square = tangent * tangent
    a = (np.float32(np.pi / 2) - np.arctan(tangent) - tangent / (1 + square)) / 2
    return np.asarray(a), np.asarray(0.5 / (1 + square))
