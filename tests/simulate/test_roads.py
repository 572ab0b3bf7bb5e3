import numpy as np
import pytest

from hsiutils.simulate.roads import Curve, SideStreet

CURVES = [Curve(), Curve(offset=-1.7, slope=0.02), Curve(-1.7, -0.01, 1 / 200, straight_from=80)]


@pytest.mark.parametrize("curve", CURVES)
def test_placing_and_measuring_are_inverse(curve: Curve) -> None:
    for u, v in ((0.0, 0.0), (12.0, 3.5), (75.0, -6.0), (150.0, 2.0)):
        pose = curve.pose(u, v)
        measured = curve.across(np.array([pose.x], np.float32), np.array([pose.y], np.float32))
        assert measured[0] == pytest.approx(v, abs=1e-4)
        assert pose.y == u


@pytest.mark.parametrize("curve", CURVES)
def test_v_is_the_distance_to_the_centre_line(curve: Curve) -> None:
    y = np.linspace(-20, 200, 400_001)
    centre = np.stack([curve.centre(y), y], axis=1)
    for u, v in ((10.0, 3.5), (60.0, -5.0), (110.0, 4.0)):
        pose = curve.pose(u, v)
        distance = np.linalg.norm(centre - [pose.x, pose.y], axis=1).min()
        assert distance == pytest.approx(abs(v), rel=0.02)


def test_the_bend_has_its_radius_and_ends() -> None:
    curve = Curve(curvature=1 / 200, straight_from=80)
    y = np.array([10.0])
    second = (curve.centre(y + 1) - 2 * curve.centre(y) + curve.centre(y - 1))[0]
    assert second == pytest.approx(1 / 200)
    assert curve.direction(np.array([90.0])) == curve.direction(np.array([150.0])) == pytest.approx(0.4)
    assert curve.centre(np.array([1.0]))[0] > 0, "positive curvature bends to the right"


def test_poses_look_along_the_road() -> None:
    curve = Curve(curvature=1 / 200)
    pose = curve.pose(40.0, 2.0)
    ahead = pose.point(0, 1, 0) - pose.point(0, 0, 0)
    assert ahead[0] / ahead[1] == pytest.approx(40 / 200)


def test_a_side_street_is_on_its_side_only() -> None:
    u, v = np.array([12.0, 12.0, 30.0, 12.0]), np.array([9.0, -9.0, 9.0, 3.0])
    assert SideStreet(10, 18, 5.0).covers(u, v).tolist() == [True, False, False, False]
    assert SideStreet(10, 18, -5.0).covers(u, v).tolist() == [False, True, False, False]
