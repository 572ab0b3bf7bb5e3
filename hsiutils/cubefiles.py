"""Read one cube or one label image of HSI-Drive from its file, checked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from hsiutils.classes import LABELS
from hsiutils.layouts import DatasetError, Layout
from hsiutils.matfile import inspect_level5


@dataclass(frozen=True)
class _Stored:
    """An array in an open file: what its header says, and how to get the values."""

    shape: tuple[int, ...]
    dtype: str
    values: Callable[[], NDArray[np.generic]]


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
    expected = (bands, *tiles) if layout.bands_first else (*tiles, bands)
    with _stored(path, layout) as stored:
        # Before the values: whatever size a damaged header claims, no more memory is asked for than a cube takes.
        if stored.shape != expected:
            axes = "(band, y, x)" if layout.bands_first else "(y, x, band)"
            swapped = sorted(stored.shape) == sorted(expected)
            hint = "; the axes are in another order: is it a file of another release?" if swapped else ""
            raise DatasetError(f"{path}: expected {axes} = {expected} for {layout.name}, found {stored.shape}{hint}")
        if np.dtype(stored.dtype).kind not in "fui":
            raise DatasetError(f"{path}: expected real numbers, found {stored.dtype}")
        values = stored.values()
    first = values if layout.bands_first else np.moveaxis(values, -1, 0)
    return np.ascontiguousarray(first, dtype=np.float32)


def cube_tiles(path: Path, layout: Layout, bands: int) -> tuple[int, int]:
    """Rows and columns of a cube, without reading its values.

    Raises
    ------
    DatasetError
        If the file cannot be read, or its band axis does not hold that many bands.
    """
    with _stored(path, layout) as stored:
        shape = stored.shape
    axis = 0 if layout.bands_first else 2
    if len(shape) != 3 or shape[axis] != bands:
        where = "first" if layout.bands_first else "last"
        raise DatasetError(f"{path}: expected {bands} bands on the {where} of three axes, found shape {shape}")
    rows, columns = (size for number, size in enumerate(shape) if number != axis)
    return rows, columns


def stored_dtype(path: Path, layout: Layout) -> str:
    """Type of a cube's values as its file has them, by numpy's name, without reading them.

    Raises
    ------
    DatasetError
        If the file cannot be read.
    """
    with _stored(path, layout) as stored:
        return stored.dtype


@contextmanager
def _stored(path: Path, layout: Layout) -> Iterator[_Stored]:
    """The array of a cube's file; the file is open meanwhile."""
    with named_if_broken(path):
        if layout.extension == ".npy":
            # Mapped, so that a file shorter than its header says is refused before memory is asked for.
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            yield _Stored(tuple(mapped.shape), str(mapped.dtype), lambda: np.array(mapped))
        elif h5py.is_hdf5(path):
            with h5py.File(path) as file:
                _require_variable(path, layout, list(file))
                found = file[layout.variable]
                if not isinstance(found, h5py.Dataset):
                    raise DatasetError(f"{path}: {layout.variable!r} is no array but a {type(found).__name__.lower()}")
                # MATLAB stores the first axis fastest, HDF5 shows the last one fastest.
                yield _Stored(tuple(reversed(found.shape)), str(found.dtype), lambda: np.asarray(found).T)
        else:
            names, array = inspect_level5(path, layout.variable)
            _require_variable(path, layout, names)
            if array is None:
                raise DatasetError(f"{path}: {layout.variable!r} is listed, and not there; the file is damaged")
            yield _Stored(array.shape, array.dtype, lambda: _from_level5(path, layout.variable))


def _from_level5(path: Path, variable: str) -> NDArray[np.generic]:
    return np.asarray(loadmat(path, variable_names=[variable])[variable])


@contextmanager
def named_if_broken(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged or missing file into a `DatasetError` that names the file."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # on a garbled header the parsers raise whatever they trip over
        if not path.exists():  # not every reader says so by FileNotFoundError
            raise DatasetError(f"{path}: the file is missing; fetch or make it again") from error
        if path.is_dir():
            raise DatasetError(f"{path}: a folder, where a file of that name should be; move it away") from error
        if isinstance(error, PermissionError):
            raise DatasetError(f"{path}: may not be read; ask for the right to, or change it with chmod") from error
        size, why = path.stat().st_size, str(error) or type(error).__name__
        raise DatasetError(f"{path}: cannot be read ({size} bytes): {why}; it is damaged or cut short") from error


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
    with named_if_broken(path), Image.open(path) as image:
        if image.size[::-1] != tiles:  # before it is unpacked
            raise DatasetError(f"{path}: expected the size of the cube, {tiles}, found {image.size[::-1]}")
        codes = np.asarray(image)  # of a palette image this gives the codes, not the colours
    if codes.ndim != 2:
        raise DatasetError(
            f"{path}: expected one channel of label codes, found {codes.shape}; is it a coloured preview?"
        )
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
    with named_if_broken(path), h5py.File(path) as file:
        arrays = {key: np.asarray(file[key]) for key in file}
    for key, values in arrays.items():
        if values.shape != tiles:
            raise DatasetError(f"{path}: {key}: expected the size of the cube, {tiles}, found {values.shape}")
    return arrays
