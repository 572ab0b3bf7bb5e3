"""What a network's channels show: maps to page through, values with both their spreads, receptive fields."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.plots.base import CHART, Pages, colour, pages
from hsiutils.plots.charts import legend
from hsiutils.plots.pictures import Picture, clip_limit, colourise, montage, signed

LEAST_ROWS = 24
"""Rows that a map is drawn with at least: a deep layer's few cells would vanish under their labels."""
PAGE_PIXELS = 4_000_000
"""Pixels that all pictures of one slider may hold together: more is too much for a page."""


def weight_bars(weights: xr.DataArray, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """One channel's weights (class,) as a picture (rows, columns, 3): a bar a class, relative to the largest of them.

    Red and to the right for the class, blue and to the left against it, in the left half; the right is for words.
    """
    rows, columns = shape
    sheet = np.zeros((rows, columns))
    middle, reach = columns // 4, float(abs(weights).max()) or 1.0
    for index, value in enumerate(weights.values):
        top, bottom = (round(rows * (index + part) / len(weights)) for part in (0.15, 0.85))
        end = middle + round(value / reach * (columns / 4 - 2))
        sheet[top : bottom + 1, min(middle, end) : max(middle, end) + 1] = np.sign(value) * 0.45
    return signed(sheet, 1.0)


def contribution_pages(
    contributions: Mapping[str, xr.Dataset],
    scenes: Mapping[str, NDArray[np.uint8]],
    class_name: str,
    weights: xr.DataArray,
    channels: Mapping[Hashable, int],
    notes: Mapping[int, str],
) -> Pages:
    """Page through scenes and channels: the scene, a channel's activation, weights and contribution to one logit.

    Of `hsiutils.analysis.activations.contributions` and a picture (rows, columns, 3) for each scene, weights (channel,
    class), channels by their rank, and a second line of its title for each channel. One scale serves all channels of a
    scene, so that they compare.
    """
    step = thinning(4 * len(scenes) * len(channels), next(iter(scenes.values())).shape)
    frames = {}
    for name, parts in contributions.items():
        own = parts.sel({"class": class_name}).isel(y=slice(None, None, step), x=slice(None, None, step))
        limit = clip_limit(parts["contribution"].sel({"class": class_name}))
        for rank, channel in channels.items():
            activation, contribution = (own[key].sel(channel=channel).values for key in ("activation", "contribution"))
            bars = weights.sel(channel=channel)
            pictures = {
                "scene": scenes[name][::step, ::step],
                "activation": colourise(activation),
                "weights": weight_bars(bars, activation.shape),
                f"contribution, ±{limit:.2g}": signed(contribution, limit),
            }
            title = f"channel {channel}, contribution to {class_name}\n{notes[channel]}"
            frames[name, rank] = Picture(pictures, title=title, notes={"weights": _weight_notes(bars)})
    return pages(frames, "scene", "rank")


def _weight_notes(weights: xr.DataArray) -> list[str]:
    """Names and numbers to be written beside the bars."""
    return [f"{name} {float(value):+.2f}" for name, value in zip(weights["class"].values, weights.values, strict=True)]


def layer_pages(maps: Mapping[str, xr.Dataset]) -> Pages:
    """Page through scenes and channels of any layer, before and after normalisation and ReLU, (channel, y, x) each.

    Cells of coarse layers are drawn as squares of several pixels.
    """
    count, *shape = next(iter(maps.values()))["after"].shape
    step = thinning(2 * len(maps) * count, shape)
    frames = {}
    for name, both in maps.items():
        shown = both.isel(y=slice(None, None, step), x=slice(None, None, step))
        for channel in map(int, both["channel"].values):
            own = shown.sel(channel=channel)
            pictures = {"before normalisation and ReLU": signed(own["before"]), "after": colourise(own["after"])}
            times = -(-LEAST_ROWS // own.sizes["y"])
            large = {key: picture.repeat(times, axis=0).repeat(times, axis=1) for key, picture in pictures.items()}
            frames[name, channel] = montage(large, title=f"channel {channel}")
    return pages(frames, "scene", "channel")


def thinning(pictures: int, shape: Sequence[int]) -> int:
    """Step between the pixels shown, so that so many pictures (rows, columns) stay within `PAGE_PIXELS`."""
    return max(1, int(np.ceil(np.sqrt(pictures * shape[0] * shape[1] / PAGE_PIXELS))))


def violins(table: pd.DataFrame, x: str, y: str, *, xlabel: str, ylabel: str, **options: Any) -> hv.Violin:
    """Draw the distribution of a long table's values `y` in each category `x`; rows without a value are left out."""
    known = table.dropna(subset=[y])
    chart = hv.Violin(known, hv.Dimension(x, label=xlabel), hv.Dimension(y, label=ylabel))
    # No violin beyond the values that there are.
    return chart.opts(
        violin_fill_color=colour(5), violin_line_color=colour(0), box_color=colour(7), cut=0, **CHART, **options
    )


def spread(each: xr.DataArray, bounds: pd.DataFrame, x: str, y: str, **options: Any) -> hv.Overlay:
    """Draw a figure (variant, seed): a dot a seed, and a bar for the 95 % interval of their mean over scenes.

    A single network has its value and the bar. Bounds are mean, low and high by variant; x and y label the axes.
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
    ticks = {"xticks": list(enumerate(names)), "xlim": (-0.5, len(names) - 0.5)}
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | legend(part.label for part in parts)), **ticks, **options))
