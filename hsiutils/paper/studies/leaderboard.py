"""The leaderboard with ground truth: every method asked what a physical change of many streets does to the logits.

Finished networks, none trained for it; how streets are changed is `hsiutils.paper.physics`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import kendalltau

from hsiutils.analysis.estimates import Estimate, within
from hsiutils.analysis.intervals import interval
from hsiutils.attribution.effects import NULLS
from hsiutils.attribution.leaderboard import FLIPPED
from hsiutils.paper.merits import Statistic, with_both
from hsiutils.paper.physics import LIGHT, MATERIAL, answers
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.words import counted

INPUTS = ("25", "25-PN")
METRICS = {
    "swaps": 1,
    "unsigned": 1,
    "light": 1,
    "error": -1,
    "leakage": -1,
    "noise": 1,
    "brightness": 1,
    "blur": 1,
    FLIPPED: 1,
    "forwards": -1,
    "memory": -1,
}
"""Columns of the leaderboard, and +1 where more is better."""
_FEWEST = 6
"""Methods that must have an answer to both of two questions, for a Kendall's tau."""


def _grid(run: Run) -> Sequence[Point]:
    names = [name for name in INPUTS if name in run.variants]
    return [Point(run, name, seed, {"input": name}) for name in names for seed in run.seeds]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    return found["answers"].astype("float32")


def board(found: xr.Dataset, name: str, seed: int) -> pd.DataFrame:
    """The leaderboard of one input's networks, the best foreteller of swaps first.

    Parameters
    ----------
    found : the record.
    name : of the input.
    seed : of the resampling.

    Returns
    -------
    A row a method, the nulls among them, with the columns of `METRICS`: means over scenes and networks, but `error`, a
    network's root of the sum over scenes of (foretold - true)^2 over that of true^2, of swaps: 1 for who foretells
    nothing. `swaps` ranks effects with their signs, `unsigned` their sizes. `low` and `high` are the interval of
    `swaps`; "swaps above" and "unsigned above" the difference to the best null, an `Estimate`; intervals as of
    `bounds`.
    """
    own, all_bounds = found.sel(input=name, drop=True), bounds(found, name, seed)
    means = all_bounds["value"].to_dataset("measure")
    frame = means.merge(own[["forwards", "memory"]].mean("seed")).to_dataframe()[list(METRICS)]
    for column, score in (("swaps", "rank"), ("unsigned", "size")):
        best = frame.loc[list(NULLS), column].astype(float).idxmax()
        values = own[score].sel(kind=MATERIAL, drop=True)
        over = values - values.sel({"method": best}, drop=True)
        gaps = _told(over.to_dataset(name="value"), _over_scenes, seed)
        estimates = [Estimate.of(gaps.sel({"method": method}), own.sizes["scene"]) for method in frame.index]
        frame[f"{column} above"] = estimates
    swaps = within(all_bounds.sel(measure="swaps"), -1, 1)
    for place, bound in enumerate(("low", "high")):
        frame.insert(1 + place, bound, swaps[bound].to_series())
    return frame.sort_values("swaps", ascending=False, na_position="last")


def asked_of(found: xr.Dataset) -> str:
    """Of how many streets and networks the record is, in words, and what its 95 % intervals are over."""
    networks = found.sizes["seed"]
    over = "streets and networks together" if networks > 1 else "streets"
    return (
        f"{found.sizes['scene']} simulated streets, {counted(networks, 'recorded network')} for each input; "
        f"95 % intervals over {over}"
    )


def bounds(found: xr.Dataset, name: str, seed: int) -> xr.Dataset:
    """Those of `METRICS` that scenes give, of one input's networks, with 95 % intervals over scenes and networks.

    Of one network over scenes alone. Arguments as of `board`. Dataset of value, low, high (measure, method).
    """
    own = found.sel(input=name, drop=True)[["rank", "size", "error", "effect", "leakage", "robustness"]]
    return _told(own, _means, seed)


def _told(own: xr.Dataset, statistic: Statistic, seed: int) -> xr.Dataset:
    """A figure (..., seed), mean over networks, with its interval over scenes, and networks where there are several."""
    if own.sizes["seed"] > 1:
        return with_both(own, statistic, seed, pools=False)
    return interval(own, lambda drawn: statistic(drawn).mean("seed"), seed=seed, method="percentile")


