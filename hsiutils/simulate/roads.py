"""The road in its own coordinates: metres ahead (u) and metres to the right of the centre line (v)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.marks import Mark
from hsiutils.simulate.noise import Field
from hsiutils.simulate.stage import Pose


@dataclass(frozen=True)
class Curve:
    """Centre line x(y): a parabola as far as `straight_from`, its tangent from there on.

    u is y, and v the distance from the centre line to first order in the curvature: exact on a straight road.

    Attributes
    ----------
    offset : x at y = 0, metres.
    slope : dx/dy at y = 0.
    curvature : 1/m, positive to the right.
    straight_from : y where the bend ends, metres.
    """

    offset: float = 0.0
    slope: float = 0.0
    curvature: float = 0.0
    straight_from: float = 120.0

    def centre(self, y: NDArray[np.floating]) -> NDArray[np.floating]:
        """X of the centre line."""
        bent = np.clip(y, -self.straight_from, self.straight_from)
        return np.asarray(
            self.offset + bent * (self.slope + bent * (self.curvature / 2)) + (y - bent) * self.direction(y)
        )

    def direction(self, y: NDArray[np.floating]) -> NDArray[np.floating]:
        """dx/dy of the centre line."""
        return np.asarray(self.slope + self.curvature * np.clip(y, -self.straight_from, self.straight_from))

    def across(self, x: Field, y: Field) -> Field:
        """Signed distance to the right of the centre line of points on the ground, metres."""
        return np.asarray((x - self.centre(y)) / np.sqrt(1 + self.direction(y) ** 2), dtype=np.float32)

    def pose(self, u: float, v: float, turn: float = 0.0, height: float = 0.0) -> Pose:
        """Where something at (u, v) stands, looking along the road (turned by `turn` radians)."""
        y = np.array(float(u))
        direction = float(self.direction(y))
        x = float(self.centre(y)) + v * np.sqrt(1 + direction**2)
        return Pose(x, float(u), float(np.arctan(direction)) + turn, height)

    def chords(self, v: float, start: float, end: float) -> list[tuple[Pose, float]]:
        """Straight pieces of a line at `v` along the road: pose and length, longer where they are far away."""
        pieces, u = [], start
        while u < end:
            step = float(np.clip(0.15 * abs(u), 4.0, 20.0))
            here, there = self.pose(u, v), self.pose(min(u + step, end), v)
            across, ahead = there.x - here.x, there.y - here.y
            # A touch too long, so that no light falls through the joints.
            length = float(np.hypot(across, ahead)) + 0.02
            pieces.append((Pose(here.x, here.y, float(np.arctan2(across, ahead))), length))
            u += step
        return pieces


@dataclass(frozen=True)
class Zone:
    """A strip along the road with one surface.

    Attributes
    ----------
    slot : of its surface.
    kind : "asphalt", "paving", "green" or "bare": what its texture looks like.
    height : above the carriageway, metres (0 or the kerb's height).
    """

    slot: int
    kind: str
    height: float = 0.0


@dataclass(frozen=True)
class SideStreet:
    """A stretch where the strips on one side give way to asphalt.

    Attributes
    ----------
    start, end : u, metres. beyond : v from which it holds, to the side that the sign says.
    """

    start: float
    end: float
    beyond: float

    def covers(self, u: Field, v: Field) -> NDArray[np.bool_]:
        """Whether points belong to the side street."""
        outside = v > self.beyond if self.beyond > 0 else v < self.beyond
        return np.asarray(outside & (u > self.start) & (u < self.end))


@dataclass(frozen=True)
class Road:
    """Cross-section and markings of a road.

    Attributes
    ----------
    edges : (n,) v where one strip ends and the next begins, ascending.
    zones : n + 1 strips from left to right.
    side_streets : where the outer strips are interrupted by the zone `junction`.
    lanes : v of the middle of each lane; the wheels of others have polished two tracks into each.
    marks : painted on the carriageway, and the slot of the paint.
    patches : (n, 4) u from, u to, v from, v to of repaired stretches, and their slot.
    lids : (n, 2) u, v of manhole covers, and their slot.
    kerb : slot of the face of a kerb.
    """

    curve: Curve
    edges: NDArray[np.float32]
    zones: tuple[Zone, ...]
    junction: Zone
    lanes: tuple[float, ...]
    marks: tuple[Mark, ...]
    paint: int
    patches: NDArray[np.float32]
    patch: int
    lids: NDArray[np.float32]
    lid: int
    kerb: int
    puddle: int
    side_streets: tuple[SideStreet, ...] = field(default=())

    def zone(self, u: Field, v: Field) -> NDArray[np.intp]:
        """Number of the strip at each point; the last one past `zones` is the junction."""
        index = np.searchsorted(self.edges, v)
        for street in self.side_streets:
            index[street.covers(u, v)] = len(self.zones)
        return np.asarray(index)

    @property
    def all_zones(self) -> tuple[Zone, ...]:
        """The strips as `zone` numbers them."""
        return (*self.zones, self.junction)
