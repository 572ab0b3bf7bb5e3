"""Putting a scene together: a road, what stands on and beside it, the hills far away, and where the camera is."""

from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.classes import VEGETATION
from hsiutils.data.names import Conditions
from hsiutils.simulate import objects, plants
from hsiutils.simulate.builder import GROUND_ID, Stage
from hsiutils.simulate.geometry import Perspective
from hsiutils.simulate.road_layouts import lay_road
from hsiutils.simulate.roads import Bars, Road
from hsiutils.simulate.surfaces import Float32, Noise

FIELD_OF_VIEW: Final = np.radians(42.0)
"""Horizontal, edge to edge; the smaller of the usual for a camera behind a windscreen."""
HORIZON_ID: Final = GROUND_ID + 1
END_M = 170.0
"""Nothing is put up farther ahead."""
_BEHIND_M = -25.0
"""Things behind the camera matter for their shadows."""
_THEMES = ("bank", "bank", "hedge", "wood", "wood", "field", "field", "wall")
"""What goes along a country road."""
_RIDGE: Final = Noise(seed=5)
_CROWNS: Final = Noise(seed=6)


@dataclass(frozen=True)
class Horizon:
    """A ring of hills around the camera; height and roughness are mean and standard deviation of its skyline.

    The slots are of what grows there, from the foot to the top.
    """

    distance_m: float
    height_m: float
    roughness_m: float
    slots: tuple[int, ...]
    seed: int

    def meet(self, origin: Float32, direction: Float32) -> tuple[Float32, NDArray[np.int32]]:
        """Ray parameter (inf above the skyline) and slot for rays from origin (3, 1) along direction (3, n).

        The skyline is a function of azimuth: far hills do not move when the car does.
        """
        t = self.distance_m / np.hypot(direction[0], direction[1])
        along = self.distance_m * np.arctan2(direction[0], direction[1])
        height = origin[2] + t * direction[2]
        where = np.full_like(along, self.seed % 1000 * 64)
        ridge = _RIDGE.plane(along, where, 160.0) + 0.25 * _RIDGE.plane(along, where, 14.0)
        crest = np.maximum(self.height_m + self.roughness_m * ridge, 2.0)
        stands = 0.5 + 0.5 * height / crest + 0.25 * _RIDGE.plane(along, height + where, 40.0)
        index = np.clip((stands * len(self.slots)).astype(np.int32), 0, len(self.slots) - 1)
        slot = np.array(self.slots, dtype=np.int32)[index]
        return np.where(height < crest, t, np.inf).astype(np.float32), slot

    def brightness(self, points: Float32) -> Float32:
        """Light and dark of crowns and clearings at points (3, n) of the ring."""
        along = self.distance_m * np.arctan2(points[0], points[1])
        return np.asarray(np.clip(1 + 0.3 * _CROWNS.plane(along, points[2], 6.0), 0.4, 1.7))


@dataclass(frozen=True)
class Scene:
    """A scene before anybody looks at it: road, what stands beside it, and the hills that close the view."""

    stage: Stage
    road: Road
    horizon: Horizon
    pose: tuple[float, float, float, float]  # pitch, yaw, roll in radians and height in metres of the camera
    film: float  # see `hsiutils.simulate.ground.wetness`
    puddles: float

    def camera(self, shape: tuple[int, int]) -> Perspective:
        """The view through the lens with this many rays."""
        pitch, yaw, roll, height = self.pose
        return Perspective.looking(np.array([0.0, 0.0, height]), shape, FIELD_OF_VIEW, pitch, yaw, roll)


def compose(conditions: Conditions, seed: int, widening: float = 1.0) -> Scene:
    """Draw a scene for the conditions, its road marks wider by a factor; the same of all give the same scene."""
    lit = 0.35 if conditions.weather in ("sunny", "cloudy") and conditions.daytime == "midday" else 0.8
    stage = Stage(np.random.default_rng([seed, crc32(conditions.name.encode())]), objects=HORIZON_ID, lit=lit)
    road = lay_road(stage, conditions, widening)
    leaves = plants.DECIDUOUS[conditions.season]
    slots = (
        stage.slot("grass", VEGETATION, "dry_grass"),
        stage.slot(leaves.material, VEGETATION, leaves.blend),
        stage.slot("conifer", VEGETATION, "bark"),
    )
    height = stage.between(4, 15)
    horizon = Horizon(stage.between(250, 450), height, 0.35 * height, slots, int(stage.rng.integers(2**31)))
    dress = {"urban": _town_side, "road": _country_side, "highway": _highway_side}[conditions.scene]
    for sign, v, depth in zip((-1, 1), road.sides, road.depths, strict=True):
        dress(stage, road, conditions, _Side(sign, v, depth))
    if conditions.scene == "highway":
        _median(stage, road, conditions)
    _traffic(stage, road, conditions)
    pitch, yaw, roll = np.radians([5.9, 0, 0]) + [stage.rng.normal(0, spread) for spread in (0.006, 0.01, 0.004)]
    pose = (float(pitch), float(yaw), float(roll), 1.4 + stage.between(-0.05, 0.05))
    wet = conditions.weather == "wet"
    film, puddles = (stage.between(0.25, 0.6), stage.between(0.0, 0.08)) if wet else (0.0, 0.0)
    return Scene(stage, road, horizon, pose, film, puddles)


