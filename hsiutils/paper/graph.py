"""A network together with the affine map that it is at its image, as one ONNX graph for a browser.

The graph takes reflectance, makes the network's input of it, gives every logit, and goes back through the gates that
the image has set (`hsiutils.attribution.gates`): for any weighting of logits, what each band adds to it, and what is
left for an image of average pixels and the biases. A convolution's way back is the transposed convolution with the
same kernel, and the reverse: each kernel is in the file once.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from hsiutils.data.cube import HEADROOM
from hsiutils.data.inputs import FittedVariant, Variant
from hsiutils.models.unet import Conv, ConvBlock, UNet, UpBlock

OPSET, IR = 17, 8
"""Of ONNX: old enough for every runtime of these years."""


def holds(inputs: Variant, bands: int) -> bool:
    """Whether a graph can make this input: every band of a camera that has so many, as it is or after PN."""
    plain = inputs.pca is None and not inputs.extra and inputs.bands in (None, tuple(range(bands)))
    return plain and (inputs.normalisation == "none" or (inputs.normalisation == "PN" and inputs.strength == 1))


def live_graph(model: UNet, inputs: FittedVariant, average: ArrayLike, shape: tuple[int, int]) -> onnx.ModelProto:
    """The graph of a network for images of one size.

    Parameters
    ----------
    model : of the input's channels, each a band.
    inputs : how its input is made of reflectance; see `holds`.
    average : (bands,) in the input's units: what contributions are read from, and the value of a band that is off.
    shape : (rows, columns), multiples of `model.config.stride`.

    Returns
    -------
    ModelProto
        In float32. It takes `reflectance` (1, bands, rows, columns), not negative; `off` (1, bands, 1, 1), 1 for bands
        that are off in the whole image; and `asked` (n, classes, rows, columns), n weightings of the logits. It gives
        `logits` (1, classes, rows, columns); `bands` (n, bands) and `start` (n,), which sum to the weighted logits:
        `hsiutils.attribution.decompose.decompose` with `reference=average`, over all pixels that are asked.

    Raises
    ------
    ValueError
        If the input is none of plain bands, the network has an entrance of its own, or the size does not fit.
    """
    bands = len(inputs.wavelengths_nm)
    if not holds(inputs.variant, bands) or model.config.entrance:
        raise ValueError(f"a graph takes all bands, with PN or without, and no entrance; got {inputs.variant.name!r}")
    if any(size % model.config.stride for size in shape):
        raise ValueError(f"shape must be multiples of {model.config.stride}, got {shape}: cut the image")
    graph, classes = _Graph(), model.config.classes
    mean = graph.constant(np.reshape(average, (1, -1, 1, 1)))
    x = graph.add("Where", graph.add("Greater", "off", graph.constant(0.5)), mean, _entered(graph, inputs))
    _Pass(graph, model.folded(), shape).through(x, mean)
    sizes: dict[str, Sequence[int | str]] = {
        "reflectance": (1, bands, *shape),
        "off": (1, bands, 1, 1),
        "asked": ("n", classes, *shape),
        "logits": (1, classes, *shape),
        "bands": ("n", bands),
        "start": ("n",),
    }
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()]
    whole = helper.make_graph(graph.nodes, "live", ends[:3], ends[3:], graph.constants)
    made = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(made)
    return made


class _Graph:
    """Nodes and constants as they come; each node's output has a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Cut along the channels."""
        outputs = [f"part{len(self.nodes)}_{index}" for index in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [value, self.constant(np.asarray(sizes))], outputs, axis=1))
        return outputs

    def constant(self, value: ArrayLike | Tensor) -> str:
        array = np.asarray(value.detach() if isinstance(value, Tensor) else value)
        array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def total(self, value: str, *axes: int, keep: bool = False, name: str = "") -> str:
        return self.add("ReduceSum", value, self.constant(np.asarray(axes)), keepdims=int(keep), name=name)


def _entered(graph: _Graph, inputs: FittedVariant) -> str:
    """The network's input of `reflectance`, as `FittedVariant.apply` makes it."""
    x = "reflectance"
    if inputs.variant.normalisation == "PN":
        total = graph.total(x, 1, keep=True)
        lit = graph.add("Greater", total, graph.constant(0.0))
        share = graph.add("Div", x, graph.add("Where", lit, total, graph.constant(1.0)))
        x = graph.add("Where", lit, share, graph.constant(0.0))
    low, high = (np.reshape(limit, (1, -1, 1, 1)) for limit in (inputs.low, inputs.high))
    floor = graph.constant(low)
    x = graph.add("Min", graph.add("Max", x, floor), graph.constant(high))
    step = graph.constant(2 * HEADROOM / (high - low))
    return graph.add("Sub", graph.add("Mul", graph.add("Sub", x, floor), step), graph.constant(1.0))


