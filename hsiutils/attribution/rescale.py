"""DeepLIFT's rescale rule for any torch network: the chord of every nonlinear operation between two images.

The image and its reference go through the unchanged network together, as `hsiutils.attribution.gates` sends one image.
Of each function of single numbers the chord is kept, (f(x) - f(r)) / (x - r), smooth ones included; of a max-pooling
the larger of the two winners, and its chord. The reverse pass through what was kept gives multipliers m with
sum m (x - r) = y(x) - y(r) exactly (Shrikumar 2017), whichever modules are shared and whatever reads a tensor twice.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hsiutils.attribution.gates import Affine
from hsiutils.attribution.hooks import logits_of
from hsiutils.attribution.rules import RULES, only_first, outcome
from hsiutils.attribution.tape import Given, Held, NotPiecewiseLinear, Rule, Tape, differentiable, listening

_NEAR = 1e-10
"""Where image and reference are nearer than this, the slope takes the chord's place (so in captum, too)."""


class Chords(Affine):
    """The chords of a network between a reference and an image, both (channels, h, w).

    `logits` are (2, classes, h', w'), the reference's first; `pull` gives the multipliers and `push` what they make of
    tangents.

    Raises
    ------
    NotPiecewiseLinear
        If an operation has no chord, such as a product of two tensors.
    """

    def __init__(self, model: nn.Module, reference: Tensor, image: Tensor) -> None:
        self.model, self.image, self._pick, self.gated = model, image, logits_of, image.dtype
        self._tape, self._layout = Tape(_RULES, image.dtype), torch.contiguous_format
        why = "DeepLIFT's rescale rule knows functions of single numbers and max-pooling alone"
        instead = (
            "take Integrated Gradients from the same reference, or explain a tensor before it (pick it by output=)"
        )
        try:
            with listening(model, self._tape):
                self.logits = self._run(model, torch.stack([reference, image]))
        except NotPiecewiseLinear as missing:
            held = ", ".join(missing.operations)
            raise NotPiecewiseLinear(f"{why}, not {held}: {instead}", missing.operations) from None
        self._recorded()
        if self.frozen:
            raise NotPiecewiseLinear(f"{why}, not {', '.join(self.frozen)}: {instead}", self.frozen)


def _chord(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """A function of single numbers."""
    only_first(tape, func, {key: value for key, value in given.items() if key != "noise"})
    key, x = next((key, value.value) for key, value in given.items())

    def make() -> Tensor:
        with differentiable():
            leaf = x.detach().clone().requires_grad_()
            value = outcome(func, given | {key: leaf})
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        (start, end), (low, high) = x, value.detach()
        run = end - start
        return torch.where(run.abs() < _NEAR, slope[1], (high - low) / run)[None]

    slope = tape.keep(make)
    return outcome(func, given) if tape.recording else x * slope


def _larger(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Max-pooling: a window's winner in the image or in the reference, whichever is larger, takes the whole change."""
    only_first(tape, func, given)
    x = given["self"].value

    def make() -> tuple[Tensor, Tensor]:
        values, index = outcome(func, given)
        (start, end), (low, high) = x.flatten(2), values  # (2, k, hw), (2, k, h', w')
        picks = torch.where(high >= low, index[1], index[0])
        run = (end - start).gather(1, picks.flatten(1)).view(picks.shape)
        return picks, torch.where(run.abs() < _NEAR, 1, (high - low) / run)

    picks, slope = tape.keep(make)
    if tape.recording:
        return outcome(func, given)[0], Held(None)
    # (n, k, hw), of which (k, h'w') are chosen -> (n, k, h', w')
    return x.flatten(2).gather(2, picks.flatten(1).expand(len(x), -1, -1)).view(len(x), *picks.shape) * slope, Held(
        None
    )


_WITHOUT = (
    "adaptive_max_pool3d argmax argmin eq ge gt isnan le lt max max_pool3d_with_indices max_unpool2d maximum min "
    "minimum ne sign _safe_softmax _softmax linalg_vector_norm std var"
)
"""What is chosen at the image alone, or is no function of single numbers."""
_NAMES = (
    "_prelu_kernel abs celu clamp clamp_max clamp_min elu exp gelu hardshrink hardsigmoid hardswish hardtanh "
    "leaky_relu mish reciprocal relu rrelu_with_noise rsqrt sigmoid silu softplus softshrink sqrt tanh threshold"
)
CHORDS = _NAMES.split()
"""Functions of single numbers."""
_RULES: dict[str, Rule] = (
    {name: rule for name, rule in RULES.items() if name not in _WITHOUT.split()}
    | dict.fromkeys(CHORDS, _chord)
    | dict.fromkeys(["adaptive_max_pool2d", "max_pool2d_with_indices"], _larger)
)
