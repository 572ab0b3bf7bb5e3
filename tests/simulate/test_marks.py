import numpy as np
import pytest

from hsiutils.simulate.roads import Arrow, Bars, Hatching, Line, Mark, Teeth

STEP = 0.02
V, U = np.meshgrid(np.arange(-6, 6, STEP, dtype=np.float32), np.arange(0, 40, STEP, dtype=np.float32))


def area(mark: Mark) -> float:
    """Painted square metres of the 40 m x 12 m around the middle of the road."""
    return float(mark.covers(U.ravel(), V.ravel()).sum()) * STEP**2


def at(mark: Mark, u: float, v: float) -> bool:
    return bool(mark.covers(np.array([u], np.float32), np.array([v], np.float32))[0])


def test_solid_line() -> None:
    line = Line(1.75, 0.2)
    assert area(line) == pytest.approx(40 * 0.2, rel=0.05)
    assert at(line, 3, 1.84)
    assert not at(line, 3, 1.86)


def test_dashes_and_gaps_repeat_from_the_phase() -> None:
    line = Line(0, 0.2, dash=3, gap=5, phase=1)
    assert area(line) == pytest.approx(5 * 3 * 0.2, rel=0.05)
    assert [at(line, u, 0) for u in (0.9, 1.1, 3.9, 4.1, 8.9, 9.1)] == [False, True, True, False, False, True]


def test_a_line_ends_where_it_should() -> None:
    assert area(Line(0, 0.2, start=10, end=20)) == pytest.approx(2, rel=0.05)


def test_zebra_has_bars_along_the_road_and_a_stop_line_none() -> None:
    zebra = Bars(10, 14, -3, 3, bar=0.5, gap=0.5)
    assert area(zebra) == pytest.approx(4 * 6 / 2, rel=0.05)
    assert [at(zebra, 12, v) for v in (-2.75, -2.25, -1.75)] == [True, False, True]
    assert not at(zebra, 9.9, -2.75)
    assert area(Bars(10, 10.4, 0, 3, gap=0)) == pytest.approx(1.2, rel=0.05)


@pytest.mark.parametrize("side", [-1, 1])
def test_hatching_fills_a_wedge_in_stripes(side: int) -> None:
    hatching = Hatching(5, 25, side * 1.0, side * 3.0, stripe=0.5, gap=0.5)
    # Half of the wedge of 20 m2, and a border 0.2 m wide of which a quarter lies on stripes.
    assert area(hatching) == pytest.approx(10 + 20 * 0.2 * 0.75, rel=0.05)
    assert not at(hatching, 15, side * 1.5)
    assert not at(hatching, 10, side * 3.2)
    assert at(hatching, 15, side * 2.0), "the slanted border is painted"


def test_arrow_points_ahead() -> None:
    arrow = Arrow(10, 1.75, 5.0)
    assert at(arrow, 10.5, 1.75)
    assert not at(arrow, 10.5, 2.1)
    assert at(arrow, 13.2, 2.1), "the head is wider than the shaft"
    assert not at(arrow, 14.8, 2.1), "and comes to a point"
    assert not at(arrow, 15.1, 1.75)


@pytest.mark.parametrize("turn", [-1, 1])
def test_turn_arrows_point_to_their_side(turn: int) -> None:
    arrow = Arrow(10, 0, 5.0, turn)
    assert at(arrow, 13.57, turn * 1.0)
    assert not at(arrow, 13.57, -turn * 1.0)


def test_teeth_point_at_the_driver() -> None:
    teeth = Teeth(10, 0, 3)
    assert at(teeth, 10.65, 0.2)
    assert not at(teeth, 10.05, 0.2)
    assert at(teeth, 10.05, 0.375)
    assert area(teeth) == pytest.approx(4 * 0.6 * 0.7 / 2, rel=0.05)
