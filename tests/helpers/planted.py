"""A network whose channels are known, and scenes that show what it knows.

Inputs: red, near infrared, and an input of pure noise. Channels of conv2d_1 and, passed on through the skip
connection, of conv2d_5, the last before the head: 0 vegetation's red edge (nir - red), 1 vertical brightness edges,
2 noise about 1, 3 nothing. Nothing comes up from below.
"""

import numpy as np
import torch
import xarray as xr

from hsiutils.analysis.edges import border_probes, border_sums
from hsiutils.analysis.survey import survey
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.unet import UNet, UNetConfig

RED_EDGE, EDGES, NOISE, DEAD = range(4)
ROAD, MARKS, VEGETATION, SKY, OTHER = range(5)
SPECTRA = np.array([(0.2, 0.2), (0.8, 0.8), (0.05, 0.6), (0.7, 0.6), (0.4, 0.5)])
SHAPE = (26, 39)


def planted(head=None, bias=None):
    """The network; `head` is (classes, channels)."""
    model = UNet(UNetConfig(channels=3, depth=1, filters=4, class_names=CLASSES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for block in model.blocks():
            for norm in (block.norm1, block.norm2):
                norm.weight.fill_(float(np.sqrt(1 + norm.eps)))
        first = model.encoder[0]
        first.conv1.weight[0, 0, 1, 1], first.conv1.weight[0, 1, 1, 1] = -1, 1
        for row, sign in ((1, 1), (3, -1)):  # rising and falling edges, which conv2 joins
            first.conv1.weight[row, :2, 1, 0], first.conv1.weight[row, :2, 1, 2] = -sign, sign
        first.conv1.weight[2, 2, 1, 1] = 1
        for channel in range(3):
            first.conv2.weight[channel, channel, 1, 1] = 1
        first.conv2.weight[EDGES, 3, 1, 1] = 1
        last = model.decoder[0].block
        for channel in range(4):
            last.conv1.weight[channel, 4 + channel, 1, 1] = last.conv2.weight[channel, channel, 1, 1] = 1
        weights = vegetation_head() if head is None else np.asarray(head)
        model.head.weight.copy_(torch.tensor(weights, dtype=torch.float32)[:, :, None, None])
        if bias is not None:
            model.head.bias.copy_(torch.tensor(bias, dtype=torch.float32))
    return model


def vegetation_head():
    """Vegetation by its red edge, Road Marks by brightness edges, noise for nobody."""
    head = np.zeros((5, 4))
    head[VEGETATION, RED_EDGE] = 4
    head[ROAD, RED_EDGE] = -2
    head[MARKS, EDGES] = 1
    head[ROAD, EDGES] = -0.5
    head[:, NOISE] = 0.1
    return head


def scene(seed, shape=SHAPE, noise=0.2):
    """Vertical stripes of the five classes, in a random order and of random widths, with one void column a border."""
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(4, shape[1] - 4, 6), len(CLASSES) - 1, replace=False))
    stripe = np.searchsorted(edges, np.arange(shape[1]), side="right")
    truth = np.broadcast_to(rng.permutation(len(CLASSES))[stripe], shape).copy()
    image = np.empty((3, *shape), dtype=np.float32)
    image[:2] = np.moveaxis(SPECTRA[truth], -1, 0)
    image[2] = 1 + noise * rng.standard_normal(shape)
    truth[:, edges] = VOID
    return torch.from_numpy(image), torch.from_numpy(truth.astype(np.int64))


def scenes(count=6, **settings):
    return [scene(seed, **settings) for seed in range(count)]


def trained_like(seed=0, channels=3, depth=2, filters=4):
    """A random network whose normalisation and biases are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    model = UNet(UNetConfig(channels=channels, depth=depth, filters=filters, class_names=CLASSES), generator).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2, generator=generator)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3, generator=generator)
    return model


def sums(model, pairs, kind="head", names=None):
    """What `survey` keeps of one network on some scenes."""
    return survey([(model, pairs)], names)[0][kind]


def input_edges(pairs):
    """Borders in the inputs of scenes themselves."""
    return xr.concat([border_sums(x.numpy(), border_probes(y.numpy(), CLASSES)) for x, y in pairs], "scene")


class Counted(list):
    """Scenes that know how often one was read."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


def spectral_network(weights):
    """A network of one convolution: Road's logit is the weighted sum of the bands, the others' are zero."""
    model = UNet(UNetConfig(channels=len(weights), depth=1, filters=len(weights), class_names=CLASSES)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        first, last = model.encoder[0], model.decoder[0].block
        for block in (first, last):
            for norm in (block.norm1, block.norm2):
                norm.weight.fill_(float(np.sqrt(1 + norm.eps)))
        for band in range(len(weights)):
            for conv in (first.conv1, first.conv2, last.conv2):
                conv.weight[band, band, 1, 1] = 1
            last.conv1.weight[band, len(weights) + band, 1, 1] = 1
        model.head.weight[0, :, 0, 0] = torch.as_tensor(weights)
    return model
