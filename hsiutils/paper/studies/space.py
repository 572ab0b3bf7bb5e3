"""Space against spectrum: what the pixels around add to a pixel's own spectrum, and what more bands add to space.

Networks of single pixels, whose convolutions are 1 x 1 and which never pool, beside the full ones.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import xarray as xr

from hsiutils.paper.merits import over_both
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of, iou_of
from hsiutils.paper.tradeoff import kept

INPUTS = ("1", "25", "25-PN")
FILTERS = 64
"""Of the networks of single pixels."""
GAINS = {
    "space, to one band": ("1, space", "1, pixel"),
    "space, to 25 bands": ("25, space", "25, pixel"),
    "space, to 25 bands after PN": ("25-PN, space", "25-PN, pixel"),
    "24 bands, to a pixel": ("25, pixel", "1, pixel"),
    "24 bands, to space": ("25, space", "1, space"),
}
"""What is added, by the two networks that differ in it."""


def _grid(run: Run) -> Sequence[Point]:
    alone = replace(run, profile=replace(run.profile, depth=0, kernel=1, filters=FILTERS))
    return [
        Point(own, name, seed, {"sees": sees, "input": name})
        for sees, own in (("pixel", alone), ("space", run))
        for name in INPUTS
        for seed in run.seeds
    ]


def gains(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """What space and spectrum add to the IoU of every class.

    Parameters
    ----------
    found : the record.
    seed : of the resampling.

    Returns
    -------
    Rows of `added` (of `GAINS`), `class` (the last is "mean"), value, low, high: points, with the interval over seeds
    and scenes together.
    """
    sums = found[["confusion"]].stack(variant=("input", "sees"))
    names = [f"{name}, {sees}" for name, sees in sums["variant"].values]
    sums = sums.drop_vars(["variant", "input", "sees"]).assign_coords(variant=names)
    rows = []
    for added, (more, less) in GAINS.items():
        for name in (*found["truth"].values.tolist(), "mean"):
            gap = over_both(sums, iou_of(name), seed, [more], [less]).within(-100, 100)
            rows.append((added, name, gap.mean, gap.low, gap.high))
    return pd.DataFrame(rows, columns=["added", "class", "value", "low", "high"])


def finding(table: pd.DataFrame) -> str:
    """What `gains` say of the mean over the classes, in words, and where each adds the most."""
    said = []
    for added in ("space, to 25 bands", "24 bands, to space"):
        rows = table[table["added"] == added].set_index("class")
        mean, most = rows.loc["mean"], rows.drop(index="mean")["value"].astype(float).idxmax()
        bounds = f"{mean['value']:+.1f} points [{mean['low']:+.1f}, {mean['high']:+.1f}]"
        said.append(f"{added}: {bounds} of mean IoU, most to {most} ({rows.loc[most, 'value']:+.1f})")
    return "; ".join(said)


STUDY = Study(
    file="space.nc",
    about="networks of single pixels beside networks with space, on one band and on all",
    grid=_grid,
    measures=(counts_of,),
    reduce=kept,
)
