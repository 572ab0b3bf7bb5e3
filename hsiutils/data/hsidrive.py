"""HSI-Drive, real or simulated, in any of its released layouts: scenes, cubes, labels, splits, and a torch data set."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hsiutils.data import raw
from hsiutils.data.classes import merge
from hsiutils.data.cube import make_cube
from hsiutils.data.files import cube_tiles, read_arrays, read_cube, read_labels
from hsiutils.data.inputs import FittedVariant
from hsiutils.data.layouts import DatasetError, Found, SceneFiles, describe_search, find_layouts
from hsiutils.data.names import Conditions
from hsiutils.data.sensor import HSI_DRIVE, Sensor
from hsiutils.data.splits import split_scenes

GENERATOR: Final = "hsiutils.simulate"


def read_record(path: Path) -> dict[str, Any] | None:
    """Record of a scene; None if it is missing or damaged."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    sound = isinstance(record, dict) and {"name", "split", "exposure_s", "settings", "sha256"} <= record.keys()
    return record if sound and isinstance(record["sha256"], dict) and record["sha256"] else None


def read_settings(root: Path) -> dict[str, Any]:
    """Content of simulation.json.

    Raises
    ------
    ValueError
        If it is not the mark of a simulated data set.
    """
    path = root / "simulation.json"
    try:
        settings = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error}); delete the folder to simulate it anew") from error
    if not isinstance(settings, dict) or settings.get("generator") != GENERATOR:
        raise ValueError(f"{path}: expected the settings of a data set made by {GENERATOR}, found something else")
    return settings


def record_path(root: Path, name: str) -> Path:
    """Where the record of a simulated scene is kept."""
    return root / "scenes" / f"{name}.json"


def is_sealed(root: Path, name: str, settings: str | None = None) -> bool:
    """Whether a simulated scene's record is there, of these settings if given, and every file has the hash it names."""
    record = read_record(record_path(root, name))
    if record is None or (settings and record["settings"] != settings):
        return False
    return all(file_sha256(root / place) == own for place, own in record["sha256"].items())


def file_sha256(path: Path) -> str | None:
    """Hash of a file; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


SIMULATION_MANIFEST = "simulation.json"
"""The file that the simulator leaves beside its scenes, and by which they are known as simulated."""


@dataclass(frozen=True, eq=False)
class HSIDrive:
    """One data set on disk; see `open_hsi_drive`.

    Attributes
    ----------
    root : folder of the data set.
    layout : name of the release's layout.
    others : names of further layouts in the same folder.
    sensor : the camera, with as many tiles as the cubes have pixels.
    scenes : indexed by name: season, weather, daytime, scene, number, split.
    found : the files of every scene.
    manifest : the simulator's settings; None for a real data set.
    """

    root: Path
    layout: str
    others: tuple[str, ...]
    sensor: Sensor
    scenes: pd.DataFrame
    found: Found
    manifest: Path | None

    @property
    def origin(self) -> str:
        """Say "simulated" or "real"; every figure and table must."""
        return "real" if self.manifest is None else "simulated"

    @property
    def units(self) -> str:
        """Units of the cubes' values; only "reflectance" can be normalised per pixel with meaning."""
        return self.found.layout.units

    def names(self, split: str | None = None) -> list[str]:
        """Names of all scenes, or of the scenes of one split ("train", "val", "test"), in order."""
        if split is None:
            return [str(name) for name in self.scenes.index]
        if split not in set(self.scenes["split"]):
            known = ", ".join(sorted(set(self.scenes["split"])))
            raise ValueError(f"{self.root}: no scene in split {split!r}; there are {known}")
        return [str(name) for name in self.scenes.index[self.scenes["split"] == split]]

    def with_splits(self, splits: dict[str, str]) -> "HSIDrive":
        """The same data set under another split, such as one fold of `hsiutils.data.splits.split_scenes`."""
        missing = set(self.scenes.index) - splits.keys()
        if missing:
            raise ValueError(f"no split given for {len(missing)} scenes, such as {sorted(missing)[:3]}")
        return replace(self, scenes=self.scenes.assign(split=[splits[name] for name in self.names()]))

    def cube(self, name: str) -> xr.DataArray:
        """The cube of a scene, (band, y, x) float32 in native band order."""
        values = read_cube(self._files(name).cube, self.found.layout, len(self.sensor.bands), self.sensor.tiles)
        return make_cube(values, self.sensor, units=self.units, source=self.origin, history=f"{self.layout}: {name}")

    def labels(self, name: str) -> NDArray[np.uint8]:
        """The label codes of a scene, (y, x), 0..10."""
        return read_labels(self._files(name).labels, self.sensor.tiles)

    def frame(self, name: str) -> NDArray[np.uint16]:
        """The raw frame of a scene, (rows, columns) DN, where the data set has it."""
        path = self._files(name).raw
        if path is None:
            raise DatasetError(f"{self.root}: no raw frame of {name}; expected raw/{name}.bin beside the cubes")
        try:
            return raw.read_frame(path, self.sensor)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{error}") from error

    def truth(self, name: str) -> xr.Dataset | None:
        """What only the simulator knows of a scene; None for a real data set. For analysis, never for training.

        Returns
        -------
        (y, x) variables: `sunlit` (share of the pixel in direct sun, 0..1, NaN where there is no telling), `depth_m`,
        `material` (index into the attribute `materials`, -1 for sky), `object_id`.
        """
        if self.manifest is None:
            return None
        self._files(name)
        variables = read_arrays(self.manifest.parent / "truth" / f"{name}.h5", self.sensor.tiles)
        materials = read_settings(self.manifest.parent)["materials"]
        return xr.Dataset(
            {key: (("y", "x"), values) for key, values in variables.items()}, attrs={"materials": materials}
        )

    def _files(self, name: str) -> SceneFiles:
        if name not in self.found.scenes:
            raise DatasetError(f"{self.root}: no scene {name!r} among the {len(self.scenes)} of {self.layout}")
        return self.found.scenes[name]


