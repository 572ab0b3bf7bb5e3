"""Networks as other libraries build them, small: torchvision's FCN and DeepLabV3, smp's U-Net, and single blocks."""

import copy

import torch
from torch import nn
from torch.nn import functional

from hsiutils.models.examples import Residual


def backbone(channels, width=4):
    stem = [nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
    return nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), Residual(width, width), Residual(width, 2 * width, dilation=2))


class Pooled(nn.Module):
    """The image-level branch of atrous spatial pyramid pooling."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.ReLU())

    def forward(self, x):
        return functional.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=False)


class DeepLab(nn.Module):
    def __init__(self, channels=3, classes=3, pyramid=True):
        super().__init__()
        self.backbone, self.pyramid = backbone(channels), pyramid
        if pyramid:
            self.branches = nn.ModuleList([nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=2, dilation=2), Pooled(8, 4)])
        self.project = nn.Sequential(nn.Conv2d(12 if pyramid else 8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(6, classes, 1))

    def forward(self, x):
        size, features = x.shape[-2:], self.backbone(x)
        if self.pyramid:
            features = torch.cat([branch(features) for branch in self.branches], dim=1)
        logits = self.classifier(self.project(features))
        return {"out": functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)}


class SmpUNet(nn.Module):
    """A residual encoder, nearest upsampling, concatenation."""

    def __init__(self, channels=3, classes=3):
        super().__init__()
        self.down1, self.down2 = Residual(channels, 4), Residual(4, 8, stride=2)
        conv = nn.Conv2d(12, 6, 3, padding=1, bias=False)
        self.up = nn.Sequential(conv, nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(6, classes, 3, padding=1)

    def forward(self, x):
        skip = self.down1(x)
        x = functional.interpolate(self.down2(skip), scale_factor=2.0, mode="nearest")
        return self.head(self.up(torch.cat([x[:, :, : skip.shape[2], : skip.shape[3]], skip], dim=1)))


class Attention(nn.Module):
    """Every pixel asks all others, and the result is added."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(channels), nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x):
        tokens = self.norm(x.flatten(2).transpose(1, 2))  # (n, k, h, w) -> (n, hw, k)
        return x + self.mix(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


class Says(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def around(*blocks, channels=3, classes=3):
    """Blocks of four channels between two convolutions."""
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), *blocks, nn.LazyConv2d(classes, 1))


def settled(model, x, dtype=torch.float64, seed=0):
    """A copy in evaluation, with random weights, biases and statistics, far from trivial: what was given stays."""
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        model(x.float()[None])  # lazy layers find their sizes
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.running_var is not None:
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.to(dtype)
