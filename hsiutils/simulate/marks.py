"""What is painted on roads, in road coordinates: u ahead, v to the right, metres."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.noise import Field

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
