"""Views of the scene: which ray belongs to which cell of an image, and which cells a solid can fall on.

The camera, the sun and the zenith all look at the same solids: the camera along rays through one point, the sun and
the zenith along parallel rays. In both, origin and direction of a ray are affine in its row and column, so that a dot
product with either costs one outer sum.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.surfaces import Image

Vector = NDArray[np.float64]
"""(3,) world axes: x right, y ahead, z up; metres or unit length."""

NEAR_M = 0.3
"""Nothing nearer than this to the lens is seen."""


@dataclass(frozen=True)
class Affine:
    """A vector that every ray has: base + row * per_row + column * per_column."""

    base: Vector
    per_row: Vector
    per_column: Vector

    def along(self, axes: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Image:
        """Components along axes (k, 3) over a block of rays: (k, rows, columns), (k, 1, 1) if all share them."""
        start, down, right = (axes @ part for part in (self.base, self.per_row, self.per_column))
        if not down.any() and not right.any():
            return np.asarray(start[:, None, None], dtype=np.float32)
        row_part = (down[:, None] * rows).astype(np.float32)
        column_part = (start[:, None] + right[:, None] * columns).astype(np.float32)
        return np.asarray(row_part[:, :, None] + column_part[:, None, :])

    def at(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """The vectors (3, n) of single rays in rows and columns (n,)."""
        base, down, right = (part.astype(np.float32)[:, None] for part in (self.base, self.per_row, self.per_column))
        return np.asarray(base + rows.astype(np.float32) * down + columns.astype(np.float32) * right)


class View(Protocol):
    """A grid of rays. A point at parameter t of a ray is origin + t * direction."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of rays."""

    @property
    def origin(self) -> Affine:
        """Where each ray starts."""

    @property
    def direction(self) -> Affine:
        """Where each ray goes, not normalised."""

    def windows(self, corners: NDArray[np.float64]) -> NDArray[np.intp]:
        """Blocks of rays that can meet solids.

        Parameters
        ----------
        corners : (solids, 8, 3) points whose convex hull holds each solid.

        Returns
        -------
        (solids, 4) first row, end row, first column, end column; empty where the solid is out of view.
        """


