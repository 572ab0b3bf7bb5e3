import numpy as np
import pytest

from hsiutils.data.classes import MARKS
from hsiutils.data.names import Conditions
from hsiutils.simulate.compose import Horizon, compose
from hsiutils.simulate.materials import NAMES

KINDS = ["nf4121_001", "nf3122_002", "nf2123_003", "nf1331_004", "nf4332_005", "nf1413_006"]


@pytest.fixture(scope="module", params=KINDS)
def conditions(request: pytest.FixtureRequest) -> Conditions:
    return Conditions.parse(request.param)


def test_the_camera_drives_in_a_lane_of_its_own_direction_on_asphalt(conditions: Conditions) -> None:
    for seed in range(15):
        road = compose(conditions, seed).road
        v, direction = road.lanes[road.own]
        here = road.curve.across(np.zeros(1, np.float32), np.zeros(1, np.float32))[0]
        assert direction == 1
        assert abs(here - v) <= 0.31
        # Right-hand traffic: everybody who comes towards the camera is to the left of it.
        places, directions = zip(*road.lanes, strict=True)
        assert list(places) == sorted(places)
        assert list(directions) == sorted(directions)
        assert np.all(np.diff(road.edges) > -1e-6)
        assert len(road.zones) == road.edges.size + 2
        lanes = np.array(places, np.float32)
        assert {road.zones[i].kind for i in road.zone(np.full_like(lanes, 500), lanes)} == {"asphalt"}


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


def test_same_seed_and_name_give_the_same_scene_others_do_not(conditions: Conditions) -> None:
    one, same, other = (compose(conditions, seed) for seed in (1, 1, 2))
    assert (one.film > 0) == (conditions.weather == "wet"), "rain falls only when it is wet"
    assert one.stage.slots == same.stage.slots
    assert one.pose == same.pose
    np.testing.assert_array_equal(
        np.stack([part.solid.corners for part in one.stage.parts]),
        np.stack([part.solid.corners for part in same.stage.parts]),
    )
    assert one.pose != other.pose


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(1, {"sidewalk", "parking", "tyre", "cloth"}), (2, {"gravel", "leaves", "bark"}), (3, {"bare_metal", "concrete"})],
)
def test_each_kind_of_road_has_what_makes_it_one(kind: int, expected: set[str]) -> None:
    made = [compose(Conditions.parse(f"nf412{kind}_{number:03d}"), 0).stage for number in range(1, 9)]
    materials = {slot.material for stage in made for slot in stage.slots}
    assert expected <= materials
    assert ("sidewalk" in materials) == (kind == 1)


EYE = np.array([[0.0], [0.0], [1.4]], np.float32)


def test_flat_skyline_is_met_up_to_its_height() -> None:
    hills = Horizon(300.0, 20.0, 0.0, (7,), seed=1)
    direction = np.array([[0, 0, 3], [1, 1, 4], [18.0 / 300, 19.0 / 300, 5 * 18 / 300]], np.float32)
    t, slot = hills.meet(EYE, direction)
    assert t[0] == pytest.approx(300)
    assert np.isinf(t[1])
    assert t[2] == pytest.approx(60), "the ring is round"
    assert slot[0] == 7


def test_a_rough_skyline_differs_by_azimuth_and_seed() -> None:
    azimuth = np.linspace(-0.4, 0.4, 200)
    direction = np.stack([np.sin(azimuth), np.cos(azimuth), np.full_like(azimuth, 0.05)]).astype(np.float32)
    one, other = (np.isfinite(Horizon(300.0, 16.0, 8.0, (1,), seed).meet(EYE, direction)[0]) for seed in (3, 77))
    assert 0 < one.mean() < 1
    assert (one != other).any()


def test_slots_rise_from_the_foot_to_the_crest() -> None:
    hills = Horizon(300.0, 40.0, 0.0, (1, 2, 3), seed=1)
    azimuth = np.linspace(-0.5, 0.5, 500)

    def mean_slot(height: float) -> float:
        direction = np.stack([np.sin(azimuth), np.cos(azimuth), 0 * azimuth + (height - 1.4) / 300])
        return float(hills.meet(EYE, direction.astype(np.float32))[1].mean())

    assert mean_slot(1.0) < mean_slot(15.0) < mean_slot(38.0)


def test_brightness_varies_about_one() -> None:
    points = np.random.default_rng(0).uniform((-150, 250, 0), (150, 260, 30), (5000, 3)).T.astype(np.float32)
    brightness = Horizon(300.0, 40.0, 0.0, (1,), 1).brightness(points)
    assert brightness.mean() == pytest.approx(1, abs=0.1)
    assert brightness.std() > 0.1
