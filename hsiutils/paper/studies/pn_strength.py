"""How strong should PN be? Pixel / (sum over its bands) ** strength: what is won in another light, and what is lost."""

from collections.abc import Sequence

import xarray as xr

from hsiutils.paper.designs import STRENGTHS
from hsiutils.paper.robustness import edge_counts, relit_changes
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of
from hsiutils.paper.tradeoff import kept


def _grid(run: Run) -> Sequence[Point]:
    names = {0.0: "25", 1.0: "25-PN"}  # the ends are the book's own networks
    return [
        Point(run, names.get(strength, f"25-PN@{strength}"), seed, {"strength": strength})
        for strength in STRENGTHS
        for seed in run.seeds
    ]


def as_designs(found: xr.Dataset) -> xr.Dataset:
    """The record as `hsiutils.paper.tradeoff.verdicts` takes it: no strength is raw, and full strength is PN."""
    names = {0.0: "raw", 1.0: "PN"}
    strengths = [names.get(value, f"alpha = {value:g}") for value in found["strength"].values.tolist()]
    return found.rename(strength="design").assign_coords(design=strengths)


STUDY = Study(
    file="pn-strength.nc",
    about="PN of strengths from none to full: robustness to light against road marks",
    grid=_grid,
    measures=(relit_changes, edge_counts, counts_of),
    reduce=kept,
)
