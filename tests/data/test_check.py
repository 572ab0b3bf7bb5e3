import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_hsi_drive import (
    NAMES,
    TILES,
    codes_of,
    mat,
    mat73,
    npy_bands_last,
    values_of,
    write_matlab_release,
    write_scene,
)

from hsiutils.data.check import COLUMNS, check_dataset
from hsiutils.data.layouts import DatasetError
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.source import open_dataset
from hsiutils.simulate import Simulation, write_dataset

FIRST = NAMES[0]


def check(root: Path, **options) -> pd.DataFrame:
    """The findings, without the one that any set of a few pixels has."""
    found = check_dataset(root, **options)
    return found[~found["expected"].str.startswith("216 x 409 (imec")].reset_index(drop=True)


def cube(root: Path, name: str = FIRST) -> Path:
    return root / "Image_dataset" / "cubes_fl32" / f"{name}_TC.mat"


def label(root: Path, name: str = FIRST) -> Path:
    return root / "Image_dataset" / "labels" / f"{name}.png"


def frame(root: Path, name: str = FIRST) -> Path:
    path = root / "Image_dataset" / "raw" / f"{name}.bin"
    path.parent.mkdir(exist_ok=True)
    rows, columns = HSI_DRIVE.resized(TILES).frame_shape
    np.full((rows, columns), 7, "<u2").tofile(path)
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(path.name.replace(FIRST, name)))


def both_renamed(root: Path, name: str) -> None:
    for path in (cube(root), label(root)):
        rename(path, name)


