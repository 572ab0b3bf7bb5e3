"""Damaged MAT-files, byte by byte: every fault is an error that names the file, and no reader crashes."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat, whosmat
from tiny_hsi_drive import codes_of, mat73, npy_bands_last, values_of

from hsiutils.data.files import MatArray, inspect_level5

VALUES = values_of("nf1111_576")


def level5(compressed: bool = False, **variables) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables or {"cube": VALUES}, do_compression=compressed)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16", "int16"])
def test_names_shapes_and_types_are_those_that_scipy_finds(tmp_path: Path, compressed: bool, dtype: str) -> None:
    others = {"note": "text", "cell": np.array([1, "a"], dtype=object), "s": {"a": 1}, "z": np.ones(3) * 1j, "b": True}
    content = level5(compressed, **others, cube=VALUES.astype(dtype))
    path = write(tmp_path / "a.mat", content)
    names, found = inspect_level5(path, "cube")
    assert names == [name for name, _, _ in whosmat(path)]
    assert found == MatArray(VALUES.shape, dtype)


@pytest.mark.parametrize(("name", "dtype"), [("z", "complex128"), ("s", "object"), ("note", "object")])
def test_what_is_no_array_of_real_numbers_is_called_so(tmp_path: Path, name: str, dtype: str) -> None:
    path = write(tmp_path / "a.mat", level5(z=np.ones(3) * 1j, s={"a": 1}, note="text"))
    _, found = inspect_level5(path, name)
    assert found is not None
    assert found.dtype == dtype


def test_a_variable_that_is_not_there(tmp_path: Path) -> None:
    names, found = inspect_level5(write(tmp_path / "a.mat", level5(other=VALUES)), "cube")
    assert (names, found) == (["other"], None)


def test_a_small_array_lies_in_its_tag(tmp_path: Path) -> None:
    """Up to four bytes of data stand in the tag itself."""
    _, found = inspect_level5(write(tmp_path / "a.mat", level5(cube=np.array([[7]], dtype=np.uint8))), "cube")
    assert found == MatArray((1, 1), "uint8")


def test_the_other_byte_order(tmp_path: Path) -> None:
    """A file as a big-endian machine writes it: header, one matrix of flags, dimensions, name, values."""

    def element(kind: int, data: bytes) -> bytes:
        return np.array([kind, len(data)], ">u4").tobytes() + data.ljust(-(-len(data) // 8) * 8, b"\0")

    body = element(6, np.array([7, 0], ">u4").tobytes()) + element(5, np.array([2, 3], ">i4").tobytes())
    body += element(1, b"cube") + element(7, np.arange(6, dtype=">f4").tobytes())
    content = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + element(14, body)
    path = write(tmp_path / "a.mat", content)
    assert whosmat(path) == [("cube", (2, 3), "single")]
    assert inspect_level5(path, "cube") == (["cube"], MatArray((2, 3), "float32"))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (126, b"XX", "no MAT-file of level 5"),
        (128, b"\x63", "an element of type 99 where a variable should begin"),
        (132, b"\xff\xff\xff\x7f", "a variable of 2147483647 bytes begins at byte 136"),
        (136, b"\x07", "an element of type 7 and 8 bytes, where one of type 6 should be"),
        (160, b"\xff\xff\xff\x7f", "are no array of"),
        # Here scipy 1.17 looks the type up beyond the end of a table, and takes the process down.
        (184, b"\x87", "bytes of type 135 are no array of"),
        (188, b"\xff\xff\xff\x7f", "2147483647 bytes of type 7"),
    ],
)
def test_a_wrong_tag_is_named(tmp_path: Path, at: int, value: bytes, message: str) -> None:
    content = level5()
    path = write(tmp_path / "a.mat", content[:at] + value + content[at + len(value) :])
    with pytest.raises(ValueError, match=message):
        inspect_level5(path, "cube")


READ = """
import resource, sys
from pathlib import Path
from hsiutils.data.files import cube_tiles, read_cube, read_labels
from hsiutils.data.classes import HSI_DRIVE_CLASSES
from hsiutils.data.layouts import LAYOUTS, DatasetError
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
layouts = {layout.extension: layout for layout in reversed(LAYOUTS) if layout.name in ("v2.0 MATLAB", "v2.0 Python")}
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, flush=True)
    reads = [lambda: read_labels(path, (4, 6), HSI_DRIVE_CLASSES)]
    if layout := layouts.get(path.suffix):
        reads = [lambda: read_cube(path, layout, 25, (4, 6)), lambda: cube_tiles(path, layout, 25)]
    for read in reads:
        try:
            read()
        except DatasetError as error:
            assert str(path) in str(error), error
print("done")
"""


def seeds(tmp_path: Path) -> dict[str, tuple[bytes, int]]:
    """A sound file of every kind, and how far its headers reach."""
    mat73(tmp_path / "seed.mat", VALUES)
    npy_bands_last(tmp_path / "seed.npy", VALUES)
    Image.fromarray(codes_of("nf1111_576")).save(tmp_path / "seed.png")
    contents = {path.suffix: path.read_bytes() for path in tmp_path.glob("seed.*")}
    return {
        "five.mat": (level5(), 192),
        "packed.mat": (level5(compressed=True), 192),
        "seven.mat": (contents[".mat"], 2048),
        "plain.npy": (contents[".npy"], 128),
        "labels.png": (contents[".png"], 90),
    }


def damaged(content: bytes, header: int, rng: np.random.Generator, count: int) -> list[bytes]:
    """Cut at every eighth byte of the header, and with one to five bytes of it changed."""
    found = [content[:cut] for cut in range(0, header, max(8, header // 64))]
    values = (0, 1, 2, 4, 14, 15, 0x7F, 0x80, 0xFF)
    for _ in range(count):
        changed = bytearray(content)
        for at in rng.integers(0, min(header, len(content)), rng.integers(1, 6)):
            changed[at] = rng.choice(values)
        found.append(bytes(changed))
    return found


def test_no_damage_crashes_the_reader_or_goes_unnamed(tmp_path: Path) -> None:
    """In a process of its own, so that a crash is a failure of this test and not of all."""
    folder, rng = tmp_path / "damaged", np.random.default_rng(0)
    folder.mkdir()
    for name, (content, header) in seeds(tmp_path).items():
        for number, one in enumerate(damaged(content, header, rng, 150)):
            write(folder / f"{number:04d}_{name}", one)
    for at in range(128, 192):  # every byte of the level-5 tags, one at a time
        for value in (0x80, 0xFF):
            content = bytearray(level5())
            content[at] = value
            write(folder / f"{at}_{value}.mat", bytes(content))
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1]}: {done.stderr[-500:]}"
    assert done.stdout.endswith("done\n")
