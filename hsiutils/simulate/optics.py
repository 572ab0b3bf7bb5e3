"""Small laws of light at surfaces: Fresnel reflection, mirrors, wet surfaces."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

WATER_INDEX = 1.33
GLASS_INDEX = 1.52


def fresnel(cosine: ArrayLike, index: float) -> NDArray[np.float64]:
    """Reflectance of a smooth dielectric for unpolarised light.

    Parameters
    ----------
    cosine : of the angle of incidence, 0..1.
    index : refractive index of the medium, seen from air.
    """
    inside = np.clip(np.asarray(cosine, dtype=float), 0, 1)
    refracted = np.sqrt(index**2 - 1 + inside**2)
    across = (inside - refracted) / (inside + refracted)
    along = (index**2 * inside - refracted) / (index**2 * inside + refracted)
    return np.asarray((across**2 + along**2) / 2)


def pane(cosine: ArrayLike, index: float = GLASS_INDEX) -> NDArray[np.float64]:
    """Reflectance of a clear pane: both faces, with all inner reflections, 2F / (1 + F)."""
    one = fresnel(cosine, index)
    return np.asarray(2 * one / (1 + one))


def mirror(direction: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction (3, ...) that a mirror with this normal sends a ray to."""
    return np.asarray(direction - 2 * np.sum(direction * normal, axis=0) * normal)


def wet(reflectance: ArrayLike, index: float = WATER_INDEX) -> NDArray[np.float64]:
    """Reflectance of a rough surface under a film of water, without the reflection on the film.

    Light that the surface scatters is partly reflected back at the inner face of the film and has another chance of
    being absorbed (Angstrom 1925; Lekner and Dorf 1988): (1 - F)(1 - p) R / (1 - p R), with F the diffuse reflectance
    of the film from outside and p from inside.
    """
    dry = np.asarray(reflectance, dtype=float)
    outside = _diffuse_fresnel(index)
    inside = 1 - (1 - outside) / index**2
    return np.asarray((1 - outside) * (1 - inside) * dry / (1 - inside * dry))


def _diffuse_fresnel(index: float, nodes: int = 200) -> float:
    """Fresnel reflectance for light from all directions, cosine weighted."""
    squared = (np.arange(nodes) + 0.5) / nodes
    return float(fresnel(np.sqrt(squared), index).mean())
