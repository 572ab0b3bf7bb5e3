"""One rule an aten operation: how it treats the image, and how it treats tangents afterwards.

`hsiutils.attribution.gates` sends an image through a network as a `Flow`, and then tangents. Linear operations treat
both alike. Of the others a `Tape` keeps what they did to the image: a slope and an offset, a choice, or the value of a
smooth gate, which is noted, because it makes the map another one than the derivative.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.overrides import enable_reentrant_dispatch


class NotPiecewiseLinear(TypeError):
    """A network has no exact affine map; `operations` names what is in the way, as "sigmoid in encoder.gate"."""

    def __init__(self, message: str, operations: tuple[str, ...]) -> None:
        super().__init__(message)
        self.operations = operations


class Zeros(NamedTuple):
    """A tensor that followed the image in the recording."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


class Step(NamedTuple):
    """One operation of the recording."""

    name: str
    kept: int
    """How much the tape had kept after it, and how many biases had been met."""
    sites: int
    out: list[Any]
    """`Zeros` in the place of what followed the image, and the rest as it was."""
    form: type | None
    """Of several results."""
    shared: bool


class Tape:
    """What the image did at each nonlinear operation, and which biases the pass under way lets through."""

    def __init__(self) -> None:
        self.recording = True
        self.steps: list[Step] = []
        self.kept: list[Any] = []
        self.sites: list[str] = []  # module of each bias, in the order of computation
        self.frozen: list[str] = []
        self.calls: Counter[str] = Counter()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.inside = [""]
        self.live = self.peak = 0
        self.start(1, frozenset(), None)

    def start(self, count: int, wanted: frozenset[int], factors: Tensor | None) -> None:
        """Begin a pass of some tangents with the biases at sites, or with all times factors that ask for a gradient."""
        self.count, self.wanted, self.factors = count, wanted, factors
        self.at = self.taken = self.passed = 0

    def finish(self) -> None:
        """Hold the pass against the recording."""
        if not self.recording and self.at != len(self.steps):
            raise _another_way("it ended early")

    def step(self, name: str) -> Step:
        """What this operation was in the recording."""
        self.at += 1
        if self.at > len(self.steps) or self.steps[self.at - 1].name != name:
            raise _another_way(f"it called {name}")
        return self.steps[self.at - 1]

    def skip(self, step: Step, flows: "list[Flow]") -> bool:
        """Pass over an operation on zeros at which no bias that is wanted comes in."""
        if not all(flow.void for flow in flows) or any(self.passed <= site < step.sites for site in self.wanted):
            return False
        self.taken, self.passed = step.kept, step.sites
        return True

    def listen(self, name: str, module: nn.Module) -> Iterator[Any]:
        """Hooks that know which module is at work, how often each was called, and what it put out."""

        def leave(_: nn.Module, __: Any, out: Any) -> None:
            self.inside.pop()
            self.calls[name] += 1
            if isinstance(out, Flow) and out.ndim == 4:
                self.shapes[name] = tuple(out.shape[1:])

        yield module.register_forward_pre_hook(lambda _, __: self.inside.append(name))
        yield module.register_forward_hook(leave)

    @property
    def where(self) -> str:
        """Name of the module at work."""
        return self.inside[-1] or "the network itself"

    def keep(self, make: Callable[[], Any]) -> Any:
        """What an operation did to the image: made while recording, taken from the tape afterwards."""
        if self.recording:
            self.kept.append(make())
        self.taken += 1
        return self.kept[self.taken - 1]

    def bias(self, value: Any) -> Any:
        """A bias as the pass takes it; None where it takes none."""
        if self.recording:
            self.sites.append(self.inside[-1])
            return value
        self.passed += 1
        if self.factors is not None:
            return value * self.factors[self.passed - 1]
        return value if self.passed - 1 in self.wanted else None

    def part(self, value: Any) -> Any:
        """A summand: a tensor that depends on the image as it is, another as a bias, or zeros in its place."""
        if isinstance(value, Flow):
            return value.value
        taken = self.bias(value)
        if taken is None:
            return value.new_zeros(()).expand(value.shape) if isinstance(value, Tensor) else 0
        return taken

    def hold(self, name: str) -> None:
        """Note a smooth gate."""
        if self.recording:
            self.frozen.append(f"{name} in {self.where}")

    def watch(self, value: Tensor) -> None:
        """Count the numbers that are alive at once."""
        self.live += value.numel()
        self.peak = max(self.peak, self.live + value.numel())  # an operation may need as much beside its result
        weakref.finalize(value, self._drop, value.numel())

    def _drop(self, numbers: int) -> None:
        self.live -= numbers


