"""Training one variant's network: recipe, Lightning module, resume after a kill, and the folder it leaves behind.

The harness is PyTorch Lightning. A folder holds `weights.safetensors` (the best epoch), `history.csv` and
`training.json` (settings and outcome); while training runs also `last.ckpt`, from which it continues after a kill.

Many trainings side by side: small networks gain more from several processes than from several threads.
"""

import json
import logging
import multiprocessing
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader
from tqdm import tqdm

from hsiutils.data.atomic import write_atomically
from hsiutils.data.classes import CLASSES
from hsiutils.data.inputs import FittedVariant
from hsiutils.models import unet
from hsiutils.models.segmenter import EpochSampler, Recipe, Scenes, Segmenter, label_frequencies
from hsiutils.models.unet import UNet, UNetConfig

WEIGHTS, HISTORY, MANIFEST, LAST = "weights.safetensors", "history.csv", "training.json", "last.ckpt"


@dataclass(frozen=True)
class Trained:
    """A folder that `fit` left behind: the network in evaluation mode, and what is known about it."""

    model: UNet
    variant: FittedVariant | None
    history: pd.DataFrame
    manifest: dict[str, Any]


class Report(Protocol):
    """Somebody who wants to know how far a training is."""

    def __call__(self, done: int, total: int, row: Mapping[str, float]) -> None:
        """`done` of `total` epochs; the newest row of the history."""


