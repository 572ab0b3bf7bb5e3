from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.io import imread
from skimage.registration import phase_cross_correlation

from hsiutils.data import raw
from hsiutils.data.cube import make_cube
from hsiutils.data.layouts import DatasetError
from hsiutils.data.sensor import HSI_DRIVE, Band, Sensor, read_calibration

NIR_FRAME = Path(__file__).parents[3] / "shared" / "data" / "imec_5x5_nir_frame"


def camera(mosaic: tuple[int, int], tiles: tuple[int, int] = (4, 6), origin: tuple[int, int] = (3, 1)) -> Sensor:
    frame = tuple(n * size + start + 2 for n, size, start in zip(tiles, mosaic, origin, strict=True))
    bands = tuple(Band(i, 500.0 + 10 * i, 0.1, ()) for i in range(mosaic[0] * mosaic[1]))
    return Sensor("toy", mosaic, (frame[0], frame[1]), origin, tiles, bands)


def ramp(sensor: Sensor, gradient: tuple[float, float], offset: float) -> np.ndarray:
    row, column = np.mgrid[: sensor.frame_shape[0], : sensor.frame_shape[1]]
    return offset + gradient[0] * row + gradient[1] * column


def ramp_at_tile_centres(sensor: Sensor, gradient: tuple[float, float], offset: float) -> np.ndarray:
    centres = [
        origin + np.arange(tiles) * size + (size - 1) / 2
        for origin, tiles, size in zip(sensor.active_origin, sensor.tiles, sensor.mosaic, strict=True)
    ]
    return offset + gradient[0] * centres[0][:, None] + gradient[1] * centres[1][None, :]


