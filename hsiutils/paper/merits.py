"""Figures of merit of activations, with the spread over seeds and over scenes: what chapter 5 and the ledger read.

Functions take the sums of `hsiutils.paper.activations`, so that they can be tried on sums made by hand.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from hsiutils.analysis.channels import (
    class_contributions,
    cross_activation,
    discrimination,
    homogeneity,
    iou_loss,
    rank_channels,
)
from hsiutils.analysis.edges import edge_measures, edge_profiles
from hsiutils.analysis.intervals import Estimate, difference, interval

Statistic = Callable[[xr.Dataset], xr.DataArray]
"""Of sums per scene: reduces `scene`, keeps variant and seed, carries `resample` through."""
FEW, MANY = ("1", "3"), ("25-PN",)
"""The models that the paper's sentences on its Figs. 5 and 6 set against each other."""
RESAMPLES = 400
_AT_THE_BORDER = {"noise", "contrast", "noise_to_contrast"}


def placement(sums: xr.Dataset, source: str = "Vegetation", target: str = "Road") -> xr.DataArray:
    """Where the pixels of one class lie between the remaining classes (0) and the target's own (1), as read by margins.

    See `hsiutils.analysis.channels`.
    """
    return cross_activation(sums, source, target)["placement"]


def road_share(sums: xr.Dataset, source: str = "Vegetation", target: str = "Road") -> xr.DataArray:
    """Part of all positive evidence for the target that lies on true pixels of another class, 0..1."""
    return cross_activation(sums, source, target)["share"]


def evidence(sums: xr.Dataset, margin: bool = True) -> xr.Dataset:
    """`class_contributions` of sums that hold their head: what channels add on each class's pixels."""
    return class_contributions(sums[["weight", "bias"]], sums[["pixels", "total", "square"]], margin)


def top_channel(sums: xr.Dataset, name: str) -> int:
    """The channel of one network that sets a class apart most, by `discrimination`."""
    found = discrimination(sums[["weight", "bias"]], sums[["pixels", "total", "square"]])
    return _largest(found["score"].sel({"class": name}))


def ranking(one: xr.Dataset, name: str, seed: int) -> pd.DataFrame:
    """Channels of one network by what they do for a class, with 95 % bootstrap intervals over scenes.

    Parameters
    ----------
    one : of `hsiutils.paper.activations.head_sums`.
    seed : of the resampling.

    Returns
    -------
    One row a rank: channel, contribution, taken, granted, score, logit_share and score_share of
    `rank_channels`; score_low, score_high, logit_share_low and logit_share_high, the latter with the
    order of the channels kept. NaN bounds where there is one scene only.
    """
    head, sums = one[["weight", "bias"]], one[["pixels", "total", "square"]]
    table = rank_channels(discrimination(head, sums)).loc[name].reset_index()
    order = table["channel"].to_list()

    def figures(drawn: xr.Dataset) -> xr.Dataset:
        found = discrimination(head, drawn).sel({"class": name, "channel": order})
        summed = found["contribution"].cumsum("channel")
        return xr.Dataset({"score": found["score"], "logit_share": summed / found["contribution"].sum("channel")})

    bounds = _over_scenes(sums, lambda drawn: figures(drawn).to_dataarray("measure"), seed, pools=True)
    for key in ("score", "logit_share"):
        for side in ("low", "high"):
            table[f"{key}_{side}"] = bounds[side].sel(measure=key).transpose("channel").values
    return table


def knock_out_table(one: xr.Dataset, silenced: xr.Dataset, seed: int) -> pd.DataFrame:
    """Does the score of a channel tell what is lost without it? One row a class, with intervals over scenes.

    Parameters
    ----------
    one : of `hsiutils.paper.activations.head_sums`.
    silenced : of `hsiutils.paper.activations.knocked`, the same network and scenes.
    seed : of the resampling.

    Returns
    -------
    rho, Spearman's rank correlation over the channels of score and lost IoU; loss, IoU points lost without the
    costliest channel; both with _low and _high, 95 % bootstrap over scenes, the costliest channel kept; place, its
    rank by score.
    """
    head, sums = one[["weight", "bias"]], one[["pixels", "total", "square"]]
    found, loss = discrimination(head, sums), iou_loss(silenced)
    costliest = loss.fillna(-np.inf).argmax("channel")

    def figures(drawn: xr.Dataset) -> xr.DataArray:
        score = discrimination(head, drawn[["pixels", "total", "square"]])["score"]
        lost = iou_loss(drawn[["intact", "silenced"]])
        worst = 100 * lost.isel(channel=costliest)
        return xr.Dataset({"rho": _rank_correlation(score, lost), "loss": worst}).to_dataarray("measure")

    both = sums.merge(silenced).assign_attrs(sums.attrs)
    bounds = _over_scenes(both, figures, seed, pools=True)
    columns: dict[str, Any] = {}
    for key in ("rho", "loss"):
        columns |= {key + end: bounds[side].sel(measure=key).values for end, side in _ENDS.items()}
    columns["place"] = np.array(rank_of_costliest(found, loss))
    return pd.DataFrame(columns, index=pd.Index(found["class"].values, name="class"))


_ENDS = {"": "value", "_low": "low", "_high": "high"}


