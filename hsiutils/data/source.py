"""One source of labelled scenes, whatever the files: what every room above is given.

A data set is an adapter: a class derived from `Source` in a module of its own, listed in `ADAPTERS`. It says by what it
knows its files, opens them, and reads a cube and the label codes of a scene. Everything else follows from these.
"""

import hashlib
import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.classes import Classes
from hsiutils.data.files import read_labels
from hsiutils.data.inputs import FittedVariant
from hsiutils.data.layouts import DatasetError
from hsiutils.data.sensor import Sensor

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import Dataset

    Pairs = Dataset[tuple[Tensor, Tensor]]
else:
    Pairs = object  # a loader takes any object with a length and items, and a cube is opened without torch

ADAPTERS = (
    "hsiutils.data.hsidrive:HSIDrive",
    "hsiutils.data.hyko2:HyKo2",
    "hsiutils.data.hsicity:HSICity",
    "hsiutils.data.cityscapes:Cityscapes",
    "hsiutils.data.rgb_folder:RGBFolder",
)
"""Every kind of data set that `open_dataset` knows, as module:class; the first that recognises a folder opens it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(ABC):
    """Labelled scenes of one camera, all of one size.

    Attributes
    ----------
    root : folder of the data set.
    layout : name of the layout of its files.
    sensor : the camera, with as many tiles as the cubes have pixels.
    classes : what its pixels can be.
    units : of the cubes' values.
    table : indexed by scene: `split`, and what else is known of each.
    left_out : names of which there is an image without labels, or labels without an image.
    """

    expected: ClassVar[str]
    """What a folder of this kind holds, for an error message."""

    root: Path
    layout: str
    sensor: Sensor
    classes: Classes
    units: str
    table: pd.DataFrame
    left_out: tuple[str, ...] = ()

    @classmethod
    @abstractmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder holds files of this kind, by their names alone."""

    @classmethod
    @abstractmethod
    def open(cls, root: Path) -> Self:
        """Open a folder; further parameters, each with a default, are the options of `open_dataset`."""

    @abstractmethod
    def cube(self, name: str) -> xr.DataArray:
        """The cube of a scene, (band, y, x) float32 in native band order."""

    @abstractmethod
    def labels(self, name: str) -> NDArray[np.uint8]:
        """The label codes of a scene, (y, x); `classes.merge` makes class indices of them."""

    @abstractmethod
    def files(self, name: str) -> tuple[Path, ...]:
        """The files that cube and labels of a scene are read from, the cube's first."""

    @property
    def origin(self) -> str:
        """Say "real" or "simulated"; every figure and table must."""
        return "real"

    def truth(self, name: str) -> xr.Dataset | None:
        """What only a simulator knows of a scene, (y, x) variables such as `sunlit`; None where nobody does."""
        return None

    def remarks(self) -> dict[str, str]:
        """What to know of this data set beside what every one has, by what it is about."""
        some = ", ".join(self.left_out[:4]) + (" ..." if len(self.left_out) > 4 else "")
        return {"left out, for labels or image are missing": f"{len(self.left_out)} ({some})"} if some else {}

    def names(self, split: str | None = None) -> list[str]:
        """Names of all scenes, or of the scenes of one split ("train", "val", "test"), in order.

        Raises
        ------
        ValueError
            If the split has no scene.
        """
        splits = self.table["split"]
        if split is not None and split not in set(splits):
            known = ", ".join(sorted(set(splits)))
            raise ValueError(f"{self.root}: no scene in split {split!r}; there are {known}")
        return [str(name) for name in self.table.index[(splits == split) | (split is None)]]

    def with_splits(self, splits: Mapping[str, str]) -> Self:
        """The same data set under another split, such as one of `hsiutils.data.splits.fold_splits`.

        ValueError if a scene of it has no split, or one that is given a split is not in it.
        """
        known = set(self.table.index)
        if missing := known - splits.keys():
            raise ValueError(f"no split given for {len(missing)} scenes, such as {sorted(missing)[:3]}")
        if unknown := splits.keys() - known:
            raise ValueError(f"{self.root}: no scenes {sorted(unknown)[:3]} among its {len(known)}, to give a split to")
        return replace(self, table=self.table.assign(split=[splits[name] for name in self.names()]))

    def scenes(self, which: str | Sequence[str], inputs: FittedVariant, cache: bool = False) -> "Scenes":
        """Scenes as the network sees them.

        Parameters
        ----------
        which : a split, or names of scenes.
        inputs : what makes the network's input of a cube, fitted on training scenes.
        cache : read each scene once and keep it in memory.
        """
        return Scenes(self, self.names(which) if isinstance(which, str) else which, inputs, cache)

    def fingerprint(self) -> str:
        """Text that changes whenever the files do; see `fingerprint`."""
        return fingerprint(self.root)


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedFiles(Source):
    """Scenes that are two files each: a cube or an image, and an image of label codes."""

    images: dict[str, Path]
    annotations: dict[str, Path]
    """Files by scene."""

    def labels(self, name: str) -> NDArray[np.uint8]:
        """See `Source.labels`."""
        return read_labels(self.files(name)[1], self.sensor.tiles, self.classes)

    def files(self, name: str) -> tuple[Path, ...]:
        """See `Source.files`."""
        if name not in self.table.index:
            raise DatasetError(f"{self.root}: no scene {name!r} among the {len(self.table)} with image and labels")
        return self.images[name], self.annotations[name]


