"""From the raw mosaic frame to the reflectance cube, in the steps of HSI-Drive's own chain.

crop -> dark -> white reference -> one tile to one pixel -> translation to centre (TC) -> median filter (MF). The
geometry comes from a `Sensor`, so 5x5, 4x4 and other mosaics go the same way. Source: HSI-Drive v2.0 data
description (doi 10.1109/SSCI52147.2023.10371793) and the on-chip pipeline of arXiv 2411.19274.
"""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hsiutils.data.cube import make_cube, require_cube, require_native, with_step
from hsiutils.data.files import named_if_broken
from hsiutils.data.layouts import DatasetError
from hsiutils.data.sensor import Sensor

_SATURATED = 0.01
"""Share of a white reference that hot pixels may take up."""
_BELOW_DARK = 0.5
"""Share of pixels below the dark reference that noise explains where there is no light."""


def read_frame(path: Path | str, sensor: Sensor) -> NDArray[np.uint16]:
    """Read a `.bin` frame: uint16, little-endian, row after row.

    Some software puts the bits of the converter at the upper end of the 16: where every value is so, they are moved
    down. (A frame of one value could be either, and is taken as it is.)

    Returns
    -------
    (rows, columns) digital numbers of the whole chip, `sensor.frame_shape`.

    Raises
    ------
    DatasetError
        If the file cannot be read, or does not hold exactly one frame of this sensor with values of its converter.
    """
    path = Path(path)
    rows, columns = sensor.frame_shape
    expected = rows * columns * 2
    with named_if_broken(path):
        found = path.stat().st_size
        values = np.fromfile(path, dtype="<u2", count=rows * columns).astype(np.uint16, copy=False)
    if found != expected:
        raise DatasetError(
            f"{path}: expected {expected} bytes ({rows} x {columns} uint16, {sensor.name}), found {found}; "
            "the file is cut short, or comes from another sensor"
        )
    frame, used = values.reshape(rows, columns), int(np.bitwise_or.reduce(values))
    unused, varied = 16 - sensor.bits, frame.min() < frame.max()
    if varied and unused < 8 and not used & 0xFF:
        raise DatasetError(f"{path}: the lower byte of every value is empty; expected little-endian values")
    if varied and not used & ((1 << unused) - 1):
        return np.right_shift(frame, np.uint16(unused))
    if used > sensor.saturation_dn:
        raise DatasetError(
            f"{path}: holds {frame.max()}, but {sensor.name} ends at {sensor.saturation_dn} ({sensor.bits} bits); "
            f"expected little-endian values of {sensor.bits} bits, at the lower or the upper end of the 16"
        )
    return frame


def crop(frame: ArrayLike, sensor: Sensor) -> NDArray[Any]:
    """The active area of a whole frame (else ValueError): `sensor.active_shape` pixels from `sensor.active_origin`."""
    whole = np.asarray(frame)
    if whole.shape != sensor.frame_shape:
        raise ValueError(f"a frame of {sensor.name} is {sensor.frame_shape} (rows, columns), got {whole.shape}")
    (top, left), (rows, columns) = sensor.active_origin, sensor.active_shape
    return whole[top : top + rows, left : left + columns]


def subtract_dark(signal: ArrayLike, dark: ArrayLike) -> NDArray[np.float32]:
    """Remove the bias and dark signal (DN); what falls below it is noise without light, and becomes zero.

    `dark` is one number, or a frame of the same shape (else ValueError) and exposure, with the shutter closed.
    """
    lit, unlit = np.asarray(signal, dtype=np.float32), np.asarray(dark, dtype=np.float32)
    _require_same_shape(lit, unlit, "dark")
    return np.asarray(np.maximum(lit - unlit, 0), dtype=np.float32)


