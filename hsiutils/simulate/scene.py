"""A whole scene as the rays through the lens meet it: the front door of the simulator's geometry."""

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.composition import compose
from hsiutils.simulate.conditions import Conditions
from hsiutils.simulate.look import look
from hsiutils.simulate.surfaces import Surfaces


def build_surfaces(
    conditions: Conditions, seed: int, shape: tuple[int, int], sun: NDArray[np.float64], direct_light: bool
) -> Surfaces:
    """Draw a scene and follow one ray through the middle of each pixel.

    Parameters
    ----------
    conditions : season, weather and kind of road; with `seed` they decide everything.
    shape : (rows, columns) of rays. The horizontal field of view is fixed and pixels are square, so that more of both
        are the same picture with more rays.
    sun : (3,) unit vector towards the sun; x right, y ahead, z up.
    direct_light : whether there is sunlight to cast shadows; if not, `sun_visible` is zero.

    Raises
    ------
    ValueError
        If `shape` is empty or `sun` is no unit vector.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (rows, columns) of rays, at least one of each, got {shape}")
    if np.shape(sun) != (3,) or not abs(np.linalg.norm(sun) - 1) < 1e-3:
        raise ValueError(f"sun must be a unit vector of world axes x right, y ahead, z up, got {sun!r}")
    return look(compose(conditions, seed), shape, np.asarray(sun, dtype=float), direct_light)
