"""Do two networks see the same features? Channel-wise correlation, matched channels, CKA, and what chance gives.

Source: Fig. 4 of arXiv 2502.14416; linear CKA: Kornblith et al. 2019, arXiv 1905.00414. Channels of two trainings have
no common order, and smooth maps of the same scene correlate by their layout alone; so channels are matched by optimal
assignment, and every figure is read against nulls: two seeds of one model, activations of another scene, activations
moved within the scene.

Fig. 4 as numbers: how alike networks are before the head, what of that is their input, and what is chance.

Functions take the moments of `hsiutils.paper.activations.similarity_sums`. All channels of all networks are correlated
at once, for all scenes or for scenes drawn with replacement.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hsiutils import analysis
from hsiutils.analysis.activations import ROUNDING, LabelledScenes, Maps, last_layer, observe
from hsiutils.analysis.intervals import Estimate, mean_over_seeds
from hsiutils.models.unet import UNet

Shuffle = Literal["none", "moved", "other scene"]


@dataclass(frozen=True, eq=False)
class Source:
    """One network, the scenes as it is given them, and how to break their common order for a null.

    Attributes
    ----------
    model : the network.
    scenes : in the same order for every source; images may differ in their channels.
    shuffle : "moved" shifts each scene's maps cyclically by a quarter to three quarters of its height and width, which
        keeps their texture and undoes their place; "other scene" takes the maps of another scene, which keeps the
        common layout (sky above, road below) and undoes the content.
    """

    model: UNet
    scenes: LabelledScenes
    shuffle: Shuffle = "none"

    def __post_init__(self) -> None:
        if self.shuffle not in ("none", "moved", "other scene"):
            raise ValueError(f"shuffle must be 'none', 'moved' or 'other scene', got {self.shuffle!r}")
        if self.shuffle == "other scene" and len(self.scenes) < 2:
            raise ValueError("shuffle 'other scene' needs at least two scenes")


def moments(
    sources: Mapping[str, Source],
    layer: str | None = None,
    after: bool = True,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Joint first and second moments of all channels of all sources over the pixels of each scene, in one pass.

    Every correlation, matching, CKA and interval follows from these sums; no more than one scene's activations are held
    at a time. The result takes 8 bytes x scenes x (all channels)**2.

    Parameters
    ----------
    sources : by name, e.g. "25-PN seed 1".
    layer : Keras name; None for each network's last 3x3 convolution (conv2d_21 in the paper).
    after : after batch normalisation and ReLU.
    names : one a scene; None numbers them.
    seed : of the shuffles.

    Returns
    -------
    Dataset of pixels (scene), total (scene, unit) and product (scene, unit, unit_other); a unit is a channel of a
    source, with coordinates source and channel along `unit`.

    Raises
    ------
    ValueError
        If the sources have not the same number of scenes, or their activations differ in size.
    """
    counts = {name: len(source.scenes) for name, source in sources.items()}
    if not counts or len(set(counts.values())) > 1 or not max(counts.values()):
        raise ValueError(f"sources must be given the same scenes, at least one; got {counts}")
    count = next(iter(counts.values()))
    labels = [str(n) for n in range(count)] if names is None else list(names)
    if len(labels) != count:
        raise ValueError(f"expected one name a scene, got {len(labels)} names for {count} scenes")
    walks = [_Walk.of(source, layer, seed) for source in sources.values()]
    units = list(sources)
    total = None
    for index in range(count):
        seen = _Seen(after)
        sums = _scene_moments(units, [walk.maps(index, seen) for walk in walks])
        total = _room(count, sums) if total is None else total
        for name, values in total.items():
            values[index] = sums[name].values
    data = {name: (("scene", *sums[name].dims), values) for name, values in (total or {}).items()}
    found = xr.Dataset(data, {**sums.coords, "scene": labels})
    return found.assign_attrs(layer=layer or "last", after=after)


