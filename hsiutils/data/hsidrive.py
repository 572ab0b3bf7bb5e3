"""HSI-Drive, real or simulated, in any of its released layouts.

A simulated set is one in HSI-Drive's layout with the simulator's mark, `simulation.json`, beside it.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data import guard, raw
from hsiutils.data.classes import HSI_DRIVE_CLASSES
from hsiutils.data.cube import make_cube, without_fill
from hsiutils.data.files import cube_tiles, read_arrays, read_cube, read_labels
from hsiutils.data.guard import read_json
from hsiutils.data.layouts import DatasetError, Found, SceneFiles, describe_search, find_layouts
from hsiutils.data.names import Conditions, name_table
from hsiutils.data.sensor import HSI_DRIVE, Sensor
from hsiutils.data.source import Source
from hsiutils.data.splits import split_scenes

GENERATOR: Final = "hsiutils.simulate"
SIMULATION_MANIFEST = "simulation.json"
"""The file that the simulator leaves beside its scenes, and by which they are known as simulated."""


def read_record(path: Path) -> dict[str, Any] | None:
    """Record of a scene; None if it is missing or damaged."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    sound = isinstance(record, dict) and {"name", "split", "exposure_s", "settings", "sha256"} <= record.keys()
    return record if sound and isinstance(record["sha256"], dict) and record["sha256"] else None


def read_settings(root: Path) -> dict[str, Any]:
    """Content of simulation.json; DatasetError if it is not the mark of a simulated data set."""
    path = root / SIMULATION_MANIFEST
    try:
        settings = read_json(path)
    except ValueError as error:
        raise DatasetError(str(error), "delete the folder to simulate it anew") from error
    if not isinstance(settings, dict) or settings.get("generator") != GENERATOR or not _fields(settings):
        raise DatasetError(f"{path}: expected the settings of a data set made by {GENERATOR}, found something else")
    return settings


def _fields(settings: dict[str, Any]) -> bool:
    """Whether settings that are there are of the kind that they should be."""
    sensor, materials = settings.get("sensor", {}), settings.get("materials", [])
    named = isinstance(sensor, dict) and isinstance(sensor.get("name", ""), str)
    listed = isinstance(materials, list) and all(isinstance(one, str) for one in materials)
    return named and listed and all(isinstance(settings.get(key, {}), dict) for key in ("white", "dark", "frames"))


def record_path(root: Path, name: str) -> Path:
    """Where the record of a simulated scene is kept."""
    return root / "scenes" / f"{name}.json"


def is_sealed(root: Path, name: str, settings: str | None = None) -> bool:
    """Whether a simulated scene's record is there, of these settings if given, and every file has the hash it names."""
    record = read_record(record_path(root, name))
    if record is None or (settings and record["settings"] != settings):
        return False
    try:
        return all(file_sha256(guard.inside(root, place)) == own for place, own in record["sha256"].items())
    except ValueError:  # a place outside of the data set
        return False


