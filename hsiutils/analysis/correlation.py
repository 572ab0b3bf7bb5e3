"""Channel-wise correlation of networks: moments of all their channels, matched channels, linear CKA.

Source: Fig. 4 of arXiv 2502.14416; linear CKA: Kornblith et al. 2019, arXiv 1905.00414. Channels of two trainings have
no common order, so they are matched by optimal assignment. `moments` goes through the scenes once, with all networks;
every figure follows from its sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hsiutils.analysis.activations import ROUNDING, LabelledScenes, Maps, name_each, observe
from hsiutils.models.unet import UNet


@dataclass(frozen=True, eq=False)
class Features:
    """One network, the scenes as it is given them, and how to break their common order for a null.

    Attributes
    ----------
    scenes : in the same order for every source; images may differ in their channels.
    shuffle : "none"; "moved" shifts each scene's maps cyclically by a quarter to three quarters of its height and
        width, which keeps their texture and undoes their place; "other scene" takes the maps of another scene, which
        keeps the common layout (sky above, road below) and undoes the content.
    """

    model: UNet
    scenes: LabelledScenes
    shuffle: str = "none"

    def __post_init__(self) -> None:
        if self.shuffle not in ("none", "moved", "other scene"):
            raise ValueError(f"shuffle must be 'none', 'moved' or 'other scene', got {self.shuffle!r}")
        if self.shuffle == "other scene" and len(self.scenes) < 2:
            raise ValueError("shuffle 'other scene' needs at least two scenes")


def moments(
    sources: Mapping[str, Features],
    layer: str | None = None,
    after: bool = True,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Joint first and second moments of all channels of all sources over the pixels of each scene, in one pass.

    No more than one scene's activations are held at a time. The result takes 8 bytes x scenes x (all channels)**2.

    Parameters
    ----------
    sources : by name, e.g. "25-PN, seed 1".
    layer : Keras name; None for each network's last 3x3 convolution (conv2d_21 in the paper).
    after : after batch normalisation and ReLU.
    names : one a scene; None numbers them.
    seed : of the shuffles; equal shuffles of equal seeds draw alike for every source.

    Returns
    -------
    Dataset of pixels (scene), total (scene, unit) and product (scene, unit, unit_other); a unit is a channel of a
    source, with coordinates source and channel along `unit`. A ValueError if the sources have not the same number of
    scenes, or their activations differ in size.
    """
    counts = {name: len(source.scenes) for name, source in sources.items()}
    if not counts or len(set(counts.values())) > 1 or not max(counts.values()):
        raise ValueError(f"sources must be given the same scenes, at least one; got {counts}")
    count = next(iter(counts.values()))
    labels = name_each(count, names)
    draws = {name: np.random.default_rng(seed) for name in sources}
    steps = {name: draws[name].integers(1, count) for name, one in sources.items() if one.shuffle == "other scene"}
    total: dict[str, NDArray[np.float64]] = {}
    for index in range(count):
        passes: dict[Any, Any] = {}
        maps = {}
        for name, source in sources.items():
            maps[name] = _observed(source, int(index + steps.get(name, 0)) % count, layer, after, passes)
            if source.shuffle == "moved":
                drawn = [int(draws[name].integers(size // 4, 3 * size // 4 + 1)) for size in maps[name].shape[1:]]
                maps[name] = np.roll(maps[name], np.maximum(drawn, 1), axis=(1, 2))
        sums = _scene_moments(maps)
        # Room for all scenes at once: the sums may be large, and a list of parts would hold them twice.
        total = total or {str(name): np.empty((count, *values.shape)) for name, values in sums.items()}
        for name, values in total.items():
            values[index] = sums[name].values
    data = {name: (("scene", *sums[name].dims), values) for name, values in total.items()}
    return xr.Dataset(data, {**sums.coords, "scene": labels}).assign_attrs(layer=layer or "last", after=after)


def _observed(source: Features, place: int, layer: str | None, after: bool, passes: dict[Any, Any]) -> Maps:
    """Activations of one scene. Networks and their nulls share images and forward passes, kept in `passes`."""
    image, maps = (id(source.scenes), place), (id(source.model), id(source.scenes), place)
    if image not in passes:
        passes[image] = source.scenes[place][0]
    if maps not in passes:
        name = layer or source.model.config.last
        passes[maps] = observe(source.model, passes[image], [name], after)[0][name]
    return np.asarray(passes[maps])


def _scene_moments(maps: Mapping[str, Maps]) -> xr.Dataset:
    shapes = {name: values.shape[1:] for name, values in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"activations of one scene differ in size between sources: {shapes}")
    # (channel, h, w) of each source -> (unit, pixel)
    pixels = np.concatenate([values.reshape(len(values), -1) for values in maps.values()]).astype(np.float64)
    return xr.Dataset(
        {
            "pixels": float(pixels.shape[1]),
            "total": ("unit", pixels.sum(axis=1)),
            "product": (("unit", "unit_other"), pixels @ pixels.T),
        },
        coords={
            "source": ("unit", np.repeat(list(maps), [len(values) for values in maps.values()])),
            "channel": ("unit", np.concatenate([np.arange(len(values)) for values in maps.values()])),
        },
    )


@dataclass(frozen=True, eq=False)
class Correlated:
    """All channels of all sources against one another, over some scenes.

    Units are channels of sources, named (unit,) by both; correlation and covariance (unit, unit) are NaN for channels
    that never vary (dead after ReLU, or constant).
    """

    sources: NDArray[np.str_]
    channels: NDArray[np.integer[Any]]
    correlation: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, sums: xr.Dataset) -> "Correlated":
        """Of `moments`, over all pixels of all scenes."""
        product, total, pixels = (sums[key].sum("scene").values for key in ("product", "total", "pixels"))
        square, mean = product / pixels, total / pixels
        covariance = square - np.outer(mean, mean)
        variance = covariance.diagonal()
        dead = ~(variance > ROUNDING * square.diagonal())
        covariance[dead], covariance[:, dead] = np.nan, np.nan
        scale = np.sqrt(np.where(dead, np.nan, variance))
        correlation = np.clip(covariance / np.outer(scale, scale), -1, 1)
        return cls(sums["source"].values.astype(str), sums["channel"].values, correlation, covariance)

    def units(self, source: str) -> NDArray[np.intp]:
        """Where a source's channels stand; KeyError if there is no such source."""
        chosen = np.flatnonzero(self.sources == source)
        if not chosen.size:
            raise KeyError(f"no source {source!r}; there are {', '.join(dict.fromkeys(self.sources))}")
        return chosen

    def matrix(self, first: str, second: str) -> xr.DataArray:
        """Pearson correlation of every channel of one source with every channel of another: (channel_a, channel_b)."""
        rows, columns = self.units(first), self.units(second)
        coords = {"channel_a": self.channels[rows], "channel_b": self.channels[columns]}
        block = self.correlation[np.ix_(rows, columns)]  # (unit, unit) -> (channel_a, channel_b)
        return xr.DataArray(block, coords, tuple(coords), "correlation", {"a": first, "b": second})

    def alike(self, first: str, second: str) -> dict[str, float]:
        """How alike two sources are, in three figures, NaN where a source is all dead.

        matched, the mean correlation of optimally matched channels; random_pairing, its mean over all pairings; cka,
        linear centred kernel alignment: 0 for unrelated features, 1 for features equal up to rotation and one scale.
        """
        a, b = self.units(first), self.units(second)
        block = self.correlation[np.ix_(a, b)]  # (unit, unit) -> (channel_a, channel_b)
        rows, columns = assign(block)
        power, *own = (float(np.nansum(self.covariance[np.ix_(*pair)] ** 2)) for pair in ((a, b), (a, a), (b, b)))
        scale = np.sqrt(own[0] * own[1])
        return {
            "matched": float(block[rows, columns].mean()) if len(rows) else np.nan,
            "random_pairing": float(np.nanmean(block)) if len(rows) else np.nan,
            "cka": power / scale if scale > 0 else np.nan,
        }

    def matches(self, first: str, second: str) -> NDArray[np.float64]:
        """Correlation of each channel of the first with its match in the second, NaN where it has none."""
        block = self.correlation[np.ix_(self.units(first), self.units(second))]  # (channel_a, channel_b)
        rows, columns = assign(block)
        matched = np.full(len(block), np.nan)
        matched[rows] = block[rows, columns]
        return matched


def assign(matrix: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair rows and columns one to one so that the sum over the pairs is largest: their indices.

    Rows and columns without any finite number stay unpaired, and so do the surplus ones of the longer side.
    """
    known = np.isfinite(matrix)
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    chosen = linear_sum_assignment(matrix[np.ix_(rows, columns)], maximize=True)
    return rows[chosen[0]], columns[chosen[1]]


def matched_matrix(sums: xr.Dataset, first: str, second: str) -> xr.DataArray:
    """Correlation matrix of two sources, with the columns in the order of their matches: the diagonal is matched.

    Matched pairs stand by falling correlation. Channels that never vary are left out; those without a match stand last.
    """
    units = np.flatnonzero(np.isin(sums["source"].values, [first, second]))
    matrix = Correlated.of(sums.isel(unit=units, unit_other=units)).matrix(first, second)
    alive = matrix.dropna("channel_a", how="all").dropna("channel_b", how="all")
    rows, columns = assign(alive.values)
    order = np.argsort(-alive.values[rows, columns], kind="stable")
    return alive.isel(
        channel_a=[*rows[order], *np.setdiff1d(np.arange(len(alive)), rows)],
        channel_b=[*columns[order], *np.setdiff1d(np.arange(alive.sizes["channel_b"]), columns)],
    )


def counterparts(sums: xr.Dataset, source: str, others: Sequence[str]) -> xr.DataArray:
    """Correlation of each channel of a source with its match in each other source: (other, channel).

    A feature of a 25-channel model that another seed of it has and the 1-channel model has not comes with spectral
    richness; one that no other seed has is seed noise. NaN for channels that are dead or have no match.
    """
    correlated = Correlated.of(sums)
    rows = [correlated.matches(source, other) for other in others]
    coords = {"other": list(others), "channel": correlated.channels[correlated.units(source)]}
    return xr.DataArray(rows, coords, ("other", "channel"), "correlation")
