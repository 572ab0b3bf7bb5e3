"""Integrated Gradients without a quadrature: exact along the straight path, for small piecewise-linear networks.

Along a line a network of ReLUs and max-pooling is affine from one breakpoint to the next, so its gradient is constant
there and the integral is a finite sum (ExactLine, Sotoudeh & Thakur 2019, arXiv 1908.06214). Breakpoints are found
layer by layer: once those of all layers before are known, what a layer reads is affine between them, and where a gate
of this layer switches is a crossing of two straight lines. Their number grows with that of the network's units: for a
few thousand units it takes seconds, for a full-size image it cannot be done. A quadrature is measured against it.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.attribution.gradients import integrated_gradients
from hsiutils.attribution.hooks import INPUT, ask, frozen, full_precision, logits_of
from hsiutils.attribution.linearise import input_image
from hsiutils.attribution.result import REFERENCE, Attribution, as_map
from hsiutils.attribution.targets import Target, reference_image

MOST = 50_000
"""Pieces of a path; with more, the network is not small."""
_BATCH = 256
_AFFINE = 1e-9
"""Largest departure from a straight line within a piece, relative to the largest logit."""


def breakpoints(model: nn.Module, start: Tensor, end: Tensor) -> Tensor:
    """Where gates switch along the straight path between two images (channels, h, w): ascending, from 0 to 1.

    Some of them may be of gates that are closed off later, or of losers in a pooling window: more pieces than needed,
    on each of which the network is affine all the same.

    Raises
    ------
    ValueError
        If the network is not in double precision; has other nonlinear operations than modules `nn.ReLU` and
        `nn.MaxPool2d` that are called once each; or the path has more than `MOST` pieces.
    """
    if start.dtype != torch.float64:
        raise ValueError(f"breakpoints need double precision, got {start.dtype}: take .double() of network and image")
    gates = _gates(model, start)
    places = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for gate in gates:
        found = [places]
        for some in _overlapping(places):
            found.append(_crossings(gate, some, _read(model, gate, _along(start, end, some))))
        places = torch.unique(torch.cat(found))
        if len(places) > MOST:
            raise ValueError(
                f"the path has more than {MOST} pieces: take a smaller network or image, or integrated_gradients, "
                "which is approximate"
            )
    for some in _overlapping(places):
        ends = ask(model, _along(start, end, some))
        middle = ask(model, _along(start, end, (some[1:] + some[:-1]) / 2))
        bent = float((middle - (ends[1:] + ends[:-1]) / 2).abs().max())
        if bent > _AFFINE * float(ends.abs().max()):
            raise ValueError(
                f"the network is not affine between its breakpoints (by up to {bent:.2g}): it has another nonlinear "
                "operation than modules ReLU and MaxPool2d that are called once each"
            )
    return places


def exact_integrated_gradients(
    model: nn.Module, x: Tensor, target: Target, *, reference: ArrayLike | Tensor = 0.0
) -> Attribution:
    """Integrated Gradients (Sundararajan 2017), the integral taken exactly; it closes.

    Arguments are those of `hsiutils.attribution.gradients.integrated_gradients`, of a network in double precision;
    errors also those of `breakpoints`.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)).double().eval()
    >>> x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    >>> exact_integrated_gradients(model, x, hu.pixel(model, x, 0, 1, 2)).closes
    True
    """
    image = input_image(model, x)
    start = reference_image(reference, image)
    return _exact(model, image, start, breakpoints(model, start, image), target)


def _exact(model: nn.Module, image: Tensor, start: Tensor, places: Tensor, target: Target) -> Attribution:
    total = torch.zeros_like(image)
    with full_precision(), frozen(model):
        for some in _overlapping(places):
            middle = _along(start, image, (some[1:] + some[:-1]) / 2).requires_grad_()
            value = target.value(logits_of(model(middle)))
            (gradient,) = torch.autograd.grad(value @ some.diff(), middle)
            total += gradient.sum(0)
    before, after = target.value(ask(model, torch.stack([start, image]))).tolist()
    values = as_map(total * (image - start), ("band", "y", "x"))
    return Attribution("Integrated Gradients, exact", INPUT, values, after, {REFERENCE: before})


def quadrature_errors(
    model: nn.Module,
    x: Tensor,
    targets: Sequence[Target],
    nodes: Sequence[int],
    *,
    reference: ArrayLike | Tensor = 0.0,
) -> pd.DataFrame:
    """How far Gauss-Legendre quadrature is from the exact integral, mean over targets.

    Returns
    -------
    Rows of `nodes`; `parts`, the distance of the map from the exact one over the size of that (2-norms); `sum`, what
    the parts' sum misses, over the change of the target from the reference to the image: completeness alone.
    `attrs["pieces"]` counts the pieces of the path.
    """
    image = input_image(model, x)
    start = reference_image(reference, image)
    places, rows = breakpoints(model, start, image), []
    for target in targets:
        exact = _exact(model, image, start, places, target)
        change, size = exact.logit - exact.biases[REFERENCE], np.linalg.norm(exact.map.values)
        for count in nodes:
            found = integrated_gradients(model, image, target, reference=start, nodes=count)
            away = np.linalg.norm(found.map.values - exact.map.values)
            rows.append({"nodes": count, "parts": float(away / size), "sum": abs(found.residual / change)})
    table = pd.DataFrame(rows).groupby("nodes", as_index=False).mean()
    table.attrs["pieces"] = len(places) - 1
    return table


def _along(start: Tensor, end: Tensor, places: Tensor) -> Tensor:
    """Images (n, channels, h, w) at places (n,) of the path."""
    return start + places[:, None, None, None] * (end - start)


def _overlapping(places: Tensor) -> Iterator[Tensor]:
    """Runs of consecutive places, each beginning where the last one ended."""
    for first in range(0, len(places) - 1, _BATCH):
        yield places[first : first + _BATCH + 1]


def _gates(model: nn.Module, image: Tensor) -> list[nn.Module]:
    """The modules that switch, in the order of their calls."""
    called: list[nn.Module] = []
    switching = [module for module in model.modules() if isinstance(module, nn.ReLU | nn.MaxPool2d)]
    hooks = [module.register_forward_pre_hook(lambda own, _: called.append(own)) for module in switching]
    try:
        ask(model, image[None])
    finally:
        for hook in hooks:
            hook.remove()
    if len(set(called)) < len(called):
        raise ValueError("a ReLU or a MaxPool2d is called more than once: give each call a module of its own")
    return called


def _read(model: nn.Module, gate: nn.Module, images: Tensor) -> Tensor:
    """What a module reads, (n, channels, h, w)."""
    found: list[Tensor] = []
    hook = gate.register_forward_pre_hook(lambda _, given: found.append(given[0].detach().clone()))
    try:
        ask(model, images)
    finally:
        hook.remove()
    return found[0]


def _crossings(gate: nn.Module, places: Tensor, read: Tensor) -> Tensor:
    """Where a gate switches between places (n,), at which it reads (n, channels, h, w)."""
    if isinstance(gate, nn.ReLU):
        return _roots(places, read.flatten(1))
    assert isinstance(gate, nn.MaxPool2d)  # noqa: S101
    if gate.dilation not in (1, (1, 1)) or gate.padding not in (0, (0, 0)):
        raise ValueError(f"max-pooling with padding or dilation is not known here: {gate}")
    size, stride = gate.kernel_size, gate.stride
    windows = functional.unfold(read.flatten(0, 1)[:, None], size, stride=stride)  # (n channels, size, windows)
    windows = windows.reshape(*read.shape[:2], *windows.shape[1:]).transpose(1, 2).flatten(2)  # (n, size, lines)
    # The highest of straight lines is convex: what wins at both ends wins in between.
    won = windows.argmax(1)
    windows = windows[:, :, (won[1:] != won[:-1]).any(0)]
    pairs = combinations(range(windows.shape[1]), 2)
    return torch.cat([_roots(places, windows[:, one] - windows[:, other]) for one, other in pairs])


def _roots(places: Tensor, values: Tensor) -> Tensor:
    """Zeros of lines with values (n, lines) at places (n,), strictly between two of these."""
    before, after = values[:-1], values[1:]
    at, line = ((before * after) < 0).nonzero(as_tuple=True)
    one, other = before[at, line], after[at, line]
    return places[at] + (places[at + 1] - places[at]) * one / (one - other)
