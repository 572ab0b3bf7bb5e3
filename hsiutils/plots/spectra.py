"""Contributions of bands: curves over wavelength, and maps to page through."""

from collections.abc import Mapping

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hsiutils.plots.base import DIVERGING, HEIGHT, colour
from hsiutils.plots.pictures import colourise, montage, pages, thinned

_X = "wavelength (nm)"
_ROWS = 108
"""Of a map in a page; larger ones are thinned, so that a slider of a full-size scene stays small."""


def contribution_spectra(
    curves: Mapping[str, xr.DataArray], wavelengths: ArrayLike, ylabel: str = "added to the margin (logits)"
) -> hv.Layout:
    """Draw one chart a name, with a curve a target: mean over seeds, and their range where there are several.

    Parameters
    ----------
    curves : name -> (band, target), and seed if there are several.
    wavelengths : of the bands in nm, in the order of the bands; the axis ascends.
    """
    centres = np.asarray(wavelengths)
    order = centres.argsort()
    charts = [_spectrum_chart(name, values.isel(band=order), centres[order], ylabel) for name, values in curves.items()]
    return hv.Layout(charts).cols(1).opts(shared_axes=False, toolbar=None)


def band_pages(maps: Mapping[str, xr.DataArray], wavelengths: ArrayLike, step: int = 1) -> hv.HoloMap:
    """Page up the spectrum through maps (band, y, x), one picture a name, each with one scale for all its bands.

    Parameters
    ----------
    step : show every so-manieth band in ascending order.
    """
    centres = np.asarray(wavelengths)
    limits = {name: float(np.nanpercentile(abs(values.values), 99.5)) or 1.0 for name, values in maps.items()}
    frames = {}
    for band in centres.argsort()[::step]:
        tiles = {name: _map(values.isel(band=band).values, limits[name]) for name, values in maps.items()}
        frames[round(float(centres[band]), 1)] = montage(tiles, columns=min(2, len(tiles)))
    return pages(frames, _X)


def _map(values: NDArray[np.float32], limit: float) -> NDArray[np.uint8]:
    return colourise(thinned(values, _ROWS), (-limit, limit), DIVERGING)


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
    return hv.Overlay(parts).opts(
        title=name,
        xlabel=_X,  # the zero line comes first and has no names for the axes
        ylabel=ylabel,
        responsive=True,
        height=HEIGHT,
        show_grid=True,
        toolbar=None,
        legend_position="bottom",
        legend_cols=2,
    )
