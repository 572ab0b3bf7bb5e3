"""Looking into a network without leaving a trace, and from a layer's grid to the image.

Hooks and modes exist only inside `with`: everything is undone on the way out, whatever ended the block,
KeyboardInterrupt included, and errors pass through. `to_image` upsamples a layer's map, and `upsampling_weights` is its
adjoint: what upsampling does to the sum of a map.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.models.unet import UNet

INPUT = "input"
"""Name of the network's input where a layer is asked for."""
Size = tuple[int, int]
"""(rows, columns)."""
Picker = Callable[[Any], Tensor]
"""Picks the logits out of what a network returns."""


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no parameter asks for a gradient.

    Each module's own mode and each parameter's own `requires_grad` come back afterwards; `.grad` is not touched,
    because a backward pass inside the block has no parameter to write to.
    """
    modes = [module for module in model.modules() if module.training]
    asks = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module in modes:  # what torch.export gives back refuses .eval()
            module.training = False
        for parameter in asks:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in modes:
            module.training = True
        for parameter in asks:
            parameter.requires_grad_(True)


@contextmanager
def activations(
    model: nn.Module, names: Iterable[str], after: bool = True, leaf: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Collect what layers put out during the forward passes inside the block; the latest pass wins.

    Yields name -> (n, channels, h, w), of the padded size (see `UNet`). A KeyError if there is no such layer.

    Parameters
    ----------
    names : of layers (see `layer_of`), or "input" for what the network is given.
    after : the tensor after batch normalisation and ReLU; else what Keras calls `get_layer(name).output`.
    leaf : cut the graph at each layer and let its output ask for a gradient, so that a backward pass stops there.
        Layers above one another cannot be leaves together: the upper one would cut off the lower.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        seen[name] = value.detach().requires_grad_() if leaf else value
        return seen[name].clone()  # the network may write on it

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(replaced(model, name, partial(keep, name), after))
        yield seen


def layer_of(model: nn.Module, name: str, after: bool = True) -> nn.Module:
    """The module of a layer: by Keras name in a `UNet` (see `UNet.layer` for `after`), by torch name in any network.

    A KeyError if there is none.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name not in modules and isinstance(model, UNet):
        return model.layer(name, after)
    if not name or name not in modules:
        raise KeyError(f"no layer {name!r} in the network; it has {', '.join(each for each in modules if each)}")
    return modules[name]


def layer_sizes(model: nn.Module, image: Tensor) -> dict[str, tuple[int, ...]]:
    """Torch name -> (channels, h', w') of each module's output at an image (channels, h, w), in order of computation.

    Of modules that put out one tensor that the logits depend on, and are called once: at others a layer says nothing.
    """
    made: dict[str, list[tuple[tuple[int, ...], Any]]] = {}

    def leave(name: str, _: nn.Module, __: Any, out: Any) -> None:
        made.setdefault(name, []).append((tuple(out.shape[1:]), out.grad_fn) if isinstance(out, Tensor) else ((), None))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(partial(leave, name)).remove)
        for context in (torch.enable_grad(), full_precision(), frozen(model)):
            stack.enter_context(context)
        waiting = [logits_of(model(image[None].clone().requires_grad_())).grad_fn]
    reached = set[Any]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in reached:
            reached.add(node)
            waiting += [before for before, _ in node.next_functions]
    found = {name: each[0] for name, each in made.items() if len(each) == 1}
    return {name: size for name, (size, node) in found.items() if len(size) == 3 and node in reached}


def called(model: nn.Module, image: Tensor) -> list[nn.Module]:
    """The modules of a network in the order in which an image (channels, h, w) leaves them, for the last time."""
    made: dict[nn.Module, None] = {}

    def leave(module: nn.Module, *_: Any) -> None:
        made.pop(module, None)
        made[module] = None

    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_hook(leave).remove)
        ask(model, image[None])
    return list(made)


def copied(model: nn.Module) -> nn.Module:
    """A copy, whose tensors know gradients; of a `UNet` without its hooks."""
    with torch.inference_mode(False):
        return model.unhooked() if isinstance(model, UNet) else copy.deepcopy(model)


def padded_size(model: nn.Module, image: Size) -> Size:
    """(rows, columns) of an image inside a network: a `UNet` pads it."""
    return model.config.padded(image) if isinstance(model, UNet) else image


@contextmanager
def replaced(model: nn.Module, name: str, change: Callable[[Tensor], Tensor], after: bool = True) -> Iterator[None]:
    """Let every forward pass inside the block go on with `change(output)` in place of a layer's output.

    `change` takes (n, channels, h, w); `name` and `after` as in `activations`.
    """
    if name == INPUT:
        handle = model.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))
    else:
        handle = layer_of(model, name, after).register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute as the tensors' dtype says, whatever the caller's modes: what an attribution needs to be exact.

    No TF32 on a GPU, which rounds to 1e-3; no autocast; and not inference mode, whose tensors know no gradient. Whether
    gradients are recorded stays as it is.
    """
    convolution, product = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    records = torch.is_grad_enabled()
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            torch.inference_mode(False),
            torch.set_grad_enabled(records),
        ):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolution, product


def dtype_of(model: nn.Module, x: Tensor) -> torch.dtype:
    """Of the network's weights; the input's own where it has none."""
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), x.dtype)


def logits_of(out: Any) -> Tensor:
    """The logits (n, classes, h, w) that a network returns, itself or under "out" as torchvision's do."""
    return cast(Tensor, out["out"] if isinstance(out, Mapping) and "out" in out else out)


@contextmanager
def picked(model: nn.Module, output: Picker | None = None) -> Iterator[None]:
    """Let the network return its logits inside the block, by `output` or, if that is None, by `logits_of`.

    Copies that are made inside return them, too. A ValueError if `output` is given for a `UNet`.
    """
    if isinstance(model, UNet):
        if output is not None:
            raise ValueError("output= picks logits out of what another network returns, a UNet returns them: leave it")
        yield
        return
    pick = output or logits_of
    handle = model.register_forward_hook(lambda _, __, out: pick(out))
    try:
        yield
    finally:
        handle.remove()


def ask(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, classes, h, w) of images (n, channels, h, w), in evaluation, in full precision and off any graph."""
    with torch.no_grad(), full_precision(), frozen(model):
        return logits_of(model(images))


def to_image(values: Tensor, padded: Size, image: Size) -> Tensor:
    """Maps (n, k, h', w') on a layer's grid, bilinear on the padded image, cropped to the image: (n, k, h, w).

    A sum over the map grows by about the ratio of the pixels; upsampled maps close at no layer but those of full size.
    """
    if tuple(values.shape[2:]) != padded:
        values = functional.interpolate(values, padded, mode="bilinear", align_corners=False)
    return values[:, :, : image[0], : image[1]]


def upsampling_weights(grid: Size, padded: Size, image: Size, like: Tensor) -> Tensor:
    """How often each pixel (h', w') of a layer counts in the sum of its upsampled map: the adjoint of `to_image`."""
    with torch.enable_grad():
        values = torch.zeros((1, 1, *grid), dtype=like.dtype, device=like.device, requires_grad=True)
        (weights,) = torch.autograd.grad(to_image(values, padded, image).sum(), values)
    return weights[0, 0]
