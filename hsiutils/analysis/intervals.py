"""Intervals over scenes, by bootstrap; those over trainings are `hsiutils.analysis.estimates`.

The pixels of one scene are not independent, so a bootstrap draws whole scenes; and whole runs of real scenes that were
filmed one after the other, which show the same street.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Labelled = xr.DataArray | xr.Dataset
Statistic = Callable[[xr.Dataset], NDArray[np.float64]]
"""Of resampled data: (..., resample)."""
ENOUGH = 0.95
"""Share of the resamples that must have a value for an interval to be given."""
SEQUENCE = "sequence"
"""Coordinate along the scenes that says which of them were filmed one after the other."""
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


def with_mean(values: xr.DataArray, dim: str = "class", of: xr.DataArray | None = None) -> xr.DataArray:
    """Values, and after the last along `dim` their mean, called "mean"; `of` are those that it is over, by default all.

    >>> float(with_mean(xr.DataArray([1.0, 3.0], {"class": ["Road", "Sky"]}, ("class",))).sel({"class": "mean"}))
    2.0
    """
    mean = (values if of is None else of).mean(dim)
    return xr.concat([values, mean.expand_dims({dim: ["mean"]})], dim)
