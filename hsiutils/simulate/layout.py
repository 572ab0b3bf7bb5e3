"""What stands beside and on a road: a town, the countryside, or a highway."""

from dataclasses import dataclass

import numpy as np

from hsiutils.simulate.buildings import add_block, add_bridge, add_house, add_wall
from hsiutils.simulate.conditions import Conditions
from hsiutils.simulate.crosssection import Corridor
from hsiutils.simulate.furniture import (
    add_bank,
    add_barrier,
    add_gantry,
    add_guard_rail,
    add_lamp,
    add_sign,
    add_traffic_light,
)
from hsiutils.simulate.marks import Bars
from hsiutils.simulate.people import add_cyclist, add_pedestrian
from hsiutils.simulate.plants import add_conifer, add_hedge, add_shrub, add_tree
from hsiutils.simulate.stage import Pose, Stage
from hsiutils.simulate.vehicles import add_car, add_van, add_vehicle

END_M = 170.0
"""Nothing is put up farther ahead."""

_BEHIND_M = -25.0
"""Things behind the camera matter for their shadows."""

_THEMES = ("bank", "bank", "hedge", "wood", "wood", "field", "field", "wall")
"""What goes along a country road."""


@dataclass(frozen=True)
class Side:
    """One side of a road.

    Attributes
    ----------
    sign : 1 for the right, -1 for the left.
    edge : v where the strip beside the carriageway begins. depth : width of that strip, metres.
    """

    sign: int
    edge: float
    depth: float

    def v(self, beyond: float) -> float:
        """V of something `beyond` metres outside the edge."""
        return self.edge + self.sign * beyond


def populate(stage: Stage, corridor: Corridor, conditions: Conditions) -> None:
    """Put up everything that stands on the ground."""
    sides = (Side(-1, corridor.left, corridor.depth[0]), Side(1, corridor.right, corridor.depth[1]))
    dress = {"urban": _town_side, "road": _country_side, "highway": _highway_side}[conditions.scene]
    for side in sides:
        dress(stage, corridor, conditions, side)
    if conditions.scene == "highway":
        _median(stage, corridor, conditions)
    _traffic(stage, corridor, conditions)


def _free(corridor: Corridor, side: Side, start: float, end: float) -> bool:
    """Whether no side street runs into the carriageway between two u."""
    return all(sign != side.sign or end < first or start > last for first, last, sign in corridor.junctions)


def _town_side(stage: Stage, corridor: Corridor, conditions: Conditions, side: Side) -> None:
    curve = corridor.road.curve
    if stage.chance(0.22):
        _terrace(stage, corridor, side)
    else:
        _park(stage, corridor, conditions, side)
    if stage.chance(0.65):
        pitch = stage.between(8, 15)
        for u in np.arange(stage.between(3, 12), 110, pitch):
            if _free(corridor, side, u - 3, u + 3):
                add_tree(stage, curve.pose(u, side.v(0.9)), conditions.season, stage.between(4.5, 8.0))
    for u in np.arange(stage.between(5, 25), 130, stage.between(18, 30)):
        add_lamp(stage, curve.pose(u, side.v(0.5)), -side.sign * stage.between(1.0, 2.0))
    for _ in range(int(stage.rng.integers(1, 4))):
        add_sign(stage, curve.pose(stage.between(8, 45), side.v(0.45)))
    if stage.chance(0.25):
        add_traffic_light(stage, curve.pose(stage.between(10, 35), side.v(0.4)))
    for _ in range(int(stage.rng.poisson(1.5))):
        u, turn = stage.between(6, 45), np.pi * stage.rng.integers(2)
        add_pedestrian(stage, curve.pose(u, side.v(stage.between(0.7, side.depth - 0.5)), turn, 0.12))


