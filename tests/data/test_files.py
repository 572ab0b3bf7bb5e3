import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from tiny_hsi_drive import TILES, mat, mat73, npy_bands_last, values_of

from hsiutils.data.classes import HSI_DRIVE_CLASSES, LABELS, Classes, Label
from hsiutils.data.files import cube_tiles, read_cube, read_labels, stored_array
from hsiutils.data.layouts import LAYOUTS, DatasetError, Layout

BY_NAME = {layout.name: layout for layout in LAYOUTS}
MATLAB, PYTHON = BY_NAME["v2.0 MATLAB"], BY_NAME["v2.0 Python"]
VALUES = values_of("nf1111_576")


@pytest.mark.parametrize(
    ("layout", "write"), [(MATLAB, mat()), (MATLAB, mat73), (PYTHON, npy_bands_last)], ids=["mat5", "mat7.3", "npy"]
)
def test_every_file_format_gives_the_same_cube(layout: Layout, write, tmp_path: Path) -> None:
    path = tmp_path / f"cube{layout.extension}"
    write(path, VALUES)
    found = read_cube(path, layout, 25, TILES)
    np.testing.assert_array_equal(found, VALUES)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert cube_tiles(path, layout, 25) == TILES


def test_integers_and_doubles_become_float32(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"cube": np.full((25, *TILES), 3, dtype=np.uint16)})
    assert read_cube(tmp_path / "a.mat", MATLAB, 25, TILES).dtype == np.float32


@pytest.mark.parametrize("write", [mat("cubenorm"), lambda path, cube: mat("other")(path, cube)])
def test_a_wrong_variable_is_named_with_those_there(write, tmp_path: Path) -> None:
    write(tmp_path / "a.mat", VALUES)
    for read in (lambda p: read_cube(p, MATLAB, 25, TILES), lambda p: cube_tiles(p, MATLAB, 25)):
        with pytest.raises(DatasetError, match=r"a\.mat: expected the variable 'cube', found \['(cubenorm|other)'\]"):
            read(tmp_path / "a.mat")


def test_a_transposed_cube_is_recognised_as_one(tmp_path: Path) -> None:
    mat()(tmp_path / "a.mat", np.moveaxis(VALUES, 0, -1))
    with pytest.raises(DatasetError, match=r"expected \(band, y, x\) = \(25, 4, 6\).*found \(4, 6, 25\); the axes"):
        read_cube(tmp_path / "a.mat", MATLAB, 25, TILES)
    with pytest.raises(DatasetError, match="25 bands on the first"):
        cube_tiles(tmp_path / "a.mat", MATLAB, 25)
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(DatasetError, match=r"\(y, x, band\) = \(4, 6, 25\).*found \(25, 4, 6\); the axes"):
        read_cube(tmp_path / "a.npy", PYTHON, 25, TILES)


def test_another_size_is_no_transposition(tmp_path: Path) -> None:
    mat()(tmp_path / "a.mat", VALUES[:, :3])
    with pytest.raises(DatasetError, match=r"found \(25, 3, 6\)$"):
        read_cube(tmp_path / "a.mat", MATLAB, 25, TILES)


@pytest.mark.parametrize("kept", [0, 50, 200, 0.5, 0.99])
@pytest.mark.parametrize("write", [mat(), mat73, npy_bands_last], ids=["mat5", "mat7.3", "npy"])
def test_a_truncated_file_is_named(kept: float, write, tmp_path: Path) -> None:
    layout = PYTHON if write is npy_bands_last else MATLAB
    path = tmp_path / f"short{layout.extension}"
    write(path, VALUES)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DatasetError, match=r"short\.(mat|npy): "):
        read_cube(path, layout, 25, TILES)


