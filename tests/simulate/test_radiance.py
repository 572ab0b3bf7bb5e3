from dataclasses import replace

import numpy as np
import pytest
from flat_world import flat_world

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.simulate import radiance
from hsiutils.simulate.camera import Camera
from hsiutils.simulate.light import DISC_SR, GRID_NM, STANDARD, Illumination, illuminate, lamp_radiance
from hsiutils.simulate.materials import WAVELENGTHS_NM, reflectance
from hsiutils.simulate.surfaces import Slot, Surfaces

CAMERA = Camera(HSI_DRIVE.resized((12, 20)))
SHAPE = CAMERA.sensor.active_shape
RAYS = (5, 5)
SHARP = (np.eye(5, dtype=np.float32),) * 2
"""A point spread function of one ray a pixel."""
PAINT = Slot("street_paint", None, 1)
WORN = Slot("asphalt", "street_paint", 2)
GROUND = flat_world(SHAPE).slot >= 0
BAND = np.tile(np.arange(25).reshape(5, 5), CAMERA.sensor.tiles)


def clear(**changes: object) -> Illumination:
    return illuminate(replace(STANDARD, visibility_m=1e12, **changes), 0)  # type: ignore[arg-type]


def overcast() -> Illumination:
    return clear(weather="cloudy", cloud_cover=1.0)


def fog(visibility_m: float) -> Illumination:
    return illuminate(replace(STANDARD, weather="foggy", cloud_cover=1.0, visibility_m=visibility_m), 0)


def seen(
    surfaces: Surfaces,
    light: Illumination,
    weights: np.ndarray = CAMERA.weights,
    spread: tuple[np.ndarray, np.ndarray] = SHARP,
    rays: tuple[int, int] = RAYS,
) -> np.ndarray:
    return radiance.band_signal(surfaces, light, weights, "train", rays, spread).astype(float)


def on_ground(light: Illumination, slot: Slot = PAINT, **changes: float) -> np.ndarray:
    """Signal of the pixels that see the ground of a flat world."""
    return seen(flat_world(SHAPE, slot, **changes), light)[GROUND]


def by_hand(spectrum: np.ndarray) -> np.ndarray:
    """Signal of every pixel for a radiance spectrum that fills the view."""
    return (CAMERA.weights * spectrum).sum(axis=1)[BAND]


