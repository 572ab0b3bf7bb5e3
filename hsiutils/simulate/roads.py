"""A road in its own coordinates, metres: u ahead, v to the right of the centre line; and what is painted on it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.builder import Pose
from hsiutils.simulate.surfaces import Float32

Mask = NDArray[np.bool_]
Lanes = tuple[tuple[float, int], ...]
"""(v, direction) of the middle of each lane; see `Road`."""


@dataclass(frozen=True)
class Line:
    """A line along the road with its middle at `v`: solid, or with a gap between dashes that begin at `phase`."""

    v: float
    width: float
    dash: float = 1.0
    gap: float = 0.0
    phase: float = 0.0

    def widened(self, factor: float) -> "Line":
        """The same with wider strokes."""
        return replace(self, width=self.width * factor)

    def covers(self, u: Float32, v: Float32) -> Mask:
        """Whether points (n,) are painted."""
        on = np.abs(v - self.v) < self.width / 2
        if self.gap:
            on[on] = np.mod(u[on] - self.phase, self.dash + self.gap) < self.dash
        return np.asarray(on)


@dataclass(frozen=True)
class Bars:
    """Bars side by side across the road, of u and v like these: a zebra crossing, or with `gap` 0 a stop line."""

    start: float
    end: float
    left: float
    right: float
    bar: float = 0.5
    gap: float = 0.5

    def widened(self, factor: float) -> "Bars":
        """See `Line.widened`; a stop line is a stroke as a whole."""
        end = self.end if self.gap else self.start + factor * (self.end - self.start)
        return replace(self, end=end, bar=self.bar * factor, gap=self.gap * factor)

    def covers(self, u: Float32, v: Float32) -> Mask:
        """See `Line.covers`."""
        on = (u > self.start) & (u < self.end) & (v > self.left) & (v < self.right)
        if self.gap:
            on[on] = np.mod(v[on] - self.left, self.bar + self.gap) < self.bar
        return np.asarray(on)


@dataclass(frozen=True)
class Hatching:
    """Slanted stripes in an area closed to traffic, which narrows to the side `right` towards its end."""

    start: float
    end: float
    left: float
    right: float
    stripe: float = 0.5
    gap: float = 1.2

    def widened(self, factor: float) -> "Hatching":
        """See `Line.widened`."""
        return replace(self, stripe=self.stripe * factor, gap=self.gap * factor)

    def covers(self, u: Float32, v: Float32) -> Mask:
        """See `Line.covers`."""
        on = (u > self.start) & (u < self.end)
        ahead, across = u[on], v[on]
        edge = self.left + (self.right - self.left) * (ahead - self.start) / (self.end - self.start)
        side = np.sign(self.right - self.left)
        inside = ((across - edge) * side > 0) & ((across - self.right) * side < 0)
        striped = np.mod(ahead + across - self.start, self.stripe + self.gap) < self.stripe
        on[on] = inside & striped | (np.abs(across - edge) < 0.1)
        return np.asarray(on)


@dataclass(frozen=True)
class Arrow:
    """A lane arrow with the foot of its shaft at (u, v) and a head straight on (turn 0), left (-1) or right (1)."""

    u: float
    v: float
    length: float = 5.0
    turn: int = 0
    stroke: float = 1.0

    def widened(self, factor: float) -> "Arrow":
        """See `Line.widened`."""
        return replace(self, stroke=min(factor, 1.4) if self.turn else factor)  # a turn must stay in its lane

    def covers(self, u: Float32, v: Float32) -> Mask:
        """See `Line.covers`."""
        on = (u > self.u) & (u < self.u + self.length + 1) & (np.abs(v - self.v) < 1.5 * self.stroke)
        ahead, across = (u[on] - self.u) / self.length, (v[on] - self.v) / self.stroke
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
    """A give-way line of triangles that point at the driver, their tips at `start`."""

    start: float
    left: float
    right: float
    length: float = 0.7
    pitch: float = 0.75

    def widened(self, factor: float) -> "Teeth":
        """See `Line.widened`."""
        return replace(self, length=self.length * factor, pitch=self.pitch * factor)

    def covers(self, u: Float32, v: Float32) -> Mask:
        """See `Line.covers`."""
        on = (u > self.start) & (u < self.start + self.length) & (v > self.left) & (v < self.right)
        place = np.abs(np.mod(v[on] - self.left, self.pitch) - self.pitch / 2)
        on[on] = place < 0.4 * self.pitch * ((u[on] - self.start) / self.length)
        return np.asarray(on)


Mark = Line | Bars | Hatching | Arrow | Teeth
"""A painted figure."""


@dataclass(frozen=True)
class Curve:
    """Centre line x(y), metres: a parabola, given at y = 0, as far as `straight_from`, its tangent from there on.

    u is y, and v the distance from the centre line to first order in the curvature: exact on a straight road.
    """

    offset: float = 0.0
    slope: float = 0.0
    curvature: float = 0.0
    straight_from: float = 120.0

    def centre(self, y: NDArray[np.floating]) -> NDArray[np.floating]:
        """X of the centre line."""
        bent = np.clip(y, -self.straight_from, self.straight_from)
        curved = self.offset + bent * (self.slope + bent * (self.curvature / 2))
        return np.asarray(curved + (y - bent) * self.direction(y))

    def direction(self, y: NDArray[np.floating]) -> NDArray[np.floating]:
        """dx/dy of the centre line."""
        return np.asarray(self.slope + self.curvature * np.clip(y, -self.straight_from, self.straight_from))

    def across(self, x: Float32, y: Float32) -> Float32:
        """Signed distance to the right of the centre line of points on the ground, metres."""
        return np.asarray((x - self.centre(y)) / np.sqrt(1 + self.direction(y) ** 2), dtype=np.float32)

    def pose(self, u: float, v: float, turn: float = 0.0, height: float = 0.0) -> Pose:
        """Where something at (u, v) stands, looking along the road (turned by `turn` radians)."""
        y = np.array(float(u))
        direction = float(self.direction(y))
        x = float(self.centre(y)) + v * np.sqrt(1 + direction**2)
        return Pose(x, float(u), float(np.arctan(direction)) + turn, height)

    def chord(self, v: float, start: float, end: float) -> tuple[Pose, float]:
        """A straight piece of a line at `v` between two u: its pose and length."""
        here, there = self.pose(start, v), self.pose(end, v)
        across, ahead = there.x - here.x, there.y - here.y
        return Pose(here.x, here.y, float(np.arctan2(across, ahead))), float(np.hypot(across, ahead))

    def chords(self, v: float, start: float, end: float) -> list[tuple[Pose, float]]:
        """Straight pieces of a line at `v` along the road: pose and length, longer where they are far away."""
        pieces, u = [], start
        while u < end:
            step = float(np.clip(0.15 * abs(u), 4.0, 20.0))
            pose, length = self.chord(v, u, min(u + step, end))
            # A touch too long, so that no light falls through the joints.
            pieces.append((pose, length + 0.02))
            u += step
        return pieces


@dataclass(frozen=True)
class Zone:
    """A strip along the road with one surface, level with the carriageway or a kerb's height above it, metres.

    Its kind, "asphalt", "paving", "green" or "bare", is what its texture looks like.
    """

    slot: int
    kind: str
    height: float = 0.0


@dataclass(frozen=True)
class SideStreet:
    """A stretch between two u where the strips give way to asphalt, beyond a v to the side that its sign says."""

    start: float
    end: float
    beyond: float

    def covers(self, u: Float32, v: Float32) -> Mask:
        """Whether points belong to the side street."""
        outside = v > self.beyond if self.beyond > 0 else v < self.beyond
        return np.asarray(outside & (u > self.start) & (u < self.end))


@dataclass(frozen=True)
class Road:
    """Cross-section and markings of a road; paint, patch, lid, kerb (its face) and puddle are slots."""

    curve: Curve
    edges: Float32  # (n,) v where one strip ends and the next begins, ascending
    zones: tuple[Zone, ...]  # n + 1 strips from left to right, and last what the side streets are made of
    sides: tuple[float, float]  # v where the strips next to the carriageway begin, left and right: pavements, verges
    depths: tuple[float, float]  # width of those strips, metres; houses and fields lie behind them
    lanes: Lanes  # middles from left to right; direction 1 is the camera's own, -1 oncoming
    own: int  # index of the lane that the camera drives in
    marks: tuple[Mark, ...]  # on the carriageway
    paint: int
    patches: Float32  # (n, 4) u from, u to, v from, v to of repaired stretches
    patch: int
    lids: Float32  # (n, 2) u, v of manhole covers
    lid: int
    kerb: int
    puddle: int
    parking: Lanes = ()  # (v, side) of the middles of parking lanes; side is -1 for the left
    side_streets: tuple[SideStreet, ...] = ()  # where the outer strips are interrupted

    def zone(self, u: Float32, v: Float32) -> NDArray[np.intp]:
        """Index into `zones` at each point."""
        index = np.searchsorted(self.edges, v)
        for street in self.side_streets:
            index[street.covers(u, v)] = len(self.zones) - 1
        return np.asarray(index)