class TestReadFrame:
    sensor = camera((5, 5))

    def test_is_little_endian_row_after_row_and_named_where_it_is_cut_short(self, tmp_path: Path) -> None:
        size, path = int(np.prod(self.sensor.frame_shape)), tmp_path / "a.bin"
        frame = (np.arange(size) % 4096).reshape(self.sensor.frame_shape).astype("<u2")
        path.write_bytes(frame.tobytes())
        found = raw.read_frame(path, self.sensor)
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, frame)
        for lost in (1, 2, 100):
            path.write_bytes(bytes(2 * size - lost))
            with pytest.raises(ValueError, match=rf"a\.bin: expected {2 * size} .*{2 * size - lost}"):
                raw.read_frame(path, self.sensor)

    def test_bits_at_the_upper_end_are_moved_down(self, tmp_path: Path) -> None:
        """Of a bright frame and of a dark one, whose values would pass for others."""
        for low, high in ((300, 4096), (60, 70)):
            frame = np.random.default_rng(0).integers(low, high, self.sensor.frame_shape).astype("<u2")
            (frame << 4).tofile(tmp_path / "frame.bin")
            np.testing.assert_array_equal(raw.read_frame(tmp_path / "frame.bin", self.sensor), frame)
            frame.astype(">u2").tofile(tmp_path / "frame.bin")
            with pytest.raises(DatasetError, match="expected little-endian"):
                raw.read_frame(tmp_path / "frame.bin", self.sensor)

    def test_the_brightest_value_and_a_frame_of_one_value_are_taken_as_they_are(self, tmp_path: Path) -> None:
        whole = np.full(self.sensor.frame_shape, 1, dtype="<u2")
        nearly = whole * 16
        nearly[0, :3] = 17  # bits at the lower end, though three of the four are never used
        for frame in (whole * self.sensor.saturation_dn, whole * 16, nearly):
            frame.tofile(tmp_path / "frame.bin")
            np.testing.assert_array_equal(raw.read_frame(tmp_path / "frame.bin", self.sensor), frame)

    def test_bits_of_a_converter_of_eight_fill_the_upper_byte(self, tmp_path: Path) -> None:
        eight = replace(self.sensor, bits=8)
        frame = np.random.default_rng(1).integers(0, 256, eight.frame_shape).astype("<u2")
        (frame << 8).tofile(tmp_path / "frame.bin")
        np.testing.assert_array_equal(raw.read_frame(tmp_path / "frame.bin", eight), frame)

    def test_no_more_is_read_than_one_frame(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A film of many frames is refused, and not read whole before."""
        size, read = int(np.prod(self.sensor.frame_shape)), []
        np.zeros(3 * size, "<u2").tofile(tmp_path / "film.bin")
        fromfile = np.fromfile
        monkeypatch.setattr(
            raw.np, "fromfile", lambda *args, **options: read.append(fromfile(*args, **options)) or read[0]
        )
        with pytest.raises(DatasetError, match=f"expected {2 * size} bytes .*, found {6 * size}"):
            raw.read_frame(tmp_path / "film.bin", self.sensor)
        assert read[0].size == size


def test_crop_starts_at_the_active_origin() -> None:
    frame = np.arange(25 * 33).reshape(25, 33)
    np.testing.assert_array_equal(raw.crop(frame, camera((5, 5))), frame[3:23, 1:31])


def test_dark_is_removed_and_a_pixel_without_white_has_no_reflectance() -> None:
    signal = raw.subtract_dark(np.array([[5, 100]], dtype=np.uint16), np.array([[10, 30]], dtype=np.uint16))
    np.testing.assert_array_equal(signal, [[0, 70]])  # noise below it is floored, and no uint16 wraps around
    assert signal.dtype == np.float32
    found = raw.reflectance(np.ones((1, 4)), np.array([[2.0, 0.0, -1.0, np.inf]]))
    np.testing.assert_array_equal(np.isnan(found), [[False, True, True, True]])
    assert found[0, 0] == 0.5


def test_every_step_is_in_single_precision() -> None:
    """Of frames in double precision, too, and of references of integers."""
    sensor, rng = camera((2, 2)), np.random.default_rng(0)
    frame = rng.uniform(100, 200, sensor.active_shape)
    assert raw.subtract_dark(frame, np.float64(3.7)).dtype == np.float32
    assert raw.reflectance(frame, frame.astype(int)).dtype == np.float32
    cube = raw.demosaic(frame, sensor)
    assert raw.interleave(cube.astype(float), sensor).dtype == np.float32
    cube[0, 1, 1] = np.nan
    for one in (cube, cube[1:], cube.astype(float)):
        assert raw.median_filter(one).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: raw.crop(np.zeros((3, 3)), HSI_DRIVE), r"\(1088, 2048\).*\(3, 3\)"),
        (lambda: raw.subtract_dark(np.ones((2, 2)), np.ones((2, 3))), r"^dark.*\(2, 2\).*\(2, 3\)"),
        (lambda: raw.reflectance(np.ones((2, 2)), np.ones(2)), "^white"),
        (lambda: raw.reflectance(np.ones((2, 2)), np.zeros((2, 2))), "no pixel is positive"),
        (lambda: raw.reflectance(np.ones((2, 2)), 1.0, exposure_ratio=0.0), "exposure_ratio"),
        (lambda: raw.reflectance(np.ones((2, 2)), 1.0, exposure_ratio=np.nan), "exposure_ratio"),
        (lambda: raw.demosaic(np.zeros((5, 5)), HSI_DRIVE), r"\(1080, 2045\).*\(5, 5\).*crop"),
        (lambda: raw.reflectance_cube(np.zeros((1088, 2048)), HSI_DRIVE, np.zeros((2, 2)), 0.0), "^white.*whole frame"),
        (
            lambda: raw.interleave(make_cube(np.zeros((25, 2, 2)), HSI_DRIVE)[::-1], HSI_DRIVE),
            "^interleave .*native order",
        ),
        (
            lambda: raw.translate_to_centre(make_cube(np.zeros((25, 2, 2)), HSI_DRIVE), camera((4, 4))),
            "band 24, toy has 16",
        ),
        (
            lambda: raw.translate_to_centre(make_cube(np.zeros((25, 2, 2)), HSI_DRIVE)[[16]], camera((4, 4))),
            "band 16, toy has 16",
        ),
        (lambda: raw.translate_to_centre(xr.DataArray(np.zeros((25, 2, 2))), HSI_DRIVE), "dims"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("mosaic", [(5, 5), (4, 4), (2, 3)])
def test_every_band_comes_from_its_own_place_in_the_tile(mosaic: tuple[int, int]) -> None:
    sensor = camera(mosaic)
    active = np.arange(np.prod(sensor.active_shape)).reshape(sensor.active_shape)
    cube = raw.demosaic(active, sensor)
    for band in range(len(sensor.bands)):
        row, column = sensor.mosaic_position(band)
        np.testing.assert_array_equal(cube.sel(band=band), active[row :: mosaic[0], column :: mosaic[1]])
    np.testing.assert_array_equal(raw.interleave(cube, sensor), active)
    assert (cube.attrs["units"], cube.attrs["history"]) == ("DN", "demosaic")


# Down to one part in 100: below that the ramp's own float32 steps are what is measured.
slopes = st.floats(-5, 5).map(lambda slope: round(slope, 2))


@settings(max_examples=40)
@given(
    gradient=st.tuples(slopes, slopes),
    offset=st.floats(200, 1000),
    mosaic=st.sampled_from([(5, 5), (4, 4), (2, 3)]),
    tiles=st.tuples(st.integers(2, 6), st.integers(2, 6)),
)
def test_a_linear_ramp_comes_back_exactly_borders_included(
    gradient: tuple[float, float], offset: float, mosaic: tuple[int, int], tiles: tuple[int, int]
) -> None:
    sensor = camera(mosaic, tiles)
    cube = raw.demosaic(raw.crop(ramp(sensor, gradient, offset), sensor), sensor)
    centred = raw.translate_to_centre(cube, sensor)
    assert centred.dtype == np.float32
    expected = np.broadcast_to(ramp_at_tile_centres(sensor, gradient, offset), centred.shape)
    np.testing.assert_allclose(centred, expected, atol=4e-4)  # a few float32 steps of values near 1000


def test_between_tiles_values_are_interpolated_towards_the_centre() -> None:
    """From both sides: a plane of random values tells the tile before from the tile after."""
    sensor = camera((5, 5))
    cube = raw.demosaic(np.random.default_rng(0).uniform(0, 100, sensor.active_shape), sensor)
    centred = raw.translate_to_centre(cube, sensor).values
    tiles = np.indices(sensor.tiles)
    for band, plane in enumerate(cube.values):
        shift = (2 - np.array(sensor.mosaic_position(band))) / 5
        expected = map_coordinates(plane, tiles + shift[:, None, None], order=1)
        np.testing.assert_allclose(centred[band, 1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-5)


def test_without_translation_the_ramp_is_displaced_by_each_band_s_place() -> None:
    sensor = camera((5, 5))
    gradient = (3.0, 0.5)
    found = raw.reflectance_cube(ramp(sensor, gradient, 100.0), sensor, white=1.0, dark=0.0, centre=False)
    at_centre = ramp_at_tile_centres(sensor, gradient, 100.0)
    for band in (0, 12, 24):
        row, column = sensor.mosaic_position(band)
        shift = gradient[0] * (row - 2) + gradient[1] * (column - 2)
        np.testing.assert_allclose(found.sel(band=band), at_centre + shift, rtol=1e-6)


def test_one_row_of_tiles_is_shifted_along_the_row_only_and_bands_alone_as_among_others() -> None:
    sensor = camera((5, 5), tiles=(1, 6))
    cube = raw.demosaic(raw.crop(ramp(sensor, (0.0, 2.0), 10.0), sensor), sensor)
    whole = raw.translate_to_centre(cube, sensor)
    expected = ramp_at_tile_centres(sensor, (0.0, 2.0), 10.0)
    np.testing.assert_allclose(whole, np.broadcast_to(expected, (25, 1, 6)), rtol=1e-6)
    part = raw.translate_to_centre(cube.sel(band=[23, 4]), sensor)
    np.testing.assert_array_equal(part, whole.sel(band=[23, 4]))


class TestMedianFilter:
    sensor = camera((2, 2))

    def test_removes_a_hot_pixel_and_keeps_a_straight_edge(self) -> None:
        values = np.zeros((4, 7, 8), dtype=np.float32)
        values[:, :, 4:] = 1.0
        hot = values.copy()
        hot[:, 3, 1] = 50.0
        np.testing.assert_array_equal(raw.median_filter(make_cube(hot, self.sensor)), values)

    def test_is_the_median_of_the_nine_neighbours_of_the_same_band_and_dead_pixels_do_not_vote(self) -> None:
        values = np.random.default_rng(2).random((4, 6, 5)).astype(np.float32)
        values[0, 3, 2], values[1] = np.nan, np.nan
        found = raw.median_filter(make_cube(values, self.sensor)).values
        assert found[2, 3, 2] == np.median(values[2, 2:5, 1:4])
        assert found[3, 0, 0] == np.median(np.pad(values[3], 1, mode="edge")[:3, :3])
        assert found[0, 3, 2] == pytest.approx(np.nanmedian(values[0, 2:5, 1:4]))
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()
        values = np.random.default_rng(3).random((4, 9, 9)).astype(np.float32)
        values[np.random.default_rng(4).random(values.shape) < 0.4] = np.nan
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, [(0, 0), (1, 1), (1, 1)], "edge"), (1, 3, 3))
        found = raw.median_filter(make_cube(values, self.sensor))
        np.testing.assert_allclose(found, np.nanmedian(windows, axis=(-3, -2, -1)), rtol=1e-6)
        values = np.full((4, 3, 3), np.nan, dtype=np.float32)
        values[0, 1, 1], values[1, 0, 1], values[1, 2, 1] = 7.0, 1.0, 4.0
        found = raw.median_filter(make_cube(values, self.sensor)).values
        np.testing.assert_array_equal(found[0], np.full((3, 3), 7.0))  # the only one that votes
        assert found[1, 1, 1] == 2.5  # of two the mean


def test_the_chain_removes_dark_from_frame_and_white_alike() -> None:
    sensor = camera((5, 5))
    dark = np.random.default_rng(3).uniform(20, 60, sensor.frame_shape)
    cube = raw.reflectance_cube(dark + 500, sensor, dark + 2000, dark, exposure_ratio=2.0, median=True, source="made")
    np.testing.assert_allclose(cube, np.full((25, 4, 6), 0.5), rtol=1e-5)
    assert (cube.dims, cube.attrs["units"], cube.attrs["source"]) == (("band", "y", "x"), "reflectance", "made")
    assert cube.attrs["history"].endswith("dark; white reference; demosaic; translated to centre; median filtered")
    assert raw.reflectance_cube(dark + 500, sensor, dark + 2000, dark).attrs["source"] == "unknown"


def test_the_border_never_goes_below_zero() -> None:
    sensor = camera((5, 5))
    frame = np.zeros(sensor.frame_shape)
    frame[:, 1 + 5 : 1 + 10] = 1000.0  # the second column of tiles is bright: the first would extrapolate downwards
    cube = raw.reflectance_cube(frame, sensor, white=1000.0, dark=0.0)
    uncut = raw.translate_to_centre(raw.reflectance_cube(frame, sensor, 1000.0, 0.0, centre=False), sensor)
    assert float(uncut.min()) == pytest.approx(-0.4)
    np.testing.assert_array_equal(cube, np.maximum(uncut, 0))


def test_a_dead_white_pixel_stays_with_its_band_and_neighbours() -> None:
    sensor = camera((5, 5))
    white = np.full(sensor.frame_shape, 100.0)
    white[3 + 5 + 1, 1 + 5 + 2] = 0.0  # tile (1, 1), row 1, column 2 of it: band 7
    cube = raw.reflectance_cube(np.full(sensor.frame_shape, 50.0), sensor, white, dark=0.0)
    dead = np.argwhere(np.isnan(cube.values)).tolist()
    assert dead == [[7, 0, 1], [7, 1, 1]]  # itself, and the tile above, which reads one fifth of it


@pytest.fixture(scope="module")
def nir_camera() -> Sensor:
    if not NIR_FRAME.is_dir():
        pytest.skip("the real NIR frame is not at hand")
    camera = read_calibration(next(NIR_FRAME.glob("*.xml")))
    return replace(camera, frame_shape=camera.active_shape)  # the frame was published without what lies around


@pytest.fixture(scope="module")
def nir_planes(nir_camera: Sensor) -> np.ndarray:
    return np.asarray(imread(NIR_FRAME / "frame_02245_nir.tif")).transpose(2, 0, 1)


def test_a_real_frame_goes_through_the_chain(nir_camera: Sensor, nir_planes: np.ndarray) -> None:
    frame = raw.interleave(make_cube(nir_planes, nir_camera, units="DN"), nir_camera)
    assert frame.shape == (1085, 2045)
    cube = raw.reflectance_cube(frame, nir_camera, white=255.0, dark=0.0, centre=False, source="real")
    np.testing.assert_allclose(cube, nir_planes / 255, rtol=1e-6)
    centred = raw.reflectance_cube(frame, nir_camera, white=255.0, dark=0.0)
    released = raw.translate_to_centre(make_cube(nir_planes / 255, nir_camera), nir_camera).clip(min=0)
    np.testing.assert_allclose(centred, released, atol=1e-6)
    centred = raw.reflectance_cube(frame, nir_camera, white=255.0, dark=0.0, median=True)
    assert centred.shape == (25, 217, 409)
    assert np.isfinite(centred).all()


@pytest.mark.parametrize(("one", "other"), [(4, 0), (14, 6)])
def test_translation_registers_the_bands_of_a_real_frame(
    nir_camera: Sensor, nir_planes: np.ndarray, one: int, other: int
) -> None:
    """Pairs of alike bands, far apart in the tile: their measured displacement falls by more than half."""
    cube = make_cube(nir_planes, nir_camera, units="DN")
    centred = raw.translate_to_centre(cube, nir_camera)
    before, after = (
        phase_cross_correlation(c.sel(band=one).values, c.sel(band=other).values, upsample_factor=50)[0]
        for c in (cube, centred)
    )
    assert np.linalg.norm(before) > 0.5
    assert np.linalg.norm(after) < np.linalg.norm(before) / 2


class TestReferences:
    """A frame of known reflectance .25, dark 64, white 2000 above it."""

    sensor = HSI_DRIVE.resized((4, 6))
    frame = np.full(sensor.frame_shape, 564, dtype=np.uint16)
    white = np.full(sensor.frame_shape, 2064, dtype=np.uint16)

    def cube(self, **changes) -> xr.DataArray:
        return raw.reflectance_cube(
            **{"frame": self.frame, "sensor": self.sensor, "white": self.white, "dark": 64} | changes
        )

    def test_a_few_saturated_pixels_have_no_reflectance(self) -> None:
        np.testing.assert_allclose(self.cube(), 0.25)
        white = self.white.copy()
        white[3, 0] = self.sensor.saturation_dn  # band 0 of the first tile
        cube = self.cube(white=white, centre=False)
        assert np.isnan(cube[0, 0, 0])
        assert int(np.isnan(cube).sum()) == 1

    def test_up_to_a_hundredth_saturated_and_up_to_half_below_dark_are_noise(self) -> None:
        sensor = HSI_DRIVE.resized((4, 5))  # 500 pixels
        white, frame = np.full(sensor.frame_shape, 2064), np.full(sensor.frame_shape, 564)
        raw.crop(white, sensor).flat[:5], raw.crop(frame, sensor).flat[:250] = 4095, 60
        cube = raw.reflectance_cube(frame, sensor, white, 64, centre=False)
        assert int(np.isnan(cube).sum()) == 5
        assert int((cube == 0).sum()) == 250 - 5

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"white": np.full_like(white, 4095)}, r"white: 100% of the pixels are saturated \(4095 DN or above\)"),
            ({"white": 5000}, "white: 100% of the pixels are saturated"),
            ({"dark": white[1:]}, "dark must be one number or a whole frame"),
            ({"dark": 64 << 4}, "dark: frame is below it in 100% of the pixels"),
            ({"dark": white, "white": 64, "frame": white}, "dark: white is below it in 100%"),
        ],
    )
    def test_references_that_cannot_be_are_refused(self, changes: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.cube(**changes)
