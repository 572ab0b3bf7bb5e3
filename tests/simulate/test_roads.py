import numpy as np
import pytest

from hsiutils.simulate.roads import Arrow, Bars, Curve, Hatching, Line, Mark, SideStreet, Teeth

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


def test_the_bend_has_its_radius_and_ends_and_poses_follow_it() -> None:
    curve = Curve(curvature=1 / 200, straight_from=80)
    before, here, after = curve.centre(np.array([9.0, 10.0, 11.0]))
    assert after - 2 * here + before == pytest.approx(1 / 200)
    assert here > 0, "positive curvature bends to the right"
    np.testing.assert_allclose(curve.direction(np.array([90.0, 150.0])), 0.4)
    pose = curve.pose(40.0, 2.0)
    ahead = pose.point(0, 1, 0) - pose.point(0, 0, 0)
    assert ahead[0] / ahead[1] == pytest.approx(40 / 200)


def test_a_side_street_is_on_its_side_only() -> None:
    u, v = np.array([12.0, 12.0, 30.0, 12.0]), np.array([9.0, -9.0, 9.0, 3.0])
    assert SideStreet(10, 18, 5.0).covers(u, v).tolist() == [True, False, False, False]
    assert SideStreet(10, 18, -5.0).covers(u, v).tolist() == [False, True, False, False]


STEP = 0.02
V, U = np.meshgrid(np.arange(-6, 6, STEP, dtype=np.float32), np.arange(0, 40, STEP, dtype=np.float32))


def area(mark: Mark) -> float:
    """Painted square metres of the 40 m x 12 m around the middle of the road."""
    return float(mark.covers(U.ravel(), V.ravel()).sum()) * STEP**2


def at(mark: Mark, u: float, *v: float) -> list[bool]:
    across = np.array(v, np.float32)
    return mark.covers(np.full_like(across, u), across).tolist()


def test_lines_are_solid_or_of_dashes_that_repeat_from_the_phase() -> None:
    assert area(Line(1.75, 0.2)) == pytest.approx(40 * 0.2, rel=0.05)
    assert at(Line(1.75, 0.2), 3, 1.84, 1.86) == [True, False]
    dashed = Line(0, 0.2, dash=3, gap=5, phase=1)
    assert area(dashed) == pytest.approx(5 * 3 * 0.2, rel=0.05)
    assert [at(dashed, u, 0) for u in (0.9, 1.1, 3.9, 4.1, 8.9, 9.1)] == [[u] for u in (0, 1, 1, 0, 0, 1)]


def test_zebra_has_bars_along_the_road_and_a_stop_line_none() -> None:
    zebra = Bars(10, 14, -3, 3, bar=0.5, gap=0.5)
    assert area(zebra) == pytest.approx(4 * 6 / 2, rel=0.05)
    assert at(zebra, 12, -2.75, -2.25, -1.75) == [True, False, True]
    assert at(zebra, 9.9, -2.75) == [False]
    assert area(Bars(10, 10.4, 0, 3, gap=0)) == pytest.approx(1.2, rel=0.05)


@pytest.mark.parametrize("side", [-1, 1])
def test_hatching_fills_a_wedge_in_stripes(side: int) -> None:
    hatching = Hatching(5, 25, side * 1.0, side * 3.0, stripe=0.5, gap=0.5)
    # Half of the wedge of 20 m2, and a border 0.2 m wide of which a quarter lies on stripes.
    assert area(hatching) == pytest.approx(10 + 20 * 0.2 * 0.75, rel=0.05)
    assert at(hatching, 15, side * 1.5, side * 2.0) == [False, True], "the slanted border is painted"
    assert at(hatching, 10, side * 3.2) == [False]


def test_arrow_points_ahead() -> None:
    arrow = Arrow(10, 1.75, 5.0)
    assert at(arrow, 10.5, 1.75, 2.1) == [True, False]
    assert at(arrow, 13.2, 2.1) == [True], "the head is wider than the shaft"
    assert at(arrow, 14.8, 2.1) == [False], "and comes to a point"
    assert at(arrow, 15.1, 1.75) == [False]


@pytest.mark.parametrize("turn", [-1, 1])
def test_turn_arrows_point_to_their_side(turn: int) -> None:
    assert at(Arrow(10, 0, 5.0, turn), 13.57, turn * 1.0, -turn * 1.0) == [True, False]


def test_teeth_point_at_the_driver() -> None:
    teeth = Teeth(10, 0, 3)
    assert at(teeth, 10.65, 0.2) == [True]
    assert at(teeth, 10.05, 0.2, 0.375) == [False, True]
    assert area(teeth) == pytest.approx(4 * 0.6 * 0.7 / 2, rel=0.05)


@pytest.mark.parametrize(
    "mark",
    [Line(0, 0.15), Line(0, 0.15, dash=2, gap=3), Bars(10, 10.4, -3, 3, gap=0), Arrow(10, 0, 5.0), Teeth(10, -3, 3)],
)
def test_wider_marks_have_wider_strokes(mark: Mark) -> None:
    assert area(mark.widened(2.0)) == pytest.approx(2 * area(mark), rel=0.1)


@pytest.mark.parametrize("mark", [Bars(10, 14, -4, 4), Hatching(5, 25, 1.0, 3.0, stripe=0.5, gap=0.5)])
def test_wider_stripes_are_fewer(mark: Mark) -> None:
    assert area(mark.widened(2.0)) == pytest.approx(area(mark), rel=0.1)
