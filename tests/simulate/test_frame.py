from dataclasses import replace

import numpy as np
import pytest
from flat_world import flat_world

from hsiutils.data import raw
from hsiutils.simulate.camera import Exposure, expose
from hsiutils.simulate.frame import Frame, Simulation, photograph, references, render, truth_of
from hsiutils.simulate.light import STANDARD, illuminate
from hsiutils.simulate.materials import NAMES, reflectance
from hsiutils.simulate.surfaces import Slot, Surfaces

SMALL = Simulation(tiles=(12, 24))
TILE = SMALL.sensor.mosaic
NAME = "nf3122_147"


@pytest.fixture(scope="module")
def shots() -> tuple[Exposure, Exposure]:
    return references(SMALL)


def shot(surfaces: Surfaces, simulation: Simulation = SMALL, **changes: object) -> Frame:
    circumstances = replace(STANDARD, **changes)  # type: ignore[arg-type]
    return photograph(NAME, surfaces, illuminate(circumstances, 0), circumstances, simulation)


def test_white_reference_is_well_exposed_and_the_dark_one_is_dark(shots: tuple[Exposure, Exposure]) -> None:
    camera, (white, dark) = SMALL.camera, shots
    assert white.saturated == 0
    assert 0.78 < (white.frame.max() - camera.dark_dn) / (4095 - camera.dark_dn) < 0.92
    assert dark.frame.mean() == pytest.approx(camera.dark_dn, abs=0.5)
    assert white.time_s == dark.time_s


def test_ground_under_the_reference_light_comes_back_as_its_reflectance(shots: tuple[Exposure, Exposure]) -> None:
    """The whole chain: surface, sun, lens, noise, white reference, demosaicing; only exposure is to be undone."""
    ground = flat_world(SMALL.sensor.active_shape, Slot("asphalt", None, 3))
    up = np.zeros_like(ground.normal) + np.array([0, 0, 1], np.float32)[:, None, None]
    frame = shot(replace(ground, slot=0 * ground.slot, normal=up, depth_m=np.full_like(ground.depth_m, 5.0)))
    (white, dark), ratio = shots, shots[0].time_s / frame.exposure.time_s
    cube = raw.reflectance_cube(frame.exposure.frame, SMALL.sensor, white.frame, dark.frame, ratio).values
    flat = reflectance("asphalt", 3, "train")
    assert flat[20:].min() < cube.mean() < flat[20:].max()
    np.testing.assert_allclose(cube.mean(axis=(1, 2)), cube.mean(), rtol=0.25)
    # Vignetting and fixed pattern are in both frames and cancel.
    corner, centre = cube[:, :3, :3].mean(), cube[:, 4:8, 10:14].mean()
    assert corner == pytest.approx(centre, rel=0.02)


def test_without_noise_every_draw_of_it_gives_the_same_frame_and_a_full_well_still_ends_it() -> None:
    ideal = replace(SMALL, noise=False)
    camera, rate = ideal.camera, np.linspace(0, 2e6, SMALL.sensor.active_shape[1]) * np.ones(SMALL.sensor.active_shape)
    one, other, noisy = (
        expose(rate, 0.01, own, np.random.default_rng(seed))
        for own, seed in ((camera, 0), (camera, 1), (SMALL.camera, 0))
    )
    np.testing.assert_array_equal(one.frame, other.frame)
    assert one.saturated == pytest.approx(noisy.saturated, abs=0.01)
    assert one.saturated > 0.2
    levels = (one.frame[-8, :] - camera.dark_dn) / camera.dn_per_electron
    clipped = np.minimum(rate[0] * 0.01, camera.sensor.full_well_e)
    left = SMALL.sensor.active_origin[1]
    np.testing.assert_allclose(levels[left : left + len(clipped)], clipped, atol=0.2)
    assert all(np.ptp(one.frame[:4]) == 0 for one in references(ideal)[1:]), "dark"


def test_truth_says_where_the_sun_shines() -> None:
    shape = SMALL.sensor.active_shape
    lit = np.ones(shape, np.float32)
    lit[:, :60] = 0
    world = flat_world(shape, sun_visible=lit)
    truth = truth_of(world, illuminate(STANDARD, 0), TILE)
    assert np.isnan(truth["sunlit"][0]).all()  # sky
    np.testing.assert_array_equal(truth["sunlit"][-1], [0] * 12 + [1] * 12)
    away = np.broadcast_to(-illuminate(STANDARD, 0).sun[:, None, None], world.normal.shape).astype(np.float32)
    assert np.nanmax(truth_of(replace(world, normal=away), illuminate(STANDARD, 0), TILE)["sunlit"]) == 0
    overcast = illuminate(replace(STANDARD, weather="cloudy", cloud_cover=1.0, transmittance=0.3), 0)
    assert np.isnan(truth_of(world, overcast, TILE)["sunlit"]).all()


