from dataclasses import replace

import numpy as np
import pytest
from flat_world import flat_world

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.simulate import radiance
from hsiutils.simulate import radiance as optics
from hsiutils.simulate.camera import Camera
from hsiutils.simulate.light import DISC_SR, GRID_NM, STANDARD, Illumination, extinction, illuminate
from hsiutils.simulate.materials import reflectance
from hsiutils.simulate.pigments import WAVELENGTHS_NM
from hsiutils.simulate.surfaces import Slot, Surfaces

CAMERA = Camera(HSI_DRIVE.resized((12, 20)))
SHAPE = CAMERA.sensor.active_shape
SHARP = np.ones((1, 1))
PAINT = Slot("street_paint", None, 1)


def clear(**changes: object) -> Illumination:
    return illuminate(replace(STANDARD, visibility_m=1e12, **changes), 0)  # type: ignore[arg-type]


def overcast(visibility_m: float = 1e12) -> Illumination:
    return illuminate(replace(STANDARD, weather="cloudy", cloud_cover=1.0, visibility_m=visibility_m), 0)


def fog(visibility_m: float) -> Illumination:
    return illuminate(replace(STANDARD, weather="foggy", cloud_cover=1.0, visibility_m=visibility_m), 0)


def seen(surfaces: Surfaces, light: Illumination, weights: np.ndarray = CAMERA.weights) -> np.ndarray:
    return radiance.band_signal(surfaces, light, weights, "train", (5, 5), SHARP).astype(float)


def by_hand(spectrum: np.ndarray) -> np.ndarray:
    """Signal of every pixel for a radiance spectrum that fills the view."""
    bands = (CAMERA.weights * spectrum).sum(axis=1)
    return np.tile(bands.reshape(5, 5), CAMERA.sensor.tiles)


def spectrum_of(slot: Slot) -> np.ndarray:
    return np.interp(GRID_NM, WAVELENGTHS_NM, reflectance(slot.material, slot.sample, "train"))


def white_world(monkeypatch: pytest.MonkeyPatch, value: float = 1.0) -> None:
    monkeypatch.setattr(radiance, "reflectance", lambda *_: np.full(61, value))
    monkeypatch.setattr(radiance, "_MOST", 1.0)


GROUND = flat_world(SHAPE).slot >= 0


def test_white_ground_under_the_open_sky_sends_back_all_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    white_world(monkeypatch)
    for light in (clear(), overcast()):
        expected = by_hand(light.horizontal / np.pi)
        np.testing.assert_allclose(seen(flat_world(SHAPE), light)[GROUND], expected[GROUND], rtol=1e-4)


def test_ground_is_reflectance_times_irradiance_over_pi() -> None:
    light = clear()
    expected = by_hand(spectrum_of(PAINT) * light.horizontal / np.pi)
    np.testing.assert_allclose(seen(flat_world(SHAPE, PAINT), light)[GROUND], expected[GROUND], rtol=1e-4)


def test_shadow_keeps_only_the_sky() -> None:
    light = clear()
    ratio = seen(flat_world(SHAPE, PAINT, sun_visible=0.0), light) / seen(flat_world(SHAPE, PAINT), light)
    rho = spectrum_of(PAINT)
    expected = by_hand(rho * light.diffuse) / by_hand(rho * light.horizontal)
    np.testing.assert_allclose(ratio[GROUND], expected[GROUND], rtol=1e-4)
    assert 0.02 < ratio[GROUND].min() < ratio[GROUND].max() < 0.3


def test_shadow_is_bluer() -> None:
    # Behind a long-pass: without it the infrared bands see so much orange that shadows look nearly grey to them.
    weights = Camera(CAMERA.sensor, long_pass_nm=660).weights
    sunlit, shaded = (seen(flat_world(SHAPE, sun_visible=v), clear(), weights)[-5:, :5].ravel() for v in (1.0, 0.0))
    assert shaded[9] / sunlit[9] > 1.2 * shaded[0] / sunlit[0]  # 679 nm against 888 nm


def test_half_a_sun_is_half_the_direct_light() -> None:
    light = clear()
    dark, half, full = (seen(flat_world(SHAPE, sun_visible=v), light)[GROUND] for v in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, (dark + full) / 2, rtol=1e-4)