class Scenes(Pairs):
    """Scenes as pairs `(x, y)` of tensors: x float32 (channel, y, x), y int64 (y, x) of class indices.

    Pixels without a class are `hsiutils.data.classes.VOID`. torch is imported when a pair is read, not before. Inputs
    that normalise per pixel what cannot be are a DatasetError.
    """

    def __init__(self, source: Source, names: Sequence[str], inputs: FittedVariant, cache: bool = False) -> None:
        try:
            inputs.variant.require_units(source.units)
        except ValueError as error:
            raise DatasetError(f"{source.root} ({source.layout}): {error}") from error
        self.source, self.names, self.inputs = source, list(names), inputs
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> "tuple[Tensor, Tensor]":
        if not 0 <= index < len(self.names):
            raise IndexError(f"scene {index} of {len(self.names)}")
        if self._cache is None:
            return self._read(index)
        return self._cache[index] if index in self._cache else self._cache.setdefault(index, self._read(index))

    def _read(self, index: int) -> "tuple[Tensor, Tensor]":
        from torch import from_numpy

        name = self.names[index]
        inputs = self.inputs.apply(self.source.cube(name)).values
        classes = self.source.classes.merge(self.source.labels(name)).astype(np.int64)
        return from_numpy(inputs), from_numpy(classes)


def open_dataset(root: Path | str, layout: str | None = None, sensor: Sensor | None = None, **options: Any) -> Source:
    """Open a data set by what is there: of `ADAPTERS`, the first that recognises it.

    Parameters
    ----------
    root : the folder that was unpacked.
    layout : which one, where a folder holds several (HSI-Drive).
    sensor : the camera, where it is not the data set's own.
    options : of the kind of data set, such as `classes` of a folder of RGB images.

    Raises
    ------
    DatasetError
        If nothing is recognised, with what was looked for and what is there; if the kind of data set does not take an
        option; or if it cannot be opened.

    Examples
    --------
    >>> import hsiutils as hu
    >>> folder = hu.simulate_dataset("HSI-Drive", scenes=3, tiles=(8, 16), workers=1, progress=False).root
    >>> data = hu.open_dataset(folder)
    >>> data.origin, data.classes.names[:2], data.cube(data.names("test")[0]).shape
    ('simulated', ('Road', 'Road Marks'), (25, 8, 16))
    """
    root = Path(root)
    kind = recognised(root)
    if kind is None:
        expected = "\n".join(f"{adapter.__name__}: {adapter.expected}" for adapter in adapters())
        there = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
        found = (", ".join(there[:20]) or "nothing") + (f" and {len(there) - 20} more" if len(there) > 20 else "")
        raise DatasetError(f"{root}: no data set of a known kind; expected\n{expected}\nfound in it: {found}")
    given = {**options, **{k: v for k, v in (("layout", layout), ("sensor", sensor)) if v is not None}}
    known = list(inspect.signature(kind.open).parameters)[1:]
    if unknown := sorted(given.keys() - set(known)):
        raise DatasetError(f"{root}: opened as {kind.__name__}, which takes {known or 'no options'}, got {unknown}")
    return kind.open(root, **given)


def adapters() -> list[type[Source]]:
    """The classes named in `ADAPTERS`."""
    pairs = (place.split(":") for place in ADAPTERS)
    return [getattr(import_module(module), name) for module, name in pairs]


def recognised(root: Path) -> type[Source] | None:
    """The kind of data set that a folder holds, None for one that nothing knows; DatasetError if there is no folder."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected a data set, as it was unpacked, or a simulated one")
    return next((adapter for adapter in adapters() if adapter.recognises(root)), None)


_HEAD = 4096
"""Bytes of a file that its fingerprint reads: archives give many files one size and one time."""


def fingerprint(root: Path | str) -> str:
    """Hash of the names, sizes, times and first bytes of all files under a folder, those behind links included."""
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"data root {root} is not a folder")
    digest = hashlib.sha256()
    for path, state in _states(str(root), frozenset()):
        digest.update(json.dumps([path.removeprefix(str(root)), *state]).encode())
    return digest.hexdigest()


def _states(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every file below a folder with what tells its state; folders that are linked into themselves end there."""
    stat = Path(folder).stat()
    own = stat.st_dev, stat.st_ino
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name) if own not in above else []
    for entry in found:
        try:
            if entry.is_dir():
                yield from _states(entry.path, above | {own})
                continue
            stat = entry.stat()
            head = _head(entry.path, stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns)
            yield entry.path, (stat.st_size, stat.st_mtime_ns, head)
        except OSError as error:
            yield entry.path, (type(error).__name__,)  # a link to nowhere, or what may not be read


@cache
def _head(path: str, *state: int) -> str:
    """Hash of the first bytes of a file, which is read again only if its state changed; of what is none, nothing."""
    if not Path(path).is_file():  # a pipe would wait for a writer
        return ""
    with Path(path).open("rb") as file:
        return hashlib.sha256(file.read(_HEAD)).hexdigest()
