"""Hyperspectral City v2: driving scenes of 128 bands, 450-950 nm, labelled with the classes of Cityscapes.

Source: Huang et al. 2021, and its authors' benchmark (github.com/iori2333/HSICityV2-Benchmark), whose readers tell the
format. {train,test}/NAME.hsd with rgbNAME_gray.png, or both in folders images and labels below (as HS3-Bench has them).
An .hsd file is a cube compressed by principal components, little-endian: int32 rows, columns, bands, components and
first wavelength (nm), float32 step, int32 last wavelength; then float32 the mean spectrum (bands), the components
(components, bands), and the scores (rows, columns, components). The cube is scores @ components + mean.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.data.cityscapes import TRAIN_ID_CLASSES
from hsiutils.data.cube import make_cube
from hsiutils.data.files import named_if_broken
from hsiutils.data.layouts import DatasetError, entries, inside
from hsiutils.data.sensor import cubes_only
from hsiutils.data.source import PairedFiles

_HEADER = np.dtype(
    [*((name, "<i4") for name in ("rows", "columns", "bands", "components", "first")), ("step", "<f4"), ("last", "<i4")]
)
_MOST = (10_000, 10_000, 1000, 1000)
"""Rows, columns, bands and components of a header that is believed: a damaged one asks for any amount of memory."""
_RANGE_NM = (450.0, 950.0)
"""As published; where a header's wavelengths do not fit together, its bands lie evenly over it."""


class _Header(NamedTuple):
    rows: int
    columns: int
    centres_nm: tuple[float, ...]
    components: int


@dataclass(frozen=True, eq=False, kw_only=True)
class HSICity(PairedFiles):
    """Hyperspectral City v2 on disk."""

    expected = "{train,test}/NAME.hsd with rgbNAME_gray.png, or both in images and labels below"

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """See `Source.recognises`."""
        return any(_found(root, split, "images", "", ".hsd") for split in ("train", "test"))

    @classmethod
    def open(cls, root: Path) -> "HSICity":
        """Open the folder that holds train and test; the size is that of most cubes.

        The release has no part that validates (HS3-Bench draws one at random, across drives): here it is the last fifth
        of the training scenes in the order of their names, which are the times at which they were taken.

        Raises
        ------
        DatasetError
            If a name is there twice, or no cube with labels can be read.
        """
        parts = {split: _found(root, split, "images", "", ".hsd") for split in ("train", "test")}
        annotations = {
            name: path for split in parts for name, path in _found(root, split, "labels", "rgb", "_gray.png").items()
        }
        if twice := sorted(parts["train"].keys() & parts["test"].keys()):
            raise DatasetError(f"{root}: {twice[:3]} in train and test; a name must be there once")
        cubes = parts["train"] | parts["test"]
        names = sorted(cubes.keys() & annotations.keys())
        heads = Counter(head[:3] for name in names if (head := _header_or_none(cubes[name])))
        if not heads:
            raise DatasetError(f"{root}: none of {len(names)} cubes with labels can be read; expected {cls.expected}")
        rows, columns, centres = heads.most_common(1)[0][0]
        trained = [name for name in names if name in parts["train"]]
        validating = set(trained[-(-4 * len(trained) // 5) :])
        splits = ["test" if name in parts["test"] else "val" if name in validating else "train" for name in names]
        return cls(
            root=root,
            layout="Hyperspectral City v2",
            sensor=cubes_only("Hyperspectral City v2", centres, (rows, columns)),
            classes=TRAIN_ID_CLASSES,
            units="intensity",
            table=pd.DataFrame({"split": splits}, index=pd.Index(names, name="name")),
            images=cubes,
            annotations=annotations,
            left_out=tuple(sorted(cubes.keys() ^ annotations.keys())),
        )

    def cube(self, name: str) -> xr.DataArray:
        """See `Source.cube`; all of it is held in memory, 1.4 GB at the released size."""
        path, bands, tiles = self.files(name)[0], len(self.sensor.bands), self.sensor.tiles
        with named_if_broken(path):
            head = _header(path)
            found = (head.rows, head.columns, len(head.centres_nm))
            if found != (*tiles, bands):
                raise DatasetError(f"{path}: expected (rows, columns, bands) = {(*tiles, bands)}, found {found}")
            stored = np.fromfile(path, "<f4", offset=_HEADER.itemsize)
        ends = np.cumsum([bands, head.components * bands, tiles[0] * tiles[1] * head.components])
        mean, components, scores, _ = np.split(stored, ends)
        values = components.reshape(-1, bands).T @ scores.reshape(-1, head.components).T  # (bands, rows * columns)
        values += mean[:, np.newaxis]
        shaped = values.reshape(bands, *tiles)
        return make_cube(shaped, self.sensor, units=self.units, source="real", history=self.layout)


def _found(root: Path, split: str, folder: str, start: str, end: str) -> dict[str, Path]:
    """Files by what stands between start and end of their names, of a split's folder or the one below it."""
    places = inside(root, split), inside(root, f"{split}/{folder}")
    paths = [path for place in places for path in entries(place)]
    ours = [path for path in paths if path.name.startswith(start) and path.name.endswith(end) and path.is_file()]
    return {path.name[len(start) : -len(end)]: path for path in ours}


def _header(path: Path) -> _Header:
    """What a file says it holds; DatasetError if it says what cannot be, or is too short for it."""
    with named_if_broken(path):
        head = np.fromfile(path, _HEADER, count=1)
        if not len(head):
            raise DatasetError(f"{path}: ends within its header of {_HEADER.itemsize} bytes")
        rows, columns, bands, components, first, step, last = head[0].item()
        sizes = (rows, columns, bands, components)
        if not all(1 <= size <= most for size, most in zip(sizes, _MOST, strict=True)):
            raise DatasetError(f"{path}: expected rows, columns, bands, components of one to {_MOST}, found {sizes}")
        needed = _HEADER.itemsize + 4 * (bands + components * bands + rows * columns * components)
        if path.stat().st_size < needed:
            raise DatasetError(f"{path}: expected {needed} bytes for {sizes}, found {path.stat().st_size}; cut short")
        centres = first + step * np.arange(bands)
        if not (200 <= first < last <= 3000 and step > 0 and abs(centres[-1] - last) <= 2 * step):
            centres = np.linspace(*_RANGE_NM, bands)  # the authors' own readers pass over these three
        return _Header(rows, columns, tuple(centres.tolist()), components)


def _header_or_none(path: Path) -> _Header | None:
    try:
        return _header(path)
    except DatasetError:
        return None