@dataclass(frozen=True)
class Perspective:
    """A pinhole camera with square pixels and its principal point in the middle.

    Attributes
    ----------
    position : (3,) of the pinhole.
    axes : (3, 3) rows: unit vectors to the right, down, and forward of the camera.
    focal : focal length in pixels.
    shape : (rows, columns).
    """

    position: Vector
    axes: NDArray[np.float64]
    focal: float
    shape: tuple[int, int]

    @classmethod
    def looking(
        cls,
        position: Vector,
        shape: tuple[int, int],
        field_of_view: float,
        pitch: float,
        yaw: float = 0,
        roll: float = 0,
    ) -> "Perspective":
        """A camera that looks along +y, turned by angles in radians.

        Parameters
        ----------
        field_of_view : horizontal, edge to edge.
        pitch : downwards. yaw : to the right. roll : clockwise as seen from behind the camera.
        """
        forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), -np.sin(pitch)])
        level = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
        below = np.cross(forward, level)
        right = np.cos(roll) * level + np.sin(roll) * below
        axes = np.stack([right, np.cross(forward, right), forward])
        return cls(np.asarray(position, dtype=float), axes, shape[1] / 2 / np.tan(field_of_view / 2), shape)

    @cached_property
    def origin(self) -> Affine:
        """The pinhole, for every ray."""
        return Affine(self.position, np.zeros(3), np.zeros(3))

    @cached_property
    def direction(self) -> Affine:
        """Scaled so that t is the distance along the optical axis."""
        right, down, forward = self.axes
        rows, columns = self.shape
        corner = forward + (down * (0.5 - rows / 2) + right * (0.5 - columns / 2)) / self.focal
        return Affine(corner, down / self.focal, right / self.focal)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) points in front of the camera to (..., 2) row and column; cell (0, 0) is centred on (0, 0)."""
        right, down, forward = np.moveaxis((points - self.position) @ self.axes.T, -1, 0)
        rows, columns = self.shape
        return np.stack(
            [self.focal * down / forward + rows / 2 - 0.5, self.focal * right / forward + columns / 2 - 0.5], axis=-1
        )

    def windows(self, corners: NDArray[np.float64]) -> NDArray[np.intp]:
        """See `View.windows`."""
        ahead = (corners - self.position) @ self.axes[2]
        in_front, behind = ahead.min(axis=1) > NEAR_M, ahead.max(axis=1) <= NEAR_M
        safe = np.where(in_front[:, None, None], corners, self.position + self.axes[2])
        seen = self.project(safe)
        low, high = seen.min(axis=1), seen.max(axis=1)
        for index in np.flatnonzero(~in_front & ~behind):
            clipped = self.project(self._in_front(corners[index], ahead[index]))
            low[index], high[index] = clipped.min(axis=0), clipped.max(axis=0)
        high[behind] = -np.inf
        return _blocks(low, high, self.shape)

    def _in_front(self, corners: NDArray[np.float64], ahead: NDArray[np.float64]) -> NDArray[np.float64]:
        """Corners of the hull cut off at the near plane."""
        front, back = np.flatnonzero(ahead > NEAR_M), np.flatnonzero(ahead <= NEAR_M)
        first, second = corners[np.repeat(front, back.size)], corners[np.tile(back, front.size)]
        share = (ahead[np.repeat(front, back.size)] - NEAR_M) / (
            ahead[np.repeat(front, back.size)] - ahead[np.tile(back, front.size)]
        )
        return np.concatenate([corners[front], first + share[:, None] * (second - first)])


@dataclass(frozen=True)
class Parallel:
    """Parallel rays on a square grid: how the sun, or the zenith, sees the scene.

    Attributes
    ----------
    corner : (3,) start of the ray of cell (0, 0).
    axes : (3, 3) rows: unit vectors along a row, along a column, and along the rays.
    cell_m : grid spacing.
    shape : (rows, columns).
    """

    corner: Vector
    axes: NDArray[np.float64]
    cell_m: float
    shape: tuple[int, int]

    @classmethod
    def covering(
        cls, towards: Vector, points: NDArray[np.float64], cells: int, distance_m: float = 1000.0
    ) -> "Parallel":
        """Rays from direction `towards` onto a region.

        Parameters
        ----------
        towards : (3,) unit vector to where the rays come from.
        points : (n, 3) whose hull the grid has to cover.
        cells : of the longer side of the grid.
        distance_m : how far before the region's middle the rays start.
        """
        reference = np.array([0.0, 1.0, 0.0]) if abs(towards[2]) > 0.999 else np.array([0.0, 0.0, 1.0])
        right = np.cross(reference, towards)
        right /= np.linalg.norm(right)
        axes = np.stack([right, -np.cross(towards, right), -towards])
        placed = points @ axes.T
        low, size = placed.min(axis=0), np.ptp(placed, axis=0)
        cell = max(size[0], size[1], 1e-6) / cells
        shape = (max(1, int(np.ceil(size[1] / cell))), max(1, int(np.ceil(size[0] / cell))))
        start = np.array([low[0] + cell / 2, low[1] + cell / 2, placed[:, 2].mean() - distance_m])
        return cls(start @ axes, axes, cell, shape)

    @cached_property
    def origin(self) -> Affine:
        """The grid."""
        return Affine(self.corner, self.axes[1] * self.cell_m, self.axes[0] * self.cell_m)

    @cached_property
    def direction(self) -> Affine:
        """The same unit vector for all, so that t is in metres."""
        return Affine(self.axes[2], np.zeros(3), np.zeros(3))

    def windows(self, corners: NDArray[np.float64]) -> NDArray[np.intp]:
        """See `View.windows`."""
        placed = (corners - self.corner) @ self.axes[[1, 0]].T / self.cell_m
        return _blocks(placed.min(axis=1), placed.max(axis=1), self.shape)


def _blocks(low: NDArray[np.float64], high: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.intp]:
    """Whole cells between two corners (n, 2), cut to the image."""
    limit = np.array(shape)
    first = np.clip(np.floor(low), 0, limit)
    end = np.clip(np.ceil(high) + 1, 0, limit)
    return np.stack([first[:, 0], end[:, 0], first[:, 1], end[:, 1]], axis=1).astype(np.intp)
