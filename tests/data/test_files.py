import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat, whosmat
from tiny_hsi_drive import TILES, codes_of, mat, mat73, npy_bands_last, values_of

from hsiutils.data.classes import HSI_DRIVE_CLASSES, LABELS, Classes, Label
from hsiutils.data.files import cube_tiles, inspect_level5, read_cube, read_labels, stored_array
from hsiutils.data.layouts import LAYOUTS, DatasetError, Layout

BY_NAME = {layout.name: layout for layout in LAYOUTS}
MATLAB, PYTHON = BY_NAME["v2.0 MATLAB"], BY_NAME["v2.0 Python"]
VALUES = values_of("nf1111_576")


@pytest.mark.parametrize(
    ("layout", "write"), [(MATLAB, mat()), (MATLAB, mat73), (PYTHON, npy_bands_last)], ids=["mat5", "mat7.3", "npy"]
)
def test_every_file_format_gives_the_same_cube(layout: Layout, write, tmp_path: Path) -> None:
    write(path := tmp_path / f"cube{layout.extension}", VALUES)
    found = read_cube(path, layout, 25, TILES)
    np.testing.assert_array_equal(found, VALUES)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert cube_tiles(path, layout, 25) == TILES
    with pytest.raises(DatasetError, match=f"24 bands on the {'first' if layout.bands_first else 'last'} of three"):
        cube_tiles(path, layout, 24)
    for dtype in ("float32", "uint16", "float64"):
        write(path, VALUES.astype(dtype))
        with stored_array(path, layout.variable) as stored:
            assert stored.dtype == dtype


def group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("cube")


def endless(path: Path) -> None:
    """A cube that no memory holds."""
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", shape=(409, 216, 10**9), dtype="f4", chunks=(1, 216, 1000))


def endless_npy(path: Path) -> None:
    with path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6, 25)})


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.mat", lambda p: mat("cubenorm")(p, VALUES), r"expected the variable 'cube', found \['cubenorm'\]"),
        ("a.mat", lambda p: mat()(p, VALUES.T), r"\(band, y, x\) = \(25, 4, 6\).*found \(6, 4, 25\); the axes"),
        ("a.npy", lambda p: np.save(p, VALUES), r"\(y, x, band\) = \(4, 6, 25\).*found \(25, 4, 6\); the axes"),
        ("a.mat", endless, r"found \(1000000000, 216, 409\)"),
        ("a.npy", endless_npy, "cannot be read"),
        ("a.mat", group, "'cube' is no array but a group"),
        ("a.npy", lambda p: np.save(p, np.array([{"a": 1}], dtype=object)), "Python objects"),
        ("a.mat", Path.mkdir, "a folder, where a file of that name should be"),
        ("a.npy", Path.mkdir, "a folder, where a file of that name should be"),
    ],
)
def test_what_is_no_cube_is_named(name: str, write, message: str, tmp_path: Path) -> None:
    """Before memory is asked for, and with nothing unpickled."""
    write(path := tmp_path / name)
    with pytest.raises(DatasetError, match=rf"{name}: .*{message}"):
        read_cube(path, MATLAB if path.suffix == ".mat" else PYTHON, 25, TILES)


@pytest.mark.parametrize("kept", [0, 50, 200, 0.5, 0.99])
@pytest.mark.parametrize("write", [mat(), mat73, npy_bands_last], ids=["mat5", "mat7.3", "npy"])
def test_a_truncated_file_is_named(kept: float, write, tmp_path: Path) -> None:
    layout = PYTHON if write is npy_bands_last else MATLAB
    write(path := tmp_path / f"short{layout.extension}", VALUES)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DatasetError, match=r"short\.(mat|npy): "):
        read_cube(path, layout, 25, TILES)


@pytest.mark.parametrize("layout", [MATLAB, PYTHON], ids=["mat", "npy"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), "a: may not be read; ask for the right to"),
        (BlockingIOError(11, "unable to lock file"), "a: another program has it open for writing; close it there"),
        (OSError(5, "Input/output error"), "a: could not be read just now .*it need not be damaged: try again"),
        (OSError(24, "Too many open files"), "a: could not be read just now .*Too many open files"),
        (MemoryError(), "a: could not be read just now .too little memory"),
    ],
)
def test_what_is_no_fault_of_the_file_is_not_called_damage(
    layout: Layout, error: Exception, message: str, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "a").write_bytes(b"something")

    def refused(*args, **kwargs):  # as root, who runs many a test machine, every file can be read
        raise error

    monkeypatch.setattr("hsiutils.data.files.inspect_level5", refused)
    monkeypatch.setattr("hsiutils.data.files.np.load", refused)
    monkeypatch.setattr("hsiutils.data.files.Image.open", refused)
    for read in (lambda p: read_cube(p, layout, 25, TILES), lambda p: read_labels(p, TILES, HSI_DRIVE_CLASSES)):
        with pytest.raises(DatasetError, match=message) as caught:
            read(tmp_path / "a")
        assert caught.value.advice
        assert "damaged or cut short" not in str(caught.value)


def test_a_file_that_another_program_writes_is_not_called_damage(tmp_path: Path) -> None:
    mat73(tmp_path / "a.mat", VALUES)
    code = f"import h5py, sys; f = h5py.File({str(tmp_path / 'a.mat')!r}, 'r+'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:  # noqa: S603
        writer.stdout.readline()
        with pytest.raises(DatasetError, match=r"a\.mat: another program has it open for writing; close it there"):
            read_cube(tmp_path / "a.mat", MATLAB, 25, TILES)
        writer.stdin.close()
    np.testing.assert_array_equal(read_cube(tmp_path / "a.mat", MATLAB, 25, TILES), VALUES)


