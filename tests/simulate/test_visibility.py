import numpy as np
import pytest

from hsiutils.simulate.builder import Part, Pose, box
from hsiutils.simulate.geometry import REAR, Ellipsoid, Perspective
from hsiutils.simulate.visibility import SkyView, _sector_integrals, rasterise, sun_visible

VIEW = Perspective.looking(np.array([0.0, 0.0, 1.4]), (240, 480), np.radians(42), 0.0)
UP, RIGHT, LEFT = (np.array(normal, np.float32)[:, None] for normal in ((0, 0, 1), (1, 0, 0), (-1, 0, 0)))


def solid(left: float, right: float, rear: float, front: float, low: float = 0.0, high: float = 2.0) -> Part:
    return Part(box(Pose(0, 0), (left, right, rear, front), low, high), (0,) * 6, 3)


def test_a_box_covers_the_pixels_that_the_pinhole_formula_says() -> None:
    hits = rasterise(VIEW, [solid(-1, 2, 20, 21)])
    rows, columns = np.nonzero(hits.part == 0)
    per_metre = VIEW.focal / 20
    assert (columns.min(), columns.max()) == (np.ceil(239.5 - per_metre), np.floor(239.5 + 2 * per_metre))
    assert (rows.min(), rows.max()) == (np.ceil(119.5 - 0.6 * per_metre), np.floor(119.5 + 1.4 * per_metre))
    np.testing.assert_allclose(hits.t[rows, columns], 20, rtol=1e-5)
    assert np.all(hits.face[rows, columns] == REAR)
    assert np.all(np.isinf(hits.t[hits.part < 0]))
    for unseen in ([solid(-1, 1, -21, -20)], []):
        assert np.all(rasterise(VIEW, unseen).part == -1)


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_one_hides_the_farther_in_any_order(order: int) -> None:
    near, far = (0, 1)[::order]
    row = rasterise(VIEW, [solid(-1, 1, 20, 21), solid(-3, 3, 30, 31)][::order]).part[125]
    edge = int(239.5 + VIEW.focal / 20)
    assert row[[239, edge - 1, edge + 2]].tolist() == [near, near, far]


@pytest.mark.parametrize("porosity", [0.2, 0.5, 0.8])
def test_porosity_is_the_share_of_gaps(porosity: float) -> None:
    ball = Ellipsoid(np.array([0.0, 20.0, 1.4]), np.array([3.0, 3.0, 3.0]))
    whole, leafy = ((rasterise(VIEW, [Part(ball, (0,), 3, None, gaps)]).part == 0).sum() for gaps in (0, porosity))
    assert leafy / whole == pytest.approx(1 - porosity, abs=0.06)


POST = solid(-0.5, 0.5, 13.5, 14.5)


def sun(azimuth: float, elevation: float) -> np.ndarray:
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)])


def lit(x: np.ndarray, y: np.ndarray | float, towards: np.ndarray, parts: tuple[Part, ...] = (POST,)) -> np.ndarray:
    """Share of the sun on level ground."""
    points = np.stack(np.broadcast_arrays(x, y, 0.0)).astype(np.float32)
    return sun_visible(parts, towards, points, np.broadcast_to(UP, points.shape), points[1])


@pytest.mark.parametrize("elevation", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_shadow_is_as_long_as_height_over_tangent(elevation: float, side: int) -> None:
    x = -side * np.linspace(0.6, 9.5, 2000)
    visible = lit(x, 14.0, sun(90 * side, elevation))
    length = 2 / np.tan(np.radians(elevation))
    assert np.abs(x[np.argmax(visible > 0.5)]) - 0.5 == pytest.approx(length, abs=0.08)
    assert visible[np.abs(x) < length + 0.35].max() == 0, "dark inside"
    assert visible[np.abs(x) > length + 0.65].min() == pytest.approx(1), "bright outside"


def test_a_shadow_falls_away_from_the_sun_and_is_as_wide_as_its_object() -> None:
    x = np.linspace(-3, 3, 1200)
    assert (lit(x, 12.0, sun(0, 30)) < 0.5).sum() / 200 == pytest.approx(1, abs=0.08)
    assert lit(x, 16.0, sun(0, 30)).min() == pytest.approx(1), "none on the sunny side"


def test_the_edge_is_soft_and_monotonous() -> None:
    visible = lit(np.linspace(-4.3, -3.6, 400), 14.0, sun(90, 30))
    assert np.all(np.diff(visible) <= 1e-5)
    assert ((visible > 0.05) & (visible < 0.95)).any()


def test_nothing_in_the_way_means_full_sun_unless_it_is_below_the_terrain() -> None:
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-20, 20, 50), np.linspace(3, 150, 90)))
    assert lit(x, y, sun(70, 10), parts=()).min() == pytest.approx(1)
    assert not lit(x, y, sun(90, 0.5), parts=()).any()


