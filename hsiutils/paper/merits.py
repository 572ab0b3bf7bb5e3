"""Figures of merit of activations, with the spread over seeds and over scenes: what chapter 5 and the ledger read.

Functions take the sums of `hsiutils.paper.activations`, so that they can be tried on sums made by hand.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from hsiutils.analysis.channels import between_regions, discrimination, iou_loss, rank_channels
from hsiutils.analysis.edges import edge_measures, edge_profiles
from hsiutils.analysis.estimates import Estimate, crossed, difference, weighted_sum, with_trainings
from hsiutils.analysis.intervals import SEQUENCE, interval
from hsiutils.paper.words import counted

Statistic = Callable[[xr.Dataset], xr.DataArray]
"""Of sums per scene: reduces `scene`, keeps variant and seed, carries `resample` through."""
FEW, MANY = ("1", "3"), ("25-PN",)
"""The models that the paper's sentences on its Figs. 5 and 6 set against each other."""
_over_scenes = partial(interval, resamples=400, method="percentile")
_AT_THE_BORDER = {"noise", "contrast", "noise_to_contrast"}


def predicted_as(counts: xr.Dataset, source: str | None = "Vegetation", target: str = "Road") -> xr.DataArray:
    """Share of the true pixels of one class, or of all, that are predicted another, %, of `table1.evaluation`."""
    confusion = counts["confusion"].sel(region="all", drop=True).sum("scene")
    pixels = confusion.sum("truth") if source is None else confusion.sel(truth=source, drop=True)
    every = pixels.sum("predicted")
    return 100 * pixels.sel(predicted=target, drop=True) / every.where(every > 0)


def top_channel(sums: xr.Dataset, name: str) -> tuple[int, float, float]:
    """The channel of one network that sets a class apart most, by `discrimination`; its score, and that of all."""
    found = discrimination(sums[["weight", "bias"]], sums[["pixels", "total", "square"]])
    score = found["score"].sel({"class": name})
    top = _largest(score)
    return top, float(score.sel(channel=top)), float(score.sum())


def ranking(one: xr.Dataset, name: str, seed: int) -> pd.DataFrame:
    """Channels of one network by what they do for a class, with 95 % bootstrap intervals over scenes.

    Parameters
    ----------
    one : of `hsiutils.paper.activations.head_sums`.
    seed : of the resampling.

    Returns
    -------
    One row a rank: the columns of `rank_channels`; score_low, score_high, logit_share_low and logit_share_high, the
    latter with the order of the channels kept. NaN bounds where there is one scene only.
    """
    head, sums = one[["weight", "bias"]], one[["pixels", "total", "square"]]
    table = rank_channels(discrimination(head, sums)).loc[name].reset_index()
    order = table["channel"].to_list()

    def figures(drawn: xr.Dataset) -> xr.DataArray:
        found = discrimination(head, drawn).sel({"class": name, "channel": order})
        share = found["contribution"].cumsum("channel") / found["contribution"].sum("channel")
        return xr.Dataset({"score": found["score"], "logit_share": share}).to_dataarray("measure")

    bounds = _over_scenes(sums, figures, seed=seed, pools=True)
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
    score, loss = discrimination(head, sums)["score"], iou_loss(silenced)
    costliest = loss.fillna(-np.inf).argmax("channel")

    def figures(drawn: xr.Dataset) -> xr.DataArray:
        scored = discrimination(head, drawn[["pixels", "total", "square"]])["score"]
        lost = iou_loss(drawn[["intact", "silenced"]])
        worst = 100 * lost.isel(channel=costliest)
        return xr.Dataset({"rho": rank_correlation(scored, lost, "channel"), "loss": worst}).to_dataarray("measure")

    both = sums.merge(silenced).assign_attrs(sums.attrs)
    bounds = _over_scenes(both, figures, seed=seed, pools=True)
    columns = {
        f"{key}{end}": bounds[side].sel(measure=key).values
        for key in ("rho", "loss")
        for end, side in {"": "value", "_low": "low", "_high": "high"}.items()
    }
    columns["place"] = _rank_of_costliest(score, loss).values
    return pd.DataFrame(columns, index=pd.Index(score["class"].values, name="class"))


