"""Scenes in the file formats of others: HSI-Drive's MATLAB and Python releases, ENVI, and Zarr.

A simulated set stays known as simulated: its settings and its truth go along to the released layouts. A Zarr store has
a scene a chunk and opens with plain `xarray.open_zarr`; writing it can be interrupted and continued, and runs in
parallel through dask, on one machine or on a cluster.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.io import savemat
from spectral.io import envi  # type: ignore[import-untyped]
from tqdm import tqdm

from hsiutils.data import guard
from hsiutils.data.atomic import beside, replacing, write_atomically
from hsiutils.data.classes import HSI_DRIVE_CLASSES, Classes
from hsiutils.data.cube import ascending, pseudocolour, require_cube, require_native
from hsiutils.data.hsidrive import HSIDrive, read_settings
from hsiutils.data.layouts import ASK, FOLDER_SPLITS, MAY_NOT, DatasetError
from hsiutils.data.source import Source

Interleave = Literal["bil", "bip", "bsq"]
Order = Literal["ascending", "native"]
Release = Literal["matlab", "python"]
_FOLDERS = {split: folder for folder, split in FOLDER_SPLITS.items()}


def write_release(
    data: HSIDrive, root: Path | str, form: Release, names: Sequence[str] | None = None, progress: bool = False
) -> Path:
    """Write scenes as HSI-Drive v2.0 has them, in its MATLAB or its Python release.

        matlab, where hyperseg looks: `cube`, float32 (band, y, x), and label codes; raw frames where there are any
            Image_dataset/{cubes_fl32/nfSWDS_NNN_TC.mat, labels/nfSWDS_NNN.png, raw/nfSWDS_NNN.bin}
        python, where mmsegmentation looks: float32 (y, x, band), and label codes; with pictures
            HSIDrive20/{images,annotations}/{training,validation,test}/nfSWDS_NNN.{npy,png}
            HSIDrive20/RGB/nfSWDS_NNN_pseudocolor.png

    Median-filtered cubes go to cubes_fl32/MF or images_MF. Every file appears whole or not at all; the lists of the
    splits, {training,validation,test}_filenames.txt, come last.

    Parameters
    ----------
    data : what to write, with its splits.
    root : folder to write into.
    form : "matlab" or "python".
    names : of the scenes; all by default.
    progress : show a bar.

    Returns
    -------
    The folder Image_dataset or HSIDrive20; `hsiutils.data.source.open_dataset` opens it.

    Raises
    ------
    DatasetError
        If the cubes do not hold reflectance, or a scene cannot be read, or they would go among the files they are from.
    """
    base = Path(root) / {"matlab": "Image_dataset", "python": "HSIDrive20"}[form]
    names = data.names() if names is None else names
    if data.units != "reflectance":
        raise DatasetError(f"{data.root}: {data.layout} holds {data.units} values; this release holds reflectance")
    if base.resolve() == data.found.base.resolve():
        raise DatasetError(f"{base}: would be written over the files that it is made from; name another folder")
    _mark_simulated(data, Path(root), names)
    filtered, split = data.layout.endswith("MF"), data.table["split"]
    for name in tqdm(names, desc="convert", unit="scene", disable=not progress):
        cube, labels, part = data.cube(name), Image.fromarray(data.labels(name)), _FOLDERS[str(split[name])]
        if form == "matlab":
            write_cube(cube, base / "cubes_fl32" / (f"MF/{name}_MF_TC.mat" if filtered else f"{name}_TC.mat"))
            _save(base / "labels" / f"{name}.png", labels.save)
            if data.found.scenes[name].raw is not None:
                write_atomically(base / "raw" / f"{name}.bin", data.frame(name).astype("<u2").tobytes())
        else:
            save = partial(np.save, arr=np.ascontiguousarray(np.moveaxis(cube.values, 0, -1)))
            _save(base / ("images_MF" if filtered else "images") / part / f"{name}.npy", save)
            _save(base / "annotations" / part / f"{name}.png", labels.save)
            colour = Image.fromarray(np.rint(255 * pseudocolour(cube).values).astype(np.uint8))
            _save(base / "RGB" / f"{name}_pseudocolor.png", colour.save)
    for one, part in _FOLDERS.items():
        listed = "".join(f"{name}\n" for name in names if split[name] == one)
        write_atomically(base / f"{part}_filenames.txt", listed)
    return base


def _mark_simulated(data: HSIDrive, root: Path, names: Sequence[str]) -> None:
    """Hand on that a set is simulated, and its truth, before anything else is there."""
    if data.manifest is not None:
        settings = {**read_settings(data.manifest.parent), "converted_from": data.layout}
        write_atomically(root / data.manifest.name, json.dumps(settings, indent=1))
        for truth in (data.manifest.parent / "truth" / f"{name}.h5" for name in names):
            if truth.is_file():
                data.truth(truth.stem)  # what is none is not handed on
                write_atomically(root / "truth" / truth.name, truth.read_bytes())


def _save(path: Path, save: Callable[[Path], None]) -> None:
    with replacing(path) as temporary:
        save(temporary)


def write_cube(cube: xr.DataArray, path: Path | str) -> Path:
    """Write a cube as a released one: level-5 MAT-file, variable `cube`, float32 (band, y, x) in native order."""
    require_native(cube, len(cube), "a MAT-file")
    buffer = io.BytesIO()
    savemat(buffer, {"cube": np.asarray(cube.values, dtype=np.float32)})
    # The first 116 bytes are free text, in which scipy writes the date.
    text = f"MATLAB 5.0 MAT-file, written by hsiutils, {cube.attrs.get('source', 'unknown')}".ljust(116)
    write_atomically(Path(path), text.encode()[:116] + buffer.getvalue()[116:])
    return Path(path)


def write_envi_set(
    data: Source,
    folder: Path | str,
    names: Sequence[str] | None = None,
    *,
    interleave: Interleave = "bil",
    order: Order = "ascending",
    progress: bool = False,
) -> Path:
    """Write every scene as two ENVI images, cubes/NAME.hdr and labels/NAME.hdr of the folder; see `write_envi`."""
    folder, names = Path(folder), data.names() if names is None else names
    for name in tqdm(names, desc="convert", unit="scene", disable=not progress):
        write_envi(data.cube(name), folder / "cubes" / f"{name}.hdr", interleave=interleave, order=order)
        write_envi_labels(data.labels(name), folder / "labels" / f"{name}.hdr", data.classes)
    return folder


def write_envi(
    cube: xr.DataArray, header: Path | str, *, interleave: Interleave = "bil", order: Order = "ascending"
) -> Path:
    """Write a cube as an ENVI image: a text header and, beside it, a .img of float32.

    Parameters
    ----------
    cube : (band, y, x).
    header : file to write, ending in .hdr.
    interleave : how the values lie in the file: by line, by pixel or by band.
    order : of the bands. "ascending" in wavelength, as most readers expect, or "native", that of the mosaic. The band
        names keep the native indices.

    Raises
    ------
    ValueError
        If the array is no cube, or an argument is none of those.
    """
    require_cube(cube)
    if interleave not in ("bil", "bip", "bsq") or order not in ("ascending", "native"):
        raise ValueError(
            f'interleave must be "bil", "bip" or "bsq" and order "ascending" or "native", got {interleave!r}, {order!r}'
        )
    ordered = ascending(cube) if order == "ascending" else cube.sortby("band")
    metadata = {
        "description": "; ".join(f"{key} {value}" for key, value in cube.attrs.items()),
        "wavelength": [f"{nm:g}" for nm in ordered["wavelength"].values],
        "wavelength units": "Nanometers",
        "band names": [f"band {band}" for band in ordered["band"].values],
    }
    values = np.moveaxis(np.asarray(ordered.values, dtype=np.float32), 0, -1)
    return _save_envi(envi.save_image, Path(header), values, interleave=interleave, metadata=metadata)


def write_envi_labels(labels: ArrayLike, header: Path | str, classes: Classes = HSI_DRIVE_CLASSES) -> Path:
    """Write label codes (y, x) as an ENVI classification, with names and colours; ValueError if one is not of them."""
    classes.merge(labels)  # refuses what is no code
    table = {label.code: label for label in classes.labels}
    every = range(max(table) + 1)  # ENVI's codes have no gaps
    names = [table[code].name if code in table else "unused" for code in every]
    colours = [table[code].rgb if code in table else (0, 0, 0) for code in every]
    codes = np.asarray(labels, dtype=np.uint8)
    return _save_envi(envi.save_classification, Path(header), codes, class_names=names, class_colors=colours)


def _save_envi(save: Any, header: Path, values: NDArray[Any], **options: Any) -> Path:
    if header.suffix != ".hdr":
        raise ValueError(f"{header}: an ENVI header ends in .hdr")
    with beside(header.with_suffix("")) as folder:
        folder.mkdir()
        made = folder / header.name
        save(str(made), values, ext=".img", byteorder="little", **options)
        # The header comes last: where it is, the values are whole.
        for suffix in (".img", ".hdr"):
            made.with_suffix(suffix).replace(header.with_suffix(suffix))
    return header


_FORMAT = 2
"""Of Zarr: version 3 has no settled encoding of text yet, and every reader knows version 2."""


def to_zarr(
    data: Source,
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
    data : what to convert.
    store : folder to make, or to continue.
    names : of the scenes; all by default.
    scheduler : of dask: "threads", "processes" or "synchronous" on this machine, or the address of a cluster's
        scheduler, such as "tcp://node1:8786", whose workers must see data set and store under the same paths.
    workers : on this machine.
    progress : show a bar with the time left.

    Returns
    -------
    The store, with

        cube (scene, band, y, x) float32, labels (scene, y, x) uint8 (codes), written (scene)
        wavelength (band) nm; split and what else the table says of a scene (scene); `road` for its `scene`

    Raises
    ------
    ModuleNotFoundError
        If zarr and dask are not installed, naming the extra that brings them.
    DatasetError
        If the folder holds something else, or the scenes of other files; or a scene cannot be read.
    """
    if lacking := [package for package in ("zarr", "dask") if find_spec(package) is None]:
        raise ModuleNotFoundError(f"a Zarr store needs {' and '.join(lacking)}: pip install 'hsiutils[zarr]'")
    from dask.delayed import delayed

    store, names = Path(store), data.names() if names is None else list(names)
    digest = _digest(data, names)
    if not store.exists():
        _create(_template(data, names).assign_attrs(source_digest=digest), store)
    if not _missing(store, data, names, digest):
        return store
    with FileLock(store / ".lock"):  # two that write one store take turns
        for left in store.rglob("*.partial"):  # zarr's own, of a process that was killed
            left.unlink(missing_ok=True)
        write = delayed(_write_scene)
        tasks = [write(data, names[number], number, store) for number in _missing(store, data, names, digest)]
        bar = partial(tqdm, total=len(tasks), desc="convert", unit="scene", disable=not (progress and tasks))
        _compute(tasks, scheduler, workers, bar)
    return store


