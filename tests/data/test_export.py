import copy
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import spectral
import xarray as xr
from PIL import Image
from scipy.io import loadmat, whosmat
from tiny_hsi_drive import NAMES, TILES, codes_of, mat, values_of, write_matlab_release, write_scene

from hsiutils.data import zarr_store
from hsiutils.data.check import check_dataset
from hsiutils.data.classes import LABELS
from hsiutils.data.cube import ascending, pseudocolour
from hsiutils.data.export import to_zarr, write_cube, write_envi, write_envi_labels, write_release
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import open_dataset
from hsiutils.simulate import Simulation, write_dataset

NAME = NAMES[2]


@pytest.fixture
def drive(tmp_path: Path) -> HSIDrive:
    return open_dataset(write_matlab_release(tmp_path / "set"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.mat"


class TestReleases:
    def test_our_reader_finds_the_same_scenes_and_splits(self, drive: HSIDrive, tmp_path: Path) -> None:
        there = write_release(drive, tmp_path / "there", "python")
        back = write_release(open_dataset(there), tmp_path / "back", "matlab")
        for base, layout in ((there, "v2.0 Python"), (back, "v2.0 MATLAB")):
            twin = open_dataset(base.parent)
            assert twin.layout == layout
            assert twin.table.equals(drive.table)
            for name in NAMES:
                np.testing.assert_array_equal(twin.cube(name), drive.cube(name))
                np.testing.assert_array_equal(twin.labels(name), drive.labels(name))
            assert (check_dataset(base.parent)["severity"] == "note").all()
        with pytest.raises(DatasetError, match="HSIDrive20: would be written over the files that it is made from"):
            write_release(open_dataset(there), tmp_path / "there", "python")

    def test_mmsegmentation_finds_the_label_image_by_the_cubes_name(self, drive: HSIDrive, tmp_path: Path) -> None:
        """It takes images/training/*.npy, (y, x, band), and annotations/training/*.png of that name."""
        base = write_release(drive, tmp_path, "python", names=[NAME, NAMES[0]])
        (path,) = (base / "images" / "training").glob("*.npy")
        np.testing.assert_array_equal(np.load(path), values_of(NAME).transpose(1, 2, 0))
        with Image.open(base / "annotations" / "training" / f"{path.stem}.png") as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), codes_of(NAME))
        listed = {part: (base / f"{part}_filenames.txt").read_text() for part in ("training", "validation", "test")}
        assert listed == {"training": f"{NAME}\n", "validation": "", "test": f"{NAMES[0]}\n"}
        with Image.open(base / "RGB" / f"{NAME}_pseudocolor.png") as image:
            np.testing.assert_allclose(np.asarray(image) / 255, pseudocolour(drive.cube(NAME)), atol=0.002)
        assert len(list((base / "RGB").iterdir())) == 2

    def test_median_filtered_cubes_have_their_own_folder(self, tmp_path: Path) -> None:
        write_scene(tmp_path, NAME, cubes="cubes_fl32/MF", suffix="_MF_TC.mat")
        for form, layout in (("python", "v2.0 Python MF"), ("matlab", "v2.0 MATLAB MF")):
            write_release(open_dataset(tmp_path), tmp_path / form, form)
            assert open_dataset(tmp_path / form).layout == layout

    def test_scaled_values_are_not_passed_off_as_reflectance(self, tmp_path: Path) -> None:
        write_scene(tmp_path, NAME, mat("cube_fl32"), "cubes_float32", "_MF_TC_N_fl32.mat", labels="Labels")
        with pytest.raises(DatasetError, match="band-wise min-max scaled"):
            write_release(open_dataset(tmp_path), tmp_path / "python", "python")

    def test_a_cube_has_the_bytes_of_matlab_in_native_order_or_is_refused(self, drive: HSIDrive, path: Path) -> None:
        cube, again = drive.cube(NAME), path.with_name("b.mat")
        with pytest.raises(ValueError, match=r"needs all 25 bands of the camera in native order.*sortby"):
            write_cube(ascending(cube), path)
        write_cube(cube, path)
        write_cube(ascending(cube).sortby("band"), again)
        assert path.read_bytes() == again.read_bytes()
        assert whosmat(path) == [("cube", (25, *TILES), "single")]
        np.testing.assert_array_equal(loadmat(path)["cube"], values_of(NAME))
        for order in ("native", "ascending"):
            made = [write_envi(c, path.with_suffix(".hdr"), order=order) for c in (cube, ascending(cube))]
            assert made[0].with_suffix(".img").read_bytes() == made[1].with_suffix(".img").read_bytes()


