"""Training of networks, one or many, and the folder that each leaves behind.

A folder holds `weights.safetensors` (the best epoch), `history.csv` and `training.json` (settings and outcome); while
training runs also `last.ckpt`, from which it continues after a kill. `train` takes a data set, `fit` the scenes
themselves, and `fit_many` runs many trainings side by side: small networks gain more from several processes than from
several threads.
"""

import json
import multiprocessing
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from hsiutils.data.atomic import write_atomically
from hsiutils.data.classes import inverse_frequency_weights
from hsiutils.data.inputs import FittedVariant, fit_inputs
from hsiutils.data.source import Source
from hsiutils.models.batches import EpochSampler, Held, Scenes, examine, loader, require_batches
from hsiutils.models.files import HISTORY, MANIFEST, WEIGHTS, load_model, read_history, read_json
from hsiutils.models.segmenter import (
    AUTHORS,
    LAST,
    Progress,
    Recipe,
    Record,
    Segmenter,
    isolated,
    precision,
    share_norms,
    trainer,
)
from hsiutils.models.unet import UNet, UNetConfig


def train(
    data: Source,
    inputs: FittedVariant,
    folder: Path | str,
    *,
    config: UNetConfig | None = None,
    recipe: Recipe = AUTHORS,
    seed: int = 0,
    progress: bool | Progress = True,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
) -> UNet:
    """Train a network on the training scenes of a data set; a front door to `fit`.

    Parameters
    ----------
    data : its splits "train" and "val" are used, and its classes name the outputs.
    inputs : what makes the network's input of a cube (`hsiutils.data.inputs.fit_inputs`).
    folder : made if needed; a training that was killed continues there, a finished one is returned at once.
    config : depth, filters and the like; channels and classes are those of the inputs and the data. None for the
        paper's network.
    recipe, seed, progress, device, devices, num_nodes, strategy : as in `fit`; class weights "published" are those of
        `data.classes`.

    Returns
    -------
    The best network, in evaluation mode on the CPU; `hsiutils.models.files.load_trained` reads the whole folder.

    Raises
    ------
    ValueError
        As `fit`, before training; and if a split has no scenes, or nobody published the classes' frequencies.
    RuntimeError
        If the loss is no longer finite.

    Examples
    --------
    >>> import hsiutils as hu
    >>> from hsiutils.models.segmenter import Recipe
    >>> data = hu.simulate_dataset("HSI-Drive", scenes=5, tiles=(8, 16), workers=1, progress=False)
    >>> inputs, small = hu.fit_inputs("25-PN", data), hu.UNetConfig(depth=1, filters=2)
    >>> model = hu.train(data, inputs, "network", config=small, recipe=Recipe(epochs=1, batch=1), progress=False)
    >>> model.config.names[:2], hu.load_model("network").config == model.config
    (('Road', 'Road Marks'), True)
    """
    names, shares = data.classes.names, data.classes.frequencies
    if recipe.class_weights == "published":
        if shares is None:
            raise ValueError(f"{data.root}: nobody published its classes' frequencies; take other class weights")
        recipe = replace(recipe, class_weights=tuple(inverse_frequency_weights(shares).tolist()))
    chosen = replace(config or UNetConfig(), channels=inputs.channels, classes=len(names), class_names=names)
    learnt, judged = (data.scenes(split, inputs) for split in ("train", "val"))
    fit(
        learnt,
        judged,
        chosen,
        recipe,
        seed,
        Path(folder),
        variant=inputs,
        progress=progress,
        device=device,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
    )
    return load_model(folder)


