import numpy as np
import pytest

from hsiutils.simulate.builder import Part, Pose, box
from hsiutils.simulate.geometry import REAR, Ellipsoid, Perspective
from hsiutils.simulate.raster import points_at, rasterise

VIEW = Perspective.looking(np.array([0.0, 0.0, 1.4]), (240, 480), np.radians(42), 0.0)


def block(left: float, right: float, near: float, low: float = 0.0, high: float = 2.0) -> Part:
    return Part(box(Pose(0, near), (left, right, 0, 1), low, high), (0,) * 6, 3)


def test_a_box_covers_the_pixels_that_the_pinhole_formula_says() -> None:
    hits = rasterise(VIEW, [block(-1, 2, 20)])
    rows, columns = np.nonzero(hits.part == 0)
    per_metre = VIEW.focal / 20
    assert columns.min() == np.ceil(239.5 - per_metre)
    assert columns.max() == np.floor(239.5 + 2 * per_metre)
    assert rows.min() == np.ceil(119.5 - 0.6 * per_metre)
    assert rows.max() == np.floor(119.5 + 1.4 * per_metre)
    np.testing.assert_allclose(hits.t[rows, columns], 20, rtol=1e-5)
    assert np.all(hits.face[rows, columns] == REAR)
    assert np.all(np.isinf(hits.t[hits.part < 0]))


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_one_hides_the_farther_in_any_order(order: int) -> None:
    parts = [block(-1, 1, 20), block(-3, 3, 30)][::order]
    near, far = (0, 1)[::order]
    hits = rasterise(VIEW, parts)
    row = hits.part[125]
    assert row[239] == near
    edge = 239.5 + VIEW.focal / 20
    assert row[int(edge) - 1] == near
    assert row[int(edge) + 2] == far


def test_things_behind_the_camera_are_not_seen() -> None:
    assert np.all(rasterise(VIEW, [block(-1, 1, -20)]).part == -1)
    assert np.all(rasterise(VIEW, []).part == -1)


def test_points_lie_on_the_surface() -> None:
    hits = rasterise(VIEW, [block(-1, 1, 20)])
    rows, columns = np.nonzero(hits.part == 0)
    points = points_at(VIEW, rows, columns, hits.t[rows, columns])
    np.testing.assert_allclose(points[1], 20, atol=1e-3)
    assert np.abs(points[0]).max() <= 1.001
    assert points[2].min() >= -0.001
    assert points[2].max() <= 2.001


@pytest.mark.parametrize("porosity", [0.2, 0.5, 0.8])
def test_porosity_is_the_share_of_gaps(porosity: float) -> None:
    ball = Ellipsoid(np.array([0.0, 20.0, 1.4]), np.array([3.0, 3.0, 3.0]))
    solid = (rasterise(VIEW, [Part(ball, (0,), 3)]).part == 0).sum()
    leafy = (rasterise(VIEW, [Part(ball, (0,), 3, porosity=porosity)]).part == 0).sum()
    assert leafy / solid == pytest.approx(1 - porosity, abs=0.06)


def test_more_rays_are_the_same_picture() -> None:
    fine = Perspective.looking(VIEW.position, (480, 960), np.radians(42), 0.0)
    parts = [block(-1, 2, 20), block(3, 4, 12, high=1.2)]
    coarse, dense = rasterise(VIEW, parts).part, rasterise(fine, parts).part
    assert (dense[::2, ::2] == coarse).mean() > 0.99
