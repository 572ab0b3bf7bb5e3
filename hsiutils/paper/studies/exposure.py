"""How much must light vary before PN pays a network? Scenes whose exposure misses what the meter asks for, ever more.

Training and test scenes alike are exposed anew, with the noise and the saturation that belong to it.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import xarray as xr

from hsiutils.paper.exposure import spread_of
from hsiutils.paper.merits import over_both
from hsiutils.paper.run import Run
from hsiutils.paper.spectra import REAL_CLASSES
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of, iou_of

JITTERS = (0.0, 0.6, 1.2)
"""Standard deviations of the logarithm of the exposure time about the meter's."""
INPUTS = ("25", "25-PN")


def _grid(run: Run) -> Sequence[Point]:
    return [
        Point(run.simulating(exposure_jitter=jitter), name, seed, {"jitter": jitter, "variant": name})
        for jitter in JITTERS
        for name in INPUTS
        for seed in run.seeds
    ]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Counts (jitter, variant, seed, scene, region, truth, predicted) of every scene, and the spread of light."""
    counts = found["counts_of"][["confusion"]].sel(region=["all"]).astype("int32")
    return counts.assign(spread=found["spread_of"]["spread"].isel(variant=0, seed=0, drop=True))


def gains(found: xr.Dataset, seed: int = 0) -> pd.DataFrame:
    """What PN gains over raw bands in the record, as `hsiutils.paper.exposure.curve` tells it of single pixels.

    Returns
    -------
    DataFrame
        A row a spread of light and class: `spread`, `class` (the last is "mean", of the classes that the real spectra
        have), `value`, `low`, `high`, points of IoU with intervals over seeds and scenes together.
    """
    rows = []
    for at in found["jitter"].values:
        one = found.sel(jitter=at)
        counts, spread = one[["confusion"]], float(one["spread"])
        for name in [*map(str, found["truth"].values), "mean"]:
            statistic = _mean_iou if name == "mean" else iou_of(name)
            gap = over_both(counts, statistic, seed, ["25-PN"], ["25"]).within(-100, 100)
            rows.append((spread, name, gap.mean, gap.low, gap.high))
    return pd.DataFrame(rows, columns=["spread", "class", "value", "low", "high"])


def finding(asked: pd.DataFrame) -> str:
    """What PN gains at each spread, of `gains`, in a sentence: in the mean, which is without marks, and in marks."""

    def told(name: str) -> str:
        own = asked[asked["class"] == name].sort_values("spread")
        return "; ".join(
            f"{row.value:+.1f} [{row.low:+.1f}, {row.high:+.1f}] at a spread of {row.spread:.2f}"
            for row in own.itertuples()
        )

    return (
        f"networks: PN gains, in points of IoU, mean of the classes without road marks: {told('mean')}. And in road "
        f"marks: {told('Road Marks')}"
    )


def _mean_iou(counts: xr.Dataset) -> xr.DataArray:
    shared = [iou_of(name)(counts) for name in REAL_CLASSES if name in counts["truth"].values]
    return xr.concat(shared, "class").mean("class")


STUDY = Study(
    file="exposure.nc",
    about="What PN gains over raw bands where exposure varies from image to image: none, .6 and 1.2 in the logarithm",
    grid=_grid,
    measures=(counts_of, spread_of),
    reduce=_reduce,
)
