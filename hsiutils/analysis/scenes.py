"""Scenes to measure on, and the rule by which some of them are shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from hsiutils.classes import CLASSES, VOID


class LabelledScenes(Protocol):
    """What a torch Dataset of labelled images looks like; a list of pairs is one too."""

    def __len__(self) -> int:
        """Number of scenes."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Tensor]:
        """Image float (channels, h, w), and class indices (h, w) with `VOID` where nobody knows."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """One labelled image: its name, the network's input (channels, h, w), class indices (h, w)."""

    name: str
    image: Tensor
    truth: NDArray[np.integer[Any]]


def each_scene(
    scenes: LabelledScenes, names: Sequence[str] | None = None, classes: Sequence[str] = CLASSES
) -> Iterator[Scene]:
    """Go through labelled scenes, checking each.

    Parameters
    ----------
    scenes : images and class indices.
    names : one a scene; None numbers them.
    classes : names of what the indices mean.

    Raises
    ------
    ValueError
        If there is no scene, names do not match in number, or a label map does not fit its image or has an index
        that is no class.
    """
    labels = [str(index) for index in range(len(scenes))] if names is None else list(names)
    if not labels or len(labels) != len(scenes):
        raise ValueError(f"expected one name a scene and at least one scene, got {len(labels)} for {len(scenes)}")
    for index, name in enumerate(labels):
        image, truth = scenes[index]
        yield Scene(name, image, _checked_truth(name, image, truth, len(classes)))


def _checked_truth(name: str, image: Tensor, truth: Tensor, classes: int) -> NDArray[np.integer[Any]]:
    values = np.asarray(truth)
    if image.ndim != 3 or values.shape != tuple(image.shape[1:]):
        raise ValueError(
            f"scene {name}: expected an image (channels, h, w) and labels (h, w) of its size, "
            f"got {tuple(image.shape)} and {values.shape}"
        )
    known = values[values != VOID]
    if known.size and (known.min() < 0 or known.max() >= classes):
        raise ValueError(
            f"scene {name}: label {known.max()} is no class; expected 0..{classes - 1}, or {VOID} for unlabelled"
        )
    return values


RULES = "median, worst, best, or quantile:Q with Q in 0..1"


def pick(scores: pd.Series, rule: str = "median") -> str:
    """Name of the scene that a stated rule picks, so that nobody picks by eye.

    The scene whose score is the nearest from below to the quantile of all scores: median 0.5, worst 0, best 1. Scenes
    without a score (NaN) are left out; of equal scores the first name in alphabetical order is taken.

    Parameters
    ----------
    scores : one number a scene, indexed by name; larger is better.
    rule : "median", "worst", "best" or "quantile:0.25".

    Raises
    ------
    ValueError
        If the rule is none of these, or no scene has a score.
    """
    known = scores.dropna()
    if known.empty:
        raise ValueError(f"no scene can be picked: none of the {len(scores)} scenes has a score")
    level = _quantile(rule)
    value = float(np.quantile(known.to_numpy(dtype=float), level, method="lower"))
    return str(min(map(str, known.index[known.to_numpy(dtype=float) == value])))


def _quantile(rule: str) -> float:
    named = {"median": 0.5, "worst": 0.0, "best": 1.0}
    try:
        level = named[rule] if rule in named else float(rule.removeprefix("quantile:"))
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise ValueError(f"unknown rule {rule!r}: expected {RULES}")
    return level
