import numpy as np
import pytest

from hsiutils.simulate.builder import Part, Pose, box
from hsiutils.simulate.geometry import Ellipsoid
from hsiutils.simulate.sky_view import SECTORS, Openness, _sector_integrals

UP, RIGHT, LEFT = (np.array(normal, np.float32)[:, None] for normal in ((0, 0, 1), (1, 0, 0), (-1, 0, 0)))


def wall(height: float, left: float, right: float) -> Part:
    return Part(box(Pose(0, 0), (left, right, -40, 140), 0, height), (0,) * 6, 3)


def point(x: float, y: float, z: float) -> np.ndarray:
    return np.array([[x], [y], [z]], np.float32)


def test_the_sector_integrals_are_those_of_the_cosine_law() -> None:
    """Against direct integration over the sky above a horizon of 35 degrees."""
    horizon = np.radians(35)
    elevation = np.linspace(horizon, np.pi / 2, 20_001)
    a, b = _sector_integrals(np.array([np.tan(horizon)], np.float32))
    assert a[0] == pytest.approx(np.trapezoid(np.cos(elevation) ** 2, elevation), rel=1e-5)
    assert b[0] == pytest.approx(np.trapezoid(np.sin(elevation) * np.cos(elevation), elevation), rel=1e-5)


def test_open_ground_sees_all_of_the_sky_and_a_wall_half_of_it() -> None:
    empty = Openness.of([])
    assert empty.on_ground(point(0, 20, 0))[0] == pytest.approx(1, abs=1e-5)
    for normal, share in ((UP, 1.0), (RIGHT, 0.5), (LEFT, 0.5), (-UP, 0.0)):
        assert empty.on_surfaces(point(0, 20, 1), normal)[0] == pytest.approx(share, abs=1e-4)
    slope = np.array([[0], [-1], [1]], np.float32) / np.float32(np.sqrt(2))
    assert empty.on_surfaces(point(0, 20, 1), slope)[0] == pytest.approx((1 + np.sqrt(0.5)) / 2, abs=1e-4)


@pytest.mark.parametrize("distance", [3.0, 6.0, 12.0])
def test_ground_beside_a_long_wall(distance: float) -> None:
    """A wall of infinite length and height h at distance a leaves (1 + a / sqrt(a^2 + h^2)) / 2 of the sky."""
    beside = Openness.of([wall(10, -20, -8)])
    exact = (1 + distance / np.hypot(distance, 10)) / 2
    assert beside.on_ground(point(-8 + distance, 30, 0))[0] == pytest.approx(exact, abs=0.06)


def test_a_wall_in_a_street_loses_sky_to_the_one_opposite_and_less_so_higher_up() -> None:
    street = Openness.of([wall(10, -20, -5), wall(10, 5, 20)])
    shares = [float(street.on_surfaces(point(-5, 30, z), RIGHT)[0]) for z in (0.3, 2.0, 5.0, 7.9)]
    assert shares == sorted(shares)
    # Infinite parallel walls of height h, distance d: at the foot (1 - h / sqrt(h^2 + d^2)) / 2.
    assert shares[0] == pytest.approx((1 - 10 / np.hypot(10, 10)) / 2, abs=0.05)
    assert shares[-1] > 0.35


def test_under_a_car_it_is_dark_and_its_roof_is_open() -> None:
    car = Part(box(Pose(0, 20), (-0.9, 0.9, -2, 2), 0.2, 1.5), (0,) * 6, 3)
    beside = Openness.of([car])
    assert beside.on_ground(point(0, 20, 0))[0] < 0.1
    assert beside.on_ground(point(4, 20, 0))[0] > 0.9
    assert beside.on_surfaces(point(0, 20, 1.5), UP)[0] > 0.97


def crown(porosity: float) -> list[Part]:
    return [Part(Ellipsoid(np.array([0, 20, 5.0]), np.array([3, 3, 2.0])), (0,), 3, porosity=porosity)]


def test_ground_under_a_tree_sees_less_sky_the_denser_the_crown() -> None:
    shares = [float(Openness.of(crown(porosity)).on_ground(point(0, 20, 0))[0]) for porosity in (0.2, 0.5, 0.8)]
    assert 0.2 < shares[0] < shares[1] < shares[2] < 1
    assert Openness.of(crown(0.2)).on_ground(point(12, 20, 0))[0] > 0.9


def test_leaves_get_darker_down_into_the_crown() -> None:
    within = Openness.of(crown(0.3))
    top, low = (float(within.in_crowns(point(0, 20, z), UP)[0]) for z in (6.9, 4.0))
    assert top == pytest.approx(1, abs=0.1)
    assert low == pytest.approx(np.exp(-0.22 * 3), abs=0.1)


def test_places_outside_the_grid_are_answered_by_its_edge() -> None:
    assert Openness.of([wall(10, -20, -8)]).on_ground(point(500, 900, 0))[0] == pytest.approx(1, abs=0.05)
    assert Openness.of([]).vectors.shape[-1] == SECTORS
