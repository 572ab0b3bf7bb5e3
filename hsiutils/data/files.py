"""Read one cube or one label image from its file, checked.

scipy trusts what the tags of a level-5 MAT-file say: one with a wrong type number takes the process down, one with a
wrong size asks for any amount of memory. So the tags that lead to a numeric array are checked first. Source: MathWorks,
"MAT-File Format", level 5: a 128-byte header, then elements of an 8-byte tag (type, size) and data padded to 8 bytes.
"""

import errno
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from hsiutils.data import guard
from hsiutils.data.classes import Classes
from hsiutils.data.layouts import ASK, MAY_NOT, DatasetError, Layout

_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
"""Size of one number, by the type number of the element that holds it."""
_CLASSES = dict(
    enumerate(("float64", "float32", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"), start=6)
)
"""Numeric classes of MATLAB by their numbers; what is none of them is a cell, structure, text, ..."""
_COMPLEX = 0x0800
_HEAD = 1024
"""Bytes that hold the tags before the values, with room: a name has 63 characters at most."""
_RATIO = 1032
"""zlib makes at most so many bytes of one."""
_NOT_THE_FILE = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT}
"""Errors of disk, network or machine, which say nothing about what is in a file."""


class MatArray(NamedTuple):
    """An array in a MAT-file; `dtype` is "object" for what is none of numbers, such as a cell or text."""

    shape: tuple[int, ...]
    dtype: str


def inspect_level5(path: Path, variable: str) -> tuple[list[str], MatArray | None]:
    """Names of all variables in order, and one of them, None if it is not there.

    Every tag that reading it relies on is checked: of a damaged file, a ValueError, which the caller gives its name.
    """
    names, found = [], None
    with path.open("rb") as file:
        order = _byte_order(file.read(128))
        for head, size in _matrices(file, path.stat().st_size, order):
            name, array = _Tags(head, order).matrix(size, variable)
            names.append(name)
            found = found or array  # of two with one name scipy reads the first
    return names, found


def _byte_order(header: bytes) -> str:
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if 0 in header[:4]:  # which scipy takes for one of level 4, and reads without these checks
        raise ValueError("no MAT-file of level 5 or 7.3, but perhaps of level 4")
    if order is None or struct.unpack(f"{order}H", header[124:126])[0] >> 8 != 1:
        raise ValueError("no MAT-file of level 5 or 7.3")
    return order


def _matrices(file: BinaryIO, end: int, order: str) -> Iterator[tuple[bytes, int]]:
    """The first bytes of every variable, after its tag, and how many it can have at most."""
    while tag := file.read(8):
        kind, size = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (0, 0)
        start = file.tell()
        if kind not in (_MATRIX, _COMPRESSED) or not size:
            raise ValueError(f"an element of type {kind} where a variable should begin, at byte {start}")
        if start + size > end:
            raise ValueError(f"a variable of {size} bytes begins at byte {start}, and the file ends at {end}")
        head = file.read(min(size, _HEAD))
        yield (head, size) if kind == _MATRIX else _inflated(head, size, order)
        file.seek(start + size)


def _inflated(head: bytes, size: int, order: str) -> tuple[bytes, int]:
    try:
        plain = zlib.decompressobj().decompress(head, _HEAD)
    except zlib.error as error:
        raise ValueError(f"a variable cannot be unpacked ({error})") from error
    kind, inner = struct.unpack(f"{order}II", plain[:8]) if len(plain) >= 8 else (0, 0)
    if kind != _MATRIX or inner > _RATIO * size:
        raise ValueError(f"an element of type {kind} and {inner} bytes where a compressed variable should be")
    return plain[8:], inner


class _Tags:
    """The elements that make up one variable, read one after the other."""

    def __init__(self, head: bytes, order: str) -> None:
        self.head, self.order, self.at = head, order, 0

    def matrix(self, size: int, wanted: str) -> tuple[str, MatArray | None]:
        """Name of a variable; its shape and type if it is the wanted one."""
        flags, _ = struct.unpack(f"{self.order}II", self._data(_UINT32, 8))
        dims = self._data(_INT32)
        shape = struct.unpack(f"{self.order}{len(dims) // 4}i", dims)
        name = self._data(_INT8).decode("latin-1")
        return name, self._array(flags, shape, size) if name == wanted else None

    def _array(self, flags: int, shape: tuple[int, ...], size: int) -> MatArray:
        dtype = _CLASSES.get(flags & 0xFF, "object")
        if dtype == "object" or flags & _COMPLEX:
            return MatArray(shape, "object" if dtype == "object" else "complex128")
        kind, length, small = self._tag()
        if kind not in _BYTES or min(shape, default=0) < 0 or length != math.prod(shape) * _BYTES[kind]:
            raise ValueError(f"{length} bytes of type {kind} are no array of {shape} numbers")
        if not small and self.at + length > size:
            raise ValueError(f"an array of {length} bytes in a variable of {size}")
        return MatArray(shape, dtype)

    def _data(self, wanted: int, length: int | None = None) -> bytes:
        kind, found, small = self._tag()
        if kind != wanted or found != (length or found) or self.at + found > len(self.head):
            raise ValueError(f"an element of type {kind} and {found} bytes, where one of type {wanted} should be")
        data = self.head[self.at : self.at + found]
        self.at += 4 if small else -(-found // 8) * 8
        return data

    def _tag(self) -> tuple[int, int, bool]:
        """Type and size of the next element, and whether its data are in the tag itself; moves on to the data."""
        try:
            first, second = struct.unpack_from(f"{self.order}II", self.head, self.at)
        except struct.error:
            raise ValueError("a variable ends before its values begin") from None
        small = first >> 16 != 0
        self.at += 4 if small else 8
        return (first & 0xFFFF, first >> 16, True) if small else (first, second, False)


class Stored(NamedTuple):
    """An array in an open file: what its header says, and how to get the values."""

    shape: tuple[int, ...]
    dtype: str
    values: Callable[[], NDArray[np.generic]]


@contextmanager
def stored_array(path: Path, variable: str = "") -> Iterator[Stored]:
    """The array of a .npy file, or one variable of a .mat file of level 5 or 7.3; the file is open meanwhile.

    Of a file that cannot be read, or has no such variable, a DatasetError.
    """
    with named_if_broken(path):
        if path.suffix.lower() == ".npy":
            # Mapped, so that a file shorter than its header says is refused before memory is asked for.
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            yield Stored(tuple(mapped.shape), str(mapped.dtype), lambda: np.array(mapped))
        elif h5py.is_hdf5(path):
            with guard.hdf5(path) as file:
                _require_variable(path, variable, list(file))
                try:
                    found = guard.dataset(file, variable)
                except ValueError as error:
                    raise DatasetError(f"{path}: {error}") from error
                # MATLAB stores the first axis fastest, HDF5 shows the last one fastest.
                yield Stored(tuple(reversed(found.shape)), str(found.dtype), lambda: guard.values(found).T)
        else:
            names, array = inspect_level5(path, variable)
            _require_variable(path, variable, names)
            if array is None:
                raise DatasetError(f"{path}: {variable!r} is listed, and not there; the file is damaged")
            yield Stored(*array, lambda: np.asarray(loadmat(path, variable_names=[variable])[variable]))


def mat_variables(path: Path) -> list[str]:
    """Names of the variables in a .mat file, without reading them; DatasetError if that cannot be."""
    with named_if_broken(path):
        if h5py.is_hdf5(path):
            with guard.hdf5(path) as file:
                return list(file)
        return inspect_level5(path, "")[0]


def read_cube(path: Path, layout: Layout, bands: int, tiles: tuple[int, int]) -> NDArray[np.float32]:
    """The values of one cube, (band, y, x) float32, contiguous.

    Raises
    ------
    DatasetError
        If the file cannot be read, or does not hold a numeric array of that size under the layout's name.
    """
    axes = "(band, y, x)" if layout.bands_first else "(y, x, band)"
    values = read_array(path, layout.variable, axes, (bands, *tiles) if layout.bands_first else (*tiles, bands))
    first = values if layout.bands_first else np.moveaxis(values, -1, 0)
    return np.ascontiguousarray(first, dtype=np.float32)


def read_array(path: Path, variable: str, axes: str, expected: tuple[int, ...]) -> NDArray[np.generic]:
    """Real numbers of an array (see `stored_array`) whose axes are known, in words and as its shape.

    Raises
    ------
    DatasetError
        If the file cannot be read, or does not hold such an array.
    """
    with stored_array(path, variable) as stored:
        # Before the values: whatever size a damaged header claims, no more memory is asked for than the array takes.
        if stored.shape != expected:
            swapped = sorted(stored.shape) == sorted(expected)
            hint = "; the axes are in another order: is it a file of another release?" if swapped else ""
            raise DatasetError(f"{path}: expected {axes} = {expected}, found {stored.shape}{hint}")
        if np.dtype(stored.dtype).kind not in "fui":
            raise DatasetError(f"{path}: expected real numbers, found {stored.dtype}")
        return stored.values()


def cube_tiles(path: Path, layout: Layout, bands: int) -> tuple[int, int]:
    """Rows and columns of a cube, without reading its values; DatasetError where that cannot be, or bands differ."""
    with stored_array(path, layout.variable) as stored:
        shape = stored.shape
    axis, where = (0, "first") if layout.bands_first else (2, "last")
    if len(shape) != 3 or shape[axis] != bands:
        raise DatasetError(f"{path}: expected {bands} bands on the {where} of three axes, found shape {shape}")
    rows, columns = shape[1:] if layout.bands_first else shape[:2]
    return rows, columns


@contextmanager
def named_if_broken(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged or missing file into a `DatasetError` that names the file."""
    try:
        guard.require_file(path)
    except ValueError as error:
        raise DatasetError(str(error), "move it away") from error
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # on a garbled header the parsers raise whatever they trip over
        raise _explained(path, error) from error


def _explained(path: Path, error: Exception) -> DatasetError:
    if not path.exists():  # not every reader says so by FileNotFoundError
        return DatasetError(f"{path}: the file is missing", "fetch or make it again")
    if path.is_dir():
        return DatasetError(f"{path}: a folder, where a file of that name should be", "move it away")
    if isinstance(error, PermissionError):
        return DatasetError(f"{path}: {MAY_NOT}", ASK)
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        return DatasetError(f"{path}: another program has it open for writing", "close it there, then try again")
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in _NOT_THE_FILE:
        why = str(error) or "too little memory"
        return DatasetError(f"{path}: could not be read just now ({why})", "it need not be damaged: try again")
    size, why = path.stat().st_size, str(error) or type(error).__name__
    return DatasetError(f"{path}: cannot be read ({size} bytes): {why}; it is damaged or cut short")


def _require_variable(path: Path, variable: str, names: list[str]) -> None:
    if variable not in names:
        raise DatasetError(f"{path}: expected the variable {variable!r}, found {names}")


def read_labels(path: Path, tiles: tuple[int, int], classes: Classes) -> NDArray[np.uint8]:
    """The label codes of one image.

    A grey image holds the codes. Where an image has colours, in a palette or in three channels, they tell the code:
    picture tools put palettes into another order.

    Returns
    -------
    (y, x) uint8, codes of `classes.labels`.

    Raises
    ------
    DatasetError
        If the file cannot be read, has another size, or holds codes or colours that the classes do not have.
    """
    with named_if_broken(path), guard.picture(path) as image:
        if image.size[::-1] != tiles:  # before it is unpacked
            raise DatasetError(f"{path}: expected the size of the cube, {tiles}, found {image.size[::-1]}")
        if image.mode in ("P", "PA", "RGB", "RGBA"):
            return _codes_of_colours(path, image, classes)
        shallow = image.mode == "1" or (image.mode == "L" and ";" in str(image.tile[0][3]))
        values = np.asarray(image)
        codes = values[..., 0] if image.mode == "LA" else values
    if shallow:  # a viewer shows the code 1 of 4 bits as 17, and nobody knows which was meant
        raise DatasetError(f"{path}: a grey image of less than 8 bits; expected 8 bits, so that a value is a code")
    known = [label.code for label in classes.labels]
    if unknown := sorted(set(np.unique(codes).tolist()) - set(known)):
        whole = known == list(range(known[0], known[-1] + 1))
        expected = f"{known[0]}..{known[-1]}" if whole else str(known)
        raise DatasetError(f"{path}: unknown label codes {unknown}; expected those of {expected}")
    return codes.astype(np.uint8)


def _codes_of_colours(path: Path, image: Image.Image, classes: Classes) -> NDArray[np.uint8]:
    """Codes by colour, or by the value of a grey palette; of an image that both or neither fits, an error."""
    packed = np.asarray(image.convert("RGB")).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    used, place = np.unique(packed, return_inverse=True)
    colours = [(int(one) >> 16, int(one) >> 8 & 255, int(one) & 255) for one in used]
    own = [label.rgb for label in classes.labels]
    code_of = {label.rgb: label.code for label in classes.labels if own.count(label.rgb) == 1}
    known = {label.code for label in classes.labels}
    by_colour = [code_of.get(colour) for colour in colours]
    by_grey = [red if red == green == blue and red in known else None for red, green, blue in colours]
    fitting = {tuple(codes) for codes in (by_colour, by_grey) if None not in codes}
    if len(fitting) != 1:
        strange = [colour for colour, code in zip(colours, by_colour, strict=True) if code is None] or colours
        found = f"colours {strange[:2]} ({len(strange)} in all)"
        raise DatasetError(f"{path}: {found} are neither in the palette of the labels, nor greys of their codes")
    return np.array(fitting.pop(), dtype=np.uint8)[place].reshape(packed.shape)


def read_arrays(path: Path, tiles: tuple[int, int]) -> dict[str, NDArray[np.generic]]:
    """Every array of an HDF5 file of the simulator's truth, (y, x) each, of the size of the cube or a DatasetError."""
    with named_if_broken(path), guard.hdf5(path) as file:
        found = {key: guard.dataset(file, key) for key in file}
        for key, stored in found.items():  # before the values
            if stored.shape != tiles or stored.dtype.kind not in "fuib":
                expected = f"expected the size of the cube, {tiles}"
                raise DatasetError(f"{path}: {key}: {expected}, found {stored.shape} of {stored.dtype}")
        return {key: guard.values(stored) for key, stored in found.items()}
