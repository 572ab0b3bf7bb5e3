import numpy as np
import pytest
from miniature import KERB_V, road, stage

from hsiutils.simulate.ground import GroundHits, ground_slots, ground_texture, meet_ground, wetness
from hsiutils.simulate.roads import Line
from hsiutils.simulate.surfaces import texture_table

EYE = np.array([[0.0], [0.0], [1.4]], dtype=np.float32)


def meet(*directions: tuple[float, float, float], kerb: float = 0.12) -> GroundHits:
    return meet_ground(road(stage(), kerb=kerb), EYE, np.array(directions, dtype=np.float32).T)


def test_the_ground_is_met_where_the_ray_has_come_down_the_pavement_at_the_height_of_its_kerb() -> None:
    hits = meet((0.1, 1, -0.14), (0.5, 1, -0.128))
    np.testing.assert_allclose((hits.t, hits.u, hits.v), [(10, 10), (10, 10), (1, 5)], rtol=1e-5)
    np.testing.assert_array_equal(hits.normal.T, [(0, 0, 1)] * 2)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_ray_that_passes_below_the_kerb_s_edge_meets_its_face(side: int) -> None:
    # At 1.34 / 0.134 = 10 the ray is 6 cm above the ground and exactly over the kerb's line.
    hits = meet((side * KERB_V / 10, 1, -0.134))
    assert hits.normal[:, 0] == pytest.approx([-side, 0, 0])
    assert hits.t[0] == pytest.approx(10, rel=0.06)
    assert ground_slots(road(stage()), hits)[0] == road(stage()).kerb


def test_without_kerb_everything_is_level() -> None:
    hits = meet((0.4, 1, -0.134), (0.7, 1, -0.14), kerb=0.0)
    assert np.all(hits.normal[2] == 1)
    np.testing.assert_allclose(hits.t, [1.4 / 0.134, 10], rtol=1e-5)


def at(u: np.ndarray | float, v: np.ndarray | float) -> GroundHits:
    """Points of level ground."""
    made = np.broadcast_arrays(np.atleast_1d(u).astype(np.float32), np.atleast_1d(v).astype(np.float32))
    ahead, across = (part.ravel() for part in made)
    up = np.array([[0], [0], [1]], np.float32) * np.ones_like(ahead)
    return GroundHits(ahead, road(stage()).zone(ahead, across), ahead, across, up)


def test_slots_follow_the_cross_section_and_what_is_painted_on_it() -> None:
    made = road(stage(), marks=(Line(2.0, 0.2), Line(5.0, 0.5)))  # no paint on the pavement
    expected = {
        (10, 0): made.zones[2].slot,
        (10, 2.05): made.paint,
        (10, 5): made.zones[1].slot,
        (10, -9): made.zones[0].slot,
        (21, -2.5): made.patch,
        (15.2, -1.1): made.lid,
    }
    for (u, v), slot in expected.items():
        assert ground_slots(made, at(u, v))[0] == slot, (u, v)


def test_wheel_tracks_are_darker_than_the_middle_of_the_lane() -> None:
    on = stage()
    made = road(on)
    u = np.linspace(3, 300, 4000, dtype=np.float32)

    def mean_at(v: float) -> float:
        hits = at(u, v)
        brightness, mix = ground_texture(made, texture_table(on.slots), ground_slots(made, hits), hits, 0 * u + 0.01)
        assert np.all((mix >= 0) & (mix <= 1))
        return float(brightness.mean())

    assert mean_at(1.2) < mean_at(2.4) - 0.04
    assert mean_at(-1.2) < mean_at(-2.4) - 0.04


def test_puddles_stand_on_sealed_ground_and_grow_with_their_share() -> None:
    made, hits = road(stage()), at(np.linspace(2, 120, 500)[:, None], np.linspace(-6.9, 6.9, 200)[None, :])
    share = [float((wetness(made, hits, 0.5, puddles) == 1).mean()) for puddles in (0.0, 0.04, 0.08)]
    assert share[0] < share[1] < share[2] < 0.2
    assert not (wetness(made, hits, 0.5, 0.08) == 1)[np.abs(hits.v) > KERB_V].any()
