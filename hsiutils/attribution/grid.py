"""From a layer's own grid to the image: upsampling, and what it does to a sum."""

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]
"""(rows, columns)."""


def to_image(values: Tensor, padded: Size, image: Size) -> Tensor:
    """Maps (n, k, h', w') on a layer's grid, bilinear on the padded image, cropped to the image: (n, k, h, w).

    A sum over the map grows by about the ratio of the pixels; upsampled maps close at no layer but those of full size.
    """
    if tuple(values.shape[2:]) != padded:
        values = functional.interpolate(values, padded, mode="bilinear", align_corners=False)
    return values[:, :, : image[0], : image[1]]


def upsampling_weights(grid: Size, padded: Size, image: Size, like: Tensor) -> Tensor:
    """How often each pixel (h', w') of a layer counts in the sum of its upsampled map: the adjoint of `to_image`."""
    with torch.enable_grad():
        values = torch.zeros((1, 1, *grid), dtype=like.dtype, device=like.device, requires_grad=True)
        (weights,) = torch.autograd.grad(to_image(values, padded, image).sum(), values)
    return weights[0, 0]
