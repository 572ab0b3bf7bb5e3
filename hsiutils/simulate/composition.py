"""Putting a scene together: a road, what stands beside it, and where the camera is."""

from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np

from hsiutils.simulate.conditions import Conditions
from hsiutils.simulate.crosssection import Corridor, lay_road
from hsiutils.simulate.horizon import Horizon
from hsiutils.simulate.labels import VEGETATION
from hsiutils.simulate.layout import populate
from hsiutils.simulate.plants import DECIDUOUS
from hsiutils.simulate.rays import Perspective
from hsiutils.simulate.stage import GROUND_ID, Stage

FIELD_OF_VIEW: Final = np.radians(42.0)
"""Horizontal, edge to edge; the smaller of the usual for a camera behind a windscreen."""

PITCH: Final = np.radians(5.9)
HEIGHT_M: Final = 1.4

HORIZON_ID: Final = GROUND_ID + 1


@dataclass(frozen=True)
class Scene:
    """A scene before anybody looks at it.

    Attributes
    ----------
    stage : slots, labels and parts of all things.
    corridor : the road.
    horizon : what closes the view.
    pose : pitch, yaw, roll in radians and height in metres of the camera.
    film, puddles : wetness of the ground, see `ground.wetness`.
    """

    stage: Stage
    corridor: Corridor
    horizon: Horizon
    pose: tuple[float, float, float, float]
    film: float
    puddles: float

    def camera(self, shape: tuple[int, int]) -> Perspective:
        """The view through the lens with this many rays."""
        pitch, yaw, roll, height = self.pose
        return Perspective.looking(np.array([0.0, 0.0, height]), shape, FIELD_OF_VIEW, pitch, yaw, roll)


def compose(conditions: Conditions, seed: int) -> Scene:
    """Draw a scene for the conditions; the same seed and name give the same scene."""
    stage = Stage(np.random.default_rng([seed, crc32(conditions.name.encode())]), things=HORIZON_ID)
    corridor = lay_road(stage, conditions)
    horizon = _horizon(stage, conditions)
    populate(stage, corridor, conditions)
    pose = (
        PITCH + float(stage.rng.normal(0, 0.006)),
        float(stage.rng.normal(0, 0.01)),
        float(stage.rng.normal(0, 0.004)),
        HEIGHT_M + stage.between(-0.05, 0.05),
    )
    wet = conditions.weather == "wet"
    film, puddles = (stage.between(0.25, 0.6), stage.between(0.0, 0.08)) if wet else (0.0, 0.0)
    return Scene(stage, corridor, horizon, pose, film, puddles)


def _horizon(stage: Stage, conditions: Conditions) -> Horizon:
    leaves = DECIDUOUS[conditions.season]
    slots = (
        stage.slot("grass", VEGETATION, "dry_grass"),
        stage.slot(leaves.material, VEGETATION, leaves.blend),
        stage.slot("conifer", VEGETATION, "bark"),
    )
    height = stage.between(4, 15)
    return Horizon(stage.between(250, 450), height, 0.35 * height, slots, int(stage.rng.integers(2**31)))
