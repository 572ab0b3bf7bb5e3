from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from tiny_hsi_drive import TILES, mat, mat73, npy_bands_last, values_of

from hsiutils.data.files import cube_tiles, read_cube, read_labels, stored_dtype
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
        with pytest.raises(DatasetError, match=r"a\.mat: expected the variable 'cube' .*found \['(cubenorm|other)'\]"):
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
    for read in (lambda p: read_cube(p, layout, 25, TILES), lambda p: read_labels(p, TILES)):
        with pytest.raises(DatasetError, match="a: a folder, where a file of that name should be"):
            read(tmp_path / "a")


@pytest.mark.parametrize("layout", [MATLAB, PYTHON], ids=["mat", "npy"])
def test_a_file_that_may_not_be_read_is_told_from_a_damaged_one(layout: Layout, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a").write_bytes(b"something")

    def refused(*args, **kwargs):  # as root, who runs many a test machine, every file can be read
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hsiutils.data.files.inspect_level5", refused)
    monkeypatch.setattr("hsiutils.data.files.np.load", refused)
    monkeypatch.setattr("hsiutils.data.files.Image.open", refused)
    for read in (lambda p: read_cube(p, layout, 25, TILES), lambda p: read_labels(p, TILES)):
        with pytest.raises(DatasetError, match="a: may not be read"):
            read(tmp_path / "a")


@pytest.mark.parametrize(("write", "layout"), [(mat(), MATLAB), (mat73, MATLAB), (npy_bands_last, PYTHON)])
def test_the_stored_type_comes_from_the_header(write, layout: Layout, tmp_path: Path) -> None:
    for dtype in ("float32", "uint16", "float64"):
        write(tmp_path / f"{dtype}{layout.extension}", VALUES.astype(dtype))
        assert stored_dtype(tmp_path / f"{dtype}{layout.extension}", layout) == dtype


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


class TestLabels:
    codes = np.arange(24, dtype=np.uint8).reshape(TILES) % 11

    def test_grey_and_palette_images_give_the_same_codes(self, tmp_path: Path) -> None:
        grey, coloured = Image.fromarray(self.codes), Image.fromarray(self.codes, mode="P")
        coloured.putpalette([200 - i for i in range(33)])
        for number, image in enumerate((grey, coloured, Image.fromarray(self.codes.astype(np.uint16)))):
            image.save(tmp_path / f"{number}.png")
            found = read_labels(tmp_path / f"{number}.png", TILES)
            np.testing.assert_array_equal(found, self.codes)
            assert found.dtype == np.uint8

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (codes[:3], r"expected the size of the cube, \(4, 6\), found \(3, 6\)"),
            (codes.T, r"found \(6, 4\)"),
            (np.where(codes == 3, 77, codes).astype(np.uint8), r"unknown label codes \[77\]"),
            (np.stack([codes] * 3, axis=-1), r"one channel.*\(4, 6, 3\).*preview"),
        ],
    )
    def test_wrong_images(self, values: np.ndarray, message: str, tmp_path: Path) -> None:
        Image.fromarray(np.ascontiguousarray(values)).save(tmp_path / "a.png")
        with pytest.raises(DatasetError, match=rf"a\.png: .*{message}"):
            read_labels(tmp_path / "a.png", TILES)

    @pytest.mark.parametrize("kept", [0, 30, 50])
    def test_a_truncated_image_is_named(self, kept: int, tmp_path: Path) -> None:
        Image.fromarray(self.codes).save(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:kept])
        with pytest.raises(DatasetError, match=r"a\.png: cannot be read"):
            read_labels(tmp_path / "a.png", TILES)
