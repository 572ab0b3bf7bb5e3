"""What a pixel can be: HSI-Drive's label codes, their palette, and the five classes that the paper trains on.

Codes, palette, merge, frequencies: HSI-Drive v2.0 data description (doi 10.1109/SSCI52147.2023.10371793).

Label codes of HSI-Drive by the names that the simulator uses.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Label:
    """One code of a label image, its name, and its colour in the official palette."""

    code: int
    name: str
    rgb: tuple[int, int, int]


LABELS: tuple[Label, ...] = (
    Label(0, "Unlabelled", (0, 0, 0)),
    Label(1, "Road", (77, 77, 77)),
    Label(2, "Road Marks", (255, 255, 255)),
    Label(3, "Vegetation", (0, 255, 0)),
    Label(4, "Painted Metal", (255, 0, 0)),
    Label(5, "Sky", (0, 0, 255)),
    Label(6, "Concrete/Stone/Brick", (102, 51, 0)),
    Label(7, "Pedestrian/Cyclist", (255, 255, 0)),
    Label(8, "Water", (0, 207, 250)),
    Label(9, "Unpainted Metal", (255, 166, 0)),
    Label(10, "Glass/Transparent Plastic", (0, 204, 204)),
)
CLASSES: tuple[str, ...] = ("Road", "Road Marks", "Vegetation", "Sky", "Other")
"""The five classes, in the order of the network's output channels."""
VOID = 255
"""Class index of unlabelled pixels: never trained, never scored."""
FREQUENCIES: tuple[float, ...] = (0.6148, 0.0297, 0.2017, 0.0719, 0.0818)
"""Share of the labelled pixels of HSI-Drive v2.0 that each of `CLASSES` has."""
_CLASS_OF_CODE: NDArray[np.uint8] = np.array([VOID, 0, 1, 2, 4, 3, 4, 4, 4, 4, 4], dtype=np.uint8)


def merge(labels: ArrayLike) -> NDArray[np.uint8]:
    """Merge label codes 0..10 into class indices 0..4, with `VOID` for code 0.

    Parameters
    ----------
    labels : integer array of any shape
        Label codes.

    Raises
    ------
    ValueError
        If a code is outside 0..10.
    """
    codes = np.asarray(labels)
    if not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"label codes must be integers, got dtype {codes.dtype}")
    if codes.size and (codes.min() < 0 or codes.max() >= len(LABELS)):
        unknown = sorted({int(code) for code in np.unique(codes)} - set(range(len(LABELS))))
        raise ValueError(f"unknown label codes {unknown}: HSI-Drive uses 0..{len(LABELS) - 1}")
    return np.asarray(_CLASS_OF_CODE[codes])


def inverse_frequency_weights(frequencies: ArrayLike = FREQUENCIES) -> NDArray[np.float64]:
    """Class weights proportional to 1 / frequency, summing to one; a class that never occurs weighs nothing.

    With the frequencies of HSI-Drive v2.0 these are the authors' .0245, .5073, .0747, .2094, .1841.
    """
    share = np.asarray(frequencies, dtype=float)
    if share.ndim != 1 or not np.all(np.isfinite(share)) or np.any(share < 0) or not share.any():
        raise ValueError(f"frequencies must be a vector of non-negative numbers, not all zero, got {frequencies!r}")
    inverse = np.divide(1.0, share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(inverse / inverse.sum())


UNLABELLED: Final = 0
ROAD: Final = 1
MARKS: Final = 2
VEGETATION: Final = 3
PAINTED_METAL: Final = 4
SKY: Final = 5
STONE: Final = 6
PERSON: Final = 7
WATER: Final = 8
METAL: Final = 9
GLASS: Final = 10
