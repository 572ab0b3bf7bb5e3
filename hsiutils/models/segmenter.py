"""A network under a recipe, as PyTorch Lightning wants it.

Loss, schedule, order of the scenes, validation, the record of a training, and the trainer that runs it.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytorch_lightning as pl
import torch
import xarray as xr
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, Sampler
from torchmetrics.classification import MulticlassConfusionMatrix

from hsiutils.data.classes import VOID, inverse_frequency_weights
from hsiutils.models.files import save
from hsiutils.models.metrics import iou, weighted_iou
from hsiutils.models.unet import UNet, UNetConfig

Scenes = Dataset[tuple[Tensor, Tensor]]
"""Pairs of image (channels, h, w) float32 and class indices (h, w) int64 with `VOID`; has a length."""
LAST = "last.ckpt"


Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called after every epoch: epochs done, epochs in all, the newest row of the history."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the authors', as far as their public code tells.

    Attributes
    ----------
    epochs : at most; early stopping may end sooner. The authors' number is not public.
    batch : whole images a step.
    learning_rate : of Adam (0.9, 0.999): the first one of "step", the largest one of "one-cycle".
    schedule : "step" multiplies the rate by `drop_factor` at `drop_epoch`; "one-cycle" (Smith 2018) rises and falls
        once over all steps, and gets more from few epochs.
    l2 : penalty l2 * sum(kernel**2) on convolution kernels only, as Keras defines it.
    class_weights : of the cross-entropy. "inverse-frequency" of the training labels, "published" of the frequencies
        that the data set's authors published (`hsiutils.models.train.train` takes them from its `classes`), "none"
        equal, or one number per class. Rescaled so that the mean over the labelled pixels is one.
    patience, min_delta : training stops when the validation loss has not fallen by `min_delta` for so many validations.
    validate_every : epochs from one validation to the next.
    flip : mirror half of the training images left to right.
    precision : of Lightning; "auto" is mixed precision on a GPU and float32 on a CPU.
    """

    epochs: int = 200
    batch: int = 2
    learning_rate: float = 1e-3
    schedule: Literal["step", "one-cycle"] = "step"
    drop_epoch: int = 30
    drop_factor: float = 0.1
    l2: float = 1e-4
    class_weights: Literal["inverse-frequency", "published", "none"] | tuple[float, ...] = "inverse-frequency"
    patience: int = 80
    min_delta: float = 5e-3
    validate_every: int = 1
    flip: bool = False
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "drop_epoch", "patience", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"Recipe.{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0 or self.l2 < 0:
            raise ValueError(f"Recipe needs learning_rate > 0 and l2 >= 0, got {self.learning_rate} and {self.l2}")
        if self.schedule not in ("step", "one-cycle"):
            raise ValueError(f"Recipe.schedule must be 'step' or 'one-cycle', got {self.schedule!r}")
        if self.epochs % self.validate_every:
            raise ValueError(
                f"Recipe.epochs ({self.epochs}) must be a multiple of validate_every ({self.validate_every}), "
                "or the last epoch is never judged"
            )


AUTHORS = Recipe()
"""The recipe of the paper, from the authors' public code (arXiv 2411.19274); no augmentation."""


def examine(scenes: Scenes, config: UNetConfig, what: str) -> tuple[NDArray[np.float64], str]:
    """Read every scene once, and refuse what a network cannot learn from or be judged by.

    Parameters
    ----------
    what : "training" or "validation", for messages.

    Returns
    -------
    Share of each class among the labelled pixels, (class); and a fingerprint of what the scenes hold, which is that of
    their method `fingerprint`, where they have one (scenes that differ at each reading need it).
    """
    counts, digest, size = np.zeros(config.classes, dtype=np.int64), hashlib.blake2b(digest_size=16), None
    if not _length(scenes):
        raise ValueError(f"there are no {what} scenes: expected at least one")
    for index in range(_length(scenes)):
        image, labels = (np.ascontiguousarray(part) for part in scenes[index])
        size = image.shape[1:] if size is None else size
        if image.ndim != 3 or image.shape != (config.channels, *size) or labels.shape != size:
            raise ValueError(
                f"{what} scene {index}: expected an image ({config.channels}, {', '.join(map(str, size))}) for a "
                f"network of {config.channels} channels, the size of all scenes, and labels of that size, got "
                f"{image.shape} and {labels.shape}"
            )
        if not np.isfinite(image).all():
            raise ValueError(f"{what} scene {index}: its image holds values that are not finite")
        digest.update(image.data)
        digest.update(labels.data)
        known = labels[labels != VOID]
        if known.size and (known.min() < 0 or known.max() >= config.classes):
            found = sorted({int(value) for value in np.unique(known)} - set(range(config.classes)))
            raise ValueError(
                f"{what} scene {index} has class {found}: expected 0..{config.classes - 1}, or {VOID} for void"
            )
        counts += np.bincount(known, minlength=config.classes)
    if not counts.any():
        raise ValueError(f"no pixel of the {what} scenes is labelled: nothing to learn from or to judge by")
    own = getattr(scenes, "fingerprint", None)
    return np.asarray(counts / counts.sum()), own() if own else digest.hexdigest()


