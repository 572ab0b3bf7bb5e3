"""How bright and how mixed each material is from place to place.

Random textures fixed to the world: smooth noise in metres, faded out where rays are too far apart to sample it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.surfaces import Slot

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


COARSE_M, MEDIUM_M, FINE_M = 5.0, 0.8, 0.12
"""Periods of the three octaves, metres."""


@dataclass(frozen=True)
class Texture:
    """Standard deviations of brightness in three octaves, and mean and spread of the share of the slot's blend."""

    coarse: float
    medium: float
    fine: float
    mix: float = 0.0
    mix_spread: float = 0.0


PLAIN: Final = Texture(0.05, 0.03, 0.03)
TEXTURES: Final[dict[str, Texture]] = {
    "asphalt": Texture(0.08, 0.05, 0.10, mix=0.12, mix_spread=0.10),
    "asphalt_patch": Texture(0.05, 0.04, 0.08, mix=0.10, mix_spread=0.10),
    "parking": Texture(0.08, 0.06, 0.10, mix=0.15, mix_spread=0.12),
    "sidewalk": Texture(0.07, 0.06, 0.05, mix=0.15, mix_spread=0.12),
    "street_paint": Texture(0.03, 0.05, 0.06, mix=0.18, mix_spread=0.18),
    "car_paint": Texture(0.0, 0.02, 0.0, mix=0.05, mix_spread=0.05),
    "brick": Texture(0.06, 0.06, 0.12, mix=0.10, mix_spread=0.10),
    "concrete": Texture(0.08, 0.06, 0.04, mix=0.12, mix_spread=0.15),
    "plaster": Texture(0.07, 0.04, 0.02, mix=0.10, mix_spread=0.12),
    "tile": Texture(0.06, 0.08, 0.10, mix=0.15, mix_spread=0.15),
    "shingle": Texture(0.06, 0.08, 0.10, mix=0.15, mix_spread=0.15),
    "wood": Texture(0.05, 0.10, 0.10),
    "bark": Texture(0.10, 0.15, 0.20),
    "leaves": Texture(0.12, 0.22, 0.25, mix=0.22, mix_spread=0.18),
    "conifer": Texture(0.12, 0.22, 0.25, mix=0.25, mix_spread=0.18),
    "grass": Texture(0.12, 0.15, 0.22, mix=0.30, mix_spread=0.25),
    "dry_grass": Texture(0.10, 0.15, 0.20, mix=0.30, mix_spread=0.25),
    "litter": Texture(0.10, 0.15, 0.25, mix=0.30, mix_spread=0.25),
    "soil": Texture(0.12, 0.12, 0.15, mix=0.20, mix_spread=0.20),
    "gravel": Texture(0.10, 0.10, 0.20, mix=0.20, mix_spread=0.20),
    "cloth": Texture(0.0, 0.05, 0.10),
    "bare_metal": Texture(0.05, 0.08, 0.04, mix=0.08, mix_spread=0.08),
    "tyre": Texture(0.0, 0.05, 0.05, mix=0.15, mix_spread=0.10),
}
_BRIGHTNESS, _MIX = Noise(seed=1), Noise(seed=2)


def texture_table(slots: Sequence[Slot]) -> NDArray[np.float32]:
    """(5, slots): the numbers of the `Texture` of each slot's material."""
    chosen = [TEXTURES.get(slot.material, PLAIN) for slot in slots]
    rows = [(one.coarse, one.medium, one.fine, one.mix, one.mix_spread) for one in chosen]
    return np.array(rows, dtype=np.float32).reshape(-1, 5).T


def on_plane(
    table: NDArray[np.float32], slot: NDArray[np.int32], u: Field, v: Field, spacing: Field
) -> tuple[Field, Field]:
    """Brightness and mix of ground points (n,) in road coordinates, `spacing` metres from ray to ray."""
    octaves = [_BRIGHTNESS.plane(u, v, period, spacing) for period in (COARSE_M, MEDIUM_M, FINE_M)]
    blotches = 0.8 * _MIX.plane(u, v, 2.3, spacing) + 0.6 * _MIX.plane(u, v, 0.45, spacing)
    return _dressed(table, slot, octaves, blotches)


def on_solids(
    table: NDArray[np.float32], slot: NDArray[np.int32], points: Field, normals: Field, spacing: Field
) -> tuple[Field, Field]:
    """Brightness and mix at points (3, n) of things, in the coordinate plane that each faces most."""
    across, up = np.abs(normals[:2]), np.abs(normals[2])
    level = up > across.max(axis=0)
    first = np.where(~level & (across[0] > across[1]), points[1], points[0])
    second = np.where(level, points[1], points[2])
    octaves = [_BRIGHTNESS.plane(first, second, period, spacing) for period in (COARSE_M, MEDIUM_M, FINE_M)]
    blotches = 0.8 * _MIX.plane(first, second, 1.3, spacing) + 0.6 * _MIX.plane(first, second, 0.3, spacing)
    return _dressed(table, slot, octaves, blotches)


def _dressed(
    table: NDArray[np.float32], slot: NDArray[np.int32], octaves: Sequence[Field], blotches: Field
) -> tuple[Field, Field]:
    brightness = np.ones(slot.shape, dtype=np.float32)
    for amplitude, octave in zip(table, octaves, strict=False):
        brightness += amplitude[slot] * octave
    mix = table[3][slot] + table[4][slot] * blotches
    return np.clip(brightness, 0.25, 1.9), np.clip(mix, 0, 1)
