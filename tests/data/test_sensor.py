from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hsiutils.data.compare import kind, read_reference, remade
from hsiutils.data.layouts import DatasetError
from hsiutils.data.raw import reflectance_cube
from hsiutils.data.sensor import (
    HSI_DRIVE,
    NOT_MEASURED,
    RANGE_NM,
    Band,
    Peak,
    Sensor,
    band_map,
    band_table,
    bands_from_table,
    read_calibration,
    sister_cameras,
)
from hsiutils.data.source import open_dataset
from hsiutils.simulate import Simulation, write_dataset

SHARED = Path(__file__).parents[3] / "shared" / "data"

WAVELENGTH = np.arange(RANGE_NM[0], RANGE_NM[1] + 0.1, 0.1)


def test_geometry_is_the_cameras():
    shapes = HSI_DRIVE.frame_shape, HSI_DRIVE.active_origin, HSI_DRIVE.active_shape
    assert shapes == ((1088, 2048), (3, 0), (1080, 2045))
    assert (HSI_DRIVE.saturation_dn, HSI_DRIVE.mosaic_position(13)) == (4095, (2, 3))
    small = HSI_DRIVE.resized((96, 192))  # mosaic and margins stay
    assert (small.tiles, small.frame_shape) == ((96, 192), (96 * 5 + 8, 192 * 5 + 3))
    assert small.bands == HSI_DRIVE.bands


def test_bands_are_in_mosaic_order_and_sort_as_published():
    published = [22, 9, 14, 13, 12, 10, 11, 8, 7, 5, 6, 23, 20, 21, 3, 2, 0, 1, 18, 17, 15, 16, 24, 19, 4]
    assert HSI_DRIVE.ascending.tolist() == published
    table = band_table()
    for band, row in table.iterrows():
        assert HSI_DRIVE.mosaic_position(band) == (row["mosaic_row"], row["mosaic_col"])
        assert HSI_DRIVE.clip_max[band] == row["pn_clip_max"]
    assert (table["pn_clip_max"] < table["pn_observed_max"]).all()


def test_every_band_peaks_at_one_of_its_two_peaks_and_at_its_centre_and_peaks_keep_their_share():
    for band, response in zip(HSI_DRIVE.bands, HSI_DRIVE.responses(WAVELENGTH), strict=True):
        top = WAVELENGTH[response.argmax()]
        assert min(abs(top - peak.centre_nm) for peak in band.peaks) < 1.0
        assert band.peaks[0].centre_nm == pytest.approx(band.centre_nm)
        near = np.abs(WAVELENGTH - band.centre_nm) < 1
        assert response[near].max() >= band.peaks[0].quantum_efficiency
        # Of the whole Lorentzians, tails included; the floor makes up the rest.
        areas = [np.pi / 2 * peak.fwhm_nm * peak.quantum_efficiency for peak in band.peaks]
        whole = sum(areas) / sum(peak.share for peak in band.peaks)
        assert np.trapezoid(response, WAVELENGTH) == pytest.approx(whole, rel=0.08)


def test_width_is_full_width_at_half_maximum():
    sensor = Sensor("one", (1, 1), (1, 1), (0, 0), (1, 1), (Band(0, 700.0, 1.0, (Peak(700.0, 10.0, 0.2, 1.0),)),))
    response = sensor.responses([695.0, 700.0, 705.0])[0]
    assert response.tolist() == pytest.approx([0.1, 0.2, 0.1])