def test_a_wall_gets_sun_by_the_cosine_and_light_from_the_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    white_world(monkeypatch, 0.5)
    light = clear(heading_deg=180.0)  # the sun ahead, so a wall that faces the camera is in its own shade
    world = flat_world(SHAPE, sky_view=0.5)
    wall = np.zeros((3, *SHAPE), np.float32)
    wall[1] = -1
    shaded = seen(replace(world, normal=wall), light)
    around = 0.5 * (light.direct * light.sun[2] + light.diffuse * 0.5)
    expected = by_hand(0.5 / np.pi * (0.5 * light.diffuse + 0.5 * around))
    np.testing.assert_allclose(shaded[GROUND], expected[GROUND], rtol=1e-4)
    away = clear(heading_deg=0.0)  # the sun behind: it faces the wall
    facing = seen(replace(world, normal=wall), away)
    gain = by_hand(0.5 / np.pi * away.direct * -away.sun[1])
    np.testing.assert_allclose((facing - shaded)[GROUND], gain[GROUND], rtol=0.02)


def test_no_surface_outshines_physics() -> None:
    light = clear()
    world = flat_world(SHAPE, PAINT, brightness=50.0, sky_view=0.6)
    towards = np.where(world.slot >= 0, 1, 0) * light.sun[:, None, None]
    most = by_hand((light.direct + light.diffuse + light.horizontal) / np.pi)
    assert np.all(seen(replace(world, normal=towards.astype(np.float32)), light)[GROUND] <= most[GROUND])
    with_limit = seen(flat_world(SHAPE, PAINT, brightness=50.0), light)[GROUND]
    assert np.all(with_limit < by_hand(light.horizontal / np.pi)[GROUND])


def test_texture_and_blend_scale_and_mix_spectra() -> None:
    light = clear()
    slot = Slot("street_paint", "asphalt", 4)
    plain, dirt = (by_hand(spectrum_of(Slot(name, None, 4)) * light.horizontal / np.pi)
                   for name in ("street_paint", "asphalt"))  # fmt: skip
    mixed = seen(flat_world(SHAPE, slot, mix=0.3, brightness=0.8), light)
    np.testing.assert_allclose(mixed[GROUND], (0.8 * (0.7 * plain + 0.3 * dirt))[GROUND], rtol=1e-4)


def test_sky_pixels_show_the_sky() -> None:
    light = clear()
    world = flat_world(SHAPE)
    up = ~GROUND
    expected = np.einsum("bw,wn->bn", CAMERA.weights, light.sky.radiance(world.direction[:, up].astype(float)))
    band = radiance.band_map(SHAPE, (5, 5))[up]
    np.testing.assert_allclose(seen(world, light)[up], expected[band, np.arange(band.size)], rtol=1e-4)


def test_the_suns_disc_carries_the_direct_beam() -> None:
    light = clear()
    world = flat_world(SHAPE)
    at_sun = np.broadcast_to(light.sun[:, None, None], (3, *SHAPE)).astype(np.float32)
    world = replace(world, direction=at_sun, slot=np.full(SHAPE, -1, np.int32))
    disc = by_hand(light.direct / DISC_SR)
    assert np.all(seen(world, light) > disc * 0.999)


@pytest.mark.parametrize("band", [0, 7, 13, 22, 24])
def test_light_of_one_filter_shows_up_at_its_site_only(band: int) -> None:
    only = 1e-9 * CAMERA.weights
    only[band] = CAMERA.weights[band]
    signal = seen(flat_world(SHAPE), clear(), only)
    rows, columns = np.nonzero(signal > 1e-4 * signal.max())
    assert set(zip(rows % 5, columns % 5, strict=True)) == {divmod(band, 5)}


def test_narrow_light_is_brightest_behind_the_filter_made_for_it() -> None:
    light = clear()
    line = np.exp(-(((GRID_NM - 718.3) / 2) ** 2))
    sky = replace(light.sky, irradiance=light.sky.irradiance * line)
    signal = seen(flat_world(SHAPE), replace(light, direct=light.direct * line, sky=sky))
    tile = signal[-5:, :5]
    assert np.unravel_index(tile.argmax(), (5, 5)) == HSI_DRIVE.mosaic_position(13)


def test_a_vertical_edge_moves_from_band_to_band() -> None:
    """Each pixel sees its band at its own place: an edge through a tile splits its bands by their column."""
    light = overcast()
    columns = np.broadcast_to(np.arange(SHAPE[1]), SHAPE)
    mix = (columns >= 52).astype(np.float32)  # inside tile column 10, after two of its five columns
    two = seen(flat_world(SHAPE, Slot("asphalt", "street_paint", 2), mix=mix), light)
    left, right = (seen(flat_world(SHAPE, Slot("asphalt", "street_paint", 2), mix=m), light) for m in (0.0, 1.0))
    np.testing.assert_array_equal(two[-5:, 50:52], left[-5:, 50:52])
    np.testing.assert_array_equal(two[-5:, 52:55], right[-5:, 52:55])


