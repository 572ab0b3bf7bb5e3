"""Layer-wise relevance propagation of any torch network, by a reverse pass through what the image did in it.

Relevance R of a tensor a is written as R = a m, and the multiplier m goes back through the network as a gradient does
(`hsiutils.attribution.gates`). Where a layer reads x and puts out z = W x + b, its relevance is shared by the parts of
z' = W' x + b, W' being W changed by the rule: m_x = W'^T (m_z z / z'). A function of single numbers passes it on, so
that it multiplies by its chord from the origin, y / x, which of a ReLU is its gate; max-pooling passes it to what it
picked; sums, concatenation and whatever else is linear share it by what was summed. Each logit starts with itself times
its weight in the target, whichever modules are shared and whatever reads a tensor twice.
"""

import copy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hsiutils.attribution.gates import Affine
from hsiutils.attribution.hooks import INPUT
from hsiutils.attribution.linearise import linearise
from hsiutils.attribution.rescale import CHORDS
from hsiutils.attribution.result import Attribution, as_map
from hsiutils.attribution.rules import RULES, SUMMANDS, only_first, outcome
from hsiutils.attribution.tape import Flow, Given, Tape
from hsiutils.attribution.targets import Target
from hsiutils.models.unet import UNet

LrpRule = Literal["epsilon", "gamma", "alpha1beta0"]


def lrp(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    rule: LrpRule = "epsilon",
    epsilon: float = 1e-9,
    gamma: float = 0.25,
    freeze: bool = False,
) -> Attribution:
    """Layer-wise relevance propagation (Bach 2015): every layer shares its relevance out among its inputs.

    Max-pooling passes relevance to what it picked. Batch normalisation that alone reads a convolution is folded in;
    elsewhere, and in a program of torch.export, it is a layer with the epsilon rule. With that rule and a small epsilon
    a ReLU network gives gradient x input (Ancona 2018). Relevance that a bias takes is not handed on.

    Parameters
    ----------
    rule : of convolutions, transposed convolutions and matrices. The first and the last in the order of computation
        have the epsilon rule always: gamma and alpha1beta0 take what a layer reads for positive, and the input is not.
    epsilon : added to denominators, away from zero.
    gamma : of the gamma rule (Montavon 2019): how much positive weights are favoured.
    freeze : hold products of two tensors, softmax and normalisation by a tensor's own statistics at the image's values,
        so that one factor takes all relevance; else they are refused.

    Raises
    ------
    NotPiecewiseLinear
        If an operation has no rule, or has to be held; the message names it.
    ValueError
        If there is no such rule, or the image does not fit the network.
    """
    changes = {"epsilon": None, "gamma": lambda w: w + gamma * w.clamp_min(0), "alpha1beta0": lambda w: w.clamp_min(0)}
    if rule not in changes:
        raise ValueError(f'LRP rule must be "epsilon", "gamma" or "alpha1beta0", got {rule!r}')
    ruled = dict.fromkeys(_PRODUCTS, partial(_shared, changes[rule], epsilon)) | dict.fromkeys(CHORDS, _passed)
    if changes[rule] is not None and not isinstance(model, UNet):  # which is folded there
        model = _folded(linearise(model, x, freeze=True))
    at = linearise(model, x, freeze=freeze, rules={**RULES, **ruled})
    logit = float(target.value(at.logits[None]))
    values = at.pull(target.weights).gradient * at.image
    return Attribution(f"LRP {rule}", INPUT, as_map(values, ("band", "y", "x")), logit, frozen=at.frozen)


_PRODUCTS = ("addmm", "baddbmm", "bmm", "convolution", "linear", "mm", "mv")


def _shared(change: Any, epsilon: float, tape: Tape, name: str, func: Any, given: Given) -> Any:
    """A product with a constant: relevance goes by the parts of what it puts out with changed weights."""
    tensors = {key: value for key, value in given.items() if isinstance(value, Tensor) and key != SUMMANDS.get(name)}
    weights = [key for key, value in tensors.items() if not isinstance(value, Flow)]
    if len(weights) != 1:
        return RULES[name](tape, name, func, given)
    changed = given if change is None else given | {weights[0]: change(given[weights[0]])}

    def make() -> tuple[Tensor, Tensor]:
        whole = outcome(func, given)
        return whole, whole if change is None else outcome(func, changed)

    whole, parts = tape.keep(make)
    if tape.recording:
        return whole.clone()  # the network may write on it
    places = [place for place, step in enumerate(tape.steps) if step.name in _PRODUCTS]
    if tape.at - 1 in (places[0], places[-1]):
        changed, parts = given, whole
    return outcome(func, changed) * (whole / (parts + torch.where(parts < 0, -epsilon, epsilon)))


def _passed(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """A function of single numbers."""
    only_first(tape, func, {key: value for key, value in given.items() if key != "noise"})
    x = next(iter(given.values())).value
    chord = tape.keep(lambda: torch.where(x == 0, 0, outcome(func, given) / x))
    return outcome(func, given) if tape.recording else x * chord


def _folded(at: Affine) -> nn.Module:
    """A copy of a network in which convolutions have the batch normalisation that alone reads them."""
    with torch.inference_mode(False):  # what is made in it knows no gradient
        twin = copy.deepcopy(at.model)
        modules = dict(twin.named_modules())
        for module in modules.values():
            module.training = False
        for name in at.layers:
            layer = modules[name]
            if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or (layer.transposed and layer.groups > 1):
                continue
            readers = at.consumers(name)
            reader = readers[0].partition(" in ")[2] if len(readers) == 1 else ""
            norm = modules[reader] if reader in at.layers else None
            if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
                twin.set_submodule(name, fuse_conv_bn_eval(layer, norm, layer.transposed))
                twin.set_submodule(reader, nn.Identity())
    return twin