@pytest.mark.parametrize("extension", [".mat", ".npy"])
def test_garbage_is_named(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise{extension}"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    layout = PYTHON if extension == ".npy" else MATLAB
    for read in (lambda p: read_cube(p, layout, 25, TILES), lambda p: cube_tiles(p, layout, 25)):
        with pytest.raises(DatasetError, match=r"noise.*cannot be read \(4000 bytes\)"):
            read(path)


@pytest.mark.parametrize("layout", [MATLAB, PYTHON], ids=["mat", "npy"])
def test_a_folder_named_like_a_file_is_told(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for read in (lambda p: read_cube(p, layout, 25, TILES), lambda p: read_labels(p, TILES, HSI_DRIVE_CLASSES)):
        with pytest.raises(DatasetError, match="a: a folder, where a file of that name should be"):
            read(tmp_path / "a")


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


@pytest.mark.parametrize(("write", "layout"), [(mat(), MATLAB), (mat73, MATLAB), (npy_bands_last, PYTHON)])
def test_the_stored_type_comes_from_the_header(write, layout: Layout, tmp_path: Path) -> None:
    for dtype in ("float32", "uint16", "float64"):
        write(tmp_path / f"{dtype}{layout.extension}", VALUES.astype(dtype))
        with stored_array(tmp_path / f"{dtype}{layout.extension}", layout.variable) as stored:
            assert stored.dtype == dtype


def test_a_size_that_no_memory_holds_is_refused_before_it_is_asked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("cube", shape=(409, 216, 10**9), dtype="f4", chunks=(1, 216, 1000))
    with pytest.raises(DatasetError, match=r"found \(1000000000, 216, 409\)"):
        read_cube(tmp_path / "a.mat", MATLAB, 25, TILES)
    with (tmp_path / "a.npy").open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6, 25)})
    with pytest.raises(DatasetError, match=r"a\.npy: cannot be read"):
        read_cube(tmp_path / "a.npy", PYTHON, 25, TILES)


def test_a_group_where_the_array_should_be(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_group("cube")
    with pytest.raises(DatasetError, match=r"'cube' is no array but a group"):
        read_cube(tmp_path / "a.mat", MATLAB, 25, TILES)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match="Python objects"):
        read_cube(tmp_path / "a.npy", PYTHON, 25, TILES)


def test_complex_values_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"cube": VALUES.astype(complex) + 1j})
    with pytest.raises(DatasetError, match="expected real numbers, found complex"):
        read_cube(tmp_path / "a.mat", MATLAB, 25, TILES)


def png_of_4_bits(codes: np.ndarray) -> bytes:
    """A grey PNG of two pixels a byte, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(row[::2] * 16 + row[1::2]) for row in codes)
    head = struct.pack(">IIBBBBB", *codes.shape[::-1], 4, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class TestLabels:
    codes = np.arange(24, dtype=np.uint8).reshape(TILES) % 11

    def images(self) -> dict[str, Image.Image]:
        """The same codes in every form that picture tools write."""
        palette = np.array([label.rgb for label in LABELS], dtype=np.uint8)
        order = np.random.default_rng(0).permutation(11)
        indexed, grey, shuffled = (
            Image.fromarray(codes, mode="P")
            for codes in (self.codes, self.codes, np.argsort(order).astype(np.uint8)[self.codes])
        )
        indexed.putpalette(palette.ravel().tolist())
        grey.putpalette(np.repeat(np.arange(256), 3).tolist())
        shuffled.putpalette(palette[order].ravel().tolist())
        coloured = Image.fromarray(palette[self.codes])
        return {
            "grey": Image.fromarray(self.codes),
            "grey with alpha": Image.fromarray(self.codes).convert("LA"),
            "16 bits": Image.fromarray(self.codes.astype(np.uint16)),
            "grey in three channels": Image.fromarray(np.stack([self.codes] * 3, axis=-1)),
            "grey palette": grey,
            "indexed": indexed,
            "indexed in another order": shuffled,
            "colours": coloured,
            "colours with alpha": coloured.convert("RGBA"),
        }

    def test_every_form_of_an_image_gives_the_same_codes(self, tmp_path: Path) -> None:
        for number, image in enumerate(self.images().values()):
            image.save(tmp_path / f"{number}.png")
            found = read_labels(tmp_path / f"{number}.png", TILES, HSI_DRIVE_CLASSES)
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

    @pytest.mark.parametrize("kept", [0, 30, 50])
    def test_a_truncated_image_is_named(self, kept: int, tmp_path: Path) -> None:
        Image.fromarray(self.codes).save(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:kept])
        with pytest.raises(DatasetError, match=r"a\.png: cannot be read"):
            read_labels(tmp_path / "a.png", TILES, HSI_DRIVE_CLASSES)
