import numpy as np
import pytest

from hsiutils.simulate.textures import Noise

RNG = np.random.default_rng(0)
PLACES = RNG.uniform(-40, 40, (3, 40_000)).astype(np.float32)


def test_noise_is_standardised_and_fixed_to_the_world() -> None:
    value = Noise(1).plane(PLACES[0], PLACES[1], 2.0)
    assert value.mean() == pytest.approx(0, abs=0.1)
    assert value.std() == pytest.approx(0.9, abs=0.15)
    np.testing.assert_array_equal(value[:100], Noise(1).plane(PLACES[0, :100], PLACES[1, :100], 2.0))


def test_seeds_and_periods_give_unrelated_fields() -> None:
    one = Noise(1).plane(PLACES[0], PLACES[1], 2.0)
    for other in (Noise(2).plane(PLACES[0], PLACES[1], 2.0), Noise(1).plane(PLACES[0], PLACES[1], 3.0)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_the_period_is_the_scale_on_which_it_changes() -> None:
    here = Noise(1).plane(PLACES[0], PLACES[1], 2.0)
    near = Noise(1).plane(PLACES[0] + np.float32(0.05), PLACES[1], 2.0)
    far = Noise(1).plane(PLACES[0] + np.float32(1.5), PLACES[1], 2.0)
    assert np.corrcoef(here, near)[0, 1] > 0.98
    assert abs(np.corrcoef(here, far)[0, 1]) < 0.4


def test_it_is_continuous() -> None:
    along = np.linspace(0, 20, 20_001, dtype=np.float32)
    value = Noise(1).plane(along, np.zeros_like(along), 2.0)
    assert np.abs(np.diff(value)).max() < 0.02


def test_detail_that_the_rays_cannot_carry_fades() -> None:
    full = Noise(1).plane(PLACES[0], PLACES[1], 1.0, 0.2).std()
    half = Noise(1).plane(PLACES[0], PLACES[1], 1.0, 0.375).std()
    assert half == pytest.approx(full / 2, rel=1e-3)
    assert not Noise(1).plane(PLACES[0], PLACES[1], 1.0, 0.5).any()


def test_space_noise_varies_along_every_axis() -> None:
    here = Noise(1).space(PLACES, 1.0)
    assert here.std() == pytest.approx(1, abs=0.1)
    for axis in np.eye(3, dtype=np.float32):
        there = Noise(1).space(PLACES + 1.7 * axis[:, None], 1.0)
        assert abs(np.corrcoef(here, there)[0, 1]) < 0.4
