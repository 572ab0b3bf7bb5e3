"""How sharply and how cleanly a full-resolution layer draws the borders of the labels.

Claim 7 of arXiv 2502.14416 (its Fig. 6) is that conv2d_1 is noisier at edges in the 25-channel PN model. Three measures
against the signed distance d to a class's border, each relative to the channel's own standard deviation:

- slope(d): mean length of the gradient (central differences). A border that is drawn sharply gives a narrow peak at
  d = 0. Its width at half maximum, over the floor far from the border, is the edge's localisation; an ideal step
  between two pixels has 2 pixels, which is the reach of central differences. The distance is that between pixels, so
  widths at slanted borders come out up to a seventh small, for every network alike.
- noise(d): root mean square of a(p) - (a(p + t) + a(p - t)) / 2, with t one step along the border, scaled so that white
  noise gives its standard deviation. A straight border is constant along itself, whatever its profile, so an edge alone
  leaves next to nothing in any orientation (2 % of the contrast at a blur of one pixel); what is left is what differs
  from place to place along the border. Colour fringes of constant strength are no noise in this sense; noise that is
  smooth over several pixels is underrated.
- contrast: root mean square of a(p + 3 n) - a(p - 3 n) over the pixels at the border, with n across it. noise over
  contrast says how well the border stands out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.analysis.activations import ROUNDING, observe, require_full_resolution
from hsiutils.analysis.borders import Border, border, sample, step_along
from hsiutils.analysis.scenes import LabelledScenes, each_scene
from hsiutils.classes import CLASSES
from hsiutils.unet import UNet

REACH = 8
"""Largest distance to the border that is looked at, pixels."""

ARM = 3
"""How far (pixels) to either side of the border the contrast is taken: beyond the blur of the optics and two 3x3
convolutions, and still inside a road mark's neighbour."""

FLOOR = 5
"""From this distance on (pixels), a slope is texture and not the border's."""

_RIM = ARM + 1
"""Pixels along the image's rim that are left out: padding shows there, and steps would leave the image."""

Maps = NDArray[np.floating[Any]]


def edge_statistics(
    model: UNet,
    scenes: LabelledScenes,
    layer: str = "conv2d_1",
    after: bool = True,
    names: Sequence[str] | None = None,
    classes: Sequence[str] = CLASSES,
    reach: int = REACH,
) -> xr.Dataset:
    """Sums over the pixels at each distance to the border of each class, per scene.

    Parameters
    ----------
    layer : Keras name of a layer at full resolution; conv2d_1 is the tensor that the skip connection carries.
    after : after batch normalisation and ReLU.
    names : one a scene; None numbers them.
    classes : names of the labels' indices; every class that has a border in a scene is measured there.
    reach : largest distance, pixels.

    Returns
    -------
    As `border_statistics`, with dimension scene; attrs layer and after.

    Raises
    ------
    ValueError
        If the layer has not the image's resolution, or a label map does not fit.
    """
    require_full_resolution(model.config, layer)
    parts = []
    for scene in each_scene(scenes, names, classes):
        maps = observe(model, scene.image, [layer], after)[0][layer]
        parts.append(border_statistics(maps, scene.truth, classes, reach).assign_coords(scene=scene.name))
    return xr.concat(parts, dim="scene").assign_attrs(layer=layer, after=after)


def border_statistics(
    maps: Maps,
    labels: NDArray[np.integer[Any]],
    classes: Sequence[str] = CLASSES,
    reach: int = REACH,
    only: Sequence[int] | None = None,
) -> xr.Dataset:
    """The sums of `edge_statistics` for any maps (channels, h, w) of one scene with class indices (h, w).

    Parameters
    ----------
    only : indices of the classes whose borders are looked at; None for all.

    Returns
    -------
    Dataset, float64: count (class, distance), slope and noise (class, channel, distance), the latter of squares;
    border (class), contrast (class, channel) of squares; pixels, total and square (channel) over the whole scene.
    distance is the middle of bins one pixel wide, negative inside the class; the border lies at 0.
    """
    if maps.shape[1:] != labels.shape:
        raise ValueError(f"maps (channels, h, w) and labels (h, w) differ in size: {maps.shape}, {labels.shape}")
    slopes = np.hypot(*np.gradient(maps, axis=(1, 2)))
    chosen = range(len(classes)) if only is None else only
    found = [_class_sums(maps, slopes, border(labels, index), reach) for index in chosen]
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    whole = {
        "pixels": float(labels.size),
        "total": ("channel", flat.sum(axis=1)),
        "square": ("channel", (flat**2).sum(axis=1)),
    }
    sums = xr.concat(found, dim="class").assign_coords(
        {"class": [classes[index] for index in chosen], "channel": np.arange(len(maps))}
    )
    return sums.assign(whole)


def _class_sums(maps: Maps, slopes: Maps, found: Border | None, reach: int) -> xr.Dataset:
    bins = 2 * reach
    sums = np.zeros((2, len(maps), bins))
    count, crossing, pixels = np.zeros(bins), np.zeros(len(maps)), 0
    if found is not None:
        rows, columns = _near(found, reach)
        where = np.floor(found.distance[rows, columns]).astype(int) + reach
        member = np.eye(bins)[where]
        count = member.sum(axis=0)
        across, points = found.across[:, rows, columns], np.stack([rows, columns]).astype(float)
        sums[0] = slopes[:, rows, columns] @ member
        sums[1] = _roughness(maps, points, across) ** 2 @ member
        at_border = np.abs(found.distance[rows, columns]) < 1
        crossing, pixels = _crossings(maps, points[:, at_border], across[:, at_border]), int(at_border.sum())
    return xr.Dataset(
        {
            "count": ("distance", count),
            "slope": (("channel", "distance"), sums[0]),
            "noise": (("channel", "distance"), sums[1]),
            "border": float(pixels),
            "contrast": ("channel", crossing),
        },
        coords={"distance": np.arange(bins) - reach + 0.5},
    )


