"""What every method returns: a map with named axes that carries its own closure.

Closure (conservativeness, arXiv 2502.14416 Eqs. 5-7) asks whether the contributions sum to the explained number. Nobody
has to remember to check: total, signed residual, tolerance and verdict come with the map.

Does a decomposition sum to the logits, everywhere? And what is done where single precision does not suffice.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hsiutils.models.unet import UNet

TOLERANCE: Mapping[np.dtype[Any], float] = MappingProxyType({np.dtype("float32"): 1e-4, np.dtype("float64"): 1e-10})
"""Largest residual that counts as rounding, for each dtype, relative to the scale of the sum (see `closure_scale`)."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """One method's answer for one target.

    Attributes
    ----------
    method, layer : what was computed and where; layer is a Keras name, or "input".
    map : signed contributions, dims (y, x), (band, y, x) or (channel, y, x), on the layer's own grid unless the method
        was asked to upsample. Its dtype is the network's.
    logit : value of the target.
    biases : contribution of each layer's bias, for methods that speak of biases; they count in the total.
    """

    method: str
    layer: str
    map: xr.DataArray
    logit: float
    biases: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tolerance_of(self.map.dtype)
        object.__setattr__(self, "biases", MappingProxyType(dict(self.biases)))

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


def as_map(values: Tensor, dims: Sequence[str]) -> xr.DataArray:
    """A tensor as a DataArray with named axes, off the graph and on the CPU."""
    return xr.DataArray(values.detach().cpu().numpy(), dims=dims)


def tolerance_of(dtype: np.dtype[Any]) -> float:
    """Relative tolerance of a dtype.

    Raises
    ------
    ValueError
        If `TOLERANCE` has none: half precision cannot tell a broken closure from rounding.
    """
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


Found = TypeVar("Found", xr.Dataset, Attribution)


def closure(found: xr.Dataset) -> xr.Dataset:
    """Judge a decomposition at every pixel (or target region) and class.

    Parameters
    ----------
    found : `contribution` (..., class, y, x), `bias` (layer, class, y, x) and `logit` (class, y, x), as of
        `hsiutils.attribution.decompose.decompose`.

    Returns
    -------
    Dataset
        `residual`, total minus logit; `relative`, its size over max(|logit|, 2-norm of the parts); `closes`, whether
        that is within `TOLERANCE` for the dtype. All (class, y, x), added up in float64.
    """
    logit = found["logit"].astype(np.float64)
    axes = [dim for dim in found["contribution"].dims if dim not in logit.dims]
    inputs = found["contribution"].astype(np.float64).transpose(*axes, *logit.dims).values
    biases = found["bias"].astype(np.float64).transpose("layer", *logit.dims).values
    parts = np.concatenate([inputs.reshape(-1, *logit.shape), biases])
    residual = logit.copy(data=parts.sum(axis=0)) - logit
    relative = abs(residual) / np.maximum(closure_scale(logit.values, parts), np.finfo(np.float64).tiny)
    closes = relative <= tolerance_of(found["logit"].dtype)
    return xr.Dataset({"residual": residual, "relative": relative, "closes": closes})


def closed(compute: Callable[[UNet, Tensor], Found], model: UNet, x: Tensor) -> Found:
    """A decomposition that closes: in the network's precision where that suffices, else computed in float64.

    Inside a network the parts can be a thousand times larger than what is left of them at the head, and single
    precision then rounds by more than the tolerance at a few pixels in a million. Such an image is decomposed once
    more in float64, and the result, logits included, is rounded to the network's dtype at the end.

    Parameters
    ----------
    compute : (model, x) -> a decomposition by `closure`'s rules, or an Attribution.

    Returns
    -------
    What `compute` returns. A Dataset's attribute `computed` says in which precision.
    """
    found, dtype = compute(model, x), model.head.weight.dtype
    if dtype == torch.float64 or _closes(found):
        return _marked(found, dtype)
    precise = compute(copy.deepcopy(model).double(), x.double())
    return _marked(_rounded(precise, str(dtype).removeprefix("torch.")), torch.float64)


def _closes(found: xr.Dataset | Attribution) -> bool:
    return found.closes if isinstance(found, Attribution) else bool(closure(found)["closes"].all())


def _rounded(found: Found, dtype: str) -> Found:
    if isinstance(found, Attribution):
        return Attribution(found.method, found.layer, found.map.astype(dtype), found.logit, found.biases)
    return found.astype(dtype)


def _marked(found: Found, dtype: torch.dtype) -> Found:
    if isinstance(found, Attribution):
        return found
    return found.assign_attrs(computed=str(dtype).removeprefix("torch."))
