"""What a network's channels show: maps to page through, values with both their spreads, receptive fields."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hsiutils.plots.base import DIVERGING, HEIGHT, colour
from hsiutils.plots.pictures import colourise, montage

CLIP = (0.1, 99.9)
"""Percentiles at which maps are cut, as in the authors' code."""


def signed(values: ArrayLike, limit: float | None = None) -> NDArray[np.uint8]:
    """Colour a map of signed numbers about zero: red for, blue against, white nothing.

    Parameters
    ----------
    values : (rows, columns)
    limit : value of the last colour, its negative that of the first; by default the larger of the percentiles `CLIP`.
    """
    reach = clip_limit(values) if limit is None else limit
    return colourise(values, (-(reach or 1.0), reach or 1.0), DIVERGING)


def clip_limit(values: ArrayLike) -> float:
    """Larger absolute value of the percentiles `CLIP`."""
    return float(np.abs(np.nanpercentile(np.asarray(values, dtype=float), CLIP)).max())


def weight_bars(weights: xr.DataArray, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """One channel's weights as a picture: a bar a class, red and to the right for it, blue and to the left against.

    Parameters
    ----------
    weights : (class,), the longest bar is the largest of them.
    shape : (rows, columns) of the picture.
    """
    rows, columns = shape
    sheet = np.zeros((rows, columns))
    middle, reach = columns // 2, float(abs(weights).max()) or 1.0
    for index, value in enumerate(weights.values):
        top, bottom = (round(rows * (index + part) / len(weights)) for part in (0.15, 0.85))
        end = middle + round(value / reach * (columns / 2 - 2))
        sheet[top : bottom + 1, min(middle, end) : max(middle, end) + 1] = (
            np.sign(value) * 0.45
        )  # pale: numbers are written on it
    return signed(sheet, 1.0)


def contribution_page(
    found: xr.Dataset,
    channel: int,
    name: str,
    limit: float,
    weights: xr.DataArray,
    scene: NDArray[np.uint8],
    notes: str = "",
    step: int = 1,
) -> hv.Overlay:
    """One channel: the scene, its activation, its weights for all classes, and what it contributes to one's logit.

    Parameters
    ----------
    found : of `hsiutils.analysis.contributions`.
    channel, name : of the channel and the class.
    limit : of the contribution's colours, one for all channels so that they compare.
    weights : (channel, class)
    scene : (rows, columns, 3), the scene's picture.
    notes : second line of the title.
    step : every how manieth pixel is shown.
    """
    own = found.sel({"channel": channel, "class": name})
    activation, contribution = (own[key].values[::step, ::step] for key in ("activation", "contribution"))
    pictures = {
        "scene": scene[::step, ::step],
        "activation": colourise(activation),
        "weights": weight_bars(weights.sel(channel=channel), activation.shape),
        f"contribution, ±{limit:.2g}": signed(contribution, limit),
    }
    chart = montage(pictures, title=f"channel {channel}, contribution to {name}\n{notes}")
    return chart * _weight_labels(weights.sel(channel=channel), activation.shape)


def _weight_labels(weights: xr.DataArray, shape: tuple[int, int]) -> hv.Labels:
    """Names and numbers on the bars, on the third tile of a montage in two columns."""
    rows = shape[0]
    height = rows / len(weights)
    texts = [
        (shape[1] * 0.98, rows - height * (index + 0.5), f"{name} {float(value):+.2f}")
        for index, (name, value) in enumerate(zip(weights["class"].values, weights.values, strict=True))
    ]
    return hv.Labels(texts).opts(text_align="right", text_baseline="middle", text_font_size="8pt", text_color="black")


def layer_page(found: xr.Dataset, channel: int, step: int = 1) -> hv.Overlay:
    """One channel of any layer, before and after normalisation and ReLU, side by side.

    Parameters
    ----------
    found : of `hsiutils.paper.activations.layer_maps`.
    step : every how manieth pixel is shown. Cells of coarse layers are drawn as squares of several pixels.
    """
    one = found.sel(channel=channel).isel(y=slice(None, None, step), x=slice(None, None, step))
    pictures = {
        "before normalisation and ReLU": signed(one["before"].values),
        "after": colourise(one["after"].values),
    }
    enlarged = {name: _enlarged(picture) for name, picture in pictures.items()}
    return montage(enlarged, title=f"channel {channel}")


LEAST_ROWS = 24
"""Rows that a map is drawn with at least: a deep layer's few cells would vanish under their labels."""
PAGE_PIXELS = 4_000_000
"""Pixels that all pictures of one slider may hold together: more is too much for a page."""


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    times = -(-LEAST_ROWS // len(picture))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def thinning(pictures: int, shape: tuple[int, int]) -> int:
    """Every how manieth pixel may be shown, so that so many pictures (rows, columns) stay within `PAGE_PIXELS`."""
    return max(1, int(np.ceil(np.sqrt(pictures * shape[0] * shape[1] / PAGE_PIXELS))))


def paged(frames: Mapping[tuple[Hashable, ...], Any], by: Sequence[str]) -> hv.HoloMap:
    """Page through elements with one slider for each part of their keys, the first first."""
    columns = zip(*frames, strict=True)
    dimensions = [hv.Dimension(name, values=list(dict.fromkeys(keys))) for name, keys in zip(by, columns, strict=True)]
    return hv.HoloMap(dict(frames), kdims=dimensions, sort=False)


def violins(table: pd.DataFrame, x: str, y: str, *, xlabel: str, ylabel: str, **options: Any) -> hv.Violin:
    """Draw the distribution of values in each category, with its box inside; rows without a value are left out.

    Parameters
    ----------
    table : long table with a row per value.
    x, y : its columns: category and value.
    """
    known = table.dropna(subset=[y])
    chart = hv.Violin(known, hv.Dimension(x, label=xlabel), hv.Dimension(y, label=ylabel))
    return chart.opts(
        violin_fill_color=colour(5),
        violin_line_color=colour(0),
        box_color=colour(7),
        cut=0,  # no violin beyond the values that there are
        responsive=True,
        height=HEIGHT,
        show_grid=True,
        toolbar=None,
        **options,
    )


def spread(each: xr.DataArray, bounds: pd.DataFrame, x: str, y: str, **options: Any) -> hv.Overlay:
    """Draw a figure of every variant: a dot a seed, and a bar for the 95 % interval of their mean over scenes.

    A single network has its value and the bar.

    Parameters
    ----------
    each : (variant, seed)
    bounds : mean, low and high by variant, of `hsiutils.paper.activations.by_variant`.
    x, y : axis labels with their units.
    """
    names = [str(name) for name in each["variant"].values]
    place = np.arange(len(names), dtype=float)
    seeds = np.repeat(place, each.sizes["seed"]), each.transpose("variant", "seed").values.ravel()
    rows = bounds.loc[names]
    bars = (place, rows["mean"], rows["mean"] - rows["low"], rows["high"] - rows["mean"])
    several = each.sizes["seed"] > 1
    marks = hv.Scatter((place, rows["mean"]), x, y, label="mean over seeds" if several else "the network")
    parts = [
        hv.ErrorBars(bars, x, [y, "below", "above"], label="95 % over scenes").opts(line_width=2, line_color=colour(0)),
        marks.opts(color=colour(0), marker="diamond", size=12),
        hv.Scatter((seeds[0] + 0.15, seeds[1]), x, y, label="one seed").opts(color=colour(1), size=9, alpha=0.8),
    ][: 3 if several else 2]
    return hv.Overlay(parts).opts(
        hv.opts.Overlay(
            responsive=True,
            height=HEIGHT,
            show_grid=True,
            toolbar=None,
            legend_position="bottom",
            legend_cols=3,
            xticks=list(enumerate(names)),
            xlim=(-0.5, len(names) - 0.5),
            **options,
        )
    )
