"""What an audit found, as pictures."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from skimage.transform import downscale_local_mean

from hsiutils.plots.base import DIVERGING
from hsiutils.plots.charts import lines
from hsiutils.plots.pictures import colourise, montage, pages, thinned

_ROWS = 54
"""Of a map in a page: there are as many pages as methods, of six maps each."""


def residual_pages(shares: xr.DataArray, scene: NDArray[np.uint8]) -> Any:
    """Page through methods: the signed residual in units of the class's logit, a tile a class; large maps are thinned.

    Parameters
    ----------
    shares : (method, class, y, x) residuals in units of the class's logit.
    scene : (y, x, 3) picture, the first tile.
    """
    step = -(-len(scene) // _ROWS)
    small = downscale_local_mean(scene, (step, step, 1)).astype(np.uint8)  # type: ignore[no-untyped-call]
    frames = {}
    for method in map(str, shares["method"].values):
        tiles = {"scene": small}
        for name in map(str, shares["class"].values):
            values = thinned(shares.sel({"method": method, "class": name}).values, _ROWS)
            tiles[name] = colourise(values, (-1, 1), DIVERGING)
        frames[method] = montage(tiles, columns=2)
    return pages(frames, "method")


def cascade(survived: xr.DataArray) -> Any:
    """How much of each method's map survives down the cascade.

    Parameters
    ----------
    survived : (method, layer) rank correlation, layer from the head down.
    """
    layers = [str(layer) for layer in survived["layer"].values]
    curves = {
        str(name): (list(range(len(layers))), survived.sel({"method": name}).values)
        for name in survived["method"].values
    }
    ticks = list(enumerate(layers))
    return lines(
        curves,
        "redrawn from the head down to (layer)",
        "rank correlation of |map| with the original",
        markers=True,
        xticks=ticks,
        xrotation=30,
        ylim=(-0.6, 1.05),
    )


def methods_table(found: xr.Dataset) -> pd.DataFrame:
    """A leaderboard as people read it: one row a method, the best closing first."""
    heads = {
        "residual": "residual",
        "sanity": "redrawn",
        "class_sensitivity": "classes",
        "faithfulness": "in - out",
        "band_faithfulness": "bands",
        "seconds": "seconds",
    }
    frame = found[list(heads)].to_dataframe().rename(columns=heads).reset_index()
    return frame.sort_values("residual", ignore_index=True)
