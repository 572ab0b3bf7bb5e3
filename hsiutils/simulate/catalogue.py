"""All measured samples of all material families in one table, finely sampled for narrow filters."""

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.materials import families, samples
from hsiutils.simulate.pigments import WAVELENGTHS_NM


def distinct_samples(
    kinds: tuple[str, ...] = ("measured",), step_nm: float = 1.0
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Every distinct sample of the families of some kinds, by default of those that were measured.

    Parameters
    ----------
    kinds : as in `hsiutils.simulate.materials.families`: "measured", "canopy model", ...
    step_nm : the spectra, measured every 10 nm, are interpolated linearly to this step.

    Returns
    -------
    families : of each sample; where families share a sample, the first in order.
    wavelength_nm : (n,)
    spectra : (samples, n) reflectance.
    """
    kind = families()["kind"]
    wavelength = np.arange(WAVELENGTHS_NM[0], WAVELENGTHS_NM[-1] + step_nm / 2, step_nm)
    own: dict[str, tuple[str, NDArray[np.float64]]] = {}
    for family in kind.index[kind.isin(kinds)]:
        for name, spectrum in zip(*samples(str(family)), strict=True):
            own.setdefault(name, (str(family), np.interp(wavelength, WAVELENGTHS_NM, spectrum)))
    return [family for family, _ in own.values()], wavelength, np.stack([spectrum for _, spectrum in own.values()])