@dataclass(frozen=True)
class _Side:
    """One side of a road: 1 for the right, -1 for the left; v of the strip beside the carriageway, and its width."""

    sign: int
    edge: float
    depth: float

    def v(self, beyond: float) -> float:
        """V of something `beyond` metres outside the edge."""
        return self.edge + self.sign * beyond


def _free(road: Road, sign: int, start: float, end: float) -> bool:
    """Whether no side street runs into this side of the carriageway between two u."""
    streets = (street for street in road.side_streets if street.beyond * sign > 0)
    return all(end < street.start or start > street.end for street in streets)


def _town_side(stage: Stage, road: Road, conditions: Conditions, side: _Side) -> None:
    curve = road.curve
    if stage.chance(0.22):
        _terrace(stage, road, side)
    else:
        _park(stage, road, conditions, side)
    if stage.chance(0.65):
        pitch = stage.between(8, 15)
        for u in np.arange(stage.between(3, 12), 110, pitch):
            if _free(road, side.sign, u - 3, u + 3):
                plants.add_tree(stage, curve.pose(u, side.v(0.9)), conditions.season, stage.between(4.5, 8.0))
    for u in np.arange(stage.between(5, 25), 130, stage.between(18, 30)):
        objects.add_lamp(stage, curve.pose(u, side.v(0.5)), -side.sign * stage.between(1.0, 2.0))
    for _ in range(int(stage.rng.integers(1, 4))):
        objects.add_sign(stage, curve.pose(stage.between(8, 45), side.v(0.45)))
    if stage.chance(0.25):
        objects.add_traffic_light(stage, curve.pose(stage.between(10, 35), side.v(0.4)))
    for _ in range(int(stage.rng.poisson(1.5))):
        u, turn = stage.between(6, 45), np.pi * stage.rng.integers(2)
        objects.add_pedestrian(stage, curve.pose(u, side.v(stage.between(0.7, side.depth - 0.5)), turn, 0.12))


def _terrace(stage: Stage, road: Road, side: _Side) -> None:
    """Houses wall to wall, now and then a gap."""
    setback = side.depth + (0.0 if stage.chance(0.4) else stage.between(2, 8))
    u = stage.between(_BEHIND_M, -8)
    while u < END_M:
        length = stage.between(8, 24)
        if _free(road, side.sign, u, u + length):
            along, _ = road.curve.chord(side.v(setback), u, u + length)
            objects.add_block(stage, along, length, side.sign * stage.between(9, 14), stage.between(5, 15))
        u += length + (0.0 if stage.chance(0.75) else stage.between(3, 12))


def _park(stage: Stage, road: Road, conditions: Conditions, side: _Side) -> None:
    """Green behind the pavement: a wall or a hedge, trees, some houses."""
    curve, boundary = road.curve, int(stage.rng.choice([0, 0, 1, 2, 2]))
    height = stage.between(0.8, 1.8)
    if boundary < 2:
        pieces = curve.chords(side.v(side.depth + 0.5), -6, 90)
        free = [(pose, length) for pose, length in pieces if _free(road, side.sign, pose.y, pose.y + length)]
        (objects.add_wall if boundary else plants.add_hedge)(stage, free, height)
    _wood(stage, road, conditions, side, first=side.depth + 3, count=12)
    for _ in range(int(stage.rng.integers(0, 3))):
        objects.add_house(stage, curve.pose(stage.between(30, 110), side.v(side.depth + stage.between(11, 26))))


def _wood(stage: Stage, road: Road, conditions: Conditions, side: _Side, first: float, count: int) -> None:
    """Trees and shrubs scattered beside the road, denser near it."""
    conifers = stage.between(0, 0.6)
    for _ in range(count):
        u, beyond = stage.between(4, 140), first + stage.rng.gamma(1.5, 5.0)
        if _free(road, side.sign, u - 3, u + 3):
            pose = road.curve.pose(u, side.v(beyond))
            if stage.rng.random() < 0.3:
                plants.add_shrub(stage, pose, conditions.season)
            else:
                (plants.add_conifer if stage.chance(conifers) else plants.add_tree)(stage, pose, conditions.season)


