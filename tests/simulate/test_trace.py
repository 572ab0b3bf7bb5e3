from collections import Counter

import numpy as np
import pytest
from miniature import HOUSE_V, NOON, SHAPE, road, scene, stage

from hsiutils.data import classes
from hsiutils.data.classes import GLASS, MARKS, METAL, ROAD, SKY, STONE, VEGETATION, WATER
from hsiutils.data.names import Conditions, name_table
from hsiutils.simulate.builder import Pose, Stage, box
from hsiutils.simulate.geometry import Ellipsoid
from hsiutils.simulate.roads import Curve, Line
from hsiutils.simulate.surfaces import Surfaces
from hsiutils.simulate.trace import build_surfaces, trace

FOCAL = SHAPE[1] / 2 / np.tan(np.radians(21))
HORIZON_ROW = SHAPE[0] / 2 - 0.5
MIDDLE = SHAPE[1] / 2 - 0.5


def seen(on: Stage, **options: float) -> Surfaces:
    return trace(scene(on, **options), SHAPE, NOON, True)


def place_of_marks(label: np.ndarray, ahead: float) -> tuple[float, np.ndarray]:
    """Distance of the row that sees the road about so far ahead, and its columns that show marks."""
    row = round(HORIZON_ROW + FOCAL * 1.4 / ahead)
    return 1.4 * FOCAL / (row - HORIZON_ROW), np.flatnonzero(label[row] == MARKS)


@pytest.mark.parametrize("ahead", [8.0, 15.0, 30.0])
def test_a_lane_line_lies_in_the_column_that_its_offset_says(ahead: float) -> None:
    distance, columns = place_of_marks(seen(stage()).label, ahead)
    assert columns.mean() == pytest.approx(MIDDLE + FOCAL * 2.0 / distance, abs=0.6)
    assert columns.size == pytest.approx(FOCAL * 0.2 / distance, abs=1)


def test_a_bend_moves_the_line_by_half_its_curvature_times_distance_squared() -> None:
    on = stage()
    made = road(on, Curve(curvature=1 / 200), (Line(0.0, 0.3),))
    distance, columns = place_of_marks(trace(scene(on, made), SHAPE, NOON, True).label, 25)
    assert columns.mean() == pytest.approx(MIDDLE + FOCAL * distance / 400, abs=1)


