"""A data set as one chunked Zarr store: a scene a chunk, so that training reads just what it needs, in parallel.

The store opens with plain `xarray.open_zarr` or `xarray.open_dataset`. Writing it can be interrupted and continued,
and runs in parallel through dask, on one machine or on a cluster.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import torch
import xarray as xr
from dask import config
from dask.base import compute
from dask.callbacks import Callback
from dask.delayed import delayed
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from hsiutils.classes import merge
from hsiutils.dataset import HSIDrive
from hsiutils.layouts import DatasetError
from hsiutils.variants import FittedVariant

_FORMAT = 2
"""Of Zarr: version 3 has no settled encoding of text yet, and every reader knows version 2."""


def to_zarr(
    drive: HSIDrive,
    store: Path | str,
    names: Sequence[str] | None = None,
    *,
    scheduler: str = "threads",
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write scenes to a Zarr store; what an interrupted run has written is kept.

    Parameters
    ----------
    drive : what to convert.
    store : folder to make, or to continue.
    names : of the scenes; all by default.
    scheduler : of dask: "threads", "processes" or "synchronous" on this machine, or the address of a cluster's
        scheduler, such as "tcp://node1:8786", whose workers must see data set and store under the same paths.
    workers : on this machine.
    progress : show a bar with the time left.

    Returns
    -------
    The store, with

        cube (scene, band, y, x) float32, labels (scene, y, x) uint8 (codes 0..10), written (scene)
        wavelength (band) nm; split, season, weather, daytime, number, road (scene)

    Raises
    ------
    DatasetError
        If the folder holds something else, or the scenes of other files; or a scene cannot be read.
    """
    store, names = Path(store), drive.names() if names is None else list(names)
    if not store.exists():
        _create(drive, names, store)
    _require_same_source(drive, names, store)
    with _plain_zarr(store) as present:
        missing = np.flatnonzero(present["written"].values == 0)
    write = delayed(_write_scene)
    tasks = [write(drive, names[number], int(number), store) for number in missing]
    _compute(tasks, scheduler, workers, {"desc": "convert", "unit": "scene", "disable": not (progress and tasks)})
    return store


def _create(drive: HSIDrive, names: list[str], store: Path) -> None:
    """Make the store without its values, at once or not at all."""
    template = _template(drive, names)
    chunks = {name: {"chunks": (1, *values.shape[1:])} for name, values in template.data_vars.items()}
    temporary = store.with_name(f".{store.name}.{os.getpid()}")
    store.parent.mkdir(parents=True, exist_ok=True)
    try:
        template.to_zarr(temporary, compute=False, encoding=chunks, zarr_format=_FORMAT, consolidated=True)
        temporary.rename(store)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _template(drive: HSIDrive, names: list[str]) -> xr.Dataset:
    bands, (rows, columns), count = len(drive.sensor.bands), drive.sensor.tiles, len(names)
    cubes = da.zeros((count, bands, rows, columns), dtype=np.float32, chunks=(1, bands, rows, columns))
    labels = da.zeros((count, rows, columns), dtype=np.uint8, chunks=(1, rows, columns))
    conditions = drive.scenes.loc[names].rename(columns={"scene": "road"})  # `scene` is the dimension here
    coordinates = {key: ("scene", _plain(column.to_numpy())) for key, column in conditions.items()}
    attributes = {"units": drive.units, "source": drive.origin, "sensor": drive.sensor.name, "history": drive.layout}
    return xr.Dataset(
        {
            "cube": (("scene", "band", "y", "x"), cubes, attributes),
            "labels": (("scene", "y", "x"), labels, {"meaning": "label codes of HSI-Drive, 0 unlabelled"}),
            "written": ("scene", da.zeros(count, dtype=np.uint8, chunks=1), {"meaning": "1 once the scene is there"}),
        },
        coords={
            "scene": np.array(names, dtype="U"),
            "band": np.arange(bands),
            "wavelength": ("band", drive.sensor.wavelengths_nm, {"units": "nm"}),
            **coordinates,
        },
        attrs={"title": f"HSI-Drive, {drive.origin}, {drive.layout}", "source_digest": _digest(drive, names)},
    )


def _plain(values: Any) -> Any:
    """Text of fixed length instead of objects, as Zarr keeps it."""
    return values if values.dtype.kind in "iu" else values.astype("U")


def _digest(drive: HSIDrive, names: list[str]) -> str:
    """Changes with the scenes, their order, and the size or time of any of their files."""
    files = [path for name in names for path in (drive.found.scenes[name].cube, drive.found.scenes[name].labels)]
    marks = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([drive.layout, names, marks]).encode()).hexdigest()


