"""The exact affine map of any torch network at one image: record once, push tangents many times.

A network of convolutions, normalisations in evaluation, ReLUs and poolings is piecewise linear: around an image it is
y = J x + b, with every gate of a ReLU and every choice of a pooling as the image set it (FullGrad, Srinivas & Fleuret
2019). `Affine` finds that map for an unchanged module. The image goes through it as a tensor subclass whose
`__torch_dispatch__` has one rule an aten operation. The recording pass keeps what each nonlinear operation did; later
passes send tangents through the same module, take what was kept instead of deciding anew, and leave biases out.

An operation without a rule is refused by name. Gates that are smooth (sigmoid, SiLU, softmax, LayerNorm, products of
two tensors) are refused unless `freeze` holds them at the image's value: the parts then still sum to the logits, but
J is not the derivative, and the result says so.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from hsiutils.attribution.hooks import INPUT, dtype_of, frozen, full_precision, layer_of, logits_of
from hsiutils.attribution.rules import RULES
from hsiutils.attribution.tape import Flow, NotPiecewiseLinear, Rule, Tape, floating, listening

_CACHE = 4 << 20
"""Bytes that a processor keeps at hand, about."""
_IMAGE = 0
"""`Flow.number` of the image in the recording."""


class Pulled(NamedTuple):
    """The adjoint of the affine map, for weighted logits."""

    gradient: Tensor
    """(channels, h, w) derivative by the image, gates held."""
    biases: dict[str, float]
    """What each layer's biases contribute, by module name."""


