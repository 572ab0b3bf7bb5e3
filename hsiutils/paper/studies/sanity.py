"""Sanity checks of maps after 2018: layers redrawn from either end, smoothed maps, and complexity."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from hsiutils.paper.conservativeness import subject
from hsiutils.paper.run import Run
from hsiutils.paper.sanity import revisited
from hsiutils.paper.studies import Point, Study


def _grid(run: Run) -> Sequence[Point]:
    """One point: all networks of a variant are measured together."""
    return [Point(run, subject(run), run.seed, {"input": subject(run)})]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    return found["revisited"].isel(input=0, seed=0, drop=True).astype(np.float32)


STUDY = Study(
    file="sanity.nc",
    about="sanity checks after 2018: layers redrawn from either end, smoothed maps, and complexity",
    grid=_grid,
    measures=(revisited,),
    reduce=_reduce,
)
