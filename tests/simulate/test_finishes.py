import numpy as np
import pytest

from hsiutils.simulate.builder import Pose, box
from hsiutils.simulate.geometry import FRONT, LEFT, REAR, TOP, Ellipsoid
from hsiutils.simulate.objects import Facade, Framed

WALL, GLASS, FRAME, DOOR = 0, 1, 2, 3
HOUSE = box(Pose(0, 10), (0, 12, 0, 9), 0, 6)
FACADE = Facade(3.0, 3.0, (1.2, 1.4), 0.9, GLASS, FRAME, DOOR, door_every=3)


def on_house(face: int, x: float, y: float, z: float) -> int:
    return int(
        FACADE.slots(
            HOUSE, np.array([[x], [y], [z]], np.float32), np.array([face], np.uint8), np.array([WALL], np.int32)
        )[0]
    )


def test_windows_sit_in_the_middle_of_their_bays_above_the_sill() -> None:
    assert on_house(REAR, 4.5, 10, 4.6) == GLASS
    assert on_house(REAR, 4.5, 10, 3.5) == WALL, "below the sill"
    assert on_house(REAR, 6.0, 10, 4.6) == WALL, "between two windows"
    assert on_house(REAR, 4.5 + 0.65, 10, 4.6) == FRAME
    assert on_house(LEFT, 0, 14.5, 4.6) == GLASS, "side walls have them too"


def test_doors_are_on_the_ground_floor_of_every_third_bay() -> None:
    assert on_house(REAR, 1.5, 10, 1.0) == DOOR
    assert on_house(REAR, 4.5, 10, 0.5) == WALL
    assert on_house(REAR, 10.5, 10, 1.0) == DOOR
    assert on_house(REAR, 1.5, 10, 4.6) == GLASS


def test_roofs_have_no_windows() -> None:
    assert on_house(TOP, 4.5, 14.5, 6.0) == WALL


def test_turned_houses_carry_their_windows_along() -> None:
    pose = Pose(-3, 40, 0.7)
    turned = box(pose, (0, 12, 0, 9), 0, 6)
    point = pose.point(4.5, 0, 4.6).astype(np.float32)[:, None]
    assert FACADE.slots(turned, point, np.array([REAR], np.uint8), np.array([WALL], np.int32))[0] == GLASS


def test_frames_follow_the_edges_of_the_chosen_faces() -> None:
    framed = Framed(0.1, FRAME, (REAR,))
    points = np.array([[0.05, 6.0, 0.05], [10, 10, 19], [3.0, 5.95, 3.0]], np.float32)
    slots = framed.slots(HOUSE, points, np.array([REAR, REAR, FRONT], np.uint8), np.full(3, GLASS, np.int32))
    assert slots.tolist() == [FRAME, FRAME, GLASS]
    middle = np.array([[6.0], [10], [3]], np.float32)
    assert framed.slots(HOUSE, middle, np.array([REAR], np.uint8), np.array([GLASS], np.int32))[0] == GLASS


def test_round_things_have_no_frames() -> None:
    ball = Ellipsoid(np.zeros(3), np.ones(3))
    with pytest.raises(TypeError, match="Ellipsoid"):
        Framed(0.1, FRAME, (REAR,)).slots(
            ball, np.zeros((3, 1), np.float32), np.zeros(1, np.uint8), np.zeros(1, np.int32)
        )
