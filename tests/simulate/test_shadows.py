import numpy as np
import pytest
from miniature import SHAPE, scene, stage

from hsiutils.simulate.builder import Part, Pose, Stage, box
from hsiutils.simulate.raster import sun_visible
from hsiutils.simulate.surfaces import Surfaces
from hsiutils.simulate.trace import look

POST = Part(box(Pose(0, 14), (-0.5, 0.5, -0.5, 0.5), 0, 2), (0,) * 6, 3)


def sun(azimuth: float, elevation: float) -> np.ndarray:
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)])


def lit(points: np.ndarray, towards: np.ndarray, parts: list[Part] | None = None) -> np.ndarray:
    up = np.zeros_like(points)
    up[2] = 1
    return sun_visible([POST] if parts is None else parts, towards, points, up, points[1])


def ground(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x, y, np.zeros_like(x)]).astype(np.float32)


@pytest.mark.parametrize("elevation", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_shadow_is_as_long_as_height_over_tangent(elevation: float, side: int) -> None:
    x = -side * np.linspace(0.6, 9.5, 2000)
    visible = lit(ground(x, np.full_like(x, 14.0)), sun(90 * side, elevation))
    length = 2 / np.tan(np.radians(elevation))
    edge = np.abs(x[np.argmax(visible > 0.5)]) - 0.5
    assert edge == pytest.approx(length, abs=0.08)
    assert visible[np.abs(x) < length + 0.35].max() == 0, "dark inside"
    assert visible[np.abs(x) > length + 0.65].min() == pytest.approx(1), "bright outside"


def test_a_shadow_falls_away_from_the_sun_and_is_as_wide_as_its_object() -> None:
    x = np.linspace(-3, 3, 1200)
    behind = lit(ground(x, np.full_like(x, 12.0)), sun(0, 30))
    assert (behind < 0.5).sum() / 200 == pytest.approx(1, abs=0.08)
    assert lit(ground(x, np.full_like(x, 16.0)), sun(0, 30)).min() == pytest.approx(1), "none on the sunny side"


def test_the_edge_is_soft_and_monotonous() -> None:
    x = np.linspace(-4.3, -3.6, 400)
    visible = lit(ground(x, np.full_like(x, 14.0)), sun(90, 30))
    assert np.all(np.diff(visible) <= 1e-5)
    assert ((visible > 0.05) & (visible < 0.95)).any()


def test_nothing_in_the_way_means_full_sun_everywhere() -> None:
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(-20, 20, 50), np.linspace(3, 150, 90)))
    assert lit(ground(x, y), sun(70, 10), parts=[]).min() == pytest.approx(1)


def test_a_sun_below_the_terrain_shines_on_nothing() -> None:
    assert not lit(ground(np.zeros(3), np.array([5.0, 14, 90])), sun(90, 0.5)).any()


def test_objects_throw_shadows_on_each_other() -> None:
    wall = box(Pose(0, 14), (-4, -3.8, -3, 3), 0, 2)
    face = np.array([[-3.8], [14.0], [0.5]], np.float32)
    high = np.array([[-3.8], [14.0], [1.8]], np.float32)
    towards, right = sun(90, 20), np.array([[1.0], [0], [0]], np.float32)
    parts = [POST, Part(wall, (0,) * 6, 4)]
    assert sun_visible(parts, towards, face, right, face[1]) == 0
    # The post's shadow on the wall ends at 2 - 3.3 tan 20.
    assert sun_visible(parts, towards, high, right, high[1]) == 1


def looked_at(on: Stage, towards: np.ndarray, direct_light: bool = True) -> Surfaces:
    return look(scene(on), SHAPE, towards, direct_light)


def test_sides_turned_away_are_dark_and_sunny_sides_do_not_shade_themselves() -> None:
    on = stage()
    thing = on.thing()
    on.add(box(Pose(0, 12), (-1.5, 1.5, -1, 1), 0, 2.5), on.slot("brick", 6), thing)
    for azimuth, expected in ((180, 1.0), (160, 1.0), (0, 0.0)):
        seen = looked_at(on, sun(azimuth, 30))
        assert seen.sun_visible[seen.object_id == thing].mean() == pytest.approx(expected, abs=0.01)


def test_without_direct_light_nothing_is_sunlit() -> None:
    assert not looked_at(stage(), sun(160, 30), direct_light=False).sun_visible.any()
