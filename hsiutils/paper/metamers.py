"""Metamers: different materials that a few bands cannot tell apart and all bands can."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from hsiutils.data.inputs import THREE_BANDS
from hsiutils.data.sensor import HSI_DRIVE, Sensor
from hsiutils.paper.run import centres_behind
from hsiutils.paper.sensor import LONG_PASS_NM
from hsiutils.simulate.materials import distinct_samples

_OXYGEN_NM = 750.0, 780.0
"""About the A band of oxygen, 759 to 770 nm, in spectra that are given every 10 nm."""


def metamers(
    kinds: tuple[str, ...] = ("measured",), near: float = 0.02, apart: float = 0.05
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Metamers of HSI-Drive's camera among kinds of the simulator's materials, by `find_metamers`.

    And every sample of `hsiutils.simulate.materials.distinct_samples`, `without_oxygen`, as the bands see it: (samples,
    bands) of reflectance.
    """
    families, wavelength, spectra = distinct_samples(kinds)
    seen = band_reflectance(without_oxygen(spectra, wavelength), wavelength, HSI_DRIVE, LONG_PASS_NM)
    pairs = find_metamers(seen, families, HSI_DRIVE, near=near, apart=apart)
    behind = dict(zip(HSI_DRIVE.wavelengths_nm, centres_behind(LONG_PASS_NM, HSI_DRIVE), strict=True))
    return pairs.assign(worst_nm=pairs["worst_nm"].map(behind)), seen


def without_oxygen(spectra: ArrayLike, wavelength_nm: ArrayLike) -> NDArray[np.float64]:
    """Spectra (samples, n) with a straight line where the oxygen of the air absorbs sunlight, its A band.

    A spectrometer outdoors sees next to no light there, and what it gives for the reflectance may be anything.
    """
    wavelength, bridged = np.asarray(wavelength_nm, dtype=float), np.array(spectra, dtype=float)
    ends = np.abs(wavelength - np.array(_OXYGEN_NM)[:, None]).argmin(axis=1)
    inside = slice(ends[0], ends[1] + 1)
    share = np.linspace(0, 1, ends[1] - ends[0] + 1)
    bridged[:, inside] = bridged[:, ends[:1]] * (1 - share) + bridged[:, ends[1:]] * share
    return bridged


def band_reflectance(
    spectra: ArrayLike, wavelength_nm: ArrayLike, sensor: Sensor, long_pass_nm: float | None
) -> NDArray[np.float64]:
    """Reflectance (samples, n) as the bands of a sensor see it under equal photons at every wavelength.

    Wavelengths (n,) rise in even steps, nm; `long_pass_nm` is the edge of a filter before the chip, None for none. The
    result is (samples, bands) in native band order.
    """
    wavelength, reflectance = np.asarray(wavelength_nm, dtype=float), np.asarray(spectra, dtype=float)
    if reflectance.ndim != 2 or reflectance.shape[1:] != wavelength.shape:
        raise ValueError(
            f"spectra (samples, n) and wavelengths (n,) must share n, got {reflectance.shape}, {wavelength.shape}"
        )
    steps = np.diff(wavelength)
    if not (steps.size and steps[0] > 0 and np.allclose(steps, steps[0])):
        raise ValueError("wavelengths must rise in even steps; interpolate the spectra first")
    weight = sensor.responses(wavelength, long_pass_nm)  # (bands, n)
    return np.asarray(reflectance @ (weight / weight.sum(axis=1, keepdims=True)).T)


def find_metamers(
    spectra: ArrayLike,
    families: Sequence[str],
    sensor: Sensor,
    bands: tuple[int, ...] = THREE_BANDS,
    *,
    near: float = 0.02,
    apart: float = 0.1,
) -> pd.DataFrame:
    """Pairs of samples of different families, nearly equal in `bands` and apart in all bands.

    Distances are root mean squares over bands of the logarithm of the ratio of the two reflectances, which for close
    pairs is their relative difference (0.02 is 2 %). The spectral angle over all bands does not see brightness: it
    says how far apart the two remain after per-pixel normalisation.

    Parameters
    ----------
    spectra : (samples, bands) positive reflectance as the sensor's bands see it, native order.
    families : name of the material family of each sample.
    bands : native indices of the few bands.
    near : largest distance in the few bands.
    apart : smallest distance in all bands.

    Returns
    -------
    One row a pair, widest apart first: `first`, `second` (sample indices), `first_family`, `second_family`,
    `rms_few`, `rms_all`, `angle_few_deg`, `angle_all_deg`, and `worst_nm`, where the two differ most.
    """
    reflectance = np.asarray(spectra, dtype=np.float64)
    names = np.asarray(families)
    if reflectance.shape != (len(names), len(sensor.bands)):
        raise ValueError(
            f"spectra must be (samples, bands) = {len(names), len(sensor.bands)} for these families and {sensor.name}, "
            f"got {reflectance.shape}"
        )
    if not (np.isfinite(reflectance) & (reflectance > 0)).all():
        raise ValueError("spectra must be positive and finite in every band: distances are of logarithms")
    few = np.log(reflectance[:, list(bands)])
    pairs = cKDTree(few).query_pairs(near * np.sqrt(len(bands)), output_type="ndarray")
    pairs = pairs[names[pairs[:, 0]] != names[pairs[:, 1]]]
    first, second = pairs.T
    one, other = reflectance[first], reflectance[second]  # (pair, band)
    ratio, seen = np.log(one / other), list(bands)
    table = pd.DataFrame(
        {
            "first": first,
            "second": second,
            "first_family": names[first],
            "second_family": names[second],
            "rms_few": np.sqrt(np.mean(ratio[:, seen] ** 2, axis=1)),
            "rms_all": np.sqrt(np.mean(ratio**2, axis=1)),
            "angle_few_deg": spectral_angle_deg(one[:, seen], other[:, seen]),
            "angle_all_deg": spectral_angle_deg(one, other),
            "worst_nm": sensor.wavelengths_nm[np.abs(ratio).argmax(axis=1)],
        }
    )
    return table[table["rms_all"] >= apart].sort_values("rms_all", ascending=False, ignore_index=True)


def spectral_angle_deg(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Angle between spectra along the last axis, degrees: 0 for the same shape at any brightness."""
    a, b = (np.asarray(s, dtype=np.float64) / np.linalg.norm(s, axis=-1, keepdims=True) for s in (first, second))
    # The half-angle form keeps its precision at small angles, where arccos of the dot product loses half its digits.
    half = np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.asarray(np.degrees(2 * half))