def reflectance(signal: ArrayLike, white: ArrayLike, exposure_ratio: float = 1.0) -> NDArray[np.float32]:
    """Divide by the white reference: signal / white * exposure_ratio, both without their dark signal.

    Parameters
    ----------
    signal : (rows, columns) DN above dark
    white : one number, or the same shape: DN above dark of a target of reflectance 1. A pixel that saw no white
        (zero, negative or not finite) has no reflectance: NaN, which `hsiutils.data.cube.pn` turns into zero.
    exposure_ratio : exposure time of the white reference over that of the signal, positive.

    Raises
    ------
    ValueError
        If the shapes differ, the ratio is not a positive number, or no white pixel is positive.
    """
    lit, target = np.asarray(signal, dtype=np.float32), np.asarray(white, dtype=np.float32)
    _require_same_shape(lit, target, "white")
    if not (np.isfinite(exposure_ratio) and exposure_ratio > 0):
        raise ValueError(f"exposure_ratio must be a positive number, got {exposure_ratio}")
    usable = np.isfinite(target) & (target > 0)
    if not usable.any():
        raise ValueError("white reference: no pixel is positive after dark subtraction; is it the dark frame?")
    ratio = lit / np.where(usable, target, np.float32(np.nan))
    return np.asarray(ratio * np.float32(exposure_ratio), dtype=np.float32)


def _require_same_shape(signal: NDArray[np.float32], reference: NDArray[np.float32], name: str) -> None:
    if reference.ndim and reference.shape != signal.shape:
        raise ValueError(f"{name} must be one number or have the signal's shape {signal.shape}, got {reference.shape}")


def demosaic(active: ArrayLike, sensor: Sensor) -> xr.DataArray:
    """Partial demosaicing: every tile of the mosaic becomes one pixel of the cube, nothing is interpolated.

    From `sensor.active_shape` pixels to a cube of `sensor.tiles`, (band, y, x) float32 in native band order.
    """
    mosaic = np.asarray(active)
    if mosaic.shape != sensor.active_shape:
        raise ValueError(f"the active area of {sensor.name} is {sensor.active_shape}, got {mosaic.shape}; crop first")
    (tile_rows, tile_columns), (rows, columns) = sensor.mosaic, sensor.tiles
    tiles = mosaic.reshape(rows, tile_rows, columns, tile_columns)
    planes = tiles.transpose(1, 3, 0, 2).reshape(len(sensor.bands), rows, columns)
    return make_cube(planes, sensor, units="DN", history="demosaic")


def interleave(cube: xr.DataArray, sensor: Sensor) -> NDArray[np.float32]:
    """Put the planes of a cube back onto the mosaic: the inverse of `demosaic`, (rows, columns) of the active area."""
    require_native(cube, len(sensor.bands), "interleave")
    rows, columns = cube.shape[1:]
    tiles = np.asarray(cube.values, dtype=np.float32).reshape(*sensor.mosaic, rows, columns)
    return tiles.transpose(2, 0, 3, 1).reshape(rows * sensor.mosaic[0], columns * sensor.mosaic[1])


def translate_to_centre(cube: xr.DataArray, sensor: Sensor) -> xr.DataArray:
    """Shift every band bilinearly from its own place in the tile to the tile's centre (TC).

    Band b was sampled up to half a tile away from the centre. Between two tiles the value is interpolated; at the
    border, where the outer neighbour is missing, it is extrapolated linearly from the last two tiles. A linear ramp
    across the chip therefore comes back exactly, everywhere. Along an axis of one tile nothing is shifted. The cube may
    have any subset of the sensor's bands; of others, a ValueError.
    """
    require_cube(cube)
    if cube["band"].max() >= len(sensor.bands):
        raise ValueError(f"the cube has band {int(cube['band'].max())}, {sensor.name} has {len(sensor.bands)}")
    values = np.asarray(cube.values, dtype=np.float64)
    planes = []
    for index, plane in zip(cube["band"].values, values, strict=True):
        for axis in (0, 1):
            size, place = sensor.mosaic[axis], sensor.mosaic_position(int(index))[axis]
            plane = _shifted(plane, ((size - 1) / 2 - place) / size, axis)
        planes.append(plane)
    return with_step(cube, np.stack(planes), "translated to centre")


def _shifted(plane: NDArray[np.float64], shift: float, axis: int) -> NDArray[np.float64]:
    """The plane read `shift` pixels further along `axis`, |shift| < 1."""
    if shift == 0 or plane.shape[axis] < 2:
        return plane
    step = np.diff(plane, axis=axis)
    # Reading forward uses the step to the next pixel, and the last pixel repeats the last step; backward, mirrored.
    outermost = [-1] if shift > 0 else [0]
    edge = np.take(step, outermost, axis=axis)
    slope = np.concatenate([step, edge] if shift > 0 else [edge, step], axis=axis)
    return np.asarray(plane + shift * slope)


