"""What a data set shows: scenes as pictures, with labels, PN, shadows and predictions beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.cube import pn, pseudocolour
from hsiutils.data.source import Source
from hsiutils.plots.base import pages
from hsiutils.plots.pictures import colourise, montage, paint


def scene_pages(drive: Source, names: Sequence[str]) -> Any:
    """Page through scenes: pseudo-colour, labels, per-pixel normalised, and shadows where they are known."""
    return pages({_caption(drive, name): montage(scene_panels(drive, name)) for name in names}, "scene")


def scene_panels(drive: Source, name: str) -> dict[str, NDArray[np.uint8]]:
    """Pictures of one scene by what they show."""
    cube = drive.cube(name)
    panels = {
        f"{drive.origin}, pseudo-colour": rgb(cube),
        "labels": paint(drive.classes.merge(drive.labels(name)), drive.classes),
        "after PN": rgb(pn(cube)),
    }
    truth = drive.truth(name)
    if truth is not None:
        panels["sunlit share"] = colourise(truth["sunlit"].values, (0, 1))
    return panels


def prediction_pages(
    drive: Source, predictions: Mapping[str, Mapping[str, NDArray[np.uint8]]], names: Sequence[str]
) -> Any:
    """Page through scenes with truth and every variant's prediction.

    Parameters
    ----------
    predictions : variant -> scene name -> (rows, columns) class indices.
    """
    frames = {}
    for name in names:
        panels = {
            f"{drive.origin}, pseudo-colour": rgb(drive.cube(name)),
            "labels": paint(drive.classes.merge(drive.labels(name)), drive.classes),
        }
        panels |= {f"predicted, {variant}": paint(maps[name], drive.classes) for variant, maps in predictions.items()}
        frames[_caption(drive, name)] = montage(panels)
    return pages(frames, "scene")


def rgb(cube: xr.DataArray) -> NDArray[np.uint8]:
    """Pseudo-colour of a cube as (rows, columns, 3) bytes."""
    picture = pseudocolour(cube).transpose("y", "x", ...).values
    return np.asarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))


def _caption(drive: Source, name: str) -> str:
    known = [what for what in ("season", "weather", "daytime", "scene") if what in drive.table]
    return f"{name} ({', '.join(drive.table.loc[name, known])})" if known else name
