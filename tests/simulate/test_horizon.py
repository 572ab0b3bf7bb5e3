import numpy as np
import pytest

from hsiutils.simulate.compose import Horizon

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
