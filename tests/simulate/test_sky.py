import numpy as np
import pytest

from hsiutils.simulate import light as sky
from hsiutils.simulate.light import CloudField, Pattern, Sky

SUN = np.array([0.3, 0.6, 0.5]) / np.linalg.norm([0.3, 0.6, 0.5])
PATTERNS = {
    "molecules": sky.MOLECULES, "haze": sky.HAZE, "broken": sky.BROKEN_CLOUDS, "overcast": sky.OVERCAST, "fog": sky.FOG,
}  # fmt: skip


def dome(*patterns: Pattern, cover: float = 0.4) -> Sky:
    irradiance = np.linspace(0.2, 1.0, len(patterns) * 3).reshape(len(patterns), 3)
    return Sky(SUN, patterns, irradiance, CloudField.draw(cover, np.random.default_rng(3)))


def slow_integral(values: np.ndarray, direction: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Cosine-weighted integral over a grid that has nothing in common with the module's own."""
    return np.sum(values * direction[2] * step, axis=-1)


def angle_grid() -> tuple[np.ndarray, np.ndarray]:
    zenith, azimuth = np.meshgrid(
        (np.arange(300) + 0.5) * np.pi / 2 / 300, (np.arange(610) + 0.5) * 2 * np.pi / 610, indexing="ij"
    )
    direction = np.stack([np.sin(zenith) * np.sin(azimuth), np.sin(zenith) * np.cos(azimuth), np.cos(zenith)])
    step = np.sin(zenith) * (np.pi / 2 / 300) * (2 * np.pi / 610)
    return direction.reshape(3, -1), step.ravel()


def test_hemisphere_weights_are_a_cosine_law() -> None:
    direction, weight = sky.hemisphere()
    assert weight.sum() == pytest.approx(np.pi)
    np.testing.assert_allclose(np.linalg.norm(direction, axis=0), 1)
    assert (weight * direction[2]).sum() == pytest.approx(2 * np.pi / 3, rel=1e-3)  # of cos^2 over the dome


@pytest.mark.parametrize("name", PATTERNS)
def test_radiance_integrates_to_the_irradiance(name: str) -> None:
    one = dome(PATTERNS[name])
    direction, step = angle_grid()
    np.testing.assert_allclose(
        slow_integral(one.radiance(direction), direction, step), one.irradiance.sum(axis=0), rtol=5e-3
    )


def test_parts_add_up() -> None:
    whole = dome(*PATTERNS.values())
    direction, step = angle_grid()
    np.testing.assert_allclose(
        slow_integral(whole.radiance(direction), direction, step), whole.irradiance.sum(axis=0), rtol=5e-3
    )


def test_standard_overcast_sky_is_three_times_as_bright_at_the_zenith() -> None:
    plain = dome(Pattern(a=4.0, b=-0.70))
    up, low = np.array([0, 0, 1.0]), np.array([0, 1.0, 1e-3])
    ratio = plain.shape(up[:, None]) / plain.shape((low / np.linalg.norm(low))[:, None])
    assert ratio.item() == pytest.approx(1 + 4 * np.exp(-0.7), rel=0.02)


def test_sky_brightens_towards_sun_and_horizon() -> None:
    haze = dome(sky.HAZE)
    opposite = SUN * [-1, -1, 1]
    assert haze.shape(SUN[:, None]) > 2 * haze.shape(opposite[:, None])
    molecules = dome(sky.MOLECULES)
    assert molecules.horizon > molecules.shape(np.array([[0], [0], [1.0]]))[:, 0]


def test_nothing_shines_from_below() -> None:
    assert dome(*PATTERNS.values()).radiance(np.array([[0.0], [0.8], [-0.6]])).max() == 0


def test_fog_is_the_same_everywhere() -> None:
    fog = dome(sky.FOG)
    direction, _ = sky.hemisphere(5, 7)
    np.testing.assert_allclose(fog.shape(direction), 1 / np.pi, rtol=1e-6)
    np.testing.assert_allclose(fog.horizon, 1 / np.pi, rtol=1e-6)


def test_suns_disc_has_its_size() -> None:
    # A fine fan of directions around the sun: the share within the disc tells its angular radius.
    across = np.cross(SUN, [0, 0, 1.0])
    across /= np.linalg.norm(across)
    angle = np.deg2rad(np.linspace(-1, 1, 2001))
    fan = SUN[:, None] * np.cos(angle) + across[:, None] * np.sin(angle)
    assert dome(sky.HAZE).on_disc(fan).sum() == pytest.approx(2 * 0.2666 * 1000, abs=2)
    assert pytest.approx(6.8e-5, rel=0.01) == sky.DISC_SR


@pytest.mark.parametrize("cover", [0.15, 0.5, 0.85])
def test_clouds_cover_about_what_they_should(cover: float) -> None:
    high, _ = sky.hemisphere(60, 120)
    opacity = [CloudField.draw(cover, np.random.default_rng(seed)).opacity(high).mean() for seed in range(12)]
    assert np.mean(opacity) == pytest.approx(cover, abs=0.13)


def test_cloud_field_is_standardised_and_seeded() -> None:
    high, _ = sky.hemisphere(60, 120)
    fields = [CloudField.draw(0.5, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    thickness = [field.thickness(high) for field in fields]
    np.testing.assert_array_equal(thickness[0], thickness[1])
    assert np.abs(thickness[0] - thickness[2]).max() > 0.5
    assert 0.6 < thickness[0].std() < 1.4
