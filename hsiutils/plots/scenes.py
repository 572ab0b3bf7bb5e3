"""What a data set shows: scenes as pictures, with labels, PN, shadows and predictions beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.classes import HSI_DRIVE_CLASSES, merge
from hsiutils.data.cube import normalise, pseudocolour
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.plots.base import pages
from hsiutils.plots.pictures import colourise, montage, paint


def scene_pages(drive: HSIDrive, names: Sequence[str]) -> Any:
    """Page through scenes: pseudo-colour, labels, per-pixel normalised, and shadows where they are known."""
    return pages({_caption(drive, name): montage(scene_panels(drive, name)) for name in names}, "scene")


def scene_panels(drive: HSIDrive, name: str) -> dict[str, NDArray[np.uint8]]:
    """Pictures of one scene by what they show."""
    cube = drive.cube(name)
    panels = {
        f"{drive.origin}, pseudo-colour": rgb(cube),
        "labels": paint(merge(drive.labels(name)), HSI_DRIVE_CLASSES),
        "after PN": rgb(normalise(cube)),
    }
    truth = drive.truth(name)
    if truth is not None:
        panels["sunlit share"] = colourise(truth["sunlit"].values, (0, 1))
    return panels


def prediction_pages(
    drive: HSIDrive, predictions: Mapping[str, Mapping[str, NDArray[np.uint8]]], names: Sequence[str]
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
            "labels": paint(merge(drive.labels(name)), HSI_DRIVE_CLASSES),
        }
        panels |= {
            f"predicted, {variant}": paint(maps[name], HSI_DRIVE_CLASSES) for variant, maps in predictions.items()
        }
        frames[_caption(drive, name)] = montage(panels)
    return pages(frames, "scene")


def rgb(cube: xr.DataArray) -> NDArray[np.uint8]:
    """Pseudo-colour of a cube as (rows, columns, 3) bytes."""
    picture = pseudocolour(cube).transpose("y", "x", ...).values
    return np.asarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))


def _caption(drive: HSIDrive, name: str) -> str:
    row = drive.scenes.loc[name]
    return f"{name} ({row['season']}, {row['weather']}, {row['daytime']}, {row['scene']})"
