"""The hyperspectral cube: an `xarray.DataArray` with dims (band, y, x), and per-pixel normalisation.

Coordinates: `band` holds native band indices (mosaic order), `wavelength` the band centres in nm along `band`.
Attributes: `units`, `source` ("simulated", "real" or "unknown"), `sensor` (its name), `history` (steps so far).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter

from hsiutils.data.sensor import Sensor

DIMS = ("band", "y", "x")
HEADROOM = 0.9921875
"""Clip limit over the value that maps to +1: 127/128, so that +1 itself is never reached (signed 8-bit inputs)."""
PSEUDOCOLOUR_NM = (928.81, 826.77, 731.88)
"""What is shown as red, green, blue: the default of the data set's own viewer."""
_CANCELLED = 1e-6
"""A pixel whose sum is below this share of its summed magnitudes is noise about zero; its shape means nothing."""
_DARKEST = 1e-3
"""Share of a pixel's mean below which none of its bands falls in a logarithm; least brightness around a pixel."""


def make_cube(
    values: ArrayLike, sensor: Sensor, *, units: str = "reflectance", source: str = "unknown", history: str = ""
) -> xr.DataArray:
    """Wrap (band, y, x) values in native band order into a float32 cube of that sensor.

    The attributes are those of the module's docstring.

    Raises
    ------
    ValueError
        If the first axis does not have the sensor's number of bands.
    """
    array, bands = np.asarray(values, dtype=np.float32), len(sensor.bands)
    if array.ndim != 3 or array.shape[0] != bands:
        raise ValueError(
            f"values must be (band, y, x) with the {bands} bands of {sensor.name} first, got {array.shape}"
        )
    coords = {"band": np.arange(bands), "wavelength": ("band", sensor.wavelengths_nm, {"units": "nm"})}
    attrs = {"units": units, "source": source, "sensor": sensor.name, "history": history}
    return xr.DataArray(array, coords, DIMS, name="cube", attrs=attrs)


def require_cube(cube: xr.DataArray) -> None:
    """ValueError if dims are not (band, y, x), or `band` and `wavelength` are not coordinates."""
    if cube.dims != DIMS:
        raise ValueError(f"a cube has dims {DIMS}, got {cube.dims}; see hsiutils.data.cube.make_cube")
    if missing := {"band", "wavelength"} - set(map(str, cube.coords)):
        raise ValueError(f"the cube lacks the coordinates {sorted(missing)}; see hsiutils.data.cube.make_cube")


def require_native(cube: xr.DataArray, bands: int, what: str) -> None:
    """ValueError, that begins with `what`, if a cube does not have every band of its camera in native order."""
    require_cube(cube)
    if not np.array_equal(cube["band"].values, np.arange(bands)):
        raise ValueError(
            f"{what} needs all {bands} bands of the camera in native order, got bands {cube['band'].values.tolist()}; "
            'cube.sortby("band") puts them back'
        )


def fill_values(values: NDArray[np.floating[Any]]) -> list[float]:
    """Numbers that stand for "not measured", such as 65535, -9999 or 1e35: extremes that come again and again.

    An extreme is one if it occurs three times or more and lies ten times further out than the next value: the largest
    one from ten times another positive value on, or a negative one. Noise and glints do neither.
    """
    found: list[float] = []
    rest = np.ravel(values)
    if rest.size and not np.isfinite(rest.max() - rest.min()):
        rest = rest[np.isfinite(rest)]
    while rest.size:
        low, high = rest.min(), rest.max()
        if high > 0 and not _any_between(rest, high / 10, high) and _any_between(rest, 0, high):
            extreme = high
        elif low < 0 and not _any_between(rest, low, low / 10):
            extreme = low
        else:
            break
        if (rest == extreme).sum() >= 3:
            found.append(float(extreme))
        rest = rest[rest != extreme]
    return found


def _any_between(values: NDArray[np.floating[Any]], low: float, high: float) -> bool:
    return any(bool(((some > low) & (some < high)).any()) for some in (values[::101], values))  # a few settle most


