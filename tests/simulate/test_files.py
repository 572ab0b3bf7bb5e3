from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import loadmat
from skimage.io import imread

from hsiutils.data import raw
from hsiutils.data.hsidrive import read_settings
from hsiutils.data.names import split_of
from hsiutils.data.source import open_dataset
from hsiutils.simulate import files
from hsiutils.simulate.draws import draw_names
from hsiutils.simulate.files import is_complete, simulate_dataset, write_dataset, write_scene
from hsiutils.simulate.frame import Simulation, render

SMALL = Simulation(tiles=(8, 16))
NAMES = draw_names(3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("simulated")
    write_dataset(root, NAMES, SMALL, workers=1, progress=False)
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_files_are_what_render_gives(made: Path) -> None:
    name = NAMES[1]
    frame, stored = render(name, SMALL), raw.read_frame(made / f"Image_dataset/raw/{name}.bin", SMALL.sensor)
    np.testing.assert_array_equal(stored, frame.exposure.frame)
    np.testing.assert_array_equal(imread(made / f"Image_dataset/labels/{name}.png"), frame.labels, strict=True)
    with h5py.File(made / f"truth/{name}.h5") as truth:
        assert set(truth) == {"sunlit", "depth_m", "material", "object_id"}
        for key, values in frame.truth.items():
            np.testing.assert_array_equal(truth[key], values)


def test_cube_is_the_raw_frame_through_the_real_chain(made: Path) -> None:
    name, chip = NAMES[2], SMALL.sensor
    frame, white, dark = (raw.read_frame(made / place, chip) for place in
                          (f"Image_dataset/raw/{name}.bin", "references/white.bin", "references/dark.bin"))  # fmt: skip
    expected = raw.reflectance_cube(frame, chip, white, dark).values
    cube = loadmat(made / f"Image_dataset/cubes_fl32/{name}_TC.mat")["cube"]
    np.testing.assert_array_equal(cube, expected)
    assert (cube.shape, cube.dtype) == ((25, 8, 16), np.float32)


def test_record_says_simulated_and_how(made: Path) -> None:
    settings = read_settings(made)
    assert settings["simulated"] is True
    assert settings["simulation"] == {**settings["simulation"], "seed": 0, "tiles": [8, 16]}
    assert {name: one["split"] for name, one in settings["frames"].items()} == {n: split_of(n) for n in NAMES}
    assert all(one["exposure_s"] > 0 for one in settings["frames"].values())
    assert settings["white"]["exposure_s"] > 0


def test_same_bytes_from_two_processes_in_another_order(made: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, NAMES[::-1], SMALL, workers=2, progress=False)
    assert content(tmp_path) == content(made)


def test_one_call_simulates_and_opens(made: Path, tmp_path: Path) -> None:
    data = simulate_dataset(str(tmp_path), scenes=3, tiles=SMALL.tiles, workers=1, progress=False)
    assert content(tmp_path) == content(made)
    assert (data.origin, sorted(data.names()), data.sensor.tiles) == ("simulated", sorted(NAMES), SMALL.tiles)


def test_interrupted_run_continues_and_repairs_scenes_and_references(made: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, NAMES[:1], SMALL, workers=1, progress=False)
    write_dataset(tmp_path, NAMES[:2], SMALL, workers=1, progress=False)
    kept = tmp_path / f"Image_dataset/raw/{NAMES[0]}.bin"
    time = kept.stat().st_mtime_ns
    cube = tmp_path / f"Image_dataset/cubes_fl32/{NAMES[1]}_TC.mat"
    cube.write_bytes(cube.read_bytes()[:-5])
    assert is_complete(tmp_path, NAMES[0])
    assert not is_complete(tmp_path, NAMES[1])
    white, dark = tmp_path / "references/white.bin", tmp_path / "references/dark.bin"
    white.write_bytes(bytes(len(white.read_bytes())))
    dark.unlink()
    write_dataset(tmp_path, NAMES, SMALL, workers=1, progress=False)
    assert content(tmp_path) == content(made)
    assert kept.stat().st_mtime_ns == time


def test_a_failure_midway_leaves_only_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(files, "savemat", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_scene(tmp_path, NAMES[0], SMALL)
    assert not is_complete(tmp_path, NAMES[0])
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def test_other_settings_are_refused_and_their_scenes_not_taken_for_complete(tmp_path: Path) -> None:
    other = replace(SMALL, seed=1)
    write_dataset(tmp_path, NAMES[:1], other, workers=1, progress=False)
    with pytest.raises(ValueError, match=r"other settings \(simulation: .*'seed': 1.*choose another folder"):
        write_dataset(tmp_path, NAMES[:1], SMALL, workers=1, progress=False)
    (tmp_path / "simulation.json").unlink()
    assert is_complete(tmp_path, NAMES[0], other)
    assert not is_complete(tmp_path, NAMES[0], SMALL)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"sha256": {}}', '{"sha256": {"../x": 1}}'])
def test_a_damaged_record_counts_as_missing(made: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / f"{NAMES[0]}.json").write_text(damage)
    assert not is_complete(tmp_path, NAMES[0])
    assert is_complete(made, NAMES[0])


@pytest.mark.parametrize(("text", "message"), [('{"generator": "other"}', "expected the settings"), ("{", "not JSON")])
def test_foreign_simulation_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "simulation.json").write_text(text)
    with pytest.raises(ValueError, match=rf"simulation\.json: {message}"):
        write_dataset(tmp_path, NAMES, SMALL, progress=False)


