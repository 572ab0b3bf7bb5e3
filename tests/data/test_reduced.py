from pathlib import Path

import numpy as np
import pytest
from other_kinds import SIZE, codes_of, image_of, rgb_set

from hsiutils.data.inputs import fit_inputs
from hsiutils.data.reduced import Reduced
from hsiutils.data.source import open_dataset


@pytest.fixture
def data(tmp_path: Path) -> Reduced:
    return Reduced.of(open_dataset(rgb_set(tmp_path)), 3)


def test_a_pixel_is_the_mean_of_its_block_and_has_the_label_of_its_middle(data: Reduced) -> None:
    rows, columns = SIZE[0] // 3, SIZE[1] // 3
    assert SIZE[1] > 3 * columns  # what fills no block is left out
    assert data.sensor.tiles == (rows, columns)
    image = np.moveaxis(image_of("a"), -1, 0)[:, : 3 * rows, : 3 * columns] / 255
    pixels = [image[:, i::3, j::3] for i in range(3) for j in range(3)]
    np.testing.assert_allclose(data.cube("a"), sum(pixels) / 9, rtol=1e-6)
    np.testing.assert_array_equal(data.labels("a"), codes_of("a", count=12)[1::3, 1::3][:rows, :columns])
    np.testing.assert_array_equal(Reduced.of(data.whole, 1).cube("a"), data.whole.cube("a"))


def test_it_is_a_data_set_like_any_other(data: Reduced) -> None:
    image, truth = data.scenes("train", fit_inputs("all", data))[0]
    assert image.shape == (3, *truth.shape) == (3, *data.sensor.tiles)
    assert (data.origin, data.classes, data.files("a")) == ("real", data.whole.classes, data.whole.files("a"))
    assert data.fingerprint() != Reduced.of(data.whole, 1).fingerprint()
    assert not Reduced.recognises(data.root)
    with pytest.raises(NotImplementedError, match="made smaller"):
        Reduced.open(data.root)


@pytest.mark.parametrize("factor", [0, 99])
def test_nothing_smaller_than_a_pixel(data: Reduced, factor: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to .*, got {factor}"):
        Reduced.of(data.whole, factor)