def _rank_correlation(one: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """Spearman's, over the channels; NaN where either is all equal or unknown."""
    first, second = (
        xr.apply_ufunc(
            stats.rankdata,
            values,
            input_core_dims=[["channel"]],
            output_core_dims=[["channel"]],
            kwargs={"axis": -1, "nan_policy": "propagate"},
        )
        for values in (one, other)
    )
    found: xr.DataArray = xr.corr(first, second, dim="channel")
    return found


def median_fields(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Median diameter of the effective receptive fields of each layer, with its 95 % bootstrap interval over scenes.

    Parameters
    ----------
    table : of `hsiutils.paper.activations.fields`, one network.

    Returns
    -------
    One row a layer: median, low, high, pixels.
    """
    number = table.groupby(["layer", "scene"]).cumcount()
    values = table.assign(number=number).set_index(["layer", "scene", "number"])["diameter"].to_xarray()
    layers = list(dict.fromkeys(table["layer"]))
    bounds = _over_scenes(
        values.sel(layer=layers).to_dataset(name="diameter"), lambda d: d["diameter"].median(["scene", "number"]), seed
    )
    columns = {"median": bounds["value"], "low": bounds["low"], "high": bounds["high"]}
    return pd.DataFrame(
        {key: one.transpose("layer").values for key, one in columns.items()}, index=pd.Index(layers, name="layer")
    )


def rank_of_costliest(found: xr.Dataset, loss: xr.DataArray) -> list[float]:
    """Which rank by score the channel has that costs a class the most IoU, by class: 1 is the best; NaN if unknown.

    Parameters
    ----------
    found : of `discrimination`.
    loss : of `iou_loss`.
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
    sums : of `edge_sums`.
    """
    return _largest(edge_profiles(sums)["contrast"].sel({"class": name}))


def _largest(values: xr.DataArray) -> int:
    """Channel of the largest value; the first where none is known."""
    return int(values["channel"].values[values.fillna(-np.inf).argmax("channel").item()])


def variation(sums: xr.Dataset, region: str = "Other") -> xr.DataArray:
    """Coefficient of variation inside a region of a scene, median over the channels that are alive there.

    Other, which merges six classes of objects, is the diverse region of HSI-Drive. Larger is less homogeneous.
    """
    one = sums[["pixels", "total", "square"]].sel(region=[region])
    return homogeneity(one)["variation"].sel(region=region, drop=True).median("channel")


def edge_noise(sums: xr.Dataset, measure: str = "noise") -> xr.DataArray:
    """A measure of `edge_measures`, mean over the classes that have a border."""
    if measure in _AT_THE_BORDER:
        sums = sums.sel(distance=abs(sums["distance"]) < 1)  # all that they need: the rest would only cost time
    return edge_measures(sums)[measure].mean("class")


def by_variant(sums: xr.Dataset, statistic: Statistic, seed: int, pools: bool = False) -> pd.DataFrame:
    """A figure of every variant: mean over seeds, range over seeds, and 95 % interval over scenes of that mean.

    Parameters
    ----------
    sums, statistic : of them.
    seed : of the resampling.
    pools : whether the statistic reads nothing but sums over the scenes. A resample is then a weighted sum, much
        quicker made than scenes put together.

    Returns
    -------
    One row a variant: mean, least, most (over seeds), low, high (bootstrap over scenes, `seed` of the resampling); NaN
    where nothing is known, there is one scene only, or, for least and most, one network only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing but NaN are NaN, which the table shows
        each = statistic(sums)
        bounds = _over_scenes(sums, lambda drawn: statistic(drawn).mean("seed"), seed, pools)
    columns = {
        "mean": each.mean("seed"),
        "least": each.min("seed").where(each.sizes["seed"] > 1),
        "most": each.max("seed").where(each.sizes["seed"] > 1),
        "low": bounds["low"],
        "high": bounds["high"],
    }
    return pd.DataFrame({name: values.values for name, values in columns.items()}, index=each["variant"].values)


def compare(
    sums: xr.Dataset, statistic: Statistic, seed: int, more: Sequence[str], less: Sequence[str], pools: bool = False
) -> pd.DataFrame:
    """A figure of some variants less that of others, with both its intervals.

    Parameters
    ----------
    sums, statistic, seed, pools : as in `by_variant`.
    more, less : names of variants.

    Returns
    -------
    Rows "over seeds" (Welch) and "over scenes" (bootstrap): difference, low, high. The first says whether other
    trainings would agree, the second whether other scenes would. NaN where nothing is known.
    """
    trainings = _contrast_or_nothing(statistic(sums), more, less)
    scenes = _over_scenes(sums, lambda drawn: _gap(statistic(drawn), more, less).mean("seed"), seed, pools)
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
    pools: bool = False,
) -> pd.DataFrame:
    """What the run says to statements that a figure is larger in some variants than in others.

    Parameters
    ----------
    statements : words -> figure.
    sums, seed, more, less, pools : as in `compare`.

    Returns
    -------
    Two rows a statement: statement, interval, difference, low, high, verdict; none where the sums lack a variant.
    """
    if not {*more, *less} <= set(sums["variant"].values):
        return pd.DataFrame(columns=["statement", "interval", "difference", "low", "high", "verdict"])
    parts = [
        compare(sums, statistic, seed, more, less, pools).reset_index().assign(statement=words)
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


def _over_scenes(sums: xr.Dataset, statistic: Statistic, seed: int, pools: bool = False) -> xr.Dataset:
    return interval(sums, statistic, seed=seed, resamples=RESAMPLES, method="percentile", pools=pools)