def sky_by_hand(light: Illumination, direction: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Signal of chosen pixels that see the sky in directions (3, n)."""
    spectra = np.einsum("pw,pn->wn", light.sky.irradiance, light.sky.shape(direction.astype(float)))
    return (CAMERA.weights @ spectra)[BAND[where], np.arange(direction.shape[1])]


def spectrum_of(material: str, sample: int) -> np.ndarray:
    return np.interp(GRID_NM, WAVELENGTHS_NM, reflectance(material, sample, "train"))


def walled(*normals: np.ndarray) -> tuple[Surfaces, np.ndarray]:
    """Open ground, and walls of these normals that see half of the sky, each in twenty columns; where the walls are."""
    world, wall = flat_world(SHAPE), np.zeros((len(normals), *SHAPE), bool)
    normal, sky_view = world.normal.copy(), world.sky_view.copy()
    for place, one in enumerate(normals):
        wall[place, :, 20 * (place + 1) : 20 * (place + 2)] = GROUND[:, 20 * (place + 1) : 20 * (place + 2)]
        normal[:, wall[place]], sky_view[wall[place]] = one[:, None], 0.5
    return replace(world, normal=normal, sky_view=sky_view), wall if len(normals) > 1 else wall[0]


def looking_down(world: Surfaces) -> Surfaces:
    """The same, seen from straight above, where water reflects least."""
    return replace(world, direction=np.zeros_like(world.direction) - np.array([0, 0, 1], np.float32)[:, None, None])


@pytest.fixture
def grey(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The reflectance of all materials, to be changed."""
    value = [1.0]
    monkeypatch.setattr(radiance, "reflectance", lambda *_: np.full(61, value[0]))
    monkeypatch.setattr(radiance, "_MOST", 1.0)
    return value


def test_fresnel_at_normal_and_grazing_incidence_and_brewsters_angle() -> None:
    assert radiance.fresnel(1.0, 1.5) == pytest.approx(0.04)
    assert radiance.fresnel(1.0, 1.33) == pytest.approx((0.33 / 2.33) ** 2)
    assert radiance.fresnel(0.0, 1.33) == pytest.approx(1.0)
    assert radiance.pane(1.0, 1.5) == pytest.approx(0.08 / 1.04), "nearly twice one face"
    assert radiance.pane(0.0) == pytest.approx(1.0)
    crossed = ((1 - 1.5**2) / (1 + 1.5**2)) ** 2
    assert radiance.fresnel(np.cos(np.arctan(1.5)), 1.5) == pytest.approx(crossed / 2)


def test_wet_surfaces_are_darker_never_brighter_and_ends_stay() -> None:
    dry = np.linspace(0, 1, 101)
    darker = radiance.wet(dry)
    assert darker[0] == 0
    assert np.all(darker[1:] < dry[1:])
    assert np.all(np.diff(darker) > 0)
    # A lossless scatterer sends back all that got into the film: water reflects 0.066 of diffuse light.
    assert darker[-1] == pytest.approx(1 - 0.066, abs=0.002)
    assert radiance.wet(0.1) == pytest.approx(0.052, abs=0.002)  # Angstrom: about half for dark ground


def test_ground_is_reflectance_times_irradiance_over_pi_and_shadow_keeps_only_the_sky() -> None:
    light, rho = clear(), spectrum_of("street_paint", 1)
    dark, half, full = (on_ground(light, sun_visible=share) for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(full, by_hand(rho * light.horizontal / np.pi)[GROUND], rtol=1e-4)
    np.testing.assert_allclose(dark, by_hand(rho * light.diffuse / np.pi)[GROUND], rtol=1e-4)
    np.testing.assert_allclose(half, (dark + full) / 2, rtol=1e-4)
    assert 0.02 < (dark / full).min() < (dark / full).max() < 0.3


def test_a_wall_gets_sun_by_the_cosine_and_light_from_the_ground(grey: list[float]) -> None:
    grey[0] = 0.5
    light = clear(heading_deg=180.0)  # the sun ahead, so a wall that faces the camera is in its own shade
    world, wall = walled(np.array([0, -1, 0]))
    shaded = seen(world, light)[wall]
    around = 0.5 * light.horizontal
    expected = by_hand(0.5 / np.pi * (0.5 * light.diffuse + 0.5 * around))
    np.testing.assert_allclose(shaded, expected[wall], rtol=3e-3)
    away = clear(heading_deg=0.0)  # the sun behind: it faces the wall
    gain = by_hand(0.5 / np.pi * away.direct * -away.sun[1])
    np.testing.assert_allclose(seen(world, away)[wall] - shaded, gain[wall], rtol=0.02)


def test_a_shaded_wall_is_lit_by_the_sunny_one_opposite_and_not_by_one_beside_it(grey: list[float]) -> None:
    grey[0] = 0.5
    light = clear(heading_deg=90.0)
    sunny = np.array([np.sign(light.sun[0]), 0, 0])  # where a wall looks that the sun shines on
    shaded = {}
    for name, other in (("opposite", sunny), ("beside", -sunny)):
        world, wall = walled(other, -sunny)
        alone = replace(world, slot=np.where(wall.any(axis=0), 0, -1).astype(np.int32))
        shaded[name] = seen(alone, light)[wall[-1]]
    assert np.all(shaded["opposite"] > 1.2 * shaded["beside"])


def test_reflections_between_surfaces_end_at_the_third(grey: list[float]) -> None:
    """Alike faces that see half of the sky: reflectance r adds q = r / 2 of each reflection to the next."""
    grey[0] = 0.6
    light = overcast()
    around = 0.6 * 0.5 * (1 + 0.3 + 0.3**2) * light.diffuse
    expected = by_hand(0.6 / np.pi * 0.5 * (light.diffuse + around))
    np.testing.assert_allclose(on_ground(light, sky_view=0.5), expected[GROUND], rtol=1e-3)


def test_no_surface_outshines_physics() -> None:
    light = clear()
    world = flat_world(SHAPE, PAINT, brightness=50.0, sky_view=0.6)
    towards = (world.slot >= 0) * light.sun[:, None, None]
    most = by_hand((light.direct + light.diffuse + light.horizontal) / np.pi)
    assert np.all(seen(replace(world, normal=towards.astype(np.float32)), light)[GROUND] <= most[GROUND])
    assert np.all(on_ground(light, brightness=50.0) < by_hand(light.horizontal / np.pi)[GROUND])


def test_texture_and_blend_scale_and_mix_spectra() -> None:
    light = clear()
    plain, dirt = (by_hand(spectrum_of(name, 4) * light.horizontal / np.pi) for name in ("street_paint", "asphalt"))
    mixed = on_ground(light, Slot("street_paint", "asphalt", 4), mix=0.3, brightness=0.8)
    np.testing.assert_allclose(mixed, (0.8 * (0.7 * plain + 0.3 * dirt))[GROUND], rtol=1e-4)


def test_sky_pixels_show_the_sky_and_need_no_slots() -> None:
    light, world = clear(), flat_world(SHAPE)
    expected = sky_by_hand(light, world.direction[:, ~GROUND], ~GROUND)
    np.testing.assert_allclose(seen(world, light)[~GROUND], expected, rtol=1e-4)
    empty = replace(world, slots=(), slot=np.full(SHAPE, -1, np.int32))
    assert np.isfinite(seen(empty, light)).all()


def test_the_suns_disc_carries_the_direct_beam() -> None:
    light = clear()
    at_sun = np.broadcast_to(light.sun[:, None, None], (3, *SHAPE)).astype(np.float32)
    world = replace(flat_world(SHAPE), direction=at_sun, slot=np.full(SHAPE, -1, np.int32))
    assert np.all(seen(world, light) > 0.999 * by_hand(light.direct / DISC_SR))


@pytest.mark.parametrize("band", [0, 7, 13, 22, 24])
def test_light_of_one_filter_shows_up_at_its_site_only(band: int) -> None:
    only = 1e-9 * CAMERA.weights
    only[band] = CAMERA.weights[band]
    signal = seen(flat_world(SHAPE), clear(), only)
    rows, columns = np.nonzero(signal > 1e-4 * signal.max())
    assert set(zip(rows % 5, columns % 5, strict=True)) == {HSI_DRIVE.mosaic_position(band)}


def edge_at(column: int, spread: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last row of tiles with an edge of materials at a column, and with each of the two everywhere."""
    step = (np.broadcast_to(np.arange(SHAPE[1]), SHAPE) >= column).astype(np.float32)
    edge = seen(flat_world(SHAPE, WORN, mix=step), overcast(), spread=spread)
    left, right = (seen(flat_world(SHAPE, WORN, mix=mix), overcast()) for mix in (0.0, 1.0))
    return edge[-10:-5], left[-10:-5], right[-10:-5]


def test_a_vertical_edge_moves_from_band_to_band() -> None:
    """Each pixel sees its band at its own place: an edge through a tile splits its bands by their column."""
    edge, left, right = edge_at(52, SHARP)  # inside tile column 10, after two of its five columns
    np.testing.assert_array_equal(edge[:, 50:52], left[:, 50:52])
    np.testing.assert_array_equal(edge[:, 52:55], right[:, 52:55])


def test_bands_that_are_not_displaced_see_an_edge_at_one_place() -> None:
    for column in (51, 52, 53):
        shares = []
        for displaced in (True, False):
            edge, low, high = edge_at(column, replace(CAMERA, displaced=displaced).point_spread(RAYS))
            shares.append(((edge - low) / (high - low))[:, 50:55])  # (bands of a tile,) of the right material
        apart, together = shares
        assert np.ptp(apart.mean(axis=0)) > 0.5
        np.testing.assert_allclose(together, apart[:, 2].mean(), atol=1e-4)


def test_blur_spreads_each_band_by_the_point_spread_of_its_own_pixel() -> None:
    spread = CAMERA.point_spread(RAYS)
    edge, low, high = edge_at(50, spread)
    share, reach = (edge - low) / (high - low), (spread[1].shape[1] - 5) // 2
    for column in (47, 48, 49, 50, 51, 52):
        tile, pixel = divmod(column, 5)
        rays = np.arange(-reach, 5 + reach) + 5 * tile
        np.testing.assert_allclose(share[:, column], spread[1][pixel, rays >= 50].sum(), atol=1e-4)


@pytest.mark.parametrize(("rays", "period"), [(5, 6.0), (7, 9.0), (8, 6.0), (8, 15.0)])
def test_contrast_of_fine_stripes_is_that_of_the_lens_and_of_the_pixel(rays: int, period: float) -> None:
    """Modulation transfer exp(-2 pi^2 sigma^2 f^2), in each band, whatever the number of rays."""
    camera, tiles = Camera(HSI_DRIVE.resized((4, 30)), blur_px=0.9), (4, 30)
    shape = (tiles[0] * rays, tiles[1] * rays)
    place = (np.arange(shape[1]) + 0.5) * 5 / rays
    mix = np.broadcast_to(0.5 + 0.5 * np.cos(2 * np.pi * place / period), shape).astype(np.float32)
    flat = flat_world(shape, WORN)
    up = np.zeros_like(flat.normal) + np.array([0, 0, 1], np.float32)[:, None, None]
    flat = replace(flat, slot=0 * flat.slot, normal=up, depth_m=np.ones(shape, np.float32))
    spread = camera.point_spread((rays, rays))
    signals = [
        seen(replace(flat, mix=one), overcast(), spread=spread, rays=(rays, rays))
        for one in (mix, 0 * mix, 1 + 0 * mix)
    ]
    share = (signals[0] - signals[1]) / (signals[2] - signals[1])
    expected = np.exp(-2 * np.pi**2 * (0.9**2 + 1 / 12) / period**2)
    pixel = np.arange(10, 140)
    wave = np.cos(2 * np.pi * (pixel + 0.5) / period)
    for row in range(5):
        slope, _ = np.polyfit(wave, share[row, pixel], 1)
        assert 2 * slope == pytest.approx(expected, rel=0.03)


def test_far_things_in_fog_take_the_colour_of_the_air() -> None:
    light = fog(100.0)
    near, far = (seen(flat_world(SHAPE, depth_m=depth), light) for depth in (1.0, 3000.0))
    air = by_hand(light.diffuse / np.pi)
    np.testing.assert_allclose(far, air, rtol=1e-3)
    assert np.all(near[GROUND] < 0.4 * air[GROUND])


def test_contrast_fades_by_koschmieders_law() -> None:
    light, dark = fog(200.0), Slot("tyre", None, 0)
    near, far = (on_ground(light, PAINT, depth_m=d) - on_ground(light, dark, depth_m=d) for d in (0.0, 200.0))
    np.testing.assert_allclose(far / near, 0.02, rtol=2e-3)


def test_a_lit_lamp_adds_its_own_light_to_what_its_pane_shows(grey: list[float]) -> None:
    light = clear()
    lamp, pane = (on_ground(light, Slot(name, None, 3)) for name in ("led_red", "glass"))
    np.testing.assert_allclose(
        lamp - pane, by_hand(lamp_radiance("led_red", 3))[GROUND], rtol=1e-3, atol=1e-3 * pane.max()
    )


def test_wet_ground_is_darker_from_above_and_shines_at_grazing_angles() -> None:
    light = overcast()
    dry, damp = (seen(looking_down(flat_world(SHAPE, water=water)), light)[GROUND] for water in (0.0, 0.5))
    assert (damp / dry).max() < 0.85
    dry, flooded = (seen(flat_world(SHAPE, water=water), light)[GROUND].mean() for water in (0.0, 1.0))
    assert flooded > 1.2 * dry


def test_a_puddle_mirrors_the_sky_by_fresnel(grey: list[float]) -> None:
    grey[0] = 0.0
    light, world = overcast(), flat_world(SHAPE, water=1.0)
    mirrored = (world.direction * np.array([1, 1, -1])[:, None, None])[:, GROUND]
    expected = radiance.fresnel(mirrored[2], radiance.WATER_INDEX) * sky_by_hand(light, mirrored, GROUND)
    np.testing.assert_allclose(seen(world, light)[GROUND], expected, rtol=1e-3)


def test_glass_mirrors_and_covered_glass_mirrors_its_surroundings(grey: list[float]) -> None:
    grey[0] = 0.2
    light, share = overcast(), float(radiance.pane(1.0))
    glass, matt = (looking_down(flat_world(SHAPE, Slot(name, None, 0))) for name in ("glass", "wood"))
    up = np.tile([[0], [0], [1.0]], GROUND.sum())
    expected = (1 - share) * seen(matt, light)[GROUND] + share * sky_by_hand(light, up, GROUND)
    np.testing.assert_allclose(seen(glass, light)[GROUND], expected, rtol=1e-4)
    roofed = replace(glass, sky_view=np.zeros(SHAPE, np.float32))
    assert seen(roofed, light)[GROUND].max() == pytest.approx(0, abs=1e-9)