def _room(count: int, one: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    """Arrays for all scenes: they may be large, and a list of parts would hold them twice."""
    return {str(name): np.empty((count, *values.shape)) for name, values in one.items()}


@dataclass(frozen=True, eq=False)
class _Walk:
    """A source's way through the scenes; equal shuffles of equal seeds draw alike for every source."""

    source: Source
    layer: str
    rng: np.random.Generator
    step: int

    @classmethod
    def of(cls, source: Source, layer: str | None, seed: int) -> "_Walk":
        rng, count = np.random.default_rng(seed), len(source.scenes)
        step = int(rng.integers(1, count)) if source.shuffle == "other scene" else 0
        return cls(source, layer or last_layer(source.model.config), rng, step)

    def maps(self, index: int, seen: "_Seen") -> Maps:
        """Activations that stand for a scene."""
        maps = seen.maps(self.source, self.layer, (index + self.step) % len(self.source.scenes))
        return _moved(maps, self.rng) if self.source.shuffle == "moved" else maps


class _Seen:
    """Images and activations that several sources ask for while one scene is looked at."""

    def __init__(self, after: bool) -> None:
        self.after = after
        self.images: dict[tuple[int, int], Tensor] = {}
        self.found: dict[tuple[int, int, int], Maps] = {}

    def maps(self, source: Source, layer: str, place: int) -> Maps:
        key = (id(source.scenes), place)
        if key not in self.images:
            self.images[key] = source.scenes[place][0]
        if (id(source.model), *key) not in self.found:
            self.found[id(source.model), *key] = observe(source.model, self.images[key], [layer], self.after)[0][layer]
        return self.found[id(source.model), *key]


def _moved(maps: Maps, rng: np.random.Generator) -> Maps:
    rows, columns = (int(rng.integers(size // 4, max(size // 4, 3 * size // 4) + 1)) for size in maps.shape[1:])
    return np.roll(maps, (max(rows, 1), max(columns, 1)), axis=(1, 2))


def _scene_moments(sources: list[str], maps: Sequence[Maps]) -> xr.Dataset:
    shapes = {name: one.shape[1:] for name, one in zip(sources, maps, strict=True)}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"activations of one scene differ in size between sources: {shapes}")
    values = np.concatenate([one.reshape(len(one), -1) for one in maps]).astype(np.float64)
    return xr.Dataset(
        {
            "pixels": float(values.shape[1]),
            "total": ("unit", values.sum(axis=1)),
            "product": (("unit", "unit_other"), values @ values.T),
        },
        coords={
            "source": ("unit", np.repeat(sources, [len(one) for one in maps])),
            "channel": ("unit", np.concatenate([np.arange(len(one)) for one in maps])),
        },
    )


def covariance(sums: xr.Dataset, a: str, b: str) -> xr.DataArray:
    """Covariance of the channels of two sources over all pixels of all scenes: (channel_a, channel_b).

    Channels that never vary (dead after ReLU, or constant) are NaN.
    """
    rows, columns = _units(sums, a), _units(sums, b)
    pixels = sums["pixels"].sum("scene")
    mean = sums["total"].sum("scene") / pixels
    square = _pair(sums, rows, columns) / pixels
    left, right = _named(mean, rows, "a"), _named(mean, columns, "b")
    alive = _variance(sums, rows, "a").notnull() & _variance(sums, columns, "b").notnull()
    return (square - left * right).where(alive).transpose(..., "channel_a", "channel_b")


def correlation(sums: xr.Dataset, a: str, b: str) -> xr.DataArray:
    """Pearson correlation of every channel of one source with every channel of another, over all pixels of all scenes.

    Parameters
    ----------
    sums : of `moments`.
    a, b : names of sources.

    Returns
    -------
    (channel_a, channel_b), NaN for channels that never vary.
    """
    scale = _variance(sums, _units(sums, a), "a") * _variance(sums, _units(sums, b), "b")
    return (covariance(sums, a, b) / np.sqrt(scale)).clip(-1, 1).rename("correlation").assign_attrs(a=a, b=b)


def dead_channels(sums: xr.Dataset, source: str) -> list[int]:
    """Channels of a source that never vary over the scenes."""
    variance = _variance(sums, _units(sums, source), "a")
    return [int(channel) for channel in variance["channel_a"].values[variance.isnull().values]]


def cka(sums: xr.Dataset, a: str, b: str) -> xr.DataArray:
    """Linear centred kernel alignment of two sources over all pixels: 0 for unrelated features, 1 for features equal up
    to rotation and one common scale. Dead channels add nothing; NaN where a source is all dead.
    """  # noqa: D205

    def power(first: str, second: str) -> xr.DataArray:
        return (covariance(sums, first, second) ** 2).sum(["channel_a", "channel_b"])

    own = power(a, a) * power(b, b)
    return (power(a, b) / np.sqrt(own.where(own > 0))).rename("cka")


def match_channels(matrix: xr.DataArray) -> pd.DataFrame:
    """Pair the channels of two sources one to one so that the sum of their correlations is largest.

    Parameters
    ----------
    matrix : (channel_a, channel_b) of `correlation`. Channels that are NaN, that is dead, stay unpaired, and so do the
        surplus ones of the wider source.

    Returns
    -------
    One row a pair, by falling correlation: channel_a, channel_b, correlation.
    """
    rows, columns = assign(matrix.values)
    pairs = {
        "channel_a": matrix["channel_a"].values[rows],
        "channel_b": matrix["channel_b"].values[columns],
        "correlation": matrix.values[rows, columns],
    }
    return pd.DataFrame(pairs).sort_values("correlation", ascending=False, kind="stable", ignore_index=True)


def assign(matrix: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Optimal assignment among the rows and columns of a matrix that hold any number; every such pair must hold one.

    Returns
    -------
    rows, columns : of the pairs.
    """
    known = np.isfinite(matrix)
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    chosen = linear_sum_assignment(matrix[np.ix_(rows, columns)], maximize=True)
    return rows[chosen[0]], columns[chosen[1]]


def similarity(sums: xr.Dataset, a: str, b: str) -> xr.Dataset:
    """How alike two sources are, in three figures; dimensions such as `resample` of a bootstrap are carried through.

    Returns
    -------
    Dataset: matched, the mean correlation of optimally matched channels; random_pairing, its mean over all pairings,
    which is the mean of the matrix; cka.
    """
    matrix = correlation(sums, a, b)

    def matched(values: NDArray[np.float64]) -> float:
        rows, columns = assign(values)
        return float(values[rows, columns].mean()) if len(rows) else np.nan

    best = xr.apply_ufunc(matched, matrix, input_core_dims=[["channel_a", "channel_b"]], vectorize=True)
    pairing = matrix.mean(["channel_a", "channel_b"])
    return xr.Dataset({"matched": best, "random_pairing": pairing, "cka": cka(sums, a, b)}, attrs={"a": a, "b": b})


def similarity_table(sums: xr.Dataset) -> pd.DataFrame:
    """`similarity` of every pair of sources: a row a pair with a, b, matched, random_pairing, cka, dead_a, dead_b."""
    names = list(dict.fromkeys(map(str, sums["source"].values)))
    dead = {name: len(dead_channels(sums, name)) for name in names}
    rows = []
    for index, a in enumerate(names):
        for b in names[index + 1 :]:
            figures = {str(name): float(value) for name, value in similarity(sums, a, b).items()}
            rows.append({"a": a, "b": b, **figures, "dead_a": dead[a], "dead_b": dead[b]})
    return pd.DataFrame(rows)


def counterparts(sums: xr.Dataset, source: str, others: Sequence[str]) -> xr.DataArray:
    """Correlation of each channel of a source with its match in each other source: (other, channel).

    A feature of a 25-channel model that another seed of it has and the 1-channel model has not comes with spectral
    richness; one that no other seed has is seed noise. NaN for channels that are dead or have no match.
    """
    channels = sums["channel"].values[_units(sums, source)]
    values = np.full((len(others), len(channels)), np.nan)
    for row, other in enumerate(others):
        pairs = match_channels(correlation(sums, source, other))
        values[row, np.searchsorted(channels, pairs["channel_a"])] = pairs["correlation"]
    coords = {"other": list(others), "channel": channels}
    return xr.DataArray(values, dims=("other", "channel"), coords=coords, name="correlation")


def _units(sums: xr.Dataset, source: str) -> NDArray[np.intp]:
    chosen = np.flatnonzero(sums["source"].values == source)
    if not chosen.size:
        known = ", ".join(dict.fromkeys(map(str, sums["source"].values)))
        raise KeyError(f"no source {source!r}; there are {known}")
    return chosen


def _pair(sums: xr.Dataset, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> xr.DataArray:
    block = sums["product"].isel(unit=rows, unit_other=columns).sum("scene")
    numbers = sums["channel"].values
    plain = block.drop_vars(["source", "channel"]).rename(unit="channel_a", unit_other="channel_b")
    return plain.assign_coords(channel_a=numbers[rows], channel_b=numbers[columns])


def _named(values: xr.DataArray, units: NDArray[np.intp], side: str) -> xr.DataArray:
    numbers = values["channel"].values[units]
    plain = values.isel(unit=units).drop_vars(["source", "channel"]).rename(unit=f"channel_{side}")
    return plain.assign_coords({f"channel_{side}": numbers})


def _variance(sums: xr.Dataset, units: NDArray[np.intp], side: str) -> xr.DataArray:
    """Variance of each unit over all pixels, NaN where there is none."""
    pixels = sums["pixels"].sum("scene")
    diagonal = sums["product"].isel(unit=xr.DataArray(units, dims="unit"), unit_other=xr.DataArray(units, dims="unit"))
    square = _named(diagonal.sum("scene") / pixels, np.arange(len(units)), side)
    mean = _named(sums["total"].sum("scene") / pixels, units, side)
    variance = square - mean**2
    return variance.where(variance > ROUNDING * square)


def source_name(variant: str, seed: int, shuffle: str = "none") -> str:
    """Name of one network, or of a null made of it, among the sources of `similarity_sums`."""
    return f"{variant}, seed {seed}" + ("" if shuffle == "none" else f", {shuffle}")


RESAMPLES = 200
CHANCE = 0.95
"""Quantile of the matches with another scene's maps above which a channel counts as found in a network."""
Units = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Correlated:
    """All channels of all sources against one another, over some scenes.

    Attributes
    ----------
    sources : (unit,) name of the source of each channel.
    correlation, covariance : (unit, unit), NaN for channels that never vary.
    """

    sources: NDArray[np.str_]
    correlation: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, sums: xr.Dataset, counts: NDArray[np.integer] | None = None) -> "Correlated":
        """Of moments, each scene taken as often as `counts` says; once by default."""
        often = np.ones(sums.sizes["scene"]) if counts is None else counts.astype(float)
        product, total, pixels = (np.tensordot(often, sums[key].values, 1) for key in ("product", "total", "pixels"))
        square, mean = product / pixels, total / pixels
        covariance = square - np.outer(mean, mean)
        variance = covariance.diagonal()
        dead = ~(variance > ROUNDING * square.diagonal())
        covariance[dead], covariance[:, dead] = np.nan, np.nan
        scale = np.sqrt(np.where(dead, np.nan, variance))
        correlation = np.clip(covariance / np.outer(scale, scale), -1, 1)
        return cls(sums["source"].values.astype(str), correlation, covariance)

    def units(self, source: str) -> Units:
        """Where a source's channels stand; none if there is no such source."""
        return np.flatnonzero(self.sources == source)

    def alike(self, first: Units, second: Units) -> dict[str, float]:
        """The figures of `hsiutils.analysis.similarity` for two sets of channels."""
        block = self.correlation[np.ix_(first, second)]
        rows, columns = assign(block)
        powers = [
            float(np.nansum(self.covariance[np.ix_(one, other)] ** 2))
            for one, other in ((first, second), (first, first), (second, second))
        ]
        own = np.sqrt(powers[1] * powers[2])
        known = bool(len(rows))
        return {
            "matched": float(block[rows, columns].mean()) if known else np.nan,
            "random_pairing": float(np.nanmean(block)) if known else np.nan,
            "cka": powers[0] / own if own > 0 else np.nan,
        }

    def matches(self, first: Units, second: Units) -> NDArray[np.float64]:
        """Correlation of each channel of the first with its match in the second, NaN where it has none."""
        block = self.correlation[np.ix_(first, second)]
        rows, columns = assign(block)
        found = np.full(len(first), np.nan)
        found[rows] = block[rows, columns]
        return found


def likeness(sums: xr.Dataset, variants: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """How alike networks are, pair by pair, with the nulls beside.

    Parameters
    ----------
    sums : of `hsiutils.paper.activations.similarity_sums`.
    variants, seeds : the networks.

    Returns
    -------
    One row a pair: pair ("1 and 25"), kind, seed, other_seed, matched, random_pairing, cka. Kinds: "another seed", two
    trainings on one input; "another input", two inputs and two seeds; and, against a shuffled first network, "another
    scene" (only the layout is shared) and "moved" (nothing is). random_pairing is the null of shuffled channels. No row
    for a single network.
    """
    return _pair_by_pair(Correlated.of(sums), variants, seeds)


def _pair_by_pair(found: Correlated, variants: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    rows = []
    for kind, (a, one), (b, other), shuffle in _pairings(variants, seeds):
        units = found.units(source_name(a, one)), found.units(source_name(b, other, shuffle))
        if len(units[1]):
            pair = " and ".join(sorted((a, b), key=list(variants).index))
            # The lower seed first: which of the two networks comes first means nothing.
            low, high = sorted((one, other))
            rows.append({"pair": pair, "kind": kind, "seed": low, "other_seed": high, **found.alike(*units)})
    return pd.DataFrame(rows, columns=["pair", "kind", "seed", "other_seed", "matched", "random_pairing", "cka"])


Network = tuple[str, int]


def _pairings(variants: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, Network, Network, str]]:
    networks = [(name, seed) for name in variants for seed in seeds]
    trained = [
        ("another seed" if one[0] == other[0] else "another input", one, other, "none")
        for one, other in combinations(networks, 2)
        if one[1] != other[1]
    ]
    # The shuffled ones are first networks; against last ones, so that as among the trained the seeds differ.
    nulls = [
        (kind, (one, seeds[-1]), (other, seeds[0]), shuffle)
        for kind, shuffle in (("another scene", "other scene"), ("moved", "moved"))
        for one in variants
        for other in variants
        if one != other or len(seeds) > 1
    ]
    return trained + nulls


def beyond_seeds(pairs: pd.DataFrame) -> Estimate:
    """Matched correlation of two trainings on one input, less that of two inputs: what an input does to the likeness.

    At zero, a correlation matrix between two models says as much about their seeds as about their inputs. All pairs
    have different seeds, and each pair of seeds counts the same. Pairs share networks, so the interval is of the
    jackknife over seeds: there is none with two.

    Parameters
    ----------
    pairs : of `likeness`.

    Raises
    ------
    ValueError
        If there are not two seeds and two variants.
    """
    gaps = _gaps(pairs)
    whole = gaps["gap"].mean()
    seeds = set(gaps["seed"]) | set(gaps["other_seed"])
    if len(seeds) < 3:
        return mean_over_seeds([whole])
    without = [gaps["gap"][(gaps["seed"] != seed) & (gaps["other_seed"] != seed)].mean() for seed in sorted(seeds)]
    return mean_over_seeds(len(seeds) * whole - (len(seeds) - 1) * np.asarray(without))


def _gaps(pairs: pd.DataFrame) -> pd.DataFrame:
    """Matched correlation of one input less that of two, one row a pair of seeds."""
    trained = pairs[pairs["kind"].isin(_TRAINED)]
    means = trained.groupby(["seed", "other_seed", "kind"])["matched"].mean().unstack()
    if not set(_TRAINED) <= set(means.columns):
        raise ValueError("needs networks of two seeds and of two inputs")
    return (means["another seed"] - means["another input"]).reset_index(name="gap")


_TRAINED = ["another seed", "another input"]


def beyond_scenes(sums: xr.Dataset, variants: Sequence[str], seeds: Sequence[int], seed: int) -> Estimate:
    """The figure of `beyond_seeds` with its 95 % bootstrap interval over scenes.

    Raises
    ------
    ValueError
        If there are not two seeds, two variants and two scenes.
    """

    def gap(found: Correlated) -> NDArray[np.float64]:
        return np.array([_gaps(_pair_by_pair(found, variants, seeds))["gap"].mean()])

    whole = gap(Correlated.of(sums))
    low, high = _percentiles(sums, gap, seed)
    return Estimate(float(whole[0]), float(low[0]), float(high[0]), sums.sizes["scene"])


def likeness_table(
    pairs: pd.DataFrame, sums: xr.Dataset | None = None, seeds: Sequence[int] = (), seed: int = 0
) -> pd.DataFrame:
    """Means over pairs, one row a pair of variants: matched correlation of each kind, CKA and random pairing.

    Parameters
    ----------
    pairs : of `likeness`.
    sums, seeds : that they were made of; given, the matched correlation has a 95 % bootstrap interval over scenes.
    seed : of the resampling.

    Returns
    -------
    Columns trained, another scene, moved, random_pairing, cka; least and most of trained over pairs of seeds; low and
    high over scenes.
    """
    trained = pairs["kind"].isin(_TRAINED)
    columns = {"trained": pairs["matched"].where(trained)}
    columns |= {kind: pairs["matched"].where(pairs["kind"] == kind) for kind in ("another scene", "moved")}
    columns |= {name: pairs[name].where(trained) for name in ("random_pairing", "cka")}
    table = pd.DataFrame(columns).groupby(pairs["pair"], sort=False).mean()
    spread = pairs["matched"].where(trained).groupby(pairs["pair"], sort=False)
    table = table.assign(least=spread.min(), most=spread.max())
    if sums is None or table.empty:
        return table.assign(low=np.nan, high=np.nan)
    variants = list(dict.fromkeys(name for pair in table.index for name in pair.split(" and ")))

    def means(found: Correlated) -> NDArray[np.float64]:
        drawn = _pair_by_pair(found, variants, seeds)
        rows = drawn[drawn["kind"].isin(_TRAINED)].groupby("pair", sort=False)["matched"].mean()
        return np.asarray(rows.reindex(table.index), dtype=float)

    low, high = _percentiles(sums, means, seed)
    return table.assign(low=low, high=high)


def features(
    sums: xr.Dataset, variants: Sequence[str], seeds: Sequence[int], fewer: Sequence[str], seed: int
) -> pd.DataFrame:
    """What becomes of the channels of each input: preserved, only with more channels, or seed noise.

    A channel counts as found in an input if its matched correlation, mean over that input's networks of other seeds,
    is above what chance gives: the quantile `CHANCE` of all matches with the maps of another scene, which share
    nothing but the layout. A channel is *preserved* if it is found in an input with fewer channels (other than its
    own); it comes *only with its own input* if it is found in other trainings on that and in none of those; else it is
    *seed noise*.

    Parameters
    ----------
    sums, variants, seeds : as in `likeness`.
    fewer : the inputs with few channels.
    seed : of the resampling.

    Returns
    -------
    One row a variant: channels (alive, of all its seeds), preserved, own, noise (shares of them, 0..1), each with _low
    and _high, 95 % over scenes; chance, the bound.

    Raises
    ------
    ValueError
        If there are not two seeds and two scenes: nothing tells seed noise then.
    """
    if len(seeds) < 2 or sums.sizes["scene"] < 2:
        raise ValueError(f"needs two seeds and two scenes, got {len(seeds)} and {sums.sizes['scene']}")

    def shares(found: Correlated) -> NDArray[np.float64]:
        bound = _chance(found, variants, seeds)
        return np.array([_sorted_channels(found, name, seeds, fewer, bound) for name in variants])

    whole = Correlated.of(sums)
    values = shares(whole)
    low, high = _percentiles(sums, shares, seed)
    columns = {"channels": values[:, 0].astype(int), "chance": _chance(whole, variants, seeds)}
    for index, kind in enumerate(("preserved", "own", "noise"), start=1):
        columns |= {kind: values[:, index], f"{kind}_low": low[:, index], f"{kind}_high": high[:, index]}
    return pd.DataFrame(columns, index=pd.Index(list(variants), name="input"))


def _chance(found: Correlated, variants: Sequence[str], seeds: Sequence[int]) -> float:
    """The matched correlation that a channel rarely has with maps of another scene."""
    nulls = [
        found.matches(found.units(source_name(name, s)), found.units(source_name(other, seeds[0], "other scene")))
        for name in variants
        for s in seeds[1:]
        for other in variants
    ]
    known = np.concatenate(nulls)
    known = known[np.isfinite(known)]
    return float(np.quantile(known, CHANCE)) if known.size else np.nan


def _sorted_channels(
    found: Correlated, name: str, seeds: Sequence[int], fewer: Sequence[str], bound: float
) -> tuple[float, float, float, float]:
    """Living channels of an input's networks, and the shares that are preserved, its own, and noise."""
    kinds = []
    for one in seeds:
        units = found.units(source_name(name, one))
        own = _seen_in(found, units, name, seeds, one) > bound
        fewer_seen = [_seen_in(found, units, other, seeds, one) > bound for other in fewer if other != name]
        elsewhere = np.any(fewer_seen, axis=0) if fewer_seen else np.zeros(len(units), dtype=bool)
        alive = np.isfinite(found.correlation[units, units])
        kinds.append(np.stack([alive, alive & elsewhere, alive & own & ~elsewhere, alive & ~own & ~elsewhere]))
    count, *parts = np.concatenate(kinds, axis=1).sum(axis=1).astype(float)
    shares = [part / count if count else np.nan for part in parts]
    return count, shares[0], shares[1], shares[2]


def _seen_in(found: Correlated, units: Units, name: str, seeds: Sequence[int], but: int) -> NDArray[np.float64]:
    """Matched correlation of each channel in an input's networks of other seeds, mean over them."""
    matches = [found.matches(units, found.units(source_name(name, other))) for other in seeds if other != but]
    return np.asarray(np.mean(matches, axis=0))


def _percentiles(
    sums: xr.Dataset, statistic: Callable[[Correlated], NDArray[np.float64]], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of the 95 % bootstrap interval over scenes; NaN where there is one scene only."""
    if sums.sizes["scene"] < 2:
        nothing = statistic(Correlated.of(sums)) * np.nan
        return nothing, nothing
    drawn = np.array([statistic(Correlated.of(sums, counts)) for counts in _draws(sums.sizes["scene"], seed)])
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def _draws(count: int, seed: int) -> Iterator[NDArray[np.integer]]:
    """How often each scene is taken, resample after resample."""
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        yield rng.multinomial(count, np.full(count, 1 / count))


def matched_matrix(sums: xr.Dataset, a: str, b: str) -> xr.DataArray:
    """Correlation matrix of two sources, with the columns in the order of their matches: the diagonal is matched.

    Channels that never vary are left out; those without a match stand last.
    """
    matrix = analysis.correlation(_only(sums, (a, b)), a, b)
    alive = matrix.dropna("channel_a", how="all").dropna("channel_b", how="all")
    pairs = analysis.match_channels(alive)
    rest = [[channel for channel in alive[side].values if channel not in set(pairs[side])] for side in _SIDES]
    order = [[*pairs[side], *others] for side, others in zip(_SIDES, rest, strict=True)]
    return alive.sel(channel_a=order[0], channel_b=order[1])


_SIDES = ("channel_a", "channel_b")


def _only(sums: xr.Dataset, sources: Sequence[str]) -> xr.Dataset:
    units = np.flatnonzero(np.isin(sums["source"].values, list(sources)))
    return sums.isel(unit=units, unit_other=units)
