from functools import partial
from pathlib import Path

import numpy as np
import other_kinds
import pytest
import spectral
import xarray as xr
from other_kinds import PARTS, SIZE, image_of, rgb_set, write_rgb
from typer.testing import CliRunner

from hsiutils.book.commands import app
from hsiutils.data.check import check_dataset
from hsiutils.data.classes import VOID, Classes, Label
from hsiutils.data.cube import pseudocolour
from hsiutils.data.inputs import fit_inputs
from hsiutils.data.layouts import DatasetError
from hsiutils.data.rgb_folder import CAMVID_CLASSES, RGBFolder
from hsiutils.data.source import open_dataset
from hsiutils.data.statistics import data_info

CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid"
codes_of = partial(other_kinds.codes_of, count=12)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return rgb_set(tmp_path)


def test_scenes_are_those_written(root: Path) -> None:
    data = open_dataset(root)
    assert isinstance(data, RGBFolder)
    assert (data.names("train"), data.names("val"), data.names("test")) == (["a", "b"], ["c"], ["d"])
    np.testing.assert_allclose(data.cube("a") * 255, np.moveaxis(image_of("a"), -1, 0), rtol=1e-6)
    np.testing.assert_array_equal(data.labels("a"), codes_of("a"))
    np.testing.assert_array_equal(data.classes.merge(data.labels("a")) == VOID, codes_of("a") == 11)
    assert data.classes == CAMVID_CLASSES
    shown = pseudocolour(data.cube("a"), percentiles=(0, 100))
    np.testing.assert_array_equal(shown.argmax("y"), data.cube("a").transpose("y", "x", "band").argmax("y"))


def test_other_classes_come_from_a_list(root: Path) -> None:
    """Such as CamVid's 32, whose label images have colours; a code can be merged into another's class."""
    (root / "classes.yaml").write_text(
        "- {code: 0, name: Sky, rgb: [1, 2, 3]}\n- {code: 40, name: Car, rgb: [4, 5, 6]}\n"
        "- {code: 41, name: Lorry, rgb: [7, 8, 9], class: Car}\n- {code: 30, name: Void, rgb: [0, 0, 0], void: true}\n"
    )
    colours = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9), (0, 0, 0)], dtype=np.uint8)
    for name in PARTS:
        write_rgb(root, name, codes=colours[codes_of(name) % 4])
    data = open_dataset(root)
    assert data.classes.names == ("Sky", "Car")
    np.testing.assert_array_equal(data.labels("c"), np.array([0, 40, 41, 30])[codes_of("c") % 4])
    np.testing.assert_array_equal(data.classes.merge(data.labels("c")), np.array([0, 1, 1, VOID])[codes_of("c") % 4])
    assert check_dataset(root).empty
    own = Classes(("a",), (Label(0, "a", (0, 0, 0)),), (0,))
    assert open_dataset(root, classes=own).classes is own
    (root / "classes.yaml").write_text("- {name: Sky}\n")
    with pytest.raises(ValueError, match=r"classes\.yaml: expected a list of .*KeyError: 'code'"):
        open_dataset(root)


def test_halves_without_the_other_are_left_out_and_counted(root: Path) -> None:
    (root / "trainannot" / "b.png").unlink()
    (root / "val" / "c.png").rename(root / "val" / "e.png")
    data = open_dataset(root)
    assert data.names() == ["a", "d"]
    assert data_info(data).at["left out, for labels or image are missing", "value"] == "3 (b, c, e)"
    (root / "test" / "a.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"\['a'\] in test and another part"):
        open_dataset(root)
    assert check_dataset(root)["found"].tolist() == ["['a'] in test and another part; a name must be there once"]


def test_every_fault_is_found(root: Path) -> None:
    assert check_dataset(root).empty
    (root / "train" / "a.png").write_bytes((root / "train" / "a.png").read_bytes()[:60])
    write_rgb(root, "b", image=image_of("b")[:4])
    write_rgb(root, "c", image=image_of("c")[..., 0], codes=codes_of("c") + np.uint8(1))
    write_rgb(root, "d", codes=np.full(SIZE, 11, np.uint8))
    found = check_dataset(root).set_index("scene")["found"]
    assert "damaged or cut short" in found["a"]
    assert "found RGB of (4, 8)" in found["b"]
    assert "found L of (6, 8)" in found["c"].iloc[0]
    assert "unknown label codes [12]" in found["c"].iloc[1]
    assert "no pixel is labelled" in found["d"]


def test_the_commands_take_it(root: Path, tmp_path: Path) -> None:
    sheet, store, images = tmp_path / "sheet.png", tmp_path / "store.zarr", tmp_path / "envi"
    for words in (["check", root], ["info", root], ["quicklook", root, sheet], ["convert", root, store],
                  ["convert", root, images, "--to", "envi"]):  # fmt: skip
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 0, done.output
        assert words[0] != "info" or "Bicyclist" in done.output
    with xr.open_dataset(store) as opened:
        np.testing.assert_array_equal(opened["labels"].sel(scene="b"), codes_of("b"))
    np.testing.assert_array_equal(spectral.open_image(str(images / "labels" / "b.hdr")).read_band(0), codes_of("b"))
    assert sheet.is_file()


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not at hand")
def test_the_real_camvid_is_sound() -> None:
    data = open_dataset(CAMVID)
    assert [len(data.names(split)) for split in ("train", "val", "test")] == [60, 16, 24]
    assert check_dataset(CAMVID).empty
    x, y = data.scenes("test", fit_inputs("all-PN", data))[3]
    assert x.shape == (3, 360, 480)
    assert set(y.unique().tolist()) <= {*range(11), VOID}