def test_silicon_sees_nothing_outside_its_range_and_a_long_pass_blocks_the_green():
    assert not HSI_DRIVE.responses([399.0, 1001.0]).any()
    plain = HSI_DRIVE.responses([540.0, 600.0, 800.0])
    filtered = HSI_DRIVE.responses([540.0, 600.0, 800.0], long_pass_nm=600.0)
    assert np.allclose(filtered / plain, [0.0, 0.5, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("mosaic", "frame", "tiles", "message"),
    [((4, 4), (9, 9), (1, 1), "has 16 bands, got 25"), ((5, 5), (9, 50), (2, 2), "needs 10 rows for 2 tiles")],
)
def test_impossible_sensors_are_refused(mosaic, frame, tiles, message):
    with pytest.raises(ValueError, match=message):
        Sensor("bad", mosaic, frame, (0, 0), tiles, HSI_DRIVE.bands)


WAVELENGTHS = np.arange(400.0, 1001.0)


def curve(band: int) -> np.ndarray:
    """A peak at 500 + 100 * band, and a leak at 450."""
    peak, leak = (np.exp(-(((WAVELENGTHS - centre) / 8) ** 2)) for centre in (500 + 100 * band, 450))
    return 0.2 * peak + 0.05 * leak


def element(name: str, content: object = "", **attributes: object) -> str:
    listed = "".join(f" {key}='{value}'" for key, value in attributes.items())
    return f"<{name}{listed}>{content}</{name}>"


def elements(content: dict[str, object]) -> str:
    return "".join(element(name, value) for name, value in content.items())


def calibration(form: str) -> str:
    """A file of a 2 x 2 sensor, its bands out of order, and a filter in front, in one of the three forms."""
    bands, older, listed = [], form == "older", form == "listed"
    for band in (2, 0, 3, 1):
        two = ((450, 0.05), (500 + 100 * band, 0.2))
        peaks = element("peaks", "".join(element("peak", elements({"wavelength_nm": nm, "QE": qe})) for nm, qe in two))
        values = ", ".join(f"{value:.6g}" for value in curve(band))
        if older:
            response, place = element("response_composition", element("data", values)), {"pattern_position_index": band}
        else:
            attributes = {"values": values.replace(",", "")} if listed else {}
            response, place = element("response", "" if listed else values, **attributes), {"index": band}
        bands.append(element("band", peaks + response, **place))
    area = element("filter_area", elements({"offset_x": 1, "offset_y": 3, "width": 13, "height": 8}))
    sizes = elements({"pattern_width": 2, "pattern_height": 2, "filter_width": 1, "filter_height": 1})
    zone = area + sizes + element("bands", "".join(bands))
    chip = {"width_px": 14, "height_px": 11, "bit_depth": 10} if listed else {"width": 14, "height": 11}
    chip |= {"input_bpp": 10} if older else {"full_well_capacity_e": 9000}
    key = "measurement_range" if older else "wavelength_range"
    samples = element("sample_points_nm", values=" ".join(map(str, WAVELENGTHS))) if listed else ""
    samples = samples or elements({f"{key}_start_nm": 400, f"{key}_end_nm": 1000, "bit_depth": 10})
    if listed:
        front = element("sample_points_nm", values="400 549 551 1000") + element("response", values="0 0 0.5 0.5")
    else:
        front = elements({"wavelength_start_nm": 400, "wavelength_end_nm": 1000})
        front += element("filter_response", element("data", "0.5, 0.5")) if older else element("response", "0.5, 0.5")
    info = element("calibration_info", samples)
    if older:
        body = element("filter_info", info + zone + element("rejection_filter", front), layout="MOSAIC")
    else:
        body = element("filter_info", info + element("filter_zones", element("filter_zone", zone, layout="MOSAIC")))
        body += element("system_info", element("optical_components", element("optical_component", front)))
    return element("sensor_calibration", element("sensor_info", elements(chip)) + body, sensor_id="1.2")


class TestCalibration:
    @pytest.mark.parametrize("form", ["listed", "text", "older"])
    def test_geometry_and_measured_curves_are_those_of_the_file(self, form: str, tmp_path: Path) -> None:
        (tmp_path / "camera.xml").write_text(calibration(form))
        camera = read_calibration(tmp_path / "camera.xml", optics=False)
        assert (camera.name, camera.mosaic, camera.frame_shape) == ("1.2", (2, 2), (11, 14))
        assert (camera.active_origin, camera.tiles) == ((3, 1), (4, 6))
        assert (camera.bits, camera.full_well_e) == (10, 11_000 if form == "older" else 9000)
        assert camera.wavelengths_nm.tolist() == [500, 600, 700, 800]
        between = np.array([399.0, 450.0, 500.5, 1001.0])
        found = camera.responses(between)
        assert not found[:, [0, 3]].any()
        for band in range(4):
            np.testing.assert_allclose(found[band], np.interp(between, WAVELENGTHS, curve(band), 0, 0), rtol=1e-4)
            np.testing.assert_allclose(camera.responses(WAVELENGTHS)[band], curve(band), rtol=1e-4, atol=1e-9)
        expected = curve(2) / 2 * ((WAVELENGTHS > 550) if form == "listed" else 1)
        behind = read_calibration(tmp_path / "camera.xml").responses(WAVELENGTHS)[2]
        np.testing.assert_allclose(behind, expected, rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("MOSAIC", "WEDGE"), r"expected one MOSAIC zone, found \['WEDGE'\]"),
            (("index='3'", "index='7'"), r"expected 4 bands, found \[0, 1, 2, 7\]"),
            (("<filter_width>1", "<filter_width>2"), "filters of several pixels each"),
            (("<offset_x>1</offset_x>", ""), "no filter_area/offset_x"),
            (("<response values='", "<response values='7 "), "602 responses at 601 wavelengths"),
            (("</sensor_calibration>", ""), "no element found"),
            (("<height>8<", "<height>99<"), "active area needs"),
        ],
    )
    def test_what_is_no_calibration_is_named(self, change: tuple[str, str], message: str, tmp_path: Path) -> None:
        (tmp_path / "camera.xml").write_text(calibration("listed").replace(*change, 1))
        with pytest.raises(ValueError, match=rf"camera\.xml: no calibration of a mosaic sensor .*{message}"):
            read_calibration(tmp_path / "camera.xml")

    @pytest.mark.skipif(not SHARED.is_dir(), reason="the calibration files are not at hand")
    def test_real_files(self) -> None:
        older, listed, text = (
            read_calibration(SHARED / file, optics=False)
            for file in (
                "imec_5x5_calibration/CMV2K-SSM5x5-600_875-5.5.9.2.xml",
                "imec_5x5_calibration/CMV2K-SSM5x5-665_975-13.7.8.4.xml",
                "imec_5x5_nir_frame/CMV2K-SSM5x5-665_975-13.8.15.1_HS02-NIR.xml",
            )
        )
        assert (older.frame_shape, older.active_origin, older.tiles) == ((1088, 2048), (3, 0), (216, 409))
        assert (listed.frame_shape, listed.tiles, listed.full_well_e) == ((1085, 2045), (217, 409), 11_470)
        assert (text.frame_shape, text.tiles, text.full_well_e) == ((1088, 2048), (217, 409), 12_043)
        assert (older.bits, listed.bits, text.bits) == (10, 10, 10)
        # The peak of band 0 holds .283 of its whole response, and not the .477 that the file calls its contribution.
        peak = np.pi / 2 * 17.37603305785124 * 0.04164058900541123
        assert peak / text.responses(WAVELENGTHS)[0].sum() == pytest.approx(0.283, abs=1e-3)
        assert listed.responses(WAVELENGTHS)[0].argmax() + 400 == 619


