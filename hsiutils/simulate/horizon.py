"""What closes the view far away: wooded hills and the skyline."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.noise import Field, Noise

_RIDGE: Final = Noise(seed=5)
_CROWNS: Final = Noise(seed=6)


@dataclass(frozen=True)
class Horizon:
    """A ring of hills around the camera.

    Attributes
    ----------
    distance_m : of the ring.
    height_m, roughness_m : of its skyline, mean and standard deviation.
    slots : of what grows there, from the foot to the top.
    seed : of the skyline.
    """

    distance_m: float
    height_m: float
    roughness_m: float
    slots: tuple[int, ...]
    seed: int

    def meet(self, origin: Field, direction: Field) -> tuple[Field, NDArray[np.int32]]:
        """Ray parameter (inf above the skyline) and slot for rays from origin (3, 1) along direction (3, n).

        The skyline is a function of azimuth: far hills do not move when the car does.
        """
        t = self.distance_m / np.hypot(direction[0], direction[1])
        along = self.distance_m * np.arctan2(direction[0], direction[1])
        height = origin[2] + t * direction[2]
        where = np.full_like(along, self.seed % 1000 * 64)
        ridge = _RIDGE.plane(along, where, 160.0) + 0.25 * _RIDGE.plane(along, where, 14.0)
        crest = np.maximum(self.height_m + self.roughness_m * ridge, 2.0)
        stands = 0.5 + 0.5 * height / crest + 0.25 * _RIDGE.plane(along, height + where, 40.0)
        index = np.clip((stands * len(self.slots)).astype(np.int32), 0, len(self.slots) - 1)
        slot = np.array(self.slots, dtype=np.int32)[index]
        return np.where(height < crest, t, np.inf).astype(np.float32), slot

    def brightness(self, points: Field) -> Field:
        """Light and dark of crowns and clearings at points (3, n) of the ring."""
        along = self.distance_m * np.arctan2(points[0], points[1])
        return np.asarray(np.clip(1 + 0.3 * _CROWNS.plane(along, points[2], 6.0), 0.4, 1.7))
