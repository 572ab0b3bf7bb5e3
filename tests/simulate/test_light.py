import numpy as np
import pandas as pd
import pytest

from hsiutils.data.names import DAYTIMES, SEASONS, Conditions
from hsiutils.simulate import light as sky
from hsiutils.simulate.light import STANDARD, Circumstances, CloudField, Pattern, Sky, extinction, illuminate

PATTERNS = (sky.MOLECULES, sky.HAZE, sky.BROKEN_CLOUDS, sky.OVERCAST, sky.FOG)
SUN = np.array([0.3, 0.6, 0.5]) / np.linalg.norm([0.3, 0.6, 0.5])
UP = np.array([[0.0], [0], [1]])


def draw(seed: int = 0, **words: object) -> Circumstances:
    base = {"season": "summer", "weather": "sunny", "daytime": "midday", "scene": "road", "number": 5}
    return sky.draw_circumstances(Conditions(**{**base, **words}), seed)  # type: ignore[arg-type]


def sun_at(day: str, heading_deg: float = 0) -> np.ndarray:
    """Towards the sun at noon in Bilbao."""
    noon = pd.Timestamp(f"2021-{day}T12:13", tz="UTC")
    return illuminate(Circumstances("sunny", noon, heading_deg, 0.1, 1, 0.3, 2e4, 0, 1), 0).sun


def ratio(spectrum: np.ndarray, one: int, other: int) -> float:
    return float(spectrum[one - 400] / spectrum[other - 400])


def dome(*patterns: Pattern, cover: float = 0.4) -> Sky:
    irradiance = np.linspace(0.2, 1.0, len(patterns) * 3).reshape(len(patterns), 3)
    return Sky(SUN, patterns, irradiance, CloudField.draw(cover, np.random.default_rng(3)))


@pytest.mark.parametrize("season", SEASONS)
def test_day_falls_into_the_season(season: str) -> None:
    months = {"winter": {12, 1, 2, 3}, "spring": {3, 4, 5, 6}, "summer": {6, 7, 8, 9}, "fall": {9, 10, 11, 12}}
    assert {draw(seed, season=season).time.month for seed in range(12)} <= months[season]


@pytest.mark.parametrize("season", SEASONS)
@pytest.mark.parametrize("daytime", DAYTIMES)
def test_sun_is_up_and_where_the_time_says(season: str, daytime: str) -> None:
    for seed in range(4):
        drawn = draw(seed, season=season, daytime=daytime)
        sun = illuminate(drawn, seed).sun
        assert np.linalg.norm(sun) == pytest.approx(1)
        assert sun[2] > np.sin(np.deg2rad(1.0))
        east = np.sin(np.arctan2(sun[0], sun[1]) + np.deg2rad(drawn.heading_deg))
        assert {"dawn": east > 0, "midday": True, "sunset": east < 0}[daytime]


def test_noon_heights_of_bilbao() -> None:
    for day, tilt in (("06-21", 23.44), ("12-21", -23.44)):
        assert np.rad2deg(np.arcsin(sun_at(day)[2])) == pytest.approx(90 - 43.26 + tilt, abs=0.3)


def test_heading_turns_the_sun_into_the_cars_axes() -> None:
    south, west = sun_at("06-21", 180), sun_at("06-21", 270)  # the sun is in the south
    assert south[1] > 0.3
    assert abs(south[0]) < 0.03
    assert west[0] < -0.3  # driving west, the south is on the left
    assert abs(west[1]) < 0.03


def test_clear_noon_has_the_known_power_and_colours() -> None:
    light = illuminate(STANDARD, 0)
    assert 450 < light.horizontal.sum() < 620  # W/m2 within 400-1000 nm
    assert ratio(light.diffuse, 450, 850) > 4  # blue
    assert ratio(light.direct, 450, 850) < 1.6
    assert ratio(light.direct, 760, 750) < 0.85  # oxygen
    assert ratio(light.direct, 940, 900) < 0.7  # water vapour
    noon, dawn = illuminate(draw(1), 1), illuminate(draw(1, daytime="dawn"), 1)
    assert ratio(dawn.direct, 450, 850) < 0.8 * ratio(noon.direct, 450, 850), "a low sun is redder"


@pytest.mark.parametrize("weather", ["cloudy", "wet", "foggy"])
def test_a_covered_sky_hides_the_sun_and_whitens_and_dims_the_light(weather: str) -> None:
    covered, clear = illuminate(draw(weather=weather), 0), illuminate(draw(), 0)
    assert covered.direct.max() == 0
    assert ratio(covered.diffuse, 450, 850) < 0.5 * ratio(clear.diffuse, 450, 850)
    assert covered.horizontal.sum() < 0.6 * clear.horizontal.sum()
    assert ratio(covered.horizontal, 940, 880) < 0.9 * ratio(clear.horizontal, 940, 880), "deeper water band"


def test_spread_scales_the_departure_from_the_standard_light() -> None:
    dusk = draw(1, daytime="sunset")
    standard, plain, none, wide = (
        illuminate(STANDARD, 0), illuminate(dusk, 0), illuminate(dusk, 0, 0.0), illuminate(dusk, 0, 2.0)
    )  # fmt: skip
    departure = plain.horizontal / standard.horizontal
    np.testing.assert_allclose(none.horizontal / standard.horizontal, departure[200:].mean(), rtol=1e-6)
    np.testing.assert_allclose(wide.horizontal / standard.horizontal, departure**2 / departure[200:].mean(), rtol=1e-6)
    np.testing.assert_allclose(wide.direct / wide.diffuse, plain.direct / plain.diffuse, rtol=1e-6)


