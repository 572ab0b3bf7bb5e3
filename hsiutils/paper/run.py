"""From nothing to scores, each step an artefact: scenes, trained networks, counts on the test scenes.

Every step asks for the ones before it, so a chapter can start anywhere and runs alone.

How much of everything: the same code path from a smoke test to the paper's full size.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from hsiutils import simulate
from hsiutils.data.classes import CLASSES
from hsiutils.data.inputs import FittedVariant, fit_inputs, variant
from hsiutils.data.source import Scenes, Source, fingerprint, open_dataset
from hsiutils.models.metrics import evaluate
from hsiutils.models.segmenter import AUTHORS, Recipe
from hsiutils.models.train import Job, JobsFailed, Trained, fit_many, load_trained
from hsiutils.models.unet import UNetConfig
from hsiutils.paper import published, store


@dataclass(frozen=True)
class Profile:
    """Sizes of a run.

    Attributes
    ----------
    scenes : simulated images in all, cut into train, val and test as HS3-Bench cuts the real ones (.6, .2, .2).
    tiles : (rows, columns) of a simulated cube; the lens and its field of view stay the same.
    variants : network inputs that are compared.
    models : networks trained of each variant, from different seeds; the spread over them is shown with every score.
    depth, filters : of the U-Net.
    norm_momentum : weight of the newest batch in the statistics of batch normalisation. Keras' 0.01 needs hundreds of
        steps to forget where it started; short trainings take 0.1.
    recipe : of its training.
    """

    name: str
    scenes: int
    tiles: tuple[int, int]
    variants: tuple[str, ...]
    models: int
    depth: int
    filters: int
    norm_momentum: float
    recipe: Recipe


VARIANTS = ("1", "3", "25", "25-PN", "PCA-1")
"""The paper's four inputs and the one principal component that HS3-Bench found best (arXiv 2409.11205)."""
PROFILES: tuple[Profile, ...] = (
    Profile(
        name="smoke",
        scenes=20,
        tiles=(32, 64),
        variants=("1", "3", "25", "25-PN"),
        models=3,
        depth=5,
        filters=2,
        norm_momentum=0.1,
        recipe=Recipe(epochs=2, batch=2, learning_rate=3e-3, schedule="one-cycle"),
    ),
    Profile(
        name="quick",
        scenes=130,
        tiles=(96, 192),
        variants=VARIANTS,
        models=3,
        depth=5,
        filters=8,
        norm_momentum=0.1,
        recipe=Recipe(epochs=10, batch=2, learning_rate=3e-3, schedule="one-cycle", validate_every=2),
    ),
    Profile(
        name="paper",
        scenes=752,
        tiles=(216, 409),
        variants=VARIANTS,
        models=3,
        depth=5,
        filters=32,
        norm_momentum=0.01,
        recipe=AUTHORS,
    ),
)


def profile(name: str) -> Profile:
    """Return a profile by its name.

    Raises
    ------
    ValueError
        If there is no such profile.
    """
    for candidate in PROFILES:
        if candidate.name == name:
            return candidate
    raise ValueError(f"unknown profile {name!r}: expected one of {', '.join(known.name for known in PROFILES)}")


COUNTS = "counts.nc"


