"""What stands on and beside a road, plants apart: buildings, street furniture, people, and vehicles.

Every `add_...` puts up one thing at a pose, of parts with slots of their own. Finishes are what faces carry besides
one material: frames around panes, windows and doors in walls.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.classes import GLASS, METAL, PAINTED_METAL, PERSON, STONE, UNLABELLED, VEGETATION
from hsiutils.simulate.builder import Pose, Rectangle, Stage, box, frustum
from hsiutils.simulate.geometry import FRONT, LEFT, REAR, RIGHT, Cylinder, Ellipsoid, Faces, Hexahedron, Solid
from hsiutils.simulate.roads import Curve
from hsiutils.simulate.surfaces import Float32

_ALL_ROUND: Final[tuple[int, ...]] = (REAR, FRONT, LEFT, RIGHT)


@dataclass(frozen=True)
class Framed:
    """A border along the edges of some faces, of a width and slot: the pillars around a car's windows."""

    width_m: float
    slot: int
    faces: tuple[int, ...] = _ALL_ROUND

    def __call__(self, solid: Solid, points: Float32, faces: Faces, slots: NDArray[np.int32]) -> NDArray[np.int32]:
        """See `Finish`."""
        if not isinstance(solid, Hexahedron):
            raise TypeError(f"only hexahedra have framed faces, got {type(solid).__name__}")
        border = (solid.edge_distance(points, faces) < self.width_m) & np.isin(faces, self.faces)
        return np.where(border, np.int32(self.slot), slots)


@dataclass(frozen=True)
class Facade:
    """Rows of windows on the walls of a box, and doors at its foot; `glass`, `frame` and `door` are slots."""

    bay_m: float  # from window to window along the wall
    storey_m: float  # from window to window up the wall
    window: tuple[float, float]  # width and height, metres
    sill_m: float  # height of a window's lower edge above the storey's floor
    glass: int
    frame: int
    door: int
    door_every: int  # bays from door to door

    @classmethod
    def draw(cls, stage: Stage) -> "Facade":
        """Any facade."""
        return cls(
            bay_m=stage.between(2.2, 3.8),
            storey_m=stage.between(2.8, 3.4),
            window=(stage.between(0.9, 1.7), stage.between(1.1, 1.7)),
            sill_m=stage.between(0.8, 1.1),
            glass=stage.slot("glass", GLASS),
            frame=stage.slot("concrete" if stage.chance(0.6) else "wood", STONE),
            door=stage.slot("wood", STONE),
            door_every=int(stage.rng.integers(3, 6)),
        )

    def __call__(self, solid: Solid, points: Float32, faces: Faces, slots: NDArray[np.int32]) -> NDArray[np.int32]:
        """See `Finish`; all walls are measured from the box's corner at the rear left."""
        base, right, front = solid.corners[:3]
        offset = points - base.astype(np.float32)[:, None]
        sides = [((end - base) / np.linalg.norm(end - base)).astype(np.float32) @ offset for end in (right, front)]
        along = np.where(np.isin(faces, (REAR, FRONT)), *sides)
        up, height = offset[2], float(np.ptp(solid.corners[:, 2]))
        bay, storey = np.floor(along / self.bay_m), np.floor(up / self.storey_m)
        beside = np.abs(along - (bay + 0.5) * self.bay_m)
        above = up - storey * self.storey_m - self.sill_m
        wall = (faces >= REAR) & ((storey + 1) * self.storey_m < height + 0.3)
        pane = wall & (beside < self.window[0] / 2) & (above > 0) & (above < self.window[1])
        rim = wall & ~pane & (beside < self.window[0] / 2 + 0.1) & (above > -0.1) & (above < self.window[1] + 0.1)
        entrance = wall & (storey == 0) & (np.mod(bay, self.door_every) == 0) & (beside < 0.55) & (up < 2.2)
        out = np.where(pane, np.int32(self.glass), np.where(rim, np.int32(self.frame), slots))
        return np.where(entrance, np.int32(self.door), out)


# --- buildings ------------------------------------------------------------------------------------------------------

_WALLS: Final = ("brick", "plaster", "concrete", "brick", "plaster")
_ROOFS: Final = ("tile", "shingle", "tile")


