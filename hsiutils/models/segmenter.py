"""A network under a recipe, as PyTorch Lightning wants it.

Loss, schedule, validation, the record of a training, and the trainer that runs it, in one process or several. Importing
Lightning takes seconds: `hsiutils.models.train` does it when it trains.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
import xarray as xr
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins import TorchCheckpointIO
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional
from torchmetrics.classification import MulticlassConfusionMatrix

from hsiutils.data.atomic import replacing
from hsiutils.data.classes import VOID, inverse_frequency_weights
from hsiutils.data.cube import HEADROOM
from hsiutils.models.batches import epoch_seed
from hsiutils.models.files import LAST, save
from hsiutils.models.metrics import iou, weighted_iou
from hsiutils.models.recipe import Progress, Recipe, is_gpu, precision
from hsiutils.models.unet import UNet


class Segmenter(pl.LightningModule):
    """The network under a recipe, as Lightning wants it."""

    def __init__(self, model: UNet, recipe: Recipe, frequencies: NDArray[np.float64], seed: int) -> None:
        super().__init__()
        self.model = cast(UNet, nn.Module.to(model, memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.recipe, self.frequencies, self.seed = recipe, frequencies, seed
        first, last = (loss_weights(recipe, frequencies, power) for power in recipe.weight_power)
        self.register_buffer("loss_weights", torch.tensor(first, dtype=torch.float32), persistent=False)
        self.annealed = not np.array_equal(first, last)
        self.counts = MulticlassConfusionMatrix(model.config.classes, ignore_index=VOID)

    def on_train_epoch_start(self) -> None:
        """Dropout, too, depends on seed and epoch alone (and on the process, of several)."""
        torch.manual_seed(epoch_seed(self.seed, self.current_epoch) + 1 + self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Loss of one batch."""
        images, labels = batch
        rank, processes = self._process()
        step = self.recipe.order(self.seed), self.current_epoch, index
        if self.recipe.flip:
            draw = torch.Generator().manual_seed(epoch_seed(*step))
            flipped = torch.rand(self.recipe.batch, generator=draw)[rank::processes][: len(images)] < 0.5
            images, labels = mirror(images, labels, flipped.to(images.device))
        if self.recipe.brightness:
            draw = torch.Generator().manual_seed(epoch_seed(*step, 1))
            logs = self.recipe.brightness * torch.randn(self.recipe.batch, generator=draw)
            images = brighten(images, logs.exp()[rank::processes][: len(images)].to(images.device))
        if self.annealed:
            self.loss_weights = self._weights_of_step()
        total, pixels, logits = self._loss(images, labels)
        if processes > 1:  # gradients are averaged over processes: each counts the pixels of all
            torch.distributed.all_reduce(pixels)
        loss = total * processes / pixels.clamp_min(1)
        if self.recipe.dice:
            overlap, size = overlaps(logits, labels)
            if processes > 1:
                overlap, size = _over_processes(overlap), _over_processes(size)
            loss = loss + self.recipe.dice * dice_loss(overlap, size)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=processes > 1)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Count one batch."""
        images, labels = batch
        total, pixels, logits = self._loss(images, labels)
        penalty = self.recipe.l2 * sum(kernel.square().sum() for kernel in kernels(self.model))
        self.log("val_loss", total / pixels.clamp_min(1) + penalty, batch_size=len(images))
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
        adam = torch.optim.Adam(groups, lr=recipe.learning_rate, betas=(0.9, 0.999), fused=True)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if recipe.schedule == "one-cycle":
            steps = int(self.trainer.estimated_stepping_batches)
            schedule = torch.optim.lr_scheduler.OneCycleLR(adam, recipe.learning_rate, steps, cycle_momentum=False)
            return [adam], [{"scheduler": schedule, "interval": "step"}]
        schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [recipe.drop_epoch], recipe.drop_factor)
        return [adam], [{"scheduler": schedule, "interval": "epoch"}]

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted cross-entropy, summed over the labelled pixels; how many these are; the logits (n, class, h, w)."""
        logits = self.model(images.contiguous(memory_format=torch.channels_last))
        total = functional.cross_entropy(logits.float(), labels, self.loss_weights, ignore_index=VOID, reduction="sum")
        return total, (labels != VOID).sum(), logits

    def _weights_of_step(self) -> Tensor:
        """Class weights at this step of the training."""
        first, last = self.recipe.weight_power
        done = self.trainer.global_step / max(int(self.trainer.estimated_stepping_batches) - 1, 1)
        weights = loss_weights(self.recipe, self.frequencies, first + (last - first) * done)
        return torch.tensor(weights, dtype=torch.float32, device=self.device)

    def _process(self) -> tuple[int, int]:
        """Which process this is, and of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self._trainer is not None else (0, 1)


class SharedNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' images; torch's own cannot on processors."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = torch.tensor(float(values[:, 0].numel()), device=x.device)
        torch.distributed.all_reduce(count)
        mean = _over_processes(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _over_processes(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            cast(Tensor, self.running_mean).lerp_(mean, cast(float, self.momentum))
            cast(Tensor, self.running_var).lerp_(variance * count / (count - 1), cast(float, self.momentum))
            cast(Tensor, self.num_batches_tracked).add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias[:, None, None], centred, scale[:, None, None]).to(x.dtype)


def _over_processes(value: Tensor) -> Tensor:
    """Sum over all processes, with a gradient."""
    return cast(Tensor, all_reduce(value))  # type: ignore[no-untyped-call]


def share_norms(model: UNet) -> None:
    """Let every batch normalisation of a network see the images of all processes."""
    for block in model.blocks():
        for name in ("norm1", "norm2"):
            norm = cast(nn.BatchNorm2d, getattr(block, name))
            shared = SharedNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
            shared.load_state_dict(norm.state_dict())
            setattr(block, name, shared)


def kernels(model: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of the convolutions, without biases and batch normalisation."""
    yield from (value for value in model.parameters() if value.ndim == 4)


