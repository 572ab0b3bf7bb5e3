"""A road of known cross-section, and small scenes to look at."""

import numpy as np

from hsiutils.data.classes import MARKS, METAL, ROAD, STONE, VEGETATION, WATER
from hsiutils.simulate.builder import Stage
from hsiutils.simulate.compose import Horizon, Scene
from hsiutils.simulate.roads import Curve, Line, Mark, Road, Zone

SHAPE = (240, 480)
NOON = np.array([0.0, 0.0, 1.0])
KERB_V, HOUSE_V = 4.0, 7.0


def stage() -> Stage:
    return Stage(np.random.default_rng(5), objects=2)


def road(
    on: Stage, curve: Curve | None = None, marks: tuple[Mark, ...] = (Line(2.0, 0.2),), kerb: float = 0.12
) -> Road:
    """Carriageway from -4 to 4 m, pavements behind kerbs to 7 m on both sides, grass beyond."""
    asphalt, paving = on.slot("asphalt", ROAD, "soil"), on.slot("sidewalk", STONE, "soil")
    green = Zone(on.slot("grass", VEGETATION, "dry_grass"), "green", kerb)
    walk, lane = Zone(paving, "paving", kerb), Zone(asphalt, "asphalt")
    return Road(
        curve=curve or Curve(),
        edges=np.array([-HOUSE_V, -KERB_V, KERB_V, HOUSE_V], dtype=np.float32),
        zones=(green, walk, lane, walk, green, lane),
        sides=(-KERB_V, KERB_V),
        depths=(3.0, 3.0),
        lanes=((-2.0, -1), (2.0, 1)),
        own=1,
        marks=marks,
        paint=on.slot("street_paint", MARKS, "asphalt"),
        patches=np.array([[20, 22, -3, -2]], dtype=np.float32),
        patch=on.slot("asphalt_patch", ROAD, "asphalt"),
        lids=np.array([[15, -1]], dtype=np.float32),
        lid=on.slot("bare_metal", METAL, "soil"),
        kerb=on.slot("concrete", STONE, "soil"),
        puddle=on.slot("water", WATER),
    )


def scene(on: Stage, made: Road | None = None, film: float = 0.0, puddles: float = 0.0) -> Scene:
    """A level camera 1.4 m above the origin, and low hills 300 m away."""
    hills = Horizon(300.0, 4.0, 0.0, (on.slot("conifer", VEGETATION, "bark"),), 1)
    return Scene(on, made or road(on), hills, (0.0, 0.0, 0.0, 1.4), film, puddles)