def add_block(stage: Stage, pose: Pose, length_m: float, depth_m: float, height_m: float) -> None:
    """A town house along the street.

    The pose is the rear corner of its front on the side of the street; the house extends ahead along the heading and
    to the right for positive `depth_m`, to the left for negative.
    """
    stage.begin()
    wall = stage.slot(_WALLS[stage.rng.integers(len(_WALLS))], STONE, "soil")
    roof = stage.slot("concrete", STONE, "soil")
    left, right = min(0.0, depth_m), max(0.0, depth_m)
    walls = box(pose, (left, right, 0.0, length_m), 0, height_m)
    stage.add(walls, (wall, roof, wall, wall, wall, wall), Facade.draw(stage))
    plinth = stage.slot("concrete", STONE, "soil")
    stage.add(box(pose, (left - 0.06, right + 0.06, 0.0, length_m), 0, stage.between(0.3, 0.7)), plinth)
    cornice = (left - 0.3, right + 0.3, -0.1, length_m + 0.1)
    stage.add(box(pose, cornice, height_m, height_m + 0.3), roof)


def add_house(stage: Stage, pose: Pose) -> None:
    """A detached house with a gable roof; its middle is at the pose."""
    stage.begin()
    wall = stage.slot(_WALLS[stage.rng.integers(len(_WALLS))], STONE, "soil")
    roof = stage.slot(_ROOFS[stage.rng.integers(len(_ROOFS))], STONE, "soil")
    half_width, half_length, eaves = stage.between(3.5, 5.0), stage.between(4.5, 8.0), stage.between(3.0, 6.0)
    base = (-half_width, half_width, -half_length, half_length)
    stage.add(box(pose, base, 0, eaves), wall, Facade.draw(stage))
    over = (-half_width - 0.5, half_width + 0.5, -half_length - 0.4, half_length + 0.4)
    gable = frustum(pose, over, eaves, (-0.1, 0.1, over[2], over[3]), eaves + 0.55 * half_width)
    stage.add(gable, (roof, roof, wall, wall, roof, roof))


def add_wall(stage: Stage, pieces: Iterable[tuple[Pose, float]], height_m: float) -> None:
    """A garden or retaining wall of pieces that each begin at a pose and run ahead for a length."""
    stage.begin()
    stone = stage.slot(("brick", "concrete", "plaster")[stage.rng.integers(3)], STONE, "soil")
    cap = stage.slot("concrete", STONE, "soil")
    for pose, length in pieces:
        stage.add(box(pose, (-0.15, 0.15, 0, length), 0, height_m), stone)
        stage.add(box(pose, (-0.2, 0.2, 0, length), height_m, height_m + 0.08), cap)


def add_bridge(stage: Stage, pose: Pose, left_m: float, right_m: float) -> None:
    """A concrete bridge across the road, on piers at `left_m` and `right_m` beside the pose."""
    stage.begin()
    concrete = stage.slot("concrete", STONE, "soil")
    clear = stage.between(5.2, 6.2)
    stage.add(box(pose, (left_m - 25, right_m + 25, -4.5, 4.5), clear, clear + 1.3), concrete)
    stage.add(box(pose, (left_m - 25, right_m + 25, -4.7, 4.7), clear + 1.3, clear + 2.1), concrete)
    for x in (left_m, right_m):
        stage.add(box(pose, (x - 0.6, x + 0.6, -4.0, 4.0), 0, clear), concrete)


# --- street furniture -----------------------------------------------------------------------------------------------


def add_lamp(stage: Stage, pose: Pose, reach_m: float) -> None:
    """A street lamp whose arm reaches to the right (negative: left)."""
    stage.begin()
    metal, glass = stage.slot("bare_metal", METAL), stage.slot("glass", GLASS)
    height = stage.between(6.0, 9.5)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, height), 0.08), metal)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, 1.2), 0.12), metal)
    stage.add(Cylinder(pose.point(0, 0, height - 0.1), pose.point(reach_m, 0, height + 0.3), 0.05), metal)
    head = (min(reach_m, 0.7 * reach_m), max(reach_m, 0.7 * reach_m), -0.15, 0.15)
    stage.add(box(pose, head, height + 0.22, height + 0.36), (glass, *[metal] * 5))


def add_sign(stage: Stage, pose: Pose) -> None:
    """A traffic sign that faces against the pose's heading: a disc, a board, or a diamond."""
    stage.begin()
    metal = stage.slot("bare_metal", METAL)
    face, back = stage.slot("sign_paint", PAINTED_METAL), stage.slot("bare_metal", METAL)
    height, size = stage.between(2.0, 2.6), stage.between(0.3, 0.45)
    stage.add(Cylinder(pose.point(0, 0.05, 0), pose.point(0, 0.05, height + size), 0.04), metal)
    if stage.chance(0.6):
        disc = Cylinder(pose.point(0, 0.0, height), pose.point(0, -0.03, height), size)
        stage.add(disc, (back, face, back))
    else:
        board = box(pose, (-size, size, -0.03, 0.0), height - size, height + size * stage.between(0.3, 1.0))
        stage.add(board, (back, back, face, back, back, back))


