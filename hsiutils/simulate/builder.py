"""What a scene is made of while it is being put up: slots with labels, parts of things, and where they stand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.geometry import Faces, Hexahedron, Solid, Vector
from hsiutils.simulate.surfaces import Slot
from hsiutils.simulate.textures import Field

GROUND_ID = 1
"""Object number of all that lies flat on the ground."""


class Finish(Protocol):
    """What a part has on its faces besides the slot of each face: windows in a wall, pillars around a windscreen."""

    def slots(self, solid: Solid, points: Field, faces: Faces, slots: NDArray[np.int32]) -> NDArray[np.int32]:
        """Slots (n,) at surface points (3, n) of a solid, given the slots of the bare faces."""


@dataclass(frozen=True)
class Part:
    """One solid of one thing.

    Attributes
    ----------
    slots : index of the slot of each face, or a single one for all.
    object_id : of the thing it belongs to.
    porosity : share of the surface that is gaps between leaves, 0..1.
    """

    solid: Solid
    slots: tuple[int, ...]
    object_id: int
    finish: Finish | None = None
    porosity: float = 0.0


@dataclass
class Stage:
    """Collects the parts of a scene.

    Attributes
    ----------
    rng : source of everything random in the scene.
    slots, labels : the slots so far, and the HSI-Drive label code of each.
    parts : the parts so far.
    things : objects so far, the ground included.
    """

    rng: np.random.Generator
    slots: list[Slot] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    things: int = GROUND_ID

    def slot(self, material: str, label: int, blend: str | None = None) -> int:
        """Index of a new slot with a physical sample of its own."""
        self.slots.append(Slot(material, blend, int(self.rng.integers(2**31))))
        self.labels.append(label)
        return len(self.slots) - 1

    def thing(self) -> int:
        """Number of a new object."""
        self.things += 1
        return self.things

    def add(
        self,
        solid: Solid,
        slots: int | Sequence[int],
        object_id: int,
        finish: Finish | None = None,
        porosity: float = 0.0,
    ) -> None:
        """Put up one part; `slots` is one for all faces or one for each."""
        faces = (slots,) * 6 if isinstance(slots, int) else tuple(slots)
        self.parts.append(Part(solid, faces, object_id, finish, porosity))

    def chance(self, probability: float) -> bool:
        """Whether an event of this probability happens."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """A number drawn evenly from an interval."""
        return float(self.rng.uniform(low, high))


@dataclass(frozen=True)
class Pose:
    """Where a thing stands on the ground and which way it looks.

    Attributes
    ----------
    x, y, z : metres, world axes. heading : radians, 0 looks along +y, positive turns towards +x.
    """

    x: float
    y: float
    heading: float = 0.0
    z: float = 0.0

    def world(self, local: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (..., 3) from the thing's own axes (x right, y ahead, z up) to the world's."""
        cosine, sine = np.cos(self.heading), np.sin(self.heading)
        turn = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(local @ turn.T + np.array([self.x, self.y, self.z]))

    def point(self, x: float, y: float, z: float) -> Vector:
        """One point in the world."""
        return self.world(np.array([x, y, z]))

    def moved(self, x: float, y: float, turn: float = 0.0) -> "Pose":
        """A pose given in this one's axes."""
        placed = self.point(x, y, 0.0)
        return Pose(float(placed[0]), float(placed[1]), self.heading + turn, self.z)


Rectangle = tuple[float, float, float, float]
"""Left, right, rear and front edge in a thing's own axes, metres."""


def frustum(pose: Pose, bottom: Rectangle, low: float, top: Rectangle, high: float) -> Hexahedron:
    """A body between two level rectangles at heights `low` and `high`."""
    vertices = [
        (rectangle[right], rectangle[2 + front], height)
        for rectangle, height in ((bottom, low), (top, high))
        for front in (0, 1)
        for right in (0, 1)
    ]
    return Hexahedron(pose.world(np.array(vertices)))


def box(pose: Pose, base: Rectangle, low: float, high: float) -> Hexahedron:
    """An upright box between two heights."""
    return frustum(pose, base, low, base, high)
