"""What a map foretells of the network without a band, a patch or a class's pixels, against asking the network."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from hsiutils.paper.foretold import foretold
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study

INPUTS = ("25", "25-PN")


def _grid(run: Run) -> Sequence[Point]:
    names = [name for name in INPUTS if name in run.variants]
    return [Point(run, name, seed, {"variant": name}) for name in names for seed in run.seeds]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    return found["foretold"].astype(np.float32)


STUDY = Study(
    file="foretold.nc",
    about="what parts of the exact map foretell of a network without a band, a patch or a class, against asking it",
    grid=_grid,
    measures=(foretold,),
    reduce=_reduce,
)
