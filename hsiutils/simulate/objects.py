"""Buildings, walls, and bridges over the road.

What faces carry besides one material: frames around panes, windows and doors in walls.

Street furniture: lamps, signs, traffic lights, guard rails, barriers, banks of earth beside the road.

Pedestrians and cyclists.

Vehicles: painted bodies, glass all round, tyres and rims, lamps, number plates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.classes import GLASS, METAL, PAINTED_METAL, PERSON, STONE, UNLABELLED, VEGETATION
from hsiutils.simulate.builder import Pose, Stage, box, frustum
from hsiutils.simulate.geometry import FRONT, LEFT, REAR, RIGHT, Cylinder, Ellipsoid, Faces, Hexahedron, Solid
from hsiutils.simulate.roads import Curve
from hsiutils.simulate.textures import Field


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


WALLS = ("brick", "plaster", "concrete", "brick", "plaster")
ROOFS = ("tile", "shingle", "tile")


def add_block(stage: Stage, pose: Pose, length_m: float, depth_m: float, height_m: float) -> None:
    """A town house along the street.

    The pose is the rear corner of its front on the side of the street; the house extends ahead along the heading and
    to the right for positive `depth_m`, to the left for negative.
    """
    thing, wall = stage.thing(), stage.slot(WALLS[stage.rng.integers(len(WALLS))], STONE, "soil")
    roof = stage.slot("concrete", STONE, "soil")
    base = (min(0.0, depth_m), max(0.0, depth_m), 0.0, length_m)
    finish = _facade(stage)
    stage.add(box(pose, base, 0, height_m), (wall, roof, wall, wall, wall, wall), thing, finish)
    plinth = stage.slot("concrete", STONE, "soil")
    edge = (base[0] - 0.06, base[1] + 0.06, base[2], base[3])
    stage.add(box(pose, edge, 0, stage.between(0.3, 0.7)), plinth, thing)
    cornice = (base[0] - 0.3, base[1] + 0.3, base[2] - 0.1, base[3] + 0.1)
    stage.add(box(pose, cornice, height_m, height_m + 0.3), roof, thing)


def add_house(stage: Stage, pose: Pose) -> None:
    """A detached house with a gable roof; its middle is at the pose."""
    thing, wall = stage.thing(), stage.slot(WALLS[stage.rng.integers(len(WALLS))], STONE, "soil")
    roof = stage.slot(ROOFS[stage.rng.integers(len(ROOFS))], STONE, "soil")
    half_width, half_length = stage.between(3.5, 5.0), stage.between(4.5, 8.0)
    eaves = stage.between(3.0, 6.0)
    base = (-half_width, half_width, -half_length, half_length)
    stage.add(box(pose, base, 0, eaves), wall, thing, _facade(stage))
    over = (-half_width - 0.5, half_width + 0.5, -half_length - 0.4, half_length + 0.4)
    ridge = (-0.1, 0.1, over[2], over[3])
    stage.add(
        frustum(pose, over, eaves, ridge, eaves + 0.55 * half_width),
        (roof, roof, wall, wall, roof, roof),
        thing,
    )


def _facade(stage: Stage) -> Facade:
    return Facade(
        bay_m=stage.between(2.2, 3.8),
        storey_m=stage.between(2.8, 3.4),
        window=(stage.between(0.9, 1.7), stage.between(1.1, 1.7)),
        sill_m=stage.between(0.8, 1.1),
        glass=stage.slot("glass", GLASS),
        frame=stage.slot("concrete" if stage.chance(0.6) else "wood", STONE),
        door=stage.slot("wood", STONE),
        door_every=int(stage.rng.integers(3, 6)),
    )


def add_wall(stage: Stage, pieces: Iterable[tuple[Pose, float]], height_m: float) -> None:
    """A garden or retaining wall of pieces that each begin at a pose and run ahead for a length."""
    thing, stone = stage.thing(), stage.slot(("brick", "concrete", "plaster")[stage.rng.integers(3)], STONE, "soil")
    cap = stage.slot("concrete", STONE, "soil")
    for pose, length in pieces:
        stage.add(box(pose, (-0.15, 0.15, 0, length), 0, height_m), stone, thing)
        stage.add(box(pose, (-0.2, 0.2, 0, length), height_m, height_m + 0.08), cap, thing)


def add_bridge(stage: Stage, pose: Pose, left_m: float, right_m: float) -> None:
    """A concrete bridge across the road, on piers at `left_m` and `right_m` beside the pose."""
    thing, concrete = stage.thing(), stage.slot("concrete", STONE, "soil")
    clear = stage.between(5.2, 6.2)
    stage.add(box(pose, (left_m - 25, right_m + 25, -4.5, 4.5), clear, clear + 1.3), concrete, thing)
    stage.add(box(pose, (left_m - 25, right_m + 25, -4.7, 4.7), clear + 1.3, clear + 2.1), concrete, thing)
    for x in (left_m, right_m):
        stage.add(box(pose, (x - 0.6, x + 0.6, -4.0, 4.0), 0, clear), concrete, thing)


_POSTS_SEEN_M: Final = 45.0
"""Farther away the posts of a guard rail are thinner than a pixel."""


def add_lamp(stage: Stage, pose: Pose, reach_m: float) -> None:
    """A street lamp whose arm reaches to the right (negative: left)."""
    thing, metal, glass = stage.thing(), stage.slot("bare_metal", METAL), stage.slot("glass", GLASS)
    height = stage.between(6.0, 9.5)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, height), 0.08), metal, thing)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, 1.2), 0.12), metal, thing)
    stage.add(Cylinder(pose.point(0, 0, height - 0.1), pose.point(reach_m, 0, height + 0.3), 0.05), metal, thing)
    head = sorted((reach_m, 0.7 * reach_m))
    stage.add(box(pose, (head[0], head[1], -0.15, 0.15), height + 0.22, height + 0.36), (glass, *[metal] * 5), thing)


def add_sign(stage: Stage, pose: Pose) -> None:
    """A traffic sign that faces against the pose's heading: a disc, a board, or a diamond."""
    thing, metal = stage.thing(), stage.slot("bare_metal", METAL)
    face, back = stage.slot("sign_paint", PAINTED_METAL), stage.slot("bare_metal", METAL)
    height, size = stage.between(2.0, 2.6), stage.between(0.3, 0.45)
    stage.add(Cylinder(pose.point(0, 0.05, 0), pose.point(0, 0.05, height + size), 0.04), metal, thing)
    if stage.chance(0.6):
        ends = pose.point(0, 0.0, height), pose.point(0, -0.03, height)
        stage.add(Cylinder(*ends, size), (back, face, back), thing)
    else:
        board = (-size, size, -0.03, 0.0)
        stage.add(box(pose, board, height - size, height + size * stage.between(0.3, 1.0)), _faced(face, back), thing)


