import holoviews as hv
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from bokeh.models import HoverTool

from hsiutils.plots.base import PALETTE
from hsiutils.plots.charts import against, bands, colours, dots, frontier, legend, lines, matrices, matrix, shares


def model(element):
    return hv.renderer("bokeh").get_plot(element).state


def test_lines_have_labelled_axes_and_colours_of_the_palette():
    plot = model(lines({"a": ([0, 1], [1, 2]), "b": ([0, 1], [2, 1])}, "time (s)", "way (m)", markers=True))
    assert (plot.below[0].axis_label, plot.left[0].axis_label) == ("time (s)", "way (m)")
    drawn = {glyph.glyph.line_color for glyph in plot.renderers if hasattr(glyph.glyph, "line_color")}
    assert {PALETTE[0], PALETTE[1]} <= drawn
    assert [item.label.value for item in plot.legend[0].items] == ["a", "b"]
    assert plot.sizing_mode == "stretch_width"


def test_curves_come_with_an_index_a_coordinate_or_as_a_table():
    pair = ([1, 2], [5.0, 6.0])
    series = pd.Series(pair[1], index=pair[0])
    array = xr.DataArray(pair[1], {"epoch": pair[0]}, ("epoch",))
    for given in ({"a": pair}, {"a": series}, {"a": array}, series.to_frame("a")):
        curve = lines(given, "epoch", "IoU (%)").Curve.A
        assert curve.dimension_values(0).tolist() == pair[0]
        assert curve.dimension_values(1).tolist() == pair[1]


def test_dots_show_every_value_beside_its_category():
    frame = pd.DataFrame({"class": ["A", "A", "B", "B"], "iou": [1.0, 2, 3, 4], "variant": ["x", "y", "x", "y"]})
    chart = dots(frame, "class", "iou", "variant", ylabel="IoU (%)")
    drawn = pd.concat([part.dframe() for part in chart.traverse(lambda e: e, [hv.Scatter])])
    places = drawn["class"]
    assert list(drawn.sort_values("IoU (%)")[["stands_at", "stands_for"]].agg("".join, axis=1)) == [
        "Ax",
        "Ay",
        "Bx",
        "By",
    ]
    said = hv.render(chart.map(lambda e: e.opts(tools=["hover"]), [hv.Scatter]), backend="bokeh").select_one(HoverTool)
    assert said.tooltips[:2] == [("class", "@{stands_at}"), ("variant", "@{stands_for}")]
    assert set(places.round()) == {0, 1}
    assert len(set(places)) == 4
    bounded = dots(frame.assign(low=0.5, high=4.5), "class", "iou", "variant", ylabel="IoU (%)")
    figure = hv.render(bounded, backend="bokeh")
    assert (figure.xaxis[0].axis_label, figure.yaxis[0].axis_label) == ("class", "IoU (%)")
    ends = np.concatenate([part.array() for part in bounded.traverse(lambda e: e, [hv.Segments])])
    assert {tuple(row) for row in ends[:, [1, 3]]} == {(0.5, 4.5)}
    assert figure.xaxis[0].major_label_orientation == "horizontal"
    long = hv.render(
        dots(
            frame.assign(**{"class": "a class of a long name, " + frame["class"]}),
            "class",
            "iou",
            "variant",
            ylabel="IoU (%)",
        )
    )
    assert long.xaxis[0].major_label_orientation == pytest.approx(np.pi / 9)


LABELS = {"row_label": "truth", "column_label": "prediction", "value_label": "share"}


def test_matrix_keeps_rows_on_top_and_writes_its_numbers():
    values = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    chart = matrix(values, ["r0", "r1"], ["c0", "c1", "c2"], **LABELS)
    texts = chart.Labels.I.data.set_index(["truth", "prediction"])["text"]
    assert texts[("r0", "c1")] == "2.00"
    assert texts[("r0", "c2")] == ""
    assert list(model(chart).y_range.factors)[-1] == "r0"  # bokeh counts from below
    assert len(matrix(values, ["r0", "r1"], ["c0", "c1", "c2"], digits=None, **LABELS)) == 1


