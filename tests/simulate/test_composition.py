import numpy as np
import pytest

from hsiutils.data.classes import MARKS
from hsiutils.data.names import Conditions
from hsiutils.simulate.compose import compose
from hsiutils.simulate.geometry import Cylinder
from hsiutils.simulate.materials import NAMES

KINDS = ["nf4121_001", "nf3122_002", "nf2123_003", "nf1331_004", "nf4332_005", "nf1413_006"]


@pytest.fixture(scope="module", params=KINDS)
def conditions(request: pytest.FixtureRequest) -> Conditions:
    return Conditions.parse(request.param)


def test_the_camera_drives_in_a_lane_of_its_own_direction(conditions: Conditions) -> None:
    for seed in range(15):
        corridor = compose(conditions, seed).corridor
        v, direction = corridor.lanes[corridor.own]
        here = corridor.road.curve.across(np.zeros(1, np.float32), np.zeros(1, np.float32))[0]
        assert direction == 1
        assert abs(here - v) <= 0.31


def test_oncoming_traffic_keeps_to_the_left(conditions: Conditions) -> None:
    """Right-hand traffic: everybody who comes towards the camera is to the left of it."""
    for seed in range(15):
        lanes = compose(conditions, seed).corridor.lanes
        assert [v for v, _ in lanes] == sorted(v for v, _ in lanes)
        assert [direction for _, direction in lanes] == sorted(direction for _, direction in lanes)


def test_strips_are_in_order_and_lanes_are_on_asphalt(conditions: Conditions) -> None:
    for seed in range(15):
        corridor = compose(conditions, seed).corridor
        road = corridor.road
        assert np.all(np.diff(road.edges) > -1e-6)
        assert len(road.zones) == road.edges.size + 1
        lanes = np.array(road.lanes, np.float32)
        kinds = {road.all_zones[i].kind for i in road.zone(np.full_like(lanes, 500), lanes)}
        assert kinds == {"asphalt"}


def test_only_known_materials_and_codes(conditions: Conditions) -> None:
    stage = compose(conditions, 3).stage
    assert {slot.material for slot in stage.slots} <= set(NAMES)
    assert {slot.blend for slot in stage.slots} - {None} <= set(NAMES)
    assert set(stage.labels) <= set(range(11))
    paints = [slot.material for slot, label in zip(stage.slots, stage.labels, strict=True) if label == MARKS]
    assert set(paints) == {"street_paint"}


def test_nothing_blocks_the_camera_s_lane_nearby(conditions: Conditions) -> None:
    """No solid stands in the few metres before the bumper."""
    for seed in range(10):
        scene = compose(conditions, seed)
        for part in scene.stage.parts:
            low, high = part.solid.corners.min(axis=0), part.solid.corners.max(axis=0)
            assert not (low[2] < 2 and low[0] < 0.8 and high[0] > -0.8 and low[1] < 5 and high[1] > -2), part


def test_the_rain_falls_only_when_it_is_wet(conditions: Conditions) -> None:
    film = compose(conditions, 0).film
    assert (film > 0) == (conditions.weather == "wet")


def test_same_seed_and_name_give_the_same_scene_others_do_not(conditions: Conditions) -> None:
    one, same, other = compose(conditions, 1), compose(conditions, 1), compose(conditions, 2)
    assert one.stage.slots == same.stage.slots
    assert one.pose == same.pose
    np.testing.assert_array_equal(
        np.stack([part.solid.corners for part in one.stage.parts]),
        np.stack([part.solid.corners for part in same.stage.parts]),
    )
    assert one.pose != other.pose


def test_towns_have_houses_and_highways_rails() -> None:
    """Over a few scenes each kind of road has what makes it one."""

    def materials(code: str) -> set[str]:
        made = [compose(Conditions.parse(f"nf412{code}_{number:03d}"), 0).stage for number in range(1, 9)]
        return {slot.material for stage in made for slot in stage.slots}

    assert {"sidewalk", "parking", "tyre", "cloth"} <= materials("1")
    assert {"gravel", "leaves", "bark"} <= materials("2")
    assert {"bare_metal", "concrete"} <= materials("3")
    assert "sidewalk" not in materials("3")


def test_many_poles_stand_upright() -> None:
    parts = compose(Conditions.parse("nf4121_001"), 0).stage.parts
    poles = [p.solid for p in parts if isinstance(p.solid, Cylinder) and p.solid.end[2] - p.solid.start[2] > 4]
    assert poles
    assert all(np.linalg.norm((pole.end - pole.start)[:2]) < 3 for pole in poles)
