import numpy as np
import pytest
import torch

from hsiutils.attribution.targets import reference_image

IMAGE = torch.zeros(3, 2, 4)


@pytest.mark.parametrize("spectrum", [[1.0, 2.0, 3.0], np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0])])
def test_a_spectrum_stands_at_every_pixel(spectrum):
    found = reference_image(spectrum, IMAGE)
    assert found.dtype == IMAGE.dtype
    assert found[:, 1, 3].tolist() == found[:, 0, 0].tolist() == [1, 2, 3]


def test_a_number_stands_everywhere_and_an_image_stays():
    assert (reference_image(0.5, IMAGE) == 0.5).all()
    own = torch.arange(24.0).reshape(3, 2, 4)
    assert torch.equal(reference_image(own, IMAGE), own)


def test_the_result_can_be_written_to():
    reference_image(1.0, IMAGE)[0, 0, 0] = 2


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 2.0], np.zeros((3, 4)), np.zeros((1, 2, 4)), np.zeros((3, 4, 2))])
def test_another_shape_is_refused(wrong):
    with pytest.raises(ValueError, match=r"a spectrum \(3,\) or an image \(3, 2, 4\), got shape"):
        reference_image(wrong, IMAGE)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        reference_image(float("nan"), IMAGE)