TABLE = (
    pd.DataFrame({"centre_nm": np.linspace(480, 620, 16), "fwhm_nm": 12.0, "quantum_efficiency": 0.25, "share": 0.8})
    .iloc[::-1]
    .reset_index(drop=True)
)

SECOND = {"centre_nm2": 900.0, "fwhm_nm2": 8.0, "quantum_efficiency2": 0.1, "share2": 0.1}


def chip(table: pd.DataFrame = TABLE, tiles: tuple[int, int] = (8, 16)) -> Sensor:
    rows, columns = (4 * size for size in tiles)
    return Sensor("toy 4x4", (4, 4), (rows + 3, columns), (2, 0), tiles, bands_from_table(table))


class TestBandTable:
    def test_a_row_is_a_filter_in_the_order_of_the_table(self) -> None:
        bands = bands_from_table(TABLE)
        assert [band.index for band in bands] == list(range(16))
        assert bands[0] == Band(0, 620, NOT_MEASURED, (Peak(620, 12, 0.25, 0.8),))
        bands = bands_from_table(TABLE.join(pd.DataFrame(SECOND, [0])).assign(clip_max=0.1))
        assert bands[0].peaks[1] == Peak(900, 8, 0.1, 0.1)
        assert len(bands[1].peaks) == 1
        assert bands[5].clip_max == 0.1
        # Centres alone are enough for a real camera.
        assert all(not band.peaks for band in bands_from_table(TABLE[["centre_nm"]]))

    @pytest.mark.parametrize("line", ["{:.1f};12;0.25;0.8", "{:.1f};12,0;0,25;0,8"])
    def test_text_is_read_as_numbers_with_a_decimal_comma_too(self, line: str) -> None:
        rows = [line.format(centre) for centre in TABLE["centre_nm"]]
        if "," in line:
            rows = [row.replace(".", ",") for row in rows]
        table = pd.read_csv(StringIO("\n".join([";".join(TABLE.columns), *rows])), sep=";")
        assert bands_from_table(table) == bands_from_table(TABLE.assign(centre_nm=TABLE["centre_nm"].round(1)))

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (TABLE.rename(columns={"centre_nm": "nm"}), "expected a column centre_nm, found"),
            (TABLE.assign(centre_nm=0.62), r"band 0: centre_nm 0.62 outside 400..1000 nm; is it in nanometres\?"),
            (TABLE.assign(fwhm_nm=0.012), "band 0: expected fwhm_nm 1..300, .*fwhm_nm=0.012"),
            (TABLE.assign(**SECOND | {"centre_nm2": 0.9}), "band 0: centre_nm2 0.9 outside 400..1000 nm"),
            (TABLE.assign(fwhm_nm="wide"), r"column fwhm_nm: expected numbers, found \['wide'"),
            (TABLE.assign(clip_max=-0.1), "band 0: clip_max must be positive, got -0.1"),
            (
                TABLE.iloc[::-1],
                r"not in the order of their index, \[15, 14, .*sort the rows by it; where the rows are right",
            ),
            (TABLE.assign(band=range(16, 0, -1)), r"not in the order of their band, \[16, 15"),
            (TABLE.assign(centre_nm=np.nan), "band 0: centre_nm None"),
            (TABLE.drop(columns="share"), "band 0: a peak needs share, too"),
            (TABLE.assign(quantum_efficiency=25), "quantum_efficiency and share above 0"),
            (TABLE.assign(**SECOND | {"share2": 0.3}), "shares of the peaks add up"),
        ],
    )
    def test_what_cannot_be_is_named(self, table: pd.DataFrame, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            bands_from_table(table)


class TestSisterCameras:
    def test_only_the_filters_differ(self) -> None:
        cameras = sister_cameras()
        assert list(cameras) == ["600_875-5.5.9.2", "665_975-13.7.8.4", "665_975-13.8.15.1"]
        for camera in cameras.values():
            assert replace(camera, name=HSI_DRIVE.name, bands=HSI_DRIVE.bands) == HSI_DRIVE
            assert (camera.responses(WAVELENGTH).max(axis=1) > 0.005).all()
        # Of HSI-Drive's lot: where the filter in front does not hide the peak, it lies some 20 nm further to the red.
        shift = cameras["600_875-5.5.9.2"].wavelengths_nm - HSI_DRIVE.wavelengths_nm
        assert shift[[5, 6, 7, 8, 9, 10, 11, 12, 13, 14]] == pytest.approx(20.5, abs=1.5)

    @pytest.mark.skipif(not SHARED.is_dir(), reason="the calibration files are not at hand")
    @pytest.mark.parametrize("name", list(sister_cameras()))
    def test_the_table_is_that_of_the_calibration_files(self, name: str) -> None:
        (path,) = SHARED.glob(f"imec_5x5_*/*{name}*.xml")
        measured = read_calibration(path)
        scale = 1000 if "5.5.9.2" in name else 1
        np.testing.assert_allclose(sister_cameras()[name].wavelengths_nm, measured.wavelengths_nm, atol=0.06)
        for band, response in zip(sister_cameras()[name].bands, measured.responses(WAVELENGTHS), strict=True):
            for peak in band.peaks:
                area = np.pi / 2 * peak.fwhm_nm * peak.quantum_efficiency * scale
                assert area / response.sum() == pytest.approx(peak.share, rel=0.02)
            nearby = response[np.abs(WAVELENGTHS - band.centre_nm) < 3].max() / scale
            assert nearby == pytest.approx(band.peaks[0].quantum_efficiency, rel=0.15)


def gaussians(centres: np.ndarray, name: str = "toy") -> Sensor:
    curves = [np.exp(-(((WAVELENGTHS - centre) / 6) ** 2)) for centre in centres]
    bands = [
        Band(i, float(centre), curve=tuple(zip(WAVELENGTHS.tolist(), one.tolist(), strict=True)))
        for i, (centre, one) in enumerate(zip(centres, curves, strict=True))
    ]
    return Sensor(name, (1, len(bands)), (4, 4 * len(bands)), (0, 0), (4, 4), tuple(bands))


class TestBandMap:
    CENTRES = np.arange(650.0, 850, 8)

    def seen(self, sensor: Sensor) -> np.ndarray:
        """(band,) reflectance of a smooth spectrum with a red edge and a dip."""
        spectrum = 0.1 + 0.4 / (1 + np.exp(-(WAVELENGTHS - 715) / 15))
        spectrum -= 0.1 * np.exp(-(((WAVELENGTHS - 762) / 20) ** 2))
        response = sensor.responses(WAVELENGTHS)
        return response @ spectrum / response.sum(axis=1)

    @pytest.mark.parametrize("correlation_nm", [0.0, 100.0])
    def test_the_same_filters_in_another_order_are_recovered(self, correlation_nm: float) -> None:
        order = np.random.default_rng(0).permutation(len(self.CENTRES))
        of, to = gaussians(self.CENTRES[order]), gaussians(self.CENTRES)
        expected = np.eye(len(order))[np.argsort(order)]
        np.testing.assert_array_equal(band_map(of, to, "nearest"), expected)
        found = band_map(of, to, correlation_nm=correlation_nm, noise=0.0)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(found @ self.seen(of), self.seen(to), rtol=1e-6)

    def test_a_known_shift_is_undone(self) -> None:
        of, to = gaussians(self.CENTRES + 4), gaussians(self.CENTRES)  # 4 nm: half way to the next band
        error = {
            how: np.abs(band_map(of, to, how) @ self.seen(of) - self.seen(to)).max()
            for how in ("native", "nearest", "resampled")
        }
        assert error["resampled"] < 0.005 < 0.02 < min(error["native"], error["nearest"])
        np.testing.assert_allclose(band_map(of, to) @ np.ones(25), 1)  # white stays white
        # A shift by a whole number of bands is one by as many rows, but for the band that nothing reaches.
        whole = band_map(gaussians(self.CENTRES + 8), to, noise=0.0)
        np.testing.assert_allclose(whole[1:], np.eye(25)[:-1], atol=1e-6)

    def test_more_bands_than_the_other_and_its_optics(self) -> None:
        of, to = sister_cameras()["665_975-13.8.15.1"], chip()
        assert band_map(of, to).shape == band_map(of, to, "nearest").shape == (16, 25)
        assert np.abs(band_map(of, to, long_pass_nm=600.0) - band_map(of, to)).max() > 0.01

    def test_what_cannot_be_mapped_is_named(self) -> None:
        with pytest.raises(ValueError, match="toy 4x4 has 16, imec CMV2K-SSM5x5-600_1000 25; use nearest or resampled"):
            band_map(chip(), HSI_DRIVE, "native")
        with pytest.raises(ValueError, match=r"toy 4x4: bands \[0, 1, .*have no response to resample by"):
            band_map(chip(TABLE[["centre_nm"]]), HSI_DRIVE)


def taken_with(sensor: Sensor) -> Simulation:
    return Simulation(tiles=sensor.tiles, long_pass_nm=None, chip=sensor)


class TestScenes:
    def test_another_camera_goes_the_whole_way(self, tmp_path: Path) -> None:
        sensor = chip()
        write_dataset(tmp_path, ["nf3122_147"], taken_with(sensor), workers=1, progress=False)
        with pytest.raises(DatasetError, match=r"simulated with the camera toy 4x4.*, and opened with imec"):
            open_dataset(tmp_path)
        drive = open_dataset(tmp_path, sensor=sensor)
        assert drive.origin == "simulated"
        cube = drive.cube("nf3122_147")
        assert cube.shape == (16, 8, 16)
        np.testing.assert_array_equal(cube["wavelength"], sensor.wavelengths_nm)
        white, dark = (read_reference(tmp_path / "references" / f"{one}.bin", sensor) for one in ("white", "dark"))
        assert kind(remade(drive, "nf3122_147", partial(reflectance_cube, white=white, dark=dark))[1]) == "same"

    def test_an_interrupted_set_goes_on(self, tmp_path: Path) -> None:
        """Its settings, limits that are not measured among them, must be recognised as the same."""
        for names in (["nf3122_147"], ["nf3122_147", "nf1111_576"]):
            write_dataset(tmp_path, names, taken_with(chip()), workers=1, progress=False)
        other = taken_with(chip(TABLE.assign(fwhm_nm=20.0)))
        with pytest.raises(ValueError, match="other settings"):
            write_dataset(tmp_path, ["nf3122_147"], other, workers=1, progress=False)

    def test_a_camera_that_sees_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"toy 4x4: bands \[0, .* have no peak"):
            taken_with(chip(TABLE[["centre_nm"]]))
        with pytest.raises(ValueError, match=r"a camera of \(216, 409\) tiles"):
            Simulation(chip=chip())