def test_truth_names_material_depth_and_object() -> None:
    world = flat_world(SMALL.sensor.active_shape, Slot("gravel", None, 0))
    truth = truth_of(world, illuminate(STANDARD, 0), TILE)
    assert truth["material"][-1, 0] == NAMES.index("gravel")
    assert truth["material"][0, 0] == -1
    assert truth["depth_m"][-1, 3] == world.depth_m[-3, 17]
    assert np.isinf(truth["depth_m"][0]).all()
    assert truth["object_id"][-1, 0] == 1
    assert all(values.shape == SMALL.tiles for values in truth.values())


def test_what_fog_hides_is_unlabelled_and_the_sky_is_not() -> None:
    world = flat_world(SMALL.sensor.active_shape)
    foggy = {"weather": "foggy", "cloud_cover": 1.0}
    clear, dense = (shot(world, visibility_m=distance, **foggy) for distance in (1e5, 20.0))
    far = (dense.truth["depth_m"] > 20) & np.isfinite(dense.truth["depth_m"])
    assert far.any()
    assert not far.all()
    np.testing.assert_array_equal(dense.labels, np.where(far, 0, clear.labels))
    assert (dense.labels == 5).any()


def test_render_is_a_function_of_settings_and_name() -> None:
    one, same, other = render(NAME, SMALL), render(NAME, SMALL), render(NAME, replace(SMALL, seed=1))
    np.testing.assert_array_equal(one.exposure.frame, same.exposure.frame)
    np.testing.assert_array_equal(one.labels, same.labels)
    assert np.mean(one.exposure.frame != other.exposure.frame) > 0.5
    assert one.describe() == same.describe()
    assert one.exposure.frame.shape == SMALL.sensor.frame_shape
    assert one.labels.shape == SMALL.tiles
    assert one.labels.max() <= 10
    assert one.exposure.frame.max() <= 4095
    assert one.split == "train"
    camera = SMALL.camera
    level = (raw.crop(one.exposure.frame, camera.sensor).mean() - camera.dark_dn) / (4095 - camera.dark_dn)
    assert level == pytest.approx(SMALL.metering, rel=0.05)


def test_real_and_resized_sensor() -> None:
    assert Simulation().sensor.frame_shape == (1088, 2048)
    assert SMALL.sensor.active_shape == (60, 120)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 18"):
        Simulation(metering=18)
    with pytest.raises(ValueError, match="no image 'nf1111_001'"):
        render("nf1111_001", SMALL)
    with pytest.raises(ValueError, match=r"\(12, 24\) tiles of \(7, 7\) rays need \(84, 168\) rays, got \(60, 120\)"):
        shot(flat_world(SMALL.sensor.active_shape), replace(SMALL, rays_a_pixel=1.4))
    assert (SMALL.widening, Simulation().widening) == (pytest.approx((409 / 24) ** 0.5), 1.0)
    assert replace(SMALL, wide_marks=False).widening == 1.0


def test_exposure_jitters_about_what_the_meter_asks_for() -> None:
    world = flat_world(SMALL.sensor.active_shape)
    plain = shot(world).exposure.time_s
    ratio = [np.log(shot(world, replace(SMALL, seed=seed, exposure_jitter=0.3)).exposure.time_s / plain)
             for seed in range(20)]  # fmt: skip
    assert np.std(ratio) == pytest.approx(0.3, rel=0.4)
    assert abs(np.mean(ratio)) < 0.2


def test_the_sun_turns_and_the_street_stays() -> None:
    plain, turned = render(NAME, SMALL), render(NAME, replace(SMALL, sun_turn_deg=150))
    assert np.array_equal(plain.labels, turned.labels)
    assert np.array_equal(plain.truth["material"], turned.truth["material"])
    assert plain.circumstances.time == turned.circumstances.time
    assert (plain.circumstances.heading_deg - turned.circumstances.heading_deg) == pytest.approx(150)
    again = render(NAME, replace(SMALL, sun_turn_deg=360))
    assert np.array_equal(plain.truth["sunlit"], again.truth["sunlit"], equal_nan=True)