def _near(found: Border, reach: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels that are counted."""
    inner = np.zeros(found.usable.shape, dtype=bool)
    inner[_RIM:-_RIM, _RIM:-_RIM] = True
    directed = found.across.any(axis=0)
    rows, columns = np.nonzero(found.usable & inner & directed & (np.abs(found.distance) < reach))
    return rows, columns


def _roughness(maps: Maps, points: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Second difference along the border (channels, n), of unit variance for white noise of unit variance."""
    step = step_along(across)
    middle = sample(maps, points)
    residual = middle - (sample(maps, points + step) + sample(maps, points - step)) / 2
    between = np.abs(step).min(axis=0)
    return np.asarray(residual / np.sqrt(1 + ((1 - between) ** 2 + between**2) / 2))


def _crossings(maps: Maps, points: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over border pixels of the squared difference across the border: (channels,)."""
    difference = sample(maps, points + ARM * across) - sample(maps, points - ARM * across)
    return np.asarray((difference**2).sum(axis=1))


def edge_profiles(sums: xr.Dataset) -> xr.Dataset:
    """Mean slope and noise against distance, pooled over scenes, in units of the channel's own standard deviation.

    Parameters
    ----------
    sums : of `edge_statistics`; further dimensions are carried through.

    Returns
    -------
    Dataset of slope (class, channel, distance), 1/pixel; noise (class, channel, distance); contrast (class, channel).
    NaN for channels that never vary and distances that no pixel has.
    """
    pooled = sums.sum("scene")
    mean = pooled["total"] / pooled["pixels"]
    variance = pooled["square"] / pooled["pixels"] - mean**2
    scale = np.sqrt(variance.where(variance > ROUNDING * pooled["square"] / pooled["pixels"]))
    count, borders = (pooled[name].where(pooled[name] > 0) for name in ("count", "border"))
    return xr.Dataset(
        {
            "slope": pooled["slope"] / count / scale,
            "noise": np.sqrt(pooled["noise"] / count) / scale,
            "contrast": np.sqrt(pooled["contrast"] / borders) / scale,
        }
    )


def edge_measures(sums: xr.Dataset, at: float = 1.0) -> xr.Dataset:
    """Localisation and noise of a layer's edges, over all its living channels.

    Parameters
    ----------
    sums : of `edge_statistics`.
    at : noise is that of pixels nearer to the border than this, pixels.

    Returns
    -------
    Dataset (class): width, full width at half maximum of the slope's peak over its floor, pixels; shift of the peak's
    middle from the border, pixels, positive outside the class; noise near the border and floor_noise at `FLOOR` and
    beyond, in standard deviations of the channel; contrast likewise; noise_to_contrast. Slopes are averaged over
    channels, noise and contrast in square. NaN where a class has no border.
    """
    profiles = edge_profiles(sums)
    slope, power = profiles["slope"].mean("channel"), (profiles["noise"] ** 2).mean("channel")
    away = abs(sums["distance"])
    width, shift = xr.apply_ufunc(
        peak_width,
        slope,
        sums["distance"],
        input_core_dims=[["distance"]] * 2,
        output_core_dims=[[], []],
        vectorize=True,
    )
    noise, far = (power.where(mask).mean("distance") ** 0.5 for mask in (away < at, away >= FLOOR))
    contrast = (profiles["contrast"] ** 2).mean("channel") ** 0.5
    return xr.Dataset(
        {
            "width": width,
            "shift": shift,
            "noise": noise,
            "floor_noise": far,
            "contrast": contrast,
            "noise_to_contrast": noise / contrast.where(contrast > 0),
        }
    )


def peak_width(profile: NDArray[np.float64], distance: NDArray[np.float64]) -> tuple[float, float]:
    """Full width at half maximum over the floor, and its middle, of the peak of a profile nearer than `FLOOR` to zero.

    The floor is the median of the profile at `FLOOR` and beyond. Half maxima are interpolated linearly. Both figures
    are NaN where there is no peak, or where it does not fall to half on both sides.

    Parameters
    ----------
    profile, distance : (n,), distances rising.
    """
    middle = np.abs(distance) < FLOOR
    if not np.isfinite(profile[middle]).all() or not np.isfinite(profile[~middle]).any():
        return np.nan, np.nan
    height = profile - np.nanmedian(profile[~middle])
    top = int(np.flatnonzero(middle)[np.argmax(height[middle])])
    if height[top] <= 0:
        return np.nan, np.nan
    left, right = (_half(height[part], distance[part]) for part in (slice(top, None, -1), slice(top, None)))
    return right - left, (left + right) / 2


def _half(height: NDArray[np.float64], distance: NDArray[np.float64]) -> float:
    """Where a profile that starts at its peak first falls to half of it."""
    half = height[0] / 2
    below = np.flatnonzero(height <= half)
    if not below.size:
        return float("nan")
    end = int(below[0])
    share = (height[end - 1] - half) / (height[end - 1] - height[end])
    return float(distance[end - 1] + share * (distance[end] - distance[end - 1]))
