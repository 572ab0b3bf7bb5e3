"""Random textures fixed to the world: smooth noise in metres, faded out where rays are too far apart to sample it."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_PLANE, _SPACE = 512, 64
_TEXELS_A_PERIOD: Final = 8


@dataclass(frozen=True)
class Noise:
    """Band-limited noise of unit standard deviation over the plane or space; repeats after 64 (8 in space) periods.

    Attributes
    ----------
    seed : shifts the pattern; two seeds of one kind show different parts of the same repeating field.
    """

    seed: int

    def plane(self, first: Field, second: Field, period_m: float, spacing_m: Field | float = 0.0) -> Field:
        """Value at surface coordinates.

        Parameters
        ----------
        first, second : (n,) metres.
        period_m : typical distance from one maximum to the next.
        spacing_m : distance between neighbouring rays there; detail finer than two of them fades to zero.
        """
        shift = _shift(self.seed, period_m)
        i = _cell(first, period_m, shift[0], _PLANE)
        i *= _PLANE
        i += _cell(second, period_m, shift[1], _PLANE)
        return _fade(_plane_table().take(i), period_m, spacing_m)

    def space(self, points: Field, period_m: float, spacing_m: Field | float = 0.0) -> Field:
        """Value at points (3, n), for leaves and other things without a surface coordinate; see `plane`."""
        shift = _shift(self.seed, period_m)
        i = _cell(points[0], period_m, shift[0], _SPACE)
        for axis in (1, 2):
            i *= _SPACE
            i += _cell(points[axis], period_m, shift[axis], _SPACE)
        return _fade(_space_table().take(i), period_m, spacing_m)


def _cell(place: Field, period_m: float, shift: float, size: int) -> NDArray[np.int32]:
    scaled = place * np.float32(_TEXELS_A_PERIOD / period_m)
    scaled += np.float32(shift)
    cell = np.floor(scaled, out=scaled).astype(np.int32)
    cell &= size - 1
    return cell


def _fade(value: Field, period_m: float, spacing_m: Field | float) -> Field:
    """Nyquist: two rays a period are the least that can carry it."""
    return np.asarray(value * np.clip(2 - np.float32(4 / period_m) * spacing_m, 0, 1), dtype=np.float32)


@cache
def _shift(seed: int, period_m: float) -> tuple[float, float, float]:
    generator = np.random.default_rng([seed, int(period_m * 1000)])
    x, y, z = generator.uniform(0, _PLANE, 3)
    return float(x), float(y), float(z)


def _smooth(shape: tuple[int, ...], seed: int) -> Field:
    """White noise with a Gaussian spectrum around one cycle in `_TEXELS_A_PERIOD` texels, periodic."""
    grid = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid)) * _TEXELS_A_PERIOD
    spectrum = np.fft.fftn(np.random.default_rng(seed).standard_normal(shape))
    field = np.fft.ifftn(spectrum * np.exp(-(((radius - 0.7) / 0.5) ** 2))).real
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


@cache
def _plane_table() -> Field:
    return _smooth((_PLANE, _PLANE), 20)


@cache
def _space_table() -> Field:
    return _smooth((_SPACE, _SPACE, _SPACE), 21)
