"""How sure is a number: bootstrap intervals over scenes, since the pixels of one scene are not independent.

What can be told from a few seeds: means, intervals, and whether a difference lies outside the spread.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Labelled = xr.DataArray | xr.Dataset
ENOUGH = 0.95
"""Share of the resamples that must have a value for an interval to be given."""


def interval(
    data: Labelled,
    statistic: Callable[[xr.Dataset], Labelled],
    *,
    seed: int,
    dim: str = "scene",
    resamples: int = 2000,
    level: float = 0.95,
    method: str = "BCa",
    batch: int = 100,
) -> xr.Dataset:
    """A statistic of scenes with its bootstrap interval.

    Scenes are drawn with replacement; everything else about the data, other models included, is kept together, so the
    statistic may be a difference between models on the same scenes.

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
    batch : resamples held in memory at a time.

    Returns
    -------
    Dataset of value, low and high with the statistic's own dimensions; bounds are NaN where there is none.

    Raises
    ------
    ValueError
        If there are fewer than two scenes.
    """
    dataset = data.to_dataset(name="value") if isinstance(data, xr.DataArray) else data
    count = dataset.sizes.get(dim, 0)
    if count < 2:
        raise ValueError(f"a bootstrap over {dim!r} needs at least two of them, got {count}")
    # The coordinate of a resampled dimension would be two-dimensional under its own name.
    dataset = dataset.drop_vars(dim, errors="ignore")
    value = _as_array(statistic(dataset))

    def of_indices(indices: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        chosen = xr.DataArray(np.moveaxis(indices, axis, -1).astype(int).reshape(-1, indices.shape[axis]))
        drawn = dataset.isel({dim: chosen.rename(dim_0="resample", dim_1=dim)})
        result = _as_array(statistic(drawn)).transpose(*value.dims, "resample")
        shape = (*value.shape, *np.delete(indices.shape, axis))
        return np.asarray(result, dtype=float).reshape(shape)

    low, high = _bounds(of_indices, np.arange(count), resamples, level, method, batch, seed)
    return xr.Dataset({"value": value, "low": (value.dims, low), "high": (value.dims, high)})


def _as_array(result: Labelled) -> xr.DataArray:
    return result.to_dataarray("measure") if isinstance(result, xr.Dataset) else result


def _bounds(
    statistic: Callable[..., NDArray[np.float64]],
    indices: NDArray[np.int64],
    resamples: int,
    level: float,
    method: str,
    batch: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with warnings.catch_warnings():
        # Undefined bounds come back as NaN and are dealt with below; the warnings would only repeat it.
        warnings.simplefilter("ignore", category=RuntimeWarning)
        warnings.simplefilter("ignore", category=stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (indices,),
            statistic,
            vectorized=True,
            n_resamples=resamples,
            batch=batch,
            confidence_level=level,
            method=method,
            rng=np.random.default_rng(seed),
        )
        stand_in = _percentiles(result.bootstrap_distribution, level)
    bounds = (result.confidence_interval.low, result.confidence_interval.high)
    low, high = (np.where(np.isfinite(a), a, b) for a, b in zip(bounds, stand_in, strict=True))
    return low, high


def _percentiles(distribution: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Lower and upper bound (2, ...) of resamples (..., resamples), NaN where too few are defined."""
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    bounds = np.nanquantile(distribution, tails, axis=-1)
    return np.where(np.isfinite(distribution).mean(axis=-1) >= ENOUGH, bounds, np.nan)


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
