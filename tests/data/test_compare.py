from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_hsi_drive import NAMES, write_matlab_release

from hsiutils.data import raw
from hsiutils.data.compare import (
    PLACES,
    compare,
    difference_table,
    exposure_ratio,
    kind,
    read_reference,
    remade,
    remade_table,
    verdict,
)
from hsiutils.data.cube import make_cube
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.layouts import DatasetError
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.source import open_dataset
from hsiutils.simulate import Simulation, write_dataset

chain = partial(partial, raw.reflectance_cube)
SIMULATED = ("nf3122_147", "nf1111_576")
SMALL = HSI_DRIVE.resized((6, 8))
cube = partial(make_cube, sensor=SMALL)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> HSIDrive:
    root = tmp_path_factory.mktemp("raw") / "set"
    write_dataset(root, SIMULATED, Simulation(tiles=(8, 16)), workers=1, progress=False)
    return open_dataset(root)


@pytest.fixture(scope="module")
def references(drive: HSIDrive) -> dict[str, float | np.ndarray]:
    return {key: read_reference(drive.root / "references" / f"{key}.bin", drive.sensor) for key in ("white", "dark")}


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 1.0, (25, 6, 8))


class TestSimulatedFrames:
    """The references and exposures are known: what is found can be held against what was done."""

    def test_right_references_give_the_released_cube(self, drive: HSIDrive, references) -> None:
        for name in SIMULATED:
            made, comparison = remade(drive, name, chain(**references))
            assert made.attrs["source"] == "simulated"
            np.testing.assert_array_equal(made, drive.cube(name))
            assert kind(comparison) == "same"
            assert float(comparison["correlation"].sel(place="everywhere").min()) > 1 - 1e-6

    def test_a_wrong_exposure_is_found_as_one_factor(self, drive: HSIDrive, references) -> None:
        table = remade_table(drive, SIMULATED, chain(**references, exposure_ratio=2.0))
        assert table.index.tolist() == list(SIMULATED)
        np.testing.assert_allclose(table["scale"], 0.5, rtol=1e-5)
        assert set(table["difference"]) == {"one factor"}
        _, comparison = remade(drive, SIMULATED[0], chain(**references, exposure_ratio=0.25))
        np.testing.assert_allclose(comparison["one_scale"], 4.0, rtol=1e-5)
        np.testing.assert_allclose(comparison["scale"], 4.0, rtol=1e-5)
        assert float(comparison["one_left_over"].max()) < 1e-6
        assert "one factor, 4:" in verdict(comparison)

    def test_a_white_number_instead_of_the_frame_is_no_single_factor(self, drive: HSIDrive, references) -> None:
        number = {**references, "white": float(np.mean(references["white"]))}
        _, comparison = remade(drive, SIMULATED[0], chain(**number))
        assert kind(comparison) == "other"  # the lens darkens the corners, the filters differ in height
        scale = comparison["scale"].sel(place="everywhere")
        assert float(scale.max() / scale.min()) > 1.2
        assert kind(remade(drive, SIMULATED[0], chain(**references, median=True))[1]) == "other"

    def test_a_white_wrong_by_a_factor_a_band(self, drive: HSIDrive, references) -> None:
        white, dark = (np.asarray(references[key], dtype=float) for key in ("white", "dark"))
        factor, factors = np.ones_like(white), np.linspace(0.5, 1.5, 25).reshape(5, 5)
        raw.crop(factor, drive.sensor)[:] = np.tile(factors, drive.sensor.tiles)
        _, comparison = remade(drive, SIMULATED[0], chain(white=dark + (white - dark) * factor, dark=dark))
        assert kind(comparison) == "factor a band"
        np.testing.assert_allclose(comparison["scale"].sel(place="everywhere"), factors.ravel(), rtol=1e-3)

    def test_scenes_without_frames_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no raw frame of nf1111_576"):
            remade(open_dataset(write_matlab_release(tmp_path)), NAMES[0], chain(white=1.0, dark=0.0))


