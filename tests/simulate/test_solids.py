from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from hsiutils.simulate.builder import Pose, box, frustum
from hsiutils.simulate.geometry import (
    FAR_CAP,
    NEAR_CAP,
    REAR,
    SIDE,
    TOP,
    Affine,
    Cylinder,
    Ellipsoid,
    Hexahedron,
    Parallel,
    Perspective,
    Solid,
    View,
)

UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class OneRay:
    """A view with a single ray."""

    start: tuple[float, float, float]
    towards: tuple[float, float, float]
    shape: tuple[int, int] = (1, 1)

    @property
    def origin(self) -> Affine:
        return Affine(np.array(self.start), np.zeros(3), np.zeros(3))

    @property
    def direction(self) -> Affine:
        return Affine(np.array(self.towards), np.zeros(3), np.zeros(3))

    def windows(self, corners: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.tile([0, 1, 0, 1], (len(corners), 1))


def meet(solid: Solid, start: tuple[float, float, float], towards: tuple[float, float, float]) -> tuple[float, int]:
    zero = np.zeros(1, dtype=np.intp)
    t, face = solid.meet(OneRay(start, towards), zero, zero)
    return float(t.item()), int(face.item())


UNIT_BOX = box(Pose(0, 10), (-1, 1, -1, 1), 0, 2)
BALL = Ellipsoid(np.array([0.0, 10.0, 1.0]), np.array([1.0, 2.0, 0.5]))
POST = Cylinder(np.array([0.0, 10.0, 0.0]), np.array([0.0, 10.0, 3.0]), 0.5)


def test_box_is_entered_by_its_near_face_at_its_distance() -> None:
    assert meet(UNIT_BOX, (0.5, 0, 1), (0, 1, 0)) == (pytest.approx(9.0), REAR)
    assert meet(UNIT_BOX, (0, 10, 7), (0, 0, -1)) == (pytest.approx(5.0), TOP)


@pytest.mark.parametrize("start", [(1.01, 0, 1), (0, 0, 2.01), (-1.01, 0, 1), (0, 0, -0.01)])
def test_a_ray_along_the_faces_outside_the_box_misses(start: tuple[float, float, float]) -> None:
    assert np.isinf(meet(UNIT_BOX, start, (0, 1, 0))[0])


@pytest.mark.parametrize("start", [(0.99, 0, 1), (0, 0, 1.99), (-0.99, 0, 0.01)])
def test_a_ray_along_the_faces_inside_the_box_hits(start: tuple[float, float, float]) -> None:
    assert meet(UNIT_BOX, start, (0, 1, 0))[0] == pytest.approx(9.0)


def test_the_top_rectangle_of_a_frustum_is_narrower() -> None:
    roof = frustum(Pose(0, 0), (-2, 2, -2, 2), 0, (-1, 1, -1, 1), 2)
    t, face = meet(roof, (0, -10, 1), (0, 1, 0))
    assert (t, face) == (pytest.approx(8.5), REAR)
    normal = roof.normals(np.zeros((3, 1), np.float32), np.array([REAR], np.uint8))[:, 0]
    np.testing.assert_allclose(normal, np.array([0, -2, 1]) / np.sqrt(5), atol=1e-6)


def test_ellipsoid_is_met_at_its_radius_along_each_axis() -> None:
    assert meet(BALL, (0, 0, 1), (0, 1, 0))[0] == pytest.approx(8.0)
    assert meet(BALL, (-5, 10, 1), (1, 0, 0))[0] == pytest.approx(4.0)
    assert meet(BALL, (0, 10, 5), (0, 0, -2))[0] == pytest.approx(1.75)
    assert np.isinf(meet(BALL, (1.001, 0, 1), (0, 1, 0))[0])


def test_cylinder_has_a_mantle_and_two_caps() -> None:
    assert meet(POST, (0, 0, 1), (0, 1, 0)) == (pytest.approx(9.5), SIDE)
    assert meet(POST, (0.2, 10, 8), (0, 0, -1)) == (pytest.approx(5.0), FAR_CAP)
    assert meet(POST, (0.2, 10, -4), (0, 0, 1)) == (pytest.approx(4.0), NEAR_CAP)
    assert np.isinf(meet(POST, (0, 0, 3.01), (0, 1, 0))[0])
    assert np.isinf(meet(POST, (0.51, 10, 8), (0, 0, -1))[0])


SOLIDS = [
    UNIT_BOX,
    frustum(Pose(3, 14, 0.4), (-2, 2, -1, 3), 0, (-1, 1.5, 0, 2), 2.2),
    BALL,
    Ellipsoid(np.array([-2.0, 20.0, 3.0]), np.array([3.0, 1.0, 2.0])),
    POST,
    Cylinder(np.array([-2.0, 9.0, 0.5]), np.array([1.0, 12.0, 2.5]), 0.8),
]


def inside(solid: Solid, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The definition of each body for points (n, 3), apart from how rays meet it."""
    if isinstance(solid, Hexahedron):
        normal, offset = solid.planes
        return np.all(points @ normal.T <= offset, axis=1)
    if isinstance(solid, Ellipsoid):
        return np.sum(((points - solid.centre) / solid.radii) ** 2, axis=1) <= 1
    assert isinstance(solid, Cylinder)
    axis = solid.end - solid.start
    along = (points - solid.start) @ axis / (axis @ axis)
    across = np.linalg.norm(points - solid.start - along[:, None] * axis, axis=1)
    return (along >= 0) & (along <= 1) & (across <= solid.radius)


@pytest.mark.parametrize("solid", SOLIDS)
@pytest.mark.parametrize("parallel", [False, True])
def test_rays_enter_where_walking_along_them_enters(solid: Solid, parallel: bool) -> None:
    view: View = Perspective.looking(np.array([0.0, 0.0, 1.5]), (24, 40), np.radians(60), 0.02)
    if parallel:
        view = Parallel.covering(np.array([0.36, -0.48, 0.8]), solid.corners, 24, distance_m=30.0)
    t, _ = solid.meet(view, np.arange(view.shape[0]), np.arange(view.shape[1]))
    t = np.broadcast_to(t, view.shape).ravel()
    rows, columns = (index.ravel() for index in np.indices(view.shape))
    origin, direction = (affine.at(rows, columns).astype(float) for affine in (view.origin, view.direction))
    # Graze no edges: only rays that stay inside for longer than a few steps say anything about the walk.
    steps = np.arange(0.5, 60, 0.05)
    walked = np.broadcast_to(origin, direction.shape if not parallel else origin.shape)
    direction = np.broadcast_to(direction, walked.shape)
    points = walked.T[:, None, :] + steps[None, :, None] * direction.T[:, None, :]
    within = inside(solid, points.reshape(-1, 3)).reshape(t.size, steps.size)
    hit = within.sum(axis=1) > 4
    assert hit.sum() > 8
    np.testing.assert_allclose(t[hit], steps[np.argmax(within[hit], axis=1)], atol=0.06)
    assert not within[~np.isfinite(t)].any()


@pytest.mark.parametrize("solid", SOLIDS)
def test_normals_have_unit_length_face_the_ray_and_point_outwards(solid: Solid) -> None:
    view = Perspective.looking(np.array([0.0, 0.0, 1.5]), (60, 100), np.radians(70), 0.02)
    rows, columns = (index.ravel() for index in np.indices(view.shape))
    t, face = solid.meet(view, np.arange(60), np.arange(100))
    hit = np.isfinite(t.ravel())
    assert hit.sum() > 30
    direction = view.direction.at(rows[hit], columns[hit])
    points = (view.origin.at(rows[hit], columns[hit]) + t.ravel()[hit] * direction).astype(np.float32)
    normals = solid.normals(points, face.ravel()[hit])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=2e-4)
    assert np.all(np.sum(normals * direction, axis=0) < 1e-3)
    assert not inside(solid, (points + 0.01 * normals).T.astype(float)).any()
    # At an edge the way inwards may lead out by the next face.
    assert inside(solid, (points - 0.01 * normals).T.astype(float)).mean() > 0.95


def test_corners_hold_the_body() -> None:
    view = Parallel.covering(UP, np.array([(x, y, 0.0) for x in (-9.0, 9.0) for y in (0.0, 30.0)]), 300)
    for solid in SOLIDS:
        t, _ = solid.meet(view, np.arange(view.shape[0]), np.arange(view.shape[1]))
        rows, columns = np.nonzero(np.broadcast_to(np.isfinite(t), view.shape))
        top, end, left, right = view.windows(solid.corners[None])[0]
        assert rows.min() >= top
        assert rows.max() < end
        assert columns.min() >= left
        assert columns.max() < right


def test_a_thin_pole_far_away_keeps_its_width() -> None:
    view = Perspective.looking(np.array([0.0, 0.0, 1.5]), (40, 4000), np.radians(20), 0.0)
    pole = Cylinder(np.array([1.0, 150.0, 0.0]), np.array([1.0, 150.0, 8.0]), 0.06)
    t, _ = pole.meet(view, np.arange(20, 21), np.arange(4000))
    assert np.isfinite(t).sum() == pytest.approx(0.12 / 150 * view.focal, abs=1.5)


def test_edge_distance_is_measured_within_the_face() -> None:
    points = np.array([[0.9, 0.0], [9.0, 9.0], [1.0, 0.3]], dtype=np.float32)
    faces = np.array([REAR, REAR], dtype=np.uint8)
    np.testing.assert_allclose(UNIT_BOX.edge_distance(points, faces), [0.1, 0.3], atol=1e-5)