def _faced(face: int, back: int) -> tuple[int, ...]:
    return (back, back, face, back, back, back)


def add_traffic_light(stage: Stage, pose: Pose) -> None:
    """A traffic light that faces against the pose's heading."""
    thing, metal, glass = stage.thing(), stage.slot("sign_paint", PAINTED_METAL), stage.slot("glass", GLASS)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, 3.2), 0.06), metal, thing)
    stage.add(box(pose, (-0.17, 0.17, -0.25, -0.06), 2.2, 3.1), metal, thing)
    for height in (2.35, 2.65, 2.95):
        stage.add(Cylinder(pose.point(0, -0.2, height), pose.point(0, -0.27, height), 0.1), glass, thing)


def add_gantry(stage: Stage, pose: Pose, left_m: float, right_m: float) -> None:
    """A sign bridge over a highway with one or two boards."""
    thing, metal = stage.thing(), stage.slot("bare_metal", METAL)
    face, back = stage.slot("sign_paint", PAINTED_METAL), stage.slot("bare_metal", METAL)
    for x in (left_m, right_m):
        stage.add(Cylinder(pose.point(x, 0, 0), pose.point(x, 0, 7.0), 0.2), metal, thing)
    stage.add(box(pose, (left_m, right_m, -0.2, 0.2), 6.4, 7.0), metal, thing)
    middle, width = (left_m + right_m) / 2, 0.2 * (right_m - left_m)
    for x in (middle - 1.2 * width, middle + 1.2 * width)[: stage.rng.integers(1, 3)]:
        stage.add(box(pose, (x - width, x + width, -0.35, -0.2), 5.4, 7.8), _faced(face, back), thing)