class Affine:
    """The affine map that a network is at one image, in evaluation: logits = push(image) + bias().

    At a tie (a ReLU's input of exactly zero, equal numbers in a pooling window) torch's own derivative decides. The
    network must not change afterwards: its weights are read again at each pass. If its kernels are in
    `torch.channels_last`, images and tangents are, too: on a processor that saves a third of a pass in float32.

    Parameters
    ----------
    model : maps (n, channels, h, w) to logits (n, classes, h', w'), or to a dict that has them under "out".
    x : (channels, h, w) or (1, channels, h, w), of the network's dtype.
    output : picks the logits out of what the network returns, where it returns something else.
    freeze : hold smooth gates at the image's value instead of refusing them.
    exact : take the gates in float64 whatever the network's dtype: single precision opens one gate in millions that
        double precision shuts. Needs a copy of the network in double precision. "rounded" takes the network itself for
        it, in double precision for an image in single, and rounds it afterwards, in place.
    rules : operation -> how it treats what depends on the image; others than the usual ones make another map of it, as
        that of `hsiutils.attribution.lrp`.

    Attributes
    ----------
    image, logits : (channels, h, w) and (classes, h', w'), as the network gives them.
    frozen : what is held though it is smooth, such as "sigmoid in encoder.gate"; empty if the map is exact.
    layers : module name -> (channels, h', w') of its output at the image, in the order of computation, for modules that
        put out one tensor and were called once. A tangent can enter at them.
    biased : names of the modules that add a bias, or an offset (a clamp at its limit), in that order.
    gated : dtype of the pass that the gates were taken in.
    footprint : bytes that one tangent needs on its way, about.

    Raises
    ------
    NotPiecewiseLinear
        At once, if an operation has no rule, or is smooth and `freeze` is not set.
    ValueError
        If x or the logits have another shape, or their dtypes differ.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    >>> x = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))
    >>> affine = Affine(model, x)
    >>> bands = affine.push(torch.eye(3)[:, :, None, None] * x)  # what each channel does to every logit
    >>> bands.shape, torch.allclose(bands.sum(0) + affine.bias(), affine.logits, atol=1e-6)
    (torch.Size([3, 2, 3, 4]), True)
    >>> affine.exact, affine.biased
    (True, ('0', '3'))
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        *,
        output: Callable[[Any], Tensor] | None = None,
        freeze: bool = False,
        exact: bool | Literal["rounded"] = False,
        rules: Mapping[str, Rule] = RULES,
    ) -> None:
        image = x[0] if x.ndim == 4 and len(x) == 1 else x
        dtype = image.dtype if exact == "rounded" else dtype_of(model, image)
        if image.ndim != 3 or image.dtype != dtype or dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"x must be one image, (channels, h, w) or (1, channels, h, w), in float32 or float64 as the network "
                f"({dtype}), got {tuple(x.shape)} {x.dtype}"
            )
        self.model, self.image = model, image.detach()
        self._pick = output or logits_of
        self._tape = tape = Tape(rules, dtype)
        self._layout = _layout_of(model)
        twice = exact is not False and dtype != torch.float64
        recorded = copy.deepcopy(model).double() if twice and exact != "rounded" else model
        with listening(recorded, tape):
            self.logits = self._run(recorded, self.image[None].to(torch.float64 if twice else dtype))[0]
        self._recorded()
        if self.frozen and not freeze:
            raise NotPiecewiseLinear(
                f"the network is not piecewise linear, because of {', '.join(self.frozen)}: it has no exact "
                "decomposition. With freeze=True these gates are held at the image's values: the parts then sum to the "
                "logits, but are not derivatives",
                self.frozen,
            )
        if twice:
            with torch.no_grad(), full_precision(), frozen(model):
                tape.kept = tree_map(lambda kept: kept.to(dtype) if floating(kept) else kept, tape.kept)
                if exact == "rounded":
                    model.to(dtype)
                    self.logits = self.logits.to(dtype)
                else:
                    self.logits = self._pick(model(self.image[None]))[0]
        self.gated = torch.float64 if twice else dtype

    def _recorded(self) -> None:
        """End the recording, and say what it met."""
        tape = self._tape
        tape.recording = False
        tape.lasts = {number: place for place, step in enumerate(tape.steps) for number in step.reads} | tape.lasts
        self.frozen = tuple(dict.fromkeys(tape.frozen))
        self.layers = {name: shape for name, shape in tape.shapes.items() if tape.calls[name] == 1}
        self.biased = tuple(dict.fromkeys(tape.sites))
        self.footprint = tape.peak * self.image.dtype.itemsize
        self._first = self._reader()

    def _reader(self) -> str | None:
        """Name of the convolution that alone reads the image, as it is, if there is one."""
        steps = self._tape.steps
        names = [step.where for step in steps if _IMAGE in step.reads]
        first = dict(self.model.named_modules()).get(names[0]) if len(names) == 1 else None
        plain = type(first) is nn.Conv2d and first.groups == 1 and names[0] in self.layers
        return names[0] if plain and [step.where for step in steps].count(names[0]) == 1 else None

    def __repr__(self) -> str:
        """Sizes, and what was frozen."""
        held = f" (held: {', '.join(self.frozen)})" if self.frozen else ""
        sizes = f"{tuple(self.image.shape)} -> {tuple(self.logits.shape)}"
        return f"Affine({type(self.model).__name__}, {sizes}, {self.gated}, exact={self.exact}{held})"

    @property
    def exact(self) -> bool:
        """Whether J is the derivative: no gate was frozen."""
        return not self.frozen

    def tangents_within(self, memory: int) -> int:
        """How many tangents one pass should carry so that it works within `memory` bytes; a ValueError if not even one.

        On a processor no more than pay: one in float64, whose convolutions take a batch image by image, else four, with
        channels last a dozen, or as many as its cache holds.
        """
        if memory < self.footprint:
            raise ValueError(
                f"one tangent of this network needs {self.footprint} bytes, {memory} are left for it: raise the memory "
                "limit"
            )
        few = 13 if self._layout == torch.channels_last else 4
        pay = max(1 if self.image.dtype == torch.float64 else few, _CACHE // self.footprint)
        return min(memory // self.footprint, pay if self.image.device.type == "cpu" else memory)

    def push(self, tangents: Tensor, layer: str = INPUT, after: bool = True, *, consumer: str | None = None) -> Tensor:
        """What tangents (n, channels, h, w) do to every logit: (n, classes, h', w').

        They enter at the image, or at the output of a layer in the layer's size; (n, channels, 1, 1) is the same value
        everywhere. All go through the network together: a processor likes about four in float32, one in float64.

        Parameters
        ----------
        layer : torch module name, or Keras name for a `UNet`; "input" for the image.
        after : of a Keras name, after its normalisation and ReLU.
        consumer : one of `consumers`: only this operation sees the tangents, such as the one that joins a skip
            connection, and no other that reads the layer's output.

        Raises
        ------
        KeyError, ValueError
            If there is no such layer or consumer, or no tangent can enter there (see `layers`).
        """
        if layer == INPUT and consumer is None:
            return self._run(self.model, tangents.expand(-1, *self.image.shape))
        module, name = self._entrance(layer, after)
        door = None
        if consumer is not None:
            steps = self._consumers(name)
            if consumer not in steps:
                raise KeyError(f"nothing called {consumer!r} reads {layer!r}, but {', '.join(steps) or 'nothing'}")
            door = steps[consumer]
        return self._run(self.model, tangents.expand(-1, *self.layers[name]), module, door=door)

    def push_channels(self, tangents: Tensor, channels: Sequence[int]) -> Tensor:
        """As `push`, of tangents (n, 1, h, w) in one channel of the image each, all others being zero.

        Where one plain convolution reads the image, it reads one channel for each.
        """
        if self._first is None:
            wide = tangents.new_zeros((len(channels), *self.image.shape))
            wide[range(len(channels)), list(channels)] = tangents[:, 0]
            return self._run(self.model, wide)
        first = dict(self.model.named_modules())[self._first]
        assert isinstance(first, nn.Conv2d)  # noqa: S101
        entering = tangents.new_empty((len(channels), *self.layers[self._first])).to(memory_format=self._layout)
        with torch.no_grad(), full_precision():
            for row, channel in enumerate(channels):  # (k, channels, ...) -> (k, 1, ...)
                kernel = first.weight[:, channel : channel + 1].contiguous()  # a view of channels last is slow
                entering[row] = first._conv_forward(tangents[row : row + 1], kernel, None)[0]
        return self._run(self.model, entering, first)

    def along(self, images: Iterable[Tensor], memory: int) -> Iterator["Affine"]:
        """The maps of the same network at other images (channels, h, w), as many together as fit into `memory` bytes.

        Of those at n images `logits` are (n, classes, h', w'), and a push takes n tangents, one for each.
        """
        kept = sum(leaf.nbytes for leaf in tree_leaves(self._tape.kept) if isinstance(leaf, Tensor))
        most = min(self.tangents_within(memory), max(1, memory // (self.footprint + kept)))
        waiting = iter(images)
        while block := list(islice(waiting, most)):
            maps = copy.copy(self)
            maps._tape, maps.image = Tape(self._tape.rules, self._tape.dtype), block[0]
            with listening(self.model, maps._tape):
                maps.logits = maps._run(self.model, torch.stack(block))
            maps._recorded()
            yield maps

    def same(self, layer: str, other: str, after: bool = True) -> bool:
        """Whether two layers put out one tensor, such as a ReLU and the dropout behind it, which passes it on.

        `layer`, `other` and `after` as of `push`.
        """
        one, two = (INPUT if name == INPUT else self._entrance(name, after)[1] for name in (layer, other))
        return self._tape.made.get(one, _IMAGE) == self._tape.made.get(two, _IMAGE)

    def consumers(self, layer: str, after: bool = True) -> tuple[str, ...]:
        """The operations that read a layer's output, such as "cat in decoder.0", in the order of computation.

        `layer` and `after` as of `push`.
        """
        return tuple(self._consumers(self._entrance(layer, after)[1]))

    def _consumers(self, name: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for number, step in enumerate(self._tape.steps):
            if self._tape.made[name] in step.reads:
                label = f"{step.name} in {step.where}"
                again = sum(each.split(" (")[0] == label for each in found)
                found[f"{label} ({again + 1})" if again else label] = number
        return found

    def _entrance(self, layer: str, after: bool) -> tuple[nn.Module, str]:
        """The module at whose output tangents enter, and its name."""
        module = layer_of(self.model, layer, after)
        name = next(name for name, each in self.model.named_modules() if each is module)
        if name not in self.layers:
            raise ValueError(
                f"no tangent can enter at {layer!r}, which was called {self._tape.calls[name]} times: it must be "
                f"once, and put out one tensor (n, channels, h', w'), as {', '.join(self.layers)}"
            )
        return module, name

    def bias(self, layer: str | None = None) -> Tensor:
        """What all biases together, or those of one module of `biased`, do to every logit: (classes, h', w')."""
        if layer is not None and layer not in self.biased:
            raise KeyError(f"no bias at {layer!r}; there are biases at {', '.join(self.biased)}")
        sites = frozenset(number for number, name in enumerate(self._tape.sites) if layer in (None, name))
        return self._run(self.model, None, wanted=sites)[0]

    def pull(self, weights: Tensor, guided: bool = False) -> Pulled:
        """The adjoint of `push`: what the sum of weights (classes, h', w') times logits owes to the image and biases.

        One reverse pass. (gradient * image).sum() and the biases' shares add up to the weighted logits, unless it is
        guided: then every ReLU, module or function, also stops what is negative on the way back (Springenberg 2015).
        """
        with torch.enable_grad(), full_precision():
            leaf = self.image.clone().requires_grad_()
            factors = self.image.new_ones(len(self._tape.sites)).requires_grad_()
            logits = self._run(self.model, leaf[None], factors=factors, guided=guided)[0]
            value = (logits * weights.to(self.image)).sum()
            gradient, shares = torch.autograd.grad(value, (leaf, factors), allow_unused=True, materialize_grads=True)
        biases = dict.fromkeys(self.biased, 0.0)
        for name, share in zip(self._tape.sites, shares.tolist(), strict=True):
            biases[name] += share
        return Pulled(gradient, biases)

    def _run(self, model: nn.Module, value: Tensor | None, entrance: nn.Module | None = None, **options: Any) -> Tensor:
        """Tangents together; one by one where the network does not keep the images of a batch on the first axis."""
        try:
            return self._pass(model, value, entrance, **options)
        except RuntimeError:
            if self._tape.recording:
                raise
            rows = [None] if value is None else [tangent[None] for tangent in value]
            return torch.cat([self._pass(model, row, entrance, skip=False, **options) for row in rows])

    def _pass(
        self,
        model: nn.Module,
        value: Tensor | None,
        entrance: nn.Module | None = None,
        wanted: frozenset[int] = frozenset(),
        factors: Tensor | None = None,
        guided: bool = False,
        door: int | None = None,
        skip: bool = True,
    ) -> Tensor:
        """One pass of the image, or of tangents that enter as the image does or at the output of a module.

        None are zeros; `skip` passes over operations on zeros; with a door they enter at one reader of the output.
        """
        tape, count = self._tape, 1 if value is None else len(value)
        tape.start(count, wanted, factors, guided, door)
        with ExitStack() as stack:
            if factors is None:
                stack.enter_context(torch.no_grad())
            for context in (full_precision(), frozen(model), _decomposed()):
                stack.enter_context(context)
            if value is None or entrance is not None:
                zeros = self.image.new_zeros(()).expand(count, *self.image.shape)
                shown = self.image[None].contiguous(memory_format=self._layout).stride()
                start = Flow(zeros, tape, shown) if skip else Flow(zeros.clone(memory_format=self._layout), tape)
            else:
                start = Flow(value.clone(memory_format=self._layout), tape)  # the network may write into it
            if entrance is not None and value is not None:
                value = value.contiguous(memory_format=self._layout)

                def enter(_: nn.Module, __: Any, out: Flow, tangents: Tensor = value) -> Flow:
                    if door is None:
                        return Flow(tangents.clone() if out.void else out.value + tangents, tape)
                    out.waiting = tangents
                    return out

                stack.callback(entrance.register_forward_hook(enter).remove)
            with torch.no_grad():  # autograd sees the operations inside the rules
                logits = self._pick(model(start))
        if not isinstance(logits, Flow):
            raise NotPiecewiseLinear(
                f"what the network returns is held by {', '.join(tape.frozen) or 'no operation of the image'}: explain "
                "the logits before that (pick them by output=, or leave the layer out)",
                tuple(tape.frozen),
            )
        if tape.recording and (logits.ndim != 4 or len(logits) != count):
            raise ValueError(
                f"the logits must be ({count}, classes, h, w), got {tuple(logits.shape)}: pick them by output="
            )
        if not tape.recording and logits.shape != (count, *self.logits.shape[-3:]):
            raise RuntimeError(f"{count} tangents came out of the network as {tuple(logits.shape)}")
        tape.finish()
        if tape.recording:
            tape.lasts = {logits.number: len(tape.steps)}
        return logits.value


def _layout_of(model: nn.Module) -> torch.memory_format:
    """Channels last where the kernels are: what such a network gets its images in, too."""
    kernels = [each for each in model.parameters() if each.ndim == 4 and not each.is_contiguous()]
    last = any(each.is_contiguous(memory_format=torch.channels_last) for each in kernels)
    return torch.channels_last if last else torch.contiguous_format


@contextmanager
def _decomposed() -> Iterator[None]:
    """Attention in its steps and not as one operation, on every processor."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