def test_names_are_checked_before_any_work(tmp_path: Path) -> None:
    for names, message in ((["nf3122_147"] * 2, r"come twice.*nf3122_147"), (["nf1111_001"], "no image")):
        with pytest.raises(ValueError, match=message):
            write_dataset(tmp_path, names, SMALL, progress=False)
    assert not list(tmp_path.iterdir())


def test_an_ideal_camera_takes_the_same_streets_and_has_no_raw_frames(made: Path, tmp_path: Path) -> None:
    ideal, name = replace(SMALL, noise=False, displaced=False), NAMES[0]
    write_dataset(tmp_path, NAMES[:1], ideal, workers=1, progress=False)
    assert not list(tmp_path.rglob(f"{name}.bin"))
    for place in (f"Image_dataset/labels/{name}.png", f"truth/{name}.h5"):
        assert (tmp_path / place).read_bytes() == (made / place).read_bytes()
    settings, usual = (read_settings(root)["simulation"] for root in (tmp_path, made))
    assert settings == {**usual, "noise": False, "displaced": False}
    assert not {"noise", "displaced", "chip"} & usual.keys(), "as data sets that were made before there was a choice"
    ours, theirs = (open_dataset(root).cube(name).values.ravel() for root in (tmp_path, made))
    other = open_dataset(made).cube(NAMES[1]).values.ravel()
    # Of so few tiles each is large, and its bands see places far apart.
    assert 1 > np.corrcoef(ours, theirs)[0, 1] > 0.8 > 0.6 > np.corrcoef(ours, other)[0, 1]


def test_exposure_can_be_compensated(made: Path, tmp_path: Path) -> None:
    absolute = replace(SMALL, compensate_exposure=True)
    write_dataset(tmp_path, NAMES[:1], absolute, workers=1, progress=False)
    settings = read_settings(tmp_path)
    ratio = settings["white"]["exposure_s"] / settings["frames"][NAMES[0]]["exposure_s"]
    place = f"Image_dataset/cubes_fl32/{NAMES[0]}_TC.mat"
    scaled, plain = (loadmat(root / place)["cube"] for root in (tmp_path, made))
    np.testing.assert_allclose(scaled, plain * ratio, rtol=1e-5)
