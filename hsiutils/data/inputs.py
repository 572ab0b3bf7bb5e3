"""What the network is given of a cube: 1, 3 or 25 channels, with or without PN, or principal components.

The paper compares models of 1, 3 and 25 channels and 25 channels with PN. Which bands its 1 and 3 channels are is
partly an assumption here: the authors' code uses band 12 (731.88 nm) as the single one; for three channels no source
says, and the default of the data set's viewer is taken (731.88, 826.77, 928.81 nm).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.cube import (
    clr_pixels,
    log_brightness,
    pn_pixels,
    require_native,
    surroundings,
    to_unit_range,
    without_directions,
)
from hsiutils.data.sensor import HSI_DRIVE, Sensor

if TYPE_CHECKING:
    from hsiutils.data.source import Source

ONE_BAND = (12,)
THREE_BANDS = (12, 23, 15)
Pixels = NDArray[np.floating[Any]]
Directions = tuple[tuple[float, ...], ...]
"""Of spectra: (n, bands)."""


@dataclass(frozen=True)
class Normalisation:
    """What is done to a pixel before bands are picked."""

    apply: Callable[[Pixels, float], NDArray[np.float32]]
    """Of (bands, ...) values and a strength 0..1 to the same shape, float32."""
    limits: Callable[[Sensor], NDArray[np.float64]] | None = None
    """Upper clip limits (bands,) that a camera has at full strength; where it has none, training scenes teach them."""
    units: tuple[str, ...] = ("",)
    """Words with which the units begin of values that can be normalised so; anything else is refused."""
    signed: bool = False
    """Values may be negative, and lower limits are learned, too; else these are zero."""
    daylight: bool = False
    """The directions of daylight that the camera knows (`Sensor.daylight`) are taken out after `apply`."""


def _clr(pixels: Pixels, strength: float) -> NDArray[np.float32]:
    return clr_pixels(pixels, strength).astype(np.float32)


NORMALISATIONS: dict[str, Normalisation] = {
    "none": Normalisation(lambda pixels, strength: np.asarray(pixels, dtype=np.float32)),
    # Where every band has a scale of its own, their sum means nothing.
    "PN": Normalisation(pn_pixels, lambda sensor: sensor.clip_max, ("reflectance", "intensity", "DN", "sRGB")),
    "clr": Normalisation(_clr, signed=True),
    "DF": Normalisation(_clr, signed=True, daylight=True),
}
"""Every normalisation by the name that it has in a variant's: "25-PN", "25-PN@0.5". A new one is one entry."""


@dataclass(frozen=True)
class Extra:
    """A channel beside those of the spectrum, of a whole image that is not normalised."""

    name: str
    of: Callable[[Pixels], NDArray[np.floating[Any]]]
    """Of (bands, y, x) values to (y, x)."""
    signed: bool
    """As of `Normalisation`."""


EXTRAS = {
    "I": Extra("intensity", lambda pixels: np.asarray(pixels.mean(axis=0)), signed=False),
    "F": Extra("over frame", lambda pixels: log_brightness(pixels) - np.log(surroundings(pixels)[0]), signed=True),
    "C": Extra("contrast", lambda pixels: log_brightness(pixels) - np.log(surroundings(pixels)[1]), signed=True),
}
"""Every extra channel by its letter: mean reflectance; log brightness over that of the image, and of what is around."""


