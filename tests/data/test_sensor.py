import numpy as np
import pytest

from hsiutils.data.sensor import HSI_DRIVE, RANGE_NM, Band, Peak, Sensor, band_table

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
