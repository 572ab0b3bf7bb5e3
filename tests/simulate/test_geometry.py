import numpy as np
import pytest

from hsiutils.simulate import geometry
from hsiutils.simulate.builder import Pose, box, frustum
from hsiutils.simulate.geometry import REAR, TOP, Cylinder, Ellipsoid, Parallel, Perspective, Solid

SHAPE = (108, 204)
Place = tuple[float, float, float]


def camera(pitch: float = 0.1, yaw: float = -0.2, roll: float = 0.05) -> Perspective:
    return Perspective.looking(np.array([0.3, -1.0, 1.4]), SHAPE, np.radians(42), pitch, yaw, roll)


LEVEL = camera(0, 0, 0)


def corners(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> np.ndarray:
    return np.array([(a, b, c) for a in x for b in y for c in z])


def test_block_and_single_rays_agree_with_the_definition() -> None:
    affine = geometry.Affine(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5, 0.1]), np.array([0.2, 0.0, -0.3]))
    rows, columns = np.array([2, 5]), np.array([1, 4, 7])
    expected = np.array([[affine.base + r * affine.per_row + c * affine.per_column for c in columns] for r in rows])
    axes = np.array([[0.4, -1.0, 2.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(affine.along(axes, rows, columns), np.moveaxis(expected @ axes.T, -1, 0), rtol=1e-6)
    np.testing.assert_allclose(affine.at(rows, columns[:2]), np.diagonal(expected[:, :2]), rtol=1e-6)


def test_level_camera_sees_the_horizon_in_the_middle_and_its_field_of_view_at_the_edges() -> None:
    edge = LEVEL.direction.at(np.array([0]), np.array([-0.5]))[:, 0]
    assert edge[0] / edge[1] == pytest.approx(-np.tan(np.radians(21)), rel=1e-6)
    np.testing.assert_allclose(LEVEL.project(LEVEL.position + np.array([0, 50.0, 0])), [53.5, 101.5], atol=1e-9)


def test_pitch_looks_down_yaw_right_roll_clockwise() -> None:
    ahead = np.array([0.3, 99.0, 1.4])
    row, column = LEVEL.project(ahead)
    assert camera(0.1, 0, 0).project(ahead)[0] < row - 10
    assert camera(0, 0.1, 0).project(ahead)[1] < column - 10
    aside = ahead + np.array([30.0, 0, 0])
    assert camera(0, 0, 0.1).project(aside)[0] < LEVEL.project(aside)[0] - 1


def test_projection_inverts_the_rays_of_right_handed_axes() -> None:
    view = camera()
    np.testing.assert_allclose(view.axes @ view.axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.cross(view.axes[0], view.axes[1]), view.axes[2], atol=1e-12)
    rows, columns = np.array([0, 40, 107]), np.array([203, 11, 100])
    points = view.position[:, None] + 17.0 * view.direction.at(rows, columns)
    np.testing.assert_allclose(view.project(points.T), np.stack([rows, columns], axis=1), atol=1e-3)


def test_windows_hold_the_projection_and_little_more() -> None:
    hull = corners((-1.0, 1.0), (20.0, 21.0), (0.5, 1.5))
    top, end, left, right = LEVEL.windows(hull[None])[0]
    seen = LEVEL.project(hull)
    assert top <= seen[:, 0].min() < top + 1
    assert end - 2 <= seen[:, 0].max() <= end
    assert left <= seen[:, 1].min() < left + 1
    assert right - 2 <= seen[:, 1].max() <= right


@pytest.mark.parametrize("place", [(0, -30, 0), (60, 10, 0), (0, 10, 40)])
def test_things_behind_or_beside_have_no_window(place: Place) -> None:
    unit = corners((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    top, end, left, right = LEVEL.windows((unit + np.array(place))[None])[0]
    assert end <= top or right <= left


def test_a_wall_that_runs_past_the_camera_is_cut_at_the_near_plane() -> None:
    _, _, left, right = LEVEL.windows(corners((4.0, 4.3), (-10.0, 60.0), (0.0, 3.0))[None])[0]
    assert right == SHAPE[1]
    # Its far end is at x = 4, y = 61 ahead of the camera at x = 0.3.
    assert left == np.floor(LEVEL.focal * 3.7 / 61 + 101.5)


@pytest.mark.parametrize("towards", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), (-0.3, 0.8, np.sqrt(0.27))])
def test_parallel_grid_covers_its_region(towards: Place) -> None:
    region = corners((-5.0, 9.0), (2.0, 30.0), (0.0, 4.0))
    view = Parallel.covering(np.array(towards), region, 100)
    np.testing.assert_allclose(view.axes @ view.axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(view.axes[2], -np.array(towards))
    np.testing.assert_array_equal(view.windows(region[None])[0], [0, view.shape[0], 0, view.shape[1]])
    assert max(view.shape) in (100, 101)


def meet(solid: Solid, start: Place, towards: Place) -> tuple[float, int]:
    """What a single ray meets: one of a parallel view of one cell."""
    axes = np.stack([np.zeros(3), np.zeros(3), np.array(towards, dtype=float)])
    zero = np.zeros(1, dtype=np.intp)
    t, face = solid.meet(Parallel(np.array(start, dtype=float), axes, 1.0, (1, 1)), zero, zero)
    return float(t.item()), int(face.item())


UNIT_BOX = box(Pose(0, 10), (-1, 1, -1, 1), 0, 2)
BALL = Ellipsoid(np.array([0.0, 10.0, 1.0]), np.array([1.0, 2.0, 0.5]))
POST = Cylinder(np.array([0.0, 10.0, 0.0]), np.array([0.0, 10.0, 3.0]), 0.5)
SOLIDS = [
    UNIT_BOX,
    frustum(Pose(3, 14, 0.4), (-2, 2, -1, 3), 0, (-1, 1.5, 0, 2), 2.2),
    BALL,
    Ellipsoid(np.array([-2.0, 20.0, 3.0]), np.array([3.0, 1.0, 2.0])),
    POST,
    Cylinder(np.array([-2.0, 9.0, 0.5]), np.array([1.0, 12.0, 2.5]), 0.8),
]


def test_box_is_entered_by_its_near_face_at_its_distance() -> None:
    assert meet(UNIT_BOX, (0.5, 0, 1), (0, 1, 0)) == (pytest.approx(9.0), REAR)
    assert meet(UNIT_BOX, (0, 10, 7), (0, 0, -1)) == (pytest.approx(5.0), TOP)


@pytest.mark.parametrize("x", [-1, 1])
def test_rays_along_the_faces_of_a_box_hit_inside_and_miss_outside(x: int) -> None:
    for start, distance in (((0.99 * x, 0, 1), 9.0), ((0, 0, 1 + 0.99 * x), 9.0), ((1.01 * x, 0, 1), np.inf),
                            ((0, 0, 1 + 1.01 * x), np.inf)):  # fmt: skip
        assert meet(UNIT_BOX, start, (0, 1, 0))[0] == pytest.approx(distance)


def test_cylinder_has_a_mantle_and_two_caps() -> None:
    assert meet(POST, (0, 0, 1), (0, 1, 0)) == (pytest.approx(9.5), geometry.SIDE)
    assert meet(POST, (0.2, 10, 8), (0, 0, -1)) == (pytest.approx(5.0), geometry.FAR_CAP)
    assert meet(POST, (0.2, 10, -4), (0, 0, 1)) == (pytest.approx(4.0), geometry.NEAR_CAP)
    assert np.isinf(meet(POST, (0, 0, 3.01), (0, 1, 0))[0])
    assert np.isinf(meet(POST, (0.51, 10, 8), (0, 0, -1))[0])


def inside(solid: Solid, points: np.ndarray) -> np.ndarray:
    """The definition of each body for points (n, 3), apart from how rays meet it."""
    if isinstance(solid, geometry.Hexahedron):
        normal, offset = solid.planes
        return np.all(points @ normal.T <= offset, axis=1)
    if isinstance(solid, Ellipsoid):
        return np.sum(((points - solid.centre) / solid.radii) ** 2, axis=1) <= 1
    axis = solid.end - solid.start
    along = (points - solid.start) @ axis / (axis @ axis)
    across = np.linalg.norm(points - solid.start - along[:, None] * axis, axis=1)
    return (along >= 0) & (along <= 1) & (across <= solid.radius)


@pytest.mark.parametrize("solid", SOLIDS)
@pytest.mark.parametrize("parallel", [False, True])
def test_rays_enter_where_walking_along_them_enters(solid: Solid, parallel: bool) -> None:
    view: geometry.View = Perspective.looking(np.array([0.0, 0.0, 1.5]), (24, 40), np.radians(60), 0.02)
    if parallel:
        view = Parallel.covering(np.array([0.36, -0.48, 0.8]), solid.corners, 24, distance_m=30.0)
    rows, columns = (index.ravel() for index in np.indices(view.shape))
    t = np.broadcast_to(solid.meet(view, *map(np.arange, view.shape))[0], view.shape).ravel()
    # Graze no edges: only rays that stay inside for longer than a few steps say anything about the walk.
    steps = np.arange(0.5, 60, 0.05)
    origin, direction = (affine.at(rows, columns).astype(float) for affine in (view.origin, view.direction))
    origin, direction = np.broadcast_arrays(origin, direction)
    points = origin.T[:, None, :] + steps[None, :, None] * direction.T[:, None, :]
    within = inside(solid, points.reshape(-1, 3)).reshape(t.size, steps.size)
    hit = within.sum(axis=1) > 4
    assert hit.sum() > 8
    np.testing.assert_allclose(t[hit], steps[np.argmax(within[hit], axis=1)], atol=0.06)
    assert not within[~np.isfinite(t)].any()


@pytest.mark.parametrize("solid", SOLIDS)
def test_normals_have_unit_length_face_the_ray_and_point_outwards(solid: Solid) -> None:
    view = Perspective.looking(np.array([0.0, 0.0, 1.5]), (60, 100), np.radians(70), 0.02)
    t, face = solid.meet(view, np.arange(60), np.arange(100))
    rows, columns = np.nonzero(np.isfinite(t))
    assert rows.size > 30
    direction = view.direction.at(rows, columns)
    points = (view.origin.at(rows, columns) + t[rows, columns] * direction).astype(np.float32)
    normals = solid.normals(points, face[rows, columns])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=2e-4)
    assert np.all(np.sum(normals * direction, axis=0) < 1e-3)
    assert not inside(solid, (points + 0.01 * normals).T.astype(float)).any()
    # At an edge the way inwards may lead out by the next face.
    assert inside(solid, (points - 0.01 * normals).T.astype(float)).mean() > 0.95


@pytest.mark.parametrize("solid", SOLIDS)
def test_corners_hold_the_body(solid: Solid) -> None:
    view = Parallel.covering(np.array([0.0, 0.0, 1.0]), corners((-9.0, 9.0), (0.0, 30.0), (0.0, 0.0)), 300)
    t, _ = solid.meet(view, *map(np.arange, view.shape))
    rows, columns = np.nonzero(np.broadcast_to(np.isfinite(t), view.shape))
    top, end, left, right = view.windows(solid.corners[None])[0]
    assert top <= rows.min() <= rows.max() < end
    assert left <= columns.min() <= columns.max() < right


def test_a_thin_pole_far_away_keeps_its_width() -> None:
    view = Perspective.looking(np.array([0.0, 0.0, 1.5]), (40, 4000), np.radians(20), 0.0)
    pole = Cylinder(np.array([1.0, 150.0, 0.0]), np.array([1.0, 150.0, 8.0]), 0.06)
    t, _ = pole.meet(view, np.arange(20, 21), np.arange(4000))
    assert np.isfinite(t).sum() == pytest.approx(0.12 / 150 * view.focal, abs=1.5)


def test_edge_distance_is_measured_within_the_face() -> None:
    points = np.array([[0.9, 0.0], [9.0, 9.0], [1.0, 0.3]], dtype=np.float32)
    faces = np.array([REAR, REAR], dtype=np.uint8)
    np.testing.assert_allclose(UNIT_BOX.edge_distance(points, faces), [0.1, 0.3], atol=1e-5)
