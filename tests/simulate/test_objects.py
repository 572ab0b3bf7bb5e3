from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from miniature import stage

from hsiutils.data.classes import GLASS, METAL, PAINTED_METAL, PERSON, STONE, UNLABELLED, VEGETATION
from hsiutils.simulate import objects, plants
from hsiutils.simulate.builder import Pose, Stage, box
from hsiutils.simulate.geometry import FRONT, LEFT, REAR, TOP, Ellipsoid, Perspective
from hsiutils.simulate.materials import NAMES
from hsiutils.simulate.objects import Facade, Framed
from hsiutils.simulate.roads import Curve
from hsiutils.simulate.visibility import rasterise

HERE = Pose(1.0, 15.0, 0.0)
CURVE = Curve(-1.7, 0.0, 1 / 200)
CAMERA = Perspective.looking(np.array([0.0, 0.0, 1.4]), (160, 320), np.radians(85), 0.0)

Maker = Callable[[Stage], None]
Made = tuple[Stage, set[int], tuple[float, float]]
VEHICLE = {PAINTED_METAL, GLASS, METAL, UNLABELLED}
THINGS: dict[str, tuple[Maker, set[int], tuple[float, float]]] = {
    "car": (lambda s: objects.add_car(s, HERE), VEHICLE, (1.4, 1.7)),
    "van": (lambda s: objects.add_van(s, HERE), VEHICLE, (2.1, 2.2)),
    "lorry": (lambda s: objects.add_lorry(s, HERE), VEHICLE, (2.9, 4.0)),
    "bus": (lambda s: objects.add_bus(s, HERE), VEHICLE, (2.9, 3.1)),
    "pedestrian": (lambda s: objects.add_pedestrian(s, HERE), {PERSON}, (1.45, 2.0)),
    "cyclist": (lambda s: objects.add_cyclist(s, HERE), {PERSON}, (1.6, 2.0)),
    "tree": (lambda s: plants.add_tree(s, HERE, "summer", 8.0), {VEGETATION}, (6.5, 9.5)),
    "conifer": (lambda s: plants.add_conifer(s, HERE, "winter"), {VEGETATION}, (5.4, 15.0)),
    "shrub": (lambda s: plants.add_shrub(s, HERE, "fall", 1.5), {VEGETATION}, (0.9, 1.7)),
    "hedge": (lambda s: plants.add_hedge(s, [(HERE, 8.0)], 1.5), {VEGETATION}, (1.3, 1.6)),
    "block": (lambda s: objects.add_block(s, HERE, 12, 10, 9), {STONE, GLASS}, (9, 9.5)),
    "house": (lambda s: objects.add_house(s, HERE), {STONE, GLASS}, (4.5, 9.0)),
    "wall": (lambda s: objects.add_wall(s, CURVE.chords(5, 0, 40), 1.2), {STONE}, (1.2, 1.3)),
    "bridge": (lambda s: objects.add_bridge(s, HERE, -8, 8), {STONE}, (7.2, 8.4)),
    "lamp": (lambda s: objects.add_lamp(s, HERE, 1.5), {METAL, GLASS}, (6.3, 10.0)),
    "sign": (lambda s: objects.add_sign(s, HERE), {METAL, PAINTED_METAL}, (2.2, 3.1)),
    "traffic light": (lambda s: objects.add_traffic_light(s, HERE), {PAINTED_METAL, GLASS, METAL}, (3.1, 3.3)),
    "gantry": (lambda s: objects.add_gantry(s, HERE, -8, 8), {METAL, PAINTED_METAL}, (6.9, 7.9)),
    "guard rail": (lambda s: objects.add_guard_rail(s, CURVE, 5, 0, 60), {METAL}, (0.8, 0.85)),
    "barrier": (lambda s: objects.add_barrier(s, CURVE, -5, 0, 60), {STONE}, (0.85, 0.95)),
    "bank": (lambda s: objects.add_bank(s, CURVE, 5, 3, 2.5, 0, 60), {VEGETATION, UNLABELLED}, (2.5, 2.5)),
}


@pytest.fixture(params=THINGS, ids=str)
def made(request: pytest.FixtureRequest) -> Made:
    make, labels, heights = THINGS[request.param]
    on = stage()
    make(on)
    return on, labels, heights


def test_it_is_one_object_of_its_own_labels_and_known_materials(made: Made) -> None:
    on, labels, _ = made
    assert {part.object_id for part in on.parts} == {3}
    assert set(on.labels) <= labels
    assert {slot.material for slot in on.slots} | {slot.blend for slot in on.slots} <= {*NAMES, None}


def test_it_has_its_height_and_stands_on_the_ground(made: Made) -> None:
    on, _, (low, high) = made
    corners = np.concatenate([part.solid.corners for part in on.parts])
    assert low <= corners[:, 2].max() <= high + 1e-9
    assert -0.6 < corners[:, 2].min() < 0.6


def test_the_camera_sees_it_and_every_face_has_a_slot(made: Made) -> None:
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
    objects.add_car(on, Pose(3.0, 12.0, 0.5))
    assert materials_in_view(on) >= {"car_paint", "glass", "tyre", "bare_metal"}