def _terrace(stage: Stage, corridor: Corridor, side: Side) -> None:
    """Houses wall to wall, now and then a gap."""
    setback = side.depth + (0.0 if stage.chance(0.4) else stage.between(2, 8))
    u = stage.between(_BEHIND_M, -8)
    while u < END_M:
        length = stage.between(8, 24)
        if _free(corridor, side, u, u + length):
            here, there = (corridor.road.curve.pose(place, side.v(setback)) for place in (u, u + length))
            along = Pose(here.x, here.y, float(np.arctan2(there.x - here.x, there.y - here.y)))
            add_block(stage, along, length, side.sign * stage.between(9, 14), stage.between(5, 15))
        u += length + (0.0 if stage.chance(0.75) else stage.between(3, 12))


def _park(stage: Stage, corridor: Corridor, conditions: Conditions, side: Side) -> None:
    """Green behind the pavement: a wall or a hedge, trees, some houses."""
    curve, boundary = corridor.road.curve, int(stage.rng.choice([0, 0, 1, 2, 2]))
    height = stage.between(0.8, 1.8)
    if boundary < 2:
        pieces = curve.chords(side.v(side.depth + 0.5), -6, 90)
        free = [(pose, length) for pose, length in pieces if _free(corridor, side, pose.y, pose.y + length)]
        (add_wall if boundary else add_hedge)(stage, free, height)
    _wood(stage, corridor, conditions, side, first=side.depth + 3, count=12)
    for _ in range(int(stage.rng.integers(0, 3))):
        add_house(stage, curve.pose(stage.between(30, 110), side.v(side.depth + stage.between(11, 26))))


def _wood(
    stage: Stage, corridor: Corridor, conditions: Conditions, side: Side, first: float, count: int, start: float = 4
) -> None:
    """Trees and shrubs scattered beside the road, denser near it."""
    conifers = stage.between(0, 0.6)
    for _ in range(count):
        u, beyond = stage.between(start, 140), first + stage.rng.gamma(1.5, 5.0)
        if _free(corridor, side, u - 3, u + 3):
            pose = corridor.road.curve.pose(u, side.v(beyond))
            plant = stage.rng.random()
            if plant < 0.3:
                add_shrub(stage, pose, conditions.season)
            else:
                (add_conifer if stage.chance(conifers) else add_tree)(stage, pose, conditions.season)


def _country_side(stage: Stage, corridor: Corridor, conditions: Conditions, side: Side) -> None:
    """Stretches of bank, hedge, wood, or open field along the road."""
    curve, theme = corridor.road.curve, str(stage.rng.choice(_THEMES))
    first = 2.0
    if theme == "bank":
        height, width = stage.between(1.5, 5.0), stage.between(2.0, 5.0)
        add_bank(stage, curve, side.v(0.8), side.sign * width, height, -8, END_M)
        first = 0.8 + 0.6 * width
    elif theme in ("hedge", "wall"):
        add = add_hedge if theme == "hedge" else add_wall
        add(stage, curve.chords(side.v(0.85), -6, 100), stage.between(0.9, 1.8))
    if theme in ("wood", "field") and stage.chance(0.5):
        add_guard_rail(stage, curve, side.v(0.3), -6, stage.between(60, END_M))
    _wood(stage, corridor, conditions, side, first, {"field": 10, "wood": 38}.get(theme, 22))
    for _ in range(int(stage.rng.poisson(0.8))):
        add_house(stage, curve.pose(stage.between(30, 120), side.v(stage.between(14, 35)), stage.between(-0.4, 0.4)))
    for _ in range(int(stage.rng.integers(0, 3))):
        add_sign(stage, curve.pose(stage.between(8, 60), side.v(0.5)))
    if stage.chance(0.25):
        for u in np.arange(stage.between(5, 30), 150, 35):
            add_lamp(stage, curve.pose(u, side.v(0.8)), -side.sign * 1.2)


