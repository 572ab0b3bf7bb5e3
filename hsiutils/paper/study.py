"""Measure networks of a run on scenes, once: what is found is kept in the store, and stacked over variants and seeds.

A study goes over all test scenes unless it is given others. Its artefact holds sums or means per scene, not maps, so
that tables, figures, bootstraps and the ledger follow from it without another forward pass.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from hsiutils.analysis.intervals import SEQUENCE
from hsiutils.data.source import Scenes, Source
from hsiutils.data.splits import sequences
from hsiutils.models.files import load_trained
from hsiutils.models.unet import UNet
from hsiutils.paper import store

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

FILE = "found.nc"
Network = tuple[str, int]
"""A network of a run: its variant and its seed."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One network of a run, in evaluation mode, and the scenes that it is measured on, which one variant shares."""

    variant: str
    seed: int
    model: UNet
    scenes: Scenes
    data: Source

    @property
    def names(self) -> list[str]:
        """Of the scenes."""
        return self.scenes.names

    def inputs(self, names: Sequence[str]) -> Scenes:
        """Other scenes, as the network is given them."""
        return self.data.scenes(names, self.scenes.inputs)

    def untrained(self) -> "Subject":
        """The network as its training found it: what a measure gives where nothing was learned."""
        return replace(self, model=UNet(self.model.config, torch.Generator().manual_seed(self.seed)).eval())

    def by_scene(self, measure: Callable[[Tensor, NDArray[Any], NDArray[Any] | None], xr.Dataset]) -> xr.Dataset:
        """A measure of one scene, along scene.

        Parameters
        ----------
        measure : of the network's input (channels, h, w), the class indices (h, w), and the share of the sun (h, w),
            None where it is not known.
        """
        parts = []
        for index, name in enumerate(self.names):
            image, truth = self.scenes[index]
            light = sunlit(self.data, [name])
            parts.append(measure(image, truth.numpy(), None if light is None else light[0]))
        return xr.concat(parts, dim=xr.Variable("scene", self.names))


def sunlit(data: Source, names: Sequence[str]) -> list[NDArray[np.float32]] | None:
    """Share of the sun that reaches each pixel, for every scene; None where it is unknown, as in real data."""
    truths = [data.truth(name) for name in names]
    shares = [np.asarray(truth["sunlit"].values, dtype=np.float32) for truth in truths if truth is not None]
    return shares if len(shares) == len(names) else None


