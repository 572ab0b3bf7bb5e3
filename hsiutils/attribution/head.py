"""The head of a network: a convolution of one pixel that makes the logits out of one layer, and what is behind it.

It is found in what the network does to the layer's output, not in its class: the layer's output goes on as a `Flow`
(`hsiutils.attribution.tape`), so that only the few operations behind it are recorded. They must be one product with a
matrix (classes, channels), the same at every pixel, and then only what treats every class alike and weighs pixels with
numbers that are not negative: cropping, padding with zeros, upsampling. So torchvision's FCN and DeepLabV3, whose
logits are upsampled, have a head as a U-Net has. Class activation maps read it (`hsiutils.attribution.cams`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hsiutils.attribution.hooks import frozen, full_precision, logits_of, replaced
from hsiutils.attribution.rules import RULES
from hsiutils.attribution.tape import Flow, NotPiecewiseLinear, Step, Tape, listening

_CROPS = {"alias", "clone", "detach", "slice"}
_UPS = {"_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_nearest2d"}
_SPATIAL = _CROPS | _UPS | {"avg_pool2d", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"}
_MOVES = {"_unsafe_view", "add", "alias", "clone", "expand", "permute", "t", "transpose", "unsqueeze", "view"}
"""What brings channels to the last axis and back, around a linear layer of every pixel, and adds its bias."""


class Head(NamedTuple):
    """What makes the logits (classes, h, w) of a layer's activation (channels, h', w'), and both as they are."""

    activation: Tensor
    logits: Tensor
    weight: Tensor
    """(classes, channels)."""
    bias: Tensor | None
    """(classes,)."""
    name: str
    """The module whose convolution it is."""
    behind: tuple[Step, ...]
    """Operations on the convolution's result, in their order."""

    @property
    def plain(self) -> bool:
        """Whether each logit reads one pixel of the layer: nothing but cropping is behind."""
        return all(step.name in _CROPS for step in self.behind)

    def spread(self, values: Tensor) -> Tensor:
        """What is behind, done to values on the layer's grid: (n, classes, h', w') -> (n, classes, h, w)."""
        for step in self.behind:
            first = next(each.name for each in step.func._schema.arguments)
            values = step.func(**{first: values}, **step.constant)
        return values

    def back(self, weights: Tensor) -> Tensor:
        """The adjoint of `spread`: weights (classes, h, w) of the logits as they weigh the grid, (classes, h', w')."""
        with torch.enable_grad(), full_precision():
            grid = weights.new_zeros((1, len(self.weight), *self.activation.shape[1:])).requires_grad_()
            (found,) = torch.autograd.grad((self.spread(grid)[0] * weights.clone()).sum(), grid)
        return found[0]

    def scores(self, values: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Logits (classes, h, w) of values (channels, h', w'), by the head's matrix or another, and a bias if given."""
        with full_precision():  # (classes, k), (k, h', w') -> (classes, h', w')
            parts = torch.einsum("ck,kyx->cyx", self.weight if weight is None else weight, values)
            return self.spread((parts if bias is None else parts + bias[:, None, None])[None])[0]


def head_at(model: nn.Module, image: Tensor, layer: str, after: bool = True) -> Head | None:
    """The head that reads a layer, by one forward pass of an image (channels, h, w); None if another thing reads it.

    `layer` and `after` as of `hsiutils.attribution.hooks.activations`; a KeyError if there is no such layer.
    """
    tape, entered = Tape(RULES, image.dtype), []

    def enter(output: Tensor) -> Tensor:
        entered.append((output, Flow(output.clone(), tape)))
        return entered[-1][1]

    try:
        with (
            listening(model, tape),
            torch.no_grad(),
            full_precision(),
            frozen(model),
            replaced(model, layer, enter, after),
        ):
            logits = logits_of(model(image[None]))
    except NotPiecewiseLinear:
        return None
    if not isinstance(logits, Flow) or len(entered) != 1:
        return None
    (output, start), makers = entered[0], {number: step for step in tape.steps for number in step.makes}
    number, steps = logits.number, list[Step]()
    while number in makers:
        steps.insert(0, makers[number])
        if len(steps[0].reads) != 1:
            return None
        number = steps[0].reads[0]
    products = [place for place, step in enumerate(steps) if step.name not in _SPATIAL | _MOVES]
    if number != start.number or len(products) != 1:
        return None
    (place,) = products
    read = _convolution if steps[place].name == "convolution" else _matrix
    found = read(steps[place], steps[:place], steps[place + 1 :])
    if found is None or found[0].shape[1] != output.shape[1]:
        return None
    head = Head(output[0], logits.value[0], *found)
    told = head.scores(head.activation, bias=head.bias)
    if told.shape != head.logits.shape:
        return None
    return head if (told - head.logits).abs().max() <= 1e-4 * told.abs().max() else None


_Found = tuple[Tensor, Tensor | None, str, tuple[Step, ...]]


def _convolution(product: Step, before: list[Step], behind: list[Step]) -> _Found | None:
    """Matrix, bias and name of a convolution of one pixel, and what is behind it, if that keeps classes apart."""
    given = product.constant
    weight = given.get("weight")
    if weight is None or weight.shape[2:] != (1, 1) or any(step.name not in _CROPS for step in before):
        return None
    if given["transposed"] or given["groups"] != 1 or set(given["stride"]) != {1} or any(given["padding"]):
        return None
    for step in behind:
        shape = step.out[0].shape
        if step.name not in _SPATIAL or shape[1:2] != weight.shape[:1] or len(shape) != 4 or step.constant.get("value"):
            return None
    return weight.detach().flatten(1), given["bias"], product.where, tuple(behind)


def _matrix(product: Step, before: list[Step], behind: list[Step]) -> _Found | None:
    """The same of a linear layer at every pixel, with nothing but moves of axes around it."""
    given = product.constant
    matrix = given["mat2"].mT if "mat2" in given else given.get("weight")
    if matrix is None or any(step.name not in _MOVES for step in (*before, *behind)):
        return None
    added = [given.get("bias"), given.get("self"), *(step.constant.get("other") for step in behind)]
    biases = [each for each in added if each is not None]
    if len(biases) > 1 or not all(isinstance(each, Tensor) and each.ndim == 1 for each in biases):
        return None
    matrix = matrix[0] if matrix.ndim > 2 else matrix  # one for all rows of pixels, which the caller tries
    return matrix.detach(), biases[0] if biases else None, product.where, ()