def fit(
    train: Scenes,
    val: Scenes,
    config: UNetConfig,
    recipe: Recipe,
    seed: int,
    folder: Path,
    *,
    variant: FittedVariant | None = None,
    classes: Sequence[str] = CLASSES,
    progress: bool | Report = True,
    device: str = "auto",
) -> pd.DataFrame:
    """Train one network, or continue where an earlier call was killed, or return at once if it had finished.

    The same arguments on the same machine with the same number of threads give the same weights, byte for byte, also
    when training was interrupted in between. The global random state is restored.

    Parameters
    ----------
    train, val : scenes to learn from and to choose the best epoch by.
    config, recipe, seed : network, training and every random choice in them.
    folder : made if needed; see the module.
    variant : what made the images from cubes; kept in `training.json` for `load_trained`.
    classes : names, one for each output of the network.
    progress : True for a bar with an estimate, or a function to call after every epoch.
    device : "auto", "cpu", "cuda" or "cuda:1".

    Returns
    -------
    History, one row an epoch: epoch (from 1), learning_rate, train_loss, val_loss (with the L2 penalty, as Keras
    reports it), val_weighted_iou, val_mean_iou and "val_iou NAME" for every class; NaN where nothing was validated.

    Raises
    ------
    ValueError
        If the folder holds a training with other settings, or labels and classes do not fit together.
    RuntimeError
        If the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = _settings(config, recipe, seed, classes, variant)
    manifest = _read_manifest(folder, settings)
    if manifest.get("finished") and (folder / WEIGHTS).is_file():
        return read_history(folder)
    started = time.monotonic()
    frequencies = label_frequencies(train, len(classes))
    _write_json(folder / MANIFEST, {**settings, "finished": False})
    record = Record(folder, recipe, tuple(classes))
    with _reproducible(seed), _quiet(), _reporting(progress, folder.name) as report:
        model = UNet(config, torch.Generator().manual_seed(seed))
        segmenter = Segmenter(model, recipe, frequencies, tuple(classes), seed)
        trainer = _trainer(recipe, folder, [record, _Reporter(record, report)], device)
        # With a generator of their own, or each new iterator would take a number from dropout's stream.
        batches = DataLoader(train, recipe.batch, sampler=EpochSampler(train, seed), generator=torch.Generator())
        judged = DataLoader(val, recipe.batch, generator=torch.Generator())
        trainer.fit(segmenter, batches, judged, ckpt_path=_checkpoint(folder), weights_only=True)
    return _finish(folder, settings, record, frequencies, time.monotonic() - started)


def load_model(folder: Path) -> UNet:
    """The best network of a training, in evaluation mode on the CPU."""
    return unet.load(folder / WEIGHTS)


def load_trained(folder: Path) -> Trained:
    """All that `fit` left in a folder.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or damaged, or training has not finished.
    """
    manifest = _read_json(folder / MANIFEST)
    if not manifest.get("finished"):
        raise ValueError(f"the training in {folder} has not finished: run it again, it will continue")
    stored = manifest["variant"]
    variant = None if stored is None else FittedVariant.from_dict(stored)
    return Trained(load_model(folder), variant, read_history(folder), manifest)


def read_history(folder: Path) -> pd.DataFrame:
    """The history that `fit` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or damaged.
    """
    path = folder / HISTORY
    try:
        history = pd.read_csv(path)
        if "epoch" not in history.columns or history.empty:
            raise ValueError("no epochs in it")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete its folder and train again") from error
    return history


class Record(Callback):
    """Keeps the history, and the weights of the epoch with the best validation weighted IoU."""

    def __init__(self, folder: Path, recipe: Recipe, classes: Sequence[str]) -> None:
        self.folder, self.recipe = folder, recipe
        self.validated = ["val_loss", "val_weighted_iou", "val_mean_iou", *(f"val_iou {name}" for name in classes)]
        self.rows: list[dict[str, float]] = []
        self.best_epoch, self.best_iou = 0, -np.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row; write the weights if they are the best so far (the first of equals, as Keras does)."""
        epoch = trainer.current_epoch + 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not np.isfinite(metrics["train_loss"]):
            raise RuntimeError(f"the loss is {metrics['train_loss']} in epoch {epoch}: lower Recipe.learning_rate")
        judged = epoch % self.recipe.validate_every == 0
        row = {name: metrics[name] if judged else np.nan for name in self.validated}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append({"epoch": epoch, "learning_rate": rate, "train_loss": metrics["train_loss"], **row})
        if row["val_weighted_iou"] > self.best_iou:
            self.best_epoch, self.best_iou = epoch, row["val_weighted_iou"]
            unet.save(cast(Segmenter, pl_module).model, self.folder / WEIGHTS)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to know; plain numbers, so that checkpoints load with weights_only."""
        return {"rows": self.rows, "best_epoch": self.best_epoch, "best_iou": float(self.best_iou)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows, self.best_epoch = list(state_dict["rows"]), state_dict["best_epoch"]
        self.best_iou = state_dict["best_iou"]


class _Reporter(Callback):
    def __init__(self, record: Record, report: Report) -> None:
        self.record, self.report = record, report

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.record.rows:  # resumed
            self.report(len(self.record.rows), self.record.recipe.epochs, self.record.rows[-1])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.report(len(self.record.rows), self.record.recipe.epochs, self.record.rows[-1])


def _trainer(recipe: Recipe, folder: Path, callbacks: list[Callback], device: str) -> pl.Trainer:
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    kind, _, index = name.partition(":")
    gpu = kind == "cuda"
    stop = EarlyStopping("val_loss", recipe.min_delta, recipe.patience, check_finite=False)
    last = ModelCheckpoint(folder, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=[int(index or 0)] if gpu else 1,
        precision=_precision(recipe, gpu),
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=recipe.validate_every,
        callbacks=[*callbacks, stop, last],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn" if gpu else False,
    )


def _precision(recipe: Recipe, gpu: bool) -> Literal["32-true", "16-mixed", "bf16-mixed"]:
    if recipe.precision != "auto":
        return recipe.precision
    if not gpu:
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


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


def _settings(
    config: UNetConfig, recipe: Recipe, seed: int, classes: Sequence[str], variant: FittedVariant | None
) -> dict[str, Any]:
    stored = None if variant is None else variant.to_dict()
    settings = {"config": asdict(config), "recipe": asdict(recipe), "seed": seed}
    settings |= {"classes": list(classes), "variant": stored}
    return cast(dict[str, Any], json.loads(json.dumps(settings)))  # as it will be read back: tuples become lists


def _read_manifest(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an earlier call with the same settings, or an empty one."""
    if not (folder / MANIFEST).exists():
        return {}
    manifest = _read_json(folder / MANIFEST)
    other = [name for name, value in settings.items() if manifest.get(name) != value]
    if other:
        raise ValueError(
            f"{folder} holds a training with another {' and '.join(other)}: delete it, or take another folder"
        )
    return manifest


