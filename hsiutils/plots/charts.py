"""Charts: lines, bands, dots, frontiers and matrices."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hsiutils.plots.base import CHART, DIVERGING, HEIGHT, PALETTE, SEQUENTIAL, Pages, colour, pages

_PHONE = 300
"""Least width of a legend, in screen pixels."""
_LEGEND_COLUMNS, _LEGEND_ROW, _LEGEND_MARK, _LETTER = 4, 22, 34, 7
"""Most columns, and heights and widths in screen pixels, of a row, of a mark, of a letter."""
INPUTS = {"1": 0, "3": 1, "25": 2, "25-PN": 3}
"""Places in the palette of the paper's inputs, which have the same colour in every chart."""
_MARKERS = ("circle", "square", "triangle", "diamond")
_SIGN, _AROUND = 6, 125
"""Least width of a sign of a matrix, and of all around it but its rows' names, in screen pixels: a phone scrolls it."""
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
    tones = colours(curves)
    for name, curve in curves.items():
        series = curve.to_series() if isinstance(curve, xr.DataArray) else curve
        across, up = (series.index, series) if isinstance(series, pd.Series) else series
        data = (np.asarray(across), np.asarray(up))
        parts.append(hv.Curve(data, x, y, label=str(name)).opts(color=tones[str(name)], line_width=2))
        if markers:
            parts.append(hv.Scatter(data, x, y, label=str(name)).opts(color=tones[str(name)], size=6))
    room = {"xlim": _room(*(part.dimension_values(0) for part in parts))} if markers else {}
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(curves) | room | options)))


def dots(table: pd.DataFrame, x: str, y: str, group: str, *, ylabel: str, **options: Any) -> hv.Overlay:
    """Draw every value as a dot, groups side by side within each category, so that the spread is seen.

    A long table has a row a value, and the columns x, the category; y, the value; and group, told apart by colour.
    A categorical column keeps its order, and the colours of those of its categories that are not there.
    Where it has the columns low and high, too, a line joins them.
    """
    categories, groups = list(dict.fromkeys(table[x])), list(dict.fromkeys(table[group]))
    tones, width = colours(_known(table[group])), 0.8 / len(groups)
    parts = []
    for index, name in enumerate(groups):
        rows = table[table[group] == name]
        place = np.array([categories.index(item) for item in rows[x]]) + (index - (len(groups) - 1) / 2) * width
        told = rows[x].astype(str).to_numpy(), np.full(len(rows), str(name))
        points = hv.Scatter(
            (place, rows[y].to_numpy(dtype=float), *told), x, [ylabel, _AT, _OF], label=str(name)
        )  # under the pointer not the place on the axis, but what stands there
        points = points.opts(hover_tooltips=[(x, f"@{_AT}"), (group, f"@{_OF}"), ylabel])
        parts.append(points.opts(color=tones[str(name)], size=9, alpha=0.8, line_color="white"))
        if {"low", "high"} <= set(table):
            ends = (place, rows["low"].to_numpy(), place, rows["high"].to_numpy())
            bars = hv.Segments(ends, [x, ylabel, "end", "high"])  # the axes have their labels from the first two
            parts.append(bars.opts(color=tones[str(name)], line_width=2))
    chart = hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(groups)), **options))
    wide = sum(_LETTER * (len(str(name)) + 2) for name in categories) > _PHONE
    across = {"xticks": list(enumerate(map(str, categories))), "xlim": (-0.5, len(categories) - 0.5)}
    return chart.opts(**across, **({"xrotation": 20} if wide and "xrotation" not in options else {}))


def bands(table: pd.DataFrame, x: str, y: str, group: str, **options: Any) -> hv.Overlay:
    """Draw a curve a group with the area between its bounds; the columns `value`, `low` and `high` of a long table.

    `x` is a column, and with `y` the label of an axis, which has the unit; a dashed line is at zero. Colours as of
    `dots`.
    """
    groups, tones, parts = list(dict.fromkeys(table[group])), colours(_known(table[group])), []
    for name in groups:
        rows = table[table[group] == name].sort_values(x)
        across, value, low, high = (rows[column].to_numpy(dtype=float) for column in (x, "value", "low", "high"))
        area, tone = hv.Area((across, low, high), x, [y, "high"]), tones[str(name)]
        parts.append(area.opts(color=tone, alpha=0.2, line_alpha=0))
        parts.append(hv.Curve((across, value), x, y, label=str(name)).opts(color=tone, line_width=2))
        parts.append(hv.Scatter((across, value), x, y, label=str(name)).opts(color=tone, size=7))
    room = {"xlim": _room(table[x])}
    parts.append(hv.HLine(0).opts(color=colour(7), line_width=1, line_dash="dashed"))  # the axes are the first part's
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(groups) | room | options)))


