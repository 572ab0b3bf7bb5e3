"""How much of the sky's diffuse light reaches a point: horizons over a height map, sector by sector.

The horizon is scanned as in terrain radiation models (Dozier and Frew 1990, doi 10.1109/36.58986). Over one sector of
azimuth phi with horizon h, a surface with unit normal n receives from an even sky the share
    n . (A cos phi, A sin phi, B) / pi * sector,   A = (pi/2 - h)/2 - sin(2h)/4,   B = cos(h)^2 / 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.builder import Part
from hsiutils.simulate.geometry import Parallel
from hsiutils.simulate.raster import rasterise
from hsiutils.simulate.surfaces import Image
from hsiutils.simulate.textures import Field

SECTORS: Final = 8
_AZIMUTHS: Final = np.arange(SECTORS) * 2 * np.pi / SECTORS
_LEVELS_M: Final = np.array([0.0, 0.8, 1.6, 3.0, 5.0, 8.0], dtype=np.float32)
_REACH_CELLS: Final = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60)
_CELL_M: Final = 0.5
_REGION: Final = np.array([[x, y, 0.0] for x in (-32.0, 32.0) for y in (-6.0, 90.0)])
_CROWN_LEVEL_M: Final = 3.0
"""Height at which crowns are reached by light past houses."""
_LEAF_EXTINCTION: Final = 0.22
"""Beer-Lambert extinction of diffuse light inside a crown, 1/m: a leaf area of about 0.5 per metre at random angles."""
_CANOPY_OPACITY: Final = 0.8
"""Of a crown without leaf gaps."""
_TOLERANCE_M: Final = 0.2
"""A cell's one height is that far off on a slope; what is lower than this hides no sky."""
_BESIDE_M: Final = 0.85
"""How far in front of a wall its horizon is looked up: past eaves, and past half the diagonal of a cell."""
_NO_CROWN_M: Final = 1e4
"""Height of the base of the crown where there is none."""


@dataclass(frozen=True)
class Openness:
    """Diffuse light that reaches places and heights of a scene.

    Attributes
    ----------
    view : the grid, as seen from the zenith.
    vectors : (levels, cells, 2, sectors) A and B at each height and cell.
    ground : (rows, columns) share of the sky that level ground sees.
    crowns : (rows, columns) share that the solids around leave to tree crowns.
    crown_top : (rows, columns) height of the top of the crowns, 0 where none is.
    """

    view: Parallel
    vectors: Image
    ground: Image
    crowns: Image
    crown_top: Image

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "Openness":
        """Scan a scene; poles and other things thinner than half a cell are left out."""
        view = Parallel.covering(np.array([0.0, 0.0, 1.0]), _REGION, round(np.ptp(_REGION[:, 1]) / _CELL_M))
        parts = [part for part in parts if np.ptp(part.solid.corners[:, :2], axis=0).max() > _CELL_M / 2]
        solid = [part for part in parts if not part.porosity]
        crowns = [part for part in parts if part.porosity]
        top, _ = _heights(view, solid)
        # Their gaps are in the opacity; the hulls are whole.
        crown_top, crown_part = _heights(view, [replace(part, porosity=0.0) for part in crowns])
        base_of = np.array([*_bases(crowns), _NO_CROWN_M], dtype=np.float32)
        opacity = _CANOPY_OPACITY * (1 - np.mean([part.porosity for part in crowns])) if crowns else 0.0
        vectors = [_scan(top, crown_top, base_of[crown_part], float(opacity), float(level)) for level in _LEVELS_M]
        ground = _level_share(vectors[0]).reshape(view.shape)
        around = _level_share(_scan(top, crown_top, crown_top, 0.0, _CROWN_LEVEL_M)).reshape(view.shape)
        # Inside a solid there is no light to know of; its surface looks up from the next level above.
        for level in reversed(range(_LEVELS_M.size - 1)):
            inside = top.ravel() > _LEVELS_M[level] + _TOLERANCE_M
            vectors[level][inside] = vectors[level + 1][inside]
        return cls(view, np.stack(vectors), ground, around, crown_top)

    def on_surfaces(self, points: Field, normals: Field) -> Field:
        """Share of the sky's light on surfaces at points (3, n) with normals (3, n)."""
        beside = points + np.float32(_BESIDE_M) * normals * np.array([[1], [1], [0]], dtype=np.float32)
        row, column = self._place(beside)
        cell = np.rint(row).astype(np.int32) * self.view.shape[1] + np.rint(column).astype(np.int32)
        height = np.interp(points[2], _LEVELS_M, np.arange(_LEVELS_M.size)).astype(np.float32)
        level = np.minimum(height.astype(np.int32), _LEVELS_M.size - 2)
        upper = (height - level)[:, None, None]
        flat = self.vectors.reshape(-1, 2, SECTORS)
        cells = self.vectors.shape[1]
        here = (1 - upper) * flat[level * cells + cell] + upper * flat[(level + 1) * cells + cell]
        seen = _received(normals, here[:, 0], here[:, 1])
        open_a, open_b = _sector_integrals(np.zeros((1, SECTORS), dtype=np.float32))
        return np.asarray((1 + normals[2]) / 2 * seen / np.maximum(_received(normals, open_a, open_b), 1e-6))

    def on_ground(self, points: Field) -> Field:
        """The same for level ground at points (3, n), bilinear between cells."""
        return self._bilinear(self.ground, points)

    def in_crowns(self, points: Field, normals: Field) -> Field:
        """The same for leaves: it falls off from the top of the crown, and solids around hide their part."""
        depth = np.maximum(self._bilinear(self.crown_top, points) - points[2], 0)
        around = self._bilinear(self.crowns, points)
        return np.asarray((0.7 + 0.3 * normals[2]) * around * np.exp(-_LEAF_EXTINCTION * depth))

    def _place(self, points: Field) -> tuple[Field, Field]:
        """Rows and columns of points, held inside the grid."""
        placed = self.view.axes[:2].astype(np.float32) @ (points - self.view.corner.astype(np.float32)[:, None])
        column, row = placed / np.float32(self.view.cell_m)
        return np.clip(row, 0, self.view.shape[0] - 1), np.clip(column, 0, self.view.shape[1] - 1)

    def _bilinear(self, values: Image, points: Field) -> Field:
        row, column = self._place(points)
        i, j = (np.minimum(a.astype(np.int32), n - 2) for a, n in zip((row, column), values.shape, strict=True))
        down, right = row - i, column - j
        cell, width, flat = i * values.shape[1] + j, values.shape[1], values.ravel()
        upper = flat.take(cell) * (1 - right) + flat.take(cell + 1) * right
        lower = flat.take(cell + width) * (1 - right) + flat.take(cell + width + 1) * right
        return np.asarray(upper * (1 - down) + lower * down)


