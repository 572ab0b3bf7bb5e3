"""What a scene is made of while it is being put up: slots with labels, parts of things, and where they stand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.geometry import Faces, Hexahedron, Solid, Vector
from hsiutils.simulate.surfaces import Float32, Float64, Slot

GROUND_ID = 1
"""Object number of all that lies flat on the ground."""
Finish = Callable[[Solid, Float32, Faces, NDArray[np.int32]], NDArray[np.int32]]
"""What a part has on its faces: slots (n,) at points (3, n) of a solid, given the faces (n,) and their bare slots."""


@dataclass(frozen=True)
class Part:
    """One solid of one object: the slot of each face, and the share of its surface that is gaps between leaves."""

    solid: Solid
    slots: tuple[int, ...]
    object_id: int
    finish: Finish | None = None
    porosity: float = 0.0


@dataclass
class Stage:
    """Collects the parts of a scene, with the generator of all that is random in it."""

    rng: np.random.Generator
    slots: list[Slot] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)  # HSI-Drive label code of each slot
    parts: list[Part] = field(default_factory=list)
    objects: int = GROUND_ID  # number of the newest object; the ground is the first
    lit: float = 0.3  # share of vehicles with their lights on

    def slot(self, material: str, label: int, blend: str | None = None) -> int:
        """Index of a new slot with a physical sample of its own."""
        self.slots.append(Slot(material, blend, int(self.rng.integers(2**31))))
        self.labels.append(label)
        return len(self.slots) - 1

    def begin(self) -> None:
        """Begin a new object: parts belong to it from here on."""
        self.objects += 1

    def add(self, solid: Solid, slots: int | Sequence[int], finish: Finish | None = None, porosity: float = 0) -> None:
        """Put up one part of the newest object; `slots` is one for all faces or one for each."""
        faces = (slots,) * 6 if isinstance(slots, int) else tuple(slots)
        self.parts.append(Part(solid, faces, self.objects, finish, porosity))

    def chance(self, probability: float) -> bool:
        """Whether an event of this probability happens."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """A number drawn evenly from an interval."""
        return float(self.rng.uniform(low, high))


@dataclass(frozen=True)
class Pose:
    """Where a thing stands, in metres, and its heading in radians: 0 looks along +y, positive turns towards +x."""

    x: float
    y: float
    heading: float = 0.0
    z: float = 0.0

    def world(self, local: Float64) -> Float64:
        """Points (..., 3) from the thing's own axes (x right, y ahead, z up) to the world's."""
        cosine, sine = np.cos(self.heading), np.sin(self.heading)
        turn = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(local @ turn.T + np.array([self.x, self.y, self.z]))

    def point(self, x: float, y: float, z: float) -> Vector:
        """One point in the world."""
        return self.world(np.array([x, y, z]))


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
