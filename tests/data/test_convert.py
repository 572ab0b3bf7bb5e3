import pickle
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from distributed import LocalCluster
from tiny_hsi_drive import NAMES, TILES, codes_of, mat, values_of, write_matlab_release

from hsiutils.data import export as convert
from hsiutils.data.export import to_zarr
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import open_dataset

NAME = NAMES[2]


@pytest.fixture
def drive(tmp_path: Path) -> HSIDrive:
    return open_dataset(write_matlab_release(tmp_path / "set"))


def convert_all(drive: HSIDrive, store: Path, **options) -> Path:
    return to_zarr(drive, store, **{"scheduler": "synchronous", "progress": False, **options})


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
        assert found["cube"].attrs == {k: drive.cube(NAME).attrs[k] for k in ("units", "source", "sensor")} | {
            "history": "v2.0 MATLAB"
        }


def test_a_scene_is_a_chunk(store: Path) -> None:
    with xr.open_zarr(store) as found:
        assert found["cube"].encoding["chunks"] == (1, 25, *TILES)
        assert found["labels"].encoding["chunks"] == (1, *TILES)


def test_threads_write_the_same_bytes(drive: HSIDrive, store: Path, tmp_path: Path) -> None:
    other = convert_all(drive, tmp_path / "other.zarr", scheduler="threads")
    assert files(other) == files(store)


def test_the_bar_counts_scenes_and_tells_the_time_left(drive: HSIDrive, tmp_path: Path, capsys) -> None:
    convert_all(drive, tmp_path / "store.zarr", progress=True)
    assert f"{len(NAMES)}/{len(NAMES)} [" in capsys.readouterr().err
    convert_all(drive, tmp_path / "store.zarr", progress=True)  # nothing is left to do
    assert not capsys.readouterr().err


def test_other_processes_can_be_told_what_to_write(drive: HSIDrive) -> None:
    twin = pickle.loads(pickle.dumps(drive))  # noqa: S301 - what dask's processes and clusters do
    xr.testing.assert_identical(twin.cube(NAME), drive.cube(NAME))


def test_a_cluster_is_given_by_its_address(drive: HSIDrive, store: Path, tmp_path: Path) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        other = convert_all(drive, tmp_path / "other.zarr", scheduler=cluster.scheduler_address)
    assert files(other) == files(store)


def test_a_cluster_without_its_package_is_a_clear_error(drive: HSIDrive, tmp_path: Path, monkeypatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(convert, "import_module", missing)
    with pytest.raises(DatasetError, match="needs the package distributed"):
        convert_all(drive, tmp_path / "store.zarr", scheduler="tcp://node1:8786")


class TestResume:
    def test_an_interrupted_run_continues_where_it_stopped(self, drive: HSIDrive, tmp_path: Path, monkeypatch) -> None:
        store, read = tmp_path / "store.zarr", []

        def cube(self: HSIDrive, name: str) -> xr.DataArray:
            if len(read) == 3:
                raise KeyboardInterrupt
            read.append(name)
            return original(self, name)

        original = HSIDrive.cube
        monkeypatch.setattr(HSIDrive, "cube", cube)
        with pytest.raises(KeyboardInterrupt):
            convert_all(drive, store)
        first = list(read)
        with xr.open_zarr(store) as found:
            assert found["scene"].values[found["written"].values == 1].tolist() == sorted(first)
        monkeypatch.setattr(HSIDrive, "cube", lambda self, name: read.append(name) or original(self, name))
        convert_all(drive, store)
        assert sorted(read) == sorted(NAMES)  # none twice
        with xr.open_zarr(store) as found:
            for name in NAMES:
                np.testing.assert_array_equal(found["cube"].sel(scene=name), values_of(name))

    def test_a_killed_run_goes_on(self, drive: HSIDrive, tmp_path: Path) -> None:
        """Killed for good while scenes are written, at the third of them."""
        store, mark = tmp_path / "store.zarr", tmp_path / "waiting"
        script = (
            "import pathlib, time\n"
            "from hsiutils.data import export as convert\n"
            "from hsiutils.data.source import open_dataset\n"
            "write, done = convert._write_scene, []\n"
            "def slow(*scene):\n"
            "    if len(done) == 2:\n"
            f"        pathlib.Path({str(mark)!r}).touch()\n"
            "        time.sleep(600)\n"
            "    done.append(write(*scene))\n"
            "convert._write_scene = slow\n"
            f"convert.to_zarr(open_dataset({str(drive.root)!r}), {str(store)!r}, scheduler='synchronous')\n"
        )
        started = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)  # noqa: S603
        try:
            while not mark.exists():
                assert started.poll() is None
                time.sleep(0.05)
        finally:
            started.kill()
            started.wait()
        with xr.open_zarr(store) as found:
            assert int(found["written"].sum()) == 2
        convert_all(drive, store)
        with xr.open_zarr(store) as found:
            assert (found["written"] == 1).all()
            for name in NAMES:
                np.testing.assert_array_equal(found["cube"].sel(scene=name), values_of(name))
                np.testing.assert_array_equal(found["labels"].sel(scene=name), codes_of(name))

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
        with pytest.raises(DatasetError, match=r"lacks \['cube', 'labels', 'written'\]"):
            convert_all(drive, tmp_path / "other.zarr")

    def test_a_broken_scene_is_named_and_the_others_stay(self, drive: HSIDrive, tmp_path: Path) -> None:
        drive.found.scenes[NAME].cube.write_bytes(b"")
        with pytest.raises(DatasetError, match=NAME):
            convert_all(drive, tmp_path / "store.zarr")
        with xr.open_zarr(tmp_path / "store.zarr") as found:
            assert found["written"].sel(scene=NAME) == 0
            for name in found["scene"].values[found["written"].values == 1].tolist():
                np.testing.assert_array_equal(found["cube"].sel(scene=name), values_of(name))
