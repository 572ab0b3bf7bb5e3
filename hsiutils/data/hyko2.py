"""HyKo2: driving scenes of two mosaic cameras, labelled with the semantic classes of urban scenes.

Source: Winkens et al., "HyKo: A Spectral Dataset for Scene Understanding" (ICCV workshops 2017): one .mat file a scene
with the cube in `data` (rows, columns, bands). The visible camera has 15 or 16 bands (4x4 mosaic, 470-630 nm), the near
infrared one 25 (5x5 mosaic, 600-975 nm). Files that lack a label are left out and counted.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.classes import VOID, Classes, Label
from hsiutils.data.cube import make_cube, without_fill
from hsiutils.data.files import mat_variables, read_array, stored_array
from hsiutils.data.layouts import DatasetError, entries
from hsiutils.data.sensor import Sensor, cubes_only
from hsiutils.data.source import Source
from hsiutils.data.splits import runs

DATA, LABELS, WAVELENGTHS = "data", "label_Semantic Classes for Urban Scenes", "wavelengths"
"""Variables of a file; the last is not in every one."""
_LABELS = (
    Label(0, "Undefined", (0, 0, 0)),
    Label(1, "Road", (128, 64, 128)),
    Label(2, "Sidewalk", (244, 35, 232)),
    Label(3, "Lane Markers", (255, 0, 0)),
    Label(4, "Grass", (0, 255, 0)),
    Label(5, "Vegetation", (107, 142, 35)),
    Label(6, "Panels/Signs/Traffic Lights", (250, 170, 30)),
    Label(7, "Building", (70, 70, 70)),
    Label(8, "Vehicle", (255, 255, 0)),
    Label(9, "Person", (220, 20, 60)),
    Label(10, "Sky", (70, 130, 180)),
)
HYKO2_CLASSES = Classes(tuple(label.name for label in _LABELS[1:]), _LABELS, (VOID, *range(10)))
"""Ten classes, a label code each; undefined pixels are void."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HyKo2(Source):
    """One camera of HyKo2 on disk."""

    paths: dict[str, Path]
    """File of each scene."""

    expected = f"NAME.mat, in the folder or one below it, with {DATA!r} and {LABELS!r}"

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """See `Source.recognises`."""
        return any({DATA, LABELS} <= _variables(path) for path in _mat_files(root))

    @classmethod
    def open(cls, root: Path) -> "HyKo2":
        """Open the folder of one camera; DatasetError if no scene can be read.

        The size is that of most cubes. Nobody published a split: scenes are split by `hsiutils.data.splits.runs`.
        """
        paths = {path.relative_to(root).with_suffix("").as_posix(): path for path in _mat_files(root)}
        named = {name: _variables(path) for name, path in paths.items()}
        # A file that cannot be read stays in, so that nobody takes it for one without labels.
        known = {name: path for name, path in paths.items() if not named[name] or {DATA, LABELS} <= named[name]}
        shapes = Counter(shape for path in known.values() if len(shape := _shape(path)) == 3)
        if not shapes:
            raise DatasetError(f"{root}: none of {len(paths)} .mat files can be read; expected {cls.expected}")
        rows, columns, bands = shapes.most_common(1)[0][0]
        return cls(
            root=root,
            layout=f"HyKo2 {'NIR' if bands == 25 else 'VIS'}",
            sensor=_sensor(list(known.values()), bands, (rows, columns)),
            classes=HYKO2_CLASSES,
            units="intensity",
            table=pd.DataFrame({"split": runs(list(known))}).rename_axis("name"),
            paths=known,
            left_out=tuple(sorted(paths.keys() - known.keys())),
        )

    def cube(self, name: str) -> xr.DataArray:
        """See `Source.cube`."""
        (path,), bands = self.files(name), len(self.sensor.bands)
        values = read_array(path, DATA, "(row, column, band)", (*self.sensor.tiles, bands))
        values = without_fill(np.moveaxis(values, -1, 0).astype(np.float32))
        return make_cube(values, self.sensor, units=self.units, source="real", history=self.layout)

    def labels(self, name: str) -> NDArray[np.uint8]:
        """See `Source.labels`."""
        (path,) = self.files(name)
        codes = read_array(path, LABELS, "(row, column)", self.sensor.tiles)
        if unknown := sorted(set(np.unique(codes).tolist()) - {label.code for label in self.classes.labels}):
            raise DatasetError(f"{path}: unknown label codes {unknown[:5]}; expected 0..10")
        return codes.astype(np.uint8)

    def files(self, name: str) -> tuple[Path, ...]:
        """See `Source.files`."""
        if name not in self.paths:
            raise DatasetError(f"{self.root}: no scene {name!r} among the {len(self.table)} with labels")
        return (self.paths[name],)


def _mat_files(root: Path) -> list[Path]:
    places = [root, *(path for path in entries(root) if path.is_dir())]
    return [path for place in places for path in entries(place) if path.suffix.lower() == ".mat" and path.is_file()]


def _variables(path: Path) -> set[str]:
    try:
        return set(mat_variables(path))
    except DatasetError:
        return set()


def _shape(path: Path) -> tuple[int, ...]:
    try:
        with stored_array(path, DATA) as stored:
            return stored.shape
    except DatasetError:
        return ()


def _sensor(paths: list[Path], bands: int, tiles: tuple[int, int]) -> Sensor:
    """The camera: band centres as the files have them, in nm or micrometres, else even over its range."""
    name, low, high = ("HyKo2 NIR", 600.0, 975.0) if bands == 25 else ("HyKo2 VIS", 470.0, 630.0)
    for path in (path for path in paths if WAVELENGTHS in _variables(path)):
        with stored_array(path, WAVELENGTHS) as stored:
            if np.prod(stored.shape) == bands and np.dtype(stored.dtype).kind in "fui":
                centres = np.asarray(stored.values(), dtype=float).ravel()
                return cubes_only(name, centres * (1000 if centres.max() < 10 else 1), tiles)
    return cubes_only(name, np.linspace(low, high, bands), tiles)