@dataclass(frozen=True)
class Variant:
    """A choice of input channels, named by the specification it was made from."""

    name: str
    bands: tuple[int, ...] | None = None
    """Native indices of the bands to keep; None for every band of the camera."""
    normalisation: str = "none"
    """One of `NORMALISATIONS`, over all bands of the camera, before any is picked."""
    strength: float = 1.0
    """Of the normalisation, 0..1."""
    pca: int | None = None
    """Number of principal components of the (normalised) spectrum; None to keep bands."""
    extra: str = ""
    """One of `EXTRAS` for the brightness that PN takes away, as a last channel; empty for none."""

    def __post_init__(self) -> None:
        if self.bands is not None and (not self.bands or len(set(self.bands)) < len(self.bands)):
            raise ValueError(f"variant {self.name!r}: bands must be distinct and at least one, got {self.bands}")
        if self.pca is not None and (self.pca < 1 or self.bands is not None):
            raise ValueError(f"variant {self.name!r}: PCA takes one component or more, of all bands")
        if self.normalisation not in NORMALISATIONS:
            known = ", ".join(NORMALISATIONS)
            raise ValueError(f"variant {self.name!r}: no normalisation {self.normalisation!r}; there are {known}")
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"variant {self.name!r}: strength must lie in 0..1, got {self.strength}")
        if self.extra and self.extra not in EXTRAS:
            raise ValueError(f"variant {self.name!r}: no extra channel {self.extra!r}; there are {', '.join(EXTRAS)}")

    def require_units(self, units: str) -> None:
        """Refuse, as ValueError, values in units that cannot be normalised so."""
        known = NORMALISATIONS[self.normalisation].units
        if not units.startswith(known):
            needed = " or ".join(known)
            raise ValueError(f"holds {units} values; {self.normalisation} (variant {self.name!r}) needs {needed}")

    def features(self, pixels: Pixels, daylight: Directions | None = None) -> NDArray[np.float32]:
        """Normalise the (bands, y, x) values of an image and pick bands; the extra channel, where wanted, comes last.

        `daylight` are directions (n, bands) that are taken out.
        """
        kept = NORMALISATIONS[self.normalisation].apply(pixels, self.strength)
        kept = kept if daylight is None else without_directions(kept, daylight).astype(np.float32)
        kept = kept if self.bands is None else kept[list(self.bands)]
        return np.concatenate([kept, EXTRAS[self.extra].of(pixels)[None].astype(np.float32)]) if self.extra else kept


def variant(spec: str) -> Variant:
    """The variant that a short name means.

    `1` band 12; `3` bands 12, 23, 15; `25` all of HSI-Drive's bands and `all` those of any camera; `PCA-3` three
    principal components; `bands:5,12,21` native indices. `-PN`, or another of `NORMALISATIONS`, normalises first,
    `-PN@0.5` with that strength; `-clr` is the centred log-ratio (`-clr@0` mere logarithms), `-DF` the same without
    the directions of daylight. `+I` adds an intensity channel, `+F` log brightness over that of the image, `+C` over
    that of the pixels around. Examples: `25-PN`, `25-PN@0.5`, `25-PN+I`, `25-DF+C`, `bands:5,12-PN`, `PCA-1`.

    Raises
    ------
    ValueError
        If the name has none of these forms.
    """
    named = "|".join(re.escape(name) for name in NORMALISATIONS if name != "none")
    base = r"(?P<base>1|3|25|all|PCA-(?P<pca>\d+)|bands:(?P<bands>\d+(,\d+)*))"
    ending = rf"(-(?P<normalisation>{named})(@(?P<strength>\d+(\.\d+)?|\.\d+))?)?(\+(?P<extra>[{''.join(EXTRAS)}]))?"
    match = re.fullmatch(base + ending, spec)
    if match is None:
        raise ValueError(
            f"unknown variant {spec!r}; the forms are 1, 3, 25, all, PCA-N, bands:I,J,...; each may end in -{named} or "
            f"-{named}@STRENGTH (0..1), then in +{' or +'.join(EXTRAS)} "
            f"({', '.join(extra.name for extra in EXTRAS.values())}: one channel more)"
        )
    fixed = {"1": ONE_BAND, "3": THREE_BANDS, "25": tuple(range(25))}
    listed = tuple(int(index) for index in match["bands"].split(",")) if match["bands"] else None
    return Variant(
        name=spec,
        bands=fixed.get(match["base"], listed),
        normalisation=match["normalisation"] or "none",
        strength=float(match["strength"] or 1.0),
        pca=int(match["pca"]) if match["pca"] else None,
        extra=match["extra"] or "",
    )


