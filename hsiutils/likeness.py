"""Fig. 4 as numbers: how alike networks are before the head, what of that is their input, and what is chance.

Functions take the moments of `hsiutils.activation_study.similarity_sums`. All channels of all networks are correlated
at once, for all scenes or for scenes drawn with replacement.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils import analysis
from hsiutils.activation_study import source_name
from hsiutils.analysis.activations import ROUNDING
from hsiutils.analysis.correlation import assign
from hsiutils.uncertainty import Estimate, mean_over_seeds

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
    sums : of `hsiutils.activation_study.similarity_sums`.
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