def _missing(store: Path, data: Source, names: list[str], digest: str) -> list[int]:
    """Places of the scenes that are not in a store yet; DatasetError if it holds others."""
    with _plain_zarr(store) as present:
        if present.attrs.get("source_digest") != digest:
            raise DatasetError(
                f"{store}: holds other scenes than the {len(names)} asked for from {data.root}, or these files changed "
                "since it was begun; delete it, or choose another folder"
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


def _template(data: Source, names: list[str]) -> xr.Dataset:
    import dask.array as da

    bands, (rows, columns), count = len(data.sensor.bands), data.sensor.tiles, len(names)
    cubes = da.zeros((count, bands, rows, columns), dtype=np.float32, chunks=(1, bands, rows, columns))
    labels = da.zeros((count, rows, columns), dtype=np.uint8, chunks=(1, rows, columns))
    conditions = data.table.loc[names].rename(columns={"scene": "road"})  # `scene` is the dimension here
    # Text of fixed length instead of objects, as Zarr keeps it.
    known = {key: column.to_numpy() for key, column in conditions.items()}
    coordinates = {key: ("scene", one if one.dtype.kind in "iu" else one.astype("U")) for key, one in known.items()}
    codes, meanings = zip(*((one.code, one.name.replace(" ", "_")) for one in data.classes.labels), strict=True)
    attributes = {"units": data.units, "source": data.origin, "sensor": data.sensor.name, "history": data.layout}
    return xr.Dataset(
        {
            "cube": (("scene", "band", "y", "x"), cubes, attributes),
            "labels": (("scene", "y", "x"), labels, {"flag_values": codes, "flag_meanings": " ".join(meanings)}),
            "written": ("scene", da.zeros(count, dtype=np.uint8, chunks=1), {"meaning": "1 once the scene is there"}),
        },
        coords={
            "scene": np.array(names, dtype="U"),
            "band": np.arange(bands),
            "wavelength": ("band", data.sensor.wavelengths_nm, {"units": "nm"}),
            **coordinates,
        },
        attrs={"title": f"{type(data).__name__}, {data.origin}, {data.layout}"},
    )


def _digest(data: Source, names: list[str]) -> str:
    """Changes with the scenes, their order, and the size or time of any of their files."""
    files = [path for name in names for path in data.files(name)]
    marks = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([data.layout, names, marks]).encode()).hexdigest()