@dataclass(frozen=True)
class Run:
    """What a run of the book is made with.

    Attributes
    ----------
    profile : sizes.
    seed : of the simulated scenes and of the first model of each variant.
    data_root : folder of HSI-Drive; None for simulated scenes.
    variants : network inputs to compare, by name.
    weights : published Keras file (`hsiutils.paper.published`), which then is the run's only network; `variants` names
        its one input. None for networks that the run trains. The ledger judges what several trainings say, and is not
        made for such a run.

    Raises
    ------
    ValueError
        If there are `weights`, and not exactly one variant.
    """

    profile: Profile
    seed: int = 0
    data_root: Path | None = None
    variants: tuple[str, ...] = ()
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and len(self.variants) != 1:
            named = ", ".join(self.variants) or "none"
            raise ValueError(f"{self.weights} is one network, and takes one input variant; got {named}")

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed for every model of a variant."""
        return tuple(range(self.seed, self.seed + (self.profile.models if self.weights is None else 1)))

    @property
    def first(self) -> str:
        """What the first network of a variant is called: by its seed, or by its file."""
        return f"seed {self.seed}" if self.weights is None else self.weights.name

    @property
    def replicates(self) -> str:
        """How many networks stand behind a figure of one variant, in words."""
        count = len(self.seeds)
        return f"{count} seeds" if count > 1 else "one network, no spread over seeds"


def workers() -> int:
    """Processes to use: one a core."""
    return os.cpu_count() or 1


def data(run: Run, progress: bool = True) -> Source:
    """Open the data set of a run; simulated scenes are rendered first if they are not there.

    Raises
    ------
    hsiutils.data.layouts.DatasetError
        If `run.data_root` holds no data set.
    """
    if run.data_root is not None:
        return open_dataset(run.data_root)
    return open_dataset(_simulated(run, progress).folder)


def data_key(run: Run) -> str:
    """Name that changes whenever the data set does."""
    if run.data_root is not None:
        return f"{run.data_root.name}-{fingerprint(run.data_root)}"
    return _simulated(run, progress=True).key


def train_all(run: Run, progress: bool = True) -> None:
    """Train every network of a run that is not there yet, side by side.

    Raises
    ------
    RuntimeError
        If some trainings fail, naming variant and seed; the others are kept.
    """
    models(run, [(name, seed) for name in run.variants for seed in run.seeds], progress)


def models(run: Run, wanted: Sequence[tuple[str, int]], progress: bool = True) -> list[store.Artefact]:
    """Return the artefacts of the networks (variant, seed), training those that are missing.

    Raises
    ------
    FileNotFoundError, ValueError
        If the run's `weights` are no network for its variant, or one of another seed is wanted.
    """
    drive, key = data(run, progress), data_key(run)
    if run.weights is not None:
        return [_published(run, run.weights, key, name, seed) for name, seed in wanted]
    requests = [_model_request(run, key, name, seed) for name, seed in wanted]

    def build(folders: dict[int, Path]) -> None:
        fitted = {name: _fitted(run, key, name) for name in {wanted[index][0] for index in folders}}
        jobs = {folder: _job(run, drive, fitted[wanted[i][0]], wanted[i][1], folder) for i, folder in folders.items()}
        try:
            fit_many(list(jobs.values()), workers(), progress)
        except JobsFailed as failed:
            names = {folder: "variant {}, seed {}".format(*wanted[index]) for index, folder in folders.items()}
            causes = "\n".join(f"  {names[folder]}: {error}" for folder, error in failed.errors.items())
            raise RuntimeError(f"{len(failed.errors)} of {len(jobs)} trainings failed:\n{causes}") from failed

    return store.artefacts(requests, build)


def model(run: Run, name: str, seed: int | None = None) -> Trained:
    """Return one trained network with its fitted variant; the run's first seed by default."""
    (trained,) = models(run, [(name, run.seed if seed is None else seed)])
    return load_trained(trained.folder)


def remarks(run: Run) -> tuple[str, ...]:
    """What to know of the run's networks before reading on: nothing of those that it trains itself."""
    if run.weights is None:
        return ()
    (name,) = run.variants
    return published.remarks(run.weights, _fitted(run, data_key(run), name), data(run).origin)


def inputs(run: Run, name: str, scenes: Sequence[str]) -> Scenes:
    """Return scenes as a network of a variant sees them."""
    return data(run).scenes(scenes, _fitted(run, data_key(run), name))


def evaluation(run: Run, progress: bool = True) -> xr.Dataset:
    """Counts of every network on the test scenes; `hsiutils.models.metrics.scores` makes figures of merit of them.

    Returns
    -------
    Dataset as of `hsiutils.models.metrics.evaluate`, with the dimensions variant and seed before the others, and the
    attribute `origin`: "simulated" or "real".
    """
    train_all(run, progress)
    pairs = [(name, seed) for name in run.variants for seed in run.seeds]
    bar = tqdm(pairs, desc="evaluate", unit="model", disable=not progress)
    parts = [_counts(run, name, seed) for name, seed in bar]
    by_variant = [
        xr.concat(parts[i : i + len(run.seeds)], dim=xr.Variable("seed", list(run.seeds)))
        for i in range(0, len(parts), len(run.seeds))
    ]
    counts = xr.concat(by_variant, dim=xr.Variable("variant", list(run.variants)))
    return counts.assign_attrs(origin=data(run).origin, profile=run.profile.name)


