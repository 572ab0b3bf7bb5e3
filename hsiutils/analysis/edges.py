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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.analysis.activations import ROUNDING, observe, require_full_resolution
from hsiutils.analysis.probes import REACH, Probe, border_probes
from hsiutils.analysis.scenes import LabelledScenes, each_scene
from hsiutils.classes import CLASSES
from hsiutils.unet import UNet

FLOOR = 5
"""From this distance on (pixels), a slope is texture and not the border's."""

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
        probes = border_probes(scene.truth, classes, reach)
        parts.append(border_statistics(maps, probes).assign_coords(scene=scene.name))
    return xr.concat(parts, dim="scene").assign_attrs(layer=layer, after=after)


def border_statistics(maps: Maps, probes: Mapping[str, Probe]) -> xr.Dataset:
    """The sums of `edge_statistics` for any maps of one scene.

    Parameters
    ----------
    maps : (channels, h, w)
    probes : of the scene's labels, by class, of `hsiutils.analysis.probes.border_probes`.

    Returns
    -------
    Dataset, float64: count (class, distance), slope and noise (class, channel, distance), the latter of squares;
    border (class), contrast (class, channel) of squares; pixels, total and square (channel) over the whole scene.
    distance is the middle of bins one pixel wide, negative inside the class; the border lies at 0.

    Raises
    ------
    ValueError
        If the maps have not the size of the labels.
    """
    for probe in probes.values():
        if probe.shape != maps.shape[1:]:
            raise ValueError(f"maps (channels, h, w) and labels (h, w) differ in size: {maps.shape}, {probe.shape}")
    slopes = np.hypot(*np.gradient(maps, axis=(1, 2)))
    values, lengths = (_by_pixel(stack) for stack in (maps, slopes))
    found = [_class_sums(values, lengths, probe) for probe in probes.values()]
    # Sums along pixels that lie together in memory: rounding stays what it is for one channel alone.
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    whole = {
        "pixels": float(flat.shape[1]),
        "total": ("channel", flat.sum(axis=1)),
        "square": ("channel", (flat**2).sum(axis=1)),
    }
    coords = {"class": list(probes), "channel": np.arange(len(maps)), "distance": _distances(probes)}
    return xr.Dataset(
        {name: (dims, np.stack([one[name] for one in found])) for name, dims in _DIMS.items()}, coords
    ).assign(whole)


_DIMS = {
    "count": ("class", "distance"),
    "slope": ("class", "channel", "distance"),
    "noise": ("class", "channel", "distance"),
    "border": ("class",),
    "contrast": ("class", "channel"),
}


def _by_pixel(maps: Maps) -> NDArray[np.float64]:
    """(channels, h, w) -> (pixels, channels)."""
    return maps.reshape(len(maps), -1).T.astype(np.float64, order="C")


def _distances(probes: Mapping[str, Probe]) -> NDArray[np.float64]:
    reach = next(iter(probes.values())).reach
    return np.asarray(np.arange(2 * reach) - reach + 0.5, dtype=np.float64)


def _class_sums(values: NDArray[np.float64], lengths: NDArray[np.float64], probe: Probe) -> dict[str, Any]:
    """Sums at the borders of one class, of maps and of their slopes (pixels, channels)."""
    return {
        "count": probe.member.sum(axis=1),
        "slope": (probe.member @ lengths[probe.places]).T,
        "noise": (probe.member @ (probe.along @ values) ** 2).T,
        "border": float(probe.across.shape[0]),
        "contrast": ((probe.across @ values) ** 2).sum(axis=0),
    }


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
