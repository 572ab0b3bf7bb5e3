"""Views of the scene: which ray belongs to which cell of an image, and which cells a solid can fall on.

The camera, the sun and the zenith all look at the same solids: the camera along rays through one point, the sun and
the zenith along parallel rays. In both, origin and direction of a ray are affine in its row and column, so that a dot
product with either costs one outer sum.

Solids that rays can meet: hexahedra, ellipsoids, cylinders.

Intersections are exact. Squared distances between ray and axis come from cross products, which stay accurate in single
precision for thin things far away, where the textbook discriminant b^2 - ac does not.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final, Protocol

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


BOTTOM, TOP, REAR, FRONT, LEFT, RIGHT = range(6)
"""Faces of a hexahedron, in its own frame: y is ahead, x to the right."""
SIDE, FAR_CAP, NEAR_CAP = range(3)
"""Faces of a cylinder: the mantle, and the caps at the end and at the start of its axis."""
Faces = NDArray[np.uint8]
Rows = NDArray[np.intp]
"""Row or column numbers of a block of rays."""
_SIGNS: Final = np.array(list(product((-1.0, 1.0), repeat=3)))


class Solid(Protocol):
    """A convex body."""

    @property
    def corners(self) -> NDArray[np.float64]:
        """(8, 3) points whose hull holds the body."""

    def meet(self, view: View, rows: Rows, columns: Rows) -> tuple[Image, Faces]:
        """Ray parameter at which each ray enters the body, inf for a miss, and the face it enters by."""

    def normals(self, points: NDArray[np.float32], faces: Faces) -> NDArray[np.float32]:
        """(3, n) outward unit normals at (3, n) points of the surface."""


@dataclass(frozen=True)
class Hexahedron:
    """A body with six plane faces.

    Attributes
    ----------
    vertices : (8, 3), numbered by bits: 1 is right, 2 is front, 4 is top.
    """

    vertices: NDArray[np.float64]

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """The vertices."""
        return self.vertices

    @cached_property
    def planes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Outward unit normals (6, 3) and their offsets (6,): inside, normal . point <= offset."""
        quads = self.vertices[[[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]]
        normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        middle = quads.mean(axis=1)
        outward = np.sign(np.sum(normal * (middle - self.vertices.mean(axis=0)), axis=1))
        normal *= outward[:, None]
        return normal, np.sum(normal * middle, axis=1)

    def meet(self, view: View, rows: Rows, columns: Rows) -> tuple[Image, Faces]:
        """See `Solid.meet`. A ray enters by the last of the planes that face it, if it has left by none before."""
        normal, offset = self.planes
        # Along a face t is -inf outside of it, +inf inside; adding zero makes a negative zero positive for that.
        approach = view.direction.along(normal, rows, columns) + np.float32(0)
        ahead = offset.astype(np.float32)[:, None, None] - view.origin.along(normal, rows, columns)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = ahead / approach
        entries = np.where(approach < 0, t, np.float32(-np.inf))
        enter = entries.max(axis=0)
        leave = np.fmin.reduce(np.where(approach < 0, np.float32(np.inf), t), axis=0)
        return np.where(enter <= leave, enter, np.float32(np.inf)), entries.argmax(axis=0).astype(np.uint8)

    def normals(self, points: NDArray[np.float32], faces: Faces) -> NDArray[np.float32]:
        """See `Solid.normals`."""
        return np.asarray(self.planes[0].astype(np.float32).T[:, faces])

    def edge_distance(self, points: NDArray[np.float32], faces: Faces) -> NDArray[np.float32]:
        """Distance in metres from points (3, n) on faces (n,) to the nearest of the other faces' planes."""
        normal, offset = (part.astype(np.float32) for part in self.planes)
        inside = offset[:, None] - normal @ points
        inside[faces, np.arange(faces.size)] = np.inf
        return np.asarray(inside.min(axis=0))


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid along the world axes.

    Attributes
    ----------
    centre, radii : (3,)
    """

    centre: Vector
    radii: Vector

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """Its bounding box."""
        return np.asarray(self.centre + _SIGNS * self.radii)

    def meet(self, view: View, rows: Rows, columns: Rows) -> tuple[Image, Faces]:
        """See `Solid.meet`. In units of the radii the body is a sphere of radius one."""
        scaled = np.diag(1 / self.radii)
        centre = (self.centre / self.radii).astype(np.float32)
        ox, oy, oz = view.origin.along(scaled, rows, columns) - centre[:, None, None]
        dx, dy, dz = view.direction.along(scaled, rows, columns)
        square = dx * dx + dy * dy + dz * dz
        miss = (oy * dz - oz * dy) ** 2 + (oz * dx - ox * dz) ** 2 + (ox * dy - oy * dx) ** 2
        with np.errstate(invalid="ignore"):
            t = -(ox * dx + oy * dy + oz * dz + np.sqrt(square - miss)) / square
        t[np.isnan(t)] = np.inf
        return t, np.zeros(t.shape, dtype=np.uint8)

    def normals(self, points: NDArray[np.float32], faces: Faces) -> NDArray[np.float32]:
        """See `Solid.normals`."""
        gradient = (points - self.centre.astype(np.float32)[:, None]) / self.radii.astype(np.float32)[:, None] ** 2
        return np.asarray(gradient / np.linalg.norm(gradient, axis=0))


@dataclass(frozen=True)
class Cylinder:
    """A round bar.

    Attributes
    ----------
    start, end : (3,) middles of its caps.
    radius : metres.
    """

    start: Vector
    end: Vector
    radius: float

    @cached_property
    def frame(self) -> NDArray[np.float64]:
        """(3, 3) rows: two unit vectors across the axis, and the axis."""
        axis = (self.end - self.start) / np.linalg.norm(self.end - self.start)
        helper = np.eye(3)[np.argmin(np.abs(axis))]
        across = np.cross(axis, helper)
        across /= np.linalg.norm(across)
        return np.stack([across, np.cross(axis, across), axis])

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """Its bounding box along the axis."""
        first, second, _ = self.frame
        middle, half = (self.start + self.end) / 2, (self.end - self.start) / 2
        steps = np.stack([first * self.radius, second * self.radius, half])
        return np.asarray(middle + _SIGNS @ steps)

    def meet(self, view: View, rows: Rows, columns: Rows) -> tuple[Image, Faces]:
        """See `Solid.meet`: the infinite mantle cut by the slab between the caps."""
        low = (self.frame @ self.start).astype(np.float32)
        length = np.float32(np.linalg.norm(self.end - self.start))
        ox, oy, oz = view.origin.along(self.frame, rows, columns) - low[:, None, None]
        dx, dy, dz = view.direction.along(self.frame, rows, columns)
        square, reach = dx * dx + dy * dy, ox * dx + oy * dy
        with np.errstate(divide="ignore", invalid="ignore"):
            half = np.sqrt(self.radius**2 * square - (ox * dy - oy * dx) ** 2)
            side_in, side_out = (-reach - half) / square, (-reach + half) / square
            # A ray along the axis meets no mantle: it is inside it all the way, or never.
            along = (square == 0) & (ox * ox + oy * oy <= self.radius**2)
            side_in, side_out = np.where(along, -np.inf, side_in), np.where(along, np.inf, side_out)
            at_start, at_end = -oz / dz, (length - oz) / dz
        cap_in, cap_out = np.minimum(at_start, at_end), np.maximum(at_start, at_end)
        t = np.maximum(side_in, cap_in)
        t[~(t <= np.minimum(side_out, cap_out))] = np.inf
        cap = np.where(dz > 0, NEAR_CAP, FAR_CAP)
        return t, np.where(cap_in > side_in, cap, SIDE).astype(np.uint8)

    def normals(self, points: NDArray[np.float32], faces: Faces) -> NDArray[np.float32]:
        """See `Solid.normals`."""
        frame = self.frame.astype(np.float32)
        across = frame[:2] @ (points - self.start.astype(np.float32)[:, None])
        mantle = frame[:2].T @ (across / self.radius)
        return np.asarray(np.where(faces == SIDE, mantle, np.where(faces == FAR_CAP, 1, -1) * frame[2][:, None]))