def test_numbers_of_a_matrix_do_not_touch_on_a_phone():
    def width(number, row="r", digits=2):
        return model(matrix([[number] * 5], [row], list("abcde"), digits=digits, **LABELS)).min_width

    least = width(1.0)
    assert least >= 5 * 4 * 7 + 100  # signs of 9 points, and axis and colour bar
    assert width(-10.0) - least == 5 * (width(1.0, "rr") - least) * 2  # two signs more in each of five cells
    assert width(1.0, digits=None) == 0


@pytest.mark.parametrize(("diverging", "tones"), [(False, [0, 0, 1]), (True, [0, 1, 0])])  # 0 where the cell is dark
def test_numbers_stay_readable_on_their_cells(diverging, tones):
    chart = matrix([[-1.0, 0.0, 1.0]], ["r"], ["x", "y", "z"], diverging=diverging, **LABELS)
    assert chart.Labels.I.data["tone"].tolist() == tones


def test_an_array_with_coordinates_names_its_rows_and_columns():
    values = xr.DataArray(np.eye(2)[None], {"variant": ["x"], "t": ["r0", "r1"], "p": [0, 1]}, ("variant", "t", "p"))
    chart = matrices(values, "variant", **LABELS)
    texts = chart.frames["x",].Labels.I.data.set_index(["truth", "prediction"])["text"]
    assert texts.to_dict() == {("r0", "0"): "1.00", ("r0", "1"): "0.00", ("r1", "0"): "0.00", ("r1", "1"): "1.00"}
    with pytest.raises(ValueError, match="needs the names of its rows and columns"):
        matrix(np.eye(2), **LABELS)


def test_bands_have_a_curve_and_an_area_for_each_group():
    table = pd.DataFrame({"spread": [1.0, 0, 0, 1], "value": [2.0, 1, 3, 4], "of": ["a", "a", "b", "b"]})
    chart = bands(table.assign(low=table["value"] - 1, high=table["value"] + 1), "spread", "gain (points)", "of")
    first = next(part for part in chart if type(part) is hv.Curve)  # areas are curves, too
    assert first.array().tolist() == [[0, 1], [1, 2]]  # along the axis
    (area, _) = chart.traverse(lambda e: e, [hv.Area])
    assert area.array().tolist() == [[0, 0, 2], [1, 1, 3]]
    plot = model(chart)
    assert (plot.below[0].axis_label, plot.left[0].axis_label) == ("spread", "gain (points)")
    assert [item.label.value for item in plot.legend[0].items] == ["a", "b"]


def written(chart):
    texts = [part.dimension_values("name") for part in chart.traverse(lambda e: e, [hv.Labels])]
    return [name.strip() for name in np.concatenate(texts)]


def test_a_frontier_names_its_points_and_crosses_them_with_their_intervals():
    across = pd.DataFrame({"value": [1.0, 2], "low": [0.5, 1.5], "high": [1.5, 3]}, ["raw", "PN"])
    chart = frontier(across, across + 10, "changed (%)", "IoU (%)", path=True)
    (points,) = chart.traverse(lambda e: e, [hv.Scatter])
    assert points.array().tolist() == [[1, 11, "raw"], [2, 12, "PN"]]
    wide, tall = (part.array().tolist() for part in chart.traverse(lambda e: e, [hv.Segments]))
    assert (wide[1], tall[1]) == ([1.5, 12, 3, 12], [2, 11.5, 2, 13])
    assert written(chart) == ["raw", "PN"]
    plot = model(chart)
    assert (plot.below[0].axis_label, plot.left[0].axis_label) == ("changed (%)", "IoU (%)")


