"""What faces carry besides one material: frames around panes, windows and doors in walls."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.noise import Field
from hsiutils.simulate.solids import FRONT, REAR, Faces, Hexahedron, Solid


@dataclass(frozen=True)
class Framed:
    """A border along the edges of some faces: the pillars around a car's windows.

    Attributes
    ----------
    width_m : of the border. slot : of the border. faces : that have it.
    """

    width_m: float
    slot: int
    faces: tuple[int, ...]

    def slots(self, solid: Solid, points: Field, faces: Faces, slots: NDArray[np.int32]) -> NDArray[np.int32]:
        """See `Finish.slots`."""
        if not isinstance(solid, Hexahedron):
            raise TypeError(f"only hexahedra have framed faces, got {type(solid).__name__}")
        border = (solid.edge_distance(points, faces) < self.width_m) & np.isin(faces, self.faces)
        return np.where(border, np.int32(self.slot), slots)


@dataclass(frozen=True)
class Facade:
    """Rows of windows on the walls of a box, and doors at its foot.

    Attributes
    ----------
    bay_m, storey_m : distance between windows along and up the wall.
    window : width and height of a window.
    sill_m : height of its lower edge above the storey's floor.
    glass, frame, door : slots. door_every : bays from door to door, 0 for none.
    """

    bay_m: float
    storey_m: float
    window: tuple[float, float]
    sill_m: float
    glass: int
    frame: int
    door: int
    door_every: int = 0

    def slots(self, solid: Solid, points: Field, faces: Faces, slots: NDArray[np.int32]) -> NDArray[np.int32]:
        """See `Finish.slots`."""
        base, height = solid.corners[0].astype(np.float32), float(np.ptp(solid.corners[:, 2]))
        along = _along_wall(solid, points - base[:, None], faces)
        up = points[2] - base[2]
        bay, storey = np.floor(along / self.bay_m), np.floor(up / self.storey_m)
        beside = np.abs(along - (bay + 0.5) * self.bay_m)
        above = up - storey * self.storey_m - self.sill_m
        wall = (faces >= REAR) & ((storey + 1) * self.storey_m < height + 0.3)
        pane = wall & (beside < self.window[0] / 2) & (above > 0) & (above < self.window[1])
        rim = wall & ~pane & (beside < self.window[0] / 2 + 0.1) & (above > -0.1) & (above < self.window[1] + 0.1)
        out = np.where(pane, np.int32(self.glass), np.where(rim, np.int32(self.frame), slots))
        if self.door_every:
            entrance = wall & (storey == 0) & (np.mod(bay, self.door_every) == 0) & (beside < 0.55) & (up < 2.2)
            out = np.where(entrance, np.int32(self.door), out)
        return out


def _along_wall(solid: Solid, offset: Field, faces: Faces) -> Field:
    """Distance along the wall from the corner that all walls of a box are measured from."""
    vertices = solid.corners
    right, front = ((vertices[i] - vertices[0]) / np.linalg.norm(vertices[i] - vertices[0]) for i in (1, 2))
    crosswise = np.isin(faces, (REAR, FRONT))
    return np.asarray(np.where(crosswise, right.astype(np.float32) @ offset, front.astype(np.float32) @ offset))
