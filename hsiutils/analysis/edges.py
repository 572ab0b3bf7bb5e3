"""How sharply and how cleanly a full-resolution layer draws the borders of the labels.

Claim 7 of arXiv 2502.14416 (its Fig. 6) is that conv2d_1 is noisier at edges in the 25-channel PN model. Three measures
against the signed distance d to a class's border, each relative to the channel's own standard deviation:

- slope(d): mean length of the gradient (central differences). Its peak's width at half maximum, over the floor far from
  the border, is the edge's localisation; an ideal step between two pixels has 2 pixels, the reach of central
  differences. Widths at slanted borders come out up to a seventh small, for every network alike.
- noise(d): root mean square of a(p) - (a(p + t) + a(p - t)) / 2, with t one step along the border, scaled so that white
  noise gives its standard deviation. An edge alone leaves next to nothing in any orientation (2 % of the contrast at a
  blur of one pixel, 6 % with a fringe as strong as the edge all along it); noise that is smooth over several pixels is
  underrated.
- contrast: root mean square of a(p + 3 n) - a(p - 3 n) over the pixels at the border, with n across it.

All are linear in the maps before they are squared and summed. So a class's border becomes a few sparse matrices, a
`Probe`, made once for a scene's labels, that any network's maps are multiplied by.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse

from hsiutils.analysis.activations import ROUNDING, Parts
from hsiutils.data.classes import VOID

Labels = NDArray[np.integer[Any]]
Maps = NDArray[np.floating[Any]]
REACH = 8
"""Largest distance to the border that is looked at, pixels."""
FLOOR = 5
"""From this distance on (pixels), a slope is texture and not the border's."""
ARM = 3
"""How far (pixels) to either side of the border the contrast is taken: beyond the blur of the optics and two 3x3
convolutions, and still inside a road mark's neighbour."""
_RIM = ARM + 1
"""Pixels along the image's rim that are left out: padding shows there, and steps would leave the image."""
_VOID_STRIP = 3
"""Unlabelled pixels at most this far (pixels) from a label are a strip along a border; beyond, nobody knows."""
_SMOOTHING = 1.5
"""Standard deviation (pixels) by which the staircase of a label border is smoothed to read its direction."""


class Border(NamedTuple):
    """Where the pixels of an image lie with respect to the border of one class."""

    distance: NDArray[np.float64]
    """(h, w) pixels to the border, negative inside the class; the border runs half-way between pixels."""
    across: NDArray[np.float64]
    """(2, h, w) unit vector (row, column) pointing out of the class."""
    usable: NDArray[np.bool_]
    """(h, w) pixels with a label near, whose nearest point of the border is one between labels."""


def border(labels: Labels, class_index: int) -> Border | None:
    """The border of one class in a label map (h, w) with `VOID`, or None where the class has none.

    Label maps leave a strip unlabelled along most borders. Each pixel in it takes the nearest label, so that the border
    runs in the strip's middle; its place is uncertain by half the strip's width.
    """
    if not (labels != VOID).any():
        return None
    away, nearest = ndimage.distance_transform_edt(labels == VOID, return_indices=True)
    inside = labels[tuple(nearest)] == class_index  # (2, h, w) indices -> (h, w)
    if inside.all() or not inside.any():
        return None
    within, foot_out = ndimage.distance_transform_edt(inside, return_indices=True)
    without, foot_in = ndimage.distance_transform_edt(~inside, return_indices=True)
    distance, foot = np.where(inside, 0.5 - within, without - 0.5), np.where(inside, foot_out, foot_in)
    slope = np.stack(np.gradient(ndimage.gaussian_filter(distance, _SMOOTHING)))  # (2, h, w)
    length = np.hypot(*slope)
    across = np.divide(slope, length, out=np.zeros_like(slope), where=length > 1e-9)
    near = away <= _VOID_STRIP
    return Border(distance, across, near & near[tuple(foot)])


