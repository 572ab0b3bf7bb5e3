"""Figures of merit of activations, with the spread over seeds and over scenes: what chapter 5 and the ledger read.

Functions take the sums of `hsiutils.activation_study`, so that they can be tried on sums made by hand.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils import analysis
from hsiutils.uncertainty import Estimate, difference

Statistic = Callable[[xr.Dataset], xr.DataArray]
"""Of sums per scene: reduces `scene`, keeps variant and seed, carries `resample` through."""

FEW, MANY = ("1", "3"), ("25-PN",)
"""The models that the paper's sentences on its Figs. 5 and 6 set against each other."""

RESAMPLES = 400
_AT_THE_BORDER = {"noise", "contrast", "noise_to_contrast"}
_RESAMPLED_BYTES = 2**27
"""Of resampled sums held in memory at a time."""


def placement(sums: xr.Dataset, source: str = "Vegetation", target: str = "Road") -> xr.DataArray:
    """Where the pixels of one class lie between the remaining classes (0) and the target's own (1), as read by margins.

    See `hsiutils.analysis.drive`.
    """
    return analysis.drive(sums, source, target)["placement"]


def road_share(sums: xr.Dataset, source: str = "Vegetation", target: str = "Road") -> xr.DataArray:
    """Part of all positive evidence for the target that lies on true pixels of another class, 0..1."""
    return analysis.drive(sums, source, target)["share"]


def evidence(sums: xr.Dataset, margin: bool = True) -> xr.Dataset:
    """`hsiutils.analysis.evidence` of sums that hold their head: what the channels say on each class's pixels."""
    return analysis.evidence(sums[["weight", "bias"]], sums[["pixels", "total", "square"]], margin)


def top_channel(sums: xr.Dataset, name: str) -> int:
    """The channel of one network that sets a class apart most, by `hsiutils.analysis.discrimination`."""
    found = analysis.discrimination(sums[["weight", "bias"]], sums[["pixels", "total", "square"]])
    return _largest(found["score"].sel({"class": name}))


def rank_of_costliest(found: xr.Dataset, loss: xr.DataArray) -> list[float]:
    """Which rank by score the channel has that costs a class the most IoU, by class: 1 is the best; NaN if unknown.

    Parameters
    ----------
    found : of `hsiutils.analysis.discrimination`.
    loss : of `hsiutils.analysis.iou_loss`.
    """
    ranks = []
    for name in found["class"].values:
        score, lost = found["score"].sel({"class": name}), loss.sel({"class": name})
        known = bool(score.notnull().any() and lost.notnull().any())
        ranks.append(float((score > score.sel(channel=_largest(lost))).sum() + 1) if known else np.nan)
    return ranks


def boldest_channel(sums: xr.Dataset, name: str) -> int:
    """The channel of one network with the most contrast across the borders of a class.

    Parameters
    ----------
    sums : of `hsiutils.analysis.edge_statistics`.
    """
    return _largest(analysis.edge_profiles(sums)["contrast"].sel({"class": name}))


def _largest(values: xr.DataArray) -> int:
    """Channel of the largest value; the first where none is known."""
    return int(values["channel"].values[values.fillna(-np.inf).argmax("channel").item()])


def variation(sums: xr.Dataset, region: str = "Other") -> xr.DataArray:
    """Coefficient of variation inside a region of a scene, median over the channels that are alive there.

    Other, which merges six classes of objects, is the diverse region of HSI-Drive. Larger is less homogeneous.
    """
    one = sums[["pixels", "total", "square"]].sel(region=[region])
    return analysis.homogeneity(one)["variation"].sel(region=region, drop=True).median("channel")


def edge_noise(sums: xr.Dataset, measure: str = "noise") -> xr.DataArray:
    """A measure of `hsiutils.analysis.edge_measures`, mean over the classes that have a border."""
    if measure in _AT_THE_BORDER:
        sums = sums.sel(distance=abs(sums["distance"]) < 1)  # all that they need: the rest would only cost time
    return analysis.edge_measures(sums)[measure].mean("class")


