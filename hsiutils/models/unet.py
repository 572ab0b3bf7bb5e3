"""The authors' U-Net, with every layer reachable by its Keras name.

Encoder blocks of two 3x3 convolutions, each followed by batch normalisation and ReLU, with max-pooling between them; a
base block; decoder blocks that start with a 2x2 transposed convolution and ReLU and take the encoder's tensor of the
same size beside it; a 1x1 head. Source: the authors' public code for HSI-Drive (arXiv 2411.19274, arXiv 2502.14416),
after Ronneberger 2015.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class UNetConfig:
    """Size of the network; the defaults are the paper's (depth 5, 3x3 kernels, 32 filters).

    Attributes
    ----------
    channels : of the input.
    classes : of the output. The paper's head is 32 x 5; the authors' code has a sixth output for void, never trained.
    depth : how often the image is halved; 0 for the base block and the head alone, which with `kernel` 1 see single
        pixels.
    filters : of the first block; every level below has twice as many.
    kernel : odd size of the convolutions, pixels.
    dropout : probability, after every encoder block but the first and after the base; the first block of all keeps
        every activation.
    norm_momentum : weight of the newest batch in the running statistics; 0.01 is what Keras calls momentum 0.99.
    class_names : one for each output; empty where nobody named them.
    entrance : scale and shift every channel of the input first, by numbers that come with the weights.

    Examples
    --------
    >>> import hsiutils as hu
    >>> config = hu.UNetConfig(channels=25, classes=2, depth=3, filters=8, class_names=("Road", "Sky"))
    >>> config.last, config.head, config.stride
    ('conv2d_13', 'conv2d_14', 8)
    """

    channels: int = 25
    classes: int = 5
    depth: int = 5
    filters: int = 32
    kernel: int = 3
    dropout: float = 0.5
    norm_momentum: float = 0.01
    class_names: tuple[str, ...] = ()
    entrance: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))  # JSON gives lists
        rules = {name: (getattr(self, name) >= 1, "at least 1") for name in ("channels", "classes", "filters")}
        rules["depth"] = (self.depth >= 0, "at least 0")
        rules |= {
            "kernel": (self.kernel >= 1 and self.kernel % 2, "at least 1, and odd, so that a pixel has a centre"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
            "norm_momentum": (0 < self.norm_momentum <= 1, "in (0, 1]"),
            "class_names": (len(self.class_names) in (0, self.classes), f"{self.classes} names, one an output"),
        }
        for name, (kept, rule) in rules.items():
            if not kept:
                raise ValueError(f"UNetConfig.{name} must be {rule}, got {getattr(self, name)}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of the encoder blocks and, last, of the base."""
        return tuple(self.filters * 2**level for level in range(self.depth + 1))

    @property
    def stride(self) -> int:
        """Input sizes are padded to a multiple of this, pixels."""
        return 1 << self.depth

    def padded(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The (rows, columns) that an image of this shape has inside the network, pixels."""
        rows, columns = (size + -size % self.stride for size in shape)
        return rows, columns

    @property
    def names(self) -> tuple[str, ...]:
        """A name for every output: `class_names`, or "class 0", "class 1", ... where nobody named them."""
        return self.class_names or tuple(f"class {index}" for index in range(self.classes))

    @property
    def blocks(self) -> tuple[tuple[str, str], ...]:
        """Keras names of every block's two convolutions in the order of `UNet.blocks`: encoder, base, decoder."""
        numbers = range(0, 2 * (2 * self.depth + 1), 2)
        return tuple((keras_name("conv2d", number), keras_name("conv2d", number + 1)) for number in numbers)

    @property
    def transposes(self) -> tuple[str, ...]:
        """Keras names of the transposed convolutions that open the decoder's blocks, from the base up."""
        return tuple(keras_name("conv2d_transpose", step) for step in range(self.depth))

    @property
    def skips(self) -> tuple[str, ...]:
        """Keras names of the convolutions whose activations the skip connections carry, from the finest down."""
        return tuple(second for _, second in self.blocks[: self.depth])

    @property
    def base(self) -> str:
        """Keras name of the last convolution of the base block."""
        return self.blocks[self.depth][1]

    @property
    def last(self) -> str:
        """Keras name of the last 3x3 convolution: its activations, after BN and ReLU, are what the head reads."""
        return self.blocks[-1][1]

    @property
    def head(self) -> str:
        """Keras name of the 1x1 convolution that gives the logits."""
        return keras_name("conv2d", 2 * len(self.blocks))


Conv = nn.Conv2d | nn.ConvTranspose2d


class Unit(NamedTuple):
    """A convolution and what follows it; None where nothing does: the head has neither, a transposed one no norm."""

    conv: Conv
    norm: nn.BatchNorm2d | None
    relu: nn.Module | None


_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks"),
    *("_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks"),
)
"""Where a torch module keeps its hooks."""


