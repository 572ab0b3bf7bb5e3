"""Small networks as other people build them, with weights at random: something to audit where nothing else is at hand.

Their blocks are those of torchvision's FCN on a ResNet, with one in-place ReLU called twice, and squeeze and excitation
(Hu et al. 2018, arXiv 1709.01507); `write_chain` writes a network as Keras writes a chain of layers.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.data.atomic import replacing


class Residual(nn.Module):
    """A block of torchvision's ResNet: one ReLU module used twice, in place."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1, gate: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.gate = gate or nn.Identity()
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h', w')."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.gate(self.bn2(self.conv2(out)))
        out += self.downsample(x)
        return torch.as_tensor(self.relu(out))


class Gate(nn.Module):
    """Squeeze and excitation: each channel times a sigmoid of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, 2), nn.ReLU(), nn.Linear(2, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same."""
        n, k = x.shape[:2]
        return x * torch.as_tensor(self.fc(x.mean((2, 3)).view(n, k))).view(n, k, 1, 1)


class FCN(nn.Module):
    """A fully convolutional network on residual blocks, at an eighth of the image; it returns a dict, under "out"."""

    def __init__(self, channels: int = 3, classes: int = 4, width: int = 8, gated: bool = False) -> None:
        super().__init__()
        stem = [nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        gate = Gate(2 * width) if gated else None
        blocks = [Residual(width, width, 2), Residual(width, 2 * width, dilation=2, gate=gate)]
        self.backbone = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), *blocks)
        head = [nn.Conv2d(2 * width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.classifier = nn.Sequential(*head, nn.Dropout(0.1), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(n, channels, h, w) -> logits (n, classes, h, w)."""
        logits = self.classifier(self.backbone(x))
        return {"out": functional.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)}


def fcn(seed: int = 35) -> FCN:
    """A network that is piecewise linear: three channels, four classes, of which other seeds may see fewer.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> hu.decompose(fcn(), torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))).closes
    True
    """
    return _random(seed, gated=False)


def squeeze(seed: int = 35) -> FCN:
    """The same with squeeze and excitation, which is a smooth gate: there is no exact decomposition."""
    return _random(seed, gated=True)


def _random(seed: int, gated: bool) -> FCN:
    """In evaluation, its statistics and biases as training leaves them, far from 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FCN(gated=gated)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in ((module.weight, 0.5, 2), (module.running_var, 0.05, 0.5)):
                    nn.init.uniform_(torch.as_tensor(tensor), low, high)
                for tensor in (module.bias, module.running_mean):
                    nn.init.normal_(torch.as_tensor(tensor), 0, 0.2)
    return model.eval()


def write_chain(path: Path | str, seed: int = 0, size: tuple[int, int] = (80, 160)) -> Path:
    """Write a Keras model (.h5) of three channels and one class: norm, two convolutions, pooling, and back up."""
    rng = np.random.default_rng(seed)

    def weights(outputs: int, *last: int) -> dict[str, NDArray[np.float64]]:
        return {"kernel": rng.normal(0, 0.2, (3, 3, *last)), "bias": rng.normal(0, 0.1, outputs)}

    statistics = {"gamma": 1, "beta": 0, "moving_mean": 0.4, "moving_variance": 0.05}
    arrays = {
        "batch_normalization": {role: np.full(3, value, dtype=float) for role, value in statistics.items()},
        "conv2d": weights(8, 3, 8),
        "conv2d_1": weights(8, 8, 8),
        "conv2d_transpose": weights(8, 8, 8),  # of transposed ones the outputs come before the inputs
        "conv2d_transpose_1": weights(1, 1, 8),
    }
    described = [
        ("BatchNormalization", {"name": "batch_normalization", "epsilon": 1e-3, "batch_input_shape": [None, *size, 3]}),
        ("Conv2D", {"name": "conv2d", "activation": "relu", "padding": "valid"}),
        ("Conv2D", {"name": "conv2d_1", "activation": "relu", "padding": "valid"}),
        ("MaxPooling2D", {"name": "max_pooling2d", "pool_size": [2, 2]}),
        ("Dropout", {"name": "dropout", "rate": 0.2}),
        ("UpSampling2D", {"name": "up_sampling2d", "size": [2, 2]}),
        ("Conv2DTranspose", {"name": "conv2d_transpose", "activation": "relu", "padding": "valid"}),
        ("Conv2DTranspose", {"name": "conv2d_transpose_1", "padding": "valid"}),
    ]
    layers = [{"class_name": kind, "config": settings} for kind, settings in described]
    with replacing(Path(path)) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers})
        for layer, roles in arrays.items():
            for role, values in roles.items():
                file[f"model_weights/{layer}/{layer}/{role}:0"] = values.astype(np.float32)
    return Path(path)
