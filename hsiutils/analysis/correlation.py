"""Do two networks see the same features? Channel-wise correlation, matched channels, CKA, and what chance gives.

Source: Fig. 4 of arXiv 2502.14416; linear CKA: Kornblith et al. 2019, arXiv 1905.00414. Channels of two trainings have
no common order, and smooth maps of the same scene correlate by their layout alone; so channels are matched by optimal
assignment, and every figure is read against nulls: two seeds of one model, activations of another scene, activations
moved within the scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hsiutils.analysis.activations import ROUNDING, Maps, last_layer, observe
from hsiutils.analysis.scenes import LabelledScenes
from hsiutils.unet import UNet

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
