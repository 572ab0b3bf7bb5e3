"""How alike networks are: pairs of trainings and of inputs, read against what chance gives.

Smooth maps of the same scene correlate by their layout alone, and trainings differ by their seed alone. So every figure
stands beside nulls: two seeds of one model, activations of another scene, activations moved within the scene. Functions
take `hsiutils.analysis.correlation.moments` of sources named by `source_name`.
"""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.analysis.correlation import Correlated
from hsiutils.analysis.estimates import Estimate, jackknife
from hsiutils.analysis.intervals import interval

RESAMPLES = 200
_TRAINED = ["another seed", "another input"]


def source_name(variant: str, seed: int, shuffle: str = "none") -> str:
    """Name of one network, or of a null made of it, among the sources of `moments`."""
    return f"{variant}, seed {seed}" + ("" if shuffle == "none" else f", {shuffle}")


def likeness(sums: xr.Dataset | Correlated, variants: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """How alike networks are, pair by pair, with the nulls beside, of `moments` or their correlations.

    Returns
    -------
    One row a pair: pair ("1 and 25"), kind, alone (whether of one input), seed, other_seed, matched, random_pairing,
    cka. Kinds: "another seed", two trainings on one input; "another input", two inputs and two seeds; and, against a
    shuffled first network, "another scene" (only the layout is shared) and "moved" (nothing is). random_pairing is the
    null of shuffled channels. No row for a single network.
    """
    correlated = sums if isinstance(sums, Correlated) else Correlated.of(sums)
    rows = []
    for kind, (a, one), (b, other), shuffle in _pairings(variants, seeds):
        first, second = source_name(a, one), source_name(b, other, shuffle)
        if second in correlated.sources:
            pair = " and ".join(sorted((a, b), key=list(variants).index))
            low, high = sorted((one, other))  # which of the two networks comes first means nothing
            names = {"pair": pair, "kind": kind, "alone": a == b, "seed": low, "other_seed": high}
            rows.append({**names, **correlated.alike(first, second)})
    columns = ["pair", "kind", "alone", "seed", "other_seed", "matched", "random_pairing", "cka"]
    return pd.DataFrame(rows, columns=columns)


def _pairings(variants: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, tuple[str, int], tuple[str, int], str]]:
    """Kind, two networks (variant, seed), and how the second is shuffled."""
    trained = [
        ("another seed" if one[0] == other[0] else "another input", one, other, "none")
        for one, other in combinations(product(variants, seeds), 2)
        if one[1] != other[1]
    ]
    # The shuffled ones are first networks; against last ones, so that as among the trained the seeds differ.
    nulls = [
        (kind, (one, seeds[-1]), (other, seeds[0]), shuffle)
        for kind, shuffle in (("another scene", "other scene"), ("moved", "moved"))
        for one, other in product(variants, repeat=2)
        if one != other or len(seeds) > 1
    ]
    return trained + nulls


def beyond_seeds(pairs: pd.DataFrame) -> Estimate:
    """CKA of two trainings on one input, less that of two inputs: what an input does to the likeness.

    At zero, a correlation matrix between two models says as much about their seeds as about their inputs. All pairs
    (of `likeness`) have different seeds, and each pair of seeds counts the same. Pairs share networks, so the interval
    is of the jackknife over seeds: there is none with two. A ValueError if there are not two seeds and two variants.
    """
    gaps = _gaps(pairs, _TRAINED)
    seeds = sorted({*gaps["seed"], *gaps["other_seed"]})

    def mean(chosen: Sequence[int]) -> float:
        left = [seeds[place] for place in chosen]
        return float(gaps["gap"][gaps["seed"].isin(left) & gaps["other_seed"].isin(left)].mean())

    return jackknife(mean, len(seeds))


def _gaps(pairs: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """CKA of one input less that of two, one row a pair of seeds."""
    means = pairs[pairs["kind"].isin(kinds)].groupby(["seed", "other_seed", "alone"])["cka"].mean().unstack()
    if len(means.columns) < 2:
        raise ValueError("needs networks of two seeds and of two inputs")
    return (means[True] - means[False]).reset_index(name="gap")


def beyond_scenes(sums: xr.Dataset, variants: Sequence[str], seeds: Sequence[int], seed: int) -> pd.DataFrame:
    """The figure of `beyond_seeds`, which may raise its ValueError, and its null, with 95 % intervals over scenes.

    Rows "trained" and "another scene", of maps that share nothing but the layout: value, low, high.
    """
    kinds = {"trained": _TRAINED, "another scene": ["another scene"]}

    def gaps(drawn: Correlated) -> list[float]:
        pairs = likeness(drawn, variants, seeds)
        return [float(_gaps(pairs, kind)["gap"].mean()) for kind in kinds.values()]

    return _over_scenes(sums, gaps, seed).to_dataframe().set_index(pd.Index(kinds))


def likeness_table(pairs: pd.DataFrame, sums: xr.Dataset, seeds: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """Means over pairs, one row a pair of variants: matched correlation of each kind, CKA and random pairing.

    Pairs are those of `likeness`, from these sums and seeds; `seed` is of the resampling.

    Columns trained, another scene, moved, random_pairing, cka, cka_elsewhere (with another scene); least and most of
    trained over pairs of seeds; low and high, the 95 % bootstrap interval of trained over scenes.
    """
    trained = pairs["kind"].isin(_TRAINED)
    columns = {"trained": pairs["matched"].where(trained)}
    columns |= {kind: pairs["matched"].where(pairs["kind"] == kind) for kind in ("another scene", "moved")}
    columns |= {name: pairs[name].where(trained) for name in ("random_pairing", "cka")}
    columns["cka_elsewhere"] = pairs["cka"].where(pairs["kind"] == "another scene")
    grouped = pd.DataFrame(columns).groupby(pairs["pair"], sort=False)
    table = grouped.mean().assign(least=grouped["trained"].min(), most=grouped["trained"].max())
    if table.empty:
        return table.assign(low=np.nan, high=np.nan)
    variants = list(dict.fromkeys(name for pair in table.index for name in pair.split(" and ")))

    def means(drawn: Correlated) -> list[float]:
        rows = likeness(drawn, variants, seeds)
        means = rows[rows["kind"].isin(_TRAINED)].groupby("pair", sort=False)["matched"].mean()
        return [float(means[pair]) for pair in table.index]

    bounds = _over_scenes(sums, means, seed)
    return table.assign(low=bounds["low"].values, high=bounds["high"].values)


def _over_scenes(sums: xr.Dataset, statistic: Callable[[Correlated], Any], seed: int) -> xr.Dataset:
    """Numbers (in a list, or a list of rows) made of correlations, with their 95 % bootstrap intervals over scenes."""

    def each(drawn: xr.Dataset) -> xr.DataArray:
        if "resample" not in drawn.dims:
            return xr.DataArray(statistic(Correlated.of(drawn)))
        return xr.concat([each(drawn.isel(resample=n)) for n in range(drawn.sizes["resample"])], "resample")

    return interval(sums, each, seed=seed, resamples=RESAMPLES, method="percentile", pools=True)