def sampling(points: NDArray[np.float64], shape: tuple[int, int]) -> sparse.csr_array:
    """Bilinear interpolation at points (2, n) inside images of a shape, as a matrix (n, pixels) for flattened maps."""
    height, width = shape
    row, column = (np.clip(np.floor(p), 0, size - 2).astype(int) for p, size in zip(points, shape, strict=True))
    down, right = points[0] - row, points[1] - column
    # (n, 4) weights and places of the four corners of each point
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], axis=1)
    corners = (row * width + column)[:, None] + np.array([0, 1, width, width + 1])
    starts = np.arange(0, corners.size + 1, 4)
    matrix = sparse.csr_array((weights.ravel(), corners.ravel(), starts), shape=(points.shape[1], height * width))
    matrix.eliminate_zeros()
    return matrix


class Probe(NamedTuple):
    """The border of one class in one scene (h, w); n pixels lie near it, m of them at it."""

    shape: tuple[int, int]
    reach: int
    """Largest distance, pixels."""
    places: NDArray[np.intp]
    """(n,) the pixels near the border, as indices into the flattened image."""
    member: sparse.csr_array
    """(2 reach, n) which bin of distance, one pixel wide, each of them is in."""
    along: sparse.csr_array
    """(n, h w) second difference along the border, of unit variance for white noise of unit variance."""
    across: sparse.csr_array
    """(m, h w) difference across the border, outside less inside."""


def border_probes(labels: Labels, classes: Sequence[str], reach: int = REACH) -> dict[str, Probe]:
    """The probes of every class of labels (h, w), by name; a class without a border has one of no pixels."""
    return {name: _probe(labels, border(labels, index), reach) for index, name in enumerate(classes)}


def _probe(labels: Labels, line: Border | None, reach: int) -> Probe:
    shape = (labels.shape[0], labels.shape[1])
    rows, columns = (np.zeros(0, np.intp),) * 2
    distance, direction = np.zeros(0), np.zeros((2, 0))
    if line is not None:
        inner = np.zeros(labels.shape, dtype=bool)
        inner[_RIM:-_RIM, _RIM:-_RIM] = True
        counted = line.usable & inner & line.across.any(axis=0) & (np.abs(line.distance) < reach)
        rows, columns = np.nonzero(counted)
        # (h, w) -> (n,), (2, h, w) -> (2, n)
        distance, direction = line.distance[rows, columns], line.across[:, rows, columns]
    points, order = np.stack([rows, columns]).astype(float), np.arange(len(rows))
    at_border = np.abs(distance) < 1
    arm, middle = ARM * direction[:, at_border], points[:, at_border]
    bins = np.floor(distance).astype(int) + reach
    # The shortest step along the border to the next row or column: it never falls back on where it started.
    along = np.stack([-direction[1], direction[0]])
    step = along / np.abs(along).max(axis=0)
    second = sampling(points, shape) - (sampling(points + step, shape) + sampling(points - step, shape)) / 2
    between = np.abs(step).min(axis=0)
    scale = 1 / np.sqrt(1 + ((1 - between) ** 2 + between**2) / 2)
    return Probe(
        shape,
        reach,
        rows * shape[1] + columns,
        sparse.csr_array((np.ones(len(rows)), (bins, order)), shape=(2 * reach, len(rows))),
        sparse.csr_array(sparse.diags_array(scale) @ second),
        sampling(middle + arm, shape) - sampling(middle - arm, shape),
    )


def border_sums(maps: Maps, probes: Mapping[str, Probe]) -> xr.Dataset:
    """Sums over the pixels at each distance to the border of each class, for any maps (channels, h, w) of one scene.

    Dataset, float64: count (class, distance), slope and noise (class, channel, distance), the latter of squares;
    border (class), contrast (class, channel) of squares; pixels, total and square (channel) over the whole scene.
    distance is the middle of bins one pixel wide, negative inside the class; the border lies at 0. A ValueError if the
    maps have not the size of the labels.
    """
    return xr.Dataset(border_parts(maps, probes), border_coords(probes, range(len(maps))))


def border_coords(probes: Mapping[str, Probe], channels: ArrayLike) -> dict[str, Any]:
    """Coordinates of `border_sums` of channels of these names."""
    reach = next(iter(probes.values())).reach
    return {"class": list(probes), "channel": np.asarray(channels), "distance": np.arange(2 * reach) - reach + 0.5}


