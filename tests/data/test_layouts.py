from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_hsi_drive import NAMES, codes_of, mat, npy_bands_last, values_of, write_matlab_release, write_scene

from hsiutils.data.check import check_dataset
from hsiutils.data.layouts import LAYOUTS, DatasetError
from hsiutils.data.source import open_dataset

WRITTEN = {
    "v2.0 MATLAB": ("Image_dataset", {}),
    "v2.0 MATLAB MF": ("Image_dataset", {"cubes": "cubes_fl32/MF", "suffix": "_MF_TC.mat"}),
    "v2.0 MATLAB u16": ("Image_dataset", {"cubes": "cubes_u16", "suffix": "_TC_u16.mat", "write": mat("cube_u16")}),
    "v2.1 unscaled": (".", {"cubes": "Cubes_NoScaling", "suffix": "_RC_TC.npy", "write": np.save, "labels": "Labels"}),
    "v2.1 unscaled MF": (".", {"cubes": "Cubes_NoScaling/MF", "suffix": "_RC_MF_TC.npy", "write": np.save}),
    "v2.1 scaled": (".", {"cubes": "Cubes_Scaling", "suffix": "_RC_TC.npy", "write": np.save, "labels": "Labels"}),
    "v2.1 MATLAB unscaled": ("Image_dataset", {"cubes": "cubes_fl32/Cubes_NoScaling", "suffix": "_RC_TC.mat"}),
    "v2.1 MATLAB unscaled MF": ("Image_dataset", {"cubes": "cubes_fl32/Cubes_NoScaling/MF", "suffix": "_RC_MF_TC.mat"}),
    "v2.1 MATLAB scaled": ("Image_dataset", {"cubes": "cubes_fl32/Cubes_Scaling", "suffix": "_RC_TC.mat"}),
    "v1.1": (
        "Image_dataset",
        {"cubes": "cubes_float32", "suffix": "_MF_TC_N_fl32.mat", "write": mat("cube_fl32"), "label_suffix": "_TC"},
    ),
    "v1.1 u16": ("", {"cubes": "cubes_uint16", "suffix": "_MF_TC_N_u16.mat", "write": mat("cube_u16")}),
    "v2.0 Python": (
        "HSIDrive20",
        {"cubes": "images/test", "labels": "annotations/test", "suffix": ".npy", "write": npy_bands_last},
    ),
    "v2.0 Python MF": (
        "HSIDrive20",
        {"cubes": "images_MF/test", "labels": "annotations/test", "suffix": ".npy", "write": npy_bands_last},
    ),
}


@pytest.mark.parametrize("layout", [layout.name for layout in LAYOUTS])
def test_every_layout_is_recognised_and_read(layout: str, tmp_path: Path) -> None:
    base, files = WRITTEN[layout]
    for name in NAMES:
        write_scene(tmp_path / base, name, **files)
    drive = open_dataset(tmp_path)
    assert drive.layout == layout
    assert drive.others == ()
    assert drive.names() == sorted(NAMES)
    np.testing.assert_array_equal(drive.cube(NAMES[2]), values_of(NAMES[2]))
    np.testing.assert_array_equal(drive.labels(NAMES[2]), codes_of(NAMES[2]))


def test_the_preferred_copy_is_opened_and_the_others_are_named(tmp_path: Path) -> None:
    write_matlab_release(tmp_path)
    for name in NAMES:
        write_scene(tmp_path / "Image_dataset", name, cubes="cubes_fl32/MF", suffix="_MF_TC.mat")
    drive = open_dataset(tmp_path)
    assert (drive.layout, drive.others) == ("v2.0 MATLAB", ("v2.0 MATLAB MF",))
    filtered = open_dataset(tmp_path, layout="v2.0 MATLAB MF")
    assert (filtered.layout, filtered.others) == ("v2.0 MATLAB MF", ("v2.0 MATLAB",))
    with pytest.raises(DatasetError, match=r"layout v1\.1 here; it holds v2\.0 MATLAB, v2\.0 MATLAB MF"):
        open_dataset(tmp_path, layout="v1.1")