def sunlit(drive: Source, names: Sequence[str]) -> list[NDArray[np.float32]] | None:
    """Share of the sun that reaches each pixel, for every scene; None where nobody knows, as in the real data set."""
    truths = [drive.truth(name) for name in names]
    shares = [np.asarray(truth["sunlit"].values, dtype=np.float32) for truth in truths if truth is not None]
    return shares if len(shares) == len(names) else None


@cache
def _simulated(run: Run, progress: bool) -> store.Artefact:
    names = simulate.draw_names(run.profile.scenes, run.seed)
    return simulated(names, simulate.Simulation(seed=run.seed, tiles=run.profile.tiles), progress)


def simulated(names: Sequence[str], settings: simulate.Simulation, progress: bool = True) -> store.Artefact:
    """Return the data set of these scenes, rendering what is not there."""
    return store.artefact(
        "data",
        {"names": list(names), "simulation": settings},
        ("hsiutils.simulate.files",),
        lambda folder: simulate.write_dataset(folder, names, settings, workers(), progress),
        resumable=True,
    )


def _config(run: Run, channels: int) -> UNetConfig:
    own = run.profile
    return UNetConfig(
        channels, len(CLASSES), own.depth, own.filters, norm_momentum=own.norm_momentum, class_names=CLASSES
    )


def _model_request(run: Run, key: str, name: str, seed: int) -> store.Request:
    profile = run.profile
    settings: dict[str, Any] = {"depth": profile.depth, "filters": profile.filters}
    settings |= {"norm_momentum": profile.norm_momentum, "recipe": profile.recipe}
    return store.Request(
        "model",
        {"data": key, "variant": variant(name), "seed": seed, **settings},
        ("hsiutils.models.train", "hsiutils.data.hsidrive"),
        resumable=True,
    )


def _published(run: Run, path: Path, key: str, name: str, seed: int) -> store.Artefact:
    """The artefact of the run's `weights`, by what the file holds and not by its name."""
    if seed not in run.seeds:
        raise ValueError(f"{path} is one network, of seed {run.seed} as the run counts; there is none of seed {seed}")
    return store.artefact(
        "model",
        {"data": key, "variant": variant(name), "weights": _contents(path)},
        ("hsiutils.paper.published", "hsiutils.data.hsidrive"),
        lambda folder: published.keep(path, _fitted(run, key, name), folder),
    )


def _contents(path: Path) -> str:
    """Hash of a file, which is read again only if its size or time changed."""
    if not path.is_file():
        raise FileNotFoundError(f"no Keras weights at {path}")
    stat = path.stat()
    return _hash_once(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash_once(path: Path, size: int, modified: int) -> str:
    return store.file_hash(path)


def _job(run: Run, drive: Source, fitted: FittedVariant, seed: int, folder: Path) -> Job:
    train, val = (drive.scenes(split, fitted, cache=True) for split in ("train", "val"))
    return Job(train, val, _config(run, fitted.channels), run.profile.recipe, seed, folder, fitted)


@cache
def _fitted(run: Run, key: str, name: str) -> FittedVariant:
    return fit_inputs(name, data(run))


def _counts(run: Run, name: str, seed: int) -> xr.Dataset:
    (trained,) = models(run, [(name, seed)], progress=False)
    made = store.artefact(
        "counts",
        {"model": trained.key, "data": data_key(run)},
        ("hsiutils.models.metrics", "hsiutils.data.hsidrive"),
        lambda folder: _evaluate(run, trained.folder, folder),
    )
    return xr.load_dataset(made.folder / COUNTS, engine="h5netcdf")


def _evaluate(run: Run, trained: Path, folder: Path) -> None:
    drive, network = data(run), load_trained(trained)
    if network.variant is None:
        raise ValueError(f"{trained}: the training kept no variant")
    names = drive.names("test")
    counts = evaluate(network.model, drive.scenes(names, network.variant), names, sunlit=sunlit(drive, names))
    counts.to_netcdf(folder / COUNTS, engine="h5netcdf")