class Flow(Tensor):
    """A tensor that depends on the image: its value while recording, tangents of it afterwards."""

    value: Tensor
    tape: Tape
    shared: bool
    """Whether another one shows the same memory."""
    void: bool
    """Whether it is zero everywhere, and therefore has no memory."""
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, value: Tensor, tape: Tape, strides: tuple[int, ...] | None = None) -> "Flow":
        """Show the network a tensor of this shape; with strides, it is zero and only looks as if it had them."""
        flow = Tensor._make_wrapper_subclass(
            cls, value.shape, strides=strides or value.stride(), dtype=value.dtype, device=value.device
        )
        flow.value, flow.tape, flow.shared, flow.void = value, tape, False, strides is not None
        if tape.recording:
            tape.watch(value)
        return flow

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Flow({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore
        """Apply the rule of an operation."""
        name, rule, func, defaults, writes = _operation(func)
        given = defaults | dict(zip(defaults, args, strict=False)) | (kwargs or {})
        flows = list(_flows(given.values()))
        tape = flows[0].tape
        if rule is None:
            raise _refused(func, tape, "has no rule")
        if writes and not isinstance(args[0], Flow):
            raise _refused(func, tape, "writes what depends on the image into a constant")
        step = None if tape.recording else tape.step(name)
        if step and tape.skip(step, flows):
            return _skipped(step, flows, writes)
        # Below autograd, where this method is called, nothing is recorded: a reverse pass must come in from above.
        with nullcontext() if tape.factors is None else _differentiable():
            out = rule(tape, name, func, given)
            out = args[0]._write(out) if writes else out
        form = type(out) if isinstance(out, tuple | list) else None
        results = [_wrapped(leaf, tape, flows) for leaf in (out if form else (out,))]
        if step is None:
            shown = [
                Zeros(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, Flow) else leaf
                for leaf in results
            ]
            shared = any(isinstance(leaf, Flow) and leaf.shared for leaf in results)
            tape.steps.append(Step(name, len(tape.kept), len(tape.sites), shown, form, shared))
        return form(results) if form else results[0]

    def _write(self, out: Tensor) -> "Flow":
        """Take another value, seen in every view of this one."""
        if self.void and self.shared:
            raise RuntimeError("a view of zeros cannot be written on")
        self.void = False
        if self.shared or out.stride() != self.value.stride():
            self.value.copy_(out)
        else:
            self.value = out
        return self


class _Held:
    """A result that does not follow the image any more: what it was at the image."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _wrapped(leaf: Any, tape: Tape, flows: list[Flow]) -> Any:
    """A result of a rule as the network gets it."""
    if isinstance(leaf, Flow) or not floating(leaf):
        return leaf.value if isinstance(leaf, _Held) else leaf
    flow, memory = Flow(leaf, tape), leaf.untyped_storage().data_ptr()
    for source in flows:
        if source.value.untyped_storage().data_ptr() == memory:
            flow.shared = source.shared = True
    return flow


def _skipped(step: Step, flows: list[Flow], writes: bool) -> Any:
    """Zeros for zeros."""
    if writes:
        return flows[0]
    tape, results = flows[0].tape, []
    for leaf in step.out:
        if isinstance(leaf, Zeros):
            shape = (leaf.shape[0] * tape.count, *leaf.shape[1:]) if leaf.shape else ()
            results.append(Flow(flows[0].value.new_zeros((), dtype=leaf.dtype).expand(shape), tape, leaf.strides))
        else:
            alike = isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == 1
            results.append(leaf.expand(tape.count, *leaf.shape[1:]) if alike else leaf)
    if step.shared:
        for flow in (*flows, *_flows(results)):
            flow.shared = True
    return step.form(results) if step.form else results[0]


Given = dict[str, Any]
"""Arguments of an operation by their names in its schema."""


def _linear(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Linear in the first argument, the only one that may depend on the image."""
    _only_first(tape, func, given)
    out = _call(func, given)
    if not all(map(floating, out if isinstance(out, tuple | list) else (out,))):
        raise _refused(func, tape, "makes whole numbers of what depends on the image")
    return out


def _product(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Linear in either factor, plus a bias; of two that depend on the image, the smaller or first gates the other."""
    summand = {"addmm": "self", "baddbmm": "self", "convolution": "bias", "linear": "bias"}.get(name, "")
    one, other = [key for key in given if key != summand][:2]
    depend = [key for key in (one, other) if isinstance(given[key], Flow)]
    if not depend or given.get("rounding_mode"):
        raise _refused(func, tape, "is no product with a constant")
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
            return _Held(_call(func, given))
    return _call(func, given)


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
    _only_first(tape, func, {key: value for key, value in given.items() if key != "noise"})
    key, x = next((key, value.value) for key, value in given.items())

    def make() -> tuple[Tensor, Tensor | None]:
        with _differentiable():
            leaf = x.detach().clone().requires_grad_()
            value = _call(func, given | {key: leaf})
            (slope,) = torch.autograd.grad(value.sum(), leaf)
            offset = value.detach() - slope * leaf.detach()
        return slope, offset if offset.any() else None

    slope, offset = tape.keep(make)
    offset = None if offset is None else tape.bias(offset)
    return x * slope if offset is None else x * slope + offset


def _largest(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Pooling, and the largest or smallest along an axis: the image's choice is taken from every tangent."""
    x = given["self"].value
    index = tape.keep(lambda: _call(func, given)[1])
    if name in ("max", "min"):
        dim = given["dim"] % x.ndim
        picks = index if given["keepdim"] else index.unsqueeze(dim)
        chosen = x.gather(dim, picks.expand(len(x), *picks.shape[1:]) if dim else picks)
        return chosen if given["keepdim"] else chosen.squeeze(dim), _Held(index)
    index = index.expand(len(x), *index.shape[1:])
    # (n, k, h, w) -> (n, k, hw), of which (n, k, h'w') are chosen -> (n, k, h', w')
    return x.flatten(2).gather(2, index.flatten(2)).reshape(index.shape), _Held(index)


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
    return (y, *(_Held(None),) * (len(func._schema.returns) - 1))


def _gated(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """A number times a smooth gate of it, which is held: a chord from the origin and no slope."""
    _only_first(tape, func, given)
    tape.hold(name)
    x = given["self"].value
    return x * tape.keep(lambda: torch.where(x == 0, 0, _call(func, given) / x))


def _held(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """A smooth gate, held at the image's value."""
    tape.hold(name)
    return _step(tape, name, func, given)


def _step(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Constant but for jumps, such as a comparison."""
    return _Held(_kept(tape, name, lambda: _call(func, given), next(_flows(given.values()))))


def _filled(tape: Tape, name: str, func: Any, given: Given) -> Any:
    """Of the image only its shape is used: zeros, which later may be written on, or another constant."""
    if "ones" in name or "full" in name:
        return _Held(_call(func, given))
    return _call(func, given).zero_()


Rule = Callable[[Tape, str, Any, Given], Any]
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
_RULES = {name: rule for rule, names in _OF.items() for name in names.split()}
"""Operation -> rule."""


@cache
def _operation(func: Any) -> tuple[str, Rule | None, Any, Given, bool]:
    """Name, rule, the form that returns its result, arguments with their defaults, and whether it writes into one."""
    name = func._schema.name.removeprefix("aten::")
    writes = name.endswith("_") and not name.endswith("__")
    name = name.removesuffix("_") if writes else name
    rule = None if "out" in func._overloadname else _RULES.get(name)
    if writes and rule is not None:
        func = getattr(getattr(torch.ops.aten, name), func._overloadname)
    return name, rule, func, {each.name: each.default_value for each in func._schema.arguments}, writes


def _flows(values: Iterable[Any]) -> Iterator[Flow]:
    """Those that depend on the image, of arguments and of lists among them."""
    for value in values:
        if isinstance(value, Flow):
            yield value
        elif isinstance(value, list | tuple):
            yield from _flows(value)


def _bare(value: Any) -> Any:
    """The same without `Flow`."""
    if isinstance(value, Flow):
        return value.value
    return [_bare(each) for each in value] if isinstance(value, list | tuple) else value


def _call(func: Any, given: Given) -> Any:
    return func(**{name: _bare(value) for name, value in given.items()})


def _kept(tape: Tape, name: str, make: Callable[[], Tensor], flow: Flow) -> Tensor:
    """Something of the image's, on every image of the batch that is under way."""
    kept = tape.keep(lambda: make().clone())
    return cast(Tensor, kept.expand(len(flow), *kept.shape[1:]) if kept.ndim and len(kept) == 1 else kept)


def floating(leaf: Any) -> bool:
    """Whether this is a tensor that an affine map can have made."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _only_first(tape: Tape, func: Any, given: Given) -> None:
    first, *others = given.values()
    if not isinstance(first, Flow) or next(_flows(others), None) is not None:
        raise _refused(func, tape, "depends on the image by another argument than its first")


def _refused(func: Any, tape: Tape, why: str) -> NotPiecewiseLinear:
    name = str(func).removeprefix("aten.")
    operation = f"{name} in {tape.where}"
    return NotPiecewiseLinear(
        f"no exact affine map of the network is known, because {operation} {why}: explain a tensor before it (pick it "
        "by output=), or put an operation there that is linear, piecewise linear or a gate",
        (*dict.fromkeys(tape.frozen), operation),
    )


def _another_way(how: str) -> RuntimeError:
    return RuntimeError(
        f"the network went another way than at the image ({how}): it must do the same at each call, whatever the values"
    )


_MODES = torch._C.DispatchKeySet(torch._C.DispatchKey.Python).add(torch._C.DispatchKey.PythonTLSSnapshot)


@contextmanager
def _differentiable() -> Iterator[None]:
    """Let autograd see operations inside a rule, which is called below it and below a caller's own dispatch modes."""
    with enable_reentrant_dispatch(), torch._C._ExcludeDispatchKeyGuard(_MODES), torch.enable_grad():
        yield
