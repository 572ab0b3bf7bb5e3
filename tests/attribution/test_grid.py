import pytest
import torch

from hsiutils.attribution.hooks import to_image, upsampling_weights


@pytest.mark.parametrize("grid", [(2, 3), (4, 6), (8, 12)])
def test_weights_are_the_adjoint_of_upsampling(grid):
    values = torch.randn(1, 1, *grid, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = upsampling_weights(grid, (8, 12), (7, 10), values)
    assert (weights * values[0, 0]).sum().item() == pytest.approx(to_image(values, (8, 12), (7, 10)).sum().item())


def test_full_size_maps_are_only_cropped():
    values = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert torch.equal(to_image(values, (3, 4), (2, 3)), values[:, :, :2, :3])


def test_upsampling_keeps_constants_and_multiplies_sums():
    values = torch.full((1, 1, 2, 3), 7.0)
    assert (to_image(values, (8, 12), (8, 12)) == 7).all()
    assert upsampling_weights((2, 3), (8, 12), (8, 12), values).sum() == 96
