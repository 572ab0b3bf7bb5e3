"""Does a decomposition sum to the logits, everywhere? And what is done where single precision does not suffice."""

import copy
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hsiutils.attribution.result import Attribution, closure_scale, tolerance_of
from hsiutils.unet import UNet

Found = TypeVar("Found", xr.Dataset, Attribution)


def closure(found: xr.Dataset) -> xr.Dataset:
    """Judge a decomposition at every pixel (or target region) and class.

    Parameters
    ----------
    found : `contribution` (..., class, y, x), `bias` (layer, class, y, x) and `logit` (class, y, x), as of
        `hsiutils.attribution.linear.decompose`.

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
