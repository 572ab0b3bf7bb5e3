"""Vehicles, people, plants, buildings and furniture: sizes, labels, and that they stand on the ground."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from miniature import stage

from hsiutils.data.classes import GLASS, METAL, PAINTED_METAL, PERSON, STONE, UNLABELLED, VEGETATION
from hsiutils.simulate import objects as buildings
from hsiutils.simulate import objects as furniture
from hsiutils.simulate import objects as people
from hsiutils.simulate import objects as vehicles
from hsiutils.simulate import plants
from hsiutils.simulate.builder import Pose, Stage
from hsiutils.simulate.geometry import Perspective
from hsiutils.simulate.materials import NAMES
from hsiutils.simulate.raster import rasterise
from hsiutils.simulate.roads import Curve

HERE = Pose(1.0, 15.0, 0.0)
CURVE = Curve(-1.7, 0.0, 1 / 200)
CAMERA = Perspective.looking(np.array([0.0, 0.0, 1.4]), (160, 320), np.radians(85), 0.0)

Maker = Callable[[Stage], None]
THINGS: dict[str, tuple[Maker, set[int], tuple[float, float]]] = {
    "car": (lambda s: vehicles.add_car(s, HERE), {PAINTED_METAL, GLASS, METAL, UNLABELLED}, (1.4, 1.7)),
    "van": (lambda s: vehicles.add_van(s, HERE), {PAINTED_METAL, GLASS, METAL, UNLABELLED}, (2.1, 2.2)),
    "lorry": (lambda s: vehicles.add_lorry(s, HERE), {PAINTED_METAL, GLASS, METAL, UNLABELLED}, (2.9, 4.0)),
    "bus": (lambda s: vehicles.add_bus(s, HERE), {PAINTED_METAL, GLASS, METAL, UNLABELLED}, (2.9, 3.1)),
    "pedestrian": (lambda s: people.add_pedestrian(s, HERE), {PERSON}, (1.45, 2.0)),
    "cyclist": (lambda s: people.add_cyclist(s, HERE), {PERSON}, (1.6, 2.0)),
    "tree": (lambda s: plants.add_tree(s, HERE, "summer", 8.0), {VEGETATION}, (6.5, 9.5)),
    "conifer": (lambda s: plants.add_conifer(s, HERE, "winter"), {VEGETATION}, (5.4, 15.0)),
    "shrub": (lambda s: plants.add_shrub(s, HERE, "fall", 1.5), {VEGETATION}, (0.9, 1.7)),
    "hedge": (lambda s: plants.add_hedge(s, [(HERE, 8.0)], 1.5), {VEGETATION}, (1.3, 1.6)),
    "block": (lambda s: buildings.add_block(s, HERE, 12, 10, 9), {STONE, GLASS}, (9, 9.5)),
    "house": (lambda s: buildings.add_house(s, HERE), {STONE, GLASS}, (4.5, 9.0)),
    "wall": (lambda s: buildings.add_wall(s, CURVE.chords(5, 0, 40), 1.2), {STONE}, (1.2, 1.3)),
    "bridge": (lambda s: buildings.add_bridge(s, HERE, -8, 8), {STONE}, (7.2, 8.4)),
    "lamp": (lambda s: furniture.add_lamp(s, HERE, 1.5), {METAL, GLASS}, (6.3, 10.0)),
    "sign": (lambda s: furniture.add_sign(s, HERE), {METAL, PAINTED_METAL}, (2.2, 3.1)),
    "traffic light": (lambda s: furniture.add_traffic_light(s, HERE), {PAINTED_METAL, GLASS, METAL}, (3.1, 3.3)),
    "gantry": (lambda s: furniture.add_gantry(s, HERE, -8, 8), {METAL, PAINTED_METAL}, (6.9, 7.9)),
    "guard rail": (lambda s: furniture.add_guard_rail(s, CURVE, 5, 0, 60), {METAL}, (0.8, 0.85)),
    "barrier": (lambda s: furniture.add_barrier(s, CURVE, -5, 0, 60), {STONE}, (0.85, 0.95)),
    "bank": (lambda s: furniture.add_bank(s, CURVE, 5, 3, 2.5, 0, 60), {VEGETATION, UNLABELLED}, (2.5, 2.5)),
}


@pytest.fixture(params=THINGS, ids=str)
def made(request: pytest.FixtureRequest) -> tuple[Stage, set[int], tuple[float, float]]:
    make, labels, heights = THINGS[request.param]
    on = stage()
    make(on)
    return on, labels, heights


def test_it_is_one_thing_of_its_own_labels_and_known_materials(
    made: tuple[Stage, set[int], tuple[float, float]],
) -> None:
    on, labels, _ = made
    assert {part.object_id for part in on.parts} == {3}
    assert set(on.labels) <= labels
    for slot in on.slots:
        assert slot.material in NAMES
        assert slot.blend is None or slot.blend in NAMES


def test_it_has_its_height_and_stands_on_the_ground(made: tuple[Stage, set[int], tuple[float, float]]) -> None:
    on, _, (low, high) = made
    corners = np.concatenate([part.solid.corners for part in on.parts])
    assert low <= corners[:, 2].max() <= high + 1e-9
    assert -0.6 < corners[:, 2].min() < 0.6


def test_the_camera_sees_it_and_every_face_has_a_slot(made: tuple[Stage, set[int], tuple[float, float]]) -> None:
    on, _, _ = made
    hits = rasterise(CAMERA, on.parts)
    seen = np.unique(hits.part[hits.part >= 0])
    assert seen.size
    for index in seen:
        faces = np.unique(hits.face[hits.part == index])
        assert faces.max() < len(on.parts[index].slots)


def materials_in_view(on: Stage) -> set[str]:
    hits = rasterise(CAMERA, on.parts)
    met = hits.part >= 0
    pairs = {*zip(hits.part[met].tolist(), hits.face[met].tolist(), strict=True)}
    return {on.slots[on.parts[part].slots[face]].material for part, face in pairs}


def test_a_car_shows_paint_glass_tyres_and_rims() -> None:
    on = stage()
    vehicles.add_car(on, Pose(3.0, 12.0, 0.5))
    assert materials_in_view(on) >= {"car_paint", "glass", "tyre", "bare_metal"}


def test_wheels_reach_the_road() -> None:
    on = stage()
    vehicles.add_car(on, Pose(0, 12.0))
    tyres = [part for part in on.parts if on.slots[part.slots[0]].material == "tyre"]
    assert len(tyres) == 4
    assert all(abs(part.solid.start[2] - part.solid.radius) < 1e-9 for part in tyres)  # type: ignore[attr-defined]


def test_signs_show_their_face_to_who_comes_along() -> None:
    for seed in range(6):
        on = Stage(np.random.default_rng(seed))
        furniture.add_sign(on, Pose(0, 10.0, 0.0))
        assert "sign_paint" in materials_in_view(on)
        away = Stage(np.random.default_rng(seed))
        furniture.add_sign(away, Pose(0, 10.0, np.pi))
        assert "sign_paint" not in materials_in_view(away)


def test_winter_thins_crowns_and_turns_them_to_bark() -> None:
    share = {}
    for season in ("summer", "winter"):
        covered = 0
        for seed in range(12):
            on = Stage(np.random.default_rng(seed))
            plants.add_tree(on, Pose(0, 25.0), season, 8.0)
            covered += int((rasterise(CAMERA, on.parts).part >= 0).sum())
        share[season] = covered
    assert share["winter"] < 0.85 * share["summer"]
    assert plants.DECIDUOUS["winter"].material == "bark"


def test_far_trees_have_fewer_clumps() -> None:
    near, far = stage(), stage()
    plants.add_tree(near, Pose(0, 10.0), "summer")
    plants.add_tree(far, Pose(0, 120.0), "summer")
    assert len(far.parts) < len(near.parts) / 2


def test_rails_follow_the_bend_without_gaps() -> None:
    on = stage()
    furniture.add_guard_rail(on, CURVE, 5.0, 10.0, 90.0)
    beams = [part.solid.corners for part in on.parts if part.solid.corners[:, 2].min() > 0.4]
    middles = np.array([corners.mean(axis=0) for corners in beams])
    across = CURVE.across(middles[:, 0].astype(np.float32), middles[:, 1].astype(np.float32))
    np.testing.assert_allclose(across, 5, atol=0.25)
    for before, after in pairwise(beams):
        assert np.linalg.norm(before[[2, 3, 6, 7]].mean(axis=0) - after[[0, 1, 4, 5]].mean(axis=0)) < 0.05
    assert beams[-1][:, 1].max() == pytest.approx(90, abs=0.5)


def test_a_bank_rises_away_from_the_road() -> None:
    for side in (-1, 1):
        on = stage()
        furniture.add_bank(on, Curve(), side * 5.0, side * 3.0, 2.5, 0, 20)
        corners = np.concatenate([part.solid.corners for part in on.parts])
        foot, crown = corners[corners[:, 2] < 0], corners[corners[:, 2] > 2]
        assert np.abs(foot[:, 0]).min() == pytest.approx(5)
        assert np.abs(crown[:, 0]).min() == pytest.approx(8)
