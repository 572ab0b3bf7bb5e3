"""Rays and solids: who looks at a scene from where, and what each ray meets.

The camera looks along rays through one point, the sun and the zenith along parallel ones. In both, origin and
direction of a ray are affine in its row and column, so that a dot product with either costs one outer sum.

Intersections are exact. Squared distances between ray and axis come from cross products, which stay accurate in single
precision for thin things far away, where the textbook discriminant b^2 - ac does not.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.surfaces import Float32, Float64

Vector = Float64
"""(3,) world axes: x right, y ahead, z up; metres or unit length."""
Index = NDArray[np.intp]
"""Row or column numbers of rays."""
Faces = NDArray[np.uint8]
NEAR_M = 0.3
"""Nothing nearer than this to the lens is seen."""
BOTTOM, TOP, REAR, FRONT, LEFT, RIGHT = range(6)
"""Faces of a hexahedron, in its own frame: y is ahead, x to the right."""
SIDE, FAR_CAP, NEAR_CAP = range(3)
"""Faces of a cylinder: the mantle, and the caps at the end and at the start of its axis."""
_SIGNS: Final = np.array(list(product((-1.0, 1.0), repeat=3)))


@dataclass(frozen=True)
class Affine:
    """A vector that every ray has: base + row * per_row + column * per_column."""

    base: Vector
    per_row: Vector
    per_column: Vector

    def along(self, axes: Float64, rows: Index, columns: Index) -> Float32:
        """Components along axes (k, 3) over a block of rays: (k, rows, columns), (k, 1, 1) if all share them."""
        start, down, right = (axes @ part for part in (self.base, self.per_row, self.per_column))
        if not down.any() and not right.any():
            return np.asarray(start[:, None, None], dtype=np.float32)
        row_part = (down[:, None] * rows).astype(np.float32)
        column_part = (start[:, None] + right[:, None] * columns).astype(np.float32)
        return np.asarray(row_part[:, :, None] + column_part[:, None, :])

    def at(self, rows: Index, columns: Index) -> Float32:
        """The vectors (3, n) of single rays in rows and columns (n,)."""
        base, down, right = (part.astype(np.float32)[:, None] for part in (self.base, self.per_row, self.per_column))
        return np.asarray(base + rows.astype(np.float32) * down + columns.astype(np.float32) * right)


@dataclass(frozen=True)
class Perspective:
    """A pinhole camera with square pixels and its principal point in the middle."""

    position: Vector  # of the pinhole
    axes: Float64  # (3, 3) rows: unit vectors to the right, down, and forward of the camera
    focal: float  # in pixels
    shape: tuple[int, int]  # rows, columns

    @classmethod
    def looking(
        cls, position: Vector, shape: tuple[int, int], view_rad: float, pitch: float, yaw: float = 0, roll: float = 0
    ) -> "Perspective":
        """A camera that looks along +y, turned by angles in radians; `view_rad` is horizontal, edge to edge.

        Pitch is downwards, yaw to the right, roll clockwise as seen from behind the camera.
        """
        forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), -np.sin(pitch)])
        level = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
        right = np.cos(roll) * level + np.sin(roll) * np.cross(forward, level)
        axes = np.stack([right, np.cross(forward, right), forward])
        return cls(np.asarray(position, dtype=float), axes, shape[1] / 2 / np.tan(view_rad / 2), shape)

    @property
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

    def project(self, points: Float64) -> Float64:
        """(..., 3) points in front of the camera to (..., 2) row and column; cell (0, 0) is centred on (0, 0)."""
        right, down, forward = np.moveaxis((points - self.position) @ self.axes.T, -1, 0)
        places = zip((down, right), self.shape, strict=True)
        return np.stack([self.focal * axis / forward + size / 2 - 0.5 for axis, size in places], axis=-1)

    def windows(self, corners: Float64) -> Index:
        """Blocks of rays that can meet solids in the convex hulls of corners (solids, 8, 3).

        Returns (solids, 4) first row, end row, first column, end column; empty where the solid is out of view.
        """
        ahead = (corners - self.position) @ self.axes[2]
        in_front, behind = ahead.min(axis=1) > NEAR_M, ahead.max(axis=1) <= NEAR_M
        seen = self.project(np.where(in_front[:, None, None], corners, self.position + self.axes[2]))
        low, high = seen.min(axis=1), seen.max(axis=1)
        for index in np.flatnonzero(~in_front & ~behind):
            # Cut the hull off at the near plane, along every line from a corner before it to one behind it.
            near, far = np.meshgrid(np.flatnonzero(ahead[index] <= NEAR_M), np.flatnonzero(ahead[index] > NEAR_M))
            share = (ahead[index][far] - NEAR_M) / (ahead[index][far] - ahead[index][near])
            first, second = corners[index][far], corners[index][near]
            cut = first + share[..., None] * (second - first)
            clipped = self.project(np.concatenate([first[:, 0], cut.reshape(-1, 3)]))
            low[index], high[index] = clipped.min(axis=0), clipped.max(axis=0)
        high[behind] = -np.inf
        return _blocks(low, high, self.shape)


@dataclass(frozen=True)
class Parallel:
    """Parallel rays on a square grid: how the sun, or the zenith, sees the scene."""

    corner: Vector  # start of the ray of cell (0, 0)
    axes: Float64  # (3, 3) rows: unit vectors along a row, along a column, and along the rays
    cell_m: float  # grid spacing
    shape: tuple[int, int]  # rows, columns

    @classmethod
    def covering(cls, towards: Vector, points: Float64, cells: int, distance_m: float = 1000.0) -> "Parallel":
        """Rays from direction `towards` (unit vector) over the hull of points (n, 3).

        The longer side of the grid has so many cells; the rays start `distance_m` before the region's middle.
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

    def place(self, points: Float32) -> tuple[Float32, Float32, Float32]:
        """Row, column and ray parameter (n,) of points (3, n)."""
        column, row, t = self.axes.astype(np.float32) @ (points - self.corner.astype(np.float32)[:, None])
        return row / np.float32(self.cell_m), column / np.float32(self.cell_m), t

    def windows(self, corners: Float64) -> Index:
        """See `Perspective.windows`."""
        placed = (corners - self.corner) @ self.axes[[1, 0]].T / self.cell_m
        return _blocks(placed.min(axis=1), placed.max(axis=1), self.shape)