def test_a_path_names_its_ends_and_what_is_asked_and_other_points_stand_in_the_legend():
    steps = pd.DataFrame({"value": range(12), "low": 0.0, "high": 12.0}, [f"a{step}" for step in range(12)])
    chart = frontier(steps, steps, "x", "y", path=True, named=["a4", "a7"])
    assert written(chart) == ["a0", "a7", "a4", "a11"]  # to the right, then to the left: away from others, but inside
    names = chart.traverse(None, [hv.Labels])
    sides = [hv.Store.lookup_options("bokeh", part, "style").kwargs["text_align"] for part in names]
    assert sides == ["left", "right"]
    chart = frontier(steps, steps, "x", "y")
    assert not chart.traverse(lambda e: e, [hv.Labels])
    plot = model(chart)
    assert [item.label.value for item in plot.legend[0].items] == list(steps.index)
    looks = {(one.glyph.fill_color, one.glyph.marker) for one in plot.renderers if hasattr(one.glyph, "marker")}
    assert len(looks) == 12  # more points than colours


def test_inputs_have_the_same_colours_in_every_chart_and_others_the_rest():
    own = {"1": PALETTE[0], "3": PALETTE[1], "25": PALETTE[2], "25-PN": PALETTE[3]}
    assert colours(["25-PN", "3", "1", "25"]) == own
    assert colours(["25", "other"]) == {"25": own["25"], "other": PALETTE[0]}
    assert list(colours(["a", "b"]).values()) == list(PALETTE[:2])
    table = pd.DataFrame({"x": [0.0, 1], "value": 1.0, "low": 0.0, "high": 2.0, "of": "b"})
    table["of"] = pd.Categorical(table["of"], ["a", "b"])
    (curve,) = (one for one in bands(table, "x", "y", "of") if type(one) is hv.Curve)
    assert curve.opts.get("style").kwargs["color"] == PALETTE[1]  # of its category, whose first is not there


def test_a_legend_is_no_wider_than_a_phone_and_the_chart_has_room_for_it_and_for_whole_dots():
    short, long = legend(["1", "3", "25"]), legend([f"a rather long name, {n}" for n in range(3)])
    assert (short["legend_opts"]["ncols"], long["legend_opts"]["ncols"]) == (3, 1)
    assert long["height"] > short["height"]
    table = pd.DataFrame({"x": [0.0, 1], "value": 1.0, "low": 0.0, "high": 2.0, "of": ["a", "b"]})
    plot = model(bands(table, "x", "y", "of"))
    assert plot.x_range.start < 0
    assert plot.x_range.end > 1
    assert plot.legend[0].ncols == 2


def test_parts_of_a_bar_follow_one_another_and_have_their_counts():
    chart = shares(pd.DataFrame({"won": [2, 1], "lost": [3, 0]}, index=["here", "there"]), "games")
    boxes = {one.label: one.array() for one in chart if isinstance(one, hv.Rectangles)}
    assert boxes["won"][:, [0, 2]].tolist() == [[0, 2], [0, 1]]
    assert boxes["lost"][:, [0, 2]].tolist() == [[2, 5], [1, 1]]
    written = [one.dframe() for one in chart if isinstance(one, hv.Labels)]
    assert sorted(pd.concat(written)["count"]) == ["1", "2", "3"]  # none of what has none
    alone = shares(pd.DataFrame({"lost": [3]}, index=["here"]), "games", ["won", "lost"])
    (box,) = (one for one in alone if isinstance(one, hv.Rectangles))
    assert hv.Store.lookup_options("bokeh", box, "style").kwargs["color"] == PALETTE[1]  # as beside what is not there
    hv.renderer("bokeh").get_plot(chart)


def test_clouds_of_points_stand_against_the_line_of_equals():
    chart = against({"a": ([1.0, 5.0], [0.0, 2.0]), "b": ([3.0], [9.0])}, "logit", "sum")
    assert [part.label for part in chart.traverse(lambda e: e, [hv.Scatter])] == ["a", "b"]
    (line,) = chart.traverse(lambda e: e, [hv.Curve])
    assert line.array().tolist() == [[1, 1], [5, 5]]
    plot = model(chart)
    assert (plot.below[0].axis_label, plot.left[0].axis_label) == ("logit", "sum")
