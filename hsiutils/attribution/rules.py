"""One rule an aten operation: how it treats the image, and how it treats tangents afterwards.

`hsiutils.attribution.gates` sends an image through a network as a `Flow`, and then tangents. Linear operations treat
both alike. Of the others a `Tape` keeps what they did to the image: a slope and an offset, a choice, or the value of a
smooth gate, which is noted, because it makes the map another one than the derivative.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from hsiutils.attribution.tape import Flow, Given, Held, Rule, Tape, differentiable, floating, flows_of, refused

SUMMANDS = {"addmm": "self", "baddbmm": "self", "convolution": "bias", "linear": "bias"}
"""Product -> which of its arguments is added."""


def _linear(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Linear in the first argument, the only one that may depend on the image."""
    only_first(tape, func, given)
    out = outcome(func, given)
    if not all(map(floating, out if isinstance(out, tuple | list) else (out,))):
        raise refused(func, tape, "makes whole numbers of what depends on the image")
    return out


def _product(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Linear in either factor, plus a bias; of two that depend on the image, the smaller or first gates the other."""
    summand = SUMMANDS.get(name, "")
    one, other = [key for key in given if key != summand][:2]
    depend = [key for key in (one, other) if isinstance(given[key], Flow)]
    if not depend or given.get("rounding_mode"):
        raise refused(func, tape, "is no product with a constant")
    if given.get("bias") is not None:
        given["bias"] = tape.bias(given["bias"])
    elif summand == "self":
        given["self"] = tape.part(given["self"])
    if len(depend) == 2 or (name == "div" and depend == [other]):
        smaller = name == "mul" and given[other].numel() < given[one].numel()
        gate = other if name == "div" or smaller else one
        tape.hold(name)
        given[gate] = _kept(tape, name, lambda: given[gate].value, given[gate])
        if len(depend) == 1:
            return Held(outcome(func, given))
    return outcome(func, given)


def _sum(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Addition and subtraction; a constant summand is a bias."""
    x, y = tape.part(given["self"]), tape.part(given["other"])
    return getattr(torch, name)(x, y, alpha=given["alpha"])


def _joined(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Concatenation; constant members are biases."""
    count = next(len(each) for each in given["tensors"] if isinstance(each, Flow))
    parts = [tape.part(each) for each in given["tensors"]]
    if given["dim"] != 0:
        parts = [part.expand(count, *part.shape[1:]) for part in parts]
    return func(parts, given["dim"])


def _copied(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Writing over a tensor: its place, another's value."""
    return torch.zeros_like(given["self"].value) + tape.part(given["src" if name == "copy" else "value"])


def _chosen(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Where one condition chooses between two summands."""
    if name == "masked_fill":
        mask, x, y = given["mask"], given["value"], given["self"]
    elif name == "where":
        mask, x, y = given["condition"], given["self"], given["other"]
    else:
        x, y = given["self"], given["other"]
        better = torch.ge if name in ("maximum", "max") else torch.le
        mask = tape.keep(lambda: better(_bare(x), _bare(y)))
    return torch.where(mask, tape.part(x), tape.part(y))


def _padded(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Padding by a number, which is a bias."""
    x, pad = given["self"].value, given["pad"]
    out = func(x, pad, 0)
    value = tape.bias(func(torch.zeros_like(x[:1]), pad, given["value"])) if given["value"] else None
    return out if value is None else out + value


def _piecewise(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Piecewise linear in every number: torch's own slope, and the offset that a clamp or a threshold leaves."""
    only_first(tape, func, {key: value for key, value in given.items() if key != "noise"})
    key, flow = next(iter(given.items()))
    x = flow.value

    def make() -> tuple[Tensor, Tensor | None]:
        if name == "relu":
            return (x > 0).to(tape.dtype), None
        with differentiable():
            leaf = x.detach().clone().requires_grad_()
            value = outcome(func, given | {key: leaf})
            (slope,) = torch.autograd.grad(value.sum(), leaf)
            offset = value.detach() - slope * leaf.detach()
        return slope, offset if offset.any() else None

    slope, offset = tape.keep(make)
    if tape.recording and name == "relu":
        return outcome(func, given)
    offset = None if offset is None else tape.bias(offset)
    y = tape.scaled(flow, slope) if offset is None else x * slope + offset
    if tape.guided and name == "relu":
        y.register_hook(lambda slope: slope.clamp_min(0))
    return y


def _largest(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Pooling, and the largest or smallest along an axis: the image's choice is taken from every tangent."""
    x = given["self"].value
    made: Any = outcome(func, given) if tape.recording else None
    index = tape.keep(lambda: made[1])
    if made is not None:
        return made[0], Held(index)
    if name in ("max", "min"):
        dim = given["dim"] % x.ndim
        picks = index if given["keepdim"] else index.unsqueeze(dim)
        chosen = x.gather(dim, picks.expand(len(x), *picks.shape[1:]) if dim else picks)
        return chosen if given["keepdim"] else chosen.squeeze(dim), Held(index)
    index = index.expand(len(x), *index.shape[1:])
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        # (n, k, h, w) -> (n, hw, k), of which (n, h'w', k) are chosen -> (n, k, h', w')
        pixels, picks = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in (x, index))
        rows, columns = index.shape[2:]
        return pixels.gather(1, picks).unflatten(1, (rows, columns)).permute(0, 3, 1, 2), Held(index)
    # (n, k, h, w) -> (n, k, hw), of which (n, k, h'w') are chosen -> (n, k, h', w')
    return x.flatten(2).gather(2, index.flatten(2)).reshape(index.shape), Held(index)


def _normalised(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Normalisation: a scale and a shift; by a tensor's own statistics, its mean is linear and its deviation held."""
    y = x = given["input"].value
    scale, shift, variance = given["weight"], given["bias"], given.get("running_var")
    shape = given.get("normalized_shape", (-1, *(1,) * (x.ndim - 2)))  # of scale and shift
    epsilon = given.get("eps", given.get("epsilon"))
    if variance is None or given.get("training", name == "_batch_norm_with_update"):
        tape.hold(name)
        axes = tuple(range(-len(shape), 0)) if "normalized_shape" in given else (0, *range(2, x.ndim))
        if "group" in given:
            y, axes = x.reshape(len(x), given["group"], -1), (2,)  # (n, k, h, w) -> (n, groups, k h w / groups)
        y = y - y.mean(axes, keepdim=True)
        y = (y * tape.keep(lambda: torch.rsqrt(y.square().mean(axes, keepdim=True) + epsilon))).reshape(x.shape)
    else:
        inverse = torch.rsqrt(variance + epsilon)
        scale = inverse if scale is None else scale * inverse
        shift = -given["running_mean"] * scale if shift is None else shift - given["running_mean"] * scale
    shift = None if shift is None else tape.bias(shift)
    y = y if scale is None else y * scale.view(shape)
    y = y if shift is None else y + shift.view(shape)
    return (y, *(Held(None),) * (len(func._schema.returns) - 1))


def _gated(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """A number times a smooth gate of it, which is held: a chord from the origin and no slope."""
    only_first(tape, func, given)
    tape.hold(name)
    x = given["self"].value
    return x * tape.keep(lambda: torch.where(x == 0, 0, outcome(func, given) / x))


def _held(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """A smooth gate, held at the image's value."""
    tape.hold(name)
    return _step(tape, name, func, given)


def _step(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Constant but for jumps, such as a comparison."""
    return Held(_kept(tape, name, lambda: outcome(func, given), next(flows_of(given.values()))))


def _filled(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Of the image only its shape is used: zeros, which later may be written on, or another constant."""
    if "ones" in name or "full" in name:
        return Held(outcome(func, given))
    return outcome(func, given).zero_()


_OF: dict[Rule, str] = {
    _linear: "_adaptive_avg_pool2d _adaptive_avg_pool3d _reshape_alias _to_copy _unsafe_view _upsample_bicubic2d_aa "
    "_upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d alias "
    "as_strided avg_pool2d avg_pool3d channel_shuffle clone col2im constant cumsum detach diagonal expand flip gather "
    "grid_sampler_2d grid_sampler_3d im2col index index_select lift_fresh max_unpool2d mean native_channel_shuffle neg "
    "permute pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat replication_pad1d "
    "replication_pad2d replication_pad3d roll rot90 select slice split split_with_sizes squeeze sum t transpose tril "
    "triu unbind unfold unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_trilinear3d view",
    _product: "addmm baddbmm bmm convolution div linear mm mul mv",
    _sum: "add rsub sub",
    _joined: "cat stack",
    _copied: "copy fill",
    _chosen: "masked_fill maximum minimum where",
    _padded: "constant_pad_nd",
    _piecewise: "_prelu_kernel abs clamp clamp_max clamp_min hardshrink hardsigmoid hardtanh leaky_relu relu "
    "rrelu_with_noise softshrink threshold",
    _largest: "adaptive_max_pool2d adaptive_max_pool3d max max_pool2d_with_indices max_pool3d_with_indices min",
    _normalised: "_batch_norm_no_update _batch_norm_with_update _native_batch_norm_legit "
    "_native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm native_batch_norm native_group_norm "
    "native_layer_norm",
    _gated: "celu elu gelu hardswish mish silu tanh",
    _held: "_safe_softmax _softmax exp linalg_vector_norm pow reciprocal rsqrt sigmoid sqrt std var",
    _step: "argmax argmin eq ge gt isnan le lt ne sign",
    _filled: "empty_like full_like new_empty new_full new_ones new_zeros ones_like zero zeros_like",
}
RULES = {name: rule for rule, names in _OF.items() for name in names.split()}
"""Operation -> rule."""


def _bare(value: Any) -> Any:
    """The same without `Flow`."""
    if isinstance(value, Flow):
        return value.value
    return [_bare(each) for each in value] if isinstance(value, list | tuple) else value


def outcome(func: Any, given: Given) -> Any:
    """What the operation itself gives."""
    return func(**{name: _bare(value) for name, value in given.items()})


def _kept(tape: Tape, name: str, make: Callable[[], Tensor], flow: Flow) -> Tensor:
    """Something of the image's, on every image of the batch that is under way."""
    kept = tape.keep(lambda: make().clone())
    return cast(Tensor, kept.expand(len(flow), *kept.shape[1:]) if kept.ndim and len(kept) == 1 else kept)


def only_first(tape: Tape, func: Any, given: Given) -> None:
    """Refuse an operation that depends on the image by another argument than its first."""
    first, *others = given.values()
    if not isinstance(first, Flow) or next(flows_of(others), None) is not None:
        raise refused(func, tape, "depends on the image by another argument than its first")