def fit(
    train: Scenes,
    val: Scenes,
    config: UNetConfig,
    recipe: Recipe,
    seed: int,
    folder: Path,
    *,
    variant: FittedVariant | None = None,
    progress: bool | Progress = True,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
) -> pd.DataFrame:
    """Train one network, or continue where an earlier call was killed, or return at once if it had finished.

    The same arguments on the same machine with the same number of threads give the same weights, byte for byte, also
    when training was interrupted in between. The global random state is restored.

    Parameters
    ----------
    train, val : scenes to learn from and to choose the best epoch by, all of one size. They are read once before
        training (`hsiutils.models.batches.examine`), held if they fit in memory, and known again by what is in them.
    config, recipe, seed : network, training and every random choice in them. `config.class_names` names the classes.
    folder : made if needed; see the module.
    variant : what made the images from cubes; kept in `training.json` for `load_trained`.
    progress : True for a bar with an estimate, or a function to call after every epoch.
    device : "auto", "cpu", "cuda" or "cuda:1".
    devices, num_nodes, strategy : of Lightning's trainer, for a training in several processes that share every batch
        ("ddp", started by Lightning from a script or by `torchrun`). `Recipe.batch` counts the images of all, and they
        normalise by the statistics of all: but for rounding and dropout, the outcome is that of one process.

    Returns
    -------
    History, one row an epoch: epoch (from 1), learning_rate, train_loss, val_loss (with the L2 penalty, as Keras
    reports it), val_weighted_iou, val_mean_iou and "val_iou NAME" for every class; NaN where nothing was validated.

    Raises
    ------
    ValueError
        Before training: if the scenes cannot be learnt from or judged by, or the folder holds a training with other
        settings or scenes.
    RuntimeError
        If the loss is no longer finite.
    """
    used = precision(recipe.precision, device)
    dtype = torch.bfloat16 if used == "bf16-mixed" else torch.float32
    learnt, judged = (examine(*one, dtype) for one in ((train, config, "training"), (val, config, "validation")))
    if not (learnt.frequencies * judged.frequencies).any():
        raise ValueError("the validation scenes show no class that the training scenes have: nothing to judge by")
    require_batches(train, config, recipe.batch, devices * num_nodes)
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"config": asdict(config), "recipe": asdict(recipe), "seed": seed}
    settings["variant"] = None if variant is None else variant.to_dict()
    settings["scenes"] = {"train": learnt.fingerprint, "val": judged.fingerprint}
    settings = json.loads(json.dumps(settings))  # as it will be read back: tuples become lists
    manifest = _read_manifest(folder, settings)
    if manifest.get("finished") and (folder / WEIGHTS).is_file():
        return read_history(folder)
    segmenter = Segmenter(UNet(config, torch.Generator().manual_seed(seed)), recipe, learnt.frequencies, seed)
    settings["precision"] = used
    _write_manifest(folder, {**settings, "finished": False})
    with isolated(seed), _reporting(progress, folder.name) as report:
        record = Record(folder / WEIGHTS, recipe, config.names, report)
        harness = trainer(recipe, folder, record, device, devices, num_nodes, strategy)
        if harness.world_size > 1:
            share_norms(segmenter.model)
        for held in (learnt.scenes, judged.scenes):
            if isinstance(held, Held):
                held.to(harness.strategy.root_device)
        order = EpochSampler(train, seed, harness.global_rank, harness.world_size)
        batches = loader(learnt.scenes, recipe.batch // harness.world_size, order)
        checkpoint = _checkpoint(folder)
        harness.fit(segmenter, batches, loader(judged.scenes, recipe.batch), ckpt_path=checkpoint, weights_only=True)
        if harness.is_global_zero:
            _finish(folder, settings, record, learnt.frequencies)
        harness.strategy.barrier()
    return read_history(folder)


def _checkpoint(folder: Path) -> Path | None:
    """The checkpoint to continue from; a damaged one is as good as none."""
    path = folder / LAST
    if not path.is_file():
        return None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is None:
                return path
    warnings.warn(f"{path} is damaged: training starts afresh", stacklevel=3)
    path.unlink()
    return None


def _read_manifest(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an earlier call with the same settings, or an empty one."""
    if not (folder / MANIFEST).exists():
        return {}
    manifest = read_json(folder / MANIFEST)
    other = [name for name, value in settings.items() if manifest.get(name) != value]
    if other:
        raise ValueError(
            f"{folder} holds a training with other {' and '.join(other)}: delete it, or take another folder"
        )
    return manifest


def _finish(folder: Path, settings: Mapping[str, Any], record: Record, frequencies: NDArray[np.float64]) -> None:
    """Write history and manifest, the manifest last: it says that all is there."""
    history = pd.DataFrame(record.rows).astype({"epoch": int})
    write_atomically(folder / HISTORY, history.to_csv(index=False))
    outcome = {
        "finished": True,
        "epochs_run": len(history),
        "best_epoch": record.best_epoch,
        "best_val_weighted_iou": record.best_iou,
        "class_frequencies": frequencies.tolist(),
        "torch": str(torch.__version__),
    }
    _write_manifest(folder, {**settings, **outcome})
    (folder / LAST).unlink(missing_ok=True)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


@contextmanager
def _reporting(progress: bool | Progress, name: str) -> Iterator[Progress]:
    if not isinstance(progress, bool):
        yield progress
        return
    with tqdm(desc=name, unit="epoch", disable=not progress) as bar:

        def report(done: int, total: int, row: Mapping[str, float]) -> None:
            bar.total = total
            bar.set_postfix(loss=f"{row['train_loss']:.3f}", iou=f"{row['val_weighted_iou']:.3f}", refresh=False)
            bar.update(done - bar.n)

        yield report


Messages: TypeAlias = SimpleQueue[tuple[int, int] | None]
Outcome: TypeAlias = pd.DataFrame | BaseException


class Job(NamedTuple):
    """Arguments of one `fit`; the data sets travel to another process and open files there."""

    train: Scenes
    val: Scenes
    config: UNetConfig
    recipe: Recipe
    seed: int
    folder: Path
    variant: FittedVariant | None = None


class JobsFailed(RuntimeError):
    """Some trainings failed; the others are complete. `errors` holds the cause by folder."""

    def __init__(self, errors: Mapping[Path, BaseException], jobs: int) -> None:
        self.errors = dict(errors)
        causes = "\n".join(f"  {folder}: {type(error).__name__}: {error}" for folder, error in errors.items())
        super().__init__(f"{len(errors)} of {jobs} trainings failed, the others are complete:\n{causes}")


def fit_many(jobs: Sequence[Job], workers: int = 2, progress: bool = True) -> list[pd.DataFrame]:
    """Run independent trainings in spawned processes, one torch thread each; their histories in the order of the jobs.

    One thread a process is also what makes a result independent of the number of processes. Each training resumes or
    returns at once as `fit` does; with several GPUs each training takes one in turn. A failing training does not stop
    the others, and is raised as `JobsFailed` after them; where a process is killed (out of memory, say), the trainings
    that it took down are tried once more.

    Parameters
    ----------
    jobs : with a folder of its own each.
    workers : processes.
    progress : one bar over all epochs, with an estimate.
    """
    if len({job.folder for job in jobs}) < len(jobs):
        raise ValueError("two jobs share a folder: give each its own")
    outcomes: dict[int, Outcome] = {index: BrokenProcessPool("not yet run") for index in range(len(jobs))}
    with _progress(jobs, progress) as messages:
        for _attempt in range(2):
            left = [index for index, outcome in outcomes.items() if isinstance(outcome, BrokenProcessPool)]
            if left:
                outcomes |= _run(jobs, left, workers, messages)
    errors = {jobs[index].folder: error for index, error in outcomes.items() if isinstance(error, BaseException)}
    if errors:
        raise JobsFailed(errors, len(jobs))
    return [history for history in outcomes.values() if isinstance(history, pd.DataFrame)]


def train_networks(
    folders: Mapping[int, Path],
    networks: Sequence[tuple[str, int]],
    data: Source,
    config: UNetConfig,
    recipe: Recipe,
    workers: int,
    progress: bool,
) -> None:
    """Train networks (variant, seed) of several inputs and seeds on one data set, side by side, each in its folder.

    Parameters
    ----------
    folders : by index in `networks`, of those to train.
    config : of the networks; the channels are those of their input.

    Raises
    ------
    RuntimeError
        If some trainings fail, naming variant and seed; the others are kept.
    """
    fitted = {name: fit_inputs(name, data) for name in dict.fromkeys(networks[index][0] for index in folders)}
    jobs = []
    for index, folder in folders.items():
        name, seed = networks[index]
        own = fitted[name]
        train, val = (data.scenes(split, own) for split in ("train", "val"))
        jobs.append(Job(train, val, replace(config, channels=own.channels), recipe, seed, folder, own))
    try:
        fit_many(jobs, workers, progress)
    except JobsFailed as failed:
        names = {folder: "variant {}, seed {}".format(*networks[index]) for index, folder in folders.items()}
        causes = "\n".join(f"  {names[folder]}: {error}" for folder, error in failed.errors.items())
        raise RuntimeError(f"{len(failed.errors)} of {len(jobs)} trainings failed:\n{causes}") from failed


def _run(jobs: Sequence[Job], indices: Sequence[int], workers: int, messages: Messages | None) -> dict[int, Outcome]:
    """Work through some of the jobs in one pool: a history or an error for each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(indices)), context, _begin, (messages,)) as pool:
        futures = {index: pool.submit(_work, jobs[index], index) for index in indices}
        try:
            return {index: future.exception() or future.result() for index, future in futures.items()}
        except BaseException:  # interrupted: what has not begun shall not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_messages: Messages | None = None