def test_objects_throw_shadows_on_each_other() -> None:
    parts = [POST, solid(-4, -3.8, 11, 17)]
    # The post's shadow on the wall ends at 2 - 3.3 tan 20.
    for height, share in ((0.5, 0), (1.8, 1)):
        face = np.array([[-3.8], [14.0], [height]], np.float32)
        assert sun_visible(parts, sun(90, 20), face, RIGHT, face[1]) == share


def wall(left: float, right: float) -> Part:
    """Long, and 10 m high."""
    return solid(left, right, -40, 140, 0, 10)


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
    empty = SkyView.of([])
    assert empty.on_ground(point(0, 20, 0))[0] == pytest.approx(1, abs=1e-5)
    slope = np.array([[0], [-1], [1]], np.float32) / np.float32(np.sqrt(2))
    for normal, share in ((UP, 1.0), (RIGHT, 0.5), (LEFT, 0.5), (-UP, 0.0), (slope, (1 + np.sqrt(0.5)) / 2)):
        assert empty.on_surfaces(point(0, 20, 1), normal)[0] == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("distance", [3.0, 6.0, 12.0])
def test_ground_beside_a_long_wall(distance: float) -> None:
    """A wall of infinite length and height h at distance a leaves (1 + a / sqrt(a^2 + h^2)) / 2 of the sky."""
    exact = (1 + distance / np.hypot(distance, 10)) / 2
    assert SkyView.of([wall(-20, -8)]).on_ground(point(-8 + distance, 30, 0))[0] == pytest.approx(exact, abs=0.06)


def test_a_wall_in_a_street_loses_sky_to_the_one_opposite_and_less_so_higher_up() -> None:
    street = SkyView.of([wall(-20, -5), wall(5, 20)])
    shares = [float(street.on_surfaces(point(-5, 30, z), RIGHT)[0]) for z in (0.3, 2.0, 5.0, 7.9)]
    assert shares == sorted(shares)
    # Infinite parallel walls of height h, distance d: at the foot (1 - h / sqrt(h^2 + d^2)) / 2.
    assert shares[0] == pytest.approx((1 - 10 / np.hypot(10, 10)) / 2, abs=0.05)
    assert shares[-1] > 0.35


def test_under_a_car_it_is_dark_and_its_roof_is_open() -> None:
    view = SkyView.of([solid(-0.9, 0.9, 18, 22, 0.2, 1.5)])
    assert view.on_ground(point(0, 20, 0))[0] < 0.1
    assert view.on_ground(point(4, 20, 0))[0] > 0.9
    assert view.on_surfaces(point(0, 20, 1.5), UP)[0] > 0.97


def under_crown(porosity: float) -> SkyView:
    return SkyView.of([Part(Ellipsoid(np.array([0, 20, 5.0]), np.array([3, 3, 2.0])), (0,), 3, porosity=porosity)])


def test_ground_under_a_tree_sees_less_sky_the_denser_the_crown() -> None:
    shares = [float(under_crown(porosity).on_ground(point(0, 20, 0))[0]) for porosity in (0.2, 0.5, 0.8)]
    assert 0.2 < shares[0] < shares[1] < shares[2] < 1
    assert under_crown(0.2).on_ground(point(12, 20, 0))[0] > 0.9


def test_leaves_get_darker_down_into_the_crown() -> None:
    top, low = (float(under_crown(0.3).in_crowns(point(0, 20, z), UP)[0]) for z in (6.9, 4.0))
    assert top == pytest.approx(1, abs=0.1)
    assert low == pytest.approx(np.exp(-0.22 * 3), abs=0.1)


def test_places_outside_the_grid_are_answered_by_its_edge() -> None:
    assert SkyView.of([wall(-20, -8)]).on_ground(point(500, 900, 0))[0] == pytest.approx(1, abs=0.05)
