import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hsiutils.data.cube import (
    ascending,
    clr_pixels,
    fill_values,
    log_pixels,
    make_cube,
    mapped,
    nearest_bands,
    pn,
    pn_pixels,
    pseudocolour,
    surroundings,
    to_unit_range,
    with_step,
    without_directions,
    without_fill,
)
from hsiutils.data.sensor import HSI_DRIVE, Band, Sensor, band_map, sister_cameras

reflectances = arrays(np.float32, (25, 2, 3), elements=st.floats(0.015625, 4, width=32))
strengths = st.floats(0, 1)


def cube_of(values: np.ndarray) -> xr.DataArray:
    return make_cube(values, HSI_DRIVE)


def random_cube(seed: int = 0) -> xr.DataArray:
    return cube_of(np.random.default_rng(seed).uniform(0.05, 1.5, (25, 6, 7)))


class TestMakeCube:
    def test_names_its_axes_wavelengths_and_origin(self) -> None:
        cube = make_cube(np.ones((25, 2, 3)), HSI_DRIVE, source="simulated", history="raw")
        assert (cube.dims, cube.dtype) == (("band", "y", "x"), np.float32)
        assert float(cube.wavelength.sel(band=12)) == 731.88
        assert cube.wavelength.attrs["units"] == "nm"
        own = {"units": "reflectance", "source": "simulated", "sensor": HSI_DRIVE.name, "history": "raw"}
        assert cube.attrs == own
        after = with_step(with_step(cube, cube.values, "one"), cube.values, "two", units="DN")
        assert (after.attrs["history"], after.attrs["units"]) == ("raw; one; two", "DN")
        assert cube.attrs == own
        assert (cube.name, make_cube(cube, HSI_DRIVE).attrs["source"]) == ("cube", "unknown")
        assert with_step(cube.drop_attrs(), cube.values, "one").attrs == {"history": "one", "units": ""}

    def test_channels_last_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"25 bands of imec.*first, got \(2, 3, 25\)"):
            make_cube(np.ones((2, 3, 25)), HSI_DRIVE)


class TestNormalise:
    @settings(max_examples=50)
    @given(values=reflectances, factor=st.floats(0.01, 100))
    def test_full_strength_sums_to_one_and_forgets_brightness(self, values: np.ndarray, factor: float) -> None:
        normal = pn(cube_of(values))
        np.testing.assert_allclose(normal.sum("band"), np.ones((2, 3)), rtol=1e-5)
        np.testing.assert_allclose(pn(cube_of(values * np.float32(factor))), normal, rtol=1e-5)

    @settings(max_examples=50)
    @given(values=reflectances, factor=st.floats(0.01, 100), alpha=strengths)
    def test_part_strength_keeps_that_part_of_the_brightness(
        self, values: np.ndarray, factor: float, alpha: float
    ) -> None:
        bright = pn(cube_of(values * np.float32(factor)), alpha)
        np.testing.assert_allclose(bright, pn(cube_of(values), alpha) * factor ** (1 - alpha), rtol=1e-4)

    @settings(max_examples=30)
    @given(values=reflectances, alpha=st.floats(0, 0.999))
    def test_strength_is_continuous(self, values: np.ndarray, alpha: float) -> None:
        cube = cube_of(values)
        np.testing.assert_allclose(pn(cube, alpha + 0.001), pn(cube, alpha), rtol=0.01)

    def test_is_pixel_over_sum_and_the_shape_of_the_spectrum_survives_any_strength(self) -> None:
        cube = random_cube()
        np.testing.assert_array_equal(pn(cube, 0.0), cube)
        np.testing.assert_allclose(pn(cube), cube / cube.values.sum(axis=0), rtol=1e-6)
        assert {"units": "normalised reflectance", "history": "PN alpha=1"}.items() <= pn(cube).attrs.items()
        np.testing.assert_array_equal(pn_pixels(cube), pn(cube))
        assert pn_pixels(cube.values.astype(float)).dtype == np.float32
        ratio = pn(cube, 0.3) / cube
        np.testing.assert_allclose(ratio, ratio.isel(band=[0]).values.repeat(25, axis=0), rtol=1e-5)
        # Where the invariance stops: light that adds (sky, haze) does not cancel.
        assert float(np.abs(pn(with_step(cube, cube.values + 0.2, "haze")) - pn(cube)).max()) > 1e-3

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
    def test_a_pixel_with_a_non_finite_band_becomes_zero_and_its_neighbours_stay(
        self, bad: float, alpha: float
    ) -> None:
        cube = random_cube()
        whole = pn(cube, alpha)
        values = cube.values.copy()
        values[3, 1, 2] = bad
        found = pn(cube_of(values), alpha)
        assert not found[:, 1, 2].any()
        whole[:, 1, 2] = 0
        np.testing.assert_array_equal(found, whole)

    @settings(max_examples=200)
    @given(values=arrays(np.float32, (25, 1, 1), elements=st.floats(width=32)), alpha=strengths)
    def test_is_finite_for_any_pixel_whatever(self, values: np.ndarray, alpha: float) -> None:
        assert np.isfinite(pn(cube_of(values), alpha)).all()

    @pytest.mark.parametrize("pixel", [np.zeros(25), -np.ones(25), np.r_[np.ones(12), -np.ones(12), 1e-9]])
    def test_a_pixel_without_light_becomes_zero(self, pixel: np.ndarray) -> None:
        assert not pn(cube_of(pixel.reshape(25, 1, 1))).any()

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
    def test_light_is_what_is_left_of_a_millionth_of_the_summed_magnitudes_and_more(self, scale: float) -> None:
        """Beside a pixel a million times as bright, too."""
        values = scale * np.array([[1.0, 1.0, 1e6], [3e-6 - 1, 1e-6 - 1, 1e6]])
        np.testing.assert_array_equal(pn_pixels(values).any(axis=0), [True, False, True])

    def test_strength_and_cube_are_checked(self) -> None:
        for alpha in (-0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match=r"alpha must lie in 0\.\.1"):
                pn(random_cube(), alpha)
        with pytest.raises(ValueError, match="wavelength"):
            pn(random_cube().drop_vars("wavelength"))


