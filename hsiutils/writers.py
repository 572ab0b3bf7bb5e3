"""Scenes in the file formats of others: HSI-Drive's MATLAB and Python releases, and ENVI.

A simulated set stays known as simulated: its settings and its truth go along to the released layouts.
"""

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.io import savemat
from spectral.io import envi  # type: ignore[import-untyped]
from tqdm import tqdm

from hsiutils.atomic import write_atomically
from hsiutils.classes import LABELS
from hsiutils.cube import ascending, pseudocolour, require_cube
from hsiutils.dataset import HSIDrive
from hsiutils.layouts import FOLDER_SPLITS, DatasetError
from hsiutils.simulate import read_settings

Interleave = Literal["bil", "bip", "bsq"]
Order = Literal["ascending", "native"]

_FOLDERS = {split: folder for folder, split in FOLDER_SPLITS.items()}


def write_matlab_release(
    drive: HSIDrive, root: Path | str, names: Sequence[str] | None = None, progress: bool = False
) -> Path:
    """Write scenes as HSI-Drive v2.0's MATLAB release has them, which is also where hyperseg looks.

        Image_dataset/cubes_fl32/nfSWDS_NNN_TC.mat, labels/nfSWDS_NNN.png    `cube`, float32 (band, y, x); codes
        Image_dataset/raw/nfSWDS_NNN.bin, {training,validation,test}_filenames.txt

    Raw frames are copied where there are any; median-filtered cubes go to cubes_fl32/MF. Parameters, result (the
    folder Image_dataset) and errors are those of `write_python_release`.
    """
    base, names = _begin(drive, root, "Image_dataset", names)
    for name in _counted(names, progress):
        end = "MF/{}_MF_TC.mat" if drive.layout.endswith("MF") else "{}_TC.mat"
        write_cube(drive.cube(name), base / "cubes_fl32" / end.format(name))
        _write(base / "labels" / f"{name}.png", _png(drive.labels(name)))
        if drive.found.scenes[name].raw is not None:
            _write(base / "raw" / f"{name}.bin", drive.frame(name).astype("<u2").tobytes())
    _write_lists(drive, base, names)
    return base


def write_python_release(
    drive: HSIDrive, root: Path | str, names: Sequence[str] | None = None, progress: bool = False
) -> Path:
    """Write scenes as HSI-Drive v2.0's Python release has them, which is also where mmsegmentation looks.

        HSIDrive20/{images,annotations}/{training,validation,test}/nfSWDS_NNN.{npy,png}    (y, x, band) float32; codes
        HSIDrive20/RGB/nfSWDS_NNN_pseudocolor.png, {training,validation,test}_filenames.txt

    Median-filtered cubes go to images_MF. Every file appears whole or not at all; the lists come last.

    Parameters
    ----------
    drive : what to write, with its splits.
    root : folder to write into.
    names : of the scenes; all by default.
    progress : show a bar.

    Returns
    -------
    The folder HSIDrive20; `hsiutils.dataset.open_hsi_drive` opens it.

    Raises
    ------
    DatasetError
        If the cubes do not hold reflectance, or a scene cannot be read, or they would go among the files they are from.
    """
    base, names = _begin(drive, root, "HSIDrive20", names)
    images = "images_MF" if drive.layout.endswith("MF") else "images"
    for name in _counted(names, progress):
        cube, part = drive.cube(name), _FOLDERS[str(drive.scenes.at[name, "split"])]
        _write(base / images / part / f"{name}.npy", _npy(np.moveaxis(cube.values, 0, -1)))
        _write(base / "annotations" / part / f"{name}.png", _png(drive.labels(name)))
        colour = np.rint(255 * pseudocolour(cube).values).astype(np.uint8)
        _write(base / "RGB" / f"{name}_pseudocolor.png", _png(colour))
    _write_lists(drive, base, names)
    return base


def _begin(drive: HSIDrive, root: Path | str, folder: str, names: Sequence[str] | None) -> tuple[Path, list[str]]:
    """Check what is to be written and where, and hand on that a set is simulated before anything else is there."""
    root, names = Path(root), drive.names() if names is None else list(names)
    if drive.units != "reflectance":
        raise DatasetError(f"{drive.root}: {drive.layout} holds {drive.units} values; this release holds reflectance")
    if (root / folder).resolve() == drive.found.base.resolve():
        raise DatasetError(
            f"{root / folder}: would be written over the files that it is made from; name another folder"
        )
    if drive.manifest is not None:
        settings = {**read_settings(drive.manifest.parent), "converted_from": drive.layout}
        _write(root / drive.manifest.name, json.dumps(settings, indent=1).encode())
        for name in names:
            truth = drive.manifest.parent / "truth" / f"{name}.h5"
            if truth.is_file():
                _write(root / "truth" / truth.name, truth.read_bytes())
    return root / folder, names


