"""Attributions: residuals of an audit, the randomisation cascade, the leaderboard, and contributions of bands."""

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from skimage.transform import downscale_local_mean

from hsiutils.plots.base import CHART, Pages, colour, pages
from hsiutils.plots.charts import legend, lines
from hsiutils.plots.pictures import montage, signed

_RESIDUAL_ROWS, _BAND_ROWS = 54, 108
"""Of a map in a page, so that a slider of full-size scenes stays small: an audit has a page a method, of six maps."""
_X = "wavelength (nm)"


def residual_pages(shares: xr.DataArray, scene: NDArray[np.uint8]) -> Pages:
    """Page through methods: residuals (method, class, y, x) in units of the class's logit, a tile a class.

    The first tile is the picture of the scene (y, x, 3). Large maps are thinned.
    """
    step = -(-len(scene) // _RESIDUAL_ROWS)
    small = downscale_local_mean(scene, (step, step, 1)).astype(np.uint8)  # type: ignore[no-untyped-call]
    frames = {}
    for method in map(str, shares["method"].values):
        own = shares.sel({"method": method})[:, ::step, ::step]
        frames[method] = montage({"scene": small} | {str(part["class"].item()): signed(part, 1) for part in own})
    return pages(frames, "method")


def cascade(survived: xr.DataArray) -> Any:
    """Draw the rank correlation (method, layer) that maps keep the further down from the head layers are redrawn."""
    # A parameter of `sel` is called method, too.
    steps = range(survived.sizes["layer"])
    curves = {str(name): (steps, survived.sel({"method": name})) for name in survived["method"].values}
    return lines(
        curves,
        "redrawn from the head down to (layer)",
        "rank correlation with the original map",
        markers=True,
        xticks=list(enumerate(map(str, survived["layer"].values))),
        xrotation=30,
        ylim=(-1.05, 1.05),
    )


def methods_table(board: xr.Dataset) -> pd.DataFrame:
    """A leaderboard as a table: one row a method, by rising residual."""
    heads = {"sanity": "redrawn", "class_sensitivity": "classes"}
    heads |= {"faithfulness": "in - out", "band_faithfulness": "bands"}
    frame = board[["residual", *heads, "passes"]].to_dataframe().rename(columns=heads).reset_index()
    return frame.sort_values("residual", ignore_index=True)


def contribution_spectra(
    curves: Mapping[str, xr.DataArray], wavelengths: ArrayLike, ylabel: str = "added to the margin (logits)"
) -> hv.Layout:
    """Draw one chart a name, with a curve a target: mean over seeds, and their range where there are several.

    Curves are (band, target), and seed if there are several; wavelengths are in nm, in the order of the bands.
    """
    centres = np.asarray(wavelengths)
    order = centres.argsort()
    charts = [_spectrum_chart(name, values.isel(band=order), centres[order], ylabel) for name, values in curves.items()]
    return hv.Layout(charts).cols(1).opts(shared_axes=False, toolbar=None)


def band_pages(maps: Mapping[str, xr.DataArray], wavelengths: ArrayLike, step: int = 1) -> Pages:
    """Page up the spectrum through maps (band, y, x), one picture a name, each with one scale for all its bands.

    Every `step`-th band is shown; wavelengths are in nm, in the order of the bands.
    """
    centres = np.asarray(wavelengths)
    limits = {name: float(np.nanpercentile(abs(values.values), 99.5)) or 1.0 for name, values in maps.items()}
    frames = {}
    for band in centres.argsort()[::step]:
        shown = {name: values.isel(band=band).values for name, values in maps.items()}
        steps = {name: -(-len(values) // _BAND_ROWS) for name, values in shown.items()}
        tiles = {name: signed(values[:: steps[name], :: steps[name]], limits[name]) for name, values in shown.items()}
        frames[round(float(centres[band]), 1)] = montage(tiles, columns=min(2, len(tiles)))
    return pages(frames, _X)


def _spectrum_chart(name: str, values: xr.DataArray, across: NDArray[np.float64], ylabel: str) -> hv.Overlay:
    parts = [hv.HLine(0).opts(color="grey", line_width=1)]
    for index, target in enumerate(values["target"].values):
        curve = values.sel(target=target).astype(float)
        mean = curve
        if "seed" in curve.dims:
            mean = curve.mean("seed")
            area = (across, curve.min("seed").values, curve.max("seed").values)
            parts.append(hv.Area(area, _X, [ylabel, "high"]).opts(color=colour(index), alpha=0.2, line_alpha=0))
        data = (across, mean.values)
        parts.append(hv.Curve(data, _X, ylabel, label=str(target)).opts(color=colour(index), line_width=2))
        parts.append(hv.Scatter(data, _X, ylabel, label=str(target)).opts(color=colour(index), size=5))
    # The zero line comes first and has no names for the axes.
    options = CHART | legend(values["target"].values)
    return hv.Overlay(parts).opts(hv.opts.Overlay(title=name, xlabel=_X, ylabel=ylabel, **options))
