"""How strong should PN be? Pixel / (sum over its bands) ** strength: what is won in another light, and what is lost."""

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from hsiutils.paper import tradeoff
from hsiutils.paper.designs import STRENGTHS
from hsiutils.paper.robustness import edge_counts, relit_changes
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of


def _grid(run: Run) -> Sequence[Point]:
    names = {0.0: "25", 1.0: "25-PN"}  # the ends are the book's own networks
    return [
        Point(run, names.get(strength, f"25-PN@{strength}"), seed, {"strength": strength})
        for strength in STRENGTHS
        for seed in run.seeds
    ]


def verdicts(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """`hsiutils.paper.tradeoff.verdicts` of the strengths between none, which is raw, and full, which is PN."""
    names = {0.0: "raw", 1.0: "PN"}
    strengths = [names.get(value, f"alpha = {value:g}") for value in found["strength"].values.tolist()]
    return tradeoff.verdicts(found.rename(strength="design").assign_coords(design=strengths), seed)


STUDY = Study(
    file="pn-strength.nc",
    about="PN of strengths from none to full: robustness to light against road marks",
    grid=_grid,
    measures=(relit_changes, edge_counts, counts_of),
    reduce=tradeoff.kept,
)