def image(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def spoilt(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    mat()(cube(root), change(values_of(FIRST)))


def with_nan(values: np.ndarray) -> np.ndarray:
    values[3:5, 1, 2] = np.nan
    return values


def filled(values: np.ndarray) -> np.ndarray:
    values[:, 0, :3], values[:, 3, 5] = 65535, -9999
    return values


def banded(values: np.ndarray) -> np.ndarray:
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    return (values - low) / (high - low)


def whole_numbers(values: np.ndarray) -> np.ndarray:
    return (np.arange(values.size).reshape(values.shape) % 4).astype("u2")


def flat(values: np.ndarray) -> np.ndarray:
    values[[2, 9]] = 0.5
    return values


def lists(root: Path, train: list[str], val: list[str]) -> None:
    base = root / "Image_dataset"
    (base / "training_filenames.txt").write_text("\n".join(train))
    (base / "validation_filenames.txt").write_text("\n".join(val))


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    # what is done to a sound set: severity, file and words that one finding must have
    "cube lost": (lambda r: cube(r).unlink(), "error", f"labels/{FIRST}.png", "no cube"),
    "labels lost": (lambda r: label(r).unlink(), "error", f"cubes_fl32/{FIRST}_TC.mat", "no label image"),
    "cube cut short": (lambda r: truncate(cube(r)), "error", f"{FIRST}_TC.mat", "damaged or cut short"),
    "cube empty": (lambda r: cube(r).write_bytes(b""), "error", f"{FIRST}_TC.mat", "damaged or cut short"),
    "labels cut short": (lambda r: truncate(label(r)), "error", f"{FIRST}.png", "damaged or cut short"),
    "wrong variable": (lambda r: mat("x")(cube(r), values_of(FIRST)), "error", "_TC.mat", r"found \['x'\]"),
    "transposed": (lambda r: spoilt(r, lambda v: np.moveaxis(v, 0, -1)), "error", "_TC.mat", r"\(4, 6, 25\); the axes"),
    "turned": (lambda r: spoilt(r, lambda v: v.swapaxes(1, 2)), "error", "_TC.mat", r"\(25, 6, 4\); the axes"),
    "another size": (lambda r: spoilt(r, lambda v: v[:, :3]), "error", "_TC.mat", r"found \(25, 3, 6\)"),
    "a band short": (lambda r: spoilt(r, lambda v: v[:24]), "error", "_TC.mat", r"found \(24, 4, 6\)"),
    "complex": (lambda r: spoilt(r, lambda v: v + 1j), "error", "_TC.mat", "found complex"),
    "double": (lambda r: spoilt(r, lambda v: v.astype(float)), "note", "_TC.mat", "stored as float64"),
    "integers": (lambda r: spoilt(r, whole_numbers), "warning", "_TC", "stored as uint16"),
    "fill values": (lambda r: spoilt(r, filled), "error", "_TC.mat", "100 values in 4 pixels are 65535, -9999: fill"),
    "not finite": (lambda r: spoilt(r, with_nan), "error", "_TC.mat", "2 values in 1 pixels are not finite"),
    "constant": (lambda r: spoilt(r, flat), "error", "_TC.mat", r"one value throughout in bands \[2, 9\]"),
    "band-wise scaled": (lambda r: spoilt(r, banded), "error", "_TC.mat", "every band runs from 0 to 1"),
    "PN applied": (lambda r: spoilt(r, lambda v: v / v.sum(0)), "error", "_TC.mat", "sums to one"),
    "raw numbers": (lambda r: spoilt(r, lambda v: v * 4000), "error", "_TC.mat", "100.0% of the values outside 0..4"),
    "negative": (lambda r: spoilt(r, lambda v: v - 0.58), "warning", "_TC.mat", "% of the values outside 0..4"),
    "copied": (lambda r: cube(r).write_bytes(cube(r, NAMES[1]).read_bytes()), "error", NAMES[1], "the same bytes as"),
    "unknown codes": (lambda r: image(label(r), codes_of(FIRST) + 9), "error", f"{FIRST}.png", "unknown label codes"),
    "labels turned": (lambda r: image(label(r), codes_of(FIRST).T), "error", f"{FIRST}.png", r"found \(6, 4\)"),
    "coloured labels": (lambda r: image(label(r), np.full((*TILES, 3), 99, "u1")), "error", f"{FIRST}.png", "colours"),
    "nothing labelled": (lambda r: image(label(r), np.zeros(TILES, "u1")), "warning", f"{FIRST}.png", "no pixel"),
    "frame cut short": (lambda r: truncate(frame(r)), "error", f"raw/{FIRST}.bin", "cut short"),
    "frame missing": (lambda r: frame(r, NAMES[1]), "note", f"cubes_fl32/{FIRST}_TC.mat", "no raw frame"),
    "impossible name": (lambda r: both_renamed(r, "nf9111_576"), "error", "nf9111_576_TC.mat", "does not parse"),
    "unknown name": (lambda r: both_renamed(r, "nf4433_576"), "warning", "nf4433_576", "no image of"),
    "an addition": (lambda r: both_renamed(r, "nf1111_800"), "note", "nf1111_800", "no image of"),
    "number twice": (lambda r: both_renamed(r, "nf1112_577"), "error", "cubes_fl32", "number 577"),
    "second": (lambda r: image(label(r, f"{FIRST}_TC"), codes_of(FIRST)), "error", f"{FIRST}_TC.png", "second label"),
    "another release's file": (
        lambda r: cube(r, "x").with_name(f"{FIRST}_MF_TC_N_fl32.mat").write_bytes(b""),
        "warning",
        "_MF_TC_N_fl32.mat",
        r"a file of v1\.1 among those of v2\.0 MATLAB",
    ),
    "a file of no release": (lambda r: cube(r, "notes").write_bytes(b""), "note", "notes_TC.mat", "another name"),
    "listed twice": (lambda r: lists(r, list(NAMES), [FIRST]), "error", "validation_filenames", "listed in training"),
    "listed, not there": (lambda r: lists(r, [*NAMES, "nf1111_575"], []), "warning", "training_", "without a cube"),
    "not listed": (
        lambda r: lists(r, list(NAMES[1:]), []),
        "error",
        "Image_dataset",
        rf"1 scenes in no list \(training_filenames.txt, validation_filenames.txt\): {FIRST}",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_fault_is_found_and_named_and_only_there(tmp_path: Path, damage: str) -> None:
    do, severity, file, words = DAMAGES[damage]
    write_matlab_release(tmp_path)
    do(tmp_path)
    findings = check(tmp_path)
    fitting = findings[findings["file"].str.contains(file) & findings["found"].str.contains(words)]
    assert fitting["severity"].tolist() == [severity] * len(fitting)
    assert len(fitting) == 1, findings.to_string()
    assert (findings["what to do"].str.len() > 5).all()
    follow = {"number twice": 1, "frame missing": 3, "frame cut short": 4}  # no such name; no frame of the other scenes
    assert len(findings) == 1 + follow.get(damage, 0), findings.to_string()
    if severity != "error":  # it can be read
        drive = open_dataset(tmp_path)
        assert len([(drive.cube(name), drive.labels(name)) for name in drive.names()]) == len(NAMES)


def test_a_sound_set_has_no_findings(tmp_path: Path) -> None:
    write_matlab_release(tmp_path)
    for name in NAMES:
        frame(tmp_path, name)
    assert check(tmp_path).empty
    assert tuple(check(tmp_path).columns) == COLUMNS


def test_all_faults_come_in_one_table_errors_first(tmp_path: Path) -> None:
    write_matlab_release(tmp_path)
    image(label(tmp_path, NAMES[3]), np.zeros(TILES, "u1"))
    truncate(cube(tmp_path, NAMES[1]))
    label(tmp_path, NAMES[2]).unlink()
    spoilt(tmp_path, with_nan)
    found = check(tmp_path)
    assert found["severity"].tolist() == ["error", "error", "error", "warning"]
    assert set(found["scene"]) == {NAMES[0], NAMES[1], NAMES[2], NAMES[3]}


def test_garbled_headers_are_findings_too(tmp_path: Path) -> None:
    """Parsers raise on them what no one would expect of a parser: RuntimeError, tokenize.TokenError."""
    write_matlab_release(tmp_path / "a")
    mat73(cube(tmp_path / "a"), values_of(FIRST))
    assert check(tmp_path / "a").empty
    cube(tmp_path / "a").write_bytes(cube(tmp_path / "a").read_bytes().replace(b"TREE", b"EERT"))
    for name in (NAMES[1], FIRST):
        path = write_scene(tmp_path / "b", name, npy_bands_last, "images/test", ".npy", "annotations/test")
    path.write_bytes(path.read_bytes().replace(b"), }", b"(((("))
    for root in (tmp_path / "a", tmp_path / "b"):
        assert check_dataset(root).query("severity == 'error'")["scene"].tolist() == [FIRST]


def test_not_one_readable_cube(tmp_path: Path) -> None:
    """Every one is reported; a folder in the place of a file is one more that cannot be read."""
    write_matlab_release(tmp_path)
    for name in NAMES:
        cube(tmp_path, name).unlink()
        cube(tmp_path, name).mkdir()
    found = check(tmp_path)
    assert sorted(found.loc[found["file"].str.endswith(".mat"), "scene"]) == sorted(NAMES)
    assert (found["severity"] == "error").all()


def test_small_cubes_are_a_note_and_rows_and_columns_exchanged_an_error(tmp_path: Path) -> None:
    found = check_dataset(write_matlab_release(tmp_path))
    assert found["severity"].tolist() == ["note"]
    assert "cubes of 4 x 6 pixels" in found["found"][0]
    write_scene(tmp_path / "b", FIRST, tiles=(409, 216))
    found = check_dataset(tmp_path / "b")
    assert found["severity"][0] == "error"
    assert "409 x 216 pixels: rows and columns exchanged" in found["found"][0]


def test_scenes_twice_in_the_python_release_do_not_hide_other_faults(tmp_path: Path) -> None:
    write = partial(write_scene, tmp_path, write=npy_bands_last, suffix=".npy")
    for part in ("training", "test"):
        write(FIRST, cubes=f"images/{part}", labels=f"annotations/{part}")
    write(NAMES[2], cubes="images/test", labels="annotations/test").write_bytes(b"")
    found = check(tmp_path)
    assert found["found"].str.contains("second cube").sum() == 1
    assert found["found"].str.contains("second label image").sum() == 1
    assert found.loc[found["scene"] == NAMES[2], "found"].str.contains("cannot be read").all()
    with pytest.raises(DatasetError, match="is there twice"):
        open_dataset(tmp_path)


def test_releases_side_by_side_must_hold_the_same_scenes(tmp_path: Path) -> None:
    write_matlab_release(tmp_path)
    write_scene(tmp_path / "Image_dataset", FIRST, cubes="cubes_fl32/MF", suffix="_MF_TC.mat")
    found = check(tmp_path)
    assert found["found"].str.contains("5 scenes as v2.0 MATLAB, 1 as v2.0 MATLAB MF").sum() == 1
    assert check(tmp_path, layout="v2.0 MATLAB").empty


def test_scaled_releases_are_held_to_zero_to_one(tmp_path: Path) -> None:
    write = partial(write_scene, tmp_path, cubes="cubes_float32", suffix="_MF_TC_N_fl32.mat", labels="Labels")
    write(FIRST, write=lambda path, values: mat("cube_fl32")(path, banded(values)))
    assert check(tmp_path).empty
    write(FIRST, write=lambda path, values: mat("cube_fl32")(path, 3 * values))
    assert check(tmp_path)["found"].str.contains("values from 1.73 to").tolist() == [True]


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    found = check_dataset(tmp_path)
    assert found["severity"].tolist() == ["error"]
    assert "cubes_fl32" in found["expected"][0]
    with pytest.raises(DatasetError, match="no such folder"):
        check_dataset(tmp_path / "absent")


def test_simulated_files_are_held_to_their_record(tmp_path: Path) -> None:
    write_dataset(tmp_path, ["nf3122_147"], Simulation(tiles=(18, 34)), workers=1, progress=False)
    assert check(tmp_path).query("severity == 'error'").empty
    record = tmp_path / "scenes" / "nf3122_147.json"
    sealed = json.loads(record.read_text())
    sealed["sha256"]["truth/nf3122_147.h5"] = "0" * 64
    record.write_text(json.dumps(sealed))
    assert check(tmp_path)["found"].str.contains("differ from their record").sum() == 1
    (tmp_path / "simulation.json").write_text("{")
    errors = check(tmp_path).query("severity == 'error'")
    assert errors["found"].str.contains("damaged simulation.json").tolist() == [True]
