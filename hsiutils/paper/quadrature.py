"""How far Integrated Gradients by quadrature are off where the integral is known: a small network on a few pixels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from hsiutils.attribution.exact_path import quadrature_errors
from hsiutils.attribution.targets import pixel
from hsiutils.models.unet import UNet, UNetConfig

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

HALF = 6
"""Half the side of the patch, pixels."""


def path_errors(run: "Run", variant: str, nodes: Sequence[int] = (4, 16, 64, 256, 1024)) -> pd.DataFrame:
    """Errors against the exact integral, from the average pixel of a patch to the patch.

    The patch is the middle of the run's first test scene, the network has a depth of 1, 4 filters and its initial
    weights, and the mean is over the logits of the patch's middle pixel.

    Returns
    -------
    As `hsiutils.attribution.exact_path.quadrature_errors`.
    """
    scene = run.inputs(variant, run.data.names("test")[:1])[0][0].double()
    row, column = (size // 2 for size in scene.shape[1:])
    patch = scene[:, row - HALF : row + HALF, column - HALF : column + HALF]
    config = UNetConfig(len(patch), depth=1, filters=4)
    network = UNet(config, torch.Generator().manual_seed(run.seed)).double().eval()
    asked = [pixel(network, patch, index, HALF, HALF) for index in range(config.classes)]
    return quadrature_errors(network, patch, asked, nodes, reference=patch.mean((1, 2)))
