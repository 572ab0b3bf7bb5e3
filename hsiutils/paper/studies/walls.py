"""Maps of networks that cannot see a third of the image: how much of them lies where nothing is seen."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from hsiutils.paper.conservativeness import subject
from hsiutils.paper.run import Run
from hsiutils.paper.sanity import walls
from hsiutils.paper.studies import Point, Study


def _grid(run: Run) -> Sequence[Point]:
    return [Point(run, subject(run), seed, {"input": subject(run)}) for seed in run.seeds]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    return found["walls"].isel(input=0, drop=True).astype(np.float32)


STUDY = Study(
    file="walls.nc",
    about="the share of each method's map that lies behind a wall, where the network cannot see",
    grid=_grid,
    measures=(walls,),
    reduce=_reduce,
)
