from collections.abc import Sequence

import numpy as np
import pytest

from hsiutils.simulate.materials import NAMES
from hsiutils.simulate.surfaces import TEXTURES, Noise, Slot, coordinates_on, texture_table, textured

SLOTS = (Slot("grass", "dry_grass", 1), Slot("skin", None, 2), Slot("car_paint", "soil", 3))
TABLE = texture_table(SLOTS)
PLACES = np.random.default_rng(1).uniform(-30, 30, (3, 20_000)).astype(np.float32)


def dressed(slot: int, place: Sequence[np.ndarray], spacing: float) -> tuple[np.ndarray, np.ndarray]:
    count = PLACES.shape[1]
    numbers, spread = TABLE[:, np.full(count, slot)], np.full(count, spacing, np.float32)
    return textured(numbers, tuple(place), spread, (2.3, 0.45))  # type: ignore[arg-type]


def test_table_holds_each_slot_s_numbers() -> None:
    assert set(TEXTURES) <= set(NAMES)
    assert TABLE[:, 0].tolist() == pytest.approx(TEXTURES["grass"])
    assert TABLE[:, 1].tolist() == pytest.approx([0.05, 0.03, 0.03, 0, 0]), "a material without texture of its own"
    assert texture_table(()).shape == (5, 0)


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_brightness_has_the_stated_spread_about_one(slot: int) -> None:
    brightness, mix = dressed(slot, PLACES[:2], 0.0)
    assert brightness.mean() == pytest.approx(1, abs=0.03)
    assert brightness.std() == pytest.approx(np.linalg.norm(TABLE[:3, slot]), rel=0.25, abs=0.005)
    assert mix.mean() == pytest.approx(TABLE[3, slot], abs=0.05)
    assert mix.min() >= 0
    assert mix.max() <= 1


def test_far_away_only_the_coarse_octave_is_left() -> None:
    brightness, _ = dressed(0, PLACES[:2], 0.5)
    assert brightness.std() == pytest.approx(TABLE[0, 0], rel=0.3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_texture_on_things_does_not_depend_on_the_way_they_face_from(axis: int) -> None:
    """It varies across a face, and not along its normal."""
    normals = np.zeros_like(PLACES)
    normals[axis] = -1
    here, _ = dressed(0, coordinates_on(PLACES, normals), 0.0)
    for moved_axis in range(3):
        moved = PLACES.copy()
        moved[moved_axis] += 0.5
        there, _ = dressed(0, coordinates_on(moved, normals), 0.0)
        assert np.allclose(here, there) == (moved_axis == axis)


def noise(seed: int, period_m: float, right: float = 0.0, spacing_m: float = 0.0) -> np.ndarray:
    return Noise(seed).plane(PLACES[0] + np.float32(right), PLACES[1], period_m, spacing_m)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return abs(float(np.corrcoef(one, other)[0, 1]))


def test_noise_is_standardised_fixed_to_the_world_and_varies_over_its_period() -> None:
    value = noise(1, 2.0)
    assert value.mean() == pytest.approx(0, abs=0.1)
    assert value.std() == pytest.approx(0.9, abs=0.15)
    np.testing.assert_array_equal(value[:100], Noise(1).plane(PLACES[0, :100], PLACES[1, :100], 2.0))
    assert correlation(value, noise(1, 2.0, right=0.05)) > 0.98
    for unrelated in (noise(1, 2.0, right=1.5), noise(2, 2.0), noise(1, 3.0)):
        assert correlation(value, unrelated) < 0.4


def test_detail_that_the_rays_cannot_carry_fades() -> None:
    assert noise(1, 1.0, spacing_m=0.375).std() == pytest.approx(noise(1, 1.0, spacing_m=0.2).std() / 2, rel=1e-3)
    assert not noise(1, 1.0, spacing_m=0.5).any()


def test_space_noise_varies_along_every_axis() -> None:
    here = Noise(1).space(PLACES, 1.0)
    assert here.std() == pytest.approx(1, abs=0.1)
    for axis in np.eye(3, dtype=np.float32):
        assert correlation(here, Noise(1).space(PLACES + 1.7 * axis[:, None], 1.0)) < 0.4
