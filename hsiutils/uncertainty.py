"""What can be told from a few seeds: means, intervals, and whether a difference lies outside the spread."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval.

    Attributes
    ----------
    mean, low, high : in the unit of the values; low and high are NaN where one value gives no spread.
    count : of values behind it.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def sign(self) -> int:
        """+1 or -1 where the whole interval lies on one side of zero, else 0."""
        if self.low > 0:
            return 1
        return -1 if self.high < 0 else 0

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.mean:.3g}"
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def mean_over_seeds(values: ArrayLike) -> Estimate:
    """Mean of independent values with Student's interval; values that are not finite are left out.

    Raises
    ------
    ValueError
        If no value is finite.
    """
    finite = _finite(values)
    mean = float(finite.mean())
    if len(finite) < 2:
        return Estimate(mean, np.nan, np.nan, len(finite))
    if np.ptp(finite) == 0:  # scipy has no interval for values that agree exactly
        return Estimate(mean, mean, mean, len(finite))
    interval = stats.ttest_1samp(finite, 0.0).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(interval.low), float(interval.high), len(finite))


def difference(one: ArrayLike, other: ArrayLike) -> Estimate:
    """Difference of two means, `one` minus `other`, with Welch's interval (unequal variances).

    Raises
    ------
    ValueError
        If either has no finite value.
    """
    a, b = _finite(one), _finite(other)
    mean = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return Estimate(mean, np.nan, np.nan, min(len(a), len(b)))
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return Estimate(mean, mean, mean, min(len(a), len(b)))
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(interval.low), float(interval.high), min(len(a), len(b)))


def seed_columns(values: xr.DataArray, mean: str, lowest: str, highest: str) -> dict[str, xr.DataArray]:
    """Columns of a table by these names: mean over seeds, lowest and highest seed. One network has no spread to show.

    Parameters
    ----------
    values : with the dimension seed.
    """
    columns = {mean: values.mean("seed")}
    if values.sizes["seed"] > 1:
        columns |= {lowest: values.min("seed"), highest: values.max("seed")}
    return columns


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float).ravel()
    finite = array[np.isfinite(array)]
    if not finite.size:
        raise ValueError(f"no finite value among {array.size}: nothing to average")
    return np.asarray(finite)
