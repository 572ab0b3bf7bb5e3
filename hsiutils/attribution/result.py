"""What every method returns: a map with named axes that carries its own closure.

Closure (conservativeness, arXiv 2502.14416 Eqs. 5-7) asks whether the contributions sum to the explained number. Nobody
has to remember to check: total, signed residual, tolerance and verdict come with the map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

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