class TestCompare:
    def test_differences_lie_where_they_were_put(self, values: np.ndarray) -> None:
        other = values.copy()
        other[3, 0, :] += 0.5  # the border row of band 3
        other[7, 3, 4] -= 0.25  # one pixel inside, band 7
        found = compare(cube(values), cube(other))
        rms, inside = found["rms_difference"], found.sel(place="inside", band=7)
        assert float(rms.sel(place="inside", band=3)) == float(rms.sel(place="border", band=7)) == 0
        np.testing.assert_allclose(rms.sel(place="border", band=3), 0.5 * np.sqrt(8 / 24), rtol=1e-5)
        np.testing.assert_allclose(inside["largest_difference"], 0.25, rtol=1e-5)
        np.testing.assert_allclose(inside["mean_difference"], 0.25 / 24, rtol=1e-5)
        assert float(found["relative"].sel(place="everywhere")) > 0.01

    def test_a_difference_at_the_border_alone_and_an_offset_are_told(self, values: np.ndarray) -> None:
        other = values.copy()
        other[:, :, -1] = 0
        found = compare(cube(values), cube(other))
        assert kind(found) == "border"
        assert "the border follows another rule" in verdict(found)
        assert kind(compare(cube(values), cube(0.8 * values + 0.1))) == "offset a band"

    def test_numbers_agree_with_numpys_own(self, values: np.ndarray) -> None:
        other = values + np.random.default_rng(1).normal(0, 0.1, values.shape)
        found = compare(cube(values), cube(other)).sel(place="everywhere", band=5)
        ours, theirs = values[5].ravel(), other[5].ravel()
        np.testing.assert_allclose(found["correlation"], np.corrcoef(ours, theirs)[0, 1], rtol=1e-5)
        best = np.linalg.lstsq(ours[:, None], theirs, rcond=None)[0][0]
        np.testing.assert_allclose(found["scale"], best, rtol=1e-5)

    def test_dead_pixels_are_left_out_and_counted_and_a_dead_band_has_no_numbers(self, values: np.ndarray) -> None:
        dead = values.copy()
        dead[:, 2, 2] = np.nan
        found = compare(cube(dead), cube(values))
        assert kind(found) == "same"
        assert found.attrs["compared"] == pytest.approx(1 - 1 / 48)
        dead[4] = np.nan
        found = compare(cube(dead), cube(values))
        assert kind(found) == "same"
        assert np.isnan(found["scale"].sel(band=4)).all()

    def test_the_table_is_in_the_order_of_wavelength(self, values: np.ndarray) -> None:
        table = difference_table(compare(cube(values), cube(2 * values)))
        assert table.index.tolist() == SMALL.ascending.tolist()
        assert (np.diff(table["nm"]) > 0).all()
        np.testing.assert_allclose(table["scale"], 2.0, rtol=1e-6)
        assert {"bias", "rms", *PLACES[1:]} <= set(table.columns)
        np.testing.assert_allclose(table["bias"], -values.mean(axis=(1, 2))[table.index], rtol=1e-5)

    def test_cubes_that_cannot_be_compared(self, values: np.ndarray) -> None:
        other = make_cube(values[:, :5], HSI_DRIVE.resized((5, 8)))
        with pytest.raises(ValueError, match=r"\(25, 6, 8\) and \(25, 5, 8\).*same bands and size"):
            compare(cube(values), other)
        with pytest.raises(ValueError, match="no finite value"):
            compare(cube(np.full_like(values, np.nan)), cube(values))


class TestReferences:
    def test_numbers_and_files(self, tmp_path: Path) -> None:
        assert read_reference("64", SMALL) == read_reference(64, SMALL) == 64.0
        frame = np.full(SMALL.frame_shape, 900, dtype="<u2")
        (tmp_path / "white.bin").write_bytes(frame.tobytes())
        np.testing.assert_array_equal(read_reference(tmp_path / "white.bin", SMALL), frame)
        (tmp_path / "dark.bin").write_bytes(b"\0" * 10)
        with pytest.raises(DatasetError, match=r"dark\.bin: expected .* found 10"):
            read_reference(tmp_path / "dark.bin", SMALL)

    @pytest.mark.parametrize("given", ["-1", "nan", "nowhere.bin"])
    def test_what_is_neither_is_refused(self, given: str) -> None:
        with pytest.raises(DatasetError, match=f"reference {given}: "):
            read_reference(given, SMALL)

    def test_exposures_come_in_pairs(self) -> None:
        assert exposure_ratio(None, None) == 1.0
        assert exposure_ratio(2.0, 0.5) == 0.25
        with pytest.raises(ValueError, match="or neither"):
            exposure_ratio(1.0, None)
        with pytest.raises(ValueError, match=r"two positive times, or neither; got 1\.0 and 0\.0"):
            exposure_ratio(1.0, 0.0)
