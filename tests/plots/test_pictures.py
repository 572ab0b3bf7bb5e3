import holoviews as hv
import numpy as np

from hsiutils.data.classes import HSI_DRIVE_CLASSES, VOID
from hsiutils.plots.pictures import colourise, image, montage, paint, signed


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


def test_picture_keeps_its_proportions_and_stands_upright():
    rgb = np.zeros((10, 30, 3), dtype=np.uint8)
    rgb[0] = 255
    chart = image(rgb, labels=[(0, 0, "top")])
    plot = hv.renderer("bokeh").get_plot(chart).state
    assert (plot.sizing_mode, plot.aspect_ratio) == ("scale_width", 3)
    assert (chart.RGB.I[:, 9.5].dimension_values(2) == 255).all()  # the first row is the uppermost
    assert (chart.RGB.I[:, 0.5].dimension_values(2) == 0).all()
    assert chart.Labels.I.data.iloc[0, 1] == 10  # rows count from the top


def test_montage_puts_tiles_row_by_row():
    chart = montage({str(i): np.full((4, 6, 3), i, dtype=np.uint8) for i in range(3)})
    assert chart.RGB.I.bounds.lbrt() == (0, 0, 16, 12)
    assert chart.Labels.I.data.iloc[:, 2].tolist() == ["0", "1", "2"]