def png_of_4_bits(codes: np.ndarray) -> bytes:
    """A grey PNG of two pixels a byte, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(row[::2] * 16 + row[1::2]) for row in codes)
    head = struct.pack(">IIBBBBB", *codes.shape[::-1], 4, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class TestLabels:
    codes = np.arange(24, dtype=np.uint8).reshape(TILES) % 11

    def images(self) -> Iterator[Image.Image]:
        """The same codes in every form that picture tools write: grey, indexed, in colours."""
        grey = Image.fromarray(self.codes)
        wide = Image.fromarray(self.codes.astype(np.uint16))
        yield from (grey, grey.convert("LA"), grey.convert("RGB"), wide)
        palette = np.array([label.rgb for label in LABELS], dtype=np.uint8)
        order = np.random.default_rng(0).permutation(11)
        shuffled = np.argsort(order).astype(np.uint8)[self.codes]
        greys = np.repeat(np.arange(256), 3).reshape(-1, 3)
        for codes, colours in ((self.codes, palette), (self.codes, greys), (shuffled, palette[order])):
            indexed = Image.fromarray(codes, mode="P")
            indexed.putpalette(colours.ravel().tolist())
            yield indexed
        coloured = Image.fromarray(palette[self.codes])
        yield from (coloured, coloured.convert("RGBA"))

    def test_every_form_of_an_image_gives_the_same_codes(self, tmp_path: Path) -> None:
        for image in self.images():
            image.save(tmp_path / "a.png")
            found = read_labels(tmp_path / "a.png", TILES, HSI_DRIVE_CLASSES)
            np.testing.assert_array_equal(found, self.codes)
            assert found.dtype == np.uint8

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (codes[:3], r"expected the size of the cube, \(4, 6\), found \(3, 6\)"),
            (codes.T, r"found \(6, 4\)"),
            (np.where(codes == 3, 77, codes).astype(np.uint8), r"unknown label codes \[77\]"),
            (np.stack([codes, codes, codes + 1], axis=-1), r"colours \[\(0, 0, 1\).* \(11 in all\) are neither"),
        ],
    )
    def test_wrong_images(self, values: np.ndarray, message: str, tmp_path: Path) -> None:
        Image.fromarray(np.ascontiguousarray(values)).save(tmp_path / "a.png")
        with pytest.raises(DatasetError, match=rf"a\.png: .*{message}"):
            read_labels(tmp_path / "a.png", TILES, HSI_DRIVE_CLASSES)

    def test_what_could_be_read_in_two_ways_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "4.png").write_bytes(png_of_4_bits(self.codes))
        Image.fromarray(self.codes > 5).save(tmp_path / "1.png")
        for bits in (1, 4):
            with pytest.raises(DatasetError, match=rf"{bits}\.png: a grey image of less than 8 bits"):
                read_labels(tmp_path / f"{bits}.png", TILES, HSI_DRIVE_CLASSES)
        Image.fromarray(np.zeros((*TILES, 3), np.uint8)).save(tmp_path / "black.png")
        assert not read_labels(tmp_path / "black.png", TILES, HSI_DRIVE_CLASSES).any()
        black_is_one = Classes(("a", "b"), (Label(0, "a", (9, 9, 9)), Label(1, "b", (0, 0, 0))), (0, 1))
        with pytest.raises(DatasetError, match=r"black\.png: colours \[\(0, 0, 0\)\] \(1 in all\) are neither"):
            read_labels(tmp_path / "black.png", TILES, black_is_one)


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
    others["small"] = np.array([[7]], dtype=np.uint8)  # up to four bytes of data stand in the tag itself
    path = write(tmp_path / "a.mat", level5(compressed, **others, cube=VALUES.astype(dtype)))
    names, found = inspect_level5(path, "cube")
    assert names == [name for name, _, _ in whosmat(path)]
    assert found == (VALUES.shape, dtype)
    assert inspect_level5(path, "small")[1] == ((1, 1), "uint8")
    for name, kind in (("z", "complex128"), ("s", "object"), ("note", "object")):
        assert inspect_level5(path, name)[1][1] == kind


def test_the_other_byte_order(tmp_path: Path) -> None:
    """A file as a big-endian machine writes it: header, one matrix of flags, dimensions, name, values."""

    def element(kind: int, data: bytes) -> bytes:
        return np.array([kind, len(data)], ">u4").tobytes() + data.ljust(-(-len(data) // 8) * 8, b"\0")

    body = element(6, np.array([7, 0], ">u4").tobytes()) + element(5, np.array([2, 3], ">i4").tobytes())
    body += element(1, b"cube") + element(7, np.arange(6, dtype=">f4").tobytes())
    content = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + element(14, body)
    path = write(tmp_path / "a.mat", content)
    assert whosmat(path) == [("cube", (2, 3), "single")]
    assert inspect_level5(path, "cube") == (["cube"], ((2, 3), "float32"))


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
        for number, one in enumerate(damaged(content, header, rng, 75)):
            write(folder / f"{number:04d}_{name}", one)
    for at in range(128, 192):  # every byte of the level-5 tags, one at a time
        for value in (0x80, 0xFF):
            content = bytearray(level5())
            content[at] = value
            write(folder / f"{at}_{value}.mat", bytes(content))
    done = subprocess.run([sys.executable, "-c", READ, str(folder)], capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1]}: {done.stderr[-500:]}"
    assert done.stdout.endswith("done\n")
