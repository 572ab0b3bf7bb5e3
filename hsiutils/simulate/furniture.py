"""Street furniture: lamps, signs, traffic lights, guard rails, barriers, banks of earth beside the road."""

from typing import Final

from hsiutils.simulate.labels import GLASS, METAL, PAINTED_METAL, STONE, UNLABELLED, VEGETATION
from hsiutils.simulate.roads import Curve
from hsiutils.simulate.solids import Cylinder
from hsiutils.simulate.stage import Pose, Stage, box, frustum

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