def test_folders_of_the_python_release_are_its_split(tmp_path: Path) -> None:
    write = partial(write_scene, tmp_path / "HSIDrive20", write=npy_bands_last, suffix=".npy")
    for name, part in zip(NAMES, ["training", "training", "validation", "test", "test"], strict=True):
        write(name, cubes=f"images/{part}", labels=f"annotations/{part}")
    drive = open_dataset(tmp_path)
    expected = [sorted(NAMES[:2]), [NAMES[2]], sorted(NAMES[3:])]
    assert [drive.names(split) for split in ("train", "val", "test")] == expected
    write(NAMES[0], cubes="images/test", labels="annotations/test")
    with pytest.raises(DatasetError, match="nf1111_576 is there twice"):
        open_dataset(tmp_path)


def test_a_list_may_be_garbled_and_must_not_repeat_another(tmp_path: Path) -> None:
    """What can be read of it counts; `hsiutils.data.check` says what is missing."""
    base = write_matlab_release(tmp_path) / "Image_dataset"
    (base / "test_filenames.txt").write_bytes(b"\xff\xfe\x00" + "\n".join(NAMES).encode())
    assert open_dataset(base).names("test") == sorted(NAMES)
    (base / "training_filenames.txt").write_text(f"{NAMES[0]}.npy\n{NAMES[1]}.npy\n")
    with pytest.raises(DatasetError, match=r"training_filenames\.txt: lists nf1111_576, which is in test already"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("form", ["{}", "HSIDrive20\\training\\{}_TC.npy", "é, {}"])
def test_lists_are_read_in_any_encoding_and_case(encoding: str, form: str, tmp_path: Path) -> None:
    base = write_matlab_release(tmp_path) / "Image_dataset"
    split = {"Training_Filenames.TXT": NAMES[3:], "val_filenames.txt": NAMES[1:3], "test_filenames.txt": NAMES[:1]}
    for file, names in split.items():
        (base / file).write_bytes("\r\n".join(form.format(name.upper()) for name in names).encode(encoding))
    data = open_dataset(tmp_path)
    assert [data.names(split) for split in ("train", "val", "test")] == [sorted(names) for names in split.values()]


@pytest.mark.parametrize("listed", [[], NAMES[1:]])
def test_lists_without_some_scenes_are_an_error_and_not_another_split(listed, tmp_path: Path) -> None:
    base = write_matlab_release(tmp_path) / "Image_dataset"
    (base / "training_filenames.txt").write_text("\n".join(listed))
    with pytest.raises(DatasetError, match=rf"training_filenames.txt list {len(listed)} of the 5 scenes, and not nf"):
        open_dataset(tmp_path)


def test_names_are_told_in_any_case(tmp_path: Path) -> None:
    """As copying through other file systems leaves them."""
    base = write_matlab_release(tmp_path) / "Image_dataset"
    (base / "cubes_fl32" / "nf1111_576_Coef.mat").write_bytes(b"")  # not of the set, and ignored
    (base / "labels" / "Thumbs.db").write_bytes(b"")
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.upper()))
    data = open_dataset(tmp_path)
    assert data.names() == sorted(NAMES)
    np.testing.assert_array_equal(data.cube(NAMES[2]), values_of(NAMES[2]))
    np.testing.assert_array_equal(data.labels(NAMES[2]), codes_of(NAMES[2]))
    assert (check_dataset(tmp_path)["severity"] == "note").all()


def test_nothing_recognised_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path)
    message = str(caught.value)
    assert "found in it: pictures/, readme.txt" in message
    assert all(layout.folder in message for layout in LAYOUTS)
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(tmp_path / "absent")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("labels/nf1111_577.png", "1 scenes have a cube and no label image, such as nf1111_577; 4 are complete"),
        ("cubes_fl32/nf3122_147_TC.mat", "1 scenes have a label image and no cube, such as nf3122_147"),
        ("labels", "5 scenes have a cube and no label image"),
    ],
)
def test_a_missing_half_of_a_pair_is_an_error(lost: str, message: str, tmp_path: Path) -> None:
    write_matlab_release(tmp_path)
    (tmp_path / "Image_dataset" / lost).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)
