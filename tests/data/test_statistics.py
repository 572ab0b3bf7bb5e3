from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tiny_hsi_drive import NAMES, codes_of, write_matlab_release, write_scene

from hsiutils.data.classes import CLASSES, FREQUENCIES, HSI_DRIVE_CLASSES
from hsiutils.data.cube import make_cube
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.names import SCENES, SEASONS, name_table
from hsiutils.data.sensor import HSI_DRIVE, band_table
from hsiutils.data.source import open_dataset
from hsiutils.data.statistics import (
    class_table,
    class_variability,
    condition_table,
    data_info,
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


def test_frequencies_and_shade_are_what_was_planted_and_moments_those_of_all_pixels():
    drive = Planted()
    summary = statistics(drive, ["a", "b"])
    assert summary["frequency"].values.tolist() == [0.75, 0.0, 0.25, 0.0, 0.0]
    assert np.allclose(summary["shade"], 0.25)
    assert summary["wavelength"].values.tolist() == SENSOR.wavelengths_nm.tolist()
    pixels = np.concatenate([drive.cube(n).values.reshape(25, -1) for n in "ab"], axis=1)
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


def test_correlation_is_one_with_the_released_spectrum_itself():
    released = band_table()["v2_mean_reflectance"].to_numpy()
    assert spectrum_correlation(xr.Dataset({"mean": ("band", 3 * released)})) == pytest.approx(1)


@pytest.fixture
def drive(tmp_path: Path) -> HSIDrive:
    return open_dataset(write_matlab_release(tmp_path))


def test_info_says_what_is_there(drive: HSIDrive) -> None:
    facts = data_info(drive)["value"]
    assert (facts["origin"], facts["layout"], facts["raw frames"]) == ("real", "v2.0 MATLAB", "0")
    assert facts["scenes"] == "5 (1 train, 1 val, 3 test)"
    assert facts["cubes"] == "25 bands, nominally 564.4-956.1 nm, 4 x 6 pixels, reflectance"
    assert facts["splits by"] == "HS3-Bench's published split"
    (drive.root / "Image_dataset" / "test_filenames.txt").write_text("\n".join(NAMES))
    assert data_info(open_dataset(drive.root))["value"]["splits by"] == "the release's own lists"


def test_conditions_count_every_scene_once(drive: HSIDrive) -> None:
    table = condition_table(drive)
    assert table.loc[("season", "winter")].to_dict() == {"train": 0, "val": 0, "test": 3, "all": 3}
    assert table.loc[("scene", "road"), "all"] == 2
    assert (table["all"].groupby(level="condition").sum() == 5).all()


def test_other_scenes_are_split_by_folds(tmp_path: Path) -> None:
    for number in (1, 20, 40, 60, 80):
        write_scene(tmp_path, f"nf2222_{number:03d}")
    drive = open_dataset(tmp_path)
    assert data_info(drive)["value"]["splits by"] == "seeded folds of whole sequences"
    assert set(drive.table["split"]) == {"train", "val", "test"}
    one = open_dataset(write_matlab_release(tmp_path / "b", ("nf1111_002",)))
    assert data_info(one)["value"]["splits by"] == "too few for folds: all for testing"


def test_the_real_names_have_the_published_conditions(tmp_path: Path) -> None:
    """Counted from the names of all 752 images of v2.0; only the first has a file with something in it."""
    first, *others = name_table().index
    base = write_scene(tmp_path, first).parents[1]
    for name in others:
        (base / "cubes_fl32" / f"{name}_TC.mat").touch()
        (base / "labels" / f"{name}.png").touch()
    drive = open_dataset(tmp_path)
    assert drive.table["split"].value_counts().to_dict() == {"train": 451, "val": 150, "test": 151}
    assert sorted(drive.table["number"]) == list(range(1, 753))
    expected = {
        "season": {"winter": 206, "fall": 201, "spring": 166, "summer": 179},
        "weather": {"sunny": 260, "cloudy": 213, "wet": 244, "foggy": 35},
        "daytime": {"dawn": 275, "midday": 278, "sunset": 199},
        "scene": {"urban": 257, "road": 304, "highway": 191},
    }
    table = condition_table(drive)["all"]
    assert {condition: table[condition].to_dict() for condition in expected} == expected
    both = drive.table.groupby(["season", "scene"]).size().unstack().loc[list(SEASONS), list(SCENES)]
    assert both.to_numpy().ravel().tolist() == [68, 83, 55, 72, 81, 48, 61, 59, 46, 56, 81, 42]


def test_class_shares_are_of_the_labelled_pixels(drive: HSIDrive) -> None:
    table = class_table(drive)
    codes = np.concatenate([codes_of(name).ravel() for name in NAMES])
    assert table.loc["Road", "all"] == pytest.approx((codes == 1).sum() / (codes > 0).sum())
    assert table.loc["Other", "all"] == pytest.approx(np.isin(codes, [4, 6, 7, 8, 9, 10]).sum() / (codes > 0).sum())
    assert table.loc["unlabelled, of all pixels", "all"] == pytest.approx((codes == 0).mean())
    assert table.loc[list(CLASSES), "train"].sum() == pytest.approx(1)
    assert table.loc[list(CLASSES), "published"].tolist() == list(FREQUENCIES)