def border_parts(maps: Maps, probes: Mapping[str, Probe]) -> Parts:
    """The variables of `border_sums` by their names."""
    for probe in probes.values():
        if probe.shape != maps.shape[1:]:
            raise ValueError(f"maps (channels, h, w) and labels (h, w) differ in size: {maps.shape}, {probe.shape}")
    slopes = np.hypot(*np.gradient(maps, axis=(1, 2)))
    # (channels, h, w) -> (pixels, channels), as sparse matrices are multiplied by
    values, lengths = (stack.reshape(len(stack), -1).T.astype(np.float64, order="C") for stack in (maps, slopes))
    at_borders = [_class_sums(values, lengths, probe) for probe in probes.values()]
    # (channels, h, w) -> (channels, pixels): sums along pixels that lie together in memory, so that rounding stays what
    # it is for one channel alone.
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    sums: Parts = {
        name: (("class", *dims), np.stack([one[name][1] for one in at_borders]))
        for name, (dims, _) in at_borders[0].items()
    }
    sums["pixels"] = ((), np.asarray(float(flat.shape[1])))
    return sums | {"total": (("channel",), flat.sum(axis=1)), "square": (("channel",), (flat**2).sum(axis=1))}


def _class_sums(values: NDArray[np.float64], lengths: NDArray[np.float64], probe: Probe) -> Parts:
    """Dimensions and sums at the borders of one class, of maps and of their slopes (pixels, channels)."""
    each = ("channel", "distance")
    return {  # (distance, n) x (n, channels) -> (distance, channels) -> (channels, distance)
        "count": (each[1:], probe.member.sum(axis=1)),
        "slope": (each, (probe.member @ lengths[probe.places]).T),
        "noise": (each, (probe.member @ (probe.along @ values) ** 2).T),
        "border": ((), np.asarray(float(probe.across.shape[0]))),
        "contrast": (each[:1], ((probe.across @ values) ** 2).sum(axis=0)),
    }


def edge_profiles(sums: xr.Dataset) -> xr.Dataset:
    """Mean slope and noise against distance, pooled over scenes, in units of the channel's own standard deviation.

    Of `border_sums` along scene; further dimensions are carried through. Dataset of slope (class, channel, distance),
    1/pixel; noise (class, channel, distance); contrast (class, channel). NaN for channels that never vary and distances
    that no pixel has.
    """
    pooled = sums.sum("scene")
    mean, square = (pooled[name] / pooled["pixels"] for name in ("total", "square"))
    variance = square - mean**2
    scale = np.sqrt(variance.where(variance > ROUNDING * square))
    count, borders = (pooled[name].where(pooled[name] > 0) for name in ("count", "border"))
    return xr.Dataset(
        {
            "slope": pooled["slope"] / count / scale,
            "noise": np.sqrt(pooled["noise"] / count) / scale,
            "contrast": np.sqrt(pooled["contrast"] / borders) / scale,
        }
    )


def edge_measures(sums: xr.Dataset) -> xr.Dataset:
    """Localisation and noise of a layer's edges, over all its living channels, of `border_sums` along scene.

    Dataset (class): width, full width at half maximum of the slope's peak over its floor, pixels; shift of the peak's
    middle from the border, pixels, positive outside the class; noise within a pixel of the border and floor_noise at
    `FLOOR` and beyond, in standard deviations of the channel; contrast likewise; noise_to_contrast. Slopes are averaged
    over channels, noise and contrast in square. NaN where a class has no border.
    """
    profiles = edge_profiles(sums)
    slope, power = profiles["slope"].mean("channel"), (profiles["noise"] ** 2).mean("channel")
    away, along = abs(sums["distance"]), [["distance"]] * 2
    width, shift = xr.apply_ufunc(
        peak_width, slope, sums["distance"], input_core_dims=along, output_core_dims=[[], []], vectorize=True
    )
    noise, far = (power.where(mask).mean("distance") ** 0.5 for mask in (away < 1, away >= FLOOR))
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

    Of a profile (n,) at rising distances (n,). The floor is the median at `FLOOR` and beyond. Half maxima are
    interpolated linearly. Both figures are NaN where there is no peak, or where it does not fall to half on both sides.
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
