import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tiny_hsi_drive import NAMES, TILES, codes_of, mat, values_of, write_matlab_release, write_scene
from torch.utils.data import DataLoader

from hsiutils.data.classes import HSI_DRIVE_CLASSES, VOID
from hsiutils.data.cube import pn
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.inputs import fit_variant, variant
from hsiutils.data.layouts import DatasetError
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.source import open_dataset


@pytest.fixture
def drive(tmp_path: Path) -> HSIDrive:
    return open_dataset(write_matlab_release(tmp_path))


def make_simulated(root: Path) -> None:
    (root / "simulation.json").write_text(
        json.dumps({"generator": "hsiutils.simulate", "materials": ["asphalt", "leaf"]})
    )
    (root / "truth").mkdir()
    for name in NAMES:
        with h5py.File(root / "truth" / f"{name}.h5", "w") as file:
            file["sunlit"] = np.full(TILES, 0.5, dtype=np.float32)
            file["material"] = np.full(TILES, int(name[-1]) % 2, dtype=np.int16)


class TestOpen:
    def test_scenes_carry_their_conditions_and_the_published_split(self, drive: HSIDrive) -> None:
        assert list(drive.table.columns) == ["season", "weather", "daytime", "scene", "number", "split"]
        assert drive.table.loc["nf3122_147"].tolist() == ["spring", "sunny", "midday", "road", 147, "train"]
        assert drive.names("test") == ["nf1111_576", "nf1111_577", "nf1231_700"]
        assert drive.names() == sorted(NAMES)

    def test_the_sensor_has_the_size_of_the_cubes(self, drive: HSIDrive, tmp_path: Path) -> None:
        assert (drive.sensor.tiles, drive.sensor.bands) == (TILES, HSI_DRIVE.bands)
        write_scene(tmp_path / "whole", NAMES[0], tiles=HSI_DRIVE.tiles)
        assert open_dataset(tmp_path / "whole").sensor == HSI_DRIVE

    def test_an_unknown_split_or_scene_is_refused(self, drive: HSIDrive) -> None:
        with pytest.raises(ValueError, match="'training'; there are test, train, val"):
            drive.names("training")
        for read in (drive.cube, drive.labels, drive.frame):
            with pytest.raises(DatasetError, match="no scene 'nf9' among the 5"):
                read("nf9")

    def test_another_split_can_be_put_on(self, drive: HSIDrive) -> None:
        folded = drive.with_splits(dict.fromkeys(NAMES, "train") | {NAMES[0]: "val"})
        assert folded.names("val") == [NAMES[0]]
        assert drive.names("val") == ["nf4312_301"]
        with pytest.raises(ValueError, match="no split given for 4 scenes"):
            drive.with_splits({NAMES[0]: "test"})
        with pytest.raises(ValueError, match=r"no scenes \['nf9'\] among its 5"):
            drive.with_splits(dict.fromkeys([*NAMES, "nf9"], "test"))

    def test_a_name_outside_the_code_is_refused(self, tmp_path: Path) -> None:
        write_scene(tmp_path, "nf9999_001")
        with pytest.raises(ValueError, match="nf9999_001"):
            open_dataset(tmp_path)


class TestRead:
    def test_cube_and_labels_are_those_written(self, drive: HSIDrive) -> None:
        for name in NAMES:
            cube = drive.cube(name)
            np.testing.assert_array_equal(cube, values_of(name))
            np.testing.assert_array_equal(drive.labels(name), codes_of(name))
        assert (cube.dims, cube.dtype) == (("band", "y", "x"), np.float32)
        assert (cube.attrs["source"], cube.attrs["units"]) == ("real", "reflectance")
        assert NAMES[-1] in cube.attrs["history"]

    def test_fill_values_are_pixels_without_a_value(self, tmp_path: Path) -> None:
        write_matlab_release(tmp_path)
        before = fit_variant(variant("25"), [open_dataset(tmp_path).cube(NAMES[2])]).high
        for fill in (65535.0, -9999.0, 1e35, -1.0):
            values = values_of(NAMES[2])
            values[:, 1, 2:5] = fill
            mat()(tmp_path / "Image_dataset" / "cubes_fl32" / f"{NAMES[2]}_TC.mat", values)
            cube = open_dataset(tmp_path).cube(NAMES[2])
            assert np.isnan(cube[:, 1, 2:5]).all()
            assert int(np.isnan(cube).sum()) == 75
            inputs = fit_variant(variant("25"), [cube])
            np.testing.assert_allclose(inputs.high, before, rtol=1e-3)
            assert (inputs.apply(cube)[:, 1, 2:5] == -1).all()
            assert not pn(cube)[:, 1, 2:5].any()

    def test_a_cube_of_another_size_than_the_first_is_an_error(self, tmp_path: Path) -> None:
        write_matlab_release(tmp_path)
        write_scene(tmp_path / "Image_dataset", NAMES[2], tiles=(3, 6))
        drive = open_dataset(tmp_path)
        with pytest.raises(DatasetError, match=r"nf3122_147_TC\.mat: expected .*\(25, 4, 6\).*found \(25, 3, 6\)"):
            drive.cube(NAMES[2])
        with pytest.raises(DatasetError, match=r"nf3122_147\.png: expected the size"):
            drive.labels(NAMES[2])

    def test_raw_frames_where_there_are_any(self, tmp_path: Path) -> None:
        write_matlab_release(tmp_path)
        rows, columns = HSI_DRIVE.resized(TILES).frame_shape
        frame = (np.arange(rows * columns) % 4096).astype("<u2")
        folder = tmp_path / "Image_dataset" / "raw"
        folder.mkdir()
        (folder / f"{NAMES[0]}.bin").write_bytes(frame.tobytes())
        drive = open_dataset(tmp_path)
        np.testing.assert_array_equal(drive.frame(NAMES[0]).ravel(), frame)
        with pytest.raises(DatasetError, match=r"no raw frame of nf1111_577; expected raw/nf1111_577\.bin"):
            drive.frame(NAMES[1])
        path = folder / f"{NAMES[0]}.bin"
        for damage, message in (
            (lambda: path.write_bytes(frame.tobytes()[:-2]), f"expected {2 * frame.size} bytes"),
            (path.unlink, "the file is missing"),
            (path.mkdir, "a folder"),
        ):
            damage()
            with pytest.raises(DatasetError, match=rf"{NAMES[0]}\.bin: {message}"):
                drive.frame(NAMES[0])