def open_hsi_drive(root: Path | str, layout: str | None = None, sensor: Sensor = HSI_DRIVE) -> HSIDrive:
    """Open HSI-Drive, or a simulated set in its layout, by what is there.

    Splits are the release's own (file lists or folders) where it has them, else HS3-Bench's, else seeded folds.

    Parameters
    ----------
    root : the folder that was unpacked, or its Image_dataset.
    layout : name of one of `hsiutils.data.layouts.LAYOUTS`, where the folder holds several; by default the
        preferred one.
    sensor : the camera; resized to the cubes.

    Raises
    ------
    DatasetError
        If nothing is recognised (with what was looked for and what was found), or cubes and labels do not pair up.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected the unpacked HSI-Drive, or a simulated set")
    everything = find_layouts(root)
    chosen = [found for found in everything if layout in (None, found.layout.name)]
    if not chosen:
        also = f"; it holds {', '.join(found.layout.name for found in everything)}" if everything else ""
        raise DatasetError(f"{root}: no HSI-Drive data of layout {layout or 'any'} here{also}; {describe_search(root)}")
    found = chosen[0]
    _require_pairs(found)
    tiles = cube_tiles(next(iter(found.scenes.values())).cube, found.layout, len(sensor.bands))
    return HSIDrive(
        root=root,
        layout=found.layout.name,
        others=tuple(other.layout.name for other in everything if other is not found),
        sensor=sensor if tiles == sensor.tiles else sensor.resized(tiles),
        scenes=_scene_table(found),
        found=found,
        manifest=_manifest(found.base),
    )


def _manifest(base: Path) -> Path | None:
    """The simulator's settings, beside the folder that holds the release or in it."""
    for place in (base, base.resolve().parent):
        if (place / SIMULATION_MANIFEST).is_file():
            read_settings(place)
            return place / SIMULATION_MANIFEST
    return None


def _require_pairs(found: Found) -> None:
    for names, has, lacks in ((found.unlabelled, "cube", "label image"), (found.without_cube, "label image", "cube")):
        if names:
            raise DatasetError(
                f"{found.base} ({found.layout.name}): {len(names)} scenes have a {has} and no {lacks}, such as "
                f"{', '.join(names[:5])}; {len(found.scenes)} are complete. Fetch the missing files, or move these away"
            )


def _scene_table(found: Found) -> pd.DataFrame:
    official = {name: files.split for name, files in found.scenes.items() if files.split is not None}
    splits = split_scenes(list(found.scenes), official)
    rows = {name: {**asdict(Conditions.parse(name)), "split": splits[name]} for name in found.scenes}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


class SceneDataset(Dataset[tuple[Tensor, Tensor]]):
    """Scenes as the network sees them: `(x, y)` with x float32 (channel, y, x), y int64 (y, x) of class indices.

    Unlabelled pixels are `hsiutils.data.classes.VOID`. With `cache`, each scene is read once and kept in memory.

    Parameters
    ----------
    drive : where the scenes are.
    names : of the scenes, in the order of the data set.
    fitted : the input variant, fitted on training scenes.
    """

    def __init__(self, drive: HSIDrive, names: Sequence[str], fitted: FittedVariant, *, cache: bool = False) -> None:
        if fitted.variant.pn and not drive.units.startswith("reflectance"):
            raise DatasetError(
                f"{drive.root}: {drive.layout} holds {drive.units} values, and per-pixel normalisation "
                f"({fitted.variant.name}) needs reflectance; other layouts here: {', '.join(drive.others) or 'none'}"
            )
        self.drive, self.names, self.fitted = drive, list(names), fitted
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self.names):
            raise IndexError(f"scene {index} of {len(self.names)}")
        if self._cache is None:
            return self._read(index)
        if index not in self._cache:
            self._cache[index] = self._read(index)
        return self._cache[index]

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        name = self.names[index]
        inputs = self.fitted.apply(self.drive.cube(name)).values
        classes = merge(self.drive.labels(name)).astype(np.int64)
        return torch.from_numpy(inputs), torch.from_numpy(classes)
