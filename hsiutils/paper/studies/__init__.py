"""Studies: grids of networks, what is measured of each, and the record that is made of it.

A study is a file of this package that ends in a `Study` called STUDY. `hsiutils study NAME` trains and measures its
points side by side (`hsiutils.paper.cluster`). Each is an artefact of the store and asks for its network as chapters
do, so what a chapter has trained or measured is not made again, and a study that was stopped goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pandas as pd
import xarray as xr

from hsiutils.paper import store
from hsiutils.paper.cluster import side_by_side
from hsiutils.paper.results import RESULTS, in_words, provenance, read_manifest, write
from hsiutils.paper.run import Run, workers
from hsiutils.paper.study import measured, read

Measure = Callable[[Run, str, int], xr.Dataset]
"""Of a run, an input variant and a seed; a function at the top of a module, as chapters call them."""


@dataclass(frozen=True)
class Point:
    """One network of a study.

    Attributes
    ----------
    run : which trains it, with data, light, camera and recipe of its own where the study varies these.
    variant, seed : of the network.
    at : where on the axes of the study, by their names.
    """

    run: Run
    variant: str
    seed: int
    at: Mapping[str, float | str]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in {**self.at, "seed": self.seed}.items())


@dataclass(frozen=True)
class Study:
    """A grid of networks, and what it is to tell.

    Attributes
    ----------
    file : of the record, NAME.nc, written out: by that the store knows which chapters depend on it.
    about : the question, in a line.
    grid : its points, of the run whose profile, seeds and data it takes.
    measures : what is measured of each network.
    reduce : the record of what was found by each measure: its Datasets, by the name of the function, along the axes of
        the study and `seed`.
    """

    file: str
    about: str
    grid: Callable[[Run], Sequence[Point]]
    measures: tuple[Measure, ...]
    reduce: Callable[[Mapping[str, xr.Dataset]], xr.Dataset]

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return self.file.removesuffix(".nc")

    def request(self, point: Point) -> dict[str, Any]:
        """What the store is asked for a point with."""
        run = point.run
        measures = {measure.__name__: measure for measure in self.measures}
        measuring: Callable[..., None] = measured
        build = partial(measuring, run=run, variant=point.variant, seed=point.seed, **measures)
        inputs = {"run": run, "variant": point.variant, "seed": point.seed, "measures": list(measures)}
        uses: tuple[str, ...] = ()
        if run.data_root is not None:  # the path alone does not tell that the files changed
            inputs["data"], uses = run.data_key, (type(run.data).__module__,)
        return {"kind": "point", "build": build, "inputs": inputs, "uses": uses}

    def points(self, run: Run) -> pd.DataFrame:
        """The grid as a table: a row a point, and whether it is there."""
        points = self.grid(run)
        made = ["there" if store.find(**self.request(point)) else "missing" for point in points]
        rows = [{**point.at, "input": point.variant, "seed": point.seed} for point in points]
        return pd.DataFrame(rows).assign(state=made)

    def make(self, run: Run, progress: bool = True) -> xr.Dataset:
        """Train and measure what is missing, side by side, and reduce all to the record.

        Raises
        ------
        RuntimeError
            If some points fail, naming them; the others are kept.
        """
        points = self.grid(run)
        requests = {str(point): self.request(point) for point in points}
        missing = [point for point in points if not store.find(**requests[str(point)])]
        for own in dict.fromkeys(point.run for point in missing):
            own.data  # noqa: B018 (rendered here, on all cores)
        calls = {str(point): partial(store.artefact, **requests[str(point)]) for point in missing}
        side_by_side(calls, "points", workers(), progress)
        folders = [store.artefact(**requests[str(point)]).folder for point in points]
        return self.reduce({one.__name__: _along(points, folders, f"{one.__name__}.nc") for one in self.measures})

    def keep(self, run: Run, folder: Path = RESULTS, progress: bool = True) -> xr.Dataset:
        """`make`, and write the record and its manifest, NAME.json, to a folder."""
        found = self.make(run, progress)
        points = self.grid(run)
        runs = {point.run for point in points}
        own = provenance(runs.pop() if len(runs) == 1 else run)
        own |= {"seeds": sorted({point.seed for point in points})}  # a study may take fewer than the run, or others
        write({"found": found}, {"study": self.name, "about": self.about, **own}, folder / self.file)
        return found

    def recorded(self, folder: Path = RESULTS) -> tuple[xr.Dataset, dict[str, Any]]:
        """The record and its manifest; a ValueError if it is not there or damaged."""
        file = folder / self.file
        try:
            return xr.load_dataset(file, group="found", engine="h5netcdf"), read_manifest(file)
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: no record ({error}); `hsiutils study {self.name}` makes it again") from error

    def shown(self, folder: Path = RESULTS) -> tuple[xr.Dataset | None, str]:
        """For a chapter: the record, None where there is none, and in words how it was made, or what makes it."""
        if not (folder / self.file).exists():
            return None, f"There is no record of this study yet: `hsiutils study {self.name}` makes it."
        found, manifest = self.recorded(folder)
        return found, f"Record: {in_words(manifest)}"


def _along(points: Sequence[Point], folders: Sequence[Path], name: str) -> xr.Dataset:
    """What was found at every point, along the axes of the study and the seed."""
    rows = pd.DataFrame([{**point.at, "seed": point.seed} for point in points])
    index = xr.Coordinates.from_pandas_multiindex(pd.MultiIndex.from_frame(rows), "point")
    found = xr.concat([read(folder / name) for folder in folders], "point", join="outer")
    return found.assign_coords(index).unstack("point").transpose(*rows, ...)


def studies() -> dict[str, Study]:
    """Every study by its name."""
    found = [import_module(f"{__name__}.{module.name}").STUDY for module in iter_modules(__path__)]
    return {study.name: study for study in found}


def find(name: str) -> Study:
    """A study by its name, or a ValueError that lists them."""
    known = studies()
    if name not in known:
        raise ValueError(f"no study {name!r}: expected one of {', '.join(known)}")
    return known[name]