def add_guard_rail(stage: Stage, curve: Curve, v: float, start: float, end: float) -> None:
    """A steel guard rail along the road, in pieces that follow the bend."""
    thing, metal = stage.thing(), stage.slot("bare_metal", METAL, "soil")
    for pose, length in curve.chords(v, start, end):
        stage.add(box(pose, (-0.06, 0.06, 0, length), 0.52, 0.82), metal, thing)
        if pose.y < _POSTS_SEEN_M:
            stage.add(box(pose, (-0.05, 0.05, 0, 0.1), 0.0, 0.75), metal, thing)


def add_barrier(stage: Stage, curve: Curve, v: float, start: float, end: float) -> None:
    """A concrete safety barrier along the road."""
    thing, concrete = stage.thing(), stage.slot("concrete", STONE, "soil")
    for pose, length in curve.chords(v, start, end):
        stage.add(frustum(pose, (-0.3, 0.3, 0, length), 0, (-0.17, 0.17, 0, length), 0.3), concrete, thing)
        stage.add(frustum(pose, (-0.17, 0.17, 0, length), 0.3, (-0.1, 0.1, 0, length), 0.9), concrete, thing)


def add_bank(stage: Stage, curve: Curve, v: float, width_m: float, height_m: float, start: float, end: float) -> None:
    """A grown bank of earth beside the road; it rises from `v` outwards (`width_m` negative: to the left)."""
    thing = stage.thing()
    green = stage.chance(0.93)
    slot = stage.slot("grass", VEGETATION, "dry_grass") if green else stage.slot("soil", UNLABELLED, "dry_grass")
    for pose, length in curve.chords(v, start, end):
        foot = (min(0.0, 4 * width_m), max(0.0, 4 * width_m), 0.0, length)
        crown = (min(width_m, 4 * width_m), max(width_m, 4 * width_m), 0.0, length)
        stage.add(frustum(pose, foot, -0.02, crown, height_m), slot, thing)


_BICYCLE: Final = (
    ((-0.52, 0.34), (0.0, 0.35)),
    ((0.0, 0.35), (-0.2, 0.95)),
    ((-0.2, 0.8), (0.45, 0.9)),
    ((0.52, 0.34), (0.42, 1.0)),
)
"""Tubes of its frame: y and z of both ends, metres."""


def add_pedestrian(stage: Stage, pose: Pose) -> None:
    """Somebody who walks along the pose's heading."""
    thing, scale = stage.thing(), stage.between(0.88, 1.08)
    coat, trousers = stage.slot("cloth", PERSON), stage.slot("cloth", PERSON)
    skin = stage.slot("skin", PERSON)
    stride = stage.between(0.0, 0.32)
    for side, step in ((-1, stride), (1, -stride)):
        hip, foot = pose.point(0.09 * side, 0, 0.85 * scale), pose.point(0.1 * side, step, 0.0)
        stage.add(Cylinder(foot, hip, 0.085), trousers, thing)
        hand = pose.point(0.27 * side, -0.6 * step, 0.82 * scale)
        stage.add(Cylinder(hand, pose.point(0.2 * side, 0, 1.4 * scale), 0.055), coat, thing)
    _add_torso(stage, pose, coat, skin, thing, low=0.8 * scale, high=1.5 * scale)


def _add_torso(stage: Stage, pose: Pose, coat: int, skin: int, thing: int, low: float, high: float) -> None:
    middle, half = pose.point(0, 0, (low + high) / 2), (high - low) / 2
    stage.add(Ellipsoid(middle, np.array([0.24, 0.18, half + 0.05])), coat, thing)
    stage.add(Ellipsoid(pose.point(0, 0, high + 0.16), np.array([0.1, 0.11, 0.14])), skin, thing)