def _require_same_source(drive: HSIDrive, names: list[str], store: Path) -> None:
    with _plain_zarr(store) as present:
        digest = present.attrs.get("source_digest")
    if digest != _digest(drive, names):
        raise DatasetError(
            f"{store}: holds other scenes than the {len(names)} asked for from {drive.root}, or these files changed "
            "since it was begun; delete it, or choose another folder"
        )


def _write_scene(drive: HSIDrive, name: str, number: int, store: Path) -> None:
    region = {"scene": slice(number, number + 1)}
    values = xr.Dataset(
        {
            "cube": (("scene", "band", "y", "x"), drive.cube(name).values[np.newaxis]),
            "labels": (("scene", "y", "x"), drive.labels(name)[np.newaxis]),
        }
    )
    values.to_zarr(store, region=region)
    # Only now, so that a scene that counts as written is whole.
    xr.Dataset({"written": ("scene", np.ones(1, np.uint8))}).to_zarr(store, region=region)


def _compute(tasks: list[Any], scheduler: str, workers: int, bar: dict[str, Any]) -> None:
    if "://" not in scheduler:
        with (
            config.set(scheduler=scheduler, num_workers=workers),
            tqdm(total=len(tasks), **bar) as shown,
            Callback(posttask=lambda *_: shown.update()),  # type: ignore[no-untyped-call]
        ):
            compute(*tasks)  # type: ignore[no-untyped-call]
        return
    try:
        distributed = import_module("distributed")
    except ImportError as error:
        raise DatasetError(f"scheduler {scheduler!r} is a cluster, which needs the package distributed") from error
    with distributed.Client(scheduler) as client:
        futures = client.compute(tasks)
        for done in tqdm(distributed.as_completed(futures), total=len(futures), **bar):
            done.result()


@contextmanager
def _plain_zarr(store: Path) -> Iterator[xr.Dataset]:
    """The store with its values as they are on disk.

    Raises
    ------
    DatasetError
        If there is no such store, or it is damaged, or not one of ours.
    """
    try:
        opened = xr.open_zarr(store, chunks=None)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{store}: no Zarr store that can be read ({error}); delete it and convert anew") from error
    with opened:
        if missing := {"cube", "labels", "written"} - set(map(str, opened)):
            raise DatasetError(f"{store}: lacks {sorted(missing)}; expected a store made by `data convert`")
        yield opened


class StoredScenes(Dataset[tuple[Tensor, Tensor]]):
    """Scenes of a Zarr store as the network sees them, the same as `hsiutils.dataset.SceneDataset` gives from files.

    Parameters
    ----------
    store : written by `to_zarr`, complete.
    names : of the scenes, in the order of the data set.
    fitted : the input variant, fitted on training scenes.

    Raises
    ------
    DatasetError
        If the store is incomplete or lacks a scene, or its values cannot be normalised per pixel as the variant wants.
    """

    def __init__(self, store: Path | str, names: Sequence[str], fitted: FittedVariant) -> None:
        self.store, self.names, self.fitted = Path(store), list(names), fitted
        with _plain_zarr(self.store) as opened:
            place = {str(name): number for number, name in enumerate(opened["scene"].values)}
            written, units = opened["written"].values, str(opened["cube"].attrs["units"])
        if absent := [name for name in self.names if name not in place]:
            raise DatasetError(f"{self.store}: has no scenes {absent[:3]} ({len(absent)} are missing)")
        self._numbers = [place[name] for name in self.names]
        if unwritten := int((written[self._numbers] == 0).sum()):
            raise DatasetError(f"{self.store}: {unwritten} scenes are not written yet; run the conversion again")
        if fitted.variant.pn and not units.startswith("reflectance"):
            raise DatasetError(f"{self.store}: holds {units} values; per-pixel normalisation needs reflectance")
        self._opened: tuple[int, xr.Dataset] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self.names):
            raise IndexError(f"scene {index} of {len(self.names)}")
        scene = self._dataset().isel(scene=self._numbers[index]).load()
        inputs = self.fitted.apply(scene["cube"].reset_coords(drop=True).assign_coords(wavelength=scene["wavelength"]))
        return torch.from_numpy(inputs.values), torch.from_numpy(merge(scene["labels"].values).astype(np.int64))

    def _dataset(self) -> xr.Dataset:
        """The open store; a worker process opens its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), xr.open_zarr(self.store, chunks=None)
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}