def _blocks(low: Float64, high: Float64, shape: tuple[int, int]) -> Index:
    """Whole cells between two corners (n, 2), cut to the image."""
    first, end = np.clip(np.floor(low), 0, shape), np.clip(np.ceil(high) + 1, 0, shape)
    return np.stack([first[:, 0], end[:, 0], first[:, 1], end[:, 1]], axis=1).astype(np.intp)


View = Perspective | Parallel
"""A grid of rays. A point at parameter t of a ray is origin + t * direction."""


@dataclass(frozen=True)
class Hexahedron:
    """A body with six plane faces and corners (8, 3), numbered by bits: 1 is right, 2 is front, 4 is top."""

    corners: Float64

    @cached_property
    def planes(self) -> tuple[Float64, Float64]:
        """Outward unit normals (6, 3) and their offsets (6,): inside, normal . point <= offset."""
        quads = self.corners[[[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]]
        normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        middle = quads.mean(axis=1)
        normal *= np.sign(np.sum(normal * (middle - self.corners.mean(axis=0)), axis=1))[:, None]
        return normal, np.sum(normal * middle, axis=1)

    def meet(self, view: View, rows: Index, columns: Index) -> tuple[Float32, Faces]:
        """Ray parameter at which each ray of a block enters the body, inf for a miss, and the face it enters by.

        That is the last of the planes that face the ray, if it has left by none before.
        """
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

    def normals(self, points: Float32, faces: Faces) -> Float32:
        """(3, n) outward unit normals at points (3, n) of faces (n,)."""
        return np.asarray(self.planes[0].astype(np.float32).T[:, faces])

    def edge_distance(self, points: Float32, faces: Faces) -> Float32:
        """Distance in metres from points (3, n) on faces (n,) to the nearest of the other faces' planes."""
        normal, offset = (part.astype(np.float32) for part in self.planes)
        inside = offset[:, None] - normal @ points
        inside[faces, np.arange(faces.size)] = np.inf
        return np.asarray(inside.min(axis=0))


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid along the world axes."""

    centre: Vector
    radii: Vector

    @cached_property
    def corners(self) -> Float64:
        """Its bounding box."""
        return np.asarray(self.centre + _SIGNS * self.radii)

    def meet(self, view: View, rows: Index, columns: Index) -> tuple[Float32, Faces]:
        """See `Hexahedron.meet`. In units of the radii the body is a sphere of radius one."""
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

    def normals(self, points: Float32, faces: Faces) -> Float32:
        """See `Hexahedron.normals`."""
        gradient = (points - self.centre.astype(np.float32)[:, None]) / self.radii.astype(np.float32)[:, None] ** 2
        return np.asarray(gradient / np.linalg.norm(gradient, axis=0))


@dataclass(frozen=True)
class Cylinder:
    """A round bar between the middles of its caps; radius in metres."""

    start: Vector
    end: Vector
    radius: float

    @cached_property
    def frame(self) -> Float64:
        """(3, 3) rows: two unit vectors across the axis, and the axis."""
        axis = (self.end - self.start) / np.linalg.norm(self.end - self.start)
        across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
        across /= np.linalg.norm(across)
        return np.stack([across, np.cross(axis, across), axis])

    @cached_property
    def corners(self) -> Float64:
        """Its bounding box along the axis."""
        first, second, _ = self.frame
        middle, half = (self.start + self.end) / 2, (self.end - self.start) / 2
        return np.asarray(middle + _SIGNS @ np.stack([first * self.radius, second * self.radius, half]))

    def meet(self, view: View, rows: Index, columns: Index) -> tuple[Float32, Faces]:
        """See `Hexahedron.meet`: the infinite mantle cut by the slab between the caps."""
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

    def normals(self, points: Float32, faces: Faces) -> Float32:
        """See `Hexahedron.normals`."""
        frame = self.frame.astype(np.float32)
        mantle = frame[:2].T @ (frame[:2] @ (points - self.start.astype(np.float32)[:, None]) / self.radius)
        return np.asarray(np.where(faces == SIDE, mantle, np.where(faces == FAR_CAP, 1, -1) * frame[2][:, None]))


Solid = Hexahedron | Ellipsoid | Cylinder
"""A convex body: (8, 3) `corners` whose hull holds it, where rays `meet` it, and its `normals`."""
