"""Vehicles: painted bodies, glass all round, tyres and rims, lamps, number plates."""

from dataclasses import dataclass
from typing import Final

from hsiutils.simulate.finishes import Framed
from hsiutils.simulate.labels import GLASS, METAL, PAINTED_METAL, UNLABELLED
from hsiutils.simulate.solids import FRONT, LEFT, REAR, RIGHT, Cylinder
from hsiutils.simulate.stage import Pose, Stage, box, frustum

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
