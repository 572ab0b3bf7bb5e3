"""Small scenes whose classes can be told by colour, for tests of training."""

import torch
from torch.utils.data import TensorDataset

from hsiutils.data.classes import VOID

COLOURS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])


def toy_scenes(count, seed, noise=0.1, size=(16, 24)):
    """Blocks of 8 x 8 pixels of one class, coloured by it, with a tenth of the pixels unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 5, (count, size[0] // 8, size[1] // 8), generator=generator)
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = COLOURS[labels].permute(0, 3, 1, 2) + noise * torch.randn(count, 3, *size, generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = VOID
    return TensorDataset(images, labels)
