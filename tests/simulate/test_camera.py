import numpy as np
import pytest

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.simulate import camera
from hsiutils.simulate.camera import Camera, expose, label_tiles, meter, pixel_gains, reference
from hsiutils.simulate.light import GRID_NM

CAMERA = Camera(HSI_DRIVE.resized((24, 40)))
SHAPE = CAMERA.sensor.active_shape
TILE = (5, 5)


def flat(electrons: float) -> np.ndarray:
    return np.full(SHAPE, electrons)


def active(frame: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
    top, left = camera.sensor.active_origin
    return frame[top : top + SHAPE[0], left : left + SHAPE[1]].astype(float)


def electrons(frame: np.ndarray) -> np.ndarray:
    return (active(frame) - CAMERA.dark_dn) / CAMERA.dn_per_electron


def test_noise_is_independent_from_pixel_to_pixel() -> None:
    residual = active(expose(flat(4000), 1.0, CAMERA, np.random.default_rng(0)).frame)
    residual -= residual.mean()
    assert abs(np.mean(residual[:, 1:] * residual[:, :-1])) < 0.02 * residual.var()


def test_full_well_is_the_end_of_the_converter() -> None:
    full, half = (expose(flat(electrons), 1.0, CAMERA, np.random.default_rng(0)) for electrons in (50_000, 2000))
    assert (full.saturated, half.saturated, full.frame.max()) == (1.0, 0.0, CAMERA.sensor.saturation_dn)
    # Read noise acts after the well: a full pixel scatters below the end, never above.
    assert 0.4 < np.mean(active(full.frame) == 4095) < 0.6


def test_outside_the_active_area_it_is_dark() -> None:
    frame = expose(flat(9000), 1.0, CAMERA, np.random.default_rng(0)).frame
    assert frame.shape == CAMERA.sensor.frame_shape
    top = CAMERA.sensor.active_origin[0]
    border = np.concatenate([frame[:top], frame[top + SHAPE[0] :]])
    assert border.mean() == pytest.approx(CAMERA.dark_dn + CAMERA.dn_per_electron * CAMERA.dark_current_e, abs=1)


def test_metering_reaches_its_level_or_its_limit() -> None:
    scene = np.random.default_rng(0).gamma(2.0, 2e6, SHAPE)
    time_s = meter(scene, CAMERA)
    clipped = np.minimum(scene * time_s, CAMERA.sensor.full_well_e).mean() / CAMERA.sensor.full_well_e
    assert clipped == pytest.approx(CAMERA.metering, rel=0.03)
    assert meter(scene * 4, CAMERA) == pytest.approx(time_s / 4, rel=1e-3)
    assert meter(scene * 1e-9, CAMERA) == pytest.approx(CAMERA.longest_s, rel=1e-3)
    assert meter(scene * 1e9, CAMERA) == pytest.approx(CAMERA.shortest_s, rel=1e-3)


def test_vignetting_is_cos4_at_the_corner_one_on_the_axis_and_the_same_for_a_resized_sensor() -> None:
    shading, large = CAMERA.vignetting, Camera(HSI_DRIVE)
    rows, columns = SHAPE
    assert shading[rows // 2, columns // 2] == pytest.approx(1, abs=1e-3)
    angle = np.arctan((columns - 1) / columns * np.tan(CAMERA.field_of_view / 2))
    assert shading[rows // 2, 0] == pytest.approx(np.cos(angle) ** 4 * (1 - 0.15 * np.sin(angle) ** 2), rel=1e-3)
    np.testing.assert_allclose(shading, shading[::-1, ::-1])
    np.testing.assert_allclose(shading[0, 0], large.vignetting[0, 0], rtol=0.02)
    np.testing.assert_array_equal(CAMERA.weights, large.weights)


def test_weights_count_photons() -> None:
    """A perfect diffuser at 1 W m-2 nm-1 through an f/2.8 lens, by hand."""
    camera, band = Camera(HSI_DRIVE), 13
    at = 718 - 400
    photon_j = 6.62607e-34 * 2.99792e8 / (GRID_NM[at] * 1e-9)
    irradiance = np.pi / 4 / 2.8**2 * 0.9
    quantum_efficiency = HSI_DRIVE.responses(GRID_NM)[band, at]
    expected = irradiance * (5.5e-6) ** 2 / photon_j * quantum_efficiency
    assert camera.weights[band, at] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rays", [5, 7, 10])
def test_point_spread_is_a_normalised_gaussian_of_lens_and_pixel(rays: int) -> None:
    for shares in CAMERA.point_spread((rays, rays)):
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
        reach = (shares.shape[1] - rays) // 2
        place = (np.arange(-reach, rays + reach) + 0.5) * 5 / rays
        mean = shares @ place
        np.testing.assert_allclose(mean, np.arange(5) + 0.5, atol=0.02)
        variance = (shares * (place - mean[:, None]) ** 2).sum(axis=1)
        np.testing.assert_allclose(variance, CAMERA.blur_px**2 + 1 / 12, rtol=0.1)


def test_fixed_pattern_is_small_and_the_references_remove_it() -> None:
    gains = pixel_gains(CAMERA, np.random.default_rng(0))
    assert gains.std() == pytest.approx(CAMERA.non_uniformity, rel=0.05)
    white = reference(8000 * gains, 1.0, CAMERA, np.random.default_rng(1))
    ratio = electrons(expose(4000 * gains, 1.0, CAMERA, np.random.default_rng(2)).frame) / electrons(white.frame)
    assert np.corrcoef(ratio.ravel(), gains.ravel())[0, 1] < 0.05
    # Sixteen frames: a quarter of the noise of one.
    single = electrons(expose(8000 * gains, 1.0, CAMERA, np.random.default_rng(3)).frame)
    assert (electrons(white.frame) - 8000 * gains).std() < 0.35 * (single - 8000 * gains).std()


def test_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"active area .* is \(120, 200\), got a signal of \(5, 5\)"):
        expose(np.ones((5, 5)), 1.0, CAMERA, np.random.default_rng(0))


def picture(code: int = 1) -> np.ndarray:
    return np.full((60, 60), code, np.uint8)


def test_a_plain_picture_keeps_its_code() -> None:
    for code in range(1, 11):
        assert np.all(label_tiles(picture(code), TILE) == code)


def test_void_runs_along_the_border_of_two_classes_and_nowhere_else() -> None:
    rays = picture(3)
    rays[:, 30:] = 6  # exactly between tile columns 5 and 6
    labels = label_tiles(rays, TILE)
    np.testing.assert_array_equal(labels, np.tile([3] * 5 + [0] * 2 + [6] * 5, (12, 1)))


def test_thin_marks_survive_and_a_mixed_tile_is_void_but_not_a_nearly_pure_one() -> None:
    rays = picture()
    rays[:, 25:30] = 2
    rays[30:32, 40:45] = 2  # 40 % of a tile
    rays[10:11, 10:15] = 2  # 20 % of another
    expected = np.tile([1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1], (12, 1))
    expected[6, 8] = 0
    np.testing.assert_array_equal(label_tiles(rays, TILE), expected)


def test_tile_mean_and_majority_by_hand() -> None:
    values = np.arange(36).reshape(6, 6)
    np.testing.assert_allclose(camera.tile_mean(values, (3, 2)), [[6.5, 8.5, 10.5], [24.5, 26.5, 28.5]])
    votes = np.array([[7, 7, 2, 2], [7, 1, 2, 9], [4, 5, 9, 9], [3, 6, -1, -1]])
    np.testing.assert_array_equal(camera.tile_majority(votes, (2, 2)), [[7, 2], [3, -1]])


def test_glare_adds_each_band_s_own_mean_and_loses_no_light() -> None:
    signal = np.random.default_rng(0).gamma(2.0, 100, SHAPE).astype(np.float32)
    veiled = Camera(CAMERA.sensor, glare=0.1).veiled(signal)
    for row, column in ((0, 0), (3, 4)):
        own, mixed = signal[row::5, column::5], veiled[row::5, column::5]
        np.testing.assert_allclose(mixed, 0.9 * own + 0.1 * own.mean(), rtol=1e-5)


def test_photon_transfer_curve() -> None:
    """Variance against mean is a line: its slope is the gain, its foot the read noise (and the converter's step)."""
    levels = np.array([0, 500, 1500, 3000, 6000, 9000])
    frames = [active(expose(flat(e), 1.0, CAMERA, np.random.default_rng(e)).frame) for e in levels]
    means, variances = np.array([f.mean() for f in frames]), np.array([f.var() for f in frames])
    slope, _ = np.polyfit(means, variances, 1)
    assert slope == pytest.approx(CAMERA.dn_per_electron, rel=0.05)
    dark_electrons = CAMERA.dark_current_e + CAMERA.read_noise_e**2
    assert variances[0] == pytest.approx(CAMERA.dn_per_electron**2 * dark_electrons + 1 / 12, rel=0.06)
    np.testing.assert_allclose(
        means, CAMERA.dark_dn + CAMERA.dn_per_electron * (levels + CAMERA.dark_current_e), rtol=5e-3
    )


def test_long_pass_removes_the_green_peaks() -> None:
    bare, filtered = Camera(HSI_DRIVE).weights, Camera(HSI_DRIVE, long_pass_nm=600).weights
    assert filtered[:, :180].sum() < 1e-3 * bare[:, :180].sum()
    np.testing.assert_allclose(filtered[:, 230:], bare[:, 230:], rtol=1e-3)