class _Pass:
    """A network's way forth, and back from `asked`: each step of the way forth leaves what it needs on the way back."""

    def __init__(self, graph: _Graph, model: UNet, shape: tuple[int, int]) -> None:
        self.graph, self.model, self.shape = graph, model, shape
        self.back: list[tuple[str, ...]] = []
        self.biases: list[str] = []

    def through(self, x: str, mean: str) -> None:
        """From the input to `logits`, `bands` and `start`."""
        graph, model = self.graph, self.model
        forth, skips, gates, shape = x, [], [], self.shape
        encoder = cast(list[ConvBlock], list(model.encoder))
        decoder = cast(list[UpBlock], list(model.decoder))
        for block in encoder:
            forth, own = self._forth(forth, block)
            skips.append(forth)
            forth, chosen = self._pooled(forth, block.conv2.out_channels, shape)
            gates.append((own, chosen))
            shape = shape[0] // 2, shape[1] // 2
        forth, base = self._forth(forth, model.base)
        ups = []
        for up, skip in zip(decoder, reversed(skips), strict=True):
            kernel, bias = self._held(up.transpose)
            raw = graph.add("ConvTranspose", forth, kernel, bias, strides=[2, 2])
            both = graph.add("Concat", graph.add("Relu", raw), skip, axis=1)
            forth, own = self._forth(both, up.block)
            ups.append((up, kernel, bias, self._gate(raw), own))
        head, offset = self._held(model.head)
        graph.add("Conv", forth, head, offset, name="logits")

        back = self._past("asked", offset)
        back = graph.add("ConvTranspose", back, head)
        kept = []
        for up, kernel, bias, gate, own in reversed(ups):
            back = self._back(back, own)
            width = up.transpose.out_channels
            back, skip = graph.split(back, [width, width])
            kept.append(skip)
            back = self._past(graph.add("Mul", back, gate), bias)
            back = graph.add("Conv", back, kernel, strides=[2, 2])
        back = self._back(back, base)
        for (own, chosen), skip in zip(reversed(gates), reversed(kept), strict=True):
            spread = graph.add("Mul", graph.add("Concat", *[back] * 4, axis=1), chosen)
            back = graph.add("Add", graph.add("DepthToSpace", spread, blocksize=2), skip)
            back = self._back(back, own)
        graph.total(graph.add("Mul", back, graph.add("Sub", x, mean)), 2, 3, name="bands")
        average = graph.total(graph.add("Mul", back, mean), 1, 2, 3)
        graph.add("Sum", average, *self.biases, name="start")

    def _forth(self, x: str, block: ConvBlock) -> tuple[str, list[tuple[str, str, str, int]]]:
        """Through two convolutions; of each its kernel, bias, gate and padding."""
        steps = []
        for conv in (block.conv1, block.conv2):
            kernel, bias = self._held(conv)
            pad = conv.kernel_size[0] // 2
            raw = self.graph.add("Conv", x, kernel, bias, pads=[pad] * 4)
            x = self.graph.add("Relu", raw)
            steps.append((kernel, bias, self._gate(raw), pad))
        return x, steps

    def _back(self, back: str, steps: Sequence[tuple[str, str, str, int]]) -> str:
        for kernel, bias, gate, pad in reversed(steps):
            back = self._past(self.graph.add("Mul", back, gate), bias)
            back = self.graph.add("ConvTranspose", back, kernel, pads=[pad] * 4)
        return back

    def _past(self, back: str, bias: str) -> str:
        """Past a bias, whose part is kept."""
        each = self.graph.total(back, 2, 3)  # (n, channels)
        self.biases.append(self.graph.total(self.graph.add("Mul", each, bias), 1))
        return back

    def _held(self, conv: Conv) -> tuple[str, str]:
        """A convolution's kernel and bias."""
        return self.graph.constant(conv.weight), self.graph.constant(cast(Tensor, conv.bias))

    def _gate(self, raw: str) -> str:
        """1 where a ReLU lets through."""
        return self.graph.add("Cast", self.graph.add("Greater", raw, self.graph.constant(0.0)), to=TensorProto.FLOAT)

    def _pooled(self, x: str, channels: int, shape: tuple[int, int]) -> tuple[str, str]:
        """The maximum of each 2 x 2 pixels, and 1 at the first of them that is it: (1, 4 x channels, h / 2, w / 2)."""
        graph, half = self.graph, (shape[0] // 2, shape[1] // 2)
        apart = graph.add("SpaceToDepth", x, blocksize=2)
        four = graph.add("Reshape", apart, graph.constant(np.asarray([1, 4, channels, *half])))
        first = graph.add("ArgMax", four, axis=1, keepdims=1)
        which = graph.constant(np.arange(4).reshape(1, 4, 1, 1, 1))
        chosen = graph.add("Cast", graph.add("Equal", first, which), to=TensorProto.FLOAT)
        flat = graph.add("Reshape", chosen, graph.constant(np.asarray([1, 4 * channels, *half])))
        return graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), flat
