"""Random textures fixed to the world: smooth noise in metres, faded out where rays are too far apart to sample it."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_PLANE, _SPACE = 512, 64
_PLANE_MASK: Final = _PLANE - 1
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
        """Value at surface coordinates, bilinear between texels.

        Parameters
        ----------
        first, second : (n,) metres.
        period_m : typical distance from one maximum to the next.
        spacing_m : distance between neighbouring rays there; detail finer than two of them fades to zero.
        """
        shift, table = _shift(self.seed, period_m), _plane_table()
        i, down = _cell(first, period_m, shift[0])
        j, right = _cell(second, period_m, shift[1])
        above, below = (i & _PLANE_MASK) * _PLANE, ((i + 1) & _PLANE_MASK) * _PLANE
        left, beside = j & _PLANE_MASK, (j + 1) & _PLANE_MASK
        upper = table.take(above + left) * (1 - right) + table.take(above + beside) * right
        lower = table.take(below + left) * (1 - right) + table.take(below + beside) * right
        return _fade(upper + down * (lower - upper), period_m, spacing_m)

    def space(self, points: Field, period_m: float) -> Field:
        """Value at points (3, n) of the nearest texel, for leaves and other things without a surface coordinate."""
        shift = _shift(self.seed, period_m)
        index = np.zeros(points.shape[1], dtype=np.int32)
        for axis in range(3):
            cell, _ = _cell(points[axis], period_m, shift[axis])
            index = index * _SPACE + (cell & (_SPACE - 1))
        return np.asarray(_space_table().take(index))


def _cell(place: Field, period_m: float, shift: float) -> tuple[NDArray[np.int32], Field]:
    """Whole and fractional part of a place in texels."""
    scaled = place * np.float32(_TEXELS_A_PERIOD / period_m) + np.float32(shift)
    whole = np.floor(scaled)
    return whole.astype(np.int32), np.asarray(scaled - whole)


def _fade(value: Field, period_m: float, spacing_m: Field | float) -> Field:
    """Nyquist: two rays a period are the least that can carry it."""
    return np.asarray(value * np.clip(2 - np.float32(4 / period_m) * spacing_m, 0, 1), dtype=np.float32)


@cache
def _shift(seed: int, period_m: float) -> tuple[float, float, float]:
    generator = np.random.default_rng([seed, int(period_m * 1000)])
    x, y, z = generator.uniform(0, _PLANE, 3)
    return float(x), float(y), float(z)


def _smooth(shape: tuple[int, ...], seed: int) -> Field:
    """White noise with a Gaussian spectrum up to about one cycle in `_TEXELS_A_PERIOD` texels, periodic."""
    grid = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid)) * _TEXELS_A_PERIOD
    spectrum = np.fft.fftn(np.random.default_rng(seed).standard_normal(shape))
    field = np.fft.ifftn(spectrum * np.exp(-(((radius - 0.5) / 0.5) ** 2))).real
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


@cache
def _plane_table() -> Field:
    return _smooth((_PLANE, _PLANE), 20)


@cache
def _space_table() -> Field:
    return _smooth((_SPACE, _SPACE, _SPACE), 21)
