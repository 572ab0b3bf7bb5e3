"""Make a few-pixel HSI-Drive on disk, in the real file layouts."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

NAMES = ("nf1111_576", "nf1111_577", "nf3122_147", "nf4312_301", "nf1231_700")
"""Real names; HS3-Bench puts them into test, test, train, val, test."""

TILES = (4, 6)

Writer = Callable[[Path, NDArray[np.float32]], None]


def values_of(name: str, tiles: tuple[int, int] = TILES) -> NDArray[np.float32]:
    """(band, y, x) reflectance that no two scenes, bands or pixels share."""
    start = int(name[-3:]) / 1000
    return (start + np.arange(25 * tiles[0] * tiles[1]).reshape(25, *tiles) / 1e4).astype(np.float32)


def codes_of(name: str, tiles: tuple[int, int] = TILES) -> NDArray[np.uint8]:
    """(y, x) label codes, every one of 0..10 among them."""
    return ((np.arange(tiles[0] * tiles[1]) + int(name[-1])) % 11).astype(np.uint8).reshape(tiles)


def mat(variable: str = "cube") -> Writer:
    """Level 5 file, as MATLAB's `save` and the authors' scripts write it."""

    def write(path: Path, cube: NDArray[np.float32]) -> None:
        savemat(path, {variable: cube})

    return write


def mat73(path: Path, cube: NDArray[np.float32]) -> None:
    """Level 7.3 file: HDF5 behind MATLAB's 512-byte header, axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("cube", data=cube.T)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\x00\x02IM")


def npy_bands_last(path: Path, cube: NDArray[np.float32]) -> None:
    np.save(path, np.moveaxis(cube, 0, -1))


def write_scene(
    base: Path,
    name: str,
    write: Writer = mat(),  # noqa: B008 - a function, and nothing that could be shared by mistake
    cubes: str = "cubes_fl32",
    suffix: str = "_TC.mat",
    labels: str = "labels",
    label_suffix: str = "",
    tiles: tuple[int, int] = TILES,
) -> Path:
    """Write cube and label image of one scene; returns the cube's path."""
    cube_path, label_path = base / cubes / f"{name}{suffix}", base / labels / f"{name}{label_suffix}.png"
    for path in (cube_path, label_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write(cube_path, values_of(name, tiles))
    Image.fromarray(codes_of(name, tiles)).save(label_path)
    return cube_path


def write_matlab_release(root: Path, names: tuple[str, ...] = NAMES) -> Path:
    """HSI-Drive v2.0 as its MATLAB archive unpacks."""
    for name in names:
        write_scene(root / "Image_dataset", name)
    return root