def _level_share(vectors: Image) -> Image:
    """What level surfaces receive, from A and B (cells, 2, sectors) at their height."""
    return np.asarray(vectors[:, 1].sum(axis=-1) * np.float32(2 / SECTORS))


def _received(normals: Field, a: Image, b: Image) -> Field:
    """What a surface with each normal (3, n) receives from all sectors in front of it, up to a factor."""
    facing = normals[0][:, None] * np.cos(_AZIMUTHS, dtype=np.float32)
    facing += normals[1][:, None] * np.sin(_AZIMUTHS, dtype=np.float32)
    return np.asarray(np.maximum(facing * a + normals[2][:, None] * b, 0).sum(axis=1))


def _heights(view: Parallel, parts: Sequence[Part]) -> tuple[Image, NDArray[np.int32]]:
    """Height of the top of things over each cell, 0 for the ground, and the part that is on top."""
    hits = rasterise(view, parts)
    return np.where(hits.part >= 0, np.float32(view.corner[2]) - hits.t, 0).astype(np.float32), hits.part


def _bases(crowns: Sequence[Part]) -> list[float]:
    """Height at which the crown begins that each part belongs to."""
    lowest: dict[int, float] = {}
    for part in crowns:
        bottom = float(part.solid.corners[:, 2].min())
        lowest[part.object_id] = min(lowest.get(part.object_id, np.inf), bottom)
    return [max(lowest[part.object_id], 0.0) for part in crowns]


def _scan(top: Image, crown_top: Image, crown_base: Image, opacity: float, level: float) -> Image:
    """(cells, 2, sectors) A and B of every cell at one height."""
    horizon, low, high = (np.empty((SECTORS, top.size), dtype=np.float32) for _ in range(3))
    for sector, azimuth in enumerate(_AZIMUTHS):
        horizon[sector] = _steepest(top, level, azimuth, np.maximum)
        if opacity:
            high[sector] = _steepest(crown_top, level, azimuth, np.maximum)
            low[sector] = _steepest(crown_base, level, azimuth, np.minimum)
    seen = np.stack(_sector_integrals(np.maximum(horizon, 0)))
    if opacity:
        low, high = np.maximum(low, np.maximum(horizon, 0)), np.maximum(high, np.maximum(horizon, 0))
        behind = np.stack(_sector_integrals(low)) - np.stack(_sector_integrals(high))
        seen -= opacity * np.maximum(behind, 0)
    return np.ascontiguousarray(seen.transpose(2, 0, 1))


def _steepest(surface: Image, level: float, azimuth: float, choose: np.ufunc) -> Image:
    """Extreme tangent of elevation of a surface above a height, going out from every cell in one direction."""
    margin = max(_REACH_CELLS)
    rows, columns = surface.shape
    padded = np.pad(surface - np.float32(level + _TOLERANCE_M), margin, mode="edge")
    best = padded[margin : margin + rows, margin : margin + columns] / np.float32(0.3 * _CELL_M)
    for reach in _REACH_CELLS:
        # Rows of the zenith's view run against y.
        i, j = margin - round(reach * np.sin(azimuth)), margin + round(reach * np.cos(azimuth))
        choose(best, padded[i : i + rows, j : j + columns] / np.float32(reach * _CELL_M), out=best)
    return np.asarray(best.ravel())


def _sector_integrals(tangent: Image) -> tuple[Image, Image]:
    """A and B for horizons given by their tangent, 0 for a free one."""
    square = tangent * tangent
    a = (np.float32(np.pi / 2) - np.arctan(tangent) - tangent / (1 + square)) / 2
    return np.asarray(a), np.asarray(0.5 / (1 + square))
