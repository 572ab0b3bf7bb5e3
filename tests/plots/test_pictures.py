import base64
import io
import re

import numpy as np
from PIL import Image

from hsiutils.data.classes import HSI_DRIVE_CLASSES, VOID
from hsiutils.plots.pictures import colourise, marked, montage, paint, signed


def test_classes_are_painted_apart_and_void_is_black():
    picture = paint(np.array([[0, 1, 2, 3, 4, VOID]], dtype=np.uint8), HSI_DRIVE_CLASSES)
    assert len({tuple(pixel) for pixel in picture[0]}) == 6
    assert picture[0, 5].tolist() == [0, 0, 0]
    assert picture[0, 0].tolist() == [0x59] * 3
    own = paint(np.arange(5), HSI_DRIVE_CLASSES, palette={"Sky": "#010203"})
    assert own[:3].tolist() == [list(rgb) for rgb in HSI_DRIVE_CLASSES.colours[:3]]
    assert own[3].tolist() == [1, 2, 3]


def test_colours_span_the_limits_and_show_what_is_missing():
    picture = colourise(np.array([[0.0, 1.0, 9.0, np.nan]]), (0, 1))
    assert picture[0, 1].tolist() == picture[0, 2].tolist()
    assert picture[0, 0].tolist() != picture[0, 1].tolist()
    assert picture[0, 3].tolist() == [128, 128, 128]
    assert colourise(np.full((2, 3), 7.0)).shape == (2, 3, 3)
    assert (colourise(np.full((2, 3), np.nan)) == 128).all()
    picture = signed(np.array([[-2.0, 0.0, 2.0]])).astype(int)[0]  # blue, white, red
    assert picture[1].min() > 240
    assert picture[2, 0] > picture[2, 2]
    assert picture[0, 2] > picture[0, 0]
    assert (signed(np.zeros((2, 2)))[0, 0] == picture[1]).all()


def test_a_montage_shows_its_pictures_exactly_under_their_names():
    tiles = {str(i): np.random.default_rng(i).integers(0, 256, (4, 6, 3), dtype=np.uint8) for i in range(3)}
    page = montage(tiles, title="a < b\nc")._repr_html_()
    assert ">a &lt; b\nc<" in page
    assert re.findall(r"<p>(\d)</p>", page) == ["0", "1", "2"]
    shown = re.findall(r'width="6" height="4" src="data:image/webp;base64,([^"]+)"', page)
    for tile, source in zip(tiles.values(), shown, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")), tile)
    assert "--hsi-columns: 1" in montage({"one": tiles["0"]})._repr_html_()


def test_photographs_take_less_room_than_maps_which_stay_exact():
    values = np.random.default_rng(0).normal(size=(60, 90)).cumsum(0).cumsum(1)
    pictures = {"map": colourise(values), "photograph": colourise(values)}
    jitter = np.random.default_rng(1).integers(-6, 7, (60, 90, 3))
    pictures["photograph"] = (pictures["photograph"] + jitter).clip(0, 255).astype(np.uint8)
    sources = re.findall(r"webp;base64,([^\"]+)", montage(pictures)._repr_html_())
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")) for source in sources]
    np.testing.assert_array_equal(shown[0], pictures["map"])
    assert 0 < np.abs(shown[1].astype(int) - pictures["photograph"]).mean() < 6
    file = io.BytesIO()
    Image.fromarray(pictures["photograph"]).save(file, "webp", lossless=True)
    assert len(sources[1]) < len(file.getvalue())


def test_marks_frame_their_places_and_leave_them_and_the_rest_as_they_were():
    picture = np.full((20, 30, 3), 7, np.uint8)
    framed = marked(picture, [(10, 15), (0, 0)])
    assert (framed[8:13, 13:18] == 7).all()
    assert (framed[6:8, 11:20] == 255).all()
    assert (framed[5, 10:21] == 0).all()
    assert (framed[:, 25:] == 7).all()
    assert (framed[0, 0] == 7).all()
    assert (picture == 7).all()
