"""Intervals: bootstrap over scenes, Student and Welch over seeds.

The pixels of one scene are not independent, so a bootstrap draws whole scenes; and whole runs of real scenes that were
filmed one after the other, which show the same street. Trainings are independent, but few: their means have Student's
interval, their differences Welch's.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Labelled = xr.DataArray | xr.Dataset
Bounded = TypeVar("Bounded", bound=xr.Dataset | pd.DataFrame)
Statistic = Callable[[xr.Dataset], NDArray[np.float64]]
"""Of resampled data: (..., resample)."""
ENOUGH = 0.95
"""Share of the resamples that must have a value for an interval to be given."""
SEQUENCE = "sequence"
"""Coordinate along the scenes that says which of them were filmed one after the other."""
_NEARLY_ONE = 1 - 1e-9
"""Fisher's z of a perfect correlation is infinite."""
_FINEST = 1 / 400
"""Of the fewest resamples that an interval over scenes is made of."""
_ROUNDING = 1e-5
"""By how much, relative to 1, a value of single precision may lie beyond what it can be."""
_MEMORY = 2**27
"""Bytes of resampled data that are held at a time."""


def interval(
    data: Labelled,
    statistic: Callable[[xr.Dataset], Labelled],
    *,
    seed: int,
    dim: str = "scene",
    resamples: int = 2000,
    level: float = 0.95,
    method: str = "BCa",
    pools: bool = False,
    groups: ArrayLike | None = None,
) -> xr.Dataset:
    """A statistic of scenes, such as a difference between models on the same scenes, with its bootstrap interval.

    Parameters
    ----------
    data : with the dimension `dim`; a DataArray is given to the statistic as the Dataset's variable `value`.
    statistic : of a Dataset like `data`, reducing `dim` by name; it must carry a further dimension `resample` through.
        A Dataset that it returns becomes one array along `measure`.
    seed : of the resampling.
    resamples : number of them.
    level : of confidence.
    method : "BCa" (bias-corrected and accelerated, Efron 1987), "percentile" or "basic". Where it is
        undefined (BCa is when leaving out any one scene changes nothing; all are when a resample has no value), the
        percentiles of the resamples that have a value stand in, so long as `ENOUGH` of them have.
    pools : whether the statistic reads nothing but sums over `dim`. A resample is then one weighted sum, much quicker
        made than scenes put together. For method "percentile" only.
    groups : labels (`dim`): what has the same label is drawn together (cluster bootstrap), as neighbours must be that
        show the same. By default the coordinate `SEQUENCE` of the data, if there is one; else each scene is alone.

    Returns
    -------
    Dataset of value, low and high with the statistic's own dimensions; bounds are NaN where there is none, and
    everywhere if there is one scene, or one group, only. Its attribute `drawn` says how many scenes or groups there are
    to draw from. A ValueError if there is no scene, or if another method is to pool.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> iou = xr.DataArray(np.linspace(0.5, 0.9, 20), dims="scene")
    >>> found = interval(iou, lambda drawn: drawn["value"].mean("scene"), seed=0)
    >>> bool(found["low"] < 0.7 < found["high"])
    True
    """
    dataset = data.to_dataset(name="value") if isinstance(data, xr.DataArray) else data
    if not dataset.sizes.get(dim):
        raise ValueError(f"interval over {dim!r}: expected data with that dimension, got {dict(dataset.sizes)}")
    if pools and method != "percentile":
        raise ValueError(f"interval with pools=True has method 'percentile' only, got {method!r}")
    if groups is None:
        groups = dataset.coords[SEQUENCE].values if SEQUENCE in dataset.coords else np.arange(dataset.sizes[dim])
    # The coordinate of a resampled dimension would be two-dimensional under its own name.
    value, dataset = _as_array(statistic(dataset)), dataset.drop_vars([dim, SEQUENCE], errors="ignore")
    members = _members(groups, dataset.sizes[dim])
    if len(members) < 2:
        unknown = {"low": value * np.nan, "high": value * np.nan}
        return xr.Dataset({"value": value, **unknown}, attrs={"drawn": len(members)})

    def of(drawn: xr.Dataset) -> NDArray[np.float64]:
        return np.asarray(_as_array(statistic(drawn)).transpose(*value.dims, "resample"), dtype=float)

    if pools:
        low, high = _percentiles(_weighted_resamples(dataset, of, dim, members, resamples, seed), level)
    else:
        low, high = _bounds(dataset, of, dim, members, resamples, level, method, seed)
    bounds = {"low": (value.dims, low), "high": (value.dims, high)}
    return xr.Dataset({"value": value, **bounds}, attrs={"drawn": len(members)})


