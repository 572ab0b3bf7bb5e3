"""The meeting point of geometry and light: what each ray through the lens meets.

Geometry (compose, trace) fills a `Surfaces`; radiometry (radiance, camera) makes a frame of it and needs to know
nothing else about the scene.
"""

from dataclasses import dataclass

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