_GREY = "#666666"
_AT, _OF = "stands_at", "stands_for"
"""Columns of dots that are not drawn."""


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
        shade = colour(places[name])  # but no black, which turns pale in the dark, under white figures
        parts.append(boxes.opts(color=_GREY if shade == "#000000" else shade, line_color="white"))
    written = [
        (ends[row, index] - counts.iat[row, index] / 2, rows[row], str(counts.iat[row, index]), places[name])
        for row in range(len(counts))
        for index, name in enumerate(counts)
        if counts.iat[row, index]
    ]
    for tone, behind in (("white", (0, 4, 7)), ("#111111", (1, 2, 3, 5, 6))):  # in the dark, too
        texts = [one[:3] for one in written if one[3] % 8 in behind]
        parts.append(hv.Labels(texts, [x, "of"], "count").opts(text_color=tone, text_font_size="11pt"))
    chart = hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(counts.columns, 220) | options)))
    place = {"yticks": [(int(row), str(name)) for row, name in zip(rows, counts.index, strict=True)]}
    return chart.opts(**place, xlim=(0, int(ends.max())), ylim=(-0.5, len(counts) - 0.5), ylabel="", show_grid=False)


def frontier(
    across: pd.DataFrame,
    up: pd.DataFrame,
    x: str,
    y: str,
    *,
    path: bool = False,
    named: Sequence[str] = (),
    **options: Any,
) -> hv.Overlay:
    """Draw two figures of the same things against each other, each a point with a cross of its intervals.

    The ends of a path have their names written beside them, and the points of `named`; other points show theirs under
    the pointer. Without a path the names stand in the legend.

    Parameters
    ----------
    across, up : columns `value`, `low` and `high`, by name of the thing; as many rows in the same order. A categorical
        index of `across` fixes looks as of `dots`.
    x, y : labels of the axes, with units.
    path : join the points by a line, in the order of the rows.
    """
    names = [str(name) for name in across.index]
    points = (across["value"].to_numpy(dtype=float), up["value"].to_numpy(dtype=float))
    wide = (across["low"].to_numpy(dtype=float), points[1], across["high"].to_numpy(dtype=float), points[1])
    tall = (points[0], up["low"].to_numpy(dtype=float), points[0], up["high"].to_numpy(dtype=float))
    ends, dot = [x, y, "end", "high"], {"size": 9, "line_color": "white", "tools": ["hover"]}
    parts: list[Any] = [hv.Segments(each, ends).opts(color=colour(5), line_width=1) for each in (wide, tall)]
    if path:
        parts.append(hv.Curve(points, x, y).opts(color=colour(1), line_width=2))
        parts.append(hv.Scatter((*points, names), x, [y, "name"]).opts(color=colour(0), **dot))
        least, most = np.nanmin([*points[0], *wide[0]]), np.nanmax([*points[0], *wide[2]])
        room = 0.25 * (most - least)  # what a name takes on a phone; it stands on the side away from the other points
        outward = (points[0] < np.nanmean(points[0])) & (points[0] > least + room)
        leftwards = outward | (points[0] > most - room)
        text = {"text_color": "black", "text_font_size": "9pt", "text_baseline": "bottom"}
        for side, here in (("left", ~leftwards), ("right", leftwards)):
            written = [
                (across_, up_, f" {name} ")
                for place, (across_, up_, name) in enumerate(zip(*points, names, strict=True))
                if here[place] and (name in (names[0], names[-1]) or name in named)
            ]
            parts.append(hv.Labels(written, [x, y], "name").opts(text_align=side, **text))
    else:
        known = [str(name) for name in _known(across.index.to_series())]
        tones = colours(known)
        for one, other, name in zip(*points, names, strict=True):
            own = hv.Scatter(([one], [other], [name]), x, [y, "name"], label=name)
            marker = _MARKERS[known.index(name) // len(PALETTE)]
            parts.append(own.opts(color=tones[name], marker=marker, **(dot | {"size": 11})))
    below = {"height": HEIGHT + 140, "show_legend": False} if path else legend(names, HEIGHT + 120)
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | below | options)))


