"""What a training is fed: scenes examined once and held as the network takes them, and the order of the batches."""

import hashlib
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from hsiutils.data.classes import VOID
from hsiutils.models.unet import UNetConfig

Scenes = Dataset[tuple[Tensor, Tensor]]
"""Pairs of image (channels, h, w) float32 and class indices (h, w) int64 with `VOID`; has a length."""
HELD_BYTES = 8 << 30
"""Scenes that take less memory than this are held; others are read anew in every epoch."""


class Held(Dataset[tuple[Tensor, Tensor]]):
    """Scenes in memory, channels last, in the number format that the first convolution computes in.

    Attributes
    ----------
    images : (scene, channel, h, w), channels last.
    labels : (scene, h, w) int64.
    """

    def __init__(self, count: int, image: tuple[int, ...], dtype: torch.dtype) -> None:
        self.images = torch.empty(count, *image, dtype=dtype, memory_format=torch.channels_last)
        self.labels = torch.empty(count, *image[1:], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """One batch: images (n, channel, h, w), still channels last, and labels (n, h, w)."""
        chosen = torch.as_tensor(indices, device=self.images.device)
        return self.images[chosen], self.labels[chosen]

    def to(self, device: torch.device) -> None:
        """Move all scenes to a device."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)


class Examined(NamedTuple):
    """What one reading of the scenes told.

    Attributes
    ----------
    frequencies : share of each class among the labelled pixels, (class).
    fingerprint : of what the scenes hold; that of their method `fingerprint`, where they have one (scenes that differ
        at each reading need it).
    scenes : the scenes held in memory; as they were given, if they differ at each reading or are too large.
    """

    frequencies: NDArray[np.float64]
    fingerprint: str
    scenes: Scenes


def examine(scenes: Scenes, config: UNetConfig, what: str, dtype: torch.dtype = torch.float32) -> Examined:
    """Read every scene once, and refuse what a network cannot learn from or be judged by.

    Parameters
    ----------
    what : "training" or "validation", for messages.
    dtype : of the images that are held.

    Raises
    ------
    ValueError
        If there is no scene, one has another size or other channels than the network, holds values that are not finite
        or classes that are none, or no pixel is labelled.
    """
    counts, digest = np.zeros(config.classes, dtype=np.int64), hashlib.blake2b(digest_size=16)
    if not length(scenes):
        raise ValueError(f"there are no {what} scenes: expected at least one")
    own, held, size = getattr(scenes, "fingerprint", None), None, None
    for index in range(length(scenes)):
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
        if index == 0 and own is None and length(scenes) * image.size * dtype.itemsize < HELD_BYTES:
            held = Held(length(scenes), image.shape, dtype)
        if held is not None:
            held.images[index], held.labels[index] = torch.from_numpy(image), torch.from_numpy(labels)
    if not counts.any():
        raise ValueError(f"no pixel of the {what} scenes is labelled: nothing to learn from or to judge by")
    return Examined(np.asarray(counts / counts.sum()), own() if own else digest.hexdigest(), held or scenes)


def require_batches(scenes: Scenes, config: UNetConfig, batch: int, processes: int = 1) -> None:
    """Refuse batches that cannot be shared out, or of one image that is one pixel large at the base.

    Parameters
    ----------
    batch : images a step, over all processes.
    """
    rows, columns = config.padded(cast(tuple[int, int], tuple(scenes[0][1].shape)))
    last = length(scenes) % batch or batch
    if last == 1 and rows == columns == config.stride:
        raise ValueError(
            f"{length(scenes)} scenes in batches of {batch} leave one alone, and its {rows} x {columns} pixels "
            f"are one at the base of a network of depth {config.depth}: batch normalisation has nothing to average. "
            "Take another Recipe.batch, larger scenes, or a smaller depth"
        )
    if batch % processes or last < processes:
        raise ValueError(
            f"{length(scenes)} scenes in batches of {batch}, the last of {last}, cannot be shared out to {processes} "
            "processes: take a Recipe.batch that is a multiple of them and leaves none without an image"
        )


class EpochSampler(Sampler[int]):
    """A shuffled order that depends on seed and epoch alone: a resumed training sees what it would have seen.

    Several processes share every batch: process `rank` of `processes` takes images rank, rank + processes, ... of it.
    """

    def __init__(self, scenes: Scenes, seed: int, rank: int = 0, processes: int = 1) -> None:
        self.count, self.seed, self.rank, self.processes, self.epoch = length(scenes), seed, rank, processes, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self.count, self.processes))

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = torch.randperm(self.count, generator=draw).tolist()
        # A batch is a multiple of the processes, so that a stride over the whole order shares out every batch.
        return iter(order[self.rank :: self.processes])


def loader(scenes: Scenes, batch: int, sampler: EpochSampler | None = None) -> "DataLoader[tuple[Tensor, Tensor]]":
    """Batches of scenes (images (n, channel, h, w), labels (n, h, w)), in their order or a sampler's."""
    # With a generator of their own, or each new iterator would take a number from dropout's stream.
    draw = torch.Generator()
    collate: Callable[[Any], Any] = _as_it_is if isinstance(scenes, Held) else default_collate
    return DataLoader(scenes, batch, sampler=sampler, generator=draw, collate_fn=collate)


def length(scenes: Scenes) -> int:
    """How many scenes there are."""
    return len(cast(Sized, scenes))


def epoch_seed(seed: int, *parts: int) -> int:
    """A seed of 32 bits for one epoch, or one step of it."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(1)[0])


def _as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch
