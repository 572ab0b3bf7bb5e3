"""A scene of stripes, its light, and a small network that the studies of bands and paths are tried on."""

import numpy as np
import torch

from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.unet import UNet, UNetConfig

AVERAGE = np.array([0.2, -0.1, 0.3])
TRUTH = np.repeat(np.array([[0, 0, 2, 2, 3, 3, VOID, VOID]]), 8, axis=0)
LIGHT = np.repeat(np.array([[1.0], [0.5], [0.2], [np.nan]]), 2, axis=0) * np.ones((8, 8))


def small_network():
    return (
        UNet(UNetConfig(channels=3, depth=2, filters=2, class_names=CLASSES), torch.Generator().manual_seed(3))
        .double()
        .eval()
    )


def small_image():
    return torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