class ConvBlock(nn.Module):
    """Two convolutions of unchanged size, each with batch normalisation and ReLU, then dropout."""

    def __init__(self, inputs: int, outputs: int, config: UNetConfig, dropout: float = 0.0) -> None:
        super().__init__()
        # One ReLU module per use: hooks and DeepLIFT need each activation to have a module of its own.
        self.conv1 = nn.Conv2d(inputs, outputs, config.kernel, padding="same")
        self.norm1: nn.Module = nn.BatchNorm2d(outputs, eps=1e-5, momentum=config.norm_momentum)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, config.kernel, padding="same")
        self.norm2: nn.Module = nn.BatchNorm2d(outputs, eps=1e-5, momentum=config.norm_momentum)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, outputs, h, w)."""
        x = self.relu1(self.norm1(self.conv1(x)))
        x = self.relu2(self.norm2(self.conv2(x)))
        return cast(Tensor, self.dropout(x))

    def fold(self) -> None:
        """Move the normalisation, as it is in evaluation, into the convolutions."""
        if isinstance(self.norm1, nn.BatchNorm2d) and isinstance(self.norm2, nn.BatchNorm2d):
            self.conv1 = fuse_conv_bn_eval(self.conv1, self.norm1)
            self.conv2 = fuse_conv_bn_eval(self.conv2, self.norm2)
        self.norm1 = self.norm2 = nn.Identity()


class Entrance(nn.Module):
    """What a batch normalisation of the input is in evaluation: a scale and a shift for every channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> the same."""
        return x * self.scale[:, None, None] + self.shift[:, None, None]


class UpBlock(nn.Module):
    """Double the size, put the skipped tensor beside it, convolve twice."""

    def __init__(self, inputs: int, outputs: int, config: UNetConfig) -> None:
        super().__init__()
        self.transpose = nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2)
        self.relu = nn.ReLU()
        self.block = ConvBlock(2 * outputs, outputs, config)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(n, inputs, h, w) and (n, outputs, 2 h, 2 w) -> (n, outputs, 2 h, 2 w)."""
        up = self.relu(self.transpose(x))
        return cast(Tensor, self.block(torch.cat([up, skip], dim=1)))


