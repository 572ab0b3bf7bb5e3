"""Scenes in the file formats of others: HSI-Drive's Python release (mmsegmentation's layout), and ENVI.

The MATLAB layout is what the simulator writes by itself (`hsiutils.simulate.write_dataset`).
"""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from spectral.io import envi  # type: ignore[import-untyped]

from hsiutils.classes import LABELS
from hsiutils.cube import ascending, pseudocolour, require_cube
from hsiutils.dataset import HSIDrive
from hsiutils.layouts import FOLDER_SPLITS, DatasetError
from hsiutils.simulate.files import write_atomically

Interleave = Literal["bil", "bip", "bsq"]
Order = Literal["ascending", "native"]

_FOLDERS = {split: folder for folder, split in FOLDER_SPLITS.items()}


def write_python_release(drive: HSIDrive, root: Path | str, names: Sequence[str] | None = None) -> Path:
    """Write scenes as HSI-Drive v2.0's Python release has them, which is also where mmsegmentation looks.

        HSIDrive20/{images,annotations}/{training,validation,test}/nfSWDS_NNN.{npy,png}    (y, x, band) float32; codes
        HSIDrive20/RGB/nfSWDS_NNN_pseudocolor.png, {training,validation,test}_filenames.txt

    Median-filtered cubes go to images_MF. Every file appears whole or not at all; the lists come last.

    Parameters
    ----------
    drive : what to write, with its splits.
    root : folder to write into.
    names : of the scenes; all by default.

    Returns
    -------
    The folder HSIDrive20; `hsiutils.dataset.open_hsi_drive` opens it.

    Raises
    ------
    DatasetError
        If the cubes do not hold reflectance, or a scene cannot be read.
    """
    if drive.units != "reflectance":
        raise DatasetError(f"{drive.root}: {drive.layout} holds {drive.units} values; the Python release reflectance")
    base, names = Path(root) / "HSIDrive20", drive.names() if names is None else list(names)
    images = "images_MF" if drive.layout.endswith("MF") else "images"
    for name in names:
        cube, part = drive.cube(name), _FOLDERS[str(drive.scenes.at[name, "split"])]
        write_atomically(base / images / part / f"{name}.npy", _npy(np.moveaxis(cube.values, 0, -1)))
        write_atomically(base / "annotations" / part / f"{name}.png", _png(drive.labels(name)))
        colour = np.rint(255 * pseudocolour(cube).values).astype(np.uint8)
        write_atomically(base / "RGB" / f"{name}_pseudocolor.png", _png(colour))
    for split, part in _FOLDERS.items():
        listed = [name for name in names if drive.scenes.at[name, "split"] == split]
        write_atomically(base / f"{part}_filenames.txt", "".join(f"{name}\n" for name in listed).encode())
    return base


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


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
