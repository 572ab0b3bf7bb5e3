import numpy as np
import pytest

from hsiutils.simulate.camera import label_tiles, tile_majority, tile_mean

TILE = (5, 5)


def picture(rows: int = 12, columns: int = 12, code: int = 1) -> np.ndarray:
    return np.full((rows * 5, columns * 5), code, np.uint8)


@pytest.mark.parametrize("code", range(1, 11))
def test_a_plain_picture_keeps_its_code(code: int) -> None:
    np.testing.assert_array_equal(label_tiles(picture(code=code), TILE), np.full((12, 12), code))


def test_void_runs_along_the_border_of_two_classes_and_nowhere_else() -> None:
    rays = picture(code=3)
    rays[:, 30:] = 6  # exactly between tile columns 5 and 6
    labels = label_tiles(rays, TILE)
    np.testing.assert_array_equal(np.unique(labels[:, :5]), [3])
    np.testing.assert_array_equal(np.unique(labels[:, 5:7]), [0])
    np.testing.assert_array_equal(np.unique(labels[:, 7:]), [6])


def test_thin_marks_on_the_road_survive() -> None:
    rays = picture()
    rays[:, 25:30] = 2
    labels = label_tiles(rays, TILE)
    np.testing.assert_array_equal(labels[6], [1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1])


def test_a_mixed_tile_is_void_and_a_nearly_pure_one_is_not() -> None:
    rays = picture()
    rays[30:32, 30:35] = 2  # 40 % of the tile
    rays[10:11, 10:15] = 2  # 20 % of another
    labels = label_tiles(rays, TILE)
    assert labels[6, 6] == 0
    assert labels[2, 2] == 1
    assert (labels == 0).sum() == 1


def test_tile_mean_and_majority_by_hand() -> None:
    values = np.arange(36).reshape(6, 6)
    np.testing.assert_allclose(tile_mean(values, (3, 2)), [[6.5, 8.5, 10.5], [24.5, 26.5, 28.5]])
    votes = np.array([[7, 7, 2, 2], [7, 1, 2, 9], [4, 5, 9, 9], [3, 6, -1, -1]])
    np.testing.assert_array_equal(tile_majority(votes, (2, 2)), [[7, 2], [3, -1]])


def test_majority_agrees_with_counting() -> None:
    values = np.random.default_rng(0).integers(-1, 4, (20, 30))
    fast = tile_majority(values, (5, 5))
    for row in range(4):
        for column in range(6):
            own, count = np.unique(values[row * 5 : row * 5 + 5, column * 5 : column * 5 + 5], return_counts=True)
            assert fast[row, column] == own[count.argmax()]