class UNet(nn.Module):
    """The network: (n, channels, h, w) -> logits (n, classes, h, w), for any h and w.

    An image whose size is no multiple of `config.stride` is padded with zeros below and to the right, and the logits
    are cropped back. Hooks on layers therefore see the padded size; the image is the upper left part of it.

    Other people's tools take it as it is, with `cls` a class's index:

        captum.attr.Saliency(model).attribute(image, target=(cls, row, column))
        captum.attr.LayerGradCam(model, model.layer("conv2d_21", after=True)).attribute(image, (cls, row, column))

    Parameters
    ----------
    config : size of the network.
    generator : source of the initial weights (Glorot-uniform kernels, zero biases); None for seed 0. The global
        random state is left alone.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=25, classes=5, depth=2, filters=4)).eval()
    >>> tuple(model(torch.rand(1, 25, 30, 50)).shape)
    (1, 5, 30, 50)
    """

    def __init__(self, config: UNetConfig | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config or UNetConfig()
        # torch's layers draw weights of their own, which are not used; weights made in inference mode know no gradient.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            widths, inputs = self.config.widths, (self.config.channels, *self.config.widths[:-1])
            # The first block keeps every activation: only the deeper ones are dropped from.
            drops = (0.0, *(self.config.dropout,) * self.config.depth)
            blocks = [ConvBlock(a, b, self.config, drop) for a, b, drop in zip(inputs, widths, drops, strict=True)]
            self.entrance: nn.Module = Entrance(self.config.channels) if self.config.entrance else nn.Identity()
            self.encoder = nn.ModuleList(blocks[:-1])
            self.pools = nn.ModuleList(nn.MaxPool2d(2) for _ in range(self.config.depth))
            self.base = blocks[-1]
            self.decoder = nn.ModuleList(UpBlock(2 * width, width, self.config) for width in reversed(widths[:-1]))
            self.head = nn.Conv2d(self.config.filters, self.config.classes, 1, padding="same")
            # Keras and torch agree on Glorot's bound sqrt(6 / (fan_in + fan_out)), fans counting the kernel's area, for
            # transposed convolutions too: they swap the two fans, and the bound takes their sum.
            generator = generator or torch.Generator().manual_seed(0)
            for layer in self.keras_layers().values():
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes, h, w) of images (n, channels, h, w)."""
        if x.ndim != 4 or x.shape[1] != self.config.channels:
            raise ValueError(f"UNet expects (n, {self.config.channels}, h, w), got {tuple(x.shape)}")
        height, width = x.shape[2:]
        rows, columns = self.config.padded((height, width))
        x = self.entrance(x)
        if (rows, columns) != (height, width):  # padding by nothing would copy the image
            x = functional.pad(x, (0, columns - width, 0, rows - height))
        skips = []
        for block, pool in zip(self.encoder, self.pools, strict=True):
            skips.append(block(x))
            x = pool(skips[-1])
        x = self.base(x)
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            x = up(x, skip)
        return cast(Tensor, self.head(x))[:, :, :height, :width]

    def blocks(self) -> Iterator[ConvBlock]:
        """Every pair of convolutions in the order of computation: encoder, base, decoder."""
        yield from (cast(ConvBlock, block) for block in self.encoder)
        yield self.base
        yield from (cast(UpBlock, up).block for up in self.decoder)

    def keras_layers(self) -> dict[str, "Conv"]:
        """The convolutions by Keras name: conv2d, conv2d_1, ... (the head is last), then conv2d_transpose, ..."""
        return {name: unit.conv for name, unit in self.units().items()}

    def units(self) -> dict[str, "Unit"]:
        """Every convolution with the normalisation and the ReLU that follow it, by Keras name as in `keras_layers`."""
        config, units = self.config, {}
        for names, block in zip(config.blocks, self.blocks(), strict=True):
            first, second = (norm if isinstance(norm, nn.BatchNorm2d) else None for norm in (block.norm1, block.norm2))
            units[names[0]] = Unit(block.conv1, first, block.relu1)
            units[names[1]] = Unit(block.conv2, second, block.relu2)
        units[config.head] = Unit(self.head, None, None)
        for name, up in zip(config.transposes, self.decoder, strict=True):
            units[name] = Unit(cast(UpBlock, up).transpose, None, cast(UpBlock, up).relu)
        return units

    def layer(self, name: str, after: bool = False) -> nn.Module:
        """The module whose output is what Keras calls `get_layer(name).output`.

        Parameters
        ----------
        name : Keras name, e.g. "conv2d_21" for the last 3x3 convolution of a network of depth 5.
        after : the module whose output is the same tensor after batch normalisation and ReLU (before dropout). The
            head has neither, and is returned itself.

        Raises
        ------
        KeyError
            If there is no such layer; the message lists those that there are.
        """
        units = self.units()
        if name not in units:
            raise KeyError(f"no layer {name!r} in a U-Net of depth {self.config.depth}; it has {', '.join(units)}")
        unit = units[name]
        return unit.relu if after and unit.relu is not None else unit.conv

    def folded(self) -> "UNet":
        """Copy in evaluation mode, with batch normalisation folded into the convolutions.

        It gives the same logits, and is piecewise linear in its input and its biases. No hook comes along.
        """
        twin = self.unhooked().eval()
        with torch.inference_mode(False):  # what is made in inference mode knows no gradient
            for block in twin.blocks():
                block.fold()
        return twin

    def hooks(self) -> list[dict[int, Any]]:
        """The tables of hooks of the network and all its modules; empty ones, too."""
        return [getattr(module, name) for module in self.modules() for name in _HOOKS]

    def unhooked(self) -> "UNet":
        """Copy without the hooks that hang on this network: running it tells nobody."""
        with torch.inference_mode(False):
            return copy.deepcopy(self, {id(table): OrderedDict() for table in self.hooks()})


class LayerShape(NamedTuple):
    """One convolution as arithmetic sees it: its Keras name, channels in and out, kernel and level."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    """Taps along one axis that an output pixel reads: 1 for the 2x2 transposed convolution of stride 2."""
    level: int
    """The output is 2**level times smaller than the (padded) image along each axis."""


def layer_shapes(config: UNetConfig) -> list[LayerShape]:
    """Every convolution in the order of computation, without building the network."""
    shapes: list[LayerShape] = []
    blocks, inputs = iter(config.blocks), config.channels

    def block(inputs: int, level: int) -> None:
        for name, channels in zip(next(blocks), (inputs, config.widths[level]), strict=True):
            shapes.append(LayerShape(name, channels, config.widths[level], config.kernel, level))

    for level, width in enumerate(config.widths):
        block(inputs, level)
        inputs = width
    for name, level in zip(config.transposes, reversed(range(config.depth)), strict=True):
        width = config.widths[level]
        shapes.append(LayerShape(name, 2 * width, width, 1, level))
        block(2 * width, level)
    return [*shapes, LayerShape(config.head, config.filters, config.classes, 1, 0)]


def receptive_field(config: UNetConfig) -> dict[str, int]:
    """Side of the square of input pixels that one output pixel of each layer can depend on, pixels.

    Computed along the longest path: a convolution at level l adds (kernel - 1) 2**l, a pooling adds 2**l, a 2x2
    transposed convolution of stride 2 adds nothing.
    """
    fields: dict[str, int] = {}
    field, level = 1, 0
    for shape in layer_shapes(config):
        if shape.level > level:
            field += 2**level
        level = shape.level
        field += (shape.kernel - 1) * 2**level
        fields[shape.name] = field
    return fields


def flops(config: UNetConfig, shape: tuple[int, int]) -> int:
    """Floating-point operations of one image in evaluation.

    Two per multiply-accumulate of the convolutions; biases, normalisation, activations and pooling are not counted.
    In this convention the authors' 43.65 GFLOP (224 x 416) and 34.54 GFLOP (192 x 384) come out with 25 channels and
    the six outputs of their code; the paper's five outputs take 0.01 % less. `shape` is the image's (rows, columns) in
    pixels, padded as `UNet` does.
    """
    rows, columns = config.padded(shape)
    shapes = layer_shapes(config)
    return sum(2 * s.inputs * s.outputs * s.kernel**2 * (rows * columns // 4**s.level) for s in shapes)


def parameter_count(model: nn.Module) -> int:
    """Numbers in the network, batch-normalisation statistics included (as Keras counts them)."""
    statistics = [value for value in model.buffers() if value.is_floating_point()]
    return sum(value.numel() for value in [*model.parameters(), *statistics])


def keras_name(kind: str, number: int) -> str:
    """What Keras calls the layer of one kind that is built after `number` others."""
    return f"{kind}_{number}" if number else kind
