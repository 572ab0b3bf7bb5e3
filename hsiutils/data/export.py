"""Scenes in the file formats of others: HSI-Drive's MATLAB and Python releases, ENVI, and Zarr.

A simulated set stays known as simulated: its settings and its truth go along to the released layouts. Scenes are
written side by side, on one machine or on a cluster (`hsiutils.data.cluster`).
"""

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.io import savemat
from spectral.io import envi  # type: ignore[import-untyped]

from hsiutils.data import zarr_store
from hsiutils.data.atomic import beside, replacing, write_atomically
from hsiutils.data.classes import HSI_DRIVE_CLASSES, Classes
from hsiutils.data.cluster import scene_by_scene
from hsiutils.data.cube import ascending, pseudocolour, require_cube, require_native
from hsiutils.data.hsidrive import HSIDrive, read_settings
from hsiutils.data.layouts import FOLDER_SPLITS, DatasetError
from hsiutils.data.source import Source

Interleave = Literal["bil", "bip", "bsq"]
Order = Literal["ascending", "native"]
Release = Literal["matlab", "python"]
_FOLDERS = {split: folder for folder, split in FOLDER_SPLITS.items()}


def write_release(
    data: HSIDrive,
    root: Path | str,
    form: Release,
    names: Sequence[str] | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
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
    workers, progress : as in `hsiutils.data.cluster.scene_by_scene`.

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
    scene_by_scene(partial(_release, data=data, base=base.absolute(), form=form), names, workers, progress)
    split = data.table["split"]
    for one, part in _FOLDERS.items():
        listed = "".join(f"{name}\n" for name in names if split[name] == one)
        write_atomically(base / f"{part}_filenames.txt", listed)
    return base


def _release(name: str, data: HSIDrive, base: Path, form: Release) -> None:
    """Write one scene."""
    filtered, part = data.layout.endswith("MF"), _FOLDERS[str(data.table.at[name, "split"])]
    cube, labels = data.cube(name), Image.fromarray(data.labels(name))
    if form == "matlab":
        write_cube(cube, base / "cubes_fl32" / (f"MF/{name}_MF_TC.mat" if filtered else f"{name}_TC.mat"))
        _save(base / "labels" / f"{name}.png", labels.save)
        if data.found.scenes[name].raw is not None:
            write_atomically(base / "raw" / f"{name}.bin", data.frame(name).astype("<u2").tobytes())
        return
    save = partial(np.save, arr=np.ascontiguousarray(np.moveaxis(cube.values, 0, -1)))
    _save(base / ("images_MF" if filtered else "images") / part / f"{name}.npy", save)
    _save(base / "annotations" / part / f"{name}.png", labels.save)
    colour = Image.fromarray(np.rint(255 * pseudocolour(cube).values).astype(np.uint8))
    _save(base / "RGB" / f"{name}_pseudocolor.png", colour.save)


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
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Write every scene as two ENVI images, cubes/NAME.hdr and labels/NAME.hdr of the folder; see `write_envi`."""
    folder, names = Path(folder), data.names() if names is None else names
    write = partial(_envi, data=data, folder=folder.absolute(), interleave=interleave, order=order)
    scene_by_scene(write, names, workers, progress)
    return folder


def _envi(name: str, data: Source, folder: Path, interleave: Interleave, order: Order) -> None:
    write_envi(data.cube(name), folder / "cubes" / f"{name}.hdr", interleave=interleave, order=order)
    write_envi_labels(data.labels(name), folder / "labels" / f"{name}.hdr", data.classes)


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


def to_zarr(
    data: Source,
    store: Path | str,
    names: Sequence[str] | None = None,
    *,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Write scenes to a Zarr store; what an interrupted run has written is kept.

    Parameters
    ----------
    data : what to convert.
    store : folder to make, or to continue.
    names : of the scenes; all by default.
    workers, progress : as in `hsiutils.data.cluster.scene_by_scene`.

    Returns
    -------
    The store, as `hsiutils.data.zarr_store.fill` describes it, with

        cube (scene, band, y, x) float32, labels (scene, y, x) uint8 (codes), wavelength (band) nm

    Raises
    ------
    ModuleNotFoundError
        If zarr and dask are not installed, naming the extra that brings them.
    DatasetError, RuntimeError
        As `fill`.
    """
    zarr_store.require_packages()
    names = data.names() if names is None else list(names)
    of_scene, like = partial(_cube_and_labels, data), partial(_blank, data)
    return zarr_store.fill(Path(store), data, names, of_scene, like, "cubes", workers, progress)


def _cube_and_labels(data: Source, name: str) -> xr.Dataset:
    cube, labels = data.cube(name), data.labels(name)
    return xr.Dataset({"cube": (("band", "y", "x"), cube.values), "labels": (("y", "x"), labels)})


def _blank(data: Source) -> xr.Dataset:
    """What stands for a scene before one is read."""
    bands, (rows, columns) = len(data.sensor.bands), data.sensor.tiles
    codes, meanings = zip(*((one.code, one.name.replace(" ", "_")) for one in data.classes.labels), strict=True)
    attributes = {"units": data.units, "source": data.origin, "sensor": data.sensor.name, "history": data.layout}
    named = {"flag_values": codes, "flag_meanings": " ".join(meanings)}
    return xr.Dataset(
        {
            "cube": (("band", "y", "x"), np.zeros((bands, rows, columns), np.float32), attributes),
            "labels": (("y", "x"), np.zeros((rows, columns), np.uint8), named),
        },
        coords={"band": np.arange(bands), "wavelength": ("band", data.sensor.wavelengths_nm, {"units": "nm"})},
        attrs={"title": f"{type(data).__name__}, {data.origin}, {data.layout}"},
    )