def _members(groups: ArrayLike, count: int) -> list[NDArray[np.intp]]:
    """Places of the scenes of each group, the groups in the order of their first scene."""
    labels = np.asarray(groups)
    if labels.shape != (count,):
        raise ValueError(f"groups: expected one label for each of {count} scenes, got shape {labels.shape}")
    return [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]


def _as_array(result: Labelled) -> xr.DataArray:
    return result.to_dataarray("measure") if isinstance(result, xr.Dataset) else result


def _bounds(
    data: xr.Dataset,
    statistic: Statistic,
    dim: str,
    members: Sequence[NDArray[np.intp]],
    resamples: int,
    level: float,
    method: str,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    alone = len(members) == data.sizes[dim]

    def of_indices(indices: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        # (..., group) -> (resample, group): one row a resample
        chosen = np.moveaxis(indices, axis, -1).astype(int).reshape(-1, indices.shape[axis])
        if alone:
            values = statistic(data.isel({dim: xr.DataArray(chosen, dims=("resample", dim))}))
        else:  # resamples differ in how many scenes they have
            drawn = [np.concatenate([members[group] for group in row]) for row in chosen]
            parts = [statistic(data.isel({dim: scenes}).expand_dims("resample")) for scenes in drawn]
            values = np.concatenate(parts, axis=-1)
        # (..., resample) -> (..., *what scipy asked for)
        return values.reshape((*values.shape[:-1], *np.delete(indices.shape, axis)))

    with warnings.catch_warnings():
        # Undefined bounds come back as NaN and are dealt with below; the warnings would only repeat it.
        warnings.simplefilter("ignore", category=RuntimeWarning)
        warnings.simplefilter("ignore", category=stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (np.arange(len(members)),),
            of_indices,
            vectorized=True,
            n_resamples=resamples,
            batch=int(np.clip(_MEMORY // max(data.nbytes, 1), 1, 100)),
            confidence_level=level,
            method=method,
            rng=np.random.default_rng(seed),
        )
        stand_in = _percentiles(result.bootstrap_distribution, level)
    bounds = (result.confidence_interval.low, result.confidence_interval.high)
    low, high = (np.where(np.isfinite(a), a, b) for a, b in zip(bounds, stand_in, strict=True))
    return low, high


def _weighted_resamples(
    data: xr.Dataset,
    statistic: Statistic,
    dim: str,
    members: Sequence[NDArray[np.intp]],
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """The statistic of resamples (..., resample), each given as one scene: the weighted sum of those drawn."""
    count = len(members)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples).astype(float)
    often = np.empty((resamples, data.sizes[dim]))
    for group, scenes in enumerate(members):
        often[:, scenes] = drawn[:, [group]]
    block = int(np.clip(_MEMORY * data.sizes[dim] // max(data.nbytes, 1), 1, resamples))
    parts = [
        statistic(weighted(data, xr.DataArray(often[start : start + block], dims=("resample", dim)), dim))
        for start in range(0, resamples, block)
    ]
    return np.concatenate(parts, axis=-1)


def weighted(sums: xr.Dataset, often: xr.DataArray, dim: str = "scene") -> xr.Dataset:
    """Sums over `dim`, each as often (resample, `dim`) as it was drawn, as if they were one; the rest stays."""
    drawn = {
        # (resample, scene) x (scene, ...) -> (scene of one, resample, ...)
        name: xr.dot(often, values, dim=dim).expand_dims(dim) if dim in values.dims else values
        for name, values in sums.items()
    }
    return xr.Dataset(drawn, attrs=sums.attrs)


def _percentiles(distribution: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Lower and upper bound (2, ...) of resamples (..., resample), NaN where too few are defined."""
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=RuntimeWarning)  # of a slice without a number: NaN says it
        bounds = np.nanquantile(distribution, tails, axis=-1)
    return np.where(np.isfinite(distribution).mean(axis=-1) >= ENOUGH, bounds, np.nan)


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval.

    Attributes
    ----------
    mean, low, high : in the unit of the values; low and high are NaN where one value gives no spread.
    count : of values behind it.
    freedom : degrees of freedom of the interval's Student distribution; of a bootstrap's, one less than its scenes.
    correlation : whether the interval was made in Fisher's z, where it is even; so are error and p then.
    finest : the least p that the interval can tell: of a bootstrap, one in its resamples.
    uncut : low and high before `within` cut them, of which error and p are.
    """

    mean: float
    low: float
    high: float
    count: int
    freedom: float = np.inf
    correlation: bool = False
    finest: float = 0.0
    uncut: tuple[float, float] | None = None

    @classmethod
    def of(cls, found: xr.Dataset, count: int) -> "Estimate":
        """One figure of `interval`, of so many scenes."""
        value, low, high = (float(found[name]) for name in ("value", "low", "high"))
        return cls(value, low, high, count, max(count - 1, 1), finest=_FINEST)

    @property
    def sign(self) -> int:
        """+1 or -1 where the whole interval lies on one side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def error(self) -> float:
        """Standard error that the interval's width stands for; of correlations, in Fisher's z."""
        low, high = (self._even(bound) for bound in self.uncut or (self.low, self.high))
        return float((high - low) / 2 / stats.t.ppf(0.975, self.freedom))

    def p_value(self, bound: float = 0.0) -> float:
        """Two-sided probability of a mean at least as far from `bound` if that were the truth; NaN without a spread."""
        if self.error == 0:
            return float(self.mean == bound)
        away = abs(self._even(self.mean) - self._even(bound))
        return float(np.maximum(2 * stats.t.sf(away / self.error, self.freedom), self.finest))

    def within(self, least: float = -np.inf, most: float = np.inf) -> "Estimate":
        """The same with its interval cut at what the figure can be, as of `within`."""
        _require_within(self.mean, least, most)
        low, high = np.clip([self.low, self.high], least, most).tolist()
        return replace(self, low=low, high=high, uncut=self.uncut or (self.low, self.high))

    def detectable(self, power: float = 0.8, level: float = 0.05) -> float:
        """The smallest effect that a test at this level finds with this probability, given an interval this wide."""
        effect = (stats.t.ppf(1 - level / 2, self.freedom) + stats.t.ppf(power, self.freedom)) * self.error
        return float(np.tanh(effect) if self.correlation else effect)

    def _even(self, value: float) -> float:
        """On the scale on which the interval is even about its mean."""
        return float(fisher(value)) if self.correlation else value

    def __str__(self) -> str:
        parts = (self.mean, self.low, self.high)
        mean, low, high = (f"{value:.2g}" if abs(value) < 99.5 else f"{value:.0f}" for value in parts)
        return mean if np.isnan(self.low) else f"{mean} [{low}, {high}]"


def mean_over_seeds(values: ArrayLike, correlations: bool = False) -> Estimate:
    """Mean of independent values, those that are finite, with Student's interval; ValueError if there is none.

    Correlations are averaged as Fisher's z, their inverse hyperbolic tangent, so that no bound lies beyond -1 or 1.
    """
    finite = _finite(values)
    if correlations:
        found = mean_over_seeds(fisher(finite))
        mean, low, high = (float(np.tanh(value)) for value in (found.mean, found.low, found.high))
        return Estimate(mean, low, high, found.count, found.freedom, correlation=True)
    return _student([finite], float(finite.mean()), lambda: stats.ttest_1samp(finite, 0.0))


def fisher(values: Any) -> Any:
    """Fisher's z of correlations, numpy or xarray: what may be averaged, and brought back by tanh; finite at 1, too."""
    return np.arctanh(values * _NEARLY_ONE)


def jackknife(statistic: Callable[[Sequence[int]], float], count: int, correlations: bool = False) -> Estimate:
    """A statistic of seeds, or classes, called with those that are left, with the interval of the jackknife over them.

    For pairs, which share networks and are no independent values, and for a few that are all there are. With fewer than
    three there is no interval. A statistic in Fisher's z is brought back by tanh where it is of `correlations`.
    ValueError if it is not finite.
    """
    seeds = range(count)
    whole = values = np.array([statistic(seeds)])
    if count > 2:
        without = [statistic([other for other in seeds if other != seed]) for seed in seeds]
        values = count * whole - (count - 1) * np.array(without)
    return mean_over_seeds(np.tanh(values), correlations=True) if correlations else mean_over_seeds(values)


def difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Difference of two means, `first` minus `second`, with Welch's interval; values are as in `mean_over_seeds`."""
    a, b = _finite(first), _finite(second)
    return _student([a, b], float(a.mean() - b.mean()), lambda: stats.ttest_ind(a, b, equal_var=False))


def weighted_sum(samples: Sequence[ArrayLike], weights: Sequence[float]) -> Estimate:
    """Sum of several means, each times its weight, with bounds by Welch and Satterthwaite: of two, `difference`.

    Examples
    --------
    >>> print(weighted_sum([[5, 6, 7], [1, 2, 3], [2, 2, 2]], [1, -0.5, -0.5]))
    4 [1.9, 6.1]
    """
    finite = [_finite(values) for values in samples]
    mean = float(sum(weight * values.mean() for weight, values in zip(weights, finite, strict=True)))
    count = min(map(len, finite))
    if count < 2:
        return Estimate(mean, np.nan, np.nan, count)
    parts = [weight**2 * values.var(ddof=1) / len(values) for weight, values in zip(weights, finite, strict=True)]
    if not (total := sum(parts)):
        return Estimate(mean, mean, mean, count)
    freedom = total**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, finite, strict=True))
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(total))
    return Estimate(mean, mean - half, mean + half, count, float(freedom))


def crossed(one: Estimate, other: Estimate) -> Estimate:
    """One figure with its intervals over two things that were drawn independently, such as seeds and scenes: over both.

    The variances add, the degrees of freedom are Welch's and Satterthwaite's; the mean is the first one's. NaN bounds
    where one of the two has none.

    Examples
    --------
    >>> seeds, scenes = Estimate(4, 1, 7, 8, 7), Estimate(4, 0, 8, 26, 25)
    >>> print(crossed(seeds, scenes))
    4 [-0.73, 8.7]
    """
    variances = [part.error**2 for part in (one, other)]
    total = sum(variances)
    if not total > 0:  # nothing varies, or nobody knows
        return Estimate(one.mean, one.mean + 0 * total, one.mean + 0 * total, min(one.count, other.count))
    freedom = total**2 / sum(part**2 / own.freedom for part, own in zip(variances, (one, other), strict=True))
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(total))
    return Estimate(one.mean, one.mean - half, one.mean + half, min(one.count, other.count), freedom)


def with_trainings(
    bounds: xr.Dataset,
    variance: xr.DataArray,
    freedom: xr.DataArray | float,
    scenes: xr.DataArray | float | None = None,
) -> xr.Dataset:
    """Figures of `interval`, over scenes, with intervals over scenes and trainings together, as of `crossed`.

    Parameters
    ----------
    bounds : value, low and high (...).
    variance : (...) of the figures from training to training.
    freedom : its degrees of freedom, one for all or (...); with none, there are no bounds.
    scenes : how many a figure is of, where not all that were drawn.
    """

    def one(value: float, low: float, high: float, own: float, free: float, count: float) -> tuple[float, float]:
        if not (free > 0 and np.isfinite(value)):
            return np.nan, np.nan
        half = float(stats.t.ppf(0.975, free) * np.sqrt(own))
        trained = Estimate(value, value - half, value + half, int(free) + 1, free)
        both = crossed(Estimate(value, low, high, int(count), max(count - 1, 1)), trained)
        return both.low, both.high

    count = xr.DataArray(bounds.attrs["drawn"] if scenes is None else scenes)
    parts = [bounds["value"], bounds["low"], bounds["high"], variance, xr.DataArray(freedom), count]
    low, high = xr.apply_ufunc(one, *parts, output_core_dims=[[], []], vectorize=True)
    return xr.Dataset({"value": bounds["value"], "low": low, "high": high}, attrs=bounds.attrs)


def within(found: Bounded, least: Any = -np.inf, most: Any = np.inf) -> Bounded:
    """Figures with intervals that end where the figure does, such as an R2, which is 1 at most.

    Student's interval of a few wild values knows no end. The truth lies in the range, so what is cut off never covers
    it.

    Parameters
    ----------
    found : value, low and high.
    least, most : of what the figure can be; of a Dataset also arrays along its dimensions.

    Raises
    ------
    ValueError
        If a value is not in the range: it is not one of this figure.

    Examples
    --------
    >>> within(pd.DataFrame({"value": [0.5], "low": [-0.1], "high": [1.1]}), 0, 1)
       value  low  high
    0    0.5  0.0   1.0
    """
    _require_within(found["value"], least, most)
    cut = found.assign(low=found["low"].clip(least, most), high=found["high"].clip(least, most))
    return cast(Bounded, cut)


def _require_within(value: Any, least: Any, most: Any) -> None:
    beyond = np.maximum(least - value, value - most)
    if (beyond > _ROUNDING * np.maximum(1, abs(value))).any():  # a value that is NaN is nowhere
        raise ValueError(f"expected values of {least} to {most}, got {np.min(value)} to {np.max(value)}")


def with_mean(values: xr.DataArray, dim: str = "class", of: xr.DataArray | None = None) -> xr.DataArray:
    """Values, and after the last along `dim` their mean, called "mean"; `of` are those that it is over, by default all.

    >>> float(with_mean(xr.DataArray([1.0, 3.0], {"class": ["Road", "Sky"]}, ("class",))).sel({"class": "mean"}))
    2.0
    """
    mean = (values if of is None else of).mean(dim)
    return xr.concat([values, mean.expand_dims({dim: ["mean"]})], dim)


def holm(p_values: Iterable[float | None]) -> list[float]:
    """Holm's correction (1979) of several p-values; those that are not known count as 1.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = np.array([1.0 if p is None or np.isnan(p) else p for p in p_values])
    order = np.argsort(known)
    corrected = np.empty_like(known)
    corrected[order] = np.minimum(np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)), 1)
    return [float(p) for p in corrected.round(12)]


def false_discovery(p_values: Iterable[float | None]) -> list[float]:
    """Benjamini's and Hochberg's correction (1995) of several p-values; those that are not known count as 1."""
    known = np.array([1.0 if p is None or np.isnan(p) else p for p in p_values])
    return [float(p) for p in stats.false_discovery_control(known)] if known.size else []


def _student(samples: Sequence[NDArray[np.float64]], mean: float, test: Callable[[], Any]) -> Estimate:
    count = min(map(len, samples))
    if count < 2:
        return Estimate(mean, np.nan, np.nan, count)
    if all(np.ptp(values) == 0 for values in samples):  # scipy has no interval for values that agree exactly
        return Estimate(mean, mean, mean, count)
    found = test()
    bounds = found.confidence_interval(0.95)
    return Estimate(mean, float(bounds.low), float(bounds.high), count, float(found.df))


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float).ravel()
    finite = np.asarray(array[np.isfinite(array)])
    if not finite.size:
        raise ValueError(f"no finite value among {array.size}: nothing to average")
    return finite
