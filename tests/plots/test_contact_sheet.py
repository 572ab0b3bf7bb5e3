from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_hsi_drive import NAMES, codes_of, write_matlab_release

from hsiutils.data.classes import LABELS
from hsiutils.data.cube import pseudocolour
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.source import open_dataset
from hsiutils.plots.contact_sheet import contact_sheet

GAP, CAPTION, WIDTH, HEIGHT = 8, 18, 60, 40  # a picture of 4 x 6 pixels, ten times enlarged


@pytest.fixture
def data(tmp_path: Path) -> HSIDrive:
    return open_dataset(write_matlab_release(tmp_path / "set"))


def picture(sheet: np.ndarray, number: int, columns: int, labels: bool) -> np.ndarray:
    row, column = divmod(number, columns)
    left = GAP + column * (2 * WIDTH + GAP) + labels * WIDTH
    top = GAP + row * (HEIGHT + CAPTION + GAP)
    return sheet[top : top + HEIGHT, left : left + WIDTH]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_each_scene_stands_in_its_place_with_its_labels(data: HSIDrive, tmp_path: Path) -> None:
    sheet = read(contact_sheet(data, tmp_path / "sheet.png", columns=2, width=WIDTH))
    palette = np.array([label.rgb for label in LABELS])
    for number, name in enumerate(sorted(NAMES)):
        shown = picture(sheet, number, 2, labels=True)[5::10, 5::10]
        np.testing.assert_array_equal(shown, palette[codes_of(name)])
        colour = picture(sheet, number, 2, labels=False)[5::10, 5::10] / 255
        assert np.abs(colour - pseudocolour(data.cube(name)).values).mean() < 0.05


def test_palette_is_on_the_sheet_and_the_captions_are_not_empty(data: HSIDrive, tmp_path: Path) -> None:
    sheet = read(contact_sheet(data, tmp_path / "sheet.png", columns=5, width=WIDTH))
    below = sheet[GAP + HEIGHT + CAPTION + GAP :].reshape(-1, 3)
    assert all((below == label.rgb).all(axis=1).sum() > 50 for label in LABELS)
    caption = sheet[GAP + HEIGHT : GAP + HEIGHT + CAPTION, GAP : GAP + 2 * WIDTH]
    assert 0.01 < (caption.mean(axis=2) < 128).mean() < 0.5


def test_names_choose_the_scenes_and_the_order(data: HSIDrive, tmp_path: Path) -> None:
    sheet = read(contact_sheet(data, tmp_path / "sheet.png", [NAMES[3], NAMES[0]], width=WIDTH))
    assert sheet.shape[1] == 2 * (2 * WIDTH + GAP) + GAP  # no wider than its scenes
    palette = np.array([label.rgb for label in LABELS])
    first = picture(sheet, 0, 2, labels=True)[5::10, 5::10]
    np.testing.assert_array_equal(first, palette[codes_of(NAMES[3])])


def test_a_broken_scene_leaves_its_place_empty(data: HSIDrive, tmp_path: Path) -> None:
    data.found.scenes[sorted(NAMES)[1]].cube.write_bytes(b"")
    sheet = read(contact_sheet(data, tmp_path / "sheet.png", columns=2, width=WIDTH))
    assert (picture(sheet, 1, 2, labels=False) == 255).all()
    assert (picture(sheet, 2, 2, labels=True) != 255).any()


def test_same_set_same_bytes_and_nothing_else(data: HSIDrive, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        contact_sheet(data, tmp_path / folder / "sheet.png")
    assert (tmp_path / "a" / "sheet.png").read_bytes() == (tmp_path / "b" / "sheet.png").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["sheet.png"]
    with Image.open(tmp_path / "a" / "sheet.png") as image:
        assert image.text["Description"] == "real scenes of v2.0 MATLAB"


@pytest.mark.parametrize("wrong", [{"names": []}, {"columns": 0}, {"width": 0}])
def test_nothing_to_show_is_an_error(data: HSIDrive, tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ValueError, match="need scenes, columns and width"):
        contact_sheet(data, tmp_path / "sheet.png", **wrong)
