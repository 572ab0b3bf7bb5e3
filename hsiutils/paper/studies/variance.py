"""How much of a score is luck, of the initial weights and of the order of the images, and what a setting changes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from hsiutils.analysis.estimates import within
from hsiutils.paper.designs import MARKS, MEAN, marks_figures
from hsiutils.paper.run import Profile, Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of
from hsiutils.paper.tradeoff import kept

INPUTS = ("25", "25-PN")
MOST = 3
"""Initialisations, and orders, that are crossed."""
DEFAULT = "as it is"


def settings(own: Profile) -> dict[str, Profile]:
    """The profile with one thing changed, by what that is."""
    return {
        "one pooling less": replace(own, depth=own.depth - 1),
        "half the filters": replace(own, filters=own.filters // 2),
        "twice the filters": replace(own, filters=2 * own.filters),
        "equal class weights": replace(own, recipe=replace(own.recipe, class_weights="none")),
    }


def _grid(run: Run) -> Sequence[Point]:
    points, seeds = [], run.seeds[:MOST]
    for name in INPUTS:
        for start in seeds:
            for order in seeds:
                # None where both are one seed: that network is the book's own
                recipe = replace(run.profile.recipe, order_seed=None if order == start else order)
                own = replace(run, profile=replace(run.profile, recipe=recipe))
                points.append(Point(own, name, start, {"input": name, "setting": DEFAULT, "order": order}))
        for setting, changed in settings(run.profile).items():
            own = replace(run, profile=changed)
            points.append(Point(own, name, run.seed, {"input": name, "setting": setting, "order": run.seed}))
    return points


def scores(found: xr.Dataset) -> xr.DataArray:
    """`MARKS` and `MEAN` of every network of the record, percent: (figure, input, setting, order, seed)."""
    return marks_figures(found["confusion"].sel(region="all", drop=True)).sel(figure=[MARKS, MEAN])


def components(values: xr.DataArray) -> pd.DataFrame:
    """Variance components of networks crossed by `seed` of the initial weights and by `order`, by moments.

    Two-way random effects with one network a cell (Searle, Casella and McCulloch 1992, chapter 4). Mean squares are
    pooled over all other dimensions, such as the input, whose levels are taken off.

    Parameters
    ----------
    values : (..., order, seed), none missing.

    Returns
    -------
    DataFrame
        By `source`, "initial weights", "order of the images" and "both together", what neither explains: `sd`, in the
        unit of the values; `share` of the variance of one training, percent; and `ratio` to "both together" with the
        exact 95 % interval `low`, `high` and `p`, of F. A variance estimated below zero is zero, as are ratio and ends.
    """
    n, m = values.sizes["seed"], values.sizes["order"]
    groups = values.size // (n * m)
    centred = values - values.mean(["order", "seed"])
    of_start, of_order = centred.mean("order"), centred.mean("seed")
    rest = centred - of_start - of_order
    free = {"seed": groups * (n - 1), "order": groups * (m - 1), "rest": groups * (n - 1) * (m - 1)}
    square = {
        "seed": m * float((of_start**2).sum()) / free["seed"],
        "order": n * float((of_order**2).sum()) / free["order"],
        "rest": float((rest**2).sum()) / free["rest"],
    }
    variance = {"rest": square["rest"]}
    rows = {}
    for name, source, networks in (("seed", "initial weights", m), ("order", "order of the images", n)):
        ratio = square[name] / square["rest"]
        law = stats.f(free[name], free["rest"])
        ends = [max((ratio / law.ppf(tail) - 1) / networks, 0.0) for tail in (0.975, 0.025)]
        variance[name] = max((square[name] - square["rest"]) / networks, 0.0)
        rows[source] = (name, max((ratio - 1) / networks, 0.0), *ends, float(law.sf(ratio)))
    rows["both together"] = ("rest", np.nan, np.nan, np.nan, np.nan)
    whole = sum(variance.values())
    told = [
        (source, np.sqrt(variance[name]), 100 * variance[name] / whole, *others)
        for source, (name, *others) in rows.items()
    ]
    return pd.DataFrame(told, columns=["source", "sd", "share", "ratio", "low", "high", "p"]).set_index("source")


def finding(table: pd.DataFrame, values: xr.DataArray, figure: str) -> str:
    """What `components` say of a figure, percent of each training and named with its input, in words."""
    shares = ", ".join(f"{source} {row['share']:.0f} %" for source, row in table.iterrows())
    told = table.index[table["p"] < 0.05]
    words = f"told from chance: {', '.join(told)}" if len(told) else "neither of the first two can be told from chance"
    whole = np.sqrt((table["sd"] ** 2).sum())
    reached = f"{values.size} trainings reach {float(values.min()):.1f} to {float(values.max()):.1f} %"
    return (
        f"{figure}: {reached}, {float(values.mean()):.1f} on average; standard deviation of one training {whole:.1f} "
        f"points, of its variance {shares}; {words}"
    )


def changes(values: xr.DataArray) -> pd.DataFrame:
    """What a setting changes, held against the luck of one training.

    Parameters
    ----------
    values : of `scores`.

    Returns
    -------
    Rows of figure, input, setting, `value`: one network of the setting less the mean of those of `DEFAULT`; low and
    high: the same with the 95 % interval in which one more network as it is would be expected (Student's, networks of
    one seed or order taken as independent).
    """
    usual = values.sel(setting=DEFAULT, drop=True).stack(network=("order", "seed"))
    count = usual.sizes["network"]
    half = stats.t.ppf(0.975, count - 1) * usual.std("network", ddof=1) * np.sqrt(1 + 1 / count)
    own = values.drop_sel(setting=DEFAULT).max(["order", "seed"])  # there is one of each
    gap = own - usual.mean("network")
    table = xr.Dataset({"value": gap, "low": gap - half, "high": gap + half})
    return within(table, own - 100, own).to_dataframe().dropna().reset_index()  # a share less another share


def lost_all(values: xr.DataArray) -> list[str]:
    """Where a setting leaves nothing of a figure, in sentences: all that there was is what it changes; of `scores`."""
    usual = values.sel(setting=DEFAULT, drop=True).mean(["order", "seed"])
    gone = (values.drop_sel(setting=DEFAULT).max(["order", "seed"]) == 0).to_dataframe("gone").reset_index()
    return [
        f"{name}, {figure}: with {', '.join(own['setting'])} nothing is left of the "
        f"{float(usual.sel(input=name, figure=figure)):.1f} % that networks have as they are, so each changes as much."
        for (figure, name), own in gone[gone["gone"]].groupby(["figure", "input"], sort=False)
    ]


STUDY = Study(
    file="variance.nc",
    about="initial weights against the order of the images, and depth, filters and class weights beside that luck",
    grid=_grid,
    measures=(counts_of,),
    reduce=kept,
)