"""In a worker: where to tell how far it is. A queue can be handed to a process at its start only, not with a task."""


def _begin(messages: Messages | None) -> None:
    """Set a new worker up."""
    global _messages
    _messages = messages
    torch.set_num_threads(1)


def _work(job: Job, index: int) -> pd.DataFrame:
    """One training, in a process of its own."""
    gpus = torch.cuda.device_count()

    def tell(done: int, total: int, row: Mapping[str, float]) -> None:
        if _messages is not None:
            _messages.put((index, done))

    device = f"cuda:{index % gpus}" if gpus else "cpu"
    history = fit(*job[:6], variant=job.variant, progress=tell, device=device)
    tell(job.recipe.epochs, job.recipe.epochs, {})  # early stopping and finished folders leave nothing to wait for
    return history


@contextmanager
def _progress(jobs: Sequence[Job], wanted: bool) -> Iterator[Messages | None]:
    """A queue that processes put (job, epochs done) into, and a bar that shows their sum."""
    if not wanted:
        yield None
        return
    messages: Messages = multiprocessing.get_context("spawn").SimpleQueue()
    with tqdm(total=sum(job.recipe.epochs for job in jobs), unit="epoch") as bar:

        def show() -> None:
            done: dict[int, int] = {}
            while (message := messages.get()) is not None:
                done |= [message]
                bar.set_description(f"training {len(done)} networks", refresh=False)
                bar.update(sum(done.values()) - bar.n)

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield messages
        finally:
            messages.put(None)
            thread.join()