def add_cyclist(stage: Stage, pose: Pose) -> None:
    """A bicycle with its rider."""
    thing, coat, skin = stage.thing(), stage.slot("cloth", PERSON), stage.slot("skin", PERSON)
    tyre, frame = stage.slot("tyre", PERSON), stage.slot("car_paint", PERSON)
    for along in (-0.52, 0.52):
        stage.add(Cylinder(pose.point(-0.02, along, 0.34), pose.point(0.02, along, 0.34), 0.34), tyre, thing)
    for start, end in _BICYCLE:
        stage.add(Cylinder(pose.point(0, *start), pose.point(0, *end), 0.03), frame, thing)
    stage.add(Cylinder(pose.point(-0.25, 0.42, 1.02), pose.point(0.25, 0.42, 1.02), 0.025), frame, thing)
    for side, pedal in ((-1, 0.18), (1, 0.5)):
        stage.add(Cylinder(pose.point(0.1 * side, 0.05, pedal), pose.point(0.1 * side, -0.15, 1.0), 0.08), coat, thing)
        stage.add(Cylinder(pose.point(0.22 * side, 0.4, 1.04), pose.point(0.18 * side, 0.05, 1.4), 0.05), coat, thing)
    _add_torso(stage, pose, coat, skin, thing, low=0.95, high=1.5)


_ALL_ROUND: Final = (REAR, FRONT, LEFT, RIGHT)


@dataclass(frozen=True)
class Body:
    """Outline of a car, metres: overall size, belt line, and where the roof begins and ends along it."""

    length: float
    width: float
    height: float
    belt: float
    cabin: tuple[float, float]
    roof: tuple[float, float]
    wheel: float = 0.31
    clearance: float = 0.2


CARS: Final = (
    Body(4.5, 1.80, 1.45, 0.90, (-2.05, 1.05), (-1.25, 0.25)),  # saloon
    Body(4.0, 1.75, 1.50, 0.92, (-1.95, 1.05), (-1.60, 0.20)),  # hatchback
    Body(4.5, 1.86, 1.68, 1.02, (-2.20, 1.05), (-1.90, 0.30), wheel=0.36, clearance=0.25),  # SUV
    Body(4.7, 1.82, 1.48, 0.91, (-2.30, 1.10), (-1.95, 0.30)),  # estate
)
VAN: Final = Body(5.2, 1.98, 2.15, 1.15, (-2.55, 2.05), (-2.50, 1.10), wheel=0.34, clearance=0.25)


def add_car(stage: Stage, pose: Pose) -> None:
    """A passenger car; its middle is at the pose."""
    body = CARS[stage.rng.integers(len(CARS))]
    _add_body(stage, pose, body, stage.slot("car_paint", PAINTED_METAL, "soil"), glazed=_ALL_ROUND)


def add_van(stage: Stage, pose: Pose) -> None:
    """A delivery van: windows only in front, and sometimes at the back."""
    glazed = (FRONT, REAR) if stage.chance(0.4) else (FRONT,)
    _add_body(stage, pose, VAN, stage.slot("car_paint", PAINTED_METAL, "soil"), glazed)


def _add_body(stage: Stage, pose: Pose, body: Body, paint: int, glazed: tuple[int, ...]) -> None:
    thing, half, side = stage.thing(), body.length / 2, body.width / 2
    glass = stage.slot("glass", GLASS)
    lower = (-side, side, -half, half)
    waist = (-side + 0.05, side - 0.05, -half + 0.08, half - 0.15)
    middle = 0.55 * body.belt
    stage.add(box(pose, lower, body.clearance, middle), paint, thing)
    stage.add(frustum(pose, lower, middle, waist, body.belt), paint, thing)
    cabin = (-side + 0.07, side - 0.07, *body.cabin)
    roof = (-side + 0.25, side - 0.25, *body.roof)
    faces = [glass if face in glazed else paint for face in range(6)]
    faces[:2] = paint, paint
    frame = Framed(0.06, paint, _ALL_ROUND)
    stage.add(frustum(pose, cabin, body.belt, roof, body.height), faces, thing, frame)
    _add_wheels(stage, pose, body, thing)
    _add_lamps(stage, pose, body, thing)


