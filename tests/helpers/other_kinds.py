"""A few pixels of the data sets that are not HSI-Drive, as they are packed."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from hsiutils.data.hyko2 import DATA, LABELS

SIZE = (6, 8)
HYKO2 = tuple(f"scene{number:02d}" for number in range(5))
PARTS = {"a": "train", "b": "train", "c": "val", "d": "test"}
"""Scenes of the folder of RGB images, and their splits."""

CITYSCAPES = {
    "aachen_000000_000019": "train",
    "bochum_000001_000019": "train",
    "frankfurt_000000_000294": "val",
    "berlin_000000_000019": "test",
}
CITYSCAPES_ENDINGS = ("leftImg8bit", "gtFine_labelIds")
HSICITY = {f"20210410_1119{second:02d}_{second:02d}": "train" for second in range(5)} | {"20210410_170245_05": "test"}
"""Scenes of Cityscapes and Hyperspectral City, and the folders of their splits."""


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
    return np.random.default_rng(list(name.encode())).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


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


def write_cityscapes(root: Path, name: str, image: np.ndarray | None = None, codes: np.ndarray | None = None) -> None:
    """One image and its label ids; the city is the first word of the name."""
    pixels = (image_of(name) if image is None else image), (codes_of(name, 34) if codes is None else codes)
    for folder, ending, values in zip(("leftImg8bit", "gtFine"), CITYSCAPES_ENDINGS, pixels, strict=True):
        path = root / folder / CITYSCAPES.get(name, "train") / name.split("_")[0] / f"{name}_{ending}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)


def hsd(rows: int, columns: int, bands: int, components: int, values: np.ndarray, first: int = 450) -> bytes:
    """An .hsd file: header, and the float32 that follow it, mean, components and scores."""
    return (
        struct.pack("<5ifi", rows, columns, bands, components, first, 4.0, 450 + 4 * bands)
        + values.astype("<f4").tobytes()
    )


def hsd_parts(name: str, bands: int = 6, components: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (bands,), components (components, bands) and scores (rows, columns, components) of a scene."""
    rng = np.random.default_rng(int(name[-2:]))
    return 5 + rng.random(bands), rng.standard_normal((components, bands)), rng.random((*SIZE, components))


def write_hsicity(root: Path, name: str, codes: np.ndarray | None = None) -> Path:
    """One scene as the release has it; 255 is void."""
    parts = hsd_parts(name)
    path = root / HSICITY[name] / f"{name}.hsd"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hsd(*SIZE, 6, 2, np.concatenate([part.ravel() for part in parts])))
    found = np.where(codes_of(name, 20) == 19, np.uint8(255), codes_of(name, 20)) if codes is None else codes
    Image.fromarray(found).save(path.with_name(f"rgb{name}_gray.png"))
    return path


def cityscapes_set(root: Path) -> Path:
    for name in CITYSCAPES:
        write_cityscapes(root, name)
    return root


def hsicity_set(root: Path) -> Path:
    for name in HSICITY:
        write_hsicity(root, name)
    return root


def rgb_set(root: Path) -> Path:
    for name in PARTS:
        write_rgb(root, name)
    return root