def readings(one: xr.Dataset, silenced: xr.Dataset) -> xr.Dataset:
    """Spearman's correlation over the channels of each of two readings and the IoU lost without a channel, (class).

    Arguments as of `knock_out_table`. `contribution`: what a channel adds to a class's logit on the class's own pixels,
    as the paper reads it; `score`, of `discrimination`, what of that the other classes do not get. A reading whose
    channels were exchanged at random has 0 on average.
    """
    found = discrimination(one[["weight", "bias"]], one[["pixels", "total", "square"]])
    return found[["contribution", "score"]].map(partial(rank_correlation, iou_loss(silenced), dim="channel"))


RELIABLE = 0.5
"""Rank correlation from which on a reading of channels counts as reliable, here and in the ledger."""


def readings_in_words(found: xr.Dataset) -> list[str]:
    """`readings` (variant, seed, class) in a line each, means over classes and over networks, and whether either does.

    A network in which nothing is known is left out.
    """
    names = {"contribution": "The paper's reading, what a channel adds to a class,", "score": "This book's score"}
    said, means = [], {}
    for reading, words in names.items():
        each = found[reading].mean("class").values
        known = each[np.isfinite(each)]
        if known.size:
            means[reading] = float(known.mean())
            said.append(
                f"{words} ranks channels by the IoU lost without them at {means[reading]:+.2f} (rank correlation, "
                f"mean of {counted(known.size, 'network')}; single ones from {known.min():+.2f} to {known.max():+.2f})."
            )
    reliable = [words.split(",")[0] for reading, words in names.items() if means.get(reading, -1) >= RELIABLE]
    return [*said, f"Reliable, {RELIABLE} or more: {'; '.join(reliable) or 'neither'}."]


def rank_correlation(one: xr.DataArray, other: xr.DataArray, dim: str) -> xr.DataArray:
    """Spearman's, over a dimension; NaN where either is all equal or unknown."""
    rank = partial(stats.rankdata, axis=-1, nan_policy="propagate")
    first, second = (
        xr.apply_ufunc(rank, values, input_core_dims=[[dim]], output_core_dims=[[dim]]) for values in (one, other)
    )
    found: xr.DataArray = xr.corr(first, second, dim=dim)
    return found


