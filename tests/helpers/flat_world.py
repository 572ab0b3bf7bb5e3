"""Hand-made surfaces for the tests of light: a road to the horizon, whatever is asked in front of it, and sky."""

from dataclasses import replace
from typing import Any

import numpy as np

from hsiutils.simulate.surfaces import Slot, Surfaces

ROAD = Slot("asphalt", None, 0)


def rays(shape: tuple[int, int], field_of_view: float = np.deg2rad(40)) -> np.ndarray:
    """(3, rows, columns) of a level camera that looks along +y."""
    rows, columns = shape
    focal = columns / 2 / np.tan(field_of_view / 2)
    right, down = np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2
    x, z = np.broadcast_arrays(right[None, :] / focal, -down[:, None] / focal)
    direction = np.stack([x, np.ones(shape), z])
    return (direction / np.linalg.norm(direction, axis=0)).astype(np.float32)


def flat_world(shape: tuple[int, int], slot: Slot = ROAD, label: int = 1, **changes: Any) -> Surfaces:
    """Level ground of one slot below the horizon, open sky above; `changes` are scalars or arrays for its fields."""
    direction = rays(shape)
    ground = direction[2] < 0
    normal = np.zeros((3, *shape), np.float32)
    normal[2, ground] = 1
    depth = np.full(shape, np.inf, np.float32)
    depth[ground] = -1.4 / direction[2, ground]
    world = Surfaces(
        slots=(slot,),
        slot=np.where(ground, 0, -1).astype(np.int32),
        label=np.where(ground, label, 5).astype(np.uint8),
        object_id=ground.astype(np.int32),
        depth_m=depth,
        direction=direction,
        normal=normal,
        sun_visible=np.ones(shape, np.float32),
        sky_view=np.ones(shape, np.float32),
        brightness=np.ones(shape, np.float32),
        mix=np.zeros(shape, np.float32),
        water=np.zeros(shape, np.float32),
    )
    filled = {key: np.full(shape, value, np.float32) if np.isscalar(value) else value for key, value in changes.items()}
    return replace(world, **filled)
