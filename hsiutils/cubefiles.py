"""Read one cube or one label image of HSI-Drive from its file, checked."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from hsiutils.classes import LABELS
from hsiutils.layouts import DatasetError, Layout

# What the readers raise on a file that is cut short or garbled.
_BROKEN = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    NotImplementedError,
    zlib.error,
    MatReadError,
)


def read_cube(path: Path, layout: Layout, bands: int, tiles: tuple[int, int]) -> NDArray[np.float32]:
    """The values of one cube.

    Parameters
    ----------
    path : .mat (level 5 or 7.3) or .npy file.
    layout : says the variable and where the bands are.
    bands, tiles : the size that the cube must have.

    Returns
    -------
    (band, y, x) float32, contiguous.

    Raises
    ------
    DatasetError
        If the file cannot be read, or does not hold a numeric array of that size under that name.
    """
    values = _load(path, layout)
    expected = (bands, *tiles) if layout.bands_first else (*tiles, bands)
    if values.shape != expected:
        axes = "(band, y, x)" if layout.bands_first else "(y, x, band)"
        swapped = sorted(values.shape) == sorted(expected)
        hint = "; the axes are in another order: is it a file of another release?" if swapped else ""
        raise DatasetError(f"{path}: expected {axes} = {expected} for {layout.name}, found {values.shape}{hint}")
    if values.dtype.kind not in "fui":
        raise DatasetError(f"{path}: expected real numbers, found {values.dtype}")
    first = values if layout.bands_first else np.moveaxis(values, -1, 0)
    return np.ascontiguousarray(first, dtype=np.float32)


def cube_tiles(path: Path, layout: Layout, bands: int) -> tuple[int, int]:
    """Rows and columns of a cube, without reading its values.

    Raises
    ------
    DatasetError
        If the file cannot be read, or its band axis does not hold that many bands.
    """
    shape = _shape(path, layout)
    axis = 0 if layout.bands_first else 2
    if len(shape) != 3 or shape[axis] != bands:
        where = "first" if layout.bands_first else "last"
        raise DatasetError(f"{path}: expected {bands} bands on the {where} of three axes, found shape {shape}")
    rows, columns = (size for number, size in enumerate(shape) if number != axis)
    return rows, columns


def _load(path: Path, layout: Layout) -> NDArray[np.generic]:
    with _named_if_broken(path):
        if layout.extension == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                _require_variable(path, layout, list(file))
                # MATLAB stores the first axis fastest, HDF5 shows the last one fastest.
                return np.asarray(file[layout.variable]).T
        _require_variable(path, layout, [name for name, _, _ in whosmat(path)])
        return np.asarray(loadmat(path, variable_names=[layout.variable])[layout.variable])


def _shape(path: Path, layout: Layout) -> tuple[int, ...]:
    """What `_load` would give the shape of, from the file's header alone."""
    with _named_if_broken(path):
        if layout.extension == ".npy":
            return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                _require_variable(path, layout, list(file))
                return tuple(reversed(file[layout.variable].shape))
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        _require_variable(path, layout, list(shapes))
        return tuple(shapes[layout.variable])


@contextmanager
def _named_if_broken(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged file into an error that names the file."""
    try:
        yield
    except DatasetError:
        raise
    except _BROKEN as error:
        if not path.exists():  # not every reader says so by FileNotFoundError
            raise DatasetError(f"{path}: the file is missing; fetch or make it again") from error
        size = path.stat().st_size
        raise DatasetError(f"{path}: cannot be read ({size} bytes): {error}; it is damaged or cut short") from error


def _require_variable(path: Path, layout: Layout, names: list[str]) -> None:
    if layout.variable not in names:
        raise DatasetError(f"{path}: expected the variable {layout.variable!r} ({layout.name}), found {names}")


def read_labels(path: Path, tiles: tuple[int, int]) -> NDArray[np.uint8]:
    """The label codes of one image.

    Returns
    -------
    (y, x) uint8, codes 0..10 of `hsiutils.classes.LABELS`.

    Raises
    ------
    DatasetError
        If the file cannot be read, has another size or several channels, or holds unknown codes.
    """
    with _named_if_broken(path), Image.open(path) as image:
        codes = np.asarray(image)  # of a palette image this gives the codes, not the colours
    if codes.ndim != 2:
        raise DatasetError(
            f"{path}: expected one channel of label codes, found {codes.shape}; is it a coloured preview?"
        )
    if codes.shape != tiles:
        raise DatasetError(f"{path}: expected the size of the cube, {tiles}, found {codes.shape}")
    unknown = sorted(set(np.unique(codes).tolist()) - {label.code for label in LABELS})
    if unknown:
        raise DatasetError(f"{path}: unknown label codes {unknown}; HSI-Drive uses 0..{len(LABELS) - 1}")
    return codes.astype(np.uint8)


def read_arrays(path: Path, tiles: tuple[int, int]) -> dict[str, NDArray[np.generic]]:
    """Every array of an HDF5 file of the simulator's truth, (y, x) each.

    Raises
    ------
    DatasetError
        If the file is missing or cannot be read, or an array has another size than the cube.
    """
    with _named_if_broken(path), h5py.File(path) as file:
        arrays = {key: np.asarray(file[key]) for key in file}
    for key, values in arrays.items():
        if values.shape != tiles:
            raise DatasetError(f"{path}: {key}: expected the size of the cube, {tiles}, found {values.shape}")
    return arrays
