"""A folder of RGB images with label images, as CamVid is packed: train/NAME.png with trainannot/NAME.png, val, test.

The classes are CamVid's eleven (Brostow et al., Pattern Recognition Letters 2009, as SegNet's tutorial packs them), or
those of a file classes.yaml in the folder (`hsiutils.data.classes.read_classes`), such as CamVid's 32.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.data import guard
from hsiutils.data.classes import VOID, Classes, Label, read_classes
from hsiutils.data.cube import make_cube
from hsiutils.data.files import named_if_broken
from hsiutils.data.layouts import DatasetError, entries, inside
from hsiutils.data.sensor import cubes_only
from hsiutils.data.source import PairedFiles
from hsiutils.data.splits import SPLITS

_LABELS = (
    Label(0, "Sky", (128, 128, 128)),
    Label(1, "Building", (128, 0, 0)),
    Label(2, "Pole", (192, 192, 128)),
    Label(3, "Road", (128, 64, 128)),
    Label(4, "Pavement", (0, 0, 192)),
    Label(5, "Tree", (128, 128, 0)),
    Label(6, "Sign", (192, 128, 128)),
    Label(7, "Fence", (64, 64, 128)),
    Label(8, "Car", (64, 0, 128)),
    Label(9, "Pedestrian", (64, 64, 0)),
    Label(10, "Bicyclist", (0, 128, 192)),
    Label(11, "Void", (0, 0, 0)),
)
CAMVID_CLASSES = Classes(tuple(label.name for label in _LABELS[:-1]), _LABELS, (*range(11), VOID))
"""Eleven classes, a label code each; code 11 is void."""
CENTRES_NM = (610.0, 540.0, 465.0)
"""Where red, green and blue of a common colour camera respond most; nominal."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RGBImages(PairedFiles):
    """Colour images and label images of them on disk, in whatever folders."""

    @classmethod
    def paired(
        cls, root: Path, layout: str, parts: dict[str, tuple[dict[str, Path], dict[str, Path]]], classes: Classes
    ) -> Self:
        """The scenes that have both files; the size is that of most images.

        Parameters
        ----------
        parts : images and label images by name, of every split.

        Raises
        ------
        DatasetError
            If a name is there twice, or no image has a label image.
        """
        images: dict[str, Path] = {}
        annotations: dict[str, Path] = {}
        splits: dict[str, str] = {}
        for split, part in parts.items():
            for files, found in zip((images, annotations), part, strict=True):
                if twice := sorted(files.keys() & found.keys()):
                    folder = found[twice[0]].parent.relative_to(root)
                    raise DatasetError(f"{root}: {twice[:3]} in {folder} and another part; a name must be there once")
                files.update(found)
            splits.update(dict.fromkeys(part[0], split))
        names = sorted(images.keys() & annotations.keys())
        sizes = Counter(size for name in names if (size := _size(images[name])))
        if not sizes:
            raise DatasetError(f"{root}: no image with a label image can be read; expected {cls.expected}")
        columns, rows = sizes.most_common(1)[0][0]
        return cls(
            root=root,
            layout=layout,
            sensor=cubes_only("RGB", CENTRES_NM, (rows, columns)),
            classes=classes,
            units="sRGB, 0..1",
            table=pd.DataFrame({"split": [splits[name] for name in names]}, index=pd.Index(names, name="name")),
            images=images,
            annotations=annotations,
            left_out=tuple(sorted(images.keys() ^ annotations.keys())),
        )

    def cube(self, name: str) -> xr.DataArray:
        """See `Source.cube`; red, green and blue as they are stored, over 255."""
        path = self.files(name)[0]
        with named_if_broken(path), guard.picture(path) as image:
            if image.size[::-1] != self.sensor.tiles or image.mode != "RGB":
                expected = f"an RGB image of {self.sensor.tiles} (rows, columns)"
                raise DatasetError(f"{path}: expected {expected}, found {image.mode} of {image.size[::-1]}")
            values = np.asarray(image, dtype=np.float32) / 255
        return make_cube(values.transpose(2, 0, 1), self.sensor, units=self.units, source="real", history=self.layout)


class RGBFolder(RGBImages):
    """A folder of images and one of label images for each split."""

    expected = "{train,val,test}/NAME.png with {train,val,test}annot/NAME.png"

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """See `Source.recognises`."""
        return any(_by_name(inside(root, split)) and _by_name(inside(root, f"{split}annot")) for split in SPLITS)

    @classmethod
    def open(cls, root: Path, classes: Classes | Path | str | None = None) -> "RGBFolder":
        """Open a folder; its three parts are the splits.

        Parameters
        ----------
        root : folder with train, trainannot, ...
        classes : of the label images, or a YAML file of them; by default classes.yaml in the folder, else CamVid's.

        Raises
        ------
        DatasetError
            If a name is there twice, or no image has a label image.
        """
        own = inside(root, "classes.yaml")
        given = classes or (own if own.is_file() else CAMVID_CLASSES)
        parts = {split: (_by_name(inside(root, split)), _by_name(inside(root, f"{split}annot"))) for split in SPLITS}
        return cls.paired(root, "RGB folder", parts, given if isinstance(given, Classes) else read_classes(given))


def _by_name(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in entries(folder) if path.suffix.lower() in guard.PICTURES}


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with named_if_broken(path), guard.picture(path) as image:
            return image.size
    except DatasetError:
        return None
