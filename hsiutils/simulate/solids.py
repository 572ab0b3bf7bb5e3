"""Solids that rays can meet: hexahedra, ellipsoids, cylinders.

Intersections are exact. Squared distances between ray and axis come from cross products, which stay accurate in single
precision for thin things far away, where the textbook discriminant b^2 - ac does not.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.rays import Vector, View
from hsiutils.simulate.surfaces import Image

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
