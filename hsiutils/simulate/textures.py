"""How bright and how mixed each material is from place to place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.noise import Field, Noise
from hsiutils.simulate.surfaces import Slot

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