def add_traffic_light(stage: Stage, pose: Pose) -> None:
    """A traffic light that faces against the pose's heading."""
    stage.begin()
    metal, glass = stage.slot("sign_paint", PAINTED_METAL), stage.slot("glass", GLASS)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, 3.2), 0.06), metal)
    stage.add(box(pose, (-0.17, 0.17, -0.25, -0.06), 2.2, 3.1), metal)
    lit = stage.slot("led_red", GLASS) if stage.chance(0.5) else glass
    for height, lamp in ((2.35, glass), (2.65, glass), (2.95, lit)):
        stage.add(Cylinder(pose.point(0, -0.2, height), pose.point(0, -0.27, height), 0.1), lamp)


def add_gantry(stage: Stage, pose: Pose, left_m: float, right_m: float) -> None:
    """A sign bridge over a highway with one or two boards."""
    stage.begin()
    metal = stage.slot("bare_metal", METAL)
    face, back = stage.slot("sign_paint", PAINTED_METAL), stage.slot("bare_metal", METAL)
    for x in (left_m, right_m):
        stage.add(Cylinder(pose.point(x, 0, 0), pose.point(x, 0, 7.0), 0.2), metal)
    stage.add(box(pose, (left_m, right_m, -0.2, 0.2), 6.4, 7.0), metal)
    middle, width = (left_m + right_m) / 2, 0.2 * (right_m - left_m)
    for x in (middle - 1.2 * width, middle + 1.2 * width)[: stage.rng.integers(1, 3)]:
        board = box(pose, (x - width, x + width, -0.35, -0.2), 5.4, 7.8)
        stage.add(board, (back, back, face, back, back, back))


def add_guard_rail(stage: Stage, curve: Curve, v: float, start: float, end: float) -> None:
    """A steel guard rail along the road, in pieces that follow the bend."""
    stage.begin()
    metal = stage.slot("bare_metal", METAL, "soil")
    for pose, length in curve.chords(v, start, end):
        stage.add(box(pose, (-0.06, 0.06, 0, length), 0.52, 0.82), metal)
        if pose.y < 45:  # farther away the posts are thinner than a pixel
            stage.add(box(pose, (-0.05, 0.05, 0, 0.1), 0.0, 0.75), metal)


def add_barrier(stage: Stage, curve: Curve, v: float, start: float, end: float) -> None:
    """A concrete safety barrier along the road."""
    stage.begin()
    concrete = stage.slot("concrete", STONE, "soil")
    for pose, length in curve.chords(v, start, end):
        stage.add(frustum(pose, (-0.3, 0.3, 0, length), 0, (-0.17, 0.17, 0, length), 0.3), concrete)
        stage.add(frustum(pose, (-0.17, 0.17, 0, length), 0.3, (-0.1, 0.1, 0, length), 0.9), concrete)


def add_bank(stage: Stage, curve: Curve, v: float, width_m: float, height_m: float, start: float, end: float) -> None:
    """A grown bank of earth beside the road; it rises from `v` outwards (`width_m` negative: to the left)."""
    stage.begin()
    green = stage.chance(0.93)
    slot = stage.slot("grass", VEGETATION, "dry_grass") if green else stage.slot("soil", UNLABELLED, "dry_grass")
    for pose, length in curve.chords(v, start, end):
        foot = (min(0.0, 4 * width_m), max(0.0, 4 * width_m), 0.0, length)
        crown = (min(width_m, 4 * width_m), max(width_m, 4 * width_m), 0.0, length)
        stage.add(frustum(pose, foot, -0.02, crown, height_m), slot)


# --- people ---------------------------------------------------------------------------------------------------------


def add_pedestrian(stage: Stage, pose: Pose) -> None:
    """Somebody who walks along the pose's heading."""
    stage.begin()
    scale = stage.between(0.88, 1.08)
    coat, trousers, skin = (stage.slot(material, PERSON) for material in ("cloth", "cloth", "skin"))
    stride = stage.between(0.0, 0.32)
    for side, step in ((-1, stride), (1, -stride)):
        hip, foot = pose.point(0.09 * side, 0, 0.85 * scale), pose.point(0.1 * side, step, 0.0)
        stage.add(Cylinder(foot, hip, 0.085), trousers)
        hand = pose.point(0.27 * side, -0.6 * step, 0.82 * scale)
        stage.add(Cylinder(hand, pose.point(0.2 * side, 0, 1.4 * scale), 0.055), coat)
    _add_torso(stage, pose, coat, skin, low=0.8 * scale, high=1.5 * scale)