def _add_wheels(stage: Stage, pose: Pose, body: Body, thing: int) -> None:
    tyre, rim = stage.slot("tyre", UNLABELLED, "soil"), stage.slot("bare_metal", METAL, "soil")
    radius = body.wheel
    for along in (-0.30 * body.length, 0.31 * body.length):
        for side in (-1, 1):
            inner, outer = side * (body.width / 2 - 0.2), side * (body.width / 2 + 0.01)
            ends = pose.point(inner, along, radius), pose.point(outer, along, radius)
            stage.add(Cylinder(*ends, radius), tyre, thing)
            hub = pose.point(outer + side * 0.01, along, radius)
            stage.add(Cylinder(ends[0], hub, 0.62 * radius), rim, thing)


def _add_lamps(stage: Stage, pose: Pose, body: Body, thing: int) -> None:
    lamp, plate = stage.slot("glass", GLASS), stage.slot("sign_paint", PAINTED_METAL)
    half, side, top = body.length / 2, body.width / 2, 0.93 * body.belt
    for end in (-1, 1):
        front, back = sorted((end * (half - 0.1), end * (half + 0.02)))
        for left in (-side + 0.04, side - 0.34):
            stage.add(box(pose, (left, left + 0.3, front, back), top - 0.25, top - 0.08), lamp, thing)
        low = 0.5 * body.belt
        stage.add(box(pose, (-0.26, 0.26, front, back), low - 0.06, low + 0.06), plate, thing)


def add_lorry(stage: Stage, pose: Pose) -> None:
    """A lorry: cab and box body on three axles."""
    thing, paint = stage.thing(), stage.slot("car_paint", PAINTED_METAL, "soil")
    load = stage.slot("car_paint", PAINTED_METAL, "soil")
    glass, chassis = stage.slot("glass", GLASS), stage.slot("bare_metal", METAL, "soil")
    length = stage.between(7.0, 12.0)
    rear, front = -length / 2, length / 2
    stage.add(box(pose, (-1.25, 1.25, rear, front - 2.4), 1.1, stage.between(3.2, 3.9)), load, thing)
    stage.add(box(pose, (-1.0, 1.0, rear + 0.1, front - 0.3), 0.65, 1.1), chassis, thing)
    stage.add(box(pose, (-1.2, 1.2, rear, rear + 0.12), 0.45, 0.62), chassis, thing)
    stage.add(box(pose, (-1.2, 1.2, front - 2.2, front), 0.45, 1.75), paint, thing)
    faces = [paint, paint, paint, glass, glass, glass]
    cab, roof = (-1.2, 1.2, front - 2.2, front), (-1.1, 1.1, front - 2.2, front - 0.35)
    stage.add(frustum(pose, cab, 1.75, roof, 2.9), faces, thing, Framed(0.12, paint, _ALL_ROUND))
    wheels = Body(length, 2.5, 3.5, 1.1, (0, 0), (0, 0), wheel=0.5)
    _add_wheels(stage, pose, wheels, thing)
    _add_lamps(stage, pose, wheels, thing)


def add_bus(stage: Stage, pose: Pose) -> None:
    """A city bus: a band of glass all round."""
    thing, paint, glass = stage.thing(), stage.slot("car_paint", PAINTED_METAL, "soil"), stage.slot("glass", GLASS)
    base = (-1.27, 1.27, -6.0, 6.0)
    stage.add(box(pose, base, 0.35, 1.2), paint, thing)
    faces = [paint, paint, glass, glass, glass, glass]
    stage.add(box(pose, base, 1.2, 2.4), faces, thing, Framed(0.12, paint, _ALL_ROUND))
    stage.add(box(pose, base, 2.4, 3.0), paint, thing)
    shape = Body(12.0, 2.54, 3.0, 1.2, (0, 0), (0, 0), wheel=0.48)
    _add_wheels(stage, pose, shape, thing)
    _add_lamps(stage, pose, shape, thing)


def add_vehicle(stage: Stage, pose: Pose, heavy: float = 0.12) -> None:
    """Any vehicle; `heavy` is the share of lorries and buses."""
    draw = stage.rng.random()
    if draw < heavy:
        (add_lorry if stage.chance(0.7) else add_bus)(stage, pose)
    elif draw < heavy + 0.12:
        add_van(stage, pose)
    else:
        add_car(stage, pose)