def study(
    run: "Run",
    kind: str,
    build: Callable[..., xr.Dataset],
    over: Network | Sequence[Network],
    scenes: Sequence[str] | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Measure one network, or several together, and keep what is found.

    Parameters
    ----------
    kind : of the artefact.
    build : called with the `Subject`, or with a list of them, and the settings; a function at the top of a module.
    over : the network, or the networks.
    scenes : names; all test scenes by default.
    settings : JSON-able values.

    Returns
    -------
    What `build` found, but for variables with the units "s": measured times differ from run to run, and stand in the
    manifest of the artefact. With `neighbours`.
    """
    alone = isinstance(over[0], str)
    keys, subjects = _asked(run, cast(list[Network], [over] if alone else over), scenes)
    inputs = {**(keys[0] if alone else {"networks": keys}), **settings}
    made = store.artefact(kind, partial(_fill, subjects=subjects, build=build, alone=alone, settings=settings), inputs)
    return neighbours(run.data, read(made.folder / FILE))


def together(run: "Run", kind: str, build: "Survey", network: Network, others: Sequence[Network]) -> store.Artefact:
    """Measure a network on all test scenes, and where it is not known yet others, too, in one pass over them.

    `build` is called with several subjects, and gives Datasets by name for each, which become files of this name. Each
    network has an artefact. Nobody looks for those of the others if its own is there, or if it is none of them.
    """
    (key,), subjects = _asked(run, [network])
    if made := store.find(kind, partial(_fill_many, subjects=subjects, build=build), key):
        return made
    wanted = list(others) if network in others else [network]
    keys, subjects = _asked(run, wanted)
    return store.artefacts(kind, partial(_fill_many, subjects=subjects, build=build), keys)[wanted.index(network)]


def over_networks(
    run: "Run",
    measure: Callable[..., xr.Dataset],
    variants: Sequence[str] | None = None,
    *,
    progress: bool = False,
    **options: Any,
) -> xr.Dataset:
    """A measure of every network of some variants (the run's by default), with the dimensions variant and seed.

    `measure` is called with the run, a variant, a seed, and the options.
    """
    names = list(run.variants if variants is None else variants)
    networks = tqdm(list(product(names, run.seeds)), unit="network", disable=not progress)
    found = {network: measure(run, *network, **options) for network in networks}
    seeds = xr.Variable("seed", list(run.seeds))
    rows = [xr.concat([found[name, seed] for seed in run.seeds], dim=seeds) for name in names]
    return xr.concat(rows, dim=xr.Variable("variant", names), join="outer")  # inputs differ in their channels


def measured(folder: Path, run: "Run", variant: str, seed: int, **measures: Callable[..., xr.Dataset]) -> None:
    """Several measures of one network, each as NAME.nc of a folder; each is called as by `over_networks`."""
    for name, measure in measures.items():
        _write(measure(run, variant, seed), folder / f"{name}.nc")


def read(path: Path) -> xr.Dataset:
    """One file of a study."""
    return xr.load_dataset(path, engine="h5netcdf")


def neighbours(data: Source, found: xr.Dataset) -> xr.Dataset:
    """With the coordinate `SEQUENCE` of real scenes, by which `hsiutils.analysis.intervals.interval` draws them.

    Images with consecutive numbers show the same street minutes apart (`hsiutils.data.splits.sequences`). Simulated
    scenes are rendered one by one, and names that are not HSI-Drive's tell nothing: each of those is drawn alone.
    """
    if data.origin != "real" or "scene" not in found.variables:
        return found
    names = found["scene"].astype(str)
    try:
        groups = sequences(list(dict.fromkeys(names.values.tolist())))
    except ValueError:
        return found
    number = {name: place for place, own in enumerate(groups) for name in own}
    return found.assign_coords({SEQUENCE: (names.dims, [number[name] for name in names.values])})


def _write(found: xr.Dataset, path: Path) -> dict[str, Any]:
    """Write what is the same each time, and return the measured times, which are not, for the manifest."""
    # netCDF has no booleans.
    attrs = {key: int(value) if isinstance(value, bool) else value for key, value in found.attrs.items()}
    times = [name for name in found if found[name].attrs.get("units") == "s"]
    found.drop_vars(times).assign_attrs(attrs).to_netcdf(path, engine="h5netcdf")
    return found[times].to_dict() if times else {}


Subjects = Callable[..., list[Subject]]
Survey = Callable[[Sequence[Subject]], list[dict[str, xr.Dataset]]]


def _asked(
    run: "Run", networks: Sequence[Network], scenes: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], Subjects]:
    """What tells the study of each network from others, and what loads some of them, by index, when it comes to it."""
    names = run.data.names("test") if scenes is None else list(scenes)
    trained = run.networks(networks, progress=False)
    keys = [{"model": one.key, "data": run.data_key, "scenes": names} for one in trained]
    folders = [one.folder for one in trained]
    return keys, partial(_subjects, networks=networks, folders=folders, data=run.data, names=names)


def _subjects(
    chosen: Iterable[int] | None = None,
    *,
    networks: Sequence[Network],
    folders: Sequence[Path],
    data: Source,
    names: Sequence[str],
) -> list[Subject]:
    scenes: dict[str, Scenes] = {}
    subjects = []
    for index in range(len(networks)) if chosen is None else chosen:
        (variant, seed), trained = networks[index], load_trained(folders[index])
        if trained.variant is None:
            raise ValueError(f"{folders[index]}: the training kept no variant")
        scenes.setdefault(variant, data.scenes(names, trained.variant))
        subjects.append(Subject(variant, seed, trained.model, scenes[variant], data))
    return subjects


def _fill(
    folder: Path, subjects: Subjects, build: Callable[..., xr.Dataset], alone: bool, settings: Mapping[str, Any]
) -> dict[str, Any]:
    chosen = subjects()
    return _write(build(chosen[0] if alone else chosen, **settings), folder / FILE)


def _fill_many(folders: Mapping[int, Path], subjects: Subjects, build: Survey) -> None:
    for folder, found in zip(folders.values(), build(subjects(folders)), strict=True):
        for name, one in found.items():
            _write(one, folder / f"{name}.nc")
