"""What is known of every scene, in one Zarr store that grows scene by scene and takes the memory of one at a time.

A scene is a chunk of each variable, and plain `xarray.open_zarr` opens the store. Filling it can be interrupted and
continued, and goes on side by side on one machine or a cluster (`hsiutils.data.cluster`), with the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from filelock import FileLock

from hsiutils.data import guard
from hsiutils.data.atomic import beside
from hsiutils.data.cluster import scene_by_scene
from hsiutils.data.layouts import ASK, MAY_NOT, DatasetError
from hsiutils.data.source import Source

_FORMAT = 2
"""Of Zarr: version 3 has no settled encoding of text yet, and every reader knows version 2."""
_CODECS = {"blosc", "zstd", "zlib", "lz4", "gzip"}
"""Of a store that is written here; among the others are some that unpickle."""


def require_packages() -> None:
    """A ModuleNotFoundError, if zarr and dask are not installed, that names the extra which brings them."""
    if lacking := [package for package in ("zarr", "dask") if find_spec(package) is None]:
        raise ModuleNotFoundError(f"a Zarr store needs {' and '.join(lacking)}: pip install 'hsiutils[zarr]'")


def fill(
    store: Path,
    data: Source,
    names: Sequence[str],
    measure: Callable[[str], xr.Dataset],
    like: Callable[[], xr.Dataset],
    asked: Any,
    workers: int,
    progress: bool,
) -> Path:
    """Write what a function says of every scene; what an interrupted run has written is kept.

    Parameters
    ----------
    store : folder to make, or to continue.
    data, names : the scenes, and what is known of them.
    measure : gives the Dataset of a scene, always of the same sizes; it is pickled.
    like : gives a Dataset of these sizes, with coordinates and attributes; called where the store is not there yet.
    asked : JSON-able, what else decides what is measured: a store of something else is not continued.
    workers, progress : as in `hsiutils.data.cluster.scene_by_scene`.

    Returns
    -------
    The store: every variable along scene, `written` (scene), 1 once a scene is whole, and as coordinates what the table
    of the data set says of a scene, its `scene` as `road`.

    Raises
    ------
    ValueError
        If a name comes twice.
    DatasetError
        If the folder holds something else, or other scenes; or a scene cannot be read.
    RuntimeError
        If several workers write, and some scenes fail, naming them; the others are written.
    """
    names = list(names)
    if len(set(names)) < len(names):
        raise ValueError(f"names: a scene is written once, got {max(names, key=names.count)} several times")
    digest = _digest(data, names, asked)
    if not store.exists():
        _create(_template(data, names, like()).assign_attrs(source_digest=digest), store)
    if not _missing(store, data, names, digest):
        return store
    with FileLock(store / ".lock"):  # two that write one store take turns
        missing = [names[number] for number in _missing(store, data, names, digest)]
        places = {name: number for number, name in enumerate(names)}
        write = partial(_write, places=places, measure=measure, store=store.absolute())
        scene_by_scene(write, missing, workers, progress)
        for left in store.rglob("*.partial"):  # zarr's own, of a process that was killed
            left.unlink(missing_ok=True)
    return store


def _write(name: str, places: dict[str, int], measure: Callable[[str], xr.Dataset], store: Path) -> None:
    found, place = measure(name).expand_dims("scene"), slice(places[name], places[name] + 1)
    # The last one says that the scene is whole.
    for values in (found.drop_vars(list(found.coords)), xr.Dataset({"written": ("scene", np.ones(1, np.uint8))})):
        values.to_zarr(store, region={"scene": place})


def _missing(store: Path, data: Source, names: list[str], digest: str) -> list[int]:
    """Places of the scenes that are not in a store yet; DatasetError if it holds others."""
    with _plain_zarr(store) as present:
        if present.attrs.get("source_digest") != digest:
            raise DatasetError(
                f"{store}: holds other scenes than the {len(names)} asked for from {data.root}, or was asked for "
                "something else of them, or these files changed since it was begun; delete it, or choose another folder"
            )
        return [int(number) for number in np.flatnonzero(present["written"].values == 0)]


def _create(template: xr.Dataset, store: Path) -> None:
    """Make the store without its values, at once or not at all; another process may have been first."""
    chunks = {name: {"chunks": (1, *values.shape[1:])} for name, values in template.data_vars.items()}
    with beside(store) as temporary:
        template.to_zarr(temporary, compute=False, encoding=chunks, zarr_format=_FORMAT, consolidated=True)
        try:
            temporary.rename(store)
        except OSError:
            if not store.is_dir():
                raise


def _template(data: Source, names: list[str], one: xr.Dataset) -> xr.Dataset:
    """A Dataset as `one`, of all scenes, without values in memory."""
    import dask.array as da

    def every(values: xr.DataArray) -> tuple[Any, ...]:
        zeros = da.zeros((len(names), *values.shape), dtype=values.dtype, chunks=-1)  # a graph of one task
        return ("scene", *values.dims), zeros, values.attrs

    conditions = data.table.loc[names].rename(columns={"scene": "road"})  # `scene` is the dimension here
    # Text of fixed length instead of objects, as Zarr keeps it.
    known = {key: column.to_numpy() for key, column in conditions.items()}
    coordinates = {key: ("scene", own if own.dtype.kind in "iu" else own.astype("U")) for key, own in known.items()}
    written = xr.DataArray(np.zeros((), np.uint8), attrs={"meaning": "1 once the scene is there"})
    variables = {name: every(values) for name, values in one.assign(written=written).items()}
    own = {key: values for key, values in one.coords.items() if values.dims}
    return xr.Dataset(variables, {"scene": np.array(names, dtype="U"), **own, **coordinates}, one.attrs)


def _digest(data: Source, names: list[str], asked: Any) -> str:
    """Changes with what is asked, the scenes, their order, and the size or time of any of their files."""
    files = [path for name in names for path in data.files(name)]
    marks = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([data.layout, names, marks, asked]).encode()).hexdigest()


@contextmanager
def _plain_zarr(store: Path) -> Iterator[xr.Dataset]:
    """The store with its values as they are on disk; DatasetError where it is none of ours, or damaged."""
    try:
        _require_plain(store)
        opened = xr.open_zarr(store, chunks=None)
    except PermissionError as error:
        raise DatasetError(f"{store}: {MAY_NOT}", ASK) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DatasetError(f"{store}: no Zarr store that can be read ({error}); delete it and make it anew") from error
    with opened:
        if "written" not in opened:
            raise DatasetError(f"{store}: lacks the variable `written`; expected a store that hsiutils made")
        yield opened


def _require_plain(store: Path) -> None:
    """Refuse, as ValueError, a store whose arrays would be read through other codecs than ours."""
    if (store / "zarr.json").exists():
        raise ValueError("of another version of Zarr")
    for path in (*store.glob(".zmetadata"), *store.rglob(".zarray")):
        found = guard.read_json(path)
        for each in found["metadata"].values() if path.name == ".zmetadata" else [found]:
            codecs = [one["id"] for one in (each.get("compressor"), *(each.get("filters") or ())) if one]
            if not _CODECS.issuperset(codecs) or "O" in str(each.get("dtype")):
                raise ValueError(f"{path}: an array of {each.get('dtype')} packed by {codecs}")
