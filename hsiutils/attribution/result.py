"""What every method returns: named axes, and a verdict on whether the contributions sum to what they explain.

Closure (conservativeness, arXiv 2502.14416 Eqs. 5-7) asks whether the contributions sum to the explained number: an
`Attribution` (one target) and a `Decomposition` (every logit of an image) carry their signed residual, the tolerance
that rounding excuses, and the verdict. `closed` computes once more in float64 where single precision does not suffice.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from hsiutils.attribution.hooks import copied, dtype_of

TOLERANCE: Mapping[np.dtype[Any], float] = MappingProxyType({np.dtype("float32"): 1e-4, np.dtype("float64"): 1e-10})
"""Largest residual that counts as rounding, for each dtype, relative to the scale of the sum (see `closure_scale`)."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """One method's answer for one target.

    Attributes
    ----------
    method, layer : what was computed and where; layer is a Keras name, a torch name of another network, or "input".
    map : signed contributions, dims (y, x), (band, y, x) or (channel, y, x), on the layer's own grid unless the method
        was asked to upsample. Its dtype is the network's.
    logit : value of the target.
    biases : contribution of each layer's bias, for methods that speak of biases; they count in the total.
    frozen : smooth gates of the network that the method held at the image's value, as of `Decomposition`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> found = hu.Attribution("by hand", "input", xr.DataArray(np.array([[1.0, 2.0]]), dims=("y", "x")), 3.5)
    >>> found.total, found.residual, found.closes
    (3.0, -0.5, False)
    """

    method: str
    layer: str
    map: xr.DataArray
    logit: float
    biases: Mapping[str, float] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tolerance_of(self.map.dtype)
        object.__setattr__(self, "biases", MappingProxyType(dict(self.biases)))

    def __repr__(self) -> str:
        """What was computed, whether it closes, and what was frozen."""
        return f"Attribution({self.method} at {self.layer}, {_shown(self.map)}, {_verdict(self)})"

    @property
    def exact(self) -> bool:
        """Whether no smooth gate was frozen: with one, the parts are not what the derivative makes of the input's."""
        return not self.frozen

    @property
    def total(self) -> float:
        """Sum of everything that the method hands out, added up in float64."""
        return float(self.map.values.sum(dtype=np.float64)) + float(sum(self.biases.values()))

    @property
    def residual(self) -> float:
        """Total minus logit: positive where the method hands out too much."""
        return self.total - self.logit

    @property
    def tolerance(self) -> float:
        """Largest absolute residual that rounding in the map's dtype excuses."""
        parts = np.append(self.map.values.astype(np.float64).ravel(), list(self.biases.values()))
        return tolerance_of(self.map.dtype) * float(closure_scale(self.logit, parts))

    @property
    def closes(self) -> bool:
        """Verdict: the contributions sum to the logit. A residual that is not a number does not."""
        return bool(abs(self.residual) <= self.tolerance)

    def astype(self, dtype: str) -> "Attribution":
        """The same with the map rounded to another dtype."""
        return replace(self, map=self.map.astype(dtype))


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Contributions of parts of the input, and of the biases, to every logit of one image.

    Attributes
    ----------
    contribution : (band, region, class, y, x), with the part axes that were asked for. Averaged over target regions,
        the axis target stands in the place of y, x, here and below.
    bias : (layer, class, y, x), what the input's parts do not say: biases, and what the reference adds.
    logit : (class, y, x) of the network.
    computed : dtype of the computation; the arrays are rounded to the network's own.
    gated : dtype of the pass that gates of ReLU and choices of pooling were taken in, one pattern for all parts.
    nodes : of the path from the reference; None for the exact decomposition at the input.
    frozen : smooth gates of the network that were held at the image's value, such as "sigmoid in encoder.gate". Then
        the parts sum to the logits, but are not derivatives, and `exact` is false.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)).double().eval()
    >>> found = hu.decompose(model, torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)).double())
    >>> found.contribution.dims, found.closes
    (('band', 'class', 'y', 'x'), True)
    """

    contribution: xr.DataArray
    bias: xr.DataArray
    logit: xr.DataArray
    computed: str
    gated: str
    nodes: int | None = None
    frozen: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Which parts there are, whether they sum to the logits, and what was frozen."""
        return f"Decomposition({_shown(self.contribution)}, {_verdict(self)})"

    @property
    def exact(self) -> bool:
        """Whether the parts are what the network's derivative makes of the input's: no gate was frozen."""
        return not self.frozen

    @cached_property
    def residual(self) -> xr.DataArray:
        """Sum of all parts minus the logit, (class, y, x), added up in float64."""
        return self.logit.copy(data=self._sums[0] - self.logit.values)

    @cached_property
    def relative(self) -> xr.DataArray:
        """Size of the residual over `closure_scale`, (class, y, x): `TOLERANCE` is its limit."""
        return abs(self.residual) / np.maximum(self._sums[1], np.finfo(np.float64).tiny)

    @property
    def tolerance(self) -> xr.DataArray:
        """Largest absolute residual that rounding in the logits' dtype excuses, (class, y, x)."""
        return self.logit.copy(data=tolerance_of(self.logit.dtype) * self._sums[1])

    @property
    def closes(self) -> bool:
        """Verdict: the parts sum to the logit at every pixel and class. A residual that is not a number does not."""
        return bool((self.relative <= tolerance_of(self.logit.dtype)).all())

    @property
    def completeness(self) -> float:
        """Largest |residual| over largest |logit - reference's logit|: 0 is complete, NaN undefined.

        A ValueError if this is no path.
        """
        if self.nodes is None:
            raise ValueError("completeness is of a path: an exact decomposition has `residual` and `closes`")
        change = self.logit.astype(np.float64) - self.bias.sel(layer=REFERENCE, drop=True).astype(np.float64)
        largest = float(abs(change).max())
        axes = [dim for dim in self.contribution.dims if dim not in self.logit.dims]
        missed = self.contribution.sum(axes, dtype=np.float64) - change
        return float(abs(missed).max()) / largest if largest else float("nan")

    def astype(self, dtype: str) -> "Decomposition":
        """The same with its arrays rounded to another dtype."""
        arrays = {name: getattr(self, name).astype(dtype) for name in ("contribution", "bias", "logit")}
        return replace(self, **arrays)

    @cached_property
    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sum of all parts and `closure_scale`, each (*logit), in float64: copies of all parts would cost a pass."""
        dims, shape = self.logit.dims, self.logit.shape
        total, squares = np.zeros(shape), np.zeros(shape)
        for parts in (self.contribution, self.bias):
            # (band, region, *logit) -> (band region, *logit)
            for part in parts.transpose(..., *dims).values.reshape(-1, *shape):
                wide = part.astype(np.float64)
                total += wide
                squares += np.square(wide, out=wide)
        return total, closure_scale(self.logit.values, np.sqrt(squares)[None])


REFERENCE = "reference"
"""Label, beside the biases, of what the reference adds."""


def as_map(values: Tensor, dims: Sequence[str]) -> xr.DataArray:
    """A tensor as a DataArray with named axes, off the graph and on the CPU."""
    return xr.DataArray(values.detach().cpu().numpy(), dims=dims)


def dtype_name(dtype: torch.dtype) -> str:
    """Numpy's name of a dtype."""
    return str(dtype).removeprefix("torch.")