@pytest.mark.parametrize("lamp", sky.LAMPS)
def test_lamps_have_the_luminance_and_colour_of_their_kind(lamp: str) -> None:
    spectra = np.array([sky.lamp_radiance(lamp, sample) for sample in range(12)])
    efficacy = 683 * np.exp(-(((sky.GRID_NM - 559) / 42) ** 2) / 2)  # roughly the eye's
    luminance = spectra @ efficacy
    low, high = (3e3, 3e4) if lamp.endswith("red") else (1e4, 1e5)
    assert 0.6 * low < luminance.min() < luminance.max() < 1.6 * high
    infrared = spectra[:, 400:].sum(axis=1) / spectra[:, 200:400].sum(axis=1)
    assert np.all(infrared > 1) if lamp.startswith("bulb") else np.all(infrared < 0.01)
    blue = spectra[:, :100].sum(axis=1) / spectra.sum(axis=1)
    assert np.all(blue < 1e-3) == lamp.endswith("red")


def test_koschmieder() -> None:
    for visibility in (100, 2_000, 30_000):
        assert np.exp(-extinction(visibility)[150] * visibility) == pytest.approx(0.02, rel=1e-3)
    np.testing.assert_allclose(extinction(100), extinction(100)[0])  # fog is grey
    assert ratio(extinction(30_000), 450, 900) == pytest.approx(2**1.3, rel=1e-6)
    with pytest.raises(ValueError, match="visibility must be positive"):
        extinction(0)


def test_fog_is_thicker_than_rain_and_rain_than_fair_weather() -> None:
    limits = [[draw(seed, weather=weather).visibility_m for seed in range(8)] for weather in ("foggy", "wet", "sunny")]
    assert max(limits[0]) < min(limits[1]) <= max(limits[1]) < min(limits[2])


@pytest.mark.parametrize("patterns", [*((one,) for one in PATTERNS), PATTERNS])
def test_radiance_integrates_to_the_irradiance(patterns: tuple[Pattern, ...]) -> None:
    """On a horizontal plane, with a grid of angles that has nothing in common with the module's own."""
    over, tilt, turn = dome(*patterns), np.pi / 2 / 300, 2 * np.pi / 610
    zenith, azimuth = np.meshgrid((np.arange(300) + 0.5) * tilt, (np.arange(610) + 0.5) * turn, indexing="ij")
    direction = np.stack([np.sin(zenith) * np.sin(azimuth), np.sin(zenith) * np.cos(azimuth), np.cos(zenith)])
    step = np.cos(zenith) * np.sin(zenith) * tilt * turn
    received = over.irradiance.T @ np.sum(over.shape(direction.reshape(3, -1)) * step.ravel(), axis=1)
    np.testing.assert_allclose(received, over.irradiance.sum(axis=0), rtol=5e-3)


def test_overcast_sky_is_three_times_as_bright_at_the_zenith_and_fog_the_same_everywhere() -> None:
    plain, low = dome(Pattern(a=4.0, b=-0.70)), np.array([[0], [1.0], [1e-3]])
    brighter = plain.shape(UP) / plain.shape(low / np.linalg.norm(low))
    assert brighter.item() == pytest.approx(1 + 4 * np.exp(-0.7), rel=0.02)
    fog = dome(sky.FOG)
    for everywhere in (fog.shape(sky.hemisphere(5, 7)[0]), fog.horizon):
        np.testing.assert_allclose(everywhere, 1 / np.pi, rtol=1e-6)


def test_sky_brightens_towards_sun_and_horizon_and_nothing_shines_from_below() -> None:
    haze, molecules = dome(sky.HAZE), dome(sky.MOLECULES)
    assert haze.shape(SUN[:, None]) > 2 * haze.shape((SUN * [-1, -1, 1])[:, None])
    assert molecules.horizon > molecules.shape(UP)[:, 0]
    assert dome(*PATTERNS).shape(np.array([[0.0], [0.8], [-0.6]])).max() == 0


def test_suns_disc_has_its_size() -> None:
    # A fine fan of directions around the sun: the share within the disc tells its angular radius.
    across = np.cross(SUN, [0, 0, 1.0])
    angle = np.deg2rad(np.linspace(-1, 1, 2001))
    fan = SUN[:, None] * np.cos(angle) + (across / np.linalg.norm(across))[:, None] * np.sin(angle)
    assert dome(sky.HAZE).on_disc(fan).sum() == pytest.approx(2 * 0.2666 * 1000, abs=2)
    assert pytest.approx(6.8e-5, rel=0.01) == sky.DISC_SR
    # An uneven mirror spreads the disc and loses nothing of it.
    direction, _ = sky.hemisphere(600, 1200)
    level = np.pi / (direction.shape[1] * direction[2])
    assert (dome(sky.HAZE).glint(direction) * level).sum() == pytest.approx(sky.DISC_SR, rel=0.02)


@pytest.mark.parametrize("cover", [0.15, 0.5, 0.85])
def test_clouds_cover_about_what_they_should(cover: float) -> None:
    high, _ = sky.hemisphere(60, 120)
    opacity = [CloudField.draw(cover, np.random.default_rng(seed)).opacity(high).mean() for seed in range(12)]
    assert np.mean(opacity) == pytest.approx(cover, abs=0.13)


def test_cloud_field_is_standardised_and_seeded() -> None:
    high, _ = sky.hemisphere(60, 120)
    one, same, other = (CloudField.draw(0.5, np.random.default_rng(seed)).thickness(high) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.5
    assert 0.6 < one.std() < 1.4
