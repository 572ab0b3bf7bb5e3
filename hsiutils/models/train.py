"""Training of a network, and the folder that it leaves behind.

A folder holds `weights.safetensors` (the best epoch), `history.csv` and `training.json` (settings and outcome); while
training runs also `last.ckpt`, from which it continues after a kill. `train` takes a data set, `fit` the scenes
themselves; `hsiutils.paper.cluster` runs many trainings side by side.
"""

import json
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from hsiutils.models.files import HISTORY, LAST, MANIFEST, WEIGHTS, load_model, read_history, read_json
from hsiutils.models.recipe import AUTHORS, Progress, Recipe, precision
from hsiutils.models.unet import UNet, UNetConfig

if TYPE_CHECKING:
    from hsiutils.models.segmenter import Record


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
    >>> from hsiutils.models.recipe import Recipe
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
        Before training: if the scenes cannot be learnt from or judged by, the recipe changes a brightness that the
        inputs do not show, or the folder holds a training with other settings or scenes.
    RuntimeError
        If the loss is no longer finite.
    """
    if recipe.brightness and (variant is None or variant.variant.normalisation != "none" or any(variant.low)):
        found = "inputs of unknown limits" if variant is None else f"variant {variant.variant.name}"
        raise ValueError(
            f"Recipe.brightness {recipe.brightness:g} multiplies values from zero on, as of 1, 3 and 25, got {found}: "
            "take one of these, or brightness 0"
        )
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
        (folder / LAST).unlink(missing_ok=True)  # of a process that was killed as it finished
        return read_history(folder)
    from hsiutils.models.segmenter import Record, Segmenter, isolated, share_norms, trainer  # Lightning: seconds

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
        order = EpochSampler(train, recipe.order(seed), harness.global_rank, harness.world_size)
        batches = loader(learnt.scenes, recipe.batch // harness.world_size, order)
        checkpoint = _checkpoint(folder)
        harness.fit(segmenter, batches, loader(judged.scenes, recipe.batch), ckpt_path=checkpoint, weights_only=True)
        if harness.is_global_zero:
            _finish(folder, settings, record, learnt.frequencies)
        harness.strategy.barrier()
    return read_history(folder)


_BROKEN = (ValueError, RuntimeError, OSError, EOFError, LookupError, zipfile.BadZipFile, zlib.error)
"""What reading an archive raises on bytes that make no sense to it."""


def _checkpoint(folder: Path) -> Path | None:
    """The checkpoint to continue from; a damaged one is as good as none."""
    path = folder / LAST
    if not path.is_file():
        return None
    with suppress(*_BROKEN), zipfile.ZipFile(path) as archive:
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


def _finish(folder: Path, settings: Mapping[str, Any], record: "Record", frequencies: NDArray[np.float64]) -> None:
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


REPORT: ContextVar[Progress | None] = ContextVar("REPORT", default=None)
"""Whom `train_network` tells after every epoch; nobody by default."""


def train_network(folder: Path, name: str, seed: int, data: Source, config: UNetConfig, recipe: Recipe) -> None:
    """`train` for the inputs of a short name, as the store calls what fills a folder."""
    progress = REPORT.get() or False
    train(data, fit_inputs(name, data), folder, config=config, recipe=recipe, seed=seed, progress=progress)
