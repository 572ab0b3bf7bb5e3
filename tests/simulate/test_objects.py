from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from miniature import stage

from hsiutils.data.classes import GLASS, METAL, PAINTED_METAL, PERSON, STONE, UNLABELLED, VEGETATION
from hsiutils.simulate import objects, plants
from hsiutils.simulate.builder import Pose, Stage, box
from hsiutils.simulate.geometry import FRONT, LEFT, REAR, TOP, Ellipsoid, Perspective
from hsiutils.simulate.light import LAMPS
from hsiutils.simulate.materials import NAMES
from hsiutils.simulate.objects import Facade, Framed
from hsiutils.simulate.roads import Curve
from hsiutils.simulate.visibility import rasterise

HERE = Pose(1.0, 15.0, 0.0)
CURVE = Curve(-1.7, 0.0, 1 / 200)
CAMERA = Perspective.looking(np.array([0.0, 0.0, 1.4]), (160, 320), np.radians(85), 0.0)

Maker = Callable[[Stage], None]
VEHICLE = {PAINTED_METAL, GLASS, METAL, UNLABELLED}
THINGS: dict[str, tuple[Maker, set[int], tuple[float, float]]] = {
    "car": (lambda s: objects.add_car(s, HERE), VEHICLE, (1.4, 1.7)),
    "van": (lambda s: objects.add_car(s, HERE, van=True), VEHICLE, (2.1, 2.2)),
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


@pytest.mark.parametrize("name", THINGS)
def test_it_is_one_object_of_its_labels_and_height_that_stands_on_the_ground_and_is_seen(name: str) -> None:
    make, labels, (low, high) = THINGS[name]
    on = stage()
    make(on)
    assert {part.object_id for part in on.parts} == {3}
    assert set(on.labels) <= labels
    assert {slot.material for slot in on.slots} | {slot.blend for slot in on.slots} <= {*NAMES, None}
    heights = np.concatenate([part.solid.corners[:, 2] for part in on.parts])
    assert low <= heights.max() <= high + 1e-9
    assert -0.6 < heights.min() < 0.6
    assert materials_in_view(on), "every face that is seen has a slot"


def materials_in_view(on: Stage) -> set[str]:
    hits = rasterise(CAMERA, on.parts)
    met = hits.part >= 0
    pairs = {*zip(hits.part[met].tolist(), hits.face[met].tolist(), strict=True)}
    return {on.slots[on.parts[part].slots[face]].material for part, face in pairs}


def test_a_car_shows_paint_glass_tyres_and_rims_and_its_wheels_reach_the_road() -> None:
    on = stage()
    objects.add_car(on, Pose(3.0, 12.0, 0.5))
    assert materials_in_view(on) >= {"car_paint", "glass", "tyre", "bare_metal"}
    tyres = [part.solid for part in on.parts if on.slots[part.slots[0]].material == "tyre"]
    np.testing.assert_allclose([tyre.start[2] - tyre.radius for tyre in tyres], [0] * 4, atol=1e-9)


@pytest.mark.parametrize("lit", [0.0, 1.0])
def test_lamps_of_vehicles_are_lit_as_often_as_the_stage_says(lit: float) -> None:
    kinds = set()
    for seed in range(40):
        on = Stage(np.random.default_rng(seed), lit=lit)
        objects.add_car(on, HERE)
        kinds |= {slot.material for slot in on.slots} & set(LAMPS)
    assert kinds == (set(LAMPS) if lit else {"led_red", "bulb_red"}), "brakes are red when all else is off"


@pytest.mark.parametrize("seed", range(6))
def test_signs_show_their_face_to_who_comes_along(seed: int) -> None:
    for heading, shown in ((0.0, True), (np.pi, False)):
        on = Stage(np.random.default_rng(seed))
        objects.add_sign(on, Pose(0, 10.0, heading))
        assert ("sign_paint" in materials_in_view(on)) == shown


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


@pytest.mark.parametrize(
    ("face", "point", "slot"),
    [
        (REAR, (4.5, 10, 4.6), PANE),
        (REAR, (4.5, 10, 3.5), WALL),  # below the sill
        (REAR, (6.0, 10, 4.6), WALL),  # between two windows
        (REAR, (5.15, 10, 4.6), FRAME),
        (LEFT, (0, 14.5, 4.6), PANE),
        (TOP, (4.5, 14.5, 6.0), WALL),
        (REAR, (1.5, 10, 1.0), DOOR),  # every third bay, on the ground floor
        (REAR, (10.5, 10, 1.0), DOOR),
        (REAR, (4.5, 10, 0.5), WALL),
        (REAR, (1.5, 10, 4.6), PANE),
    ],
)
def test_windows_and_doors_sit_in_the_middle_of_their_bays(face: int, point: tuple, slot: int) -> None:
    place = np.array(point, np.float32)[:, None]
    assert FACADE(HOUSE, place, np.array([face], np.uint8), np.array([WALL], np.int32)) == [slot]


def test_turned_houses_carry_their_windows_along() -> None:
    pose = Pose(-3, 40, 0.7)
    turned = box(pose, (0, 12, 0, 9), 0, 6)
    point = pose.point(4.5, 0, 4.6).astype(np.float32)[:, None]
    assert FACADE(turned, point, np.array([REAR], np.uint8), np.array([WALL], np.int32))[0] == PANE


def test_frames_follow_the_edges_of_the_chosen_faces() -> None:
    points = np.array([[0.05, 6.0, 0.05, 6.0], [10, 10, 19, 10], [3.0, 5.95, 3.0, 3.0]], np.float32)
    faces, panes = np.array([REAR, REAR, FRONT, REAR], np.uint8), np.full(4, PANE, np.int32)
    assert Framed(0.1, FRAME, (REAR,))(HOUSE, points, faces, panes).tolist() == [FRAME, FRAME, PANE, PANE]


def test_round_things_have_no_frames() -> None:
    ball, point = Ellipsoid(np.zeros(3), np.ones(3)), np.zeros((3, 1), np.float32)
    with pytest.raises(TypeError, match="Ellipsoid"):
        Framed(0.1, FRAME)(ball, point, np.zeros(1, np.uint8), np.zeros(1, np.int32))