def against(points: Mapping[str, tuple[ArrayLike, ArrayLike]], x: str, y: str, **options: Any) -> hv.Overlay:
    """Draw clouds of points by name, and the line on which y is x; the first has the largest dots, below the others."""
    drawn = {name: tuple(map(np.asarray, pair)) for name, pair in points.items()}
    across = np.concatenate([pair[0] for pair in drawn.values()])
    ends = np.array([across.min(), across.max()])
    parts: list[Any] = [hv.Curve((ends, ends), x, y).opts(color=colour(7), line_width=1, line_dash="dashed")]
    tones = colours(drawn)
    for above, (name, pair) in zip(reversed(range(len(drawn))), drawn.items(), strict=True):
        dot = hv.Scatter(pair, x, y, label=str(name))
        parts.append(dot.opts(color=tones[str(name)], size=5 + 4 * above, alpha=0.7))
    room = {"xlim": _room(across), "ylim": _room(ends, *(pair[1] for pair in drawn.values()))}
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(points) | room | options)))


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
    texts = ["" if digits is None or np.isnan(value) else f"{value:z.{digits}f}" for *_, value in cells]
    widest, names = (max(len(text) for text in own) for own in (texts, rows))
    heat = hv.HeatMap(cells, [column_label, row_label], value_label).opts(
        cmap=DIVERGING if diverging else SEQUENTIAL,
        clim=shown,
        colorbar=True,
        invert_yaxis=True,
        xrotation=30,
        responsive=True,
        min_width=0 if digits is None else _SIGN * ((widest + 1) * len(columns) + names) + _AROUND,
        height=max(HEIGHT, 32 * len(rows) + 120),
        toolbar=None,
        **options,
    )
    if digits is None:
        return hv.Overlay([heat])
    written = [(c, r, text) for (c, r, _), text in zip(cells, texts, strict=True)]
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


def colours(names: Iterable[object]) -> dict[str, str]:
    """Colours of the palette by name: one that is always the same for each of `INPUTS`, the others in order."""
    texts = [str(name) for name in names]
    taken = [INPUTS[text] for text in texts if text in INPUTS]
    free = [place for place in range(len(PALETTE)) if place not in taken]
    others = (text for text in texts if text not in INPUTS)
    places = {text: free[place % len(free)] for place, text in enumerate(others)}
    return {text: colour(INPUTS[text] if text in INPUTS else places[text]) for text in texts}


def _known(column: pd.Series) -> list[Any]:
    """All categories of a categorical column, else its values."""
    return list(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else list(column.unique())


def _room(*values: ArrayLike) -> tuple[float, float]:
    """Limits of an axis that leave room for whole dots at its ends."""
    every = np.concatenate([np.asarray(one, dtype=float).ravel() for one in values])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    room = 0.03 * (high - low) or 0.5
    return low - room, high + room


def legend(names: Iterable[object], height: int = HEIGHT) -> dict[str, Any]:
    """Options of a chart with a legend of these names below it, with room for it: a phone has none beside it.

    As many columns as a phone has room for, and at most four. A chart without one has a height of `HEIGHT`; one with it
    that of the legend besides `height`.
    """
    texts = [str(name) for name in names]
    if len(texts) < 2:
        return {"show_legend": False}
    widest = _LEGEND_MARK + _LETTER * max(map(len, texts))
    columns = min(max(_PHONE // widest, 1), _LEGEND_COLUMNS, len(texts))
    rows = -(-len(texts) // columns)
    placed = {"ncols": columns, "nrows": "auto", "orientation": "horizontal", "location": "top_left"}
    plain = {"border_line_alpha": 0, "background_fill_alpha": 0, "padding": 0, "margin": 8, "spacing": 4}
    plain |= {"glyph_height": 18, "label_height": 18}
    return {
        "legend_position": "bottom",
        "legend_opts": placed | plain,
        "height": height + _LEGEND_ROW * rows + 28,
    }
