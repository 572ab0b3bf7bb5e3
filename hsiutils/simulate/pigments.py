"""Reflectances that no library measured, from small physical models: coats, cloth, skin, tyres, glass and water.

Each function draws `count` samples of its material. Wavelengths are `WAVELENGTHS_NM`; spectra are (count, 61).
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Spectra = NDArray[np.float64]
WAVELENGTHS_NM: Final = np.arange(400.0, 1001.0, 10.0)
"""Where every reflectance of the simulator is given, nm."""


def absorption_ratio(reflectance: ArrayLike) -> Spectra:
    """K/S of an opaque layer from its reflectance: (1 - R)^2 / 2R (Kubelka and Munk 1931)."""
    diffuse = np.clip(reflectance, 1e-3, 1.0)
    return np.asarray((1 - diffuse) ** 2 / (2 * diffuse))


def opaque_reflectance(ratio: ArrayLike) -> Spectra:
    """Reflectance of an opaque layer from its K/S, the inverse of `absorption_ratio`."""
    k = np.asarray(ratio, dtype=float)
    # The textbook form 1 + k - sqrt(k^2 + 2k) cancels for dark layers; this one does not.
    return np.asarray(1 / (1 + k + np.sqrt(k**2 + 2 * k)))


def achromatic_coats(whites: Spectra, count: int, rng: np.random.Generator) -> Spectra:
    """White, grey and black car coats: measured white paint, cleaned and let down with carbon black.

    A street's white paint is worn and dirty (R about 0.5); a factor 0.08-0.4 on its K/S gives the 0.65-0.85 of a new
    coat. Carbon black absorbs evenly over 400-1000 nm.
    """
    white = absorption_ratio(whites[rng.integers(len(whites), size=count)])
    clean = rng.uniform(0.08, 0.4, (count, 1))
    carbon_black = np.exp(rng.uniform(np.log(0.01), np.log(12), (count, 1)))
    return opaque_reflectance(clean * white + carbon_black)


def coloured_coats(colours: Spectra, count: int, rng: np.random.Generator) -> Spectra:
    """Coloured coats: measured coloured paint, thinner or stronger, with a little carbon black."""
    pigment = absorption_ratio(colours[rng.integers(len(colours), size=count)])
    strength = rng.uniform(0.4, 2.0, (count, 1))
    carbon_black = np.exp(rng.uniform(np.log(0.005), np.log(0.5), (count, 1)))
    return opaque_reflectance(strength * pigment + carbon_black)


def plasters(whites: Spectra, earths: Spectra, count: int, rng: np.random.Generator) -> Spectra:
    """Rendered walls: white paint tinted by mineral earth (lime or cement render with sand and ochre)."""
    white = absorption_ratio(whites[rng.integers(len(whites), size=count)])
    earth = absorption_ratio(earths[rng.integers(len(earths), size=count)])
    clean, tint = rng.uniform(0.15, 0.6, (count, 1)), rng.uniform(0.02, 0.35, (count, 1))
    return opaque_reflectance(clean * white + tint * earth)


def cloths(count: int, rng: np.random.Generator) -> Spectra:
    """Dyed textiles: a nearly white fibre, one or two dye absorptions in the visible, none in the near infrared.

    Organic dyes stop absorbing at 700-800 nm, so that cloth of any colour is bright beyond; one garment in seven
    is coloured with carbon and stays dark.
    """
    fibre = rng.uniform(0.02, 0.12, (count, 1)) * np.ones_like(WAVELENGTHS_NM)
    ratio = fibre
    for _ in range(2):
        centre, width = rng.uniform(420, 680, (count, 1)), rng.uniform(35, 90, (count, 1))
        strength = np.exp(rng.uniform(np.log(0.1), np.log(20), (count, 1)))
        ratio = ratio + strength * np.exp(-(((WAVELENGTHS_NM - centre) / width) ** 2) / 2)
    carbon = np.where(rng.random((count, 1)) < 1 / 7, rng.uniform(2, 10, (count, 1)), 0.0)
    return opaque_reflectance(ratio + carbon)


def skins(count: int, rng: np.random.Generator) -> Spectra:
    """Human skin: a melanin filter over blood-perfused dermis.

    Melanin follows Jacques (2013, Phys. Med. Biol. 58 R37), proportional to wavelength^-3.48 and passed twice; dermis
    has K/S from a baseline falling with wavelength, haemoglobin's Soret and 542/577 nm bands, and water at 970 nm.
    """
    wavelength = WAVELENGTHS_NM
    melanin = rng.uniform(0.05, 0.9, (count, 1)) * (wavelength / 500) ** -3.48
    blood = rng.uniform(0.15, 0.45, (count, 1)) * (
        4 * _bump(wavelength, 418, 18) + 0.5 * _bump(wavelength, 542, 14) + 0.5 * _bump(wavelength, 577, 9)
    )
    base = 0.14 * (wavelength / 600) ** -2 + 0.12 * _bump(wavelength, 970, 28)
    return np.asarray(opaque_reflectance(base + blood) * np.exp(-melanin))


def tyres(count: int, rng: np.random.Generator) -> Spectra:
    """Rubber filled with carbon black: 3-7 %, rising slightly towards the infrared, with road dust on it."""
    level, slope = rng.uniform(0.03, 0.07, (count, 1)), rng.uniform(0.0, 0.35, (count, 1))
    return np.asarray(level * (1 + slope * (WAVELENGTHS_NM - 700) / 600))


def glazings(count: int, rng: np.random.Generator) -> Spectra:
    """What is seen through a pane, without the reflection on it: a dim interior behind tinted soda-lime glass, twice.

    Ferrous iron absorbs in a broad band at 1050 nm, ferric iron in the blue: the green edge of window glass.
    """
    iron = rng.uniform(0.05, 0.6, (count, 1))
    once = np.exp(-iron * (_bump(WAVELENGTHS_NM, 1050, 190) + 0.25 * _bump(WAVELENGTHS_NM, 380, 40)))
    level, slope = rng.uniform(0.02, 0.10, (count, 1)), rng.uniform(0, 0.6, (count, 1))
    return np.asarray(level * (1 + slope * (WAVELENGTHS_NM - 700) / 600) * once**2)


def waters(count: int, rng: np.random.Generator) -> Spectra:
    """Light that comes back from within turbid water: 0.33 b / (a + b) (Gordon 1975), without surface reflection.

    a: pure water (Hale and Querry 1973) and yellow substance; b: backscatter of silt.
    """
    absorption = np.interp(WAVELENGTHS_NM, _WATER_NM, _WATER_PER_M)
    yellow = rng.uniform(0.2, 3.0, (count, 1)) * np.exp(-0.016 * (WAVELENGTHS_NM - 440))
    silt = np.exp(rng.uniform(np.log(0.05), np.log(0.6), (count, 1))) * (WAVELENGTHS_NM / 600) ** -0.8
    return np.asarray(0.33 * silt / (absorption + yellow + silt))


_WATER_NM: Final = (400, 450, 500, 550, 600, 650, 700, 725, 750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000)
_WATER_PER_M: Final = (
    *(0.058, 0.028, 0.025, 0.045, 0.23, 0.32, 0.60, 1.59, 2.6, 2.4, 2.0),
    *(2.8, 4.3, 5.6, 6.8, 14.4, 38.8, 44.9, 36.3),
)


def _bump(wavelength: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-(((wavelength - centre) / width) ** 2) / 2))
