"""A look at a level-5 MAT-file before scipy reads it, so that a damaged one is an error and not a crash.

scipy trusts what a file's tags say: one with a wrong type number takes the process down, one with a wrong size asks for
any amount of memory. So the tags that lead to a numeric array are checked first. Source: MathWorks, "MAT-File Format",
level 5: a 128-byte header, then elements of an 8-byte tag (type, size) and data padded to 8 bytes.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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


@dataclass(frozen=True)
class MatArray:
    """A numeric array in a MAT-file.

    Attributes
    ----------
    dtype : by numpy's name; "object" for what is no array of numbers, such as a cell or text.
    """

    shape: tuple[int, ...]
    dtype: str


def inspect_level5(path: Path, variable: str) -> tuple[list[str], MatArray | None]:
    """Names of all variables, and the shape and type of one, after checking every tag that reading it relies on.

    Returns
    -------
    The names in the order of the file; the variable, None if it is not there.

    Raises
    ------
    ValueError
        If the file is no level-5 MAT-file, is cut short or damaged; the caller names it.
    """
    names, found = [], None
    with path.open("rb") as file:
        order = _byte_order(file.read(128))
        for head, size in _matrices(file, path.stat().st_size, order):
            name, array = _Tags(head, order).matrix(size, variable)
            names.append(name)
            found = array or found
    return names, found


def _byte_order(header: bytes) -> str:
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
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