def add_cyclist(stage: Stage, pose: Pose) -> None:
    """A bicycle with its rider."""
    stage.begin()
    coat, skin, tyre, frame = (stage.slot(material, PERSON) for material in ("cloth", "skin", "tyre", "car_paint"))
    for along in (-0.52, 0.52):
        stage.add(Cylinder(pose.point(-0.02, along, 0.34), pose.point(0.02, along, 0.34), 0.34), tyre)
    # Tubes of its frame: y and z of both ends, metres.
    tubes = (-0.52, 0.34, 0.0, 0.35), (0.0, 0.35, -0.2, 0.95), (-0.2, 0.8, 0.45, 0.9), (0.52, 0.34, 0.42, 1.0)
    for tube in tubes:
        stage.add(Cylinder(pose.point(0, *tube[:2]), pose.point(0, *tube[2:]), 0.03), frame)
    stage.add(Cylinder(pose.point(-0.25, 0.42, 1.02), pose.point(0.25, 0.42, 1.02), 0.025), frame)
    for side, pedal in ((-1, 0.18), (1, 0.5)):
        stage.add(Cylinder(pose.point(0.1 * side, 0.05, pedal), pose.point(0.1 * side, -0.15, 1.0), 0.08), coat)
        stage.add(Cylinder(pose.point(0.22 * side, 0.4, 1.04), pose.point(0.18 * side, 0.05, 1.4), 0.05), coat)
    _add_torso(stage, pose, coat, skin, low=0.95, high=1.5)


def _add_torso(stage: Stage, pose: Pose, coat: int, skin: int, low: float, high: float) -> None:
    middle, half = pose.point(0, 0, (low + high) / 2), (high - low) / 2
    stage.add(Ellipsoid(middle, np.array([0.24, 0.18, half + 0.05])), coat)
    stage.add(Ellipsoid(pose.point(0, 0, high + 0.16), np.array([0.1, 0.11, 0.14])), skin)


# --- vehicles -------------------------------------------------------------------------------------------------------


class _Body(NamedTuple):
    """Outline of a car, metres: overall size, belt line, and where cabin and roof begin and end along it."""

    length: float
    width: float
    height: float
    belt: float
    cabin: tuple[float, float]
    roof: tuple[float, float]
    wheel: float = 0.31
    clearance: float = 0.2


_CARS: Final = (
    _Body(4.5, 1.80, 1.45, 0.90, (-2.05, 1.05), (-1.25, 0.25)),  # saloon
    _Body(4.0, 1.75, 1.50, 0.92, (-1.95, 1.05), (-1.60, 0.20)),  # hatchback
    _Body(4.5, 1.86, 1.68, 1.02, (-2.20, 1.05), (-1.90, 0.30), wheel=0.36, clearance=0.25),  # SUV
    _Body(4.7, 1.82, 1.48, 0.91, (-2.30, 1.10), (-1.95, 0.30)),  # estate
)
_VAN: Final = _Body(5.2, 1.98, 2.15, 1.15, (-2.55, 2.05), (-2.50, 1.10), wheel=0.34, clearance=0.25)


def add_vehicle(stage: Stage, pose: Pose, heavy: float) -> None:
    """Any vehicle, its middle at the pose; `heavy` is the share of lorries and buses."""
    draw = stage.rng.random()
    if draw < heavy:
        (add_lorry if stage.chance(0.7) else add_bus)(stage, pose)
    else:
        add_car(stage, pose, van=draw < heavy + 0.12)


