import re

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgb

from hsiutils.data.classes import CLASSES, VOID
from hsiutils.paper import run as pipeline
from hsiutils.plots import scenes as scene_plots
from hsiutils.plots.activations import spread
from hsiutils.plots.base import PALETTE, colour, show, start
from hsiutils.plots.charts import bars, dots, lines, matrix
from hsiutils.plots.pictures import class_colours, colourise, image, montage, pages, paint
from hsiutils.plots.tables import table


@pytest.fixture(scope="module", autouse=True)
def _backend():
    start()


def html(element, alt="What is to be seen."):
    return show(element, alt)._repr_html_()


def model(element):
    return hv.renderer("bokeh").get_plot(element).state


def test_a_figure_carries_its_description_escaped():
    page = html(lines({"a": ([0, 1], [1, 2])}, "x (m)", "y (m)"), 'Left "a" < right')
    assert 'aria-label="Left &quot;a&quot; &lt; right"' in page
    assert "docs_json" in page


def test_a_figure_without_description_is_refused():
    with pytest.raises(ValueError, match="description"):
        show(hv.Curve([1, 2]), "  ")


def test_lines_have_labelled_axes_and_colours_of_the_palette():
    plot = model(lines({"a": ([0, 1], [1, 2]), "b": ([0, 1], [2, 1])}, "time (s)", "way (m)", markers=True))
    assert (plot.below[0].axis_label, plot.left[0].axis_label) == ("time (s)", "way (m)")
    drawn = {glyph.glyph.line_color for glyph in plot.renderers if hasattr(glyph.glyph, "line_color")}
    assert {PALETTE[0], PALETTE[1]} <= drawn
    assert [item.label.value for item in plot.legend[0].items] == ["a", "b"]


def test_charts_follow_the_width_of_the_page():
    plot = model(lines({"a": ([0, 1], [1, 2])}, "x", "y"))
    assert plot.sizing_mode == "stretch_width"


def test_dots_show_every_value_beside_its_category():
    frame = pd.DataFrame({"class": ["A", "A", "B", "B"], "iou": [1.0, 2, 3, 4], "variant": ["x", "y", "x", "y"]})
    chart = dots(frame, "class", "iou", "variant", ylabel="IoU (%)")
    places = np.concatenate([part.dimension_values(0) for part in chart.traverse(lambda e: e, [hv.Scatter])])
    values = np.concatenate([part.dimension_values(1) for part in chart.traverse(lambda e: e, [hv.Scatter])])
    assert sorted(values) == [1, 2, 3, 4]
    assert set(places.round()) == {0, 1}
    assert len(set(places)) == 4


def test_matrix_keeps_rows_on_top_and_writes_its_numbers():
    values = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    labels = {"row_label": "truth", "column_label": "prediction", "value_label": "share"}
    chart = matrix(values, ["r0", "r1"], ["c0", "c1", "c2"], **labels)
    texts = chart.Labels.I.data.set_index(["truth", "prediction"])["text"]
    assert texts[("r0", "c1")] == "2.00"
    assert texts[("r0", "c2")] == ""
    assert list(model(chart).y_range.factors)[-1] == "r0"  # bokeh counts from below
    assert len(matrix(values, ["r0", "r1"], ["c0", "c1", "c2"], digits=None, **labels)) == 1


def test_numbers_stay_readable_on_their_cells():
    labels = {"row_label": "a", "column_label": "b", "value_label": "c"}
    values = [[-1.0, 0.0, 1.0]]
    plain = matrix(values, ["r"], ["x", "y", "z"], **labels).Labels.I.data["tone"]
    two_sided = matrix(values, ["r"], ["x", "y", "z"], diverging=True, **labels).Labels.I.data["tone"]
    assert plain.tolist() == [0, 0, 1]  # dark to light
    assert two_sided.tolist() == [0, 1, 0]  # dark at both ends


def test_bars_have_the_values():
    assert bars({"a": 1.0, "b": 2.0}, "x", "y").dimension_values("y").tolist() == [1.0, 2.0]


