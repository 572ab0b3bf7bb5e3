import numpy as np
import pytest

from hsiutils.simulate.materials import NAMES
from hsiutils.simulate.surfaces import Slot
from hsiutils.simulate.textures import PLAIN, TEXTURES, on_plane, on_solids, texture_table

SLOTS = (Slot("grass", "dry_grass", 1), Slot("skin", None, 2), Slot("car_paint", "soil", 3))
TABLE = texture_table(SLOTS)
PLACES = np.random.default_rng(1).uniform(-30, 30, (3, 20_000)).astype(np.float32)


def test_every_texture_is_of_a_material_that_exists() -> None:
    assert set(TEXTURES) <= set(NAMES)


def test_table_holds_each_slot_s_numbers() -> None:
    grass = TEXTURES["grass"]
    assert TABLE[:, 0].tolist() == pytest.approx([grass.coarse, grass.medium, grass.fine, grass.mix, grass.mix_spread])
    assert TABLE[0, 1] == pytest.approx(PLAIN.coarse)
    assert texture_table(()).shape == (5, 0)


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_brightness_has_the_stated_spread_about_one(slot: int) -> None:
    index = np.full(PLACES.shape[1], slot, dtype=np.int32)
    brightness, mix = on_plane(TABLE, index, PLACES[0], PLACES[1], np.zeros(index.size, np.float32))
    assert brightness.mean() == pytest.approx(1, abs=0.03)
    assert brightness.std() == pytest.approx(np.linalg.norm(TABLE[:3, slot]), rel=0.25, abs=0.005)
    assert mix.mean() == pytest.approx(TABLE[3, slot], abs=0.05)
    assert mix.min() >= 0
    assert mix.max() <= 1


def test_far_away_only_the_coarse_octave_is_left() -> None:
    index = np.zeros(PLACES.shape[1], dtype=np.int32)
    brightness, _ = on_plane(TABLE, index, PLACES[0], PLACES[1], np.full(index.size, 0.5, np.float32))
    assert brightness.std() == pytest.approx(TABLE[0, 0], rel=0.3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_texture_on_things_does_not_depend_on_the_way_they_face_from(axis: int) -> None:
    """It varies across a face, and not along its normal."""
    normals = np.zeros_like(PLACES)
    normals[axis] = -1
    index = np.zeros(PLACES.shape[1], dtype=np.int32)
    still = np.zeros(index.size, np.float32)
    here, _ = on_solids(TABLE, index, PLACES, normals, still)
    for moved_axis in range(3):
        moved = PLACES.copy()
        moved[moved_axis] += 0.5
        there, _ = on_solids(TABLE, index, moved, normals, still)
        assert np.allclose(here, there) == (moved_axis == axis)