class TestScale:
    def test_zero_maps_to_minus_one_and_the_limit_just_below_one(self) -> None:
        cube = cube_of(np.stack([np.full((1, 3), 1.0)] * 25) * np.array([[0.0, 1.0, 9.0]]) * 0.1)
        np.testing.assert_allclose(to_unit_range(cube, 0.0, 0.1)[4, 0], [-1.0, 0.984375, 0.984375], rtol=1e-6)

    def test_is_the_authors_formula_band_by_band(self) -> None:
        normal = pn(random_cube())
        limits = HSI_DRIVE.clip_max[:, None, None]
        expected = 2 * np.clip(normal.values, 0, limits) / (limits / 0.9921875) - 1
        np.testing.assert_allclose(to_unit_range(normal, 0.0, HSI_DRIVE.clip_max), expected, atol=1e-6)

    @settings(max_examples=50)
    @given(values=arrays(np.float32, (25, 1, 1), elements=st.floats(width=32)))
    def test_stays_in_range_for_any_value(self, values: np.ndarray) -> None:
        found = to_unit_range(cube_of(values), 0.0, HSI_DRIVE.clip_max)
        assert float(found.min()) >= -1
        assert float(found.max()) < 1

    def test_an_unmeasured_pixel_is_dark(self) -> None:
        np.testing.assert_array_equal(to_unit_range([[np.nan, np.inf, -np.inf]], 0.0, 2.0), [[-1, 0.984375, -1]])

    def test_limits_must_be_positive_and_one_a_band(self) -> None:
        for limit in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="limits"):
                to_unit_range(random_cube(), 0.0, limit)
        with pytest.raises(ValueError, match=r"one number or 25.*\(3,\)"):
            to_unit_range(random_cube(), 0.0, [0.1, 0.2, 0.3])


def test_ascending_order_is_the_published_one_and_keeps_native_indices() -> None:
    cube = random_cube()
    ordered = ascending(cube)
    published = [22, 9, 14, 13, 12, 10, 11, 8, 7, 5, 6, 23, 20, 21, 3, 2, 0, 1, 18, 17, 15, 16, 24, 19, 4]
    assert ordered.band.values.tolist() == published
    assert np.all(np.diff(ordered.wavelength) > 0)
    np.testing.assert_array_equal(ordered.sel(band=4), cube.sel(band=4))
    assert nearest_bands(cube, (731.88, 826.77, 928.81)) == (12, 23, 15)  # of the viewer's default
    assert nearest_bands(ordered, (730, 830)) == (12, 23)