def by_variant(sums: xr.Dataset, statistic: Statistic, seed: int) -> pd.DataFrame:
    """A figure of every variant: mean over seeds, range over seeds, and 95 % interval over scenes of that mean.

    Returns
    -------
    One row a variant: mean, least, most (over seeds), low, high (bootstrap over scenes, `seed` of the resampling); NaN
    where nothing is known or there is one scene only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing but NaN are NaN, which the table shows
        each = statistic(sums)
        bounds = _over_scenes(sums, lambda drawn: statistic(drawn).mean("seed"), seed)
    columns = {
        "mean": each.mean("seed"),
        "least": each.min("seed"),
        "most": each.max("seed"),
        "low": bounds["low"],
        "high": bounds["high"],
    }
    return pd.DataFrame({name: values.values for name, values in columns.items()}, index=each["variant"].values)


def compare(
    sums: xr.Dataset, statistic: Statistic, seed: int, more: Sequence[str], less: Sequence[str]
) -> pd.DataFrame:
    """A figure of some variants less that of others, with both its intervals.

    Returns
    -------
    Rows "over seeds" (Welch) and "over scenes" (bootstrap): difference, low, high. The first says whether other
    trainings would agree, the second whether other scenes would. NaN where nothing is known.
    """
    trainings = _contrast_or_nothing(statistic(sums), more, less)
    scenes = _over_scenes(sums, lambda drawn: _gap(statistic(drawn), more, less).mean("seed"), seed)
    rows = {
        "over seeds": (trainings.mean, trainings.low, trainings.high),
        "over scenes": tuple(float(scenes[name]) for name in ("value", "low", "high")),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["difference", "low", "high"]).rename_axis("interval")


def findings(
    statements: Mapping[str, Statistic],
    sums: xr.Dataset,
    seed: int,
    more: Sequence[str] = MANY,
    less: Sequence[str] = FEW,
) -> pd.DataFrame:
    """What the run says to statements that a figure is larger in some variants than in others.

    Parameters
    ----------
    statements : words -> figure.
    sums, seed, more, less : as in `compare`.

    Returns
    -------
    Two rows a statement: statement, interval, difference, low, high, verdict; none where the sums lack a variant.
    """
    if not {*more, *less} <= set(sums["variant"].values):
        return pd.DataFrame(columns=["statement", "interval", "difference", "low", "high", "verdict"])
    parts = [
        compare(sums, statistic, seed, more, less).reset_index().assign(statement=words)
        for words, statistic in statements.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    table["verdict"] = [_verdict(low, high) for low, high in zip(table["low"], table["high"], strict=True)]
    return table[["statement", "interval", "difference", "low", "high", "verdict"]]


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return "holds"
    return "the reverse holds" if high < 0 else "cannot be told"


def contrast(values: xr.DataArray, more: Sequence[str], less: Sequence[str]) -> Estimate:
    """Mean over some variants less that over others, with Welch's interval over seeds.

    Parameters
    ----------
    values : (variant, seed)
    more, less : names of variants.

    Raises
    ------
    ValueError
        If either side has no finite value.
    """
    one, other = (values.sel(variant=list(names)).mean("variant") for names in (more, less))
    return difference(one, other)


def _contrast_or_nothing(values: xr.DataArray, more: Sequence[str], less: Sequence[str]) -> Estimate:
    try:
        return contrast(values, more, less)
    except ValueError:
        return Estimate(np.nan, np.nan, np.nan, 0)


def _gap(values: xr.DataArray, more: Sequence[str], less: Sequence[str]) -> xr.DataArray:
    return values.sel(variant=list(more)).mean("variant") - values.sel(variant=list(less)).mean("variant")


def _over_scenes(sums: xr.Dataset, statistic: Statistic, seed: int) -> xr.Dataset:
    if sums.sizes["scene"] < 2:
        value = statistic(sums)
        return xr.Dataset({"value": value, "low": value * np.nan, "high": value * np.nan})
    batch = int(np.clip(_RESAMPLED_BYTES // max(sums.nbytes, 1), 1, 100))
    return analysis.interval(sums, statistic, seed=seed, resamples=RESAMPLES, method="percentile", batch=batch)
