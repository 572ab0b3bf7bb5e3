from pathlib import Path

import h5py
import pytest

from hsiutils.models.keras import require_sound_file, require_sound_heaps


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """A file whose root group is of the older kind, with a heap of names that has room left."""
    path = tmp_path / "grouped.h5"
    with h5py.File(path, "w") as file:
        file["layers/conv2d/kernel"] = [1.0, 2.0]
    return path


def bent(path: Path, target: int) -> None:
    """Make the first free place of the first heap name another as the next one."""
    content = bytearray(path.read_bytes())
    heap = content.find(b"HEAP")
    free, start = (int.from_bytes(content[heap + at : heap + at + 8], "little") for at in (16, 24))
    assert free != 1
    content[start + free : start + free + 8] = (free if target < 0 else target).to_bytes(8, "little")
    path.write_bytes(content)


def test_sound_files_pass(grouped: Path, tmp_path: Path) -> None:
    require_sound_file(grouped)
    (tmp_path / "empty.h5").write_bytes(b"")
    require_sound_file(tmp_path / "empty.h5")


def test_a_list_that_bends_back_is_refused(grouped: Path) -> None:
    """One byte did this in a real fuzz, and the library filled all memory. It must not be opened here."""
    bent(grouped, target=-1)
    with pytest.raises(ValueError, match=r"heap of names at byte \d+ has a list that never ends"):
        require_sound_file(grouped)


def test_a_list_that_leaves_the_file_is_left_to_the_library(grouped: Path) -> None:
    bent(grouped, target=1 << 40)
    require_sound_file(grouped)
    with pytest.raises((OSError, RuntimeError, KeyError)), h5py.File(grouped) as file:
        list(file["layers"])


def test_the_signature_alone_is_no_heap() -> None:
    require_sound_heaps(b"weights HEAP\0\0\0\0")
    require_sound_heaps(b"HEAP\0\0\0\0" + bytes(8) + (1).to_bytes(8, "little") + bytes(8))
