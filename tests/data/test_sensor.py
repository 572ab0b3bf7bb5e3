from pathlib import Path

import numpy as np
import pytest

from hsiutils.data.sensor import HSI_DRIVE, RANGE_NM, Band, Peak, Sensor, band_table, read_calibration

CALIBRATIONS = Path(__file__).parents[3] / "shared" / "data" / "imec_5x5_calibration"

WAVELENGTH = np.arange(RANGE_NM[0], RANGE_NM[1] + 0.1, 0.1)


def test_geometry_is_the_cameras():
    assert HSI_DRIVE.active_shape == (1080, 2045)
    assert HSI_DRIVE.active_origin == (3, 0)
    assert HSI_DRIVE.frame_shape == (1088, 2048)
    assert HSI_DRIVE.saturation_dn == 4095
    assert HSI_DRIVE.mosaic_position(13) == (2, 3)


def test_bands_are_in_mosaic_order_and_sort_as_published():
    published = [22, 9, 14, 13, 12, 10, 11, 8, 7, 5, 6, 23, 20, 21, 3, 2, 0, 1, 18, 17, 15, 16, 24, 19, 4]
    assert HSI_DRIVE.ascending.tolist() == published
    table = band_table()
    for band, row in table.iterrows():
        assert HSI_DRIVE.mosaic_position(band) == (row["mosaic_row"], row["mosaic_col"])
        assert HSI_DRIVE.clip_max[band] == row["pn_clip_max"]


def test_every_band_peaks_at_one_of_its_two_peaks_and_at_its_centre():
    responses = HSI_DRIVE.responses(WAVELENGTH)
    for band, response in zip(HSI_DRIVE.bands, responses, strict=True):
        top = WAVELENGTH[response.argmax()]
        assert min(abs(top - peak.centre_nm) for peak in band.peaks) < 1.0
        assert band.peaks[0].centre_nm == pytest.approx(band.centre_nm)
        near = np.abs(WAVELENGTH - band.centre_nm) < 1
        assert response[near].max() >= band.peaks[0].quantum_efficiency


def test_peaks_keep_their_share_of_the_whole_response():
    # Of the whole Lorentzians, tails included; the floor makes up the rest.
    for band, response in zip(HSI_DRIVE.bands, HSI_DRIVE.responses(WAVELENGTH), strict=True):
        areas = [np.pi / 2 * peak.fwhm_nm * peak.quantum_efficiency for peak in band.peaks]
        whole = sum(areas) / sum(peak.share for peak in band.peaks)
        assert np.trapezoid(response, WAVELENGTH) == pytest.approx(whole, rel=0.08)


def test_width_is_full_width_at_half_maximum():
    sensor = Sensor("one", (1, 1), (1, 1), (0, 0), (1, 1), (Band(0, 700.0, 1.0, (Peak(700.0, 10.0, 0.2, 1.0),)),))
    response = sensor.responses([695.0, 700.0, 705.0])[0]
    assert response.tolist() == pytest.approx([0.1, 0.2, 0.1])


def test_silicon_sees_nothing_outside_its_range():
    assert not HSI_DRIVE.responses([399.0, 1001.0]).any()


def test_long_pass_blocks_the_green_and_passes_the_infrared():
    plain = HSI_DRIVE.responses([540.0, 600.0, 800.0])
    filtered = HSI_DRIVE.responses([540.0, 600.0, 800.0], long_pass_nm=600.0)
    assert np.allclose(filtered / plain, [0.0, 0.5, 1.0], atol=1e-6)


def test_a_smaller_sensor_keeps_mosaic_and_margins():
    small = HSI_DRIVE.resized((96, 192))
    assert small.tiles == (96, 192)
    assert small.frame_shape == (96 * 5 + 8, 192 * 5 + 3)
    assert small.bands == HSI_DRIVE.bands


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


def calibration(form: str) -> str:
    """A file of a 2 x 2 sensor, its bands out of order, and a filter in front, in one of the two forms."""
    bands, zones = [], form == "zones"
    for band in (2, 0, 3, 1):
        two = ((450, 0.05), (500 + 100 * band, 0.2))
        peaks = "".join(element("peak", element("wavelength_nm", nm) + element("QE", qe)) for nm, qe in two)
        listed = [f"{value:.6g}" for value in curve(band)]
        bands.append(
            element("band", element("peaks", peaks) + element("response", values=" ".join(listed)), index=band)
            if zones
            else element(
                "band",
                element("peaks", peaks) + element("response_composition", element("data", ", ".join(listed))),
                pattern_position_index=band,
            )
        )
    area = {"offset_x": 1, "offset_y": 3, "width": 13, "height": 8}
    sizes = {"pattern_width": 2, "pattern_height": 2, "filter_width": 1, "filter_height": 1}
    zone = element("filter_area", "".join(element(*one) for one in area.items()))
    zone += "".join(element(*one) for one in sizes.items()) + element("bands", "".join(bands))
    if zones:
        chip = {"width_px": 14, "height_px": 11, "bit_depth": 10, "full_well_capacity_e": 9000}
        points = element("sample_points_nm", values=" ".join(map(str, WAVELENGTHS)))
        front = element("sample_points_nm", values="400 549 551 1000") + element("response", values="0 0 0.5 0.5")
        info = element("calibration_info", points)
        info += element("filter_zones", element("filter_zone", zone, layout="MOSAIC"))
        body = element("filter_info", info)
        body += element("system_info", element("optical_components", element("optical_component", front)))
    else:
        chip = {"width": 14, "height": 11, "input_bpp": 10}
        grid = {"measurement_range_start_nm": 400, "measurement_resolution_nm": 1, "nr_measurements": 601}
        coarse = {"wavelength_start_nm": 400, "wavelength_resolution_nm": 200, "nr_data_points": 4}
        front = "".join(element(*one) for one in coarse.items())
        front += element("filter_response", element("data", "0.5, 0.5, 0.5, 0.5"))
        info = element("calibration_info", "".join(element(*one) for one in grid.items()))
        body = element("filter_info", info + zone + element("rejection_filter", front), layout="MOSAIC")
    head = element("sensor_info", "".join(element(*one) for one in chip.items()))
    return element("sensor_calibration", head + body, **({"sensor_id": "1.2"} if zones else {}))


