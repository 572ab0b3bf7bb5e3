"""The meeting point of geometry and light: what each ray through the lens meets, and its texture.

Geometry (compose, trace) fills a `Surfaces`; radiometry (radiance, camera) makes a frame of it and needs to know
nothing else about the scene. How bright and how mixed each material is from place to place are random textures fixed to
the world: smooth noise in metres, faded out where rays are too far apart to sample it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
"""Whatever there is one of for each ray."""
Float64 = NDArray[np.float64]
"""Places, spectra, and whatever there are few of."""


@dataclass(frozen=True)
class Slot:
    """One painted, paved or grown part of one object: where its spectrum comes from."""

    material: str  # name of a material family of `hsiutils.simulate.materials`
    blend: str | None  # second family that `Surfaces.mix` mixes in: dirt on paint, bark among leaves
    sample: int  # non-negative, picks one physical sample of the family, and one of the blend


@dataclass(frozen=True)
class Surfaces:
    """What each ray meets; every array is (rows, columns) of rays unless said otherwise.

    World axes are metres: x to the right of the car, y ahead, z up. Rays that leave the scene meet the sky.

    Attributes
    ----------
    slot : int32, index into `slots`; -1 for sky.
    label : uint8, HSI-Drive label code 1..10 of the true class; 0 for what fits none (bare soil, gravel, tyres).
    object_id : int32, one number for each thing that a person would label as one; 0 for sky, 1 for the ground, 2
        for the hills at the horizon.
    depth_m : distance along the ray, metres; inf for sky.
    direction : (3, rows, columns) unit vector of the ray, away from the camera.
    normal : (3, rows, columns) unit surface normal, facing the camera; zero for sky.
    sun_visible : share of the sun's disc that the point sees, 0..1; 0 on the far side of opaque things, and everywhere
        if the scene has no direct light; 1 for sky under direct light.
    sky_view : share of the sky dome's diffuse light that reaches the point (cosine weighted), 0..1.
    brightness : factor on reflectance from texture, about 1.
    mix : share of the slot's blend, 0..1.
    water : 0 dry .. 1 standing water.
    """

    slots: tuple[Slot, ...]
    slot: NDArray[np.int32]
    label: NDArray[np.uint8]
    object_id: NDArray[np.int32]
    depth_m: Float32
    direction: Float32
    normal: Float32
    sun_visible: Float32
    sky_view: Float32
    brightness: Float32
    mix: Float32
    water: Float32

    def chosen(self, rows: NDArray[np.intp]) -> "Surfaces":
        """Some rows of rays, each as often as it is asked for."""
        kept = {key: value[..., rows, :] for key, value in vars(self).items() if key != "slots"}
        return Surfaces(slots=self.slots, **kept)


_PLANE, _SPACE = 512, 64
_TEXELS_A_PERIOD: Final = 8


@dataclass(frozen=True)
class Noise:
    """Band-limited noise of unit standard deviation over the plane or space; repeats after 64 (8 in space) periods.

    Two seeds show different parts of the same repeating field.
    """

    seed: int

    def plane(self, first: Float32, second: Float32, period_m: float, spacing_m: Float32 | float = 0.0) -> Float32:
        """Value at surface coordinates (n,), metres, bilinear between texels.

        The period is the typical distance from one maximum to the next; detail finer than two spacings of
        neighbouring rays fades to zero.
        """
        shift, table = _shift(self.seed, period_m), _periodic_noise((_PLANE, _PLANE), 20)
        i, down = _cell(first, period_m, shift[0])
        j, right = _cell(second, period_m, shift[1])
        above, below = (i & (_PLANE - 1)) * _PLANE, ((i + 1) & (_PLANE - 1)) * _PLANE
        left, beside = j & (_PLANE - 1), (j + 1) & (_PLANE - 1)
        upper = table.take(above + left) * (1 - right) + table.take(above + beside) * right
        lower = table.take(below + left) * (1 - right) + table.take(below + beside) * right
        # Nyquist: two rays a period are the least that can carry it.
        carried = np.clip(2 - np.float32(4 / period_m) * spacing_m, 0, 1)
        return np.asarray((upper + down * (lower - upper)) * carried, dtype=np.float32)

    def space(self, points: Float32, period_m: float) -> Float32:
        """Value at points (3, n) of the nearest texel, for leaves and other things without a surface coordinate."""
        shift = _shift(self.seed, period_m)
        index = np.zeros(points.shape[1], dtype=np.int32)
        for axis in range(3):
            cell, _ = _cell(points[axis], period_m, shift[axis])
            index = index * _SPACE + (cell & (_SPACE - 1))
        return np.asarray(_periodic_noise((_SPACE, _SPACE, _SPACE), 21).take(index))


def _cell(place: Float32, period_m: float, shift: float) -> tuple[NDArray[np.int32], Float32]:
    """Whole and fractional part of a place in texels."""
    scaled = place * np.float32(_TEXELS_A_PERIOD / period_m) + np.float32(shift)
    whole = np.floor(scaled)
    return whole.astype(np.int32), np.asarray(scaled - whole)


@cache
def _shift(seed: int, period_m: float) -> tuple[float, float, float]:
    x, y, z = np.random.default_rng([seed, int(period_m * 1000)]).uniform(0, _PLANE, 3)
    return float(x), float(y), float(z)


@cache
def _periodic_noise(shape: tuple[int, ...], seed: int) -> Float32:
    """White noise with a Gaussian spectrum up to about one cycle in `_TEXELS_A_PERIOD` texels, periodic."""
    grid = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid)) * _TEXELS_A_PERIOD
    spectrum = np.fft.fftn(np.random.default_rng(seed).standard_normal(shape))
    field = np.fft.ifftn(spectrum * np.exp(-(((radius - 0.5) / 0.5) ** 2))).real
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


OCTAVES_M: Final = (5.0, 0.8, 0.12)
"""Periods of brightness, metres."""
TEXTURES: Final = {
    "asphalt": (0.08, 0.05, 0.10, 0.12, 0.10),
    "asphalt_patch": (0.05, 0.04, 0.08, 0.10, 0.10),
    "parking": (0.08, 0.06, 0.10, 0.15, 0.12),
    "sidewalk": (0.07, 0.06, 0.05, 0.15, 0.12),
    "street_paint": (0.03, 0.05, 0.06, 0.18, 0.18),
    "car_paint": (0.0, 0.02, 0.0, 0.05, 0.05),
    "brick": (0.06, 0.06, 0.12, 0.10, 0.10),
    "concrete": (0.08, 0.06, 0.04, 0.12, 0.15),
    "plaster": (0.07, 0.04, 0.02, 0.10, 0.12),
    "tile": (0.06, 0.08, 0.10, 0.15, 0.15),
    "shingle": (0.06, 0.08, 0.10, 0.15, 0.15),
    "wood": (0.05, 0.10, 0.10, 0.0, 0.0),
    "bark": (0.10, 0.15, 0.20, 0.0, 0.0),
    "leaves": (0.12, 0.11, 0.12, 0.22, 0.09),
    "conifer": (0.12, 0.11, 0.12, 0.25, 0.09),
    "grass": (0.12, 0.08, 0.11, 0.30, 0.12),
    "dry_grass": (0.10, 0.08, 0.10, 0.30, 0.12),
    "litter": (0.10, 0.08, 0.12, 0.30, 0.12),
    "soil": (0.12, 0.12, 0.15, 0.20, 0.20),
    "gravel": (0.10, 0.10, 0.20, 0.20, 0.20),
    "cloth": (0.0, 0.05, 0.10, 0.0, 0.0),
    "bare_metal": (0.05, 0.08, 0.04, 0.08, 0.08),
    "tyre": (0.0, 0.05, 0.05, 0.15, 0.10),
}
"""Standard deviations of brightness in the three octaves, and mean and spread of the share of the slot's blend.

