"""Charts: lines, bands, dots, frontiers and matrices."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hsiutils.plots.base import CHART, DIVERGING, HEIGHT, SEQUENTIAL, Pages, colour, pages

_LEGEND_COLUMNS, _LEGEND_ROW = 3, 24
_CELL = 38
"""Least width of a cell with a number in it, in screen pixels: on a phone the chart scrolls."""
Curve: TypeAlias = tuple[ArrayLike, ArrayLike] | pd.Series | xr.DataArray
"""The values along x and along y, or numbers with an index or a coordinate."""


def lines(
    curves: Mapping[str, Curve] | pd.DataFrame, x: str, y: str, *, markers: bool = False, **options: Any
) -> hv.Overlay:
    """Draw named curves, with x and y as axis labels, which have the units.

    A curve is (x values, y values), a Series over its index, or a DataArray over its one dimension; a table has a curve
    a column, over its index.
    """
    parts = []
    for index, (name, curve) in enumerate(curves.items()):
        series = curve.to_series() if isinstance(curve, xr.DataArray) else curve
        across, up = (series.index, series) if isinstance(series, pd.Series) else series
        data = (np.asarray(across), np.asarray(up))
        parts.append(hv.Curve(data, x, y, label=str(name)).opts(color=colour(index), line_width=2))
        if markers:
            parts.append(hv.Scatter(data, x, y, label=str(name)).opts(color=colour(index), size=6))
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(len(curves))), **options))


def dots(table: pd.DataFrame, x: str, y: str, group: str, *, ylabel: str, **options: Any) -> hv.Overlay:
    """Draw every value as a dot, groups side by side within each category, so that the spread is seen.

    A long table has a row a value, and the columns x, the category; y, the value; and group, told apart by colour.
    Where it has the columns low and high, too, a line joins them.
    """
    categories, groups = (list(dict.fromkeys(table[name])) for name in (x, group))
    width = 0.8 / len(groups)
    parts = []
    for index, name in enumerate(groups):
        rows = table[table[group] == name]
        place = np.array([categories.index(item) for item in rows[x]]) + (index - (len(groups) - 1) / 2) * width
        points = hv.Scatter((place, rows[y].to_numpy(dtype=float)), x, ylabel, label=str(name))
        parts.append(points.opts(color=colour(index), size=9, alpha=0.8, line_color="white"))
        if {"low", "high"} <= set(table):
            ends = (place, rows["low"].to_numpy(), place, rows["high"].to_numpy())
            bars = hv.Segments(ends, [x, ylabel, "end", "high"])  # the axes have their labels from the first two
            parts.append(bars.opts(color=colour(index), line_width=2))
    chart = hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(len(groups))), **options))
    return chart.opts(xticks=list(enumerate(map(str, categories))), xlim=(-0.5, len(categories) - 0.5))


def bands(table: pd.DataFrame, x: str, y: str, group: str, **options: Any) -> hv.Overlay:
    """Draw a curve a group with the area between its bounds; the columns `value`, `low` and `high` of a long table.

    `x` is a column, and with `y` the label of an axis, which has the unit; a dashed line is at zero.
    """
    groups, parts = list(dict.fromkeys(table[group])), []
    for index, name in enumerate(groups):
        rows = table[table[group] == name].sort_values(x)
        across, value, low, high = (rows[column].to_numpy(dtype=float) for column in (x, "value", "low", "high"))
        area = hv.Area((across, low, high), x, [y, "high"])
        parts.append(area.opts(color=colour(index), alpha=0.2, line_alpha=0))
        parts.append(hv.Curve((across, value), x, y, label=str(name)).opts(color=colour(index), line_width=2))
        parts.append(hv.Scatter((across, value), x, y, label=str(name)).opts(color=colour(index), size=7))
    parts.append(hv.HLine(0).opts(color=colour(7), line_width=1, line_dash="dashed"))  # the axes are the first part's
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(len(groups))), **options))


def shares(counts: pd.DataFrame, x: str, order: Sequence[str] = (), **options: Any) -> hv.Overlay:
    """Draw a bar a row, cut into its parts, with their counts written on them.

    Parameters
    ----------
    counts : whole numbers; a row a bar, by name, and a column a part, of which there may be eight at most.
    x : label of the axis of counts.
    order : of all parts that there may be, by which a part has its colour, there or not; by default those of `counts`.
    """
    parts: list[Any] = []
    places = {name: (list(order) or list(counts)).index(name) for name in counts}
    rows = np.arange(len(counts))[::-1]  # the first on top
    ends = counts.to_numpy().cumsum(axis=1)
    for index, (name, own) in enumerate(counts.items()):
        count, end = own.to_numpy(), ends[:, index]
        boxes = hv.Rectangles((end - count, rows - 0.35, end, rows + 0.35), [x, "of", "end", "top"], label=str(name))
        parts.append(boxes.opts(color=colour(places[name]), line_color="white"))
    written = [
        (ends[row, index] - counts.iat[row, index] / 2, rows[row], str(counts.iat[row, index]), places[name])
        for row in range(len(counts))
        for index, name in enumerate(counts)
        if counts.iat[row, index]
    ]
    for tone, behind in (("white", (0, 4, 7)), ("#111111", (1, 2, 3, 5, 6))):  # in the dark, too
        texts = [one[:3] for one in written if one[3] % 8 in behind]
        parts.append(hv.Labels(texts, [x, "of"], "count").opts(text_color=tone, text_font_size="11pt"))
    below = {"legend_position": "bottom", "legend_cols": 1, "height": 240 + _LEGEND_ROW * counts.shape[1]}
    chart = hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | below), **options))  # one column, for a phone
    place = {"yticks": [(int(row), str(name)) for row, name in zip(rows, counts.index, strict=True)]}
    return chart.opts(**place, ylim=(-0.5, len(counts) - 0.5), ylabel="", show_grid=False)


def frontier(
    across: pd.DataFrame, up: pd.DataFrame, x: str, y: str, *, path: bool = False, **options: Any
) -> hv.Overlay:
    """Draw two figures of the same things against each other, each a point with its name and a cross of its intervals.

    Parameters
    ----------
    across, up : columns `value`, `low` and `high`, by name of the thing; as many rows in the same order.
    x, y : labels of the axes, with units.
    path : join the points by a line, in the order of the rows.
    """
    points = (across["value"].to_numpy(dtype=float), up["value"].to_numpy(dtype=float))
    wide = (across["low"].to_numpy(dtype=float), points[1], across["high"].to_numpy(dtype=float), points[1])
    tall = (points[0], up["low"].to_numpy(dtype=float), points[0], up["high"].to_numpy(dtype=float))
    ends = [x, y, "end", "high"]
    parts: list[Any] = [hv.Segments(each, ends).opts(color=colour(5), line_width=1) for each in (wide, tall)]
    if path:
        parts.append(hv.Curve(points, x, y).opts(color=colour(1), line_width=2))
    parts.append(hv.Scatter(points, x, y).opts(color=colour(0), size=9, line_color="white"))
    names = hv.Labels((*points, [f" {name}" for name in across.index]), [x, y], "name")
    parts.append(names.opts(text_color="black", text_font_size="9pt", text_align="left", text_baseline="bottom"))
    return hv.Overlay(parts).opts(
        hv.opts.Overlay(**(CHART | {"height": HEIGHT + 140, "show_legend": False}), **options)
    )


def against(points: Mapping[str, tuple[ArrayLike, ArrayLike]], x: str, y: str, **options: Any) -> hv.Overlay:
    """Draw clouds of points by name, and the line on which y is x."""
    drawn = {name: tuple(map(np.asarray, pair)) for name, pair in points.items()}
    across = np.concatenate([pair[0] for pair in drawn.values()])
    ends = np.array([across.min(), across.max()])
    parts: list[Any] = [hv.Curve((ends, ends), x, y).opts(color=colour(7), line_width=1, line_dash="dashed")]
    for index, (name, pair) in enumerate(drawn.items()):
        parts.append(hv.Scatter(pair, x, y, label=str(name)).opts(color=colour(index), size=5, alpha=0.6))
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(len(points))), **options))


def matrix(
    values: ArrayLike | xr.DataArray,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    row_label: str,
    column_label: str,
    value_label: str,
    limits: tuple[float, float] | None = None,
    diverging: bool = False,
    digits: int | None = 2,
    **options: Any,
) -> hv.Overlay:
    """Draw a matrix (rows, columns) with its numbers, first row on top.

    Rows and columns have names, by default the coordinates of a DataArray. The colours span `limits`, by default those
    of the values, and have their middle at zero if diverging. With `digits` None no numbers are written in the cells.
    """
    grid = np.asarray(values, dtype=float)
    if isinstance(values, xr.DataArray):
        rows, columns = ([str(k) for k in values[dim].values] for dim in values.dims)
    if rows is None or columns is None:
        raise ValueError("matrix: a plain array needs the names of its rows and columns")
    shown = limits or (float(np.nanmin(grid)), float(np.nanmax(grid)))
    cells = [(c, r, grid[i, j]) for i, r in enumerate(rows) for j, c in enumerate(columns)]
    heat = hv.HeatMap(cells, [column_label, row_label], value_label).opts(
        cmap=DIVERGING if diverging else SEQUENTIAL,
        clim=shown,
        colorbar=True,
        invert_yaxis=True,
        xrotation=30,
        responsive=True,
        min_width=0 if digits is None else _CELL * len(columns) + 130,
        height=max(HEIGHT, 32 * len(rows) + 120),
        toolbar=None,
        **options,
    )
    if digits is None:
        return hv.Overlay([heat])
    written = [(c, r, "" if np.isnan(value) else f"{value:.{digits}f}") for c, r, value in cells]
    table = pd.DataFrame(written, columns=[column_label, row_label, "text"]).assign(tone=_tones(grid, shown, diverging))
    return heat * hv.Labels(table, [column_label, row_label], ["text", "tone"]).opts(
        text_color="tone", cmap=["white", "black"], colorbar=False, text_font_size="9pt"
    )


def matrices(values: xr.DataArray, by: str, **options: Any) -> Pages:
    """Page through the matrices of (`by`, rows, columns); options as in `matrix`."""
    return pages({str(key): matrix(values.sel({by: key}), **options) for key in values[by].values}, by)


def _tones(grid: NDArray[np.float64], limits: tuple[float, float], diverging: bool) -> NDArray[np.float64]:
    """A tone that stays readable on the colour of each cell, row by row: 1 on light cells, 0 on dark ones."""
    values, (low, high) = grid.ravel(), limits
    if diverging:  # pale in the middle, dark at both ends
        return np.asarray(np.abs(values) < 0.6 * max(abs(low), abs(high), 1e-12), dtype=float)
    return np.asarray((values - low) / ((high - low) or 1.0) > 0.55, dtype=float)


def legend(count: int, columns: int = _LEGEND_COLUMNS) -> dict[str, Any]:
    """Options of a chart with a legend of so many names below it, with room for it: a phone has none beside it."""
    if count < 2:
        return {"show_legend": False}
    rows = -(-count // columns)
    return {"legend_position": "bottom", "legend_cols": columns, "height": HEIGHT + _LEGEND_ROW * rows + 60}
