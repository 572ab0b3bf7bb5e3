import numpy as np
from miniature import stage

from hsiutils.simulate import plants
from hsiutils.simulate.builder import Pose, Stage
from hsiutils.simulate.geometry import Perspective
from hsiutils.simulate.visibility import rasterise

CAMERA = Perspective.looking(np.array([0.0, 0.0, 1.4]), (160, 320), np.radians(85), 0.0)


def covered(season: str) -> int:
    """Rays that meet a tree, over a few trees."""
    total = 0
    for seed in range(12):
        on = Stage(np.random.default_rng(seed))
        plants.add_tree(on, Pose(0, 25.0), season, 8.0)
        total += int((rasterise(CAMERA, on.parts).part >= 0).sum())
    return total


def test_winter_thins_crowns_and_turns_them_to_bark() -> None:
    assert covered("winter") < 0.85 * covered("summer")
    assert plants.DECIDUOUS["winter"].material == "bark"


def test_far_trees_have_fewer_clumps() -> None:
    near, far = stage(), stage()
    plants.add_tree(near, Pose(0, 10.0), "summer")
    plants.add_tree(far, Pose(0, 120.0), "summer")
    assert len(far.parts) < len(near.parts) / 2