def add_car(stage: Stage, pose: Pose, van: bool = False) -> None:
    """A passenger car, or a delivery van: windows only in front, and sometimes at the back."""
    if not van:
        body, glazed = _CARS[stage.rng.integers(len(_CARS))], _ALL_ROUND
    else:
        body, glazed = _VAN, (FRONT, REAR) if stage.chance(0.4) else (FRONT,)
    stage.begin()
    paint = stage.slot("car_paint", PAINTED_METAL, "soil")
    half, side = body.length / 2, body.width / 2
    glass = stage.slot("glass", GLASS)
    lower = (-side, side, -half, half)
    waist = (-side + 0.05, side - 0.05, -half + 0.08, half - 0.15)
    middle = 0.55 * body.belt
    stage.add(box(pose, lower, body.clearance, middle), paint)
    stage.add(frustum(pose, lower, middle, waist, body.belt), paint)
    cabin = (-side + 0.07, side - 0.07, *body.cabin)
    roof = (-side + 0.25, side - 0.25, *body.roof)
    faces = [glass if face in glazed else paint for face in range(6)]
    stage.add(frustum(pose, cabin, body.belt, roof, body.height), faces, Framed(0.06, paint))
    _add_wheels_and_lamps(stage, pose, (body.length, body.width), body.belt, body.wheel)


def add_lorry(stage: Stage, pose: Pose) -> None:
    """A lorry: cab and box body."""
    stage.begin()
    paint = stage.slot("car_paint", PAINTED_METAL, "soil")
    load = stage.slot("car_paint", PAINTED_METAL, "soil")
    glass, chassis = stage.slot("glass", GLASS), stage.slot("bare_metal", METAL, "soil")
    length = stage.between(7.0, 12.0)
    rear, front = -length / 2, length / 2
    cab: Rectangle = (-1.2, 1.2, front - 2.2, front)
    stage.add(box(pose, (-1.25, 1.25, rear, front - 2.4), 1.1, stage.between(3.2, 3.9)), load)
    stage.add(box(pose, (-1.0, 1.0, rear + 0.1, front - 0.3), 0.65, 1.1), chassis)
    stage.add(box(pose, (-1.2, 1.2, rear, rear + 0.12), 0.45, 0.62), chassis)
    stage.add(box(pose, cab, 0.45, 1.75), paint)
    upper = frustum(pose, cab, 1.75, (-1.1, 1.1, front - 2.2, front - 0.35), 2.9)
    stage.add(upper, (paint, paint, paint, glass, glass, glass), Framed(0.12, paint))
    _add_wheels_and_lamps(stage, pose, (length, 2.5), belt=1.1, wheel=0.5)


def add_bus(stage: Stage, pose: Pose) -> None:
    """A city bus: a band of glass all round."""
    stage.begin()
    paint, glass = stage.slot("car_paint", PAINTED_METAL, "soil"), stage.slot("glass", GLASS)
    base = (-1.27, 1.27, -6.0, 6.0)
    stage.add(box(pose, base, 0.35, 1.2), paint)
    stage.add(box(pose, base, 1.2, 2.4), (paint, paint, *[glass] * 4), Framed(0.12, paint))
    stage.add(box(pose, base, 2.4, 3.0), paint)
    _add_wheels_and_lamps(stage, pose, (12.0, 2.54), belt=1.2, wheel=0.48)


def _add_wheels_and_lamps(stage: Stage, pose: Pose, size: tuple[float, float], belt: float, wheel: float) -> None:
    """Four wheels of a radius, and at both ends two lamps below the belt line and a number plate."""
    half, outer = size[0] / 2, size[1] / 2
    tyre, rim = stage.slot("tyre", UNLABELLED, "soil"), stage.slot("bare_metal", METAL, "soil")
    for along in (-0.30 * size[0], 0.31 * size[0]):
        for side in (-1, 1):
            inner, face = side * (outer - 0.2), side * (outer + 0.01)
            inside, outside, hub = (pose.point(x, along, wheel) for x in (inner, face, face + side * 0.01))
            stage.add(Cylinder(inside, outside, wheel), tyre)
            stage.add(Cylinder(inside, hub, 0.62 * wheel), rim)
    kind, on = ("led", "bulb")[stage.rng.integers(2)], stage.chance(stage.lit)
    # Brakes are red when all else is off, too.
    red = stage.slot(f"{kind}_red" if on or stage.chance(0.2) else "glass", GLASS)
    white, plate = stage.slot(f"{kind}_white" if on else "glass", GLASS), stage.slot("sign_paint", PAINTED_METAL)
    top, low = 0.93 * belt, 0.5 * belt
    for lamp, front, back in ((red, -half - 0.02, -half + 0.1), (white, half - 0.1, half + 0.02)):
        for left in (-outer + 0.04, outer - 0.34):
            stage.add(box(pose, (left, left + 0.3, front, back), top - 0.25, top - 0.08), lamp)
        stage.add(box(pose, (-0.26, 0.26, front, back), low - 0.06, low + 0.06), plate)
