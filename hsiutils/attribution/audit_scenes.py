"""The audit of every scene of a data set, in one Zarr store that grows scene by scene."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from hsiutils.attribution.audit import audit
from hsiutils.attribution.hooks import copied
from hsiutils.data import zarr_store
from hsiutils.data.source import Scenes

_MAPS = ["residual", "logit"]


def audit_scenes(
    model: nn.Module,
    scenes: Scenes,
    store: Path | str,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    *,
    maps: bool = False,
    workers: int = 2,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Residual, total minus logit, of each method in every scene; what an interrupted run has written is kept.

    One scene a worker is in memory at a time, however many there are. A scene is audited by one thread, so that the
    bytes are the same on one worker, on several, and on a cluster.

    Parameters
    ----------
    model : as of `hsiutils.attribution.audit.audit`, in evaluation mode; it is pickled where others work on it.
    scenes : such as `data.scenes("test", inputs)`.
    store : Zarr store to make, or to continue.
    methods, layers, options : of `audit`.
    maps : keep the residual and the logit of every pixel, too: classes times (methods + 1) numbers a pixel.
    workers, progress : as in `hsiutils.data.cluster.scene_by_scene`.

    Returns
    -------
    The store, for `xarray.open_zarr`: `region_residual` and `region_logit` as of `audit`, `rms_residual` (scene,
    method, class) and `rms_logit` (scene, class), root mean squares over the pixels, and with `maps` also `residual`
    and `logit`; of `hsiutils.data.zarr_store.fill` all else.

    Raises
    ------
    ModuleNotFoundError
        If zarr and dask are not installed, naming the extra that brings them.
    KeyError, NotPiecewiseLinear, ValueError
        As `audit`, of the first scene, before any is written.
    DatasetError, RuntimeError
        As `hsiutils.data.zarr_store.fill`.

    Examples
    --------
    >>> import hsiutils as hu
    >>> import xarray as xr
    >>> data = hu.simulate_dataset("HSI-Drive", scenes=5, tiles=(8, 16), workers=1, progress=False)
    >>> inputs, small = hu.fit_inputs("3", data), hu.UNetConfig(channels=3, classes=5, depth=1, filters=2)
    >>> store = hu.audit_scenes(hu.UNet(small).eval(), data.scenes("test", inputs), "audit.zarr", workers=1)
    >>> with xr.open_zarr(store) as found:
    ...     found["rms_residual"].dims, bool(found["written"].all())
    (('scene', 'method', 'class'), True)
    """
    zarr_store.require_packages()
    if not len(scenes):
        raise ValueError("scenes: there are none, expected at least one")
    options |= {"methods": methods, "layers": layers}
    said = {name: getattr(value, "__qualname__", value) for name, value in options.items()}
    asked = [_digest(model), repr(scenes.inputs), maps, {name: said[name] for name in sorted(said)}]
    one = partial(_audited, model=model, scenes=scenes, maps=maps, options=options)
    like, data = partial(one, scenes.names[0]), scenes.source
    return zarr_store.fill(Path(store), data, scenes.names, one, like, asked, workers, progress)


def _audited(name: str, model: nn.Module, scenes: Scenes, maps: bool, options: dict[str, Any]) -> xr.Dataset:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x, _ = Scenes(scenes.source, [name], scenes.inputs)[0]
        # A worker may have several threads, and an audit looks into the network's layers.
        found = audit(copied(model), x.to(next(model.parameters())), **options).isel(image=0)
    finally:
        torch.set_num_threads(threads)
    for each in _MAPS:
        found[f"rms_{each}"] = np.sqrt((found[each] ** 2).mean(("y", "x")))
    return found if maps else found.drop_vars(_MAPS)


def _digest(model: nn.Module) -> str:
    """Of what a network is made of, and its weights."""
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + raw.numpy().tobytes())
    return digest.hexdigest()