def _over_scenes(drawn: xr.Dataset) -> xr.DataArray:
    return drawn["value"].mean("scene")


def _means(scores: xr.Dataset) -> xr.DataArray:
    """The columns that are means over scenes, (measure, method, seed)."""
    over = scores.mean("scene")
    missed = scores[["error", "effect"]].sel(kind=MATERIAL).sum("scene", skipna=False)
    columns = {"swaps": over["rank"].sel(kind=MATERIAL), "unsigned": over["size"].sel(kind=MATERIAL)}
    columns |= {"light": over["rank"].sel(kind=LIGHT)}
    columns |= {"error": (missed["error"] / missed["effect"]) ** 0.5, "leakage": over["leakage"]}
    columns |= {str(one): over["robustness"].sel(disturbance=one) for one in scores["disturbance"].values}
    return xr.Dataset({key: values.reset_coords(drop=True) for key, values in columns.items()}).to_dataarray("measure")


def taus(table: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau between every two of `METRICS` over the methods of a `board`, each turned so that more is better.

    Square; NaN where fewer than six methods have an answer to both, or all have the same. Nulls are left out.
    """
    kept = table.drop(index=[name for name in NULLS if name in table.index])
    turned = (kept[list(METRICS)] * pd.Series(METRICS)).round(3)  # what differs by rounding alone is a tie
    values = [[_tau(turned[one], turned[other]) for other in METRICS] for one in METRICS]
    return pd.DataFrame(values, list(METRICS), list(METRICS))


def _tau(one: pd.Series, other: pd.Series) -> float:
    known = one.notna() & other.notna()
    return float(kendalltau(one[known], other[known]).statistic) if known.sum() >= _FEWEST else np.nan


def findings(found: xr.Dataset, seed: int) -> list[str]:
    """What the record says, in sentences: of every input, and of the agreement of metrics."""
    alone = found.sizes["seed"] == 1
    said = []
    if alone:
        said.append(
            "The record has one network for each input, and its intervals are over streets alone: the sentences are on "
            "maps of that network. Another training may order the methods otherwise."
        )
    for name in map(str, found["input"].values):
        table = board(found, name, seed)
        ours = table.drop(index=list(NULLS))
        for column, what in (("swaps", "effects of swapped materials"), ("unsigned", "their sizes, without signs")):
            null = table.loc[list(NULLS), column].astype(float)
            signs = {method: ours[f"{column} above"][method].sign for method in ours.index}
            beat, lost = ([str(method) for method in ours.index if signs[method] == sign] for sign in (1, -1))
            said.append(
                f"{name}{', this network' if alone else ''}, {what}: the best null ({null.idxmax()}) ranks them at "
                f"{null.max():+.2f}. Better than it: {', '.join(beat) or 'no method'}. Worse: "
                f"{', '.join(lost) or 'none'}. Of {len(ours)} methods, each judged by itself, chance alone would tell "
                f"about {0.05 * len(ours):.0f} from the null."
            )
        errors = ours["error"].astype(float)
        missed = _missed(found.sel(input=name))
        said.append(
            f"{name}: who foretells no change has an error of 1. The least error has {errors.idxmin()}, "
            f"{errors.min():.2f}. Asked at every logit, a network's own affine map has {missed[MATERIAL]:.2f} for "
            f"materials, and {missed[LIGHT]:.2f} for a band's light."
        )
        others = taus(table).loc["swaps"].drop("swaps").dropna()
        if len(others):
            said.append(
                f"{name}: of the other columns, {others.idxmax()} orders the methods most like swaps do (Kendall's tau "
                f"{others.max():+.2f}), and {others.idxmin()} least ({others.min():+.2f})."
            )
    return said


def _missed(own: xr.Dataset) -> dict[str, float]:
    """Error of the affine map at every logit and scene, relative to the effects, by kind of change."""
    sums = own[["logit_error", "logit_effect"]].sum(["scene", "seed"]).groupby("of").sum()
    share = (sums["logit_error"] / sums["logit_effect"]) ** 0.5
    return {str(kind): float(share.sel(of=kind)) for kind in share["of"].values}


STUDY = Study(
    file="leaderboard.nc",
    about="every method against the true effect of another material or a band's dimmed light, rendered, on all logits",
    grid=_grid,
    measures=(answers,),
    reduce=_reduce,
)
