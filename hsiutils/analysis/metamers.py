"""Metamers: different materials that a few bands cannot tell apart and all bands can."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from hsiutils.data.inputs import THREE_BANDS
from hsiutils.data.sensor import Sensor


def band_reflectance(
    spectra: ArrayLike,
    wavelength_nm: ArrayLike,
    sensor: Sensor,
    irradiance: ArrayLike | None = None,
    long_pass_nm: float | None = None,
) -> NDArray[np.float64]:
    """Reflectance as the bands of a sensor see it, against a white reference under the same light.

    Parameters
    ----------
    spectra : (samples, n) reflectance.
    wavelength_nm : (n,) nm, rising and evenly spaced.
    irradiance : (n,) spectrum of the light, photons in any unit; None for an equal number at every wavelength.
    long_pass_nm : edge of a long-pass filter before the chip, nm; None for none.

    Returns
    -------
    (samples, bands) in native band order.

    Raises
    ------
    ValueError
        If the shapes do not fit, or wavelengths are not evenly spaced.
    """
    wavelength, reflectance = np.asarray(wavelength_nm, dtype=float), np.asarray(spectra, dtype=float)
    light = np.ones_like(wavelength) if irradiance is None else np.asarray(irradiance, dtype=float)
    if reflectance.ndim != 2 or reflectance.shape[1:] != wavelength.shape or light.shape != wavelength.shape:
        raise ValueError(
            f"spectra (samples, n), wavelengths (n,) and irradiance (n,) must share n, "
            f"got {reflectance.shape}, {wavelength.shape}, {light.shape}"
        )
    steps = np.diff(wavelength)
    if not (steps.size and steps[0] > 0 and np.allclose(steps, steps[0])):
        raise ValueError("wavelengths must rise in even steps; interpolate the spectra first")
    weight = sensor.responses(wavelength, long_pass_nm) * light
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

    Raises
    ------
    ValueError
        If shapes do not fit the sensor and the families, or a reflectance is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from hsiutils.data.sensor import HSI_DRIVE
    >>> asphalt = np.full(25, 0.2)
    >>> paint = asphalt.copy()
    >>> paint[4] = 0.6  # a band that the three do not see
    >>> pairs = find_metamers([asphalt, paint], ["asphalt", "paint"], HSI_DRIVE)
    >>> pairs.loc[0, ["first_family", "second_family"]].tolist()
    ['asphalt', 'paint']
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
    ratio = np.log(reflectance[first] / reflectance[second])  # (pair, band)
    table = pd.DataFrame(
        {
            "first": first,
            "second": second,
            "first_family": names[first],
            "second_family": names[second],
            "rms_few": np.sqrt(np.mean(ratio[:, list(bands)] ** 2, axis=1)),
            "rms_all": np.sqrt(np.mean(ratio**2, axis=1)),
            "angle_few_deg": spectral_angle_deg(
                reflectance[first][:, list(bands)], reflectance[second][:, list(bands)]
            ),
            "angle_all_deg": spectral_angle_deg(reflectance[first], reflectance[second]),
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