def test_pseudocolour_shows_the_longest_wave_red_and_survives_nan() -> None:
    values = np.full((25, 8, 8), 0.2)
    values[15, :, :4] = 0.9  # 928.81 nm on the left half
    values[12, :4, :] = 0.9  # 731.88 nm on the upper half
    values[:, 0, 0] = np.nan
    picture = pseudocolour(cube_of(values))
    assert picture.dims == ("y", "x", "rgb")
    assert picture.wavelength.values.tolist() == [928.81, 826.77, 731.88]
    np.testing.assert_array_equal(picture.isel(y=7, x=[1, 6]), [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(picture.isel(y=1, x=[1, 6]), [[1, 0, 1], [0, 0, 1]])
    assert not picture.isel(y=0, x=0).any()
    assert (picture.attrs["units"], picture.attrs["history"]) == ("1", "pseudocolour")


def test_pseudocolour_stretches_every_band_between_its_own_percentiles() -> None:
    cube = random_cube() * np.arange(1, 26)[:, None, None]
    picked = cube.sel(band=[21, 5, 7]).transpose("y", "x", "band").values
    low, high = np.percentile(picked, (25, 75), axis=(0, 1))
    found = pseudocolour(cube, cube["wavelength"].values[[21, 5, 7]].tolist(), (25, 75))
    np.testing.assert_allclose(found, np.clip((picked - low) / (high - low), 0, 1), atol=1e-5)


@pytest.mark.parametrize(("nm", "shown"), [(range(500, 600, 20), [580, 540, 500]), (range(900, 1300, 100), None)])
def test_a_camera_that_does_not_see_the_three_waves_shows_its_longest_middle_and_shortest(nm, shown) -> None:
    """The second has one of the three: its longest but one stands for the middle of four."""
    bands = tuple(Band(place, float(wave), 0.1, ()) for place, wave in enumerate(nm))
    cube = make_cube(
        np.random.default_rng(0).random((len(nm), 3, 4)), Sensor("toy", (1, len(nm)), (9, 99), (0, 0), (3, 4), bands)
    )
    assert pseudocolour(cube).wavelength.values.tolist() == (shown or [1200, 1000, 900])
    with pytest.raises(ValueError, match="wavelength"):
        pseudocolour(cube.drop_vars("wavelength"))


def test_a_cube_is_mapped_to_another_camera() -> None:
    camera, cube = sister_cameras()["665_975-13.7.8.4"], random_cube()
    weights = band_map(HSI_DRIVE, camera)
    found = mapped(cube, weights, camera)
    np.testing.assert_allclose(found, np.einsum("ab,byx->ayx", weights, cube), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["wavelength"], camera.wavelengths_nm)
    assert found.attrs["sensor"] == camera.name
    assert found.attrs["units"] == cube.attrs["units"]
    assert found.attrs["history"] == f"bands of {HSI_DRIVE.name}"
    assert mapped(cube.drop_attrs(), weights, camera).attrs["history"] == "bands of another camera"
    with pytest.raises(ValueError, match="a map to another camera needs all 25 bands"):
        mapped(ascending(cube), weights, camera)
    with pytest.raises(ValueError, match="25 bands of imec"):
        mapped(cube, weights[:16], camera)


class TestLogarithms:
    def test_a_factor_is_a_shift_of_every_band_also_of_a_dark_one_which_has_a_share_of_the_mean(self) -> None:
        pixels = np.random.default_rng(0).uniform(0.1, 1, (25, 3, 4))
        pixels[7] = 0
        found = log_pixels(pixels)
        np.testing.assert_allclose(log_pixels(4 * pixels), found + np.log(4))
        np.testing.assert_allclose(found[7], np.log(1e-3 * pixels.mean(axis=0)))
        np.testing.assert_allclose(np.delete(found, 7, 0), np.log(np.delete(pixels, 7, 0)))
        pixels[3, 1, 2] = np.inf
        np.testing.assert_array_equal(
            np.isnan(log_pixels(pixels)).sum(axis=0), 25 * (np.indices((3, 4)) == [[[1]], [[2]]]).all(0)
        )
        assert np.isfinite(log_pixels(np.zeros((25, 1)))).all()

    def test_at_full_strength_their_mean_is_taken_off(self) -> None:
        pixels = np.random.default_rng(1).uniform(0.1, 1, (25, 3, 4))
        np.testing.assert_allclose(clr_pixels(pixels).mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(clr_pixels(pixels), clr_pixels(pixels, 1.0))

    def test_what_is_left_of_a_pixel_knows_nothing_of_the_directions(self) -> None:
        rng = np.random.default_rng(2)
        directions, pixels = rng.normal(size=(2, 25)), rng.normal(size=(25, 3, 4))
        left = without_directions(pixels, directions)
        np.testing.assert_allclose(np.tensordot(directions, left, axes=1), 0, atol=1e-12)
        moved = pixels + np.einsum("nb,nyx->byx", directions, rng.normal(size=(2, 3, 4)))
        np.testing.assert_allclose(without_directions(moved, directions), left, atol=1e-12)
        np.testing.assert_allclose(without_directions(left, directions), left, atol=1e-12)


class TestSurroundings:
    def test_a_pixel_spreads_over_a_square_of_a_twelfth_of_the_width_or_of_three_pixels(self) -> None:
        for width, side in ((20, 3), (64, 5)):
            image = np.full((2, 20, width), 0.5)
            image[:, 10, 10] = 0.5 + side**2
            mean, around = surroundings(image)
            np.testing.assert_allclose(around[8:13, 8:13] - 0.5, np.pad(np.ones((side, side)), (5 - side) // 2))
            assert mean == pytest.approx(image.mean())

    @pytest.mark.parametrize("nothing", [np.nan, np.inf, 0.0, -1.0])
    def test_pixels_without_light_have_no_say(self, nothing: float) -> None:
        image = np.full((3, 12, 60), 0.4, np.float32)
        image[:, ::3, ::2] = nothing
        image[:, 4:9, 30:41] = nothing  # wider than what is around a pixel in its middle
        mean, around = surroundings(image)
        assert mean == pytest.approx(0.4)
        assert set(np.round(around.ravel(), 5)) == {0.4, 0.001}
        assert (around[6, 33:38] == 0.001).all()

    def test_a_single_lit_pixel_is_the_brightness_and_without_one_it_is_the_least(self) -> None:
        image = np.zeros((3, 5, 6))
        assert surroundings(image)[0] == 1e-3
        image[:, 2, 2] = 0.8
        mean, around = surroundings(image)
        assert mean == pytest.approx(0.8)
        np.testing.assert_allclose(around[1:4, 1:4], 0.8)


RAMP = np.linspace(0.1, 1, 50)


class TestFillValues:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (RAMP, []),
            (np.repeat([1.0, 2.0, 3.0, 0.0], 9), []),  # labels, not measurements
            (np.repeat([0.0, 5.0], 9), []),  # a mask: there is no other positive value
            ([], []),
            ([*RAMP, *[65535.0] * 3], [65535.0]),
            ([*RAMP, *[65535.0] * 2], []),
            ([*RAMP, *[-9999.0] * 3], [-9999.0]),
            ([*RAMP, *[-9999.0] * 2], []),
            ([*RAMP, 1e6, 1e6, *[65535.0] * 3], [65535.0]),  # behind a glint
            ([*RAMP, *[65535.0] * 3, *[-9999.0] * 4, *[1e35] * 5], [1e35, 65535.0, -9999.0]),
            ([*RAMP, *[10.5] * 3], [10.5]),
            ([*RAMP, *[10.0] * 3], [10.0]),  # ten times, from the next on
            ([*RAMP, *[9.9] * 3], []),
            ([*-RAMP, *[-10.5] * 3], [-10.5]),
            ([*-RAMP, *[-10.0] * 3], [-10.0]),
            ([*-RAMP, *[-9.9] * 3], []),
            ([*(RAMP / 20), *[0.9] * 3], [0.9]),
            ([*RAMP, np.nan, np.inf, -np.inf, *[65535.0] * 3], [65535.0]),
            ([np.nan, np.nan], []),
        ],
    )
    def test_they_are_extremes_that_come_again_and_again(self, values, expected: list[float]) -> None:
        found = fill_values(np.asarray(values, np.float64).reshape(1, -1))
        np.testing.assert_allclose(found, expected)
        assert isinstance(found, list)

    def test_they_become_nan_and_other_values_stay_without_a_copy(self) -> None:
        values = np.array([*RAMP, *[-9999.0] * 3, np.inf], np.float32)[None]
        found = without_fill(values)
        np.testing.assert_array_equal(found, [[*RAMP.astype(np.float32), *[np.nan] * 3, np.inf]])
        assert found.dtype == np.float32
        whole = values[:, :50]
        assert without_fill(whole) is whole
