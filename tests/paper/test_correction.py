"""Filters that leak, and what a correction of them can and cannot change."""

from dataclasses import replace

import numpy as np
import pytest

from hsiutils.data.sensor import HSI_DRIVE, RANGE_NM, Band, Peak
from hsiutils.paper.correction import corrected_counts, correction_matrix

WAVELENGTH = np.arange(RANGE_NM[0], RANGE_NM[1] + 1)


def area_one(responses):
    return responses / responses.sum(axis=1, keepdims=True)


def test_a_second_peak_that_was_planted_is_taken_out():
    clean = [Band(n, centre, peaks=(Peak(centre, 10.0, 0.5, 0.9),)) for n, centre in enumerate((620.0, 700.0, 780.0))]
    leaking = replace(clean[2], peaks=(Peak(780.0, 10.0, 0.5, 0.7), Peak(620.0, 10.0, 0.2, 0.2)))
    camera = replace(HSI_DRIVE.resized((4, 6)), mosaic=(1, 3), frame_shape=(10, 18), bands=(*clean[:2], leaking))
    seen = area_one(camera.responses(WAVELENGTH))
    corrected = correction_matrix(camera, noise=1e-6) @ seen
    leak = np.abs(WAVELENGTH - 620) < 15
    assert seen[2, leak].sum() > 0.15
    assert abs(corrected[2, leak].sum()) < 0.2 * seen[2, leak].sum()
    np.testing.assert_allclose(corrected.sum(axis=1), 1)


def test_the_cameras_bands_come_nearer_to_their_peaks_and_more_noise_corrects_less():
    seen = area_one(HSI_DRIVE.responses(WAVELENGTH, 600.0))
    far = [np.abs(matrix @ seen - seen).sum() for matrix in (correction_matrix(HSI_DRIVE, 600.0, n) for n in (1e-3, 1))]
    assert far[0] > 1.5 * far[1] > 0
    with pytest.raises(ValueError, match="band 0 has no peak above 1200 nm"):
        correction_matrix(HSI_DRIVE, 1200.0)


def test_a_matrix_changes_nothing_for_linear_borders_of_raw_bands(tiny_run):
    counts = corrected_counts(tiny_run, (3, 6))
    assert counts["input"].values.tolist() == ["raw", "PN", "raw, corrected", "PN, corrected"]
    assert set(counts["scene"].values) <= set(tiny_run.data.names("test"))
    one, other = (counts.sel(classifier="linear", input=name) for name in ("raw", "raw, corrected"))
    assert abs(one - other).sum() <= 0.02 * 2 * one.sum()
    assert not counts.sel(input="PN").equals(counts.sel(input="PN, corrected"))