def loss_weights(recipe: Recipe, frequencies: NDArray[np.float64], power: float = 1.0) -> NDArray[np.float64]:
    """Class weights of the cross-entropy, raised to a power, with mean one over pixels of these shares (class).

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
    weights = np.where(weights > 0, weights**power, 0.0)
    return np.asarray(weights / np.sum(weights * frequencies))


def overlaps(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the Dice loss is made of, over the labelled pixels of logits (n, class, h, w) and labels (n, h, w).

    Returns
    -------
    Probability at the pixels of each class, summed (class); and the sum of all probability and all pixels of it, as
    rows (2, class).
    """
    known = labels != VOID
    chosen = labels * known
    probability = logits.float().softmax(dim=1) * known[:, None]
    true = probability.gather(1, chosen[:, None]).flatten()  # (n, 1, h, w) -> (pixel)
    overlap = probability.new_zeros(logits.shape[1]).index_add(0, chosen.flatten(), true)
    pixels = torch.bincount(labels[known], minlength=logits.shape[1])
    return overlap, torch.stack([probability.sum((0, 2, 3)), pixels.to(probability.dtype)])


def dice_loss(overlap: Tensor, size: Tensor) -> Tensor:
    """Soft Dice loss of `overlaps`, a mean over the classes that are there; zero where none is."""
    there = size[1] > 0
    each = 1 - 2 * overlap / (size.sum(0) + 1)
    return (each * there).sum() / there.sum().clamp_min(1)


def mirror(images: Tensor, labels: Tensor, flipped: Tensor) -> tuple[Tensor, Tensor]:
    """Flip the chosen images (n, c, h, w) and labels (n, h, w) left to right; `flipped` (n) bool."""
    mirrored = torch.where(flipped[:, None, None, None], images.flip(-1), images)
    return mirrored, torch.where(flipped[:, None, None], labels.flip(-1), labels)


def brighten(images: Tensor, factors: Tensor) -> Tensor:
    """Inputs (n, c, h, w) of cubes that are so many times (n) as bright, where the lower limits of the inputs are zero.

    A pixel beyond the upper limit is clipped there, as `hsiutils.data.cube.to_unit_range` does.
    """
    values = factors[:, None, None, None] * (images.float() + 1)
    return (values.clamp(0, 2 * HEADROOM) - 1).to(images.dtype)


class Record(Callback):
    """Callback that keeps the history, and the weights of the best or the last epoch.

    The best is the one with the largest weighted IoU on the validation scenes.
    """

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
        """Add a row; write the weights if they are to be kept (of equals, the first is the best, as Keras has it)."""
        epoch = trainer.current_epoch + 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not np.isfinite(metrics["train_loss"]):
            raise RuntimeError(f"the loss is {metrics['train_loss']} in epoch {epoch}: lower Recipe.learning_rate")
        judged = epoch % self.recipe.validate_every == 0
        row = {name: metrics[name] if judged else np.nan for name in self.validated}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append({"epoch": epoch, "learning_rate": rate, "train_loss": metrics["train_loss"], **row})
        last = self.recipe.keep == "last"
        if epoch == self.recipe.epochs if last else row["val_weighted_iou"] > self.best_iou:
            self.best_epoch, self.best_iou = epoch, row["val_weighted_iou"]
            if trainer.is_global_zero:
                save(cast(Segmenter, pl_module).model, self.path)
        if trainer.is_global_zero:
            self.progress(len(self.rows), self.recipe.epochs, self.rows[-1])

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to know; plain numbers, so that checkpoints load with weights_only."""
        return {"rows": self.rows, "best_epoch": self.best_epoch, "best_iou": float(self.best_iou)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows, self.best_epoch = list(state_dict["rows"]), state_dict["best_epoch"]
        self.best_iou = state_dict["best_iou"]


class _Whole(TorchCheckpointIO):
    """Writes a checkpoint at once or not at all; Lightning's own writes it to another folder first, and copies."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """See Lightning's `CheckpointIO`."""
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


def trainer(
    recipe: Recipe,
    folder: Path,
    record: Record,
    device: str,
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
) -> pl.Trainer:
    """Lightning's trainer on a device ("auto", "cpu", "cuda:1"); after every epoch it writes `LAST` to the folder.

    `devices`, `num_nodes` and `strategy` are Lightning's; several devices begin at the first.
    """
    gpu = is_gpu(device)
    callbacks: list[Callback] = [record]
    if recipe.keep == "best":
        callbacks.append(EarlyStopping("val_loss", recipe.min_delta, recipe.patience, check_finite=False))
    callbacks.append(
        ModelCheckpoint(folder, Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    )
    return pl.Trainer(
        plugins=[_Whole()],
        accelerator="gpu" if gpu else "cpu",
        devices=[int(device.partition(":")[2] or 0)] if gpu and devices == 1 else devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision(recipe.precision, device),
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=recipe.validate_every,
        callbacks=callbacks,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
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
