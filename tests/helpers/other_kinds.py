"""A few pixels of the data sets that are not HSI-Drive, as they are packed."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from hsiutils.data.hyko2 import DATA, LABELS

SIZE = (6, 8)
HYKO2 = tuple(f"scene{number:02d}" for number in range(5))
PARTS = {"a": "train", "b": "train", "c": "val", "d": "test"}
"""Scenes of the folder of RGB images, and their splits."""


def codes_of(name: str, count: int = 11) -> np.ndarray:
    """(y, x) label codes, every one of them there."""
    return ((np.arange(SIZE[0] * SIZE[1]) + ord(name[-1])) % count).astype(np.uint8).reshape(SIZE)


def cube_of(name: str, bands: int) -> np.ndarray:
    """(y, x, band) values that no two scenes, bands or pixels share."""
    return (1 + int(name[-2:]) + np.arange(SIZE[0] * SIZE[1] * bands).reshape(*SIZE, bands) / 100).astype(np.float32)


def write_hyko2(root: Path, name: str, bands: int = 15, **changes) -> Path:
    """One scene as the release has it; of the `changes`, None takes a variable away."""
    variables = {DATA: cube_of(name, bands), LABELS: codes_of(name), "label_spectral_reflectances": codes_of(name)}
    variables |= {"id_Semantic Classes for Urban Scenes": np.array(["road", "sky"], dtype=object)} | changes
    path = root / f"{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: value for key, value in variables.items() if value is not None})
    return path


def image_of(name: str) -> np.ndarray:
    return np.random.default_rng(ord(name)).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def write_rgb(root: Path, name: str, image: np.ndarray | None = None, codes: np.ndarray | None = None) -> None:
    """One image and its label image, as CamVid is packed."""
    pixels = {"": image_of(name) if image is None else image, "annot": codes_of(name, 12) if codes is None else codes}
    for folder, values in pixels.items():
        path = root / f"{PARTS[name]}{folder}" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)


def hyko2_set(root: Path) -> Path:
    for name in HYKO2:
        write_hyko2(root, name)
    return root


def rgb_set(root: Path) -> Path:
    for name in PARTS:
        write_rgb(root, name)
    return root