@pytest.mark.parametrize("form", ["matlab", "python"])
def test_a_simulated_set_stays_known_as_simulated(form: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "made", [NAME], Simulation(tiles=(8, 16)), workers=1, progress=False)
    drive = open_dataset(tmp_path / "made")
    write_release(drive, tmp_path / "out", form)
    twin = open_dataset(tmp_path / "out")
    assert twin.origin == "simulated"
    assert twin.truth(NAME).identical(drive.truth(NAME))
    assert (check_dataset(tmp_path / "out")["severity"] == "note").all()
    if twin.layout == "v2.0 MATLAB":
        np.testing.assert_array_equal(twin.frame(NAME), drive.frame(NAME))


class TestEnvi:
    """Read back by Spectral Python, which is not ours."""

    @pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
    @pytest.mark.parametrize("order", ["ascending", "native"])
    def test_spectral_python_reads_values_and_wavelengths(
        self, drive: HSIDrive, tmp_path: Path, interleave: str, order: str
    ) -> None:
        write_envi(drive.cube(NAME), tmp_path / "cube.hdr", interleave=interleave, order=order)
        image = spectral.open_image(str(tmp_path / "cube.hdr"))
        native, places = drive.sensor.wavelengths_nm, np.arange(25)
        bands = drive.sensor.ascending if order == "ascending" else places
        np.testing.assert_allclose(image.bands.centers, native[bands])
        for place, band in zip(places, bands, strict=True):
            np.testing.assert_array_equal(image.read_band(place), values_of(NAME)[band])
            assert image.metadata["band names"][place] == f"band {band}"
        assert image.shape == (*TILES, 25)
        assert image.metadata["interleave"] == interleave
        assert image.metadata["wavelength units"] == "Nanometers"
        assert image.bands.band_unit == "Nanometers"
        assert "reflectance" in image.metadata["description"]

    def test_the_layouts_are_what_they_are_called_and_the_last_one_stays(self, drive: HSIDrive, tmp_path: Path) -> None:
        for interleave, axes in {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}.items():
            write_envi(drive.cube(NAME), tmp_path / "out" / "cube.hdr", interleave=interleave, order="native")
            stored = np.fromfile(tmp_path / "out" / "cube.img", "<f4")
            np.testing.assert_array_equal(stored, values_of(NAME).transpose(axes).ravel())
            assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cube.hdr", "cube.img"]

    def test_labels_carry_names_and_palette(self, drive: HSIDrive, tmp_path: Path) -> None:
        write_envi_labels(drive.labels(NAME), tmp_path / "labels.hdr")
        image = spectral.open_image(str(tmp_path / "labels.hdr"))
        np.testing.assert_array_equal(image.read_band(0), codes_of(NAME))
        assert image.metadata["class names"] == [label.name for label in LABELS]
        assert [int(value) for value in image.metadata["class lookup"][6:9]] == [255, 255, 255]  # road marks

    @pytest.mark.parametrize("code", [300, -1, 2.7, np.nan, 11])
    def test_what_is_no_label_code_is_refused(self, code: float, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="label codes"):
            write_envi_labels(np.array([[1, code]]), tmp_path / "labels.hdr")
        assert not list(tmp_path.iterdir())

    def test_wrong_arguments(self, drive: HSIDrive, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="got 'bli', 'native'"):
            write_envi(drive.cube(NAME), tmp_path / "cube.hdr", interleave="bli", order="native")
        with pytest.raises(ValueError, match=r"cube\.img: an ENVI header ends in \.hdr"):
            write_envi(drive.cube(NAME), tmp_path / "cube.img")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def convert_all(drive: HSIDrive, store: Path, **options) -> Path:
    return to_zarr(drive, store, **{"workers": 1, "progress": False, **options})


def written(store: Path) -> list[str]:
    """Scenes that a store says it has; each must be whole."""
    with xr.open_zarr(store) as found:
        names = found["scene"].values[found["written"].values == 1].tolist()
        for name in names:
            np.testing.assert_array_equal(found["cube"].sel(scene=name), values_of(name))
            np.testing.assert_array_equal(found["labels"].sel(scene=name), codes_of(name))
    return names


@pytest.fixture
def store(drive: HSIDrive, tmp_path: Path) -> Path:
    return convert_all(drive, tmp_path / "store.zarr")


