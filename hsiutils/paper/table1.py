"""Table 1: intersection over union by variant, with the spread over seeds, beside the paper's cells."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.analysis.estimates import Estimate, difference, holm, jackknife
from hsiutils.analysis.intervals import with_mean
from hsiutils.data.classes import CLASSES
from hsiutils.data.statistics import class_variability, statistics
from hsiutils.models.metrics import evaluate, iou
from hsiutils.paper.study import Subject, over_networks, study

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

PAPER: dict[tuple[str, str], float] = {
    ("3", "Road Marks"): 93.24,
    ("25-PN", "Road Marks"): 89.27,
    ("3", "Vegetation"): 91.90,  # most likely the three-channel model's
    ("25-PN", "Vegetation"): 94.12,
}
"""Cells of the paper's Table 1 that could be found (arXiv 2502.14416), IoU in percent; the others are unknown."""


def evaluation(run: "Run", progress: bool = True) -> xr.Dataset:
    """Counts of every network on the test scenes; `hsiutils.models.metrics.scores` makes figures of merit of them.

    As of `hsiutils.models.metrics.evaluate`, with the dimensions variant and seed before the others, and the attribute
    `origin`: "simulated" or "real".
    """
    run.train(progress)
    counts = over_networks(run, counts_of, progress=progress)
    return counts.assign_attrs(origin=run.data.origin, profile=run.profile.name)


def counts_of(run: "Run", name: str, seed: int, scenes: Sequence[str] | None = None) -> xr.Dataset:
    """Counts of one network, on all test scenes by default."""
    return study(run, "counts", _evaluated, (name, seed), scenes)


def _evaluated(subject: Subject) -> xr.Dataset:
    return evaluate(subject.model, subject.scenes, subject.names)


def iou_by_seed(counts: xr.Dataset) -> pd.DataFrame:
    """IoU of every network of `evaluation` in percent: variant, seed, class ("mean" is that of all), iou."""
    return class_iou(counts).to_dataframe(name="iou")[["iou"]].reset_index()


def class_iou(counts: xr.Dataset) -> xr.DataArray:
    """IoU in percent (..., class), the last "mean", of counts of scenes or of all together; a figure of `merits`."""
    confusion = counts["confusion"].sel(region="all", drop=True)
    values = 100 * iou(confusion.sum("scene") if "scene" in confusion.dims else confusion)
    return with_mean(values)


def iou_of(name: str) -> Callable[[xr.Dataset], xr.DataArray]:
    """`class_iou` of one class, or "mean", as a figure such as `hsiutils.paper.merits.findings` takes."""
    return lambda counts: class_iou(counts).sel({"class": name}, drop=True)


def table1(counts: xr.Dataset) -> pd.DataFrame:
    """Our Table 1: mean over seeds and their range, the paper's cell, and None where it is not known."""
    values = iou_by_seed(counts)
    rows = []
    for variant in counts["variant"].values:
        for name in (*CLASSES, "mean"):
            own = values[(values["variant"] == variant) & (values["class"] == name)]["iou"]
            known = PAPER.get((str(variant), name))
            rows.append((str(variant), name, own.mean(), own.min(), own.max(), known))
    return pd.DataFrame(rows, columns=["variant", "class", "mean", "lowest", "highest", "paper"])


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as people print it: a row a variant, a column a class; mean over seeds (range), then the paper's cell."""

    def cell(row: pd.Series) -> str:
        ours = "none" if pd.isna(row["mean"]) else f"{row['mean']:.1f} ({row['lowest']:.1f} to {row['highest']:.1f})"
        paper = "unknown" if pd.isna(row["paper"]) else f"{row['paper']:.2f}"
        return f"{ours} | {paper}"

    cells = table.assign(cell=table.apply(cell, axis=1))
    out = cells.pivot_table(index="variant", columns="class", values="cell", aggfunc="first", sort=False)
    return out.rename_axis("variant").rename_axis(None, axis="columns")


def differences(values: pd.DataFrame) -> pd.DataFrame:
    """Every pair of variants and class: difference of means, its 95 % interval, p, whether it can be told from zero.

    "told apart" is by the interval alone, "after Holm" with the correction for all the rows together.
    No rows where there is one variant only.
    """
    rows = []
    for one, other in combinations(dict.fromkeys(values["variant"]), 2):
        for name in dict.fromkeys(values["class"]):
            own = values[values["class"] == name].set_index("variant")["iou"]
            a, b = own.loc[[one]], own.loc[[other]]  # (seed)
            if a.notna().any() and b.notna().any():
                gap = difference(a, b)
                rows.append((one, other, name, gap.mean, gap.low, gap.high, gap.p_value(), gap.sign != 0))
    columns = ["variant", "against", "class", "difference", "low", "high", "p", "told apart"]
    table = pd.DataFrame(rows, columns=columns).astype({"told apart": bool})  # also without a row, of one variant
    return table.assign(**{"after Holm": np.array(holm(table["p"])) < 0.05})


def class_spreads(run: "Run") -> xr.DataArray:
    """Spread of a class's reflectance over its mean, averaged over the bands, in each test scene: (scene, class)."""
    names = run.data.names("test")
    parts = [class_variability(statistics(run.data, [name])) for name in names]
    return xr.concat(parts, xr.Variable("scene", list(names)))


def variability_slope(
    counts: xr.Dataset, spread: xr.DataArray, one: str = "1", many: str = "25", enough: int = 50
) -> Estimate:
    """Whether more channels gain more where a class varies more: a regression over the classes within each scene.

    A scene's class gains the difference of the logits of its IoU, which weighs a step from .98 to .99 as one from .5
    to .67. Scenes are compared with themselves only: a common effect of a scene on all its classes has no part in the
    slope.

    Parameters
    ----------
    counts : of `evaluation`.
    spread : of `class_spreads`.
    one, many : inputs, of which the second has more channels.
    enough : pixels below which a class of a scene does not count.

    Returns
    -------
    Logits of IoU gained per unit of relative spread, mean over seeds, with the 95 % interval of the jackknife over the
    classes: what one class does in all scenes, more scenes do not make surer.

    Raises
    ------
    ValueError
        If no scene has two classes.
    """
    matrix = counts["confusion"].sel(region="all", drop=True)
    correct = xr.concat([matrix.sel(truth=c, predicted=c, drop=True) for c in matrix["truth"].values], "class")
    correct = correct.assign_coords({"class": matrix["truth"].values})
    true, guessed = (
        matrix.sum(axis).rename({other: "class"}) for axis, other in (("predicted", "truth"), ("truth", "predicted"))
    )
    logit = xr.apply_ufunc(np.log, (correct + 0.5) / (true + guessed - 2 * correct + 0.5))
    gain = (logit.sel(variant=many) - logit.sel(variant=one)).mean("seed")
    return slope_within(spread, gain.where((true >= enough).isel(variant=0, seed=0)))


def slope_within(x: xr.DataArray, y: xr.DataArray) -> Estimate:
    """Slope of `y` on `x` (scene, class), each less its mean over a scene's classes, and its interval over classes.

    A ValueError if without some class no scene has two that differ.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x.where(known), y.where(known)

    def slope(left: Sequence[int]) -> float:
        a, b = (values.isel({"class": list(left)}) for values in (x, y))
        a, b = a - a.mean("class"), b - b.mean("class")
        if not float((a * a).sum()) > 0:
            raise ValueError("no scene has two classes that differ in how much they vary")
        return float((a * b).sum() / (a * a).sum())

    return jackknife(slope, x.sizes["class"])
