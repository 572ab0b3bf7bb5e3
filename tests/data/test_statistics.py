import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hsiutils.data.classes import CLASSES, HSI_DRIVE_CLASSES
from hsiutils.data.cube import make_cube
from hsiutils.data.sensor import HSI_DRIVE, band_table
from hsiutils.data.statistics import (
    against_released,
    class_variability,
    spectrum_correlation,
    statistics,
    sun_and_shadow,
)

SENSOR = HSI_DRIVE.resized((8, 12))


class Planted:
    """Two scenes: road with a left half in shadow, and a strip of vegetation below."""

    sensor, origin, classes = SENSOR, "simulated", HSI_DRIVE_CLASSES

    def __init__(self, shade=0.25, known=True):
        self.shade, self.known = shade, known
        self.spectrum = np.linspace(0.2, 0.8, 25)[:, None, None]

    def labels(self, name):
        codes = np.ones((8, 12), dtype=np.uint8)
        codes[6:] = 3
        return codes

    def cube(self, name):
        light = np.ones((8, 12))
        light[:, :6] = self.shade
        return make_cube(self.spectrum * light, SENSOR, source="simulated")

    def truth(self, name):
        lit = np.ones((8, 12), dtype=np.float32)
        lit[:, :6] = 0
        return xr.Dataset({"sunlit": (("y", "x"), lit)}) if self.known else None


def test_frequencies_and_shade_are_what_was_planted():
    summary = statistics(Planted(), ["a", "b"])
    assert summary["frequency"].values.tolist() == [0.75, 0.0, 0.25, 0.0, 0.0]
    assert np.allclose(summary["shade"], 0.25)
    assert summary["wavelength"].values.tolist() == SENSOR.wavelengths_nm.tolist()


def test_moments_are_those_of_all_pixels():
    drive = Planted()
    pixels = np.concatenate([drive.cube(n).values.reshape(25, -1) for n in "ab"], axis=1)
    summary = statistics(drive, ["a", "b"])
    assert np.allclose(summary["mean"], pixels.mean(axis=1))
    assert np.allclose(summary["std"], pixels.std(axis=1), rtol=1e-4)
    normalised = drive.spectrum.ravel() / drive.spectrum.sum()
    assert np.allclose(summary["pn_mean"], normalised, rtol=1e-5)
    assert np.allclose(summary["pn_max"], normalised, rtol=1e-5)


def test_without_truth_no_shadows_are_made_up():
    assert np.isnan(statistics(Planted(known=False), ["a"])["shade"]).all()
    with pytest.raises(ValueError, match="in sun and in shadow"):
        sun_and_shadow(Planted(known=False), ["a"], "Road")


def test_shadow_that_is_a_factor_vanishes_under_pn():
    both = sun_and_shadow(Planted(shade=0.4), ["a", "b"], "Road")
    ratio = both["reflectance"].sel(light="shadow") / both["reflectance"].sel(light="sun")
    assert np.allclose(ratio, 0.4)
    assert np.allclose(both["pn"].sel(light="shadow"), both["pn"].sel(light="sun"), atol=1e-6)
    assert both.attrs["scenes"] == 2


def test_variability_is_relative_spread():
    summary = statistics(Planted(shade=1.0), ["a"])
    assert np.allclose(class_variability(summary)[0], 0, atol=1e-3)
    shaded = statistics(Planted(shade=0.5), ["a"])
    assert class_variability(shaded)[0] == pytest.approx(0.25 / 0.75, rel=1e-3)  # half the pixels at 1, half at 0.5


def test_table_sets_released_figures_beside_ours():
    table = against_released(statistics(Planted(), ["a"]), "simulated")
    assert table["figure"].tolist()[: len(CLASSES)] == [f"share of {name}" for name in CLASSES]
    road = table.iloc[0]
    assert (road["simulated"], road["HSI-Drive v2.0"]) == (0.75, 0.6148)
    assert road["ratio"] == pytest.approx(0.75 / 0.6148)
    assert table["HSI-Drive v2.0"].iloc[-1] == pytest.approx(0.4202)


def test_correlation_is_one_with_the_released_spectrum_itself():
    released = band_table()["v2_mean_reflectance"].to_numpy()
    assert spectrum_correlation(xr.Dataset({"mean": ("band", 3 * released)})) == pytest.approx(1)
    assert isinstance(band_table(), pd.DataFrame)