def require_batches(scenes: Scenes, config: UNetConfig, recipe: Recipe) -> None:
    """Refuse batches that batch normalisation cannot take: of one image that is one pixel large at the base."""
    rows, columns = config.padded(cast(tuple[int, int], tuple(scenes[0][1].shape)))
    last = _length(scenes) % recipe.batch or recipe.batch
    if last == 1 and rows == columns == config.stride:
        raise ValueError(
            f"{_length(scenes)} scenes in batches of {recipe.batch} leave one alone, and its {rows} x {columns} pixels "
            f"are one at the base of a network of depth {config.depth}: batch normalisation has nothing to average. "
            "Take another Recipe.batch, larger scenes, or a smaller depth"
        )


class EpochSampler(Sampler[int]):
    """A shuffled order that depends on seed and epoch alone: a resumed training sees what it would have seen."""

    def __init__(self, scenes: Scenes, seed: int) -> None:
        self.length, self.seed, self.epoch = _length(scenes), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(_epoch_seed(self.seed, self.epoch)))
        return iter(order.tolist())


class Segmenter(pl.LightningModule):
    """The network under a recipe, as Lightning wants it."""

    def __init__(self, model: UNet, recipe: Recipe, frequencies: NDArray[np.float64], seed: int) -> None:
        super().__init__()
        self.model = cast(UNet, nn.Module.to(model, memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.recipe, self.frequencies, self.seed = recipe, frequencies, seed
        weights = torch.tensor(loss_weights(recipe, frequencies), dtype=torch.float32)
        self.register_buffer("loss_weights", weights, persistent=False)
        self.counts = MulticlassConfusionMatrix(model.config.classes, ignore_index=VOID)

    def on_train_epoch_start(self) -> None:
        """Dropout, too, depends on seed and epoch alone."""
        torch.manual_seed(_epoch_seed(self.seed, self.current_epoch) + 1)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        images, labels = batch
        if self.recipe.flip:
            images, labels = mirror(images, labels)
        loss, _ = self._loss(images, labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Count one batch."""
        images, labels = batch
        loss, logits = self._loss(images, labels)
        penalty = self.recipe.l2 * sum(kernel.square().sum() for kernel in kernels(self.model))
        self.log("val_loss", loss + penalty, batch_size=len(images))
        self.counts.update(logits.argmax(dim=1), labels)

    def on_validation_epoch_end(self) -> None:
        """Turn the counts of the epoch into IoU."""
        names = list(self.model.config.names)
        matrix = self.counts.compute().cpu().numpy()
        confusion = xr.DataArray(matrix, coords={"truth": names, "predicted": names}, dims=("truth", "predicted"))
        self.counts.reset()
        per_class = iou(confusion)
        self.log("val_weighted_iou", float(weighted_iou(confusion, self.frequencies)))
        self.log("val_mean_iou", float(per_class.mean()))
        self.log_dict({f"val_iou {name}": float(value) for name, value in zip(names, per_class, strict=True)})

    def configure_optimizers(self) -> Any:
        """Adam with the penalty on kernels only, and the schedule of the recipe."""
        recipe, decayed = self.recipe, list(kernels(self.model))
        chosen = {id(kernel) for kernel in decayed}
        others = [value for value in self.model.parameters() if id(value) not in chosen]
        # Adam's weight_decay adds itself times the weight to the gradient; the gradient of l2 * w**2 is 2 * l2 * w.
        groups = [{"params": decayed, "weight_decay": 2 * recipe.l2}, {"params": others, "weight_decay": 0.0}]
        adam = torch.optim.Adam(groups, lr=recipe.learning_rate, betas=(0.9, 0.999))
        schedule: torch.optim.lr_scheduler.LRScheduler
        if recipe.schedule == "one-cycle":
            steps = int(self.trainer.estimated_stepping_batches)
            schedule = torch.optim.lr_scheduler.OneCycleLR(adam, recipe.learning_rate, steps, cycle_momentum=False)
            return [adam], [{"scheduler": schedule, "interval": "step"}]
        schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [recipe.drop_epoch], recipe.drop_factor)
        return [adam], [{"scheduler": schedule, "interval": "epoch"}]

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy, a mean over the labelled pixels; and the logits (n, classes, h, w)."""
        logits = self.model(images.contiguous(memory_format=torch.channels_last))
        weights = cast(Tensor, self.loss_weights)
        total = functional.cross_entropy(logits.float(), labels, weights, ignore_index=VOID, reduction="sum")
        return total / (labels != VOID).sum().clamp_min(1), logits


def kernels(model: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of the convolutions, without biases and batch normalisation."""
    yield from (value for value in model.parameters() if value.ndim == 4)


def loss_weights(recipe: Recipe, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class weights of the cross-entropy, with mean one over pixels of these class frequencies (class).

    Dividing by the number of pixels, and not by the sum of the weights that happen to be in a batch, makes a pixel of a
    rare class worth the same in every batch.
    """
    if isinstance(recipe.class_weights, tuple):
        weights = np.asarray(recipe.class_weights, dtype=float)
    elif recipe.class_weights == "none":
        weights = np.ones_like(frequencies)
    else:
        if recipe.class_weights == "published":
            raise ValueError('Recipe.class_weights "published" needs a data set: use train(), or give the numbers')
        weights = inverse_frequency_weights(frequencies)
    if weights.shape != frequencies.shape or not np.sum(weights * frequencies) > 0:
        raise ValueError(
            f"Recipe.class_weights {weights} do not fit {len(frequencies)} classes of shares {frequencies}"
        )
    return np.asarray(weights / np.sum(weights * frequencies))


def mirror(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Flip each image (n, c, h, w) and its labels (n, h, w) left to right with probability one half."""
    flipped = torch.rand(len(images), device=images.device) < 0.5
    mirrored = torch.where(flipped[:, None, None, None], images.flip(-1), images)
    return mirrored, torch.where(flipped[:, None, None], labels.flip(-1), labels)


def _length(scenes: Scenes) -> int:
    return len(cast(Sized, scenes))


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class Record(Callback):
    """Callback that keeps the history, and the weights of the epoch with the best validation weighted IoU."""

    def __init__(self, path: Path, recipe: Recipe, classes: Sequence[str], progress: Progress) -> None:
        self.path, self.recipe, self.progress = path, recipe, progress
        self.validated = ["val_loss", "val_weighted_iou", "val_mean_iou", *(f"val_iou {name}" for name in classes)]
        self.rows: list[dict[str, float]] = []
        self.best_epoch, self.best_iou = 0, -np.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where a resumed training stands."""
        if self.rows:
            self.progress(len(self.rows), self.recipe.epochs, self.rows[-1])

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
            save(cast(Segmenter, pl_module).model, self.path)
        self.progress(len(self.rows), self.recipe.epochs, self.rows[-1])

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to know; plain numbers, so that checkpoints load with weights_only."""
        return {"rows": self.rows, "best_epoch": self.best_epoch, "best_iou": float(self.best_iou)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows, self.best_epoch = list(state_dict["rows"]), state_dict["best_epoch"]
        self.best_iou = state_dict["best_iou"]


def trainer(recipe: Recipe, folder: Path, record: Record, device: str) -> pl.Trainer:
    """Lightning's trainer on a device ("auto", "cpu", "cuda:1"); after every epoch it writes `LAST` to the folder."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    kind, _, index = name.partition(":")
    gpu, precision = kind == "cuda", recipe.precision
    if precision == "auto":
        precision = "32-true" if not gpu else "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    stop = EarlyStopping("val_loss", recipe.min_delta, recipe.patience, check_finite=False)
    last = ModelCheckpoint(folder, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=[int(index or 0)] if gpu else 1,
        precision=precision,
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=recipe.validate_every,
        callbacks=[record, stop, last],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn" if gpu else False,
    )


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed torch inside, restore everything global outside, and keep back Lightning's remarks on loggers and GPUs."""
    gpus = list(range(torch.cuda.device_count()))
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with torch.random.fork_rng(devices=gpus), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        torch.manual_seed(seed)
        try:
            yield
        finally:
            logger.setLevel(level)
            torch.use_deterministic_algorithms(strict, warn_only=warn)
