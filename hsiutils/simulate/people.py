"""Pedestrians and cyclists."""

from typing import Final

import numpy as np

from hsiutils.simulate.labels import PERSON
from hsiutils.simulate.solids import Cylinder, Ellipsoid
from hsiutils.simulate.stage import Pose, Stage

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