def files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("opened", [xr.open_zarr, xr.open_dataset], ids=["open_zarr", "open_dataset"])
def test_plain_xarray_opens_it_and_finds_the_very_values(store: Path, drive: HSIDrive, opened) -> None:
    with warnings.catch_warnings(action="error"), opened(store) as found:
        assert found["cube"].dims == ("scene", "band", "y", "x")
        scene = found.sel(scene=NAME).load()
        np.testing.assert_array_equal(scene["cube"], values_of(NAME))
        np.testing.assert_array_equal(scene["labels"], codes_of(NAME))
        np.testing.assert_array_equal(found["wavelength"], drive.sensor.wavelengths_nm)
        assert (scene["cube"].dtype, scene["labels"].dtype) == (np.float32, np.uint8)
        assert scene["split"].item() == drive.table.at[NAME, "split"] == "train"
        assert (scene["season"].item(), scene["road"].item(), scene["number"].item()) == ("spring", "road", 147)
        known = {key: drive.cube(NAME).attrs[key] for key in ("units", "source", "sensor")}
        assert found["cube"].attrs == known | {"history": "v2.0 MATLAB"}
        assert found["cube"].encoding["chunks"] == (1, 25, *TILES)  # a scene is a chunk
        assert found["labels"].encoding["chunks"] == (1, *TILES)


def test_a_bar_counts_scenes_and_a_finished_store_shows_none(drive: HSIDrive, tmp_path: Path, capsys) -> None:
    other = convert_all(drive, tmp_path / "other.zarr", progress=True)
    assert f"{len(NAMES)}/{len(NAMES)} [" in capsys.readouterr().err
    convert_all(drive, other, progress=True)  # nothing is left to do
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match=f"written once, got {NAME} several times"):
        convert_all(drive, other, names=[NAMES[0], NAME, NAME])


def test_a_data_set_goes_to_other_processes(drive: HSIDrive) -> None:
    assert pickle.dumps(drive)  # as it goes to dask's processes
    xr.testing.assert_identical(copy.deepcopy(drive).cube(NAME), drive.cube(NAME))


class TestResume:
    def test_a_killed_run_continues_where_it_stopped(self, drive: HSIDrive, tmp_path: Path, monkeypatch) -> None:
        """Killed for good while scenes are written, at the third of them."""
        store, read, original = tmp_path / "store.zarr", [], HSIDrive.cube
        script = (
            "import os, hsiutils as hu\n"
            "from hsiutils.data import export as convert, zarr_store as export\n"
            "write, done = export._write, []\n"
            "export._write = lambda *one, **more: done.append(os._exit(9) if len(done) == 2 else write(*one, **more))\n"
            f"convert.to_zarr(hu.open_dataset({str(drive.root)!r}), {str(store)!r}, workers=1)\n"
        )
        assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 9  # noqa: S603
        first = written(store)
        assert len(first) == 2
        monkeypatch.setattr(HSIDrive, "cube", lambda self, name: read.append(name) or original(self, name))
        convert_all(drive, store)
        assert written(store) == sorted(first + read) == sorted(NAMES)  # none twice

    def test_another_process_may_be_the_first_to_begin(self, drive: HSIDrive, tmp_path: Path, monkeypatch) -> None:
        begin = zarr_store._create
        monkeypatch.setattr(zarr_store, "_create", lambda *given: (begin(*given), begin(*given)))
        assert written(convert_all(drive, tmp_path / "store.zarr")) == sorted(NAMES)
        assert [path.name for path in tmp_path.glob("*store*")] == ["store.zarr"]

    def test_a_finished_store_is_left_alone(self, drive: HSIDrive, store: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
        convert_all(drive, store)
        assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before

    def test_nothing_half_made_is_left_beside_it(self, drive: HSIDrive, tmp_path: Path, monkeypatch) -> None:
        def fails(*_: object, **__: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(Path, "rename", fails)
        with pytest.raises(OSError, match="disk full"):
            convert_all(drive, tmp_path / "store.zarr")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]

    def test_other_scenes_or_changed_files_are_not_mixed_in(self, drive: HSIDrive, store: Path) -> None:
        with pytest.raises(DatasetError, match=r"store\.zarr: holds other scenes than the 1 asked for"):
            convert_all(drive, store, names=[NAME])
        mat()(drive.found.scenes[NAME].cube, values_of(NAME) * 2)
        with pytest.raises(DatasetError, match="these files changed"):
            convert_all(drive, store)

    def test_a_folder_that_is_no_store(self, drive: HSIDrive, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="set: no Zarr store that can be read"):
            convert_all(drive, tmp_path / "set")
        xr.Dataset({"a": ("x", np.zeros(2))}).to_zarr(tmp_path / "other.zarr", zarr_format=2)
        with pytest.raises(DatasetError, match="lacks the variable `written`"):
            convert_all(drive, tmp_path / "other.zarr")

    def test_a_broken_scene_is_named_and_the_others_stay(self, drive: HSIDrive, tmp_path: Path) -> None:
        drive.found.scenes[NAME].cube.write_bytes(b"")
        with pytest.raises(DatasetError, match=NAME):
            convert_all(drive, tmp_path / "store.zarr")
        assert NAME not in written(tmp_path / "store.zarr")