class TestCalibration:
    @pytest.mark.parametrize("form", ["zones", "older"])
    def test_geometry_and_measured_curves_are_those_of_the_file(self, form: str, tmp_path: Path) -> None:
        (tmp_path / "camera.xml").write_text(calibration(form))
        camera = read_calibration(tmp_path / "camera.xml", optics=False)
        assert (camera.mosaic, camera.frame_shape, camera.active_origin, camera.tiles) == (
            (2, 2),
            (11, 14),
            (3, 1),
            (4, 6),
        )
        assert (camera.bits, camera.full_well_e) == (10, 9000 if form == "zones" else 11_000)
        assert camera.name == ("1.2" if form == "zones" else "camera")
        assert camera.wavelengths_nm.tolist() == [500, 600, 700, 800]
        between = np.array([399.0, 450.0, 500.5, 1001.0])
        found = camera.responses(between)
        assert not found[:, [0, 3]].any()
        for band in range(4):
            np.testing.assert_allclose(found[band], np.interp(between, WAVELENGTHS, curve(band), 0, 0), rtol=1e-4)
            np.testing.assert_allclose(camera.responses(WAVELENGTHS)[band], curve(band), rtol=1e-4, atol=1e-9)

    def test_filters_in_front_are_taken_in(self, tmp_path: Path) -> None:
        (tmp_path / "camera.xml").write_text(calibration("zones"))
        found = read_calibration(tmp_path / "camera.xml").responses(WAVELENGTHS)
        np.testing.assert_allclose(found[2], np.where(WAVELENGTHS < 550, 0, curve(2) / 2), rtol=1e-3, atol=1e-6)
        (tmp_path / "camera.xml").write_text(calibration("older"))
        found = read_calibration(tmp_path / "camera.xml").responses(WAVELENGTHS)
        np.testing.assert_allclose(found[2], curve(2) / 2, rtol=1e-4, atol=1e-9)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("MOSAIC", "WEDGE"), r"expected one MOSAIC zone, found \['WEDGE'\]"),
            (("index='3'", "index='7'"), r"expected 4 bands, found \[0, 1, 2, 7\]"),
            (("<filter_width>1", "<filter_width>2"), "filters of several pixels each"),
            (("<offset_x>1</offset_x>", ""), "no filter_area/offset_x"),
            (("<response values='", "<response values='7 "), "band 2: expected a centre and 601 .* 700.* and 602"),
            (("</sensor_calibration>", ""), "no element found"),
            (("<height>8<", "<height>99<"), "active area needs"),
        ],
    )
    def test_what_is_no_calibration_is_named(self, change: tuple[str, str], message: str, tmp_path: Path) -> None:
        (tmp_path / "camera.xml").write_text(calibration("zones").replace(*change, 1))
        with pytest.raises(ValueError, match=rf"camera\.xml: no calibration of a mosaic sensor .*{message}"):
            read_calibration(tmp_path / "camera.xml")

    @pytest.mark.skipif(not CALIBRATIONS.is_dir(), reason="the calibration files are not at hand")
    def test_real_files(self) -> None:
        older, zones = (read_calibration(path, optics=False) for path in sorted(CALIBRATIONS.glob("*.xml")))
        assert (older.frame_shape, older.active_origin, older.tiles, older.bits) == (
            (1088, 2048),
            (3, 0),
            (216, 409),
            10,
        )
        assert (zones.frame_shape, zones.tiles, zones.full_well_e) == ((1085, 2045), (217, 409), 11_470)
        assert zones.wavelengths_nm[:2].round(3).tolist() == [913.793, 921.862]
        # Most of band 0's light is not in its peak: a Lorentzian over a floor would not show where the rest lies.
        response = zones.responses(np.arange(400.0, 1001.0))
        peak = slice(880 - 400, 950 - 400)
        assert response[0, peak].sum() / response[0].sum() < 0.3
        assert response[0].argmax() + 400 == 619
        front = read_calibration(sorted(CALIBRATIONS.glob("*.xml"))[1]).responses(np.arange(400.0, 1001.0))
        assert front[0].argmax() + 400 == pytest.approx(914, abs=1)