def tolerance_of(dtype: np.dtype[Any]) -> float:
    """Relative tolerance of a dtype; none for half precision, which cannot tell a broken closure from rounding."""
    if dtype not in TOLERANCE:
        raise ValueError(f"no closure tolerance for dtype {dtype}: compute in {' or '.join(map(str, TOLERANCE))}")
    return TOLERANCE[dtype]


def closure_scale(logit: ArrayLike, parts: ArrayLike) -> NDArray[np.float64]:
    """The size against which a residual is rounding: max(|logit|, 2-norm of the parts along the first axis).

    Rounding errors of many parts add up like their 2-norm. The sum of absolute values would excuse a thousand times
    more for a map of half a million cancelling entries, and |logit| alone would condemn every logit that crosses zero.
    """
    size = np.linalg.norm(np.asarray(parts, dtype=np.float64), axis=0)
    return np.asarray(np.maximum(np.abs(logit), size))


def _shown(values: xr.DataArray) -> str:
    return " x ".join(f"{size} {dim}" for dim, size in values.sizes.items())


def _verdict(found: "Attribution | Decomposition") -> str:
    """Whether a result closes, and what was frozen, in a few words."""
    held = f" (held: {', '.join(found.frozen)})" if found.frozen else ""
    return f"closes={found.closes}, exact={found.exact}{held}"


Found = TypeVar("Found", Attribution, Decomposition)


def closed(compute: Callable[[nn.Module, Tensor], Found], model: nn.Module, x: Tensor) -> Found:
    """A result that closes: in the network's precision where that suffices, else computed in float64.

    Inside a network the parts can be a thousand times larger than what is left of them at the head, and single
    precision then rounds by more than the tolerance at a few pixels in a million. Such an image is decomposed once
    more in float64, and the result, logits included, is rounded to the network's dtype at the end. A UserWarning if it
    does not close in float64 either: then it is not rounding, and the parts explain another network.
    """
    found, dtype = compute(model, x), dtype_of(model, x)
    if dtype != torch.float64 and not found.closes:
        found = compute(copied(model).double(), x.double()).astype(dtype_name(dtype))
    if not found.closes:
        warnings.warn(
            f"the parts do not sum to the logits (largest residual {float(np.abs(found.residual).max()):.3g}), in "
            "float64 neither: the network does more than its layers say, such as another activation or pooling. Its "
            "parts mean nothing.",
            stacklevel=3,
        )
    return found