def test_blur_spreads_each_band_by_the_kernel() -> None:
    light = overcast()
    mix = (np.broadcast_to(np.arange(SHAPE[1]), SHAPE) >= 50).astype(np.float32)
    slot = Slot("asphalt", "street_paint", 2)
    kernel = CAMERA.point_spread
    blurred = radiance.band_signal(flat_world(SHAPE, slot, mix=mix), light, CAMERA.weights, "train", (5, 5), kernel)
    low, high = (seen(flat_world(SHAPE, slot, mix=m), light)[-10:-5] for m in (0.0, 1.0))
    share = (blurred[-10:-5] - low) / (high - low)
    for column in (48, 49, 50, 51):
        reach = kernel.shape[0] // 2
        expected = sum(kernel[:, reach + d].sum() for d in range(-reach, reach + 1) if column + d >= 50)
        np.testing.assert_allclose(share[:, column], expected, atol=1e-4)


def test_far_things_in_fog_take_the_colour_of_the_air() -> None:
    light = fog(100.0)
    near, far = (flat_world(SHAPE, depth_m=d) for d in (1.0, 3000.0))
    air = by_hand(light.diffuse / np.pi)
    np.testing.assert_allclose(seen(far, light)[GROUND], air[GROUND], rtol=1e-3)
    np.testing.assert_allclose(seen(far, light)[~GROUND], air[~GROUND], rtol=1e-3)
    assert np.all(seen(near, light)[GROUND] < 0.4 * air[GROUND])


def test_contrast_fades_by_koschmieders_law() -> None:
    light = fog(200.0)
    dark, bright = Slot("tyre", None, 0), PAINT
    contrast = [
        (seen(flat_world(SHAPE, bright, depth_m=d), light) - seen(flat_world(SHAPE, dark, depth_m=d), light))[GROUND]
        for d in (0.0, 200.0)
    ]
    np.testing.assert_allclose(contrast[1] / contrast[0], 0.02, rtol=2e-3)
    assert extinction(200.0)[0] * 200 == pytest.approx(3.912)


def looking_down(world: Surfaces) -> Surfaces:
    """The same, seen from straight above, where water reflects least."""
    direction = np.zeros_like(world.direction)
    direction[2] = -1
    return replace(world, direction=direction)


def test_wet_ground_is_darker_from_above_and_shines_at_grazing_angles() -> None:
    light = overcast()
    dry, damp = (looking_down(flat_world(SHAPE, water=w)) for w in (0.0, 0.5))
    ratio = seen(damp, light)[GROUND] / seen(dry, light)[GROUND]
    assert ratio.max() < 0.85
    ahead = [seen(flat_world(SHAPE, water=w), light)[GROUND].mean() for w in (0.0, 1.0)]
    assert ahead[1] > 1.2 * ahead[0]


def test_a_puddle_mirrors_the_sky_by_fresnel(monkeypatch: pytest.MonkeyPatch) -> None:
    white_world(monkeypatch, 0.0)
    light = overcast()
    world = flat_world(SHAPE, water=1.0)
    mirrored = world.direction.astype(float) * [[[1.0]], [[1.0]], [[-1.0]]]
    share = optics.fresnel(mirrored[2], optics.WATER_INDEX)
    sky = np.einsum("bw,wn->bn", CAMERA.weights, light.sky.radiance(mirrored[:, GROUND]))
    band = radiance.band_map(SHAPE, (5, 5))[GROUND]
    expected = share[GROUND] * sky[band, np.arange(band.size)]
    np.testing.assert_allclose(seen(world, light)[GROUND], expected, rtol=1e-3)


def test_glass_mirrors_and_covered_glass_mirrors_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    white_world(monkeypatch, 0.2)
    light = overcast()
    open_pane = looking_down(flat_world(SHAPE, Slot("glass", None, 0)))
    matt = looking_down(flat_world(SHAPE, Slot("wood", None, 0)))
    share = float(optics.pane(1.0))
    sky_above = by_hand(light.sky.radiance(np.array([[0], [0], [1.0]]))[:, 0])
    expected = (1 - share) * seen(matt, light) + share * sky_above
    np.testing.assert_allclose(seen(open_pane, light)[GROUND], expected[GROUND], rtol=1e-4)
    roofed = looking_down(flat_world(SHAPE, Slot("glass", None, 0), sky_view=0.0))
    assert seen(roofed, light)[GROUND].max() == pytest.approx(0, abs=1e-9)


def test_sky_alone_needs_no_slots() -> None:
    empty = replace(flat_world(SHAPE), slots=(), slot=np.full(SHAPE, -1, np.int32))
    assert np.isfinite(seen(empty, clear())).all()