def test_classes_are_painted_apart_and_void_is_black():
    picture = paint(np.array([[0, 1, 2, 3, 4, VOID]], dtype=np.uint8))
    assert len({tuple(pixel) for pixel in picture[0]}) == 6
    assert picture[0, 5].tolist() == [0, 0, 0]
    assert set(class_colours()) == set(CLASSES)
    road = [round(255 * part) for part in to_rgb(class_colours()["Road"])]
    assert picture[0, 0].tolist() == road


def test_colours_span_the_limits_and_show_what_is_missing():
    picture = colourise(np.array([[0.0, 1.0, 9.0, np.nan]]), (0, 1))
    assert picture[0, 1].tolist() == picture[0, 2].tolist()
    assert picture[0, 0].tolist() != picture[0, 1].tolist()
    assert picture[0, 3].tolist() == [128, 128, 128]


def test_a_map_without_contrast_or_without_numbers_is_still_a_picture():
    assert colourise(np.full((2, 3), 7.0)).shape == (2, 3, 3)
    assert (colourise(np.full((2, 3), np.nan)) == 128).all()


def test_picture_keeps_its_proportions_and_stands_upright():
    rgb = np.zeros((10, 30, 3), dtype=np.uint8)
    rgb[0] = 255
    chart = image(rgb, labels=[(0, 0, "top")])
    plot = model(chart)
    assert (plot.sizing_mode, plot.aspect_ratio) == ("scale_width", 3)
    assert (chart.RGB.I[:, 9.5].dimension_values(2) == 255).all()  # the first row is the uppermost
    assert (chart.RGB.I[:, 0.5].dimension_values(2) == 0).all()
    assert chart.Labels.I.data.iloc[0, 1] == 10  # rows count from the top


def test_montage_puts_tiles_row_by_row():
    tiles = {str(i): np.full((4, 6, 3), i, dtype=np.uint8) for i in range(3)}
    chart = montage(tiles)
    sheet = chart.RGB.I
    assert sheet.bounds.lbrt() == (0, 0, 16, 12)
    assert chart.Labels.I.data.iloc[:, 2].tolist() == ["0", "1", "2"]


def test_pages_work_without_a_server():
    page = html(pages({1: hv.Curve([1, 2]), 2: hv.Curve([2, 1])}, "channel"))
    assert re.search(r"Slider|Select", page)
    assert "channel" in page


def test_palette_starts_over():
    assert colour(len(PALETTE)) == PALETTE[0]
    assert len(set(PALETTE)) == 8


def test_table_says_what_is_unknown():
    text = table(pd.DataFrame({"a": [1.234, np.nan]}), "Of what.", {"a": "{:.1f}"}).to_html()
    assert "Of what." in text
    assert ">1.2<" in text
    assert ">unknown<" in text
    assert 'class="hsi-table"' in text


def test_scenes_are_shown_with_what_is_known(tiny_run):
    drive = pipeline.data(tiny_run)
    name = drive.names("test")[0]
    panels = scene_plots.scene_panels(drive, name)
    assert list(panels) == ["simulated, pseudo-colour", "labels", "after PN", "sunlit share"]
    assert all(panel.shape == (16, 32, 3) and panel.dtype == np.uint8 for panel in panels.values())
    maps = {"3": {name: np.zeros((16, 32), dtype=np.uint8)}}
    assert len(scene_plots.prediction_pages(drive, maps, [name])) == 1
    assert next(iter(scene_plots.scene_pages(drive, [name]).keys())).startswith(f"{name} (")


@pytest.mark.parametrize(("seeds", "labels"), [(2, {"mean over seeds", "one seed"}), (1, {"the network"})])
def test_one_network_is_not_drawn_as_a_mean(seeds, labels):
    each = xr.DataArray(np.ones((1, seeds)), {"variant": ["25-PN"]}, ("variant", "seed"))
    bounds = pd.DataFrame({"mean": [1.0], "low": [0.5], "high": [2.0]}, index=["25-PN"])
    drawn = spread(each, bounds, "input", "figure (1)")
    assert {part.label for part in drawn if isinstance(part, hv.Scatter)} == labels
