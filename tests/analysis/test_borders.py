import numpy as np
import pytest

from hsiutils.analysis.edges import border, sampling, step_along
from hsiutils.data.classes import VOID


def halves(shape=(12, 16), column=7):
    labels = np.zeros(shape, dtype=int)
    labels[:, column:] = 1
    return labels


def disc(radius=20, size=61):
    row, column = np.indices((size, size)) - size // 2
    return (np.hypot(row, column) < radius).astype(int), np.hypot(row, column)


def test_a_straight_border_runs_half_way_between_pixels():
    found = border(halves(), 1)
    np.testing.assert_array_equal(found.distance[5], 6.5 - np.arange(16))
    assert found.usable.all()


def test_across_points_out_of_the_class():
    found = border(halves(), 1)
    np.testing.assert_allclose(found.across[:, 5, 6], [0, -1], atol=1e-9)
    np.testing.assert_allclose(border(halves(), 0).across[:, 5, 6], [0, 1], atol=1e-9)


def test_a_discs_border_has_its_radius_and_its_normals():
    labels, radius = disc()
    found = border(labels, 1)
    ring = abs(radius - 20) < 6
    assert abs(found.distance - (radius - 20))[ring].max() < 1
    outward = np.stack(np.indices(labels.shape) - 30) / np.maximum(radius, 1)
    assert (found.across * outward).sum(axis=0)[ring].min() > 0.97


def test_the_border_runs_in_the_middle_of_a_void_strip():
    labels = halves(column=8)
    labels[:, 6:10] = VOID
    found = border(labels, 1)
    np.testing.assert_array_equal(found.distance[5], 7.5 - np.arange(16))
    assert found.usable.all()


def test_where_nobody_knows_nothing_is_measured():
    labels = halves((12, 40), column=20)
    labels[:, 12:28] = VOID
    usable = border(labels, 1).usable
    assert not usable[:, 16:24].any()
    assert not usable[:, :12].any()


def test_a_class_alone_or_absent_has_no_border():
    assert border(halves(), 2) is None
    assert border(np.zeros((5, 5), dtype=int), 0) is None
    assert border(np.full((5, 5), VOID), 0) is None


def test_a_step_along_lands_on_the_next_row_or_column():
    angle = np.linspace(0, 2 * np.pi, 33)
    across = np.stack([np.sin(angle), np.cos(angle)])
    step = step_along(across)
    np.testing.assert_allclose(np.abs(step).max(axis=0), 1)
    np.testing.assert_allclose((step * across).sum(axis=0), 0, atol=1e-12)


def test_sampling_is_exact_on_a_bilinear_surface():
    row, column = np.indices((6, 9)).astype(float)
    maps = np.stack([1 + 2 * row - column + 0.5 * row * column, column])
    points = np.array([[0.0, 5.0, 2.25, 3.0], [0.0, 8.0, 7.75, 8.0]])
    expected = 1 + 2 * points[0] - points[1] + 0.5 * points[0] * points[1]
    values = sampling(points, (6, 9)) @ maps.reshape(2, -1).T
    np.testing.assert_allclose(values.T, [expected, points[1]])


@pytest.mark.parametrize("index", [0, 1])
def test_inside_is_negative(index):
    labels = halves()
    assert ((border(labels, index).distance < 0) == (labels == index)).all()