def test_wheels_reach_the_road() -> None:
    on = stage()
    objects.add_car(on, Pose(0, 12.0))
    tyres = [part for part in on.parts if on.slots[part.slots[0]].material == "tyre"]
    assert len(tyres) == 4
    assert all(abs(part.solid.start[2] - part.solid.radius) < 1e-9 for part in tyres)  # type: ignore[attr-defined]


def test_signs_show_their_face_to_who_comes_along() -> None:
    for seed in range(6):
        on = Stage(np.random.default_rng(seed))
        objects.add_sign(on, Pose(0, 10.0, 0.0))
        assert "sign_paint" in materials_in_view(on)
        away = Stage(np.random.default_rng(seed))
        objects.add_sign(away, Pose(0, 10.0, np.pi))
        assert "sign_paint" not in materials_in_view(away)


def test_rails_follow_the_bend_without_gaps() -> None:
    on = stage()
    objects.add_guard_rail(on, CURVE, 5.0, 10.0, 90.0)
    beams = [part.solid.corners for part in on.parts if part.solid.corners[:, 2].min() > 0.4]
    middles = np.array([corners.mean(axis=0) for corners in beams])
    across = CURVE.across(middles[:, 0].astype(np.float32), middles[:, 1].astype(np.float32))
    np.testing.assert_allclose(across, 5, atol=0.25)
    for before, after in pairwise(beams):
        assert np.linalg.norm(before[[2, 3, 6, 7]].mean(axis=0) - after[[0, 1, 4, 5]].mean(axis=0)) < 0.05
    assert beams[-1][:, 1].max() == pytest.approx(90, abs=0.5)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_bank_rises_away_from_the_road(side: int) -> None:
    on = stage()
    objects.add_bank(on, Curve(), side * 5.0, side * 3.0, 2.5, 0, 20)
    corners = np.concatenate([part.solid.corners for part in on.parts])
    foot, crown = corners[corners[:, 2] < 0], corners[corners[:, 2] > 2]
    assert (np.abs(foot[:, 0]).min(), np.abs(crown[:, 0]).min()) == pytest.approx((5, 8))


WALL, PANE, FRAME, DOOR = 0, 1, 2, 3
HOUSE = box(Pose(0, 10), (0, 12, 0, 9), 0, 6)
FACADE = Facade(3.0, 3.0, (1.2, 1.4), 0.9, PANE, FRAME, DOOR, door_every=3)


def on_house(face: int, *point: float) -> int:
    place = np.array(point, np.float32)[:, None]
    return int(FACADE(HOUSE, place, np.array([face], np.uint8), np.array([WALL], np.int32))[0])


def test_windows_sit_in_the_middle_of_their_bays_above_the_sill() -> None:
    assert on_house(REAR, 4.5, 10, 4.6) == PANE
    assert on_house(REAR, 4.5, 10, 3.5) == WALL, "below the sill"
    assert on_house(REAR, 6.0, 10, 4.6) == WALL, "between two windows"
    assert on_house(REAR, 4.5 + 0.65, 10, 4.6) == FRAME
    assert on_house(LEFT, 0, 14.5, 4.6) == PANE, "side walls have them too"
    assert on_house(TOP, 4.5, 14.5, 6.0) == WALL, "and roofs none"


def test_doors_are_on_the_ground_floor_of_every_third_bay() -> None:
    assert on_house(REAR, 1.5, 10, 1.0) == DOOR
    assert on_house(REAR, 4.5, 10, 0.5) == WALL
    assert on_house(REAR, 10.5, 10, 1.0) == DOOR
    assert on_house(REAR, 1.5, 10, 4.6) == PANE


def test_turned_houses_carry_their_windows_along() -> None:
    pose = Pose(-3, 40, 0.7)
    turned = box(pose, (0, 12, 0, 9), 0, 6)
    point = pose.point(4.5, 0, 4.6).astype(np.float32)[:, None]
    assert FACADE(turned, point, np.array([REAR], np.uint8), np.array([WALL], np.int32))[0] == PANE


def test_frames_follow_the_edges_of_the_chosen_faces() -> None:
    framed = Framed(0.1, FRAME, (REAR,))
    points = np.array([[0.05, 6.0, 0.05], [10, 10, 19], [3.0, 5.95, 3.0]], np.float32)
    slots = framed(HOUSE, points, np.array([REAR, REAR, FRONT], np.uint8), np.full(3, PANE, np.int32))
    assert slots.tolist() == [FRAME, FRAME, PANE]
    middle = np.array([[6.0], [10], [3]], np.float32)
    assert framed(HOUSE, middle, np.array([REAR], np.uint8), np.array([PANE], np.int32))[0] == PANE


def test_round_things_have_no_frames() -> None:
    ball, point = Ellipsoid(np.zeros(3), np.ones(3)), np.zeros((3, 1), np.float32)
    with pytest.raises(TypeError, match="Ellipsoid"):
        Framed(0.1, FRAME)(ball, point, np.zeros(1, np.uint8), np.zeros(1, np.int32))
