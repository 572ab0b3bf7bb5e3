"""What a pixel can be: the label codes of a data set, their colours, and the classes that a network is trained on.

Each data set has its own `Classes`. Those of HSI-Drive are here: codes, palette, merge and frequencies of its v2.0 data
description (doi 10.1109/SSCI52147.2023.10371793), and its label codes by the names that the simulator uses.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from hsiutils.data.guard import require_file


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


@dataclass(frozen=True)
class Classes:
    """What the pixels of a data set can be: its label codes, and the classes that a network is trained on.

    Attributes
    ----------
    names : of the classes, in the order of the network's outputs.
    labels : every code that a label image may hold.
    of_label : class index of each of `labels`, `VOID` for what is never trained nor scored.
    frequencies : published share of the labelled pixels that each class has; None where nobody published them.

    Examples
    --------
    >>> import hsiutils as hu
    >>> from hsiutils.data.classes import VOID, Label
    >>> labels = Label(0, "unlabelled", (0, 0, 0)), Label(7, "asphalt", (90, 90, 90)), Label(9, "sky", (0, 0, 255))
    >>> classes = hu.Classes(("Road", "Sky"), labels, (VOID, 0, 1))
    >>> len(classes), classes.colours
    (2, ((90, 90, 90), (0, 0, 255)))
    """

    names: tuple[str, ...]
    labels: tuple[Label, ...]
    of_label: tuple[int, ...]
    frequencies: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.of_label) or len({label.code for label in self.labels}) < len(self.labels):
            raise ValueError(f"each of {len(self.labels)} label codes needs one class index, got {self.of_label}")
        for label in self.labels:
            if not all(0 <= value <= 255 for value in (label.code, *label.rgb)):
                raise ValueError(f"a label code and its colour lie in 0..255, got {label}")
        if set(self.of_label) - {VOID} != set(range(len(self.names))):
            raise ValueError(f"class indices must cover 0..{len(self.names) - 1}, got {sorted(set(self.of_label))}")
        if self.frequencies is not None and len(self.frequencies) != len(self.names):
            raise ValueError(f"expected {len(self.names)} frequencies, got {self.frequencies}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of each class, 0..255: that of the first of its label codes."""
        return tuple(self.labels[self.of_label.index(index)].rgb for index in range(len(self.names)))

    def index(self, name: str) -> int:
        """Class index of a name.

        Raises
        ------
        ValueError
            If there is no such class; the message lists those that there are.
        """
        if name not in self.names:
            raise ValueError(f"no class {name!r}; the classes are {', '.join(self.names)}")
        return self.names.index(name)

    def merge(self, codes: ArrayLike) -> NDArray[np.uint8]:
        """Class indices of label codes, any shape; `VOID` for what belongs to no class.

        Raises
        ------
        ValueError
            If the codes are no integers, or one is unknown.
        """
        values = np.asarray(codes)
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"label codes must be integers, got dtype {values.dtype}")
        table = np.full(256, -1, dtype=np.int16)
        table[[label.code for label in self.labels]] = self.of_label
        inside = (values >= 0) & (values < len(table))
        merged = table[np.where(inside, values, 0)]
        if not inside.all() or (merged < 0).any():
            unknown = sorted({int(code) for code in np.unique(values)} - {label.code for label in self.labels})
            raise ValueError(f"unknown label codes {unknown}: known are {[label.code for label in self.labels]}")
        return merged.astype(np.uint8)


HSI_DRIVE_CLASSES = Classes(CLASSES, LABELS, (VOID, 0, 1, 2, 4, 3, 4, 4, 4, 4, 4), FREQUENCIES)
"""The five classes of the paper, merged from HSI-Drive's ten labels."""


_MOST = 1 << 16
"""Bytes of a file of classes."""


def read_classes(path: Path | str) -> Classes:
    """Classes from a YAML list with one entry a label code.

    Each entry has `code` (0..255) and `name`; optionally `rgb`, its colour (the grey of the code's value by default);
    `class`, the class that it is merged into (its own name by default); and `void: true` for what is never trained nor
    scored. The classes come in the order in which they first occur:

        - {code: 0, name: Sky, rgb: [128, 128, 128]}
        - {code: 17, name: Road, rgb: [128, 64, 128]}
        - {code: 18, name: Road Marks, rgb: [128, 0, 192], class: Road}
        - {code: 30, name: Void, rgb: [0, 0, 0], void: true}

    Raises
    ------
    ValueError
        If the file is no such list.
    """
    try:
        require_file(Path(path))
        if (size := Path(path).stat().st_size) > _MOST:  # brackets in brackets take the square of their number
            raise ValueError(f"{size} bytes, and {_MOST} are enough for every code")
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        labels = []
        for entry in entries:
            # A list that names itself again and again would be written out in full as a name.
            if any(isinstance(entry.get(key), list | dict) for key in ("code", "name", "class")):
                raise ValueError("code, name and class are single values")
            red, green, blue = entry.get("rgb", [entry["code"]] * 3)
            labels.append(Label(int(entry["code"]), str(entry["name"]), (int(red), int(green), int(blue))))
        class_of = [None if entry.get("void") else str(entry.get("class", entry["name"])) for entry in entries]
        names = tuple(dict.fromkeys(name for name in class_of if name is not None))
        of_label = tuple(VOID if name is None else names.index(name) for name in class_of)
        return Classes(names, tuple(labels), of_label)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        expected = "a list of {code: 0..255, name, rgb: [r, g, b], class, void}, of which code and name are needed"
        raise ValueError(f"{path}: expected {expected}; {type(error).__name__}: {error}") from error


def inverse_frequency_weights(frequencies: ArrayLike = FREQUENCIES) -> NDArray[np.float64]:
    """Class weights proportional to 1 / frequency, summing to one; a class that never occurs weighs nothing.

    With the frequencies of HSI-Drive v2.0 these are the authors' .0245, .5073, .0747, .2094, .1841.
    """
    share = np.asarray(frequencies, dtype=float)
    if share.ndim != 1 or not np.all(np.isfinite(share)) or np.any(share < 0) or not share.any():
        raise ValueError(f"frequencies must be a vector of non-negative numbers, not all zero, got {frequencies!r}")
    inverse = np.divide(1.0, share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(inverse / inverse.sum())


UNLABELLED, ROAD, MARKS, VEGETATION, PAINTED_METAL, SKY, STONE, PERSON, WATER, METAL, GLASS = range(len(LABELS))