def test_strips_lie_from_the_middle_outwards_and_the_sky_above_hills_of_their_angular_height() -> None:
    surfaces = seen(stage())
    right = surfaces.label[round(HORIZON_ROW + FOCAL * 1.4 / 25), SHAPE[1] // 2 :]
    assert right[np.flatnonzero(np.diff(right, prepend=0))].tolist() == [ROAD, MARKS, ROAD, STONE, VEGETATION]
    assert np.median(surfaces.sky_view[surfaces.label == ROAD]) > 0.97, "it is open"
    sky = surfaces.label == SKY
    crest = np.flatnonzero(sky[:, SHAPE[1] // 2]).max() + 0.5
    assert crest == pytest.approx(HORIZON_ROW - FOCAL * (4.0 - 1.4) / 300, abs=1)
    assert np.all(np.isinf(surfaces.depth_m[sky]))
    assert not surfaces.normal[:, sky].any()
    np.testing.assert_array_equal(surfaces.object_id == 0, sky)
    assert set(np.unique(surfaces.object_id)) == {0, 1, 2}


def test_things_hide_what_is_behind_them_at_their_distance() -> None:
    on = stage()
    for x, slot in ((0, on.slot("bare_metal", METAL)), (5.5, on.slot("brick", STONE))):
        on.begin()
        on.add(box(Pose(x, 12), (-1, 1, 0, 1), 0, 3), slot)
    surfaces = seen(on)
    body = surfaces.object_id == 3
    assert np.nonzero(body)[0].max() == pytest.approx(HORIZON_ROW + FOCAL * 1.4 / 12, abs=1)
    assert np.all(surfaces.label[body] == METAL)
    np.testing.assert_allclose((surfaces.depth_m * surfaces.direction[1])[body], 12, rtol=1e-3)
    on_road = surfaces.label == ROAD
    np.testing.assert_allclose(surfaces.depth_m[on_road], (-1.4 / surfaces.direction[2])[on_road], rtol=1e-4)
    rows, _ = np.nonzero(surfaces.object_id == 4)
    assert rows.max() == pytest.approx(HORIZON_ROW + FOCAL * (1.4 - 0.12) / 12, abs=1), "behind the kerb's edge"


def test_normals_are_unit_and_face_the_camera_and_labels_are_those_of_the_slots() -> None:
    on = stage()
    on.add(box(Pose(-3, 12, 0.5), (-1, 1, 0, 1), 0, 3), on.slot("brick", STONE))
    on.add(Ellipsoid(np.array([3.0, 15, 2]), np.array([2.0, 2, 2])), on.slot("leaves", 3), porosity=0.3)
    on.add(box(Pose(HOUSE_V, 9), (0, 4, 0, 20), 0, 5), (0, 0, on.slot("glass", GLASS), 0, on.slot("brick", STONE), 0))
    surfaces = seen(on)
    met = surfaces.slot >= 0
    np.testing.assert_allclose(np.linalg.norm(surfaces.normal[:, met], axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(surfaces.direction, axis=0), 1, atol=1e-5)
    assert np.sum(surfaces.normal * surfaces.direction, axis=0)[met].max() < 1e-3
    np.testing.assert_array_equal(surfaces.label, np.array([*on.labels, SKY])[surfaces.slot])
    assert surfaces.slots == tuple(on.slots)


def test_rain_leaves_a_film_and_puddles_that_are_water() -> None:
    assert not seen(stage()).water.any()
    wet = seen(stage(), film=0.4, puddles=0.08)
    puddle = wet.label == WATER
    assert puddle.any()
    assert np.all(wet.water[puddle] == 1)
    assert {wet.slots[i].material for i in np.unique(wet.slot[puddle])} == {"water"}
    assert wet.water[wet.label == ROAD].mean() == pytest.approx(0.4, abs=0.1)
    assert not wet.water[wet.label == SKY].any()


def test_sides_turned_away_are_dark_and_sunny_sides_do_not_shade_themselves() -> None:
    on = stage()
    on.begin()
    on.add(box(Pose(0, 12), (-1.5, 1.5, -1, 1), 0, 2.5), on.slot("brick", 6))
    for azimuth, expected in ((180, 1.0), (160, 1.0), (0, 0.0)):
        turn, up = np.radians(azimuth), np.radians(30)
        sun = np.array([np.sin(turn) * np.cos(up), np.cos(turn) * np.cos(up), np.sin(up)])
        surfaces = trace(scene(on), SHAPE, sun, True)
        assert surfaces.sun_visible[surfaces.object_id == 3].mean() == pytest.approx(expected, abs=0.01)
    assert np.median(surfaces.sky_view[surfaces.object_id == 3]) == pytest.approx(0.5, abs=0.02)


SUN = np.array([0.5, 0.5, np.sqrt(0.5)])
RAYS = (60, 120)


def build(name: str, seed: int = 0, shape: tuple[int, int] = RAYS, direct_light: bool = True) -> Surfaces:
    return build_surfaces(Conditions.parse(name), seed, shape, SUN, direct_light)


def arrays(surfaces: Surfaces) -> dict[str, np.ndarray]:
    return {key: value for key, value in vars(surfaces).items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("name", ["nf4121_001", "nf3122_002", "nf2333_003", "nf1412_004"])
def test_every_quantity_has_its_shape_type_and_range(name: str) -> None:
    surfaces = build(name)
    types = {"slot": np.int32, "label": np.uint8, "object_id": np.int32}
    for key, value in arrays(surfaces).items():
        assert value.dtype == types.get(key, np.float32), key
        assert value.shape == ((3, *RAYS) if key in ("direction", "normal") else RAYS), key
        assert np.all(np.isfinite(value)) or key == "depth_m", key
    for values in (surfaces.sun_visible, surfaces.sky_view, surfaces.mix, surfaces.water):
        assert 0 <= values.min() <= values.max() <= 1 + 1e-5
    assert surfaces.brightness.min() > 0.1
    assert surfaces.brightness.mean() == pytest.approx(1, abs=0.1)
    assert surfaces.slot.max() < len(surfaces.slots)
    np.testing.assert_array_equal(surfaces.slot < 0, np.isinf(surfaces.depth_m))


def test_light_does_not_change_what_is_there() -> None:
    lit, dim = build("nf4121_001"), build("nf4121_001", direct_light=False)
    assert not dim.sun_visible.any()
    for key, value in arrays(lit).items():
        if key != "sun_visible":
            np.testing.assert_array_equal(value, getattr(dim, key), key)


def test_more_rays_show_the_same_picture() -> None:
    coarse, fine = build("nf3122_002"), build("nf3122_002", shape=(180, 360))
    # The middle ray of every 3 x 3 block is the coarse ray.
    assert (fine.label[1::3, 1::3] == coarse.label).mean() > 0.98


@pytest.mark.parametrize(
    ("what", "shape", "sun"),
    [*(("shape", shape, SUN) for shape in ((0, 10), (10, 0), (10,))),
     *(("sun", RAYS, np.array(sun)) for sun in ((0.0, 0, 2), (0.0, 1), (np.nan, 0, 1)))],
)  # fmt: skip
def test_an_empty_shape_or_a_sun_without_direction_is_refused(what: str, shape: tuple, sun: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"^{what} must be"):
        build_surfaces(Conditions.parse("nf4121_001"), 0, shape, sun, True)


def test_scenes_are_unlike_and_class_shares_those_of_hsi_drive() -> None:
    """Over a stratified sample of the real names, each share within a factor of two."""
    labels = [build(name, shape=(30, 60), direct_light=False).label for name in name_table().index[::45]]
    alike = [(a == b).mean() for i, a in enumerate(labels) for b in labels[:i]]
    assert max(alike) < 0.97
    assert np.mean(alike) < 0.85
    counts = Counter(classes.HSI_DRIVE_CLASSES.merge(np.stack(labels)).ravel().tolist())
    share = np.array([counts[index] for index in range(5)]) / (counts.total() - counts[classes.VOID])
    ratio = share / np.array(classes.FREQUENCIES)
    assert np.all((ratio > 0.5) & (ratio < 2)), ratio
