"""What an image did on its way through a network, and tangents that follow it: tensors that know the recording.

A `Flow` travels through the unchanged modules. Each operation on it looks up its rule (`hsiutils.attribution.rules`)
and its place on the `Tape`, which keeps what nonlinear operations did to the image.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import enable_reentrant_dispatch


class NotPiecewiseLinear(ValueError):
    """A network has no exact affine map; `operations` names what is in the way, as "sigmoid in encoder.gate"."""

    def __init__(self, message: str, operations: tuple[str, ...]) -> None:
        super().__init__(message)
        self.operations = operations


Given = dict[str, Any]
"""Arguments of an operation by their names in its schema."""
Rule = Callable[["Tape", str, Any, Given], Any]
"""How an operation treats what depends on the image."""


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
    reads: tuple[int, ...]
    """`Flow.number` of what it read, and of what it made."""
    makes: tuple[int, ...]
    where: str
    func: Any
    """The operation in the form that returns its result, and its arguments that do not follow the image."""
    constant: Given


class Tape:
    """What the image did at each nonlinear operation, and which biases the pass under way lets through."""

    def __init__(self, rules: "Mapping[str, Rule]", dtype: torch.dtype) -> None:
        self.rules, self.recording = rules, True
        self.dtype = dtype  # of the tangents
        self.steps: list[Step] = []
        self.kept: list[Any] = []
        self.sites: list[str] = []  # module of each bias, in the order of computation
        self.frozen: list[str] = []
        self.calls: Counter[str] = Counter()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.made: dict[str, int] = {}  # module -> `Flow.number` of its output
        self.numbers = count()
        self.lasts: dict[int, int] = {}  # `Flow.number` -> the last step that reads it
        self.inside = [""]
        self.live = self.peak = 0
        self.start(1, frozenset(), None)

    def start(
        self,
        count: int,
        wanted: frozenset[int],
        factors: Tensor | None,
        guided: bool = False,
        door: int | None = None,
    ) -> None:
        """Begin a pass of some tangents with the biases at sites, or with all times factors that ask for a gradient.

        Guided: on the way back every ReLU also stops what is negative. Door: the step at which tangents enter that wait
        at a tensor which it reads.
        """
        self.door = door
        self.count, self.wanted, self.factors, self.guided = count, wanted, factors, guided
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
                self.shapes[name], self.made[name] = tuple(out.shape[1:]), out.number

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

    def scaled(self, flow: "Flow", factor: Tensor) -> Tensor:
        """What the step under way reads first, times a constant; in its own memory if nobody reads it afterwards."""
        x, place = flow.value, self.at - 1
        alone = not (self.recording or flow.shared or flow.void) and self.factors is None
        if not alone or self.lasts[self.steps[place].reads[0]] != place:
            return x * factor
        flow.value = x.new_empty(0)  # whoever reads it against the recording is told
        return x.mul_(factor)

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


@contextmanager
def listening(model: nn.Module, tape: Tape) -> Iterator[None]:
    """Let a recording know which module is at work."""
    with ExitStack() as stack:
        for name, module in model.named_modules():
            for handle in tape.listen(name, module):
                stack.callback(handle.remove)
        yield


class Flow(Tensor):
    """A tensor that depends on the image: its value while recording, tangents of it afterwards."""

    value: Tensor
    tape: Tape
    shared: bool
    """Whether another one shows the same memory."""
    void: bool
    """Whether it is zero everywhere, and therefore has no memory."""
    number: int
    """Of this value in the pass under way; another one after a write."""
    waiting: Tensor | None
    """Tangents that are added where one step reads it, the tape's door."""
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, value: Tensor, tape: Tape, strides: tuple[int, ...] | None = None) -> "Flow":
        """Show the network a tensor of this shape; with strides, it is zero and only looks as if it had them."""
        flow = Tensor._make_wrapper_subclass(
            cls, value.shape, strides=strides or value.stride(), dtype=value.dtype, device=value.device
        )
        flow.value, flow.tape, flow.shared, flow.void = value, tape, False, strides is not None
        flow.number, flow.waiting = next(tape.numbers), None
        if tape.recording:
            tape.watch(value)
        return flow

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Flow({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore
        """Apply the rule of an operation."""
        name, pure, defaults, writes = _operation(func)
        given = defaults | dict(zip(defaults, args, strict=False)) | (kwargs or {})
        flows = list(flows_of(given.values()))
        tape = flows[0].tape
        rule = None if "out" in func._overloadname else tape.rules.get(name)
        if rule is None:
            raise refused(func, tape, "has no rule")
        if writes and not isinstance(args[0], Flow):
            raise refused(pure, tape, "writes what depends on the image into a constant")
        step, reads = None if tape.recording else tape.step(name), tuple(flow.number for flow in flows)
        if step and tape.at - 1 == tape.door:
            given = {key: _entered(value) for key, value in given.items()}
            flows = list(flows_of(given.values()))
        if step and tape.skip(step, flows):
            return _skipped(step, flows, writes)
        constant = {} if step else {key: value for key, value in given.items() if next(flows_of([value]), None) is None}
        # Below autograd, where this method is called, nothing is recorded: a reverse pass must come in from above.
        with nullcontext() if tape.factors is None else differentiable():
            out = rule(tape, name, pure, given)
            out = args[0]._write(out) if writes else out
        form = type(out) if isinstance(out, tuple | list) else None
        results = [_wrapped(leaf, tape, flows) for leaf in (out if form else (out,))]
        if step is None:
            shown = [
                Zeros(tuple(leaf.shape), leaf.stride(), leaf.dtype) if isinstance(leaf, Flow) else leaf
                for leaf in results
            ]
            shared = any(isinstance(leaf, Flow) and leaf.shared for leaf in results)
            counts, makes = (len(tape.kept), len(tape.sites)), tuple(flow.number for flow in flows_of(results))
            tape.steps.append(Step(name, *counts, shown, form, shared, reads, makes, tape.where, pure, constant))
        return form(results) if form else results[0]

    def _write(self, out: Tensor) -> "Flow":
        """Take another value, seen in every view of this one."""
        if self.void and self.shared:
            raise RuntimeError("a view of zeros cannot be written on")
        self.void, self.number, self.waiting = False, next(self.tape.numbers), None
        if self.shared or (self.value.numel() and out.stride() != self.value.stride()):
            self.value.copy_(out)
        else:
            self.value = out
        return self


class Held:
    """A result that does not follow the image any more: what it was at the image."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _entered(value: Any) -> Any:
    """Arguments with the tangents that wait at them."""
    if isinstance(value, Flow) and value.waiting is not None:
        return Flow(value.value + value.waiting, value.tape)
    return [_entered(each) for each in value] if isinstance(value, list | tuple) else value


def _wrapped(leaf: Any, tape: Tape, flows: list[Flow]) -> Any:
    """A result of a rule as the network gets it."""
    if isinstance(leaf, Flow) or not floating(leaf):
        return leaf.value if isinstance(leaf, Held) else leaf
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
        for flow in (*flows, *flows_of(results)):
            flow.shared = True
    return step.form(results) if step.form else results[0]


@cache
def _operation(func: Any) -> tuple[str, Any, Given, bool]:
    """Name, the form that returns its result, arguments with their defaults, and whether it writes into one of them."""
    name = func._schema.name.removeprefix("aten::")
    writes = name.endswith("_") and not name.endswith("__")
    pure = func
    if writes:
        name = name.removesuffix("_")
        pure = getattr(getattr(torch.ops.aten, name, None), func._overloadname, func)
    return name, pure, {each.name: each.default_value for each in func._schema.arguments}, writes


def flows_of(values: Iterable[Any]) -> Iterator[Flow]:
    """Those that depend on the image, of arguments and of lists among them."""
    for value in values:
        if isinstance(value, Flow):
            yield value
        elif isinstance(value, list | tuple):
            yield from flows_of(value)


def floating(leaf: Any) -> bool:
    """Whether this is a tensor that an affine map can have made."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def refused(func: Any, tape: Tape, why: str) -> NotPiecewiseLinear:
    """The error of an operation that has no place in an affine map; `why` goes on "because it"."""
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
def differentiable() -> Iterator[None]:
    """Let autograd see operations inside a rule, which is called below it and below a caller's own dispatch modes."""
    with enable_reentrant_dispatch(), torch._C._ExcludeDispatchKeyGuard(_MODES), torch.enable_grad():
        yield