def without_fill(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values with NaN, which stands for "not measured" here, in the place of `fill_values`."""
    filled = fill_values(values)
    return np.where(np.isin(values, filled), np.float32(np.nan), values) if filled else values


def with_step(cube: xr.DataArray, values: ArrayLike, step: str, units: str | None = None) -> xr.DataArray:
    """The same cube with new float32 values, and `step` added to its history."""
    history = "; ".join(filter(None, (cube.attrs.get("history", ""), step)))
    result = cube.copy(data=np.asarray(values, dtype=np.float32))
    return result.assign_attrs(history=history, units=units or cube.attrs.get("units", ""))


def mapped(cube: xr.DataArray, weights: ArrayLike, sensor: Sensor) -> xr.DataArray:
    """A cube as another camera's: weights of `hsiutils.data.sensor.band_map`, (bands of `sensor`, bands of the cube).

    ValueError if the cube does not have every band of its own camera, or the weights are of other cameras.
    """
    matrix = np.asarray(weights, dtype=np.float32)
    require_native(cube, matrix.shape[-1], "a map to another camera")
    values = np.tensordot(matrix, cube.values, axes=1)  # (to, of) x (of, y, x) -> (to, y, x)
    other = make_cube(values, sensor).assign_attrs({**cube.attrs, "sensor": sensor.name})
    return with_step(other, values, f"bands of {cube.attrs.get('sensor', 'another camera')}")


def pn(cube: xr.DataArray, alpha: float = 1.0) -> xr.DataArray:
    """Per-pixel normalisation (PN) of strength alpha: pixel / sum(pixel) ** alpha.

    With alpha = 1 it is the paper's PN (bands sum to one, brightness is gone); with alpha = 0 it is the identity;
    between the two, a pixel `f` times as bright comes out `f ** (1 - alpha)` times as large. Pixels that hold a
    non-finite value, and pixels without light (a sum that is not positive, or noise about zero), become zero in every
    band at every alpha, so that the result is always finite.

    Parameters
    ----------
    cube : (band, y, x) reflectance; every band of the camera, since the sum runs over all that are given.
    alpha : strength, 0..1.

    Raises
    ------
    ValueError
        If alpha is outside 0..1 or the array is no cube.

    Examples
    --------
    >>> import numpy as np
    >>> import hsiutils as hu
    >>> sensor = hu.HSI_DRIVE.resized((4, 6))
    >>> cube = hu.reflectance_cube(np.full(sensor.frame_shape, 314), sensor, white=1064, dark=64)
    >>> bool(np.allclose(hu.pn(cube).sum("band"), 1)), bool(np.allclose(hu.pn(2 * cube), hu.pn(cube)))
    (True, True)
    """
    require_cube(cube)
    pixels = pn_pixels(cube.values, alpha)
    return with_step(cube, pixels, f"PN alpha={alpha:g}", units="normalised reflectance")


def pn_pixels(values: ArrayLike, alpha: float = 1.0) -> NDArray[np.float32]:
    """`pn` for a plain array whose first axis is the bands: (bands, ...) to the same shape."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in 0..1, got {alpha}")
    pixels = np.asarray(values, dtype=np.float64)
    pixels = np.where(np.isfinite(pixels).all(axis=0), pixels, 0.0)
    total = pixels.sum(axis=0)
    lit = total > _CANCELLED * np.abs(pixels).sum(axis=0)
    divisor = np.where(lit, total, 1.0) ** alpha
    return np.where(lit, pixels / divisor, 0.0).astype(np.float32)


def log_pixels(values: ArrayLike) -> NDArray[np.float64]:
    """Logarithms (bands, ...), none darker than a share of the pixel's own mean: a factor adds the same to all.

    Pixels that hold a non-finite value become NaN in every band.
    """
    pixels = np.asarray(values, dtype=np.float64)
    pixels = np.where(np.isfinite(pixels).all(axis=0), pixels, np.nan)
    least = _DARKEST * np.abs(pixels).mean(axis=0) + np.finfo(float).tiny
    return np.asarray(np.log(np.maximum(pixels, least)))


def clr_pixels(values: ArrayLike, strength: float = 1.0) -> NDArray[np.float64]:
    """Centred log-ratio (Aitchison 1982) of (bands, ...): logarithms less their mean over the bands, times `strength`.

    Like PN it is free of a factor on all bands. Unlike PN it makes a factor on each band, as another light is, a
    constant shift of all pixels.
    """
    logs = log_pixels(values)
    return np.asarray(logs - strength * logs.mean(axis=0))


def without_directions(values: ArrayLike, directions: ArrayLike) -> NDArray[np.float64]:
    """Pixels (bands, ...) less what of them lies in the span of directions (n, bands)."""
    pixels = np.asarray(values, dtype=np.float64)
    basis = np.linalg.svd(np.asarray(directions, dtype=np.float64), full_matrices=False)[2]  # (n, bands), orthonormal
    return np.asarray(pixels - np.tensordot(basis.T, np.tensordot(basis, pixels, axes=1), axes=1))