def _write_scene(data: Source, name: str, number: int, store: Path) -> None:
    cube = (("scene", "band", "y", "x"), data.cube(name).values[np.newaxis])
    labels = (("scene", "y", "x"), data.labels(name)[np.newaxis])
    # The last one says that the scene is whole.
    for values in ({"cube": cube, "labels": labels}, {"written": ("scene", np.ones(1, np.uint8))}):
        xr.Dataset(values).to_zarr(store, region={"scene": slice(number, number + 1)})


def _compute(tasks: list[Any], scheduler: str, workers: int, bar: Any) -> None:
    from dask.base import compute
    from dask.callbacks import Callback

    if "://" in scheduler:
        try:
            distributed = import_module("distributed")
        except ImportError as error:
            raise DatasetError(f"scheduler {scheduler!r} is a cluster, which needs the package distributed") from error
        with distributed.Client(scheduler) as client:
            for done in bar(distributed.as_completed(client.compute(tasks))):
                done.result()
        return
    with bar() as shown, Callback(posttask=lambda *_: shown.update()):  # type: ignore[no-untyped-call]
        compute(*tasks, scheduler=scheduler, num_workers=workers)  # type: ignore[no-untyped-call]


@contextmanager
def _plain_zarr(store: Path) -> Iterator[xr.Dataset]:
    """The store with its values as they are on disk; DatasetError where it is none of ours, or damaged."""
    try:
        _require_plain(store)
        opened = xr.open_zarr(store, chunks=None)
    except PermissionError as error:
        raise DatasetError(f"{store}: {MAY_NOT}", ASK) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DatasetError(f"{store}: no Zarr store that can be read ({error}); delete it and convert anew") from error
    with opened:
        if missing := {"cube", "labels", "written"} - set(map(str, opened)):
            raise DatasetError(f"{store}: lacks {sorted(missing)}; expected a store made by `data convert`")
        yield opened


_CODECS = {"blosc", "zstd", "zlib", "lz4", "gzip"}
"""Of a store that is written here; among the others are some that unpickle."""


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
