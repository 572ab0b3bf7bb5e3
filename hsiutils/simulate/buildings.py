"""Buildings, walls, and bridges over the road."""

from collections.abc import Iterable

from hsiutils.simulate.finishes import Facade
from hsiutils.simulate.labels import GLASS, STONE
from hsiutils.simulate.stage import Pose, Stage, box, frustum

WALLS = ("brick", "plaster", "concrete", "brick", "plaster")
ROOFS = ("tile", "shingle", "tile")


def add_block(stage: Stage, pose: Pose, length_m: float, depth_m: float, height_m: float) -> None:
    """A town house along the street.

    The pose is the rear corner of its front on the side of the street; the house extends ahead along the heading and
    to the right for positive `depth_m`, to the left for negative.
    """
    thing, wall = stage.thing(), stage.slot(WALLS[stage.rng.integers(len(WALLS))], STONE, "soil")
    roof = stage.slot("concrete", STONE, "soil")
    base = (min(0.0, depth_m), max(0.0, depth_m), 0.0, length_m)
    finish = _facade(stage)
    stage.add(box(pose, base, 0, height_m), (wall, roof, wall, wall, wall, wall), thing, finish)
    plinth = stage.slot("concrete", STONE, "soil")
    edge = (base[0] - 0.06, base[1] + 0.06, base[2], base[3])
    stage.add(box(pose, edge, 0, stage.between(0.3, 0.7)), plinth, thing)
    cornice = (base[0] - 0.3, base[1] + 0.3, base[2] - 0.1, base[3] + 0.1)
    stage.add(box(pose, cornice, height_m, height_m + 0.3), roof, thing)


def add_house(stage: Stage, pose: Pose) -> None:
    """A detached house with a gable roof; its middle is at the pose."""
    thing, wall = stage.thing(), stage.slot(WALLS[stage.rng.integers(len(WALLS))], STONE, "soil")
    roof = stage.slot(ROOFS[stage.rng.integers(len(ROOFS))], STONE, "soil")
    half_width, half_length = stage.between(3.5, 5.0), stage.between(4.5, 8.0)
    eaves = stage.between(3.0, 6.0)
    base = (-half_width, half_width, -half_length, half_length)
    stage.add(box(pose, base, 0, eaves), wall, thing, _facade(stage))
    over = (-half_width - 0.5, half_width + 0.5, -half_length - 0.4, half_length + 0.4)
    ridge = (-0.1, 0.1, over[2], over[3])
    stage.add(
        frustum(pose, over, eaves, ridge, eaves + 0.55 * half_width),
        (roof, roof, wall, wall, roof, roof),
        thing,
    )


def _facade(stage: Stage) -> Facade:
    return Facade(
        bay_m=stage.between(2.2, 3.8),
        storey_m=stage.between(2.8, 3.4),
        window=(stage.between(0.9, 1.7), stage.between(1.1, 1.7)),
        sill_m=stage.between(0.8, 1.1),
        glass=stage.slot("glass", GLASS),
        frame=stage.slot("concrete" if stage.chance(0.6) else "wood", STONE),
        door=stage.slot("wood", STONE),
        door_every=int(stage.rng.integers(3, 6)),
    )


def add_wall(stage: Stage, pieces: Iterable[tuple[Pose, float]], height_m: float) -> None:
    """A garden or retaining wall of pieces that each begin at a pose and run ahead for a length."""
    thing, stone = stage.thing(), stage.slot(("brick", "concrete", "plaster")[stage.rng.integers(3)], STONE, "soil")
    cap = stage.slot("concrete", STONE, "soil")
    for pose, length in pieces:
        stage.add(box(pose, (-0.15, 0.15, 0, length), 0, height_m), stone, thing)
        stage.add(box(pose, (-0.2, 0.2, 0, length), height_m, height_m + 0.08), cap, thing)


def add_bridge(stage: Stage, pose: Pose, left_m: float, right_m: float) -> None:
    """A concrete bridge across the road, on piers at `left_m` and `right_m` beside the pose."""
    thing, concrete = stage.thing(), stage.slot("concrete", STONE, "soil")
    clear = stage.between(5.2, 6.2)
    stage.add(box(pose, (left_m - 25, right_m + 25, -4.5, 4.5), clear, clear + 1.3), concrete, thing)
    stage.add(box(pose, (left_m - 25, right_m + 25, -4.7, 4.7), clear + 1.3, clear + 2.1), concrete, thing)
    for x in (left_m, right_m):
        stage.add(box(pose, (x - 0.6, x + 0.6, -4.0, 4.0), 0, clear), concrete, thing)
