"""A network as captum can take it: one number an image, and no module or tensor that captum's hooks trip over.

Two things of a U-Net break captum 0.9 silently, so that DeepLIFT leaks by 1e-3 and LRP returns another method's
numbers; tests/attribution/test_gradients.py shows both:

- captum hangs a module's backward rule on the tensor that the module reads. Max-pooling reads the tensor that the skip
  connection carries too, so the rule replaces the skip's share as well. Here pooling reads a copy.
- LRP starts from the gradient of the explained number, which is right for one logit only. Here the sum over the target
  is a module with a rule of its own, so that each logit starts with its own relevance.
"""

from typing import cast

import torch
from torch import Tensor, nn

from hsiutils.attribution.affine import input_image
from hsiutils.attribution.capture import INPUT
from hsiutils.attribution.targets import Target
from hsiutils.unet import UNet


class Explained(nn.Module):
    """Images (n, channels, h, w) -> the target's value for each, (n,).

    A copy with batch normalisation folded in (DeepLIFT and LRP have no use for it as a layer of its own), so that
    whatever captum does to it, interrupted or not, the model is not touched.
    """

    def __init__(self, model: UNet, target: Target) -> None:
        super().__init__()
        self.network = _with_modules_of_their_own(model.folded().requires_grad_(False))
        self.value = _Value(target)

    def forward(self, x: Tensor) -> Tensor:
        """Value of the target, (n,)."""
        return cast(Tensor, self.value(self.network(x)))

    def at(self, image: Tensor) -> float:
        """Value of the target for one image (channels, h, w)."""
        with torch.no_grad():
            return float(self(image[None]))


class _Value(nn.Module):
    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, logits: Tensor) -> Tensor:
        return self.target.value(logits)


class _PoolOfCopy(nn.Module):
    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.pool(x.clone()))


def _with_modules_of_their_own(network: UNet) -> UNet:
    network.pools = nn.ModuleList(_PoolOfCopy(pool) for pool in network.pools)
    for block in network.blocks():
        # What does nothing: LRP wants one use a module, which folding's Identity is not, and knows Dropout as a module
        # that hands relevance on. An Identity of its own would not do: it returns the very tensor that it was given.
        block.norm1, block.norm2, block.dropout = (nn.Dropout(0.0).eval() for _ in range(3))
    return network


def prepared(model: UNet, x: Tensor, target: Target, layer: str | None) -> tuple[Explained, Tensor]:
    """The network for captum, and the image (channels, h, w), for a method that explains by the input.

    Raises
    ------
    ValueError
        If a layer other than the input was asked for, or x does not fit the network.
    """
    if layer not in (None, INPUT):
        raise ValueError(f"this method attributes to the input, got layer {layer!r}: leave the layer out")
    return Explained(model, target), input_image(model, x)
