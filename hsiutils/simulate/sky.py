"""How bright the sky is in every direction: sums of standard skies whose energy is that of the diffuse irradiance.

Each part of the diffuse light (molecules, haze, clouds) has one spectrum and one pattern over the dome. The patterns
are those of the CIE standard general sky (ISO 15469:2004): a gradation from zenith to horizon times an indicatrix
around the sun. Each is normalised so that it lays exactly its own irradiance on a horizontal plane.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SUN_RADIUS = np.deg2rad(0.2666)
"""Angular radius of the sun's disc at the mean distance, radians."""
DISC_SR = 2 * np.pi * (1 - np.cos(SUN_RADIUS))


@dataclass(frozen=True)
class Pattern:
    """One standard sky: (1 + a exp(b / cos Z)) (1 + c (exp(d g) - exp(d pi/2)) + e cos^2 g).

    Z is the zenith angle and g the angle to the sun. `texture` is how strongly the cloud field modulates it:
    0 smooth, 1 clouds with gaps between them.
    """

    a: float
    b: float
    c: float = 0.0
    d: float = -1.0
    e: float = 0.0
    texture: float = 0.0


MOLECULES = Pattern(a=-1.0, b=-0.32, e=1.0)
"""Gradation of the clear sky (type 12) with the Rayleigh phase function 1 + cos^2."""
HAZE = Pattern(a=-1.0, b=-0.32, c=10.0, d=-3.0, e=0.45)
"""Type 12, clear: forward scattering brightens the sky around the sun."""
BROKEN_CLOUDS = Pattern(a=0.0, b=-1.0, c=2.0, d=-1.5, e=0.15, texture=1.0)
"""Type 11 without gradation, on the clouds only."""
OVERCAST = Pattern(a=4.0, b=-0.70, texture=0.35)
"""Type 1: three times as bright at the zenith as at the horizon; thinner and thicker places in the deck."""
FOG = Pattern(a=0.0, b=-1.0)
"""Type 5: uniform."""


@dataclass(frozen=True)
class CloudField:
    """A frozen random field on a layer above, a sum of plane waves: about normal, with no period.

    Attributes
    ----------
    waves : (modes, 2) wave vectors, per layer height.
    phases, amplitudes : (modes,)
    cover : share of the layer that is cloud, 0..1.
    """

    waves: Array
    phases: Array
    amplitudes: Array
    cover: float

    @classmethod
    def draw(cls, cover: float, rng: np.random.Generator, modes: int = 28) -> "CloudField":
        """Draw a field; power falls with the wave number as in turbulence (amplitude ~ k^-5/6 per octave)."""
        length, turn = np.exp(rng.uniform(np.log(0.7), np.log(14), modes)), rng.uniform(0, 2 * np.pi, modes)
        waves = np.stack([length * np.cos(turn), 0.6 * length * np.sin(turn)], axis=1)
        amplitudes = length ** (-5 / 6)
        amplitudes *= np.sqrt(2 / np.sum(amplitudes**2))
        return cls(waves, rng.uniform(0, 2 * np.pi, modes), amplitudes, cover)

    def thickness(self, direction: Array) -> Array:
        """Standardised thickness (mean 0, variance 1) of the layer in each direction (3, ...) above the horizon."""
        # A layer over a round earth: the path to it stays finite at the horizon.
        reach = 1 / (np.maximum(direction[2], 0) + 0.06)
        x, y = direction[0] * reach, direction[1] * reach
        total: Array = np.zeros_like(x)
        for (east, north), phase, amplitude in zip(self.waves, self.phases, self.amplitudes, strict=True):
            total += amplitude * np.cos(east * x + north * y + phase)
        return total

    def opacity(self, direction: Array) -> Array:
        """0 in the gaps, 1 in the clouds, soft at the rims."""
        threshold = -2.2 + 4.4 * (1 - self.cover)
        return np.asarray(1 / (1 + np.exp(-5 * (self.thickness(direction) - threshold))))


@dataclass(frozen=True)
class Sky:
    """Radiance over the dome: sum over parts of irradiance x pattern.

    Attributes
    ----------
    sun : (3,) unit vector towards the sun, world axes.
    patterns : one for each part.
    irradiance : (parts, wavelengths) that each part lays on a horizontal plane, W m-2 nm-1.
    clouds : the field that textures patterns which ask for it.
    """

    sun: Array
    patterns: tuple[Pattern, ...]
    irradiance: Array
    clouds: CloudField

    def shape(self, direction: Array) -> Array:
        """Radiance of every part per unit of its horizontal irradiance, 1/sr: (parts, ...); zero below the horizon.

        Parameters
        ----------
        direction : (3, ...) unit vectors, away from the eye.
        """
        return np.asarray(self._raw(direction) * self._scale.reshape(-1, *(1,) * (direction.ndim - 1)))

    def radiance(self, direction: Array) -> Array:
        """Spectral radiance (wavelengths, ...), W m-2 nm-1 sr-1, without the sun's disc."""
        return np.asarray(np.einsum("pw,p...->w...", self.irradiance, self.shape(direction)))

    def on_disc(self, direction: Array) -> NDArray[np.bool_]:
        """Whether a direction (3, ...) hits the sun's disc."""
        return np.asarray(np.tensordot(self.sun, direction, 1) > np.cos(SUN_RADIUS))

    @cached_property
    def horizon(self) -> Array:
        """(parts,) mean of `shape` around the horizon, 1/sr: what haze and fog show in the distance."""
        return np.asarray(self.shape(_ring(0.02)).mean(axis=1))

    @cached_property
    def _scale(self) -> Array:
        direction, weight = hemisphere()
        return np.asarray(1 / (self._raw(direction) @ weight))

    def _raw(self, direction: Array) -> Array:
        height = np.maximum(direction[2], 1e-3)
        away = np.arccos(np.clip(np.tensordot(self.sun, direction, 1), -1, 1))
        textured = any(pattern.texture for pattern in self.patterns)
        opacity = self.clouds.opacity(direction) if textured else np.zeros_like(height)
        above = direction[2] > 0
        return np.stack([_pattern(one, height, away, opacity) * above for one in self.patterns])


def _pattern(pattern: Pattern, height: Array, away: Array, opacity: Array) -> Array:
    gradation = 1 + pattern.a * np.exp(pattern.b / height)
    forward = np.exp(pattern.d * away) - np.exp(pattern.d * np.pi / 2)
    indicatrix = 1 + pattern.c * forward + pattern.e * np.cos(away) ** 2
    return np.asarray(gradation * indicatrix * (1 - pattern.texture + pattern.texture * opacity))


def hemisphere(rings: int = 90, sectors: int = 180) -> tuple[Array, Array]:
    """Directions (3, n) over the upper half-space and their weights cos(Z) d(omega), which sum to pi."""
    squared = (np.arange(rings) + 0.5) / rings  # of the sine of Z: equal steps in projected solid angle
    turn = (np.arange(sectors) + 0.5) / sectors * 2 * np.pi
    sine, azimuth = (grid.ravel() for grid in np.meshgrid(np.sqrt(squared), turn, indexing="ij"))
    direction = np.stack([sine * np.sin(azimuth), sine * np.cos(azimuth), np.sqrt(1 - sine**2)])
    return direction, np.full(direction.shape[1], np.pi / direction.shape[1])


def _ring(height: float, sectors: int = 72) -> Array:
    turn = np.arange(sectors) / sectors * 2 * np.pi
    level = np.sqrt(1 - height**2)
    return np.stack([level * np.sin(turn), level * np.cos(turn), np.full(sectors, height)])