def _finish(
    folder: Path, settings: Mapping[str, Any], record: Record, frequencies: NDArray[np.float64], seconds: float
) -> pd.DataFrame:
    """Write history and manifest, the manifest last: it says that all is there."""
    if not record.best_epoch:
        raise ValueError(f"no epoch of {folder} has a validation IoU: are the validation scenes labelled?")
    history = pd.DataFrame(record.rows).astype({"epoch": int})
    write_atomically(folder / HISTORY, history.to_csv(index=False))
    outcome = {
        "finished": True,
        "epochs_run": len(history),
        "best_epoch": record.best_epoch,
        "best_val_weighted_iou": record.best_iou,
        "class_frequencies": frequencies.tolist(),
        "seconds": round(seconds, 1),
        "torch": str(torch.__version__),
    }
    _write_json(folder / MANIFEST, {**settings, **outcome})
    (folder / LAST).unlink(missing_ok=True)
    return history


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch inside, restore everything global outside."""
    gpus = list(range(torch.cuda.device_count()))
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's remarks on loggers, workers and GPUs: nothing here that a reader could act on."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _reporting(progress: bool | Report, name: str) -> Iterator[Report]:
    if not isinstance(progress, bool):
        yield progress
        return
    with tqdm(desc=name, unit="epoch", disable=not progress) as bar:

        def report(done: int, total: int, row: Mapping[str, float]) -> None:
            bar.total = total
            bar.set_postfix(loss=f"{row['train_loss']:.3f}", iou=f"{row['val_weighted_iou']:.3f}", refresh=False)
            bar.update(done - bar.n)

        yield report


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: train this variant first")
    try:
        return cast(dict[str, Any], json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete its folder and train again") from error


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(value, indent=2) + "\n")


Messages: TypeAlias = SimpleQueue[tuple[int, int] | None]
Outcome: TypeAlias = pd.DataFrame | BaseException


@dataclass(frozen=True)
class Job:
    """Arguments of one `hsiutils.models.train.fit`; the data sets travel to another process and open files there."""

    train: Scenes
    val: Scenes
    config: UNetConfig
    recipe: Recipe
    seed: int
    folder: Path
    variant: FittedVariant | None = None
    classes: tuple[str, ...] = CLASSES


class JobsFailed(RuntimeError):
    """Some trainings failed; the others are complete. `errors` holds the cause by folder."""

    def __init__(self, errors: Mapping[Path, BaseException], jobs: int) -> None:
        self.errors = dict(errors)
        causes = "\n".join(f"  {folder}: {type(error).__name__}: {error}" for folder, error in errors.items())
        super().__init__(f"{len(errors)} of {jobs} trainings failed, the others are complete:\n{causes}")


def fit_many(jobs: Sequence[Job], workers: int = 2, progress: bool = True) -> list[pd.DataFrame]:
    """Run independent trainings in spawned processes, one torch thread each.

    One thread a process is also what makes a result independent of the number of processes. Each training resumes or
    returns at once as `fit` does; with several GPUs each training takes one in turn. A failing training does not stop
    the others; where a process is killed (out of memory, say), the trainings that it took down are tried once more.

    Parameters
    ----------
    jobs : with a folder of its own each.
    workers : processes.
    progress : one bar over all epochs, with an estimate.

    Returns
    -------
    The histories, in the order of the jobs.

    Raises
    ------
    JobsFailed
        After all others have finished.
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

    history = fit(
        job.train,
        job.val,
        job.config,
        job.recipe,
        job.seed,
        job.folder,
        variant=job.variant,
        classes=job.classes,
        progress=tell,
        device=f"cuda:{index % gpus}" if gpus else "cpu",
    )
    tell(job.recipe.epochs, job.recipe.epochs, {})  # early stopping and finished folders leave nothing to wait for
    return history


@contextmanager
def _progress(jobs: Sequence[Job], wanted: bool) -> Iterator[Messages | None]:
    """A queue that processes put (job, epochs done) into, and a bar that shows their sum."""
    if not wanted:
        yield None
        return
    epochs = sum(job.recipe.epochs for job in jobs)
    with tqdm(total=epochs, unit="epoch") as bar:
        messages: Messages = multiprocessing.get_context("spawn").SimpleQueue()
        thread = threading.Thread(target=_show, args=(messages, bar), daemon=True)
        thread.start()
        try:
            yield messages
        finally:
            messages.put(None)
            thread.join()


def _show(messages: Messages, bar: Any) -> None:
    done: dict[int, int] = {}
    while (message := messages.get()) is not None:
        index, epoch = message
        done[index] = epoch
        bar.set_description(f"training {len(done)} networks", refresh=False)
        bar.update(sum(done.values()) - bar.n)