class TestSimulated:
    def test_is_known_by_its_manifest_and_has_truth_beside_it(self, drive: HSIDrive, tmp_path: Path) -> None:
        assert (drive.origin, drive.truth(NAMES[0])) == ("real", None)
        make_simulated(tmp_path)
        for root in (tmp_path, tmp_path / "Image_dataset"):
            drive = open_dataset(root)
            assert drive.origin == drive.cube(NAMES[0]).attrs["source"] == "simulated"
            truth = drive.truth("nf3122_147")
            assert truth["sunlit"].dims == ("y", "x")
            assert set(truth["material"].values.ravel()) == {1}
            assert truth.attrs["materials"] == ["asphalt", "leaf"]
        (tmp_path / "simulation.json").write_text('{"generator": "other"}')
        with pytest.raises(ValueError, match=r"simulation\.json"):
            open_dataset(tmp_path)

    def test_broken_truth_is_named(self, tmp_path: Path) -> None:
        make_simulated(write_matlab_release(tmp_path))
        drive, path = open_dataset(tmp_path), tmp_path / "truth" / f"{NAMES[0]}.h5"

        def resize() -> None:
            with h5py.File(path, "w") as file:
                file["sunlit"] = np.zeros((4, 5))

        for damage, message in (
            (resize, r"sunlit: expected the size of the cube, \(4, 6\), found \(4, 5\)"),
            (lambda: path.write_bytes(path.read_bytes()[:100]), r"cannot be read \(100 bytes\)"),
            (path.unlink, "the file is missing"),
        ):
            damage()
            with pytest.raises(DatasetError, match=rf"nf1111_576\.h5: {message}"):
                drive.truth(NAMES[0])


class TestScenes:
    def test_gives_scaled_inputs_and_merged_classes(self, drive: HSIDrive) -> None:
        fitted = fit_variant(variant("25-PN+I"), map(drive.cube, drive.names("train")))
        scenes = drive.scenes(drive.names("test"), fitted)
        assert len(scenes) == 3
        (inputs, classes), name = scenes[1], drive.names("test")[1]
        assert (inputs.shape, inputs.dtype, classes.dtype) == ((26, *TILES), torch.float32, torch.int64)
        np.testing.assert_array_equal(inputs, fitted.apply(drive.cube(name)))
        np.testing.assert_array_equal(classes, HSI_DRIVE_CLASSES.merge(codes_of(name)))
        np.testing.assert_array_equal(classes == VOID, codes_of(name) == 0)
        with pytest.raises(IndexError, match="scene 3 of 3"):
            scenes[3]

    def test_goes_through_a_loader_with_workers(self, drive: HSIDrive) -> None:
        scenes = drive.scenes(drive.names(), fit_variant(variant("1-PN"), []))
        inputs, classes = next(iter(DataLoader(scenes, batch_size=5, num_workers=1)))
        assert inputs.shape == (5, 1, *TILES)
        np.testing.assert_array_equal(classes[2], HSI_DRIVE_CLASSES.merge(codes_of(drive.names()[2])))

    def test_the_cache_reads_each_file_once(self, drive: HSIDrive) -> None:
        fitted = fit_variant(variant("3-PN"), [])
        cached, plain = (drive.scenes(drive.names(), fitted, cache=c) for c in (True, False))
        first = cached[0]
        drive.found.scenes[drive.names()[0]].cube.unlink()
        assert torch.equal(cached[0][0], first[0])
        with pytest.raises(DatasetError, match="missing"):
            plain[0]

    def test_band_scaled_cubes_cannot_be_normalised_per_pixel(self, tmp_path: Path) -> None:
        for name in NAMES:
            write_scene(tmp_path, name, mat("cube_fl32"), cubes="cubes_float32", suffix="_MF_TC_N_fl32.mat")
        drive = open_dataset(tmp_path)
        assert drive.cube(NAMES[0]).attrs["units"] == "band-wise min-max scaled"
        with pytest.raises(DatasetError, match=r"v1\.1\): holds band-wise min-max scaled values.*needs reflectance"):
            drive.scenes(drive.names(), fit_variant(variant("25-PN"), []))
        drive.scenes(drive.names(), fit_variant(variant("1"), map(drive.cube, drive.names())))
