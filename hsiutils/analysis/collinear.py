"""Bands that say nearly the same: which can be told apart, and what can be said of groups of them.

Where inputs are collinear no ranking of them is faithful, stable and complete at once (Caraker et al., arXiv
2605.21492): trainings share out among nearly equal bands as they please, and only the sum over such bands is
determined. Bands are grouped by the correlation of their training spectra; contributions are summed within groups; and
whether trainings agree on the sums is held against random groups of the same sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from hsiutils.analysis.estimates import mean_over_seeds

ALIKE = 0.95
"""Correlation that any two bands of a group have at least."""


def band_groups(correlation: ArrayLike, least: float = ALIKE) -> NDArray[np.intp]:
    """Gather bands whose values rise and fall together, by hierarchical clustering (complete linkage on 1 - r).

    Parameters
    ----------
    correlation : (bands, bands), of the bands' values over pixels.
    least : correlation that any two bands of a group have at least, -1 to 1.

    Returns
    -------
    (bands,) number of each band's group, counted by their first bands. A band like no other is a group alone.

    Raises
    ------
    ValueError
        If the correlations are no square matrix of finite numbers, or the least is none.

    Examples
    --------
    >>> band_groups([[1, 0.99, 0.1], [0.99, 1, 0.2], [0.1, 0.2, 1]]).tolist()
    [0, 0, 1]
    """
    values = np.asarray(correlation, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not np.isfinite(values).all():
        raise ValueError(f"correlation: expected a square matrix of finite numbers, got shape {values.shape}")
    if not -1 <= least <= 1:
        raise ValueError(f"least: expected a correlation, -1 to 1, got {least}")
    if len(values) == 1:
        return np.zeros(1, dtype=np.intp)
    distance = (1 - (values + values.T) / 2).clip(0)
    np.fill_diagonal(distance, 0)
    found = fcluster(linkage(squareform(distance, checks=False), "complete"), 1 - least, "distance")
    first = list(dict.fromkeys(found.tolist()))
    return np.array([first.index(one) for one in found], dtype=np.intp)


def gathered(contributions: NDArray[np.float64], groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """Contributions (..., bands) summed within groups: (..., groups)."""
    member = groups[:, None] == np.arange(groups.max() + 1)
    return np.asarray(contributions @ member.astype(float))


@dataclass(frozen=True)
class Agreement:
    """How far trainings agree on the ranks of bands, and of groups.

    Attributes
    ----------
    bands, groups : mean rank correlation of pairs of networks, over bands and over sums within groups, averaged over
        classes.
    random : the same of random groups of the same sizes, mean; `low` and `high` hold 95 % of their draws.
    p : share of draws that agree at least as well as the groups do; the groups are counted as one of them.
    bands_told, groups_told : share of pairs of bands, and of groups, whose order the networks settle: Student's 95 %
        interval of their difference over networks leaves zero out. About 0.05 if all are equal.
    """

    bands: float
    groups: float
    random: float
    low: float
    high: float
    p: float
    bands_told: float
    groups_told: float


def agreement(contributions: NDArray[np.float64], groups: NDArray[np.intp], seed: int, draws: int = 500) -> Agreement:
    """Compare ranks by band and by group between networks.

    Parameters
    ----------
    contributions : (networks, classes, bands), of at least two networks; a class that is not finite is left out.
    groups : (bands,) of `band_groups`.
    seed : of the random groups.

    Raises
    ------
    ValueError
        If there are fewer than two networks, or no class has finite contributions.
    """
    networks = len(contributions)
    known = contributions[:, np.isfinite(contributions).all((0, 2))]
    if networks < 2 or not known.size:
        raise ValueError(f"agreement needs two networks and a class with contributions, got {contributions.shape}")
    draw = np.random.default_rng(seed)
    by_group = _agree(gathered(known, groups))
    null = np.array([_agree(gathered(known, draw.permutation(groups))) for _ in range(draws)])
    low, high = np.nanquantile(null, (0.025, 0.975))
    return Agreement(
        bands=_agree(known),
        groups=by_group,
        random=float(np.nanmean(null)),
        low=float(low),
        high=float(high),
        p=float((1 + (null >= by_group).sum()) / (1 + draws)),
        bands_told=told_apart(known),
        groups_told=told_apart(gathered(known, groups)),
    )


def told_apart(contributions: NDArray[np.float64]) -> float:
    """Share of pairs of bands, over all classes, whose order networks (networks, classes, bands) settle."""
    first, second = (list(side) for side in zip(*combinations(range(contributions.shape[2]), 2), strict=True))
    gaps = contributions[:, :, first] - contributions[:, :, second]  # (networks, classes, pairs)
    return float(np.mean([bool(mean_over_seeds(gap).sign) for gap in gaps.reshape(len(gaps), -1).T]))


def in_words(
    name: str, correlation: ArrayLike, groups: NDArray[np.intp], wavelengths_nm: ArrayLike, found: Agreement
) -> list[str]:
    """Which bands of an input are alike, and whether more can be said of their groups than of bands; lines.

    No verdict where no two bands are alike (`ALIKE`), or all fall into fewer than three groups.
    """
    values, count = np.asarray(correlation, dtype=float), int(groups.max()) + 1
    if count == len(groups):
        most = values[~np.eye(len(values), dtype=bool)].max() if len(values) > 1 else 0.0
        return [f"{name}: no two bands are alike (largest correlation {most:.2f}), so no groups are asked about."]
    kinds = [np.sort(np.asarray(wavelengths_nm)[groups == group]).round().astype(int) for group in range(count)]
    said = [f"{name}, bands that are alike (nm): " + "; ".join(" ".join(map(str, kind)) for kind in kinds)]
    if not can_be_ranked(groups):
        return [*said, f"{name}: of {count} groups no order is asked."]
    words = (
        "agree better than random groups (p {p:.3f}): more can be said of like bands together than of each."
        if found.p < 0.05
        else "are not shown to agree better than random groups (p {p:.3f}): it is not shown that trainings differ only "
        "in how they share out among like bands."
    )
    return [*said, f"{name}: sums over groups of like bands {words.format(p=found.p)}"]


def can_be_ranked(groups: NDArray[np.intp]) -> bool:
    """Whether there are three groups or more, and less than bands."""
    return 3 <= int(groups.max()) + 1 < len(groups)


def _agree(contributions: NDArray[np.float64]) -> float:
    """Mean Spearman correlation of pairs of networks, over the classes (networks, classes, bands)."""
    ranks = stats.rankdata(contributions, axis=2)
    ranks -= ranks.mean(2, keepdims=True)
    size = np.sqrt((ranks**2).sum(2))
    pairs: Sequence[tuple[int, int]] = list(combinations(range(len(ranks)), 2))
    with np.errstate(invalid="ignore"):
        each = [(ranks[i] * ranks[j]).sum(1) / (size[i] * size[j]) for i, j in pairs]
    return float(np.nanmean(each))
