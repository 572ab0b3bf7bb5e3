import numpy as np
import pytest
from miniature import HOUSE_V, NOON, SHAPE, road, scene, stage

from hsiutils.data.classes import GLASS, MARKS, METAL, ROAD, SKY, STONE, VEGETATION, WATER
from hsiutils.simulate.builder import Pose, Stage, box
from hsiutils.simulate.geometry import Ellipsoid
from hsiutils.simulate.roads import Curve, Line
from hsiutils.simulate.surfaces import Surfaces
from hsiutils.simulate.trace import look

FOCAL = SHAPE[1] / 2 / np.tan(np.radians(21))
HORIZON_ROW = SHAPE[0] / 2 - 0.5
MIDDLE = SHAPE[1] / 2 - 0.5


def seen(on: Stage, **options: float) -> Surfaces:
    return look(scene(on, **options), SHAPE, NOON, True)


@pytest.mark.parametrize("ahead", [8.0, 15.0, 30.0])
def test_a_lane_line_lies_in_the_column_that_its_offset_says(ahead: float) -> None:
    label = seen(stage()).label
    row = round(HORIZON_ROW + FOCAL * 1.4 / ahead)
    distance = 1.4 * FOCAL / (row - HORIZON_ROW)
    columns = np.flatnonzero(label[row] == MARKS)
    assert columns.mean() == pytest.approx(MIDDLE + FOCAL * 2.0 / distance, abs=0.6)
    assert columns.size == pytest.approx(FOCAL * 0.2 / distance, abs=1)


def test_a_bend_moves_the_line_by_half_its_curvature_times_distance_squared() -> None:
    on = stage()
    made = road(on, Curve(curvature=1 / 200), (Line(0.0, 0.3),))
    label = look(scene(on, made), SHAPE, NOON, True).label
    row = round(HORIZON_ROW + FOCAL * 1.4 / 25)
    distance = 1.4 * FOCAL / (row - HORIZON_ROW)
    columns = np.flatnonzero(label[row] == MARKS)
    assert columns.mean() == pytest.approx(MIDDLE + FOCAL * distance / 400, abs=1)


def test_strips_have_their_labels_from_the_middle_outwards() -> None:
    surfaces = seen(stage())
    row = surfaces.label[round(HORIZON_ROW + FOCAL * 1.4 / 25)]
    right = row[SHAPE[1] // 2 :]
    order = [int(code) for i, code in enumerate(right) if i == 0 or code != right[i - 1]]
    assert order == [ROAD, MARKS, ROAD, STONE, VEGETATION]


def test_depth_of_the_ground_is_the_length_of_the_ray() -> None:
    surfaces = seen(stage())
    on_road = surfaces.label == ROAD
    np.testing.assert_allclose(surfaces.depth_m[on_road], (-1.4 / surfaces.direction[2])[on_road], rtol=1e-4)


def test_sky_above_hills_of_their_angular_height() -> None:
    surfaces = seen(stage())
    column = surfaces.label[:, SHAPE[1] // 2]
    crest = np.flatnonzero(column == SKY).max() + 0.5
    assert crest == pytest.approx(HORIZON_ROW - FOCAL * (4.0 - 1.4) / 300, abs=1)
    assert np.all(surfaces.object_id[surfaces.label == SKY] == 0)
    assert np.all(np.isinf(surfaces.depth_m[surfaces.label == SKY]))
    assert np.all(surfaces.normal[:, surfaces.label == SKY] == 0)
    assert set(np.unique(surfaces.object_id)) == {0, 1, 2}


def test_a_thing_hides_the_ground_and_stands_in_front_of_the_hills() -> None:
    on = stage()
    thing = on.thing()
    on.add(box(Pose(0, 12), (-1, 1, 0, 1), 0, 3), on.slot("bare_metal", METAL), thing)
    surfaces = seen(on)
    body = surfaces.object_id == thing
    rows, columns = np.nonzero(body)
    assert columns.mean() == pytest.approx(MIDDLE, abs=0.5)
    assert rows.max() == pytest.approx(HORIZON_ROW + FOCAL * 1.4 / 12, abs=1)
    assert rows.min() == pytest.approx(HORIZON_ROW - FOCAL * 1.6 / 12, abs=1)
    assert np.all(surfaces.label[body] == METAL)
    np.testing.assert_allclose((surfaces.depth_m * surfaces.direction[1])[body], 12, rtol=1e-3)


def test_things_on_the_pavement_stand_behind_its_kerb_s_edge() -> None:
    on = stage()
    thing = on.thing()
    on.add(box(Pose(5, 12), (-0.5, 0.5, 0, 1), 0, 3), on.slot("brick", STONE), thing)
    rows, _ = np.nonzero(seen(on).object_id == thing)
    assert rows.max() == pytest.approx(HORIZON_ROW + FOCAL * (1.4 - 0.12) / 12, abs=1)


def test_normals_are_unit_and_face_the_camera() -> None:
    on = stage()
    thing = on.thing()
    on.add(box(Pose(-3, 12, 0.5), (-1, 1, 0, 1), 0, 3), on.slot("brick", STONE), thing)
    on.add(Ellipsoid(np.array([3.0, 15, 2]), np.array([2.0, 2, 2])), on.slot("leaves", 3), on.thing(), porosity=0.3)
    surfaces = seen(on)
    met = surfaces.slot >= 0
    np.testing.assert_allclose(np.linalg.norm(surfaces.normal[:, met], axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(surfaces.direction, axis=0), 1, atol=1e-5)
    assert np.sum(surfaces.normal * surfaces.direction, axis=0)[met].max() < 1e-3


def test_labels_are_those_of_the_slots() -> None:
    on = stage()
    on.add(
        box(Pose(HOUSE_V, 9), (0, 4, 0, 20), 0, 5),
        (0, 0, on.slot("glass", GLASS), 0, on.slot("brick", STONE), 0),
        on.thing(),
    )
    surfaces = seen(on)
    labels = np.array([*on.labels, SKY])
    np.testing.assert_array_equal(surfaces.label, labels[surfaces.slot])
    assert surfaces.slots == tuple(on.slots)


def test_open_ground_sees_the_whole_sky_and_a_free_wall_half() -> None:
    on = stage()
    thing = on.thing()
    on.add(box(Pose(0, 20), (-2, 2, 0, 1), 0, 3), on.slot("brick", STONE), thing)
    surfaces = seen(on)
    assert np.median(surfaces.sky_view[surfaces.label == ROAD]) > 0.97
    assert np.median(surfaces.sky_view[surfaces.object_id == thing]) == pytest.approx(0.5, abs=0.02)
    assert surfaces.sky_view.min() >= 0
    assert surfaces.sky_view.max() <= 1


def test_rain_leaves_a_film_and_puddles_that_are_water() -> None:
    assert not seen(stage()).water.any()
    wet = seen(stage(), film=0.4, puddles=0.08)
    puddle = wet.label == WATER
    assert puddle.any()
    assert np.all(wet.water[puddle] == 1)
    assert {wet.slots[i].material for i in np.unique(wet.slot[puddle])} == {"water"}
    assert wet.water[wet.label == ROAD].mean() == pytest.approx(0.4, abs=0.1)
    assert not wet.water[wet.label == SKY].any()