def _counted(names: list[str], progress: bool) -> "tqdm[str]":
    return tqdm(names, desc="convert", unit="scene", disable=not progress)


def _write_lists(drive: HSIDrive, base: Path, names: Sequence[str]) -> None:
    for split, part in _FOLDERS.items():
        listed = [name for name in names if drive.scenes.at[name, "split"] == split]
        _write(base / f"{part}_filenames.txt", "".join(f"{name}\n" for name in listed).encode())


def write_cube(cube: xr.DataArray, path: Path | str) -> Path:
    """Write a cube as a released one: level-5 MAT-file, variable `cube`, float32 (band, y, x)."""
    require_cube(cube)
    buffer = io.BytesIO()
    savemat(buffer, {"cube": np.asarray(cube.values, dtype=np.float32)})
    # The first 116 bytes are free text, in which scipy writes the date.
    text = f"MATLAB 5.0 MAT-file, written by hsiutils, {cube.attrs.get('source', 'unknown')}".ljust(116)
    return _write(Path(path), text.encode()[:116] + buffer.getvalue()[116:])


def write_envi_set(
    drive: HSIDrive,
    folder: Path | str,
    names: Sequence[str] | None = None,
    *,
    interleave: Interleave = "bil",
    order: Order = "ascending",
    progress: bool = False,
) -> Path:
    """Write every scene as two ENVI images, cubes/NAME.hdr and labels/NAME.hdr; see `write_envi`.

    Returns
    -------
    The folder.
    """
    folder, names = Path(folder), drive.names() if names is None else list(names)
    for name in _counted(names, progress):
        write_envi(drive.cube(name), folder / "cubes" / f"{name}.hdr", interleave=interleave, order=order)
        write_envi_labels(drive.labels(name), folder / "labels" / f"{name}.hdr")
    return folder


def write_envi(
    cube: xr.DataArray, header: Path | str, *, interleave: Interleave = "bil", order: Order = "ascending"
) -> Path:
    """Write a cube as an ENVI image: a text header and, beside it, a .img of float32.

    Parameters
    ----------
    cube : (band, y, x), native band order.
    header : file to write, ending in .hdr.
    interleave : how the values lie in the file: by line, by pixel or by band.
    order : of the bands. "ascending" in wavelength, as most readers expect, or "native", that of the mosaic. The band
        names keep the native indices.

    Returns
    -------
    The header.

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
    ordered = ascending(cube) if order == "ascending" else cube
    metadata = {
        "description": "; ".join(f"{key} {value}" for key, value in cube.attrs.items()),
        "wavelength": [f"{nm:g}" for nm in ordered["wavelength"].values],
        "wavelength units": "Nanometers",
        "band names": [f"band {band}" for band in ordered["band"].values],
    }
    values = np.moveaxis(np.asarray(ordered.values, dtype=np.float32), 0, -1)
    return _save_envi(envi.save_image, Path(header), values, interleave=interleave, metadata=metadata)


def write_envi_labels(labels: ArrayLike, header: Path | str) -> Path:
    """Write label codes (y, x) as an ENVI classification, with the names and colours of the official palette."""
    names, colours = [label.name for label in LABELS], [label.rgb for label in LABELS]
    codes = np.asarray(labels, dtype=np.uint8)
    return _save_envi(envi.save_classification, Path(header), codes, class_names=names, class_colors=colours)


def _save_envi(save: Any, header: Path, values: NDArray[Any], **options: Any) -> Path:
    if header.suffix != ".hdr":
        raise ValueError(f"{header}: an ENVI header ends in .hdr")
    header.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=header.parent, prefix=".envi") as folder:
        made = Path(folder) / header.name
        save(str(made), values, ext=".img", byteorder="little", **options)
        # The header comes last: where it is, the values are whole.
        for suffix in (".img", ".hdr"):
            made.with_suffix(suffix).replace(header.with_suffix(suffix))
    return header


def _write(path: Path, content: bytes) -> Path:
    write_atomically(path, content)
    return path


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
