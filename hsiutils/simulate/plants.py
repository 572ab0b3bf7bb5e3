"""Trees, shrubs and hedges: crowns of many leaf clumps with gaps, by season."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from hsiutils.data.classes import VEGETATION
from hsiutils.simulate.builder import Pose, Stage, box
from hsiutils.simulate.geometry import Cylinder, Ellipsoid, Vector


class Foliage(NamedTuple):
    """The leaves of a plant: what is seen mostly, what shows between, and the share of gaps."""

    material: str
    blend: str
    porosity: float


EVERGREEN: Final = Foliage("leaves", "bark", 0.28)
CONIFER: Final = Foliage("conifer", "bark", 0.30)
DECIDUOUS: Final = {
    "spring": Foliage("leaves", "bark", 0.38),
    "summer": Foliage("leaves", "bark", 0.28),
    "fall": Foliage("leaves", "litter", 0.45),
    "winter": Foliage("bark", "litter", 0.80),
}


def _clumps(pose: Pose) -> int:
    """Leaf clumps in a crown: 36 near the camera; far ones need fewer to look the same."""
    return int(np.clip(36 * 25 / max(np.hypot(pose.x, pose.y), 1.0), 7, 36))


def _in_ball(stage: Stage) -> Vector:
    """A point in the unit ball, nearer to its surface than to its middle, where leaves find light."""
    direction = stage.rng.standard_normal(3)
    return np.asarray(direction / np.linalg.norm(direction) * stage.between(0.35, 0.85))


def add_tree(stage: Stage, pose: Pose, season: str, height_m: float | None = None) -> None:
    """A broad-leaved tree, deciduous more often than not; its height is drawn unless given."""
    foliage = DECIDUOUS[season] if stage.chance(0.7) else EVERGREEN
    height = height_m or stage.between(5.0, 11.0)
    stage.begin()
    spread = height * stage.between(0.22, 0.34)
    trunk = height * stage.between(0.25, 0.4)
    bark, leaves = stage.slot("bark", VEGETATION), stage.slot(foliage.material, VEGETATION, foliage.blend)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, 0.7 * height), 0.018 * height + 0.03), bark)
    crown = 0.5 * (height - trunk)
    for _ in range(_clumps(pose)):
        place = _in_ball(stage) * np.array([spread, spread, crown])
        size = spread * stage.between(0.32, 0.5)
        centre = pose.point(place[0], place[1], trunk + crown + 0.9 * place[2])
        stage.add(Ellipsoid(centre, np.array([size, size, 0.8 * size])), leaves, porosity=foliage.porosity)
    if foliage.porosity > 0.6:
        for _ in range(7):
            azimuth, reach = stage.between(0, 2 * np.pi), stage.between(0.5, 0.9) * spread
            start = stage.between(trunk, 0.65 * height)
            end = pose.point(reach * np.cos(azimuth), reach * np.sin(azimuth), start + stage.between(0.6, 1.4) * reach)
            stage.add(Cylinder(pose.point(0, 0, start), end, 0.006 * height), bark)


def add_conifer(stage: Stage, pose: Pose, season: str) -> None:
    """A spruce or pine: tiers of clumps, narrower towards the top. It looks the same in every `season`."""
    stage.begin()
    height = stage.between(6.0, 14.0)
    bark, needles = stage.slot("bark", VEGETATION), stage.slot(CONIFER.material, VEGETATION, CONIFER.blend)
    stage.add(Cylinder(pose.point(0, 0, 0), pose.point(0, 0, 0.9 * height), 0.012 * height + 0.05), bark)
    tiers = max(5, _clumps(pose) // 3)
    for tier in np.linspace(0.15, 0.97, tiers):
        width = height * 0.24 * (1.02 - tier) + 0.25
        place = 0.25 * width * _in_ball(stage)
        centre = pose.point(place[0], place[1], tier * height)
        clump = Ellipsoid(centre, np.array([width, width, 0.75 * height / tiers]))
        stage.add(clump, needles, porosity=CONIFER.porosity)


def add_shrub(stage: Stage, pose: Pose, season: str, height_m: float | None = None) -> None:
    """A bush of a few clumps down to the ground."""
    foliage = DECIDUOUS[season] if stage.chance(0.4) else EVERGREEN
    stage.begin()
    leaves = stage.slot(foliage.material, VEGETATION, foliage.blend)
    height = height_m or stage.between(0.6, 2.2)
    for _ in range(4):
        x, y = stage.between(-0.6, 0.6) * height, stage.between(-0.6, 0.6) * height
        size = height * stage.between(0.4, 0.6)
        clump = Ellipsoid(pose.point(x, y, 0.75 * size), np.array([size, size, size]))
        stage.add(clump, leaves, porosity=0.8 * foliage.porosity)


def add_hedge(stage: Stage, pieces: Iterable[tuple[Pose, float]], height_m: float) -> None:
    """A clipped evergreen hedge of pieces that each begin at a pose and run ahead for a length."""
    stage.begin()
    leaves = stage.slot("leaves", VEGETATION, "bark")
    for pose, length in pieces:
        stage.add(box(pose, (-0.4, 0.4, 0, length), 0, 0.9 * height_m), leaves)
        for along in np.arange(0.4, length, 1.1):
            bump = stage.between(0.45, 0.6)
            centre = pose.point(stage.between(-0.08, 0.08), float(along), height_m - bump)
            stage.add(Ellipsoid(centre, np.array([bump, 0.75, bump])), leaves, porosity=0.12)
