import numpy as np
import pytest
from PIL import Image
from tiny_hsi_drive import NAMES, codes_of, write_matlab_release

from hsiutils.data.classes import LABELS
from hsiutils.data.cube import pseudocolour
from hsiutils.data.source import open_dataset
from hsiutils.plots.contact_sheet import contact_sheet

GAP, CAPTION, WIDTH, HEIGHT = 8, 18, 60, 40  # a picture of 4 x 6 pixels, ten times enlarged
PALETTE = np.array([label.rgb for label in LABELS])


@pytest.fixture
def data(tmp_path):
    return open_dataset(write_matlab_release(tmp_path / "set"))


def drawn(data, path, names=None, columns=2):
    """The sheet, and both pictures (number, picture, y, x, 3) of its scenes, a pixel of each of theirs."""
    with Image.open(contact_sheet(data, path / "sheet.png", names, columns=columns, width=WIDTH)) as image:
        sheet = np.asarray(image.convert("RGB"))
    corners = [divmod(number, columns) for number in range(len(names or NAMES))]
    places = [(GAP + row * (HEIGHT + CAPTION + GAP), GAP + column * (2 * WIDTH + GAP)) for row, column in corners]
    cells = np.stack([sheet[top : top + HEIGHT, left : left + 2 * WIDTH] for top, left in places])[:, 5::10, 5::10]
    return sheet, np.stack(np.split(cells, 2, axis=2), axis=1)


def test_each_scene_stands_in_its_place_with_its_labels(data, tmp_path):
    for number, name in enumerate(sorted(NAMES)):
        colour, labels = drawn(data, tmp_path)[1][number]
        np.testing.assert_array_equal(labels, PALETTE[codes_of(name)])
        assert np.abs(colour / 255 - pseudocolour(data.cube(name)).values).mean() < 0.05


def test_palette_is_on_the_sheet_and_the_captions_are_not_empty(data, tmp_path):
    sheet, _ = drawn(data, tmp_path, columns=5)
    below = sheet[GAP + HEIGHT + CAPTION + GAP :].reshape(-1, 3)
    assert all((below == rgb).all(axis=1).sum() > 50 for rgb in PALETTE)
    caption = sheet[GAP + HEIGHT : GAP + HEIGHT + CAPTION, GAP : GAP + 2 * WIDTH]
    assert 0.01 < (caption.mean(axis=2) < 128).mean() < 0.5


def test_names_choose_the_scenes_and_the_order_and_a_broken_scene_leaves_its_place_empty(data, tmp_path):
    sheet, shown = drawn(data, tmp_path, [NAMES[3], NAMES[0]])
    assert sheet.shape[1] == 2 * (2 * WIDTH + GAP) + GAP  # no wider than its scenes
    np.testing.assert_array_equal(shown[0, 1], PALETTE[codes_of(NAMES[3])])
    data.found.scenes[sorted(NAMES)[1]].cube.write_bytes(b"")
    _, shown = drawn(data, tmp_path)
    assert (shown[1, 0] == 255).all()
    assert (shown[2, 1] != 255).any()


def test_same_set_same_bytes_and_nothing_else(data, tmp_path):
    for folder in ("a", "b"):
        contact_sheet(data, tmp_path / folder / "sheet.png")
    assert (tmp_path / "a" / "sheet.png").read_bytes() == (tmp_path / "b" / "sheet.png").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["sheet.png"]
    with Image.open(tmp_path / "a" / "sheet.png") as image:
        assert image.text["Description"] == "real scenes of v2.0 MATLAB"


@pytest.mark.parametrize("wrong", [{"names": []}, {"columns": 0}, {"width": 0}])
def test_nothing_to_show_is_an_error(data, tmp_path, wrong):
    with pytest.raises(ValueError, match="need scenes, columns and width"):
        contact_sheet(data, tmp_path / "sheet.png", **wrong)