def _highway_side(stage: Stage, corridor: Corridor, conditions: Conditions, side: Side) -> None:
    curve = corridor.road.curve
    first = 2.0
    if stage.chance(0.6):
        add_guard_rail(stage, curve, side.v(0.3), -6, END_M)
    if stage.chance(0.55):
        height, width = stage.between(2.0, 8.0), stage.between(3.0, 8.0)
        add_bank(stage, curve, side.v(1.6), side.sign * width, height, -8, END_M)
        first = 1.6 + 0.5 * width
    elif stage.chance(0.1):
        add_wall(stage, curve.chords(side.v(1.5), -6, 110), stage.between(2.0, 4.0))
    _wood(stage, corridor, conditions, side, first, 26)
    for _ in range(int(stage.rng.integers(0, 3))):
        add_sign(stage, curve.pose(stage.between(12, 80), side.v(0.7)))
    if stage.chance(0.3):
        for u in np.arange(stage.between(5, 30), 150, 38):
            add_lamp(stage, curve.pose(u, side.v(0.8)), -side.sign * 2.0)


def _median(stage: Stage, corridor: Corridor, conditions: Conditions) -> None:
    """What keeps the two directions of a highway apart, and what spans them."""
    curve, edges = corridor.road.curve, corridor.road.edges
    low, high = float(edges[1]), float(edges[2])
    if high - low < 2.5:
        add_barrier(stage, curve, (low + high) / 2, -6, END_M)
    else:
        add_guard_rail(stage, curve, (low + high) / 2, -6, END_M)
        if stage.chance(0.6):
            for u in np.arange(2, 90, stage.between(3, 6)):
                add_shrub(stage, curve.pose(u, low + 0.3 * (high - low)), conditions.season, stage.between(0.8, 1.6))
    span = (corridor.left - 0.5, corridor.right + 0.5)
    if stage.chance(0.18):
        add_bridge(stage, curve.pose(stage.between(45, 110), 0.0), span[0] - 1, span[1] + 1)
    if stage.chance(0.3):
        add_gantry(stage, curve.pose(stage.between(30, 80), 0.0), high - 0.8, span[1])


def _traffic(stage: Stage, corridor: Corridor, conditions: Conditions) -> None:
    """Vehicles at safe distances in every lane, parked ones, cyclists, somebody on a crossing."""
    curve = corridor.road.curve
    headway = {"urban": 60.0, "road": 90.0, "highway": 80.0}[conditions.scene]
    for index, (v, direction) in enumerate(corridor.lanes):
        nearest = 12.0 if index != corridor.own else 18.0
        u = nearest + stage.rng.exponential(headway * (0.6 if index != corridor.own else 1.0))
        while u < END_M:
            turn = 0.0 if direction > 0 else np.pi
            pose = curve.pose(u, v + stage.between(-0.25, 0.25), turn)
            add_vehicle(stage, pose, heavy=0.16 if conditions.scene == "highway" else 0.08)
            u += 14 + stage.rng.exponential(headway)
    for v, side in corridor.parking:
        _parked(stage, corridor, v, side)
    if conditions.scene != "highway" and stage.chance(0.25):
        v = corridor.lanes[-1][0] + 1.0
        add_cyclist(stage, curve.pose(stage.between(8, 30), v))
    for mark_u in _crossing_places(corridor):
        if stage.chance(0.4):
            turn = stage.rng.choice([-0.5, 0.5]) * np.pi
            add_pedestrian(stage, curve.pose(mark_u, stage.between(corridor.left, corridor.right), turn))


def _parked(stage: Stage, corridor: Corridor, v: float, side: int) -> None:
    u, facing = stage.between(6, 16), 0.0 if side > 0 else np.pi
    while u < 90:
        free = all(sign != side or u + 4 < first or u - 4 > last for first, last, sign in corridor.junctions)
        if free and stage.chance(0.45):
            pose = corridor.road.curve.pose(u, v + stage.between(-0.1, 0.1), facing + stage.between(-0.03, 0.03))
            (add_van if stage.chance(0.12) else add_car)(stage, pose)
        u += stage.between(5.4, 6.6)


def _crossing_places(corridor: Corridor) -> list[float]:
    """U of the middles of zebra crossings."""
    return [(mark.start + mark.end) / 2 for mark in corridor.road.marks if isinstance(mark, Bars) and mark.gap]
