"""Figures with their intervals: Student and Welch over trainings, jackknife over pairs, both with scenes; many tests.

Trainings are independent, but few: their means have Student's interval, their differences Welch's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Bounded = TypeVar("Bounded", bound=xr.Dataset | pd.DataFrame)
_NEARLY_ONE = 1 - 1e-9
"""Fisher's z of a perfect correlation is infinite."""
_FINEST = 1 / 400
"""Of the fewest resamples that an interval over scenes is made of."""
_ROUNDING = 1e-5
"""By how much, relative to 1, a value of single precision may lie beyond what it can be."""


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
