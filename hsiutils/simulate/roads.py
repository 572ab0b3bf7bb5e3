"""The road in its own coordinates: metres ahead (u) and metres to the right of the centre line (v).

What is painted on roads, in road coordinates: u ahead, v to the right, metres.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.builder import Pose
from hsiutils.simulate.textures import Field

Mask = NDArray[np.bool_]


class Mark(Protocol):
    """A painted figure."""

    def covers(self, u: Field, v: Field) -> Mask:
        """Whether points (n,) are painted."""


@dataclass(frozen=True)
class Line:
    """A line along the road.

    Attributes
    ----------
    v : of its middle. width : metres.
    dash, gap : lengths of painted and bare stretches; gap 0 is a solid line.
    phase : u where a dash begins.
    start, end : u between which it is painted at all.
    """

    v: float
    width: float
    dash: float = 1.0
    gap: float = 0.0
    phase: float = 0.0
    start: float = -np.inf
    end: float = np.inf

    def covers(self, u: Field, v: Field) -> Mask:
        """See `Mark.covers`."""
        on = np.abs(v - self.v) < self.width / 2
        on[on] = (u[on] > self.start) & (u[on] < self.end)
        if self.gap:
            on[on] = np.mod(u[on] - self.phase, self.dash + self.gap) < self.dash
        return np.asarray(on)


@dataclass(frozen=True)
class Bars:
    """Bars side by side across the road: a zebra crossing, or with `gap` 0 a stop line.

    Attributes
    ----------
    start, end : u. left, right : v. bar, gap : widths of painted and bare stripes.
    """

    start: float
    end: float
    left: float
    right: float
    bar: float = 0.5
    gap: float = 0.5

    def covers(self, u: Field, v: Field) -> Mask:
        """See `Mark.covers`."""
        on = (u > self.start) & (u < self.end)
        across = v[on]
        inside = (across > self.left) & (across < self.right)
        if self.gap:
            inside &= np.mod(across - self.left, self.bar + self.gap) < self.bar
        on[on] = inside
        return np.asarray(on)


@dataclass(frozen=True)
class Hatching:
    """Slanted stripes in an area closed to traffic.

    Attributes
    ----------
    start, end : u. left, right : v at `start`; the area narrows to the side `right` at `end`.
    """

    start: float
    end: float
    left: float
    right: float
    stripe: float = 0.5
    gap: float = 1.2

    def covers(self, u: Field, v: Field) -> Mask:
        """See `Mark.covers`."""
        on = (u > self.start) & (u < self.end)
        ahead, across = u[on], v[on]
        edge = self.left + (self.right - self.left) * (ahead - self.start) / (self.end - self.start)
        inside = (across - edge) * np.sign(self.right - self.left) > 0
        inside &= (across - self.right) * np.sign(self.right - self.left) < 0
        border = np.abs(across - edge) < 0.1
        striped = np.mod(ahead + across - self.start, self.stripe + self.gap) < self.stripe
        on[on] = inside & striped | border
        return np.asarray(on)


@dataclass(frozen=True)
class Arrow:
    """A lane arrow: shaft, and a head ahead or to a side.

    Attributes
    ----------
    u, v : of the foot of the shaft. length : of the whole arrow.
    turn : 0 straight on, -1 left, 1 right.
    """

    u: float
    v: float
    length: float = 5.0
    turn: int = 0

    def covers(self, u: Field, v: Field) -> Mask:
        """See `Mark.covers`."""
        on = (u > self.u) & (u < self.u + self.length + 1) & (np.abs(v - self.v) < 1.5)
        ahead, across = (u[on] - self.u) / self.length, v[on] - self.v
        if self.turn:
            across = across * self.turn
            shaft = (ahead < 0.75) & (np.abs(across) < 0.12)
            arm = (ahead > 0.68) & (ahead < 0.75) & (across > 0) & (across < 0.6)
            head = (across > 0.5) & (np.abs(ahead - 0.715) < 0.14 * (1.25 - across) / 0.75)
            on[on] = shaft | arm | head & (across < 1.25)
        else:
            shaft = (ahead < 0.62) & (np.abs(across) < 0.12)
            head = (ahead >= 0.6) & (np.abs(across) < 0.45 * (1 - ahead) / 0.4)
            on[on] = shaft | head
        return np.asarray(on)


@dataclass(frozen=True)
class Teeth:
    """A give-way line of triangles that point at the driver.

    Attributes
    ----------
    start : u of the tips. left, right : v.
    """

    start: float
    left: float
    right: float
    length: float = 0.7
    pitch: float = 0.75

    def covers(self, u: Field, v: Field) -> Mask:
        """See `Mark.covers`."""
        on = (u > self.start) & (u < self.start + self.length)
        across, depth = v[on], (u[on] - self.start) / self.length
        inside = (across > self.left) & (across < self.right)
        place = np.abs(np.mod(across - self.left, self.pitch) - self.pitch / 2)
        on[on] = inside & (place < 0.3 * depth)
        return np.asarray(on)


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