@dataclass(frozen=True)
class FittedVariant:
    """A variant with what it learned from the training cubes; `to_dict` and `from_dict` go through JSON."""

    variant: Variant
    wavelengths_nm: tuple[float, ...]
    """Band centres of the camera it was fitted on, native order."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """Clip limits of every channel before scaling to [-1, 1)."""
    percentile: float
    """Of the training pixels, at which learned limits were set."""
    mean: tuple[float, ...] | None = None
    components: tuple[tuple[float, ...], ...] | None = None
    """Of the PCA: (bands,) and (components, bands); None without PCA."""
    daylight: Directions | None = None
    """Directions (n, bands) that the normalisation takes out; None where it takes out none."""

    @property
    def channels(self) -> int:
        """Number of input channels of the network."""
        return len(self.high)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Such as `731.88 nm`, `PC1`, `intensity`."""
        if self.components is not None:
            names = [f"PC{n + 1}" for n in range(len(self.components))]
        else:
            bands = range(len(self.wavelengths_nm)) if self.variant.bands is None else self.variant.bands
            names = [f"{self.wavelengths_nm[band]:.2f} nm" for band in bands]
        return (*names, *([EXTRAS[self.variant.extra].name] if self.variant.extra else []))

    def apply(self, cube: xr.DataArray) -> xr.DataArray:
        """The network's input of a cube (band, y, x) that has every band of the camera, in native order, or ValueError.

        Returns
        -------
        (channel, y, x) float32 in [-1, 1); NaN has become the lower limit, -1.
        """
        require_native(cube, len(self.wavelengths_nm), f"variant {self.variant.name!r}")
        pixels = _project(self.variant.features(cube.values, self.daylight), self.mean, self.components)
        return xr.DataArray(
            to_unit_range(pixels, self.low, self.high),
            dims=("channel", "y", "x"),
            coords={"channel": list(self.channel_names)},
            name="input",
            attrs={**cube.attrs, "units": "1", "variant": self.variant.name},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "FittedVariant":
        """The inverse of `to_dict`, also after a trip through JSON; ValueError if a field is missing or unknown."""
        try:
            fields = {name: _as_tuple(value) for name, value in stored.items()}
            own = {name: _as_tuple(value) for name, value in stored["variant"].items()}
            if strength := own.pop("pn", 0.0):  # as version 0.1.0 kept it
                own |= {"normalisation": "PN", "strength": strength}
            if own.pop("intensity", False):  # as it was kept while there was no other
                own["extra"] = "I"
            fields["variant"] = Variant(**own)
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a stored variant: {error}; expected what FittedVariant.to_dict gives") from error


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def _project(
    pixels: NDArray[np.float32], mean: tuple[float, ...] | None, components: tuple[tuple[float, ...], ...] | None
) -> NDArray[np.float32]:
    """Replace the spectrum in (channels, ...) by its principal components; channels after it stay."""
    if mean is None or components is None:
        return pixels
    bands = len(mean)
    centred = pixels[:bands] - np.asarray(mean, dtype=np.float32).reshape(-1, *[1] * (pixels.ndim - 1))
    scores = np.tensordot(np.asarray(components, dtype=np.float32), centred, axes=1)
    return np.concatenate([scores, pixels[bands:]])


def fit_inputs(spec: str, data: "Source", *, percentile: float = 99.9, seed: int = 0) -> FittedVariant:
    """The variant of a short name, fitted on the training scenes of a data set: it makes the network's input of a cube.

    Parameters
    ----------
    spec : such as "25-PN"; see `variant`.
    data : the data set; its training scenes are read only where there is something to learn.
    percentile, seed : see `fit_variant`.

    Raises
    ------
    ValueError
        If the name has no known form, or the values cannot be normalised so, or the scenes hold nothing to learn from.

    Examples
    --------
    >>> import hsiutils as hu
    >>> data = hu.simulate_dataset("HSI-Drive", scenes=3, tiles=(8, 16), workers=1, progress=False)
    >>> inputs = hu.fit_inputs("25-PN", data)
    >>> x, y = data.scenes("test", inputs)[0]
    >>> inputs.channels, tuple(x.shape), tuple(y.shape)
    (25, (25, 8, 16), (8, 16))
    """
    chosen = variant(spec)
    chosen.require_units(data.units)
    cubes = (data.cube(name) for split in ["train"] for name in data.names(split))  # asked for when they are needed
    return fit_variant(chosen, cubes, data.sensor, percentile=percentile, seed=seed)


def fit_variant(
    variant: Variant,
    cubes: Iterable[xr.DataArray],
    sensor: Sensor = HSI_DRIVE,
    *,
    percentile: float = 99.9,
    pixels_per_cube: int = 4096,
    seed: int = 0,
    learn: bool = False,
) -> FittedVariant:
    """Learn what a variant needs from training cubes, and from nothing else.

    Bands under PN of full strength use the clip limits of the camera where it has them, [0, `sensor.clip_max`], and the
    cubes are not even read. Other bands are clipped to [0, p], principal components to [p', p], with p and p' the upper
    and lower percentile of a random sample of pixels; pixels with a non-finite value are left out. Not the maximum: in
    every band of HSI-Drive the published limit is below the published maximum, for the few brightest pixels are glints
    and noise, and would squeeze all others into a corner of the network's input range.

    Parameters
    ----------
    cubes : (band, y, x) training cubes, all bands in native order; read once, one at a time.
    percentile : 50..100, where learned clip limits are set.
    pixels_per_cube, seed : of the sample.
    learn : learn limits also where the camera has its own.

    Raises
    ------
    ValueError
        If a band is not in the camera, the camera's daylight is not known where it is to be taken out, or the cubes
        hold nothing to learn from.
    """
    bands = len(sensor.bands)
    if max(variant.bands or (0,)) >= bands or (variant.pca or 0) > bands:
        raise ValueError(f"variant {variant.name!r} asks for more than the {bands} bands of {sensor.name}")
    mean = components = None
    try:
        daylight = sensor.daylight if NORMALISATIONS[variant.normalisation].daylight else None
    except ValueError as error:
        raise ValueError(f"variant {variant.name!r}: {error}, or take clr") from error
    limits = known = np.zeros((2, 0)) if learn else _known_limits(variant, sensor)
    if known.shape[1] == 0 or variant.extra:
        sample = _sample(variant, daylight, cubes, bands, pixels_per_cube, seed)
        if variant.pca is not None:
            mean, components = _principal_components(sample[:bands], variant.pca)
        unknown = _project(sample, mean, components)[known.shape[1] :]
        limits = np.concatenate([known, _learned_limits(unknown, variant, percentile)], axis=1)
    low, high = (tuple(limit.tolist()) for limit in limits)
    centres = tuple(sensor.wavelengths_nm.tolist())
    return FittedVariant(variant, centres, low, high, percentile, mean, components, daylight)


def _known_limits(variant: Variant, sensor: Sensor) -> NDArray[np.float64]:
    """(2, bands) low and high for bands whose limits the camera has; (2, 0) for anything else."""
    limits = NORMALISATIONS[variant.normalisation].limits
    if limits is None or variant.strength < 1.0 or variant.pca is not None:
        return np.zeros((2, 0))
    high = limits(sensor) if variant.bands is None else limits(sensor)[list(variant.bands)]
    return np.stack([np.zeros_like(high), high]) if np.isfinite(high).all() else np.zeros((2, 0))


def _learned_limits(pixels: NDArray[np.float32], variant: Variant, percentile: float) -> NDArray[np.float64]:
    """(2, channels) low and high of (channels, n) training pixels; below zero go components and what is signed."""
    low, high = np.percentile(pixels, (100 - percentile, percentile), axis=1)
    last = [EXTRAS[variant.extra].signed] if variant.extra else []
    spectrum = variant.pca is not None or NORMALISATIONS[variant.normalisation].signed
    low = np.where([spectrum] * (len(low) - len(last)) + last, low, 0.0)
    if not np.all(high > low):
        flat = f"{np.sum(high <= low)} of {len(high)} channels to learn"
        raise ValueError(f"variant {variant.name!r}: {flat} are constant, or never above zero, in the training cubes")
    return np.stack([low, high])


def _sample(
    variant: Variant,
    daylight: Directions | None,
    cubes: Iterable[xr.DataArray],
    bands: int,
    size: int,
    seed: int,
) -> NDArray[np.float32]:
    """`Variant.features` (channels, n) of finite pixels, at most `size` of each cube."""
    rng = np.random.default_rng(seed)
    found = []
    for cube in cubes:
        require_native(cube, bands, f"variant {variant.name!r}")
        usable = np.isfinite(cube.values).all(axis=0).ravel()
        drawn = rng.choice(usable.size, min(size, usable.size), replace=False)  # the same, whichever can be used
        drawn = drawn[usable[drawn]]
        features = variant.features(cube.values, daylight)  # of the whole image: some look around
        found.append(features.reshape(len(features), -1)[:, drawn])
    if sum(pixels.shape[1] for pixels in found) < 2:
        raise ValueError(f"variant {variant.name!r} must be fitted on training cubes, and got no finite pixel")
    return np.concatenate(found, axis=1)


def _principal_components(
    spectra: NDArray[np.float32], count: int
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    from sklearn.decomposition import PCA  # takes longer to import than all else that opens a cube

    pca = PCA(count, svd_solver="covariance_eigh").fit(spectra.T.astype(np.float64))
    return tuple(pca.mean_.tolist()), tuple(map(tuple, pca.components_.tolist()))
