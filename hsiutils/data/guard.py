"""What a file of somebody else may not make a reader do: run code, leave its folder, wait, or fill the memory.

Every format that is read goes through here before its own library sees it. What is refused is a ValueError; the readers
give it the file's name.
"""

import json
import mmap
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

MOST_PIXELS = 1 << 26
"""Of a picture that is opened, 8192 x 8192: what is packed to a few bytes may unpack to any number."""
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Endings of pictures, and the formats that may stand behind any of them: others run programs, or load files."""
_SMALL = 1 << 24
"""Bytes that anything may unpack to."""
_RATIO = 1032
"""zlib makes at most so many bytes of one."""
_ZIPPED = 100
"""Arrays of a network are stored as they are, or packed to a fraction; to a hundredth only zeros are."""


def require_file(path: Path) -> None:
    """Refuse what is there and no file, also behind a link: a device never ends, and a pipe makes the reader wait."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path}: a {_kind(path)}, where a file should be")


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    return "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def inside(root: Path, place: str) -> Path:
    """What lies below a folder under a name that a file gives; a ValueError where the name leads out of it."""
    path = Path(place)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{place!r} leads out of {root}")
    return root / path


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises
    ------
    ValueError
        If it holds none, or is no file; the message names it.
    OSError
        If it cannot be opened.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


@contextmanager
def picture(path: Path) -> Iterator[ImageFile]:
    """A picture in one of the formats of `PICTURES`, of a size that memory holds; a ValueError or OSError if none."""
    with warnings.catch_warnings(), path.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as file:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is looked at here
        try:
            # Mapped, so that a chunk has no more bytes than there are, whatever its header says.
            opened = Image.open(file, formats=sorted(set(PICTURES.values())))  # type: ignore[arg-type]
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error
        with opened as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"a picture of {image.width} x {image.height} pixels; expected {MOST_PIXELS} at most")
            yield image


@contextmanager
def archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose members unpack to no more than such archives hold; a ValueError if to more."""
    with zipfile.ZipFile(path) as opened:
        size, unpacked = path.stat().st_size, sum(each.file_size for each in opened.infolist())
        if unpacked > _SMALL + _ZIPPED * size:
            raise ValueError(f"its {size} bytes would unpack to {unpacked}")
        yield opened


@contextmanager
def hdf5(source: Path | bytes) -> Iterator[h5py.File]:
    """An HDF5 file, or the content of one, whose heaps are sound (`require_sound_heaps`)."""
    if isinstance(source, bytes):
        require_sound_heaps(source)
    elif source.stat().st_size:  # an empty file cannot be mapped, and has no heaps
        with source.open("rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            require_sound_heaps(mapped)
    with BytesIO(source) if isinstance(source, bytes) else nullcontext(source) as place, h5py.File(place) as file:
        yield file


def require_sound_heaps(content: bytes | mmap.mmap) -> None:
    """Refuse, as ValueError, the content of an HDF5 file in which a heap's list of free places runs in a circle.

    A group of the older kind keeps its names in a local heap, and the free places of that heap in a linked list (HDF5
    file format specification 3.0, III.D). The library follows the list without looking back, and one damaged byte that
    bends it into a circle would take all memory of the machine.
    """
    # Signature, version 0, three reserved bytes; size of the data, first free place and address follow, 8 bytes each.
    header, end = b"HEAP\0\0\0\0", 1  # what stands for no further free place
    place = content.find(header)
    base = max(
        content.find(b"\x89HDF\r\n\x1a\n"), 0
    )  # MATLAB writes a header of its own before; addresses count from here
    while 0 <= place <= len(content) - 32:
        _, free, start = struct.unpack_from("<3Q", content, place + len(header))
        start += base
        seen: set[int] = set()
        while free != end and start + free + 8 <= len(content):
            if free in seen:
                raise ValueError(f"the heap of names at byte {place} has a list that never ends; the file is damaged")
            seen.add(free)
            (free,) = struct.unpack_from("<Q", content, start + free)
        place = content.find(header, place + len(header))


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """An array of an HDF5 file by its name; a ValueError if it is none, or a link to another file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is a link to another place, which is not followed")
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name!r} is no array but a {type(found).__name__.lower()}")
    return found


def values(found: h5py.Dataset) -> NDArray[Any]:
    """What an array of an HDF5 file holds, if it is in the file (`require_stored`)."""
    require_stored(found)
    return np.asarray(found)


def require_stored(found: h5py.Dataset) -> None:
    """Refuse, as ValueError, an array of an HDF5 file whose values are in other files, or promised and not there."""
    if found.external or found.is_virtual:
        raise ValueError(f"the values of {found.name!r} lie in other files, which are not opened")
    stored = found.id.get_storage_size()
    if found.nbytes > _SMALL + _RATIO * stored:
        raise ValueError(f"{found.name!r} promises {found.nbytes} bytes, and {stored} are there")