def median_filter(cube: xr.DataArray) -> xr.DataArray:
    """3x3 median of every band (MF); borders repeat their last row and column, and NaN pixels do not vote."""
    require_cube(cube)
    padded = np.pad(cube.values, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    planes = [_nan_median(plane.reshape(*plane.shape[:2], 9)) for plane in windows]
    return with_step(cube, np.stack(planes), "median filtered")


def _nan_median(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    if np.isfinite(windows).all():
        return np.asarray(np.median(windows, axis=-1), dtype=np.float32)
    ordered = np.sort(windows, axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    middle = [np.take_along_axis(ordered, np.maximum(at, 0), axis=-1) for at in ((count - 1) // 2, count // 2)]
    return np.asarray((middle[0] + middle[1])[..., 0] / 2, dtype=np.float32)


def reflectance_cube(
    frame: ArrayLike,
    sensor: Sensor,
    white: ArrayLike,
    dark: ArrayLike,
    exposure_ratio: float = 1.0,
    centre: bool = True,
    median: bool = False,
    source: str = "unknown",
) -> xr.DataArray:
    """The whole chain: raw frame to reflectance cube.

    Parameters
    ----------
    frame : (rows, columns) DN, `sensor.frame_shape`.
    white, dark : DN; one number, or a whole frame each. The dark signal is taken off the white reference too.
    exposure_ratio : exposure time of the white reference over that of the frame.
    centre : translate to centre (TC).
    median : 3x3 median filter after it (MF).
    source : what the frame is: "simulated", "real" or "unknown"; kept in the attributes.

    Returns
    -------
    (band, y, x) float32 reflectance, never negative; NaN (see `reflectance`) around pixels without a white reference,
    and around those where it is saturated.

    Raises
    ------
    ValueError
        If frame and references do not have the sensor's size, the white reference is saturated in more than 1 % of the
        pixels, or dark is above the frame or the white reference in more than half of them.

    Examples
    --------
    >>> import numpy as np
    >>> import hsiutils as hu
    >>> sensor = hu.HSI_DRIVE.resized((4, 6))
    >>> frame = np.full(sensor.frame_shape, 314)  # of a .bin file: hsiutils.data.raw.read_frame
    >>> cube = hu.reflectance_cube(frame, sensor, white=1064, dark=64)
    >>> cube.dims, cube.shape, float(cube.max())
    (('band', 'y', 'x'), (25, 4, 6), 0.25)
    """
    lit, unlit = crop(frame, sensor), _active_reference(dark, sensor, "dark")
    target = np.broadcast_to(_active_reference(white, sensor, "white"), lit.shape)
    saturated = target >= sensor.saturation_dn
    if saturated.mean() > _SATURATED:
        raise ValueError(
            f"white: {saturated.mean():.0%} of the pixels are saturated ({sensor.saturation_dn} DN or above), and the "
            "light that they saw is not known; take it with a shorter exposure"
        )
    for what, values in (("frame", lit), ("white", target)):
        if (below := float(np.mean(values < unlit))) > _BELOW_DARK:
            raise ValueError(
                f"dark: {what} is below it in {below:.0%} of the pixels; were the two exchanged, or is dark of another "
                "exposure, or with its bits at the upper end of 16?"
            )
    signal = subtract_dark(lit, unlit)
    target = np.where(saturated, np.float32(np.nan), subtract_dark(target, unlit))
    cube = demosaic(reflectance(signal, target, exposure_ratio), sensor)
    cube.attrs.update(units="reflectance", source=source, history="crop; dark; white reference; demosaic")
    if centre:
        # At the border, extrapolation from a dark edge can fall below zero, where no reflectance is.
        cube = translate_to_centre(cube, sensor).clip(min=0, keep_attrs=True)
    return median_filter(cube) if median else cube


def _active_reference(reference: ArrayLike, sensor: Sensor, name: str) -> NDArray[Any]:
    values = np.asarray(reference)
    if values.ndim and values.shape != sensor.frame_shape:
        raise ValueError(f"{name} must be one number or a whole frame {sensor.frame_shape}, got {values.shape}")
    return crop(values, sensor) if values.ndim else values
