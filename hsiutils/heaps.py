"""A look at an HDF5 file before the HDF5 library opens it: heaps of names that would never end.

A group of the older kind keeps its names in a local heap, and the free places of that heap in a linked list. The
library follows the list without looking back. One damaged byte can bend it into a circle, and opening the group then
takes all memory of the machine. Everything else that damage does, the library reports by itself.
"""

import mmap
import struct
from pathlib import Path

_HEADER = b"HEAP\0\0\0\0"
"""Signature, version 0, three reserved bytes; size of the data, first free place and address follow, 8 bytes each."""

_END = 1
"""What stands for no further free place."""


def require_sound_heaps(content: bytes | mmap.mmap) -> None:
    """Refuse the content of an HDF5 file in which a heap's list of free places runs in a circle.

    Source: HDF5 file format specification 3.0, III.D (local heaps).

    Raises
    ------
    ValueError
        If there is such a heap.
    """
    place = content.find(_HEADER)
    while place >= 0:
        if _circular(content, place):
            raise ValueError(f"the heap of names at byte {place} has a list that never ends; the file is damaged")
        place = content.find(_HEADER, place + len(_HEADER))


def require_sound_file(path: Path) -> None:
    """The same of a file, without reading it into memory. An empty file has no heaps."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        require_sound_heaps(content)


def _circular(content: bytes | mmap.mmap, place: int) -> bool:
    if place + 32 > len(content):
        return False
    _, free, start = struct.unpack_from("<3Q", content, place + len(_HEADER))
    seen: set[int] = set()
    while free != _END and start + free + 8 <= len(content):
        if free in seen:
            return True
        seen.add(free)
        (free,) = struct.unpack_from("<Q", content, start + free)
    return False
