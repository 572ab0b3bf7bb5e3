import numpy as np
import pandas as pd
import pytest

from hsiutils.data.names import DAYTIMES, SEASONS, WEATHERS, Conditions
from hsiutils.simulate.light import (
    GRID_NM,
    STANDARD,
    Circumstances,
    draw_circumstances,
    extinction,
    hemisphere,
    illuminate,
)


def draw(seed: int = 0, **words: object) -> Circumstances:
    base = {"season": "summer", "weather": "sunny", "daytime": "midday", "scene": "road", "number": 5}
    return draw_circumstances(Conditions(**{**base, **words}), seed)  # type: ignore[arg-type]


def height(circumstances: Circumstances) -> float:
    return float(np.rad2deg(np.arcsin(illuminate(circumstances, 0).sun[2])))


def band(spectrum: np.ndarray, wavelength: int) -> float:
    return float(spectrum[wavelength - 400])


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
        if daytime == "dawn":
            assert east > 0
        elif daytime == "sunset":
            assert east < 0


def test_noon_heights_of_bilbao() -> None:
    def noon(day: str) -> float:
        return height(Circumstances("sunny", pd.Timestamp(f"2021-{day}T12:13", tz="UTC"), 0, 0.1, 1, 0.3, 2e4, 0, 1))

    assert noon("06-21") == pytest.approx(90 - 43.26 + 23.44, abs=0.3)
    assert noon("12-21") == pytest.approx(90 - 43.26 - 23.44, abs=0.3)


def test_heading_turns_the_sun_into_the_cars_axes() -> None:
    noon = pd.Timestamp("2021-06-21T12:13", tz="UTC")  # sun in the south
    south, west = (illuminate(Circumstances("sunny", noon, h, 0.1, 1, 0.3, 2e4, 0, 1), 0).sun for h in (180, 270))
    assert south[1] > 0.3
    assert abs(south[0]) < 0.03
    assert west[0] < -0.3  # driving west, the south is on the left
    assert abs(west[1]) < 0.03


def test_clear_noon_has_the_known_power_and_colours() -> None:
    light = illuminate(STANDARD, 0)
    assert 450 < light.horizontal.sum() < 620  # W/m2 within 400-1000 nm
    assert band(light.diffuse, 450) / band(light.diffuse, 850) > 4  # blue
    assert band(light.direct, 450) / band(light.direct, 850) < 1.6
    assert band(light.direct, 760) < 0.85 * band(light.direct, 750)  # oxygen
    assert band(light.direct, 940) < 0.7 * band(light.direct, 900)  # water vapour


@pytest.mark.parametrize("weather", WEATHERS)
def test_sky_carries_the_diffuse_irradiance(weather: str) -> None:
    light = illuminate(draw(3, weather=weather), 3)
    direction, weight = hemisphere(57, 91)
    np.testing.assert_allclose(light.sky.radiance(direction) @ weight, light.diffuse, rtol=0.01)


@pytest.mark.parametrize("weather", ["cloudy", "wet", "foggy"])
def test_a_covered_sky_hides_the_sun_and_whitens_the_light(weather: str) -> None:
    covered, clear = illuminate(draw(weather=weather), 0), illuminate(draw(), 0)
    assert covered.direct.max() == 0

    def blueness(spectrum: np.ndarray) -> float:
        return band(spectrum, 450) / band(spectrum, 850)

    assert blueness(covered.diffuse) < 0.5 * blueness(clear.diffuse)
    assert covered.horizontal.sum() < 0.6 * clear.horizontal.sum()


def test_clouds_deepen_the_water_band() -> None:
    covered, clear = illuminate(draw(weather="cloudy"), 0), illuminate(draw(), 0)
    depth = [band(light.horizontal, 940) / band(light.horizontal, 880) for light in (covered, clear)]
    assert depth[0] < 0.9 * depth[1]


def test_low_sun_is_redder() -> None:
    noon, dawn = illuminate(draw(1), 1), illuminate(draw(1, daytime="dawn"), 1)
    assert band(dawn.direct, 450) / band(dawn.direct, 850) < 0.8 * band(noon.direct, 450) / band(noon.direct, 850)


def test_koschmieder() -> None:
    for visibility in (100, 2_000, 30_000):
        assert np.exp(-band(extinction(visibility), 550) * visibility) == pytest.approx(0.02, rel=1e-3)
    np.testing.assert_allclose(extinction(100), extinction(100)[0])  # fog is grey
    haze = extinction(30_000)
    assert band(haze, 450) / band(haze, 900) == pytest.approx(2**1.3, rel=1e-6)
    with pytest.raises(ValueError, match="visibility must be positive"):
        extinction(0)


def test_fog_is_thicker_than_rain_and_rain_than_fair_weather() -> None:
    limits = [[draw(seed, weather=weather).visibility_m for seed in range(8)] for weather in ("foggy", "wet", "sunny")]
    assert max(limits[0]) < min(limits[1]) <= max(limits[1]) < min(limits[2])


def test_draws_depend_on_seed_and_name_only() -> None:
    assert draw(4) == draw(4)
    assert draw(4) != draw(5)
    assert draw(4, number=6) != draw(4, number=7)
    assert GRID_NM.shape == (601,)