def file_sha256(path: Path) -> str | None:
    """Hash of a file; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class HSIDrive(Source):
    """HSI-Drive on disk; its table has season, weather, daytime, scene, number and split of every name."""

    others: tuple[str, ...]
    """Names of further layouts in the same folder."""
    found: Found
    """The files of every scene."""
    manifest: Path | None
    """The simulator's settings; None for a real data set."""

    expected = describe_search()

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """See `Source.recognises`."""
        return bool(find_layouts(root))

    @classmethod
    def open(cls, root: Path, layout: str | None = None, sensor: Sensor = HSI_DRIVE) -> "HSIDrive":
        """Open HSI-Drive, or a simulated set in its layout.

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
            If the layout is not there, or cubes, labels and split lists do not fit together.
        """
        everything = find_layouts(root)
        chosen = [found for found in everything if layout in (None, found.layout.name)]
        if not chosen:
            also = f"; it holds {', '.join(found.layout.name for found in everything)}" if everything else ""
            raise DatasetError(f"{root}: no HSI-Drive data of layout {layout or 'any'} here{also}")
        found = chosen[0]
        _require_pairs(found)
        made = manifest_folder(found.base)
        taken_by = "" if made is None else read_settings(made).get("sensor", {}).get("name", "")
        if taken_by.split("@")[0] not in ("", sensor.name.split("@")[0]):
            opened = f"opened with {sensor.name}; give sensor="
            raise DatasetError(f"{root}: simulated with the camera {taken_by}, and {opened}")
        tiles = cube_tiles(next(iter(found.scenes.values())).cube, found.layout, len(sensor.bands))
        return cls(
            root=root,
            layout=found.layout.name,
            sensor=sensor if tiles == sensor.tiles else sensor.resized(tiles),
            classes=HSI_DRIVE_CLASSES,
            units=found.layout.units,
            table=_scene_table(found),
            others=tuple(other.layout.name for other in everything if other is not found),
            found=found,
            manifest=None if made is None else made / SIMULATION_MANIFEST,
        )

    @property
    def origin(self) -> str:
        """Say "simulated" or "real"; every figure and table must."""
        return "real" if self.manifest is None else "simulated"

    def cube(self, name: str) -> xr.DataArray:
        """The cube of a scene, (band, y, x) float32 in native band order; NaN where it has `fill_values`."""
        values = read_cube(self._files(name).cube, self.found.layout, len(self.sensor.bands), self.sensor.tiles)
        steps = {"units": self.units, "source": self.origin, "history": f"{self.layout}: {name}"}
        return make_cube(without_fill(values), self.sensor, **steps)

    def labels(self, name: str) -> NDArray[np.uint8]:
        """The label codes of a scene, (y, x), 0..10."""
        return read_labels(self._files(name).labels, self.sensor.tiles, self.classes)

    def files(self, name: str) -> tuple[Path, ...]:
        """The files of cube and labels."""
        return self._files(name).cube, self._files(name).labels

    def remarks(self) -> dict[str, str]:
        """See `Source.remarks`."""
        frames = sum(files.raw is not None for files in self.found.scenes.values())
        others = ", ".join(self.others) or "none"
        return {"other layouts": others, "splits by": self._split_source(), "raw frames": str(frames)}

    def _split_source(self) -> str:
        """Where the splits come from, as `hsiutils.data.splits.split_scenes` chose them."""
        if all(files.split is not None for files in self.found.scenes.values()):
            return "the release's own lists"
        bench, own = name_table()["split"], self.table["split"]
        if all(bench.get(name) == own[name] for name in self.names()):
            return "HS3-Bench's published split"
        return "seeded folds of whole sequences" if own.nunique() > 1 else "too few for folds: all for testing"

    def frame(self, name: str) -> NDArray[np.uint16]:
        """The raw frame of a scene, (rows, columns) DN, where the data set has it."""
        path = self._files(name).raw
        if path is None:
            raise DatasetError(f"{self.root}: no raw frame of {name}; expected raw/{name}.bin beside the cubes")
        return raw.read_frame(path, self.sensor)

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
        arrays = read_arrays(self.manifest.parent / "truth" / f"{name}.h5", self.sensor.tiles)
        variables = {key: (("y", "x"), values) for key, values in arrays.items()}
        return xr.Dataset(variables, attrs={"materials": list(self._materials)})

    @cached_property
    def _materials(self) -> list[str]:
        """Names of the materials that `truth` numbers, read once; none of a real data set."""
        return [] if self.manifest is None else read_settings(self.manifest.parent).get("materials", [])

    def _files(self, name: str) -> SceneFiles:
        if name not in self.found.scenes:
            raise DatasetError(f"{self.root}: no scene {name!r} among the {len(self.table)} of {self.layout}")
        return self.found.scenes[name]


def manifest_folder(base: Path) -> Path | None:
    """Where the simulator's settings lie: the folder that holds the release, or the one above; None for a real set."""
    return next((place for place in (base, base.resolve().parent) if (place / SIMULATION_MANIFEST).is_file()), None)


def _require_pairs(found: Found) -> None:
    cubes, labels = ("cube", found.cubes), ("label image", found.labels)
    for (has, own), (lacks, other) in ((cubes, labels), (labels, cubes)):
        if names := sorted(own.keys() - other.keys()):
            raise DatasetError(
                f"{found.base} ({found.layout.name}): {len(names)} scenes have a {has} and no {lacks}, such as "
                f"{', '.join(names[:5])}; {len(found.scenes)} are complete. Fetch the missing files, or move these away"
            )


def _scene_table(found: Found) -> pd.DataFrame:
    official = {name: files.split for name, files in found.scenes.items() if files.split is not None}
    if found.lists and (missing := sorted(found.scenes.keys() - official.keys())):
        raise DatasetError(
            f"{found.base}: {', '.join(path.name for path in found.lists)} list {len(official)} of the "
            f"{len(found.scenes)} scenes, and not {', '.join(missing[:5])}. Add them, or move the lists away, and the "
            "scenes are split as HS3-Bench does, or in seeded folds"
        )
    splits = split_scenes(list(found.scenes), official)
    rows = {name: {**asdict(Conditions.parse(name)), "split": splits[name]} for name in found.scenes}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