def median_fields(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Median diameter of the effective receptive fields of each layer, with its 95 % bootstrap interval over scenes.

    Of one network's `hsiutils.paper.activations.fields`; one row a layer: median, low, high.
    """
    number = table.groupby(["layer", "scene"]).cumcount()
    values = table.assign(number=number).set_index(["layer", "scene", "number"])["diameter"].to_xarray()
    layers = list(dict.fromkeys(table["layer"]))
    diameters = values.sel(layer=layers).to_dataset(name="diameter")
    if SEQUENCE in table:
        known = table.groupby("scene")[SEQUENCE].first()
        diameters = diameters.assign_coords({SEQUENCE: ("scene", known[diameters["scene"].values])})
    bounds = _over_scenes(diameters, lambda drawn: drawn["diameter"].median(["scene", "number"]), seed=seed)
    sides = {"median": "value", "low": "low", "high": "high"}
    columns = {key: bounds[side].transpose("layer").values for key, side in sides.items()}
    return pd.DataFrame(columns, index=pd.Index(layers, name="layer"))


def _rank_of_costliest(score: xr.DataArray, loss: xr.DataArray) -> xr.DataArray:
    """Which rank by score the channel has that costs a class the most IoU, (class): 1 is the best; NaN if unknown."""
    known = (score.notnull() & loss.notnull()).any("channel")
    costliest = score.isel(channel=loss.fillna(-np.inf).argmax("channel"))
    return ((score > costliest).sum("channel") + 1).where(known)


def boldest_channel(sums: xr.Dataset, name: str) -> int:
    """The channel of one network with the most contrast across the borders of a class, of its `edge_sums`."""
    return _largest(edge_profiles(sums)["contrast"].sel({"class": name}))


def _largest(values: xr.DataArray) -> int:
    """Channel of the largest value; the first where none is known."""
    return int(values["channel"].values[values.fillna(-np.inf).argmax("channel").item()])


def explained(sums: xr.Dataset) -> xr.DataArray:
    """Share of a channel's variance inside a scene's Other that the true materials explain, %, median over channels.

    Of `hsiutils.paper.activations.material_sums`; the correlation ratio (eta squared) within scenes. Other merges six
    classes of objects, and is the diverse region of HSI-Drive.
    """
    return 100 * between_regions(sums).median("channel")


def edge_noise(sums: xr.Dataset, measure: str = "noise") -> xr.DataArray:
    """A measure of `edge_measures`, mean over the classes that have a border."""
    if measure in _AT_THE_BORDER:
        sums = sums.sel(distance=abs(sums["distance"]) < 1)  # all that they need: the rest would only cost time
    return edge_measures(sums)[measure].mean("class")


def by_variant(sums: xr.Dataset, statistic: Statistic, seed: int, pools: bool = False) -> pd.DataFrame:
    """A figure of every variant: mean over seeds, range over seeds, and 95 % interval over scenes of that mean.

    Parameters
    ----------
    seed : of the resampling.
    pools : whether the statistic reads nothing but sums over the scenes. A resample is then a weighted sum, much
        quicker made than scenes put together.

    Returns
    -------
    One row a variant: mean, least, most (over seeds), low, high (bootstrap over scenes); NaN where nothing is known,
    there is one scene only, or, for least and most, one network only.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing but NaN are NaN, which the table shows
        each = statistic(sums)
        bounds = _over_scenes(sums, lambda drawn: statistic(drawn).mean("seed"), seed=seed, pools=pools)
    spread = each.where(each.sizes["seed"] > 1)
    columns = {"mean": each.mean("seed"), "least": spread.min("seed"), "most": spread.max("seed")}
    columns |= {side: bounds[side] for side in ("low", "high")}
    return pd.DataFrame({name: values.values for name, values in columns.items()}, index=each["variant"].values)


def compare(
    sums: xr.Dataset, statistic: Statistic, seed: int, more: Sequence[str], less: Sequence[str], pools: bool = False
) -> pd.DataFrame:
    """A figure of some variants less that of others, with both its intervals; parameters as of `by_variant`.

    Returns
    -------
    Rows "over seeds" (Welch) and "over scenes" (bootstrap): difference, low, high. The first says whether other
    trainings would agree, the second whether other scenes would. NaN where nothing is known.
    """
    each = statistic(sums)
    try:
        trainings = contrast(each, more, less)
    except ValueError:
        trainings = Estimate(np.nan, np.nan, np.nan, 0)

    scenes = over_scenes(sums, statistic, seed, more, less, pools)
    rows = {
        name: (one.mean, one.low, one.high) for name, one in {"over seeds": trainings, "over scenes": scenes}.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["difference", "low", "high"]).rename_axis("interval")


def over_both(sums: xr.Dataset, statistic: Statistic, seed: int, more: Sequence[str], less: Sequence[str]) -> Estimate:
    """A figure of sums, of some variants less that of others, with an interval over seeds and scenes together.

    Other trainings on other scenes should agree: an interval over seeds alone says nothing of the scenes.

    Raises
    ------
    ValueError
        If either side has no finite value.
    """
    seeds = contrast(statistic(sums), more, less)
    return crossed(seeds, over_scenes(sums, statistic, seed, more, less, pools=True))


def weighted_over_both(sums: xr.Dataset, statistic: Statistic, seed: int, weights: xr.DataArray) -> Estimate:
    """A figure of sums, weighted and summed over the dimensions of the weights, with an interval as of `over_both`.

    A difference of differences, such as an interaction, is one.

    Raises
    ------
    ValueError
        If a network with a weight has no finite value in any seed.
    """
    sums = sums.sel(weights.coords)
    cells = statistic(sums).transpose(*weights.dims, "seed").values.reshape(weights.size, -1)
    seeds = weighted_sum(list(cells), weights.values.ravel().tolist())

    def over(drawn: xr.Dataset) -> xr.DataArray:
        return (statistic(drawn).mean("seed") * weights).sum(weights.dims, skipna=False)

    found = _over_scenes(sums, over, seed=seed, pools=True)
    return crossed(seeds, Estimate.of(found, found.attrs["drawn"]))


def with_both(
    sums: xr.Dataset, statistic: Statistic, seed: int, pooled: Sequence[str] = (), pools: bool = True
) -> xr.Dataset:
    """A figure (..., seed) of sums: its mean over seeds, value, low and high (...), over seeds and scenes together.

    Parameters
    ----------
    seed : of the resampling.
    pooled : dimensions over which the variance between seeds is taken to be one: for grids of few seeds each.
    pools : as of `by_variant`.

    Returns
    -------
    Dataset of value, low, high; NaN where no network has a value.
    """
    each = statistic(sums)
    count = each.notnull().sum("seed")
    variance, freedom = each.var("seed", ddof=1), count - 1
    variance, freedom = variance.mean(pooled).broadcast_like(count), freedom.sum(pooled).broadcast_like(count)
    scenes = _over_scenes(sums, lambda drawn: statistic(drawn).mean("seed"), seed=seed, pools=pools)
    return with_trainings(scenes, variance / count, freedom)


def over_scenes(
    sums: xr.Dataset, statistic: Statistic, seed: int, more: Sequence[str], less: Sequence[str], pools: bool = False
) -> Estimate:
    """A figure of some variants less that of others with its interval over scenes; parameters as of `by_variant`."""

    def gap(drawn: xr.Dataset) -> xr.DataArray:
        one, other = (statistic(drawn).sel(variant=list(names)).mean("variant") for names in (more, less))
        return (one - other).mean("seed")

    found = _over_scenes(sums, gap, seed=seed, pools=pools)
    return Estimate.of(found, found.attrs["drawn"])


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
    statements : words -> figure; the others as of `compare`. Figures in "points" are shares in percent, and no interval
        of their difference leaves -100 to 100.

    Returns
    -------
    Two rows a statement: statement, interval, difference, low, high, verdict; none where the sums lack a variant.
    """
    columns = ["statement", "interval", "difference", "low", "high", "verdict"]
    if not {*more, *less} <= set(sums["variant"].values):
        return pd.DataFrame(columns=columns)
    parts = [
        compare(sums, statistic, seed, more, less, pools).reset_index().assign(statement=words)
        for words, statistic in statements.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    bounds = table.loc[table["statement"].str.contains("points"), ["low", "high"]]
    table.loc[bounds.index, ["low", "high"]] = bounds.clip(-100, 100)
    verdicts = ["holds", "the reverse holds"]
    return table.assign(verdict=np.select([table["low"] > 0, table["high"] < 0], verdicts, "cannot be told"))[columns]


def contrast(values: xr.DataArray, more: Sequence[str], less: Sequence[str], pooled: bool = False) -> Estimate:
    """Mean of values (variant, seed) over some variants less that over others, with Welch's interval over seeds.

    With `pooled` the variance between seeds is taken to be one for all variants of the values, none missing: for few
    seeds each.

    Raises
    ------
    ValueError
        If either side has no finite value.
    """
    one, other = (values.sel(variant=list(names)).mean("variant") for names in (more, less))
    found, seeds = difference(one, other), values.sizes["seed"]
    if not pooled or seeds < 2:
        return found
    variance = float(values.var("seed", ddof=1).mean()) / seeds * (1 / len(more) + 1 / len(less))
    freedom = values.sizes["variant"] * (seeds - 1)
    half = float(stats.t.ppf(0.975, freedom)) * np.sqrt(variance)
    return Estimate(found.mean, found.mean - half, found.mean + half, seeds, freedom)