def _country_side(stage: Stage, road: Road, conditions: Conditions, side: _Side) -> None:
    """Stretches of bank, hedge, wood, or open field along the road."""
    curve, theme, first = road.curve, str(stage.rng.choice(_THEMES)), 2.0
    if theme == "bank":
        height, width = stage.between(1.5, 5.0), stage.between(2.0, 5.0)
        objects.add_bank(stage, curve, side.v(0.8), side.sign * width, height, -8, END_M)
        first = 0.8 + 0.6 * width
    elif theme in ("hedge", "wall"):
        add = plants.add_hedge if theme == "hedge" else objects.add_wall
        add(stage, curve.chords(side.v(0.85), -6, 100), stage.between(0.9, 1.8))
    if theme in ("wood", "field") and stage.chance(0.5):
        objects.add_guard_rail(stage, curve, side.v(0.3), -6, stage.between(60, END_M))
    _wood(stage, road, conditions, side, first, {"field": 10, "wood": 38}.get(theme, 22))
    for _ in range(int(stage.rng.poisson(0.8))):
        u, beyond, turn = stage.between(30, 120), stage.between(14, 35), stage.between(-0.4, 0.4)
        objects.add_house(stage, curve.pose(u, side.v(beyond), turn))
    for _ in range(int(stage.rng.integers(0, 3))):
        objects.add_sign(stage, curve.pose(stage.between(8, 60), side.v(0.5)))
    if stage.chance(0.25):
        for u in np.arange(stage.between(5, 30), 150, 35):
            objects.add_lamp(stage, curve.pose(u, side.v(0.8)), -side.sign * 1.2)


def _highway_side(stage: Stage, road: Road, conditions: Conditions, side: _Side) -> None:
    curve, first = road.curve, 2.0
    if stage.chance(0.6):
        objects.add_guard_rail(stage, curve, side.v(0.3), -6, END_M)
    if stage.chance(0.55):
        height, width = stage.between(2.0, 8.0), stage.between(3.0, 8.0)
        objects.add_bank(stage, curve, side.v(1.6), side.sign * width, height, -8, END_M)
        first = 1.6 + 0.5 * width
    elif stage.chance(0.1):
        objects.add_wall(stage, curve.chords(side.v(1.5), -6, 110), stage.between(2.0, 4.0))
    _wood(stage, road, conditions, side, first, 26)
    for _ in range(int(stage.rng.integers(0, 3))):
        objects.add_sign(stage, curve.pose(stage.between(12, 80), side.v(0.7)))
    if stage.chance(0.3):
        for u in np.arange(stage.between(5, 30), 150, 38):
            objects.add_lamp(stage, curve.pose(u, side.v(0.8)), -side.sign * 2.0)


def _median(stage: Stage, road: Road, conditions: Conditions) -> None:
    """What keeps the two directions of a highway apart, and what spans them."""
    curve, edges = road.curve, road.edges
    low, high = float(edges[1]), float(edges[2])
    if high - low < 2.5:
        objects.add_barrier(stage, curve, (low + high) / 2, -6, END_M)
    else:
        objects.add_guard_rail(stage, curve, (low + high) / 2, -6, END_M)
        if stage.chance(0.6):
            for u in np.arange(2, 90, stage.between(3, 6)):
                pose = curve.pose(u, low + 0.3 * (high - low))
                plants.add_shrub(stage, pose, conditions.season, stage.between(0.8, 1.6))
    left, right = road.sides[0] - 0.5, road.sides[1] + 0.5
    if stage.chance(0.18):
        objects.add_bridge(stage, curve.pose(stage.between(45, 110), 0.0), left - 1, right + 1)
    if stage.chance(0.3):
        objects.add_gantry(stage, curve.pose(stage.between(30, 80), 0.0), high - 0.8, right)


def _traffic(stage: Stage, road: Road, conditions: Conditions) -> None:
    """Vehicles at safe distances in every lane, parked ones, cyclists, somebody on a crossing."""
    curve = road.curve
    headway = {"urban": 60.0, "road": 90.0, "highway": 80.0}[conditions.scene]
    for index, (v, direction) in enumerate(road.lanes):
        nearest, share = (18.0, 1.0) if index == road.own else (12.0, 0.6)
        u = nearest + stage.rng.exponential(headway * share)
        while u < END_M:
            pose = curve.pose(u, v + stage.between(-0.25, 0.25), 0.0 if direction > 0 else np.pi)
            objects.add_vehicle(stage, pose, heavy=0.16 if conditions.scene == "highway" else 0.08)
            u += 14 + stage.rng.exponential(headway)
    for v, sign in road.parking:
        u, facing = stage.between(6, 16), 0.0 if sign > 0 else np.pi
        while u < 90:
            if _free(road, sign, u - 4, u + 4) and stage.chance(0.45):
                pose = curve.pose(u, v + stage.between(-0.1, 0.1), facing + stage.between(-0.03, 0.03))
                objects.add_car(stage, pose, van=stage.chance(0.12))
            u += stage.between(5.4, 6.6)
    if conditions.scene != "highway" and stage.chance(0.25):
        objects.add_cyclist(stage, curve.pose(stage.between(8, 30), road.lanes[-1][0] + 1.0))
    for mark in road.marks:
        if isinstance(mark, Bars) and mark.gap and stage.chance(0.4):
            turn, middle = stage.rng.choice([-0.5, 0.5]) * np.pi, (mark.start + mark.end) / 2
            objects.add_pedestrian(stage, curve.pose(middle, stage.between(*road.sides), turn))
