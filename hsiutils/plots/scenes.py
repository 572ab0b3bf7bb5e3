"""What a data set shows: scenes as pictures, with labels, PN, shadows and predictions beside them."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.cube import pn, pseudocolour
from hsiutils.data.source import Source
from hsiutils.plots.base import Pages, pages
from hsiutils.plots.pictures import colourise, montage, paint


def scene_pages(data: Source, names: Sequence[str], detail: bool = True) -> Pages:
    """Page through scenes: pseudo-colour and labels; in detail, also per-pixel normalised, and the light if known."""
    return pages({scene_caption(data, name): montage(scene_panels(data, name, detail)) for name in names}, "scene")


def scene_panels(data: Source, name: str, detail: bool = True) -> dict[str, NDArray[np.uint8]]:
    """Pictures (rows, columns, 3) of one scene by what they show, as in `scene_pages`."""
    cube, truth = data.cube(name), data.truth(name) if detail else None
    labels = paint(data.classes.merge(data.labels(name)), data.classes)
    panels = {f"{data.origin}, pseudo-colour": rgb(cube), "labels": labels}
    if detail:
        panels["after PN"] = rgb(pn(cube))
    if truth is not None:
        panels["sunlit share"] = colourise(truth["sunlit"].values, (0, 1))
    return panels


def prediction_pages(
    data: Source, predictions: Mapping[str, Mapping[str, NDArray[np.uint8]]], names: Sequence[str]
) -> Pages:
    """Page through scenes with their labels and predictions: variant -> scene name -> (rows, columns) class indices."""
    frames = {}
    for name in names:
        guesses = {f"predicted, {variant}": paint(maps[name], data.classes) for variant, maps in predictions.items()}
        frames[scene_caption(data, name)] = montage(scene_panels(data, name, detail=False) | guesses)
    return pages(frames, "scene")


def rgb(cube: xr.DataArray) -> NDArray[np.uint8]:
    """Pseudo-colour of a cube as (rows, columns, 3) bytes."""
    picture = pseudocolour(cube).transpose("y", "x", ...).values
    return np.asarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))


def scene_caption(data: Source, name: str) -> str:
    """A scene's name, with season, weather, daytime and kind of road where they are known."""
    known = [what for what in ("season", "weather", "daytime", "scene") if what in data.table]
    return f"{name} ({', '.join(data.table.loc[name, known])})" if known else name
