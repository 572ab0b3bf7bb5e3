"""A trained network at work: class maps, and the counts that every score of the book derives from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hsiutils.classes import CLASSES
from hsiutils.metrics import Mask, scene_counts


def predict(model: nn.Module, images: Tensor | NDArray[np.floating], batch: int = 8) -> NDArray[np.uint8]:
    """The class with the largest logit, at every pixel.

    Parameters
    ----------
    model : maps (n, channels, h, w) to logits (n, classes, h, w); used in evaluation mode on the device it is on, and
        left in the mode it was in.
    images : (n, channels, h, w).
    batch : images at a time.

    Returns
    -------
    (n, h, w) class indices.
    """
    device = next(model.parameters()).device
    stack = torch.as_tensor(images, dtype=torch.float32)
    if stack.ndim != 4:
        raise ValueError(f"predict expects images (n, channels, h, w), got {tuple(stack.shape)}")
    with _evaluating(model):
        parts = [model(part.to(device)).argmax(dim=1).to(torch.uint8).cpu() for part in torch.split(stack, batch)]
    return np.asarray(torch.cat(parts).numpy())


def evaluate(
    model: nn.Module,
    dataset: Dataset[tuple[Tensor, Tensor]],
    names: Sequence[str],
    classes: Sequence[str] = CLASSES,
    sunlit: Sequence[Mask | NDArray[np.floating]] | None = None,
    distance: int | None = None,
    batch: int = 8,
) -> xr.Dataset:
    """Counts of every scene of a data set; `hsiutils.metrics.scores` makes figures of merit of them.

    Parameters
    ----------
    model, batch : as in `predict`.
    dataset : of (image (channels, h, w), class indices (h, w) with `hsiutils.classes.VOID`), all of one size.
    names : of the scenes, in the order of the data set.
    classes, distance : as in `hsiutils.metrics.scene_counts`.
    sunlit : for every scene, as in `hsiutils.metrics.scene_counts`; None when that is not known.

    Returns
    -------
    Dataset of confusion (scene, region, truth, predicted), boundary_intersection and boundary_union (scene, region,
    class).
    """
    masks: Sequence[Mask | NDArray[np.floating] | None] = sunlit if sunlit is not None else [None] * len(names)
    counts: list[xr.Dataset] = []
    for images, labels in DataLoader(dataset, batch, generator=torch.Generator()):
        for predicted, truth in zip(predict(model, images, batch), labels.numpy(), strict=True):
            if len(counts) < min(len(names), len(masks)):
                counts.append(scene_counts(predicted, truth, classes, masks[len(counts)], distance))
            else:
                raise ValueError(f"more scenes than the {len(names)} names and {len(masks)} masks given")
    if not len(counts) == len(names) == len(masks):
        raise ValueError(f"{len(names)} names and {len(masks)} masks were given for {len(counts)} scenes")
    return xr.concat(counts, dim=xr.Variable("scene", list(names))).assign_coords(scene=list(names))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
