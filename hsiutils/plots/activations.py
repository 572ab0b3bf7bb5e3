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


def contribution_page(found: xr.Dataset, channel: int, name: str, limit: float, notes: str = "") -> hv.Overlay:
    """One channel's activation, and what it contributes to a class's logit, side by side.

    Parameters
    ----------
    found : of `hsiutils.analysis.contributions`.
    channel, name : of the channel and the class.
    limit : of the contribution's colours, one for all channels so that they compare.
    notes : for the title, behind the weight.
    """
    own = found.sel({"channel": channel, "class": name})
    pictures = {
        "activation": colourise(own["activation"].values),
        f"contribution to {name}, ±{limit:.2g}": signed(own["contribution"].values, limit),
    }
    return montage(pictures, title=f"channel {channel}{notes}")


def layer_page(found: xr.Dataset, channel: int) -> hv.Overlay:
    """One channel of any layer, before and after normalisation and ReLU, side by side.

    Parameters
    ----------
    found : of `hsiutils.activation_study.layer_maps`.
    """
    one = found.sel(channel=channel)
    pictures = {
        "before normalisation and ReLU": signed(one["before"].values),
        "after": colourise(one["after"].values),
    }
    return montage(pictures, title=f"channel {channel}")


def paged(frames: Mapping[Hashable, Any], by: Sequence[str]) -> hv.HoloMap:
    """Page through elements with one slider for each part of their keys."""
    return hv.HoloMap(dict(frames), kdims=list(by))


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
    bounds : mean, low and high by variant, of `hsiutils.activation_results.by_variant`.
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