Those of plants were fitted: in a real frame of an imec chip over trees the intensity of 3 x 3 pixels departs by .063 of
their mean (`hsiutils.paper.sensor`).
"""
_PLAIN: Final = (0.05, 0.03, 0.03, 0.0, 0.0)
_BRIGHTNESS, _MIX = Noise(seed=1), Noise(seed=2)


def texture_table(slots: Sequence[Slot]) -> Float32:
    """(5, slots): the numbers of `TEXTURES` for each slot's material."""
    rows = [TEXTURES.get(slot.material, _PLAIN) for slot in slots]
    return np.array(rows, dtype=np.float32).reshape(-1, 5).T


def textured(
    numbers: Float32, place: tuple[Float32, Float32], spacing: Float32, blotches_m: tuple[float, float]
) -> tuple[Float32, Float32]:
    """Brightness and mix (n,) at coordinates (n,) on a surface, metres, with columns (5, n) of `texture_table`.

    Spacing is metres from ray to ray; `blotches_m` is the coarse and the fine period of the blend's blotches.
    """
    coarse, fine = blotches_m
    blotches = 0.8 * _MIX.plane(*place, coarse, spacing) + 0.6 * _MIX.plane(*place, fine, spacing)
    brightness = np.ones(spacing.shape, dtype=np.float32)
    for amplitude, period in zip(numbers, OCTAVES_M, strict=False):
        brightness += amplitude * _BRIGHTNESS.plane(*place, period, spacing)
    return np.clip(brightness, 0.25, 1.9), np.clip(numbers[3] + numbers[4] * blotches, 0, 1)


def coordinates_on(points: Float32, normals: Float32) -> tuple[Float32, Float32]:
    """Coordinates of points (3, n) in the pair of world axes that each one's normal (3, n) faces most."""
    across, up = np.abs(normals[:2]), np.abs(normals[2])
    level = up > across.max(axis=0)
    first = np.where(~level & (across[0] > across[1]), points[1], points[0])
    return first, np.where(level, points[1], points[2])