def log_brightness(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the logarithms over the bands: (bands, ...) to (...)."""
    return np.asarray(log_pixels(values).mean(axis=0))


def surroundings(values: ArrayLike) -> tuple[float, NDArray[np.float64]]:
    """Mean brightness of an image (bands, h, w), and that around each pixel (h, w), both at least `_DARKEST`.

    Around is a square of a twelfth of the image's width. Pixels that were not measured, or have no light, have no say.
    """
    light = np.asarray(values).mean(axis=0, dtype=float)
    lit = np.isfinite(light) & (light > 0)
    light, width = np.where(lit, light, 0.0), max(light.shape[1] // 12, 3)
    around = uniform_filter(light, width)
    if not lit.all():
        around = around / np.maximum(uniform_filter(lit.astype(float), width), 0.5 / width**2)
    return max(float(light.sum() / max(lit.sum(), 1)), _DARKEST), np.maximum(around, _DARKEST)


def to_unit_range(values: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float32]:
    """Clip the first axis to [low, high] per channel and map it linearly to [-1, 1), as the authors scale inputs.

    The value that would map to +1 is high / 0.9921875 where low is zero, so that the largest output is 0.984375. NaN
    becomes `low`: an unmeasured pixel is dark, not bright.
    """
    array = np.asarray(values, dtype=np.float64)
    lower, upper = (_per_channel(limit, array) for limit in (low, high))
    if not np.all(np.isfinite(lower) & np.isfinite(upper) & (upper > lower)):
        raise ValueError(f"clip limits must be finite and rising, got low {np.ravel(low)}, high {np.ravel(high)}")
    share = (np.clip(np.where(np.isnan(array), lower, array), lower, upper) - lower) / (upper - lower)
    return np.asarray(2 * HEADROOM * share - 1, dtype=np.float32)


def _per_channel(limit: ArrayLike, array: NDArray[np.float64]) -> NDArray[np.float64]:
    values = np.atleast_1d(np.asarray(limit, dtype=np.float64))
    if values.ndim != 1 or values.size not in (1, array.shape[0]):
        raise ValueError(f"clip limits: expected one number or {array.shape[0]} (one a band), got shape {values.shape}")
    return values.reshape(-1, *[1] * (array.ndim - 1))


def ascending(cube: xr.DataArray) -> xr.DataArray:
    """The same cube with its bands in the order of wavelength; `band` keeps the native indices."""
    require_cube(cube)
    return cube.isel(band=np.argsort(cube["wavelength"].values, kind="stable"))


def nearest_bands(cube: xr.DataArray, wavelengths_nm: Sequence[float]) -> tuple[int, ...]:
    """Native indices of the bands whose centres are nearest to the given wavelengths (nm)."""
    require_cube(cube)
    centres = cube["wavelength"].values
    return tuple(int(cube["band"].values[np.argmin(np.abs(centres - nm))]) for nm in wavelengths_nm)


def pseudocolour(
    cube: xr.DataArray, wavelengths_nm: Sequence[float] | None = None, percentiles: tuple[float, float] = (1.0, 99.0)
) -> xr.DataArray:
    """Three bands as red, green and blue, each stretched between two percentiles.

    By default the bands nearest to `PSEUDOCOLOUR_NM`, or, where these are not three, the longest, middle and shortest.

    Returns
    -------
    float32 DataArray with dims (y, x, rgb) in 0..1; coordinate `wavelength` along `rgb`, nm. Non-finite pixels are 0.
    """
    bands = nearest_bands(cube, wavelengths_nm or PSEUDOCOLOUR_NM)
    if wavelengths_nm is None and len(set(bands)) < 3:
        longest_first = ascending(cube)["band"].values[::-1].tolist()
        bands = (longest_first[0], longest_first[len(cube) // 2], longest_first[-1])
    picked = cube.sel(band=list(bands))
    finite = np.where(np.isfinite(picked.values), picked.values, np.nan)
    low, high = np.nanpercentile(finite, percentiles, axis=(1, 2), keepdims=True)
    stretched = (finite - low) / np.where(high > low, high - low, 1.0)
    shown = np.nan_to_num(np.clip(stretched, 0.0, 1.0))
    return with_step(picked, shown, "pseudocolour", units="1").rename(band="rgb").transpose("y", "x", "rgb")
