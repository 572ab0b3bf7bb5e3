import numpy as np
import pytest

from hsiutils.simulate.geometry import Affine, Parallel, Perspective

SHAPE = (108, 204)


def camera(pitch: float = 0.1, yaw: float = -0.2, roll: float = 0.05) -> Perspective:
    return Perspective.looking(np.array([0.3, -1.0, 1.4]), SHAPE, np.radians(42), pitch, yaw, roll)


def test_block_and_single_rays_agree_with_the_definition() -> None:
    affine = Affine(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5, 0.1]), np.array([0.2, 0.0, -0.3]))
    rows, columns = np.array([2, 5]), np.array([1, 4, 7])
    expected = np.array([[affine.base + r * affine.per_row + c * affine.per_column for c in columns] for r in rows])
    axes = np.array([[0.4, -1.0, 2.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(affine.along(axes, rows, columns), np.moveaxis(expected @ axes.T, -1, 0), rtol=1e-6)
    np.testing.assert_allclose(affine.at(rows, columns[:2]), np.diagonal(expected[:, :2]), rtol=1e-6)


def test_axes_are_orthonormal_and_right_handed() -> None:
    axes = camera().axes
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.cross(axes[0], axes[1]), axes[2], atol=1e-12)


def test_level_camera_sees_the_horizon_in_the_middle_and_its_field_of_view_at_the_edges() -> None:
    level = camera(0, 0, 0)
    edge = level.direction.at(np.array([0]), np.array([-0.5]))[:, 0]
    assert edge[0] / edge[1] == pytest.approx(-np.tan(np.radians(21)), rel=1e-6)
    np.testing.assert_allclose(level.project(level.position + np.array([0, 50.0, 0])), [53.5, 101.5], atol=1e-9)


def test_pitch_looks_down_yaw_right_roll_clockwise() -> None:
    ahead = np.array([0.3, 99.0, 1.4])
    level_row, level_column = camera(0, 0, 0).project(ahead)
    assert camera(0.1, 0, 0).project(ahead)[0] < level_row - 10
    assert camera(0, 0.1, 0).project(ahead)[1] < level_column - 10
    aside = ahead + np.array([30.0, 0, 0])
    assert camera(0, 0, 0.1).project(aside)[0] < camera(0, 0, 0).project(aside)[0] - 1


def test_projection_inverts_the_rays() -> None:
    view = camera()
    rows, columns = np.array([0, 40, 107]), np.array([203, 11, 100])
    points = view.position[:, None] + 17.0 * view.direction.at(rows, columns)
    np.testing.assert_allclose(view.project(points.T), np.stack([rows, columns], axis=1), atol=1e-3)


def test_windows_hold_the_projection_and_little_more() -> None:
    view = camera(0, 0, 0)
    corners = np.array([(x, y, z) for x in (-1.0, 1.0) for y in (20.0, 21.0) for z in (0.5, 1.5)])[None]
    top, end, left, right = view.windows(corners)[0]
    seen = view.project(corners[0])
    assert top <= seen[:, 0].min() < top + 1
    assert end - 2 <= seen[:, 0].max() <= end
    assert left <= seen[:, 1].min() < left + 1
    assert right - 2 <= seen[:, 1].max() <= right


def test_things_behind_or_beside_have_no_window() -> None:
    view = camera(0, 0, 0)
    unit = np.array([(x, y, z) for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    for place in ((0, -30, 0), (60, 10, 0), (0, 10, 40)):
        top, end, left, right = view.windows((unit + np.array(place))[None])[0]
        assert end <= top or right <= left


def test_a_wall_that_runs_past_the_camera_is_cut_at_the_near_plane() -> None:
    view = camera(0, 0, 0)
    wall = np.array([(x, y, z) for x in (4.0, 4.3) for y in (-10.0, 60.0) for z in (0.0, 3.0)])[None]
    _, _, left, right = view.windows(wall)[0]
    assert right == SHAPE[1]
    # Its far end is at x = 4, y = 61 ahead of the camera at x = 0.3.
    assert left == np.floor(view.focal * 3.7 / 61 + 101.5)


@pytest.mark.parametrize("towards", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), (-0.3, 0.8, np.sqrt(0.27))])
def test_parallel_grid_covers_its_region(towards: tuple[float, float, float]) -> None:
    region = np.array([(x, y, z) for x in (-5.0, 9.0) for y in (2.0, 30.0) for z in (0.0, 4.0)])
    view = Parallel.covering(np.array(towards), region, 100)
    np.testing.assert_allclose(view.axes @ view.axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(view.axes[2], -np.array(towards))
    top, end, left, right = view.windows(region[None])[0]
    assert (top, left) == (0, 0)
    assert (end, right) == view.shape
    assert max(view.shape) in (100, 101)
