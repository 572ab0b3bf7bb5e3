"""Which scenes train, validate and test: published splits where there are any, else folds that do not leak.

The images of HSI-Drive come from drives: images with consecutive running numbers and the same conditions show the
same street minutes apart. A fold therefore takes or leaves such a sequence whole. (HS3-Bench's published split does
not: every one of its 151 test images has a training image from its own sequence.)
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.names import TRAITS, Conditions, name_table

SPLITS = ("train", "val", "test")
FOLDS = 5
"""Of the authors: three train, one validates, one tests. Which images are in which is not public."""


def split_scenes(names: Sequence[str], official: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give each scene of HSI-Drive its split, "train", "val" or "test".

    Taken is the first that knows every scene: `official` (the data set's own lists or folders), then HS3-Bench's
    published split of the v2.0 images (also the simulator's). Else the scenes are split in folds, and a set with fewer
    sequences than folds is all "test": there is nothing to train on without leaking.
    """
    for table in (official or {}, dict(name_table()["split"])):
        if all(name in table for name in names):
            return {name: str(table[name]) for name in names}
    return fold_splits(names) if len(sequences(names)) >= FOLDS else dict.fromkeys(names, "test")


def fold_splits(names: Sequence[str], fold: int = 0, folds: int = FOLDS, seed: int = 0) -> dict[str, str]:
    """The splits by `stratified_folds`, of which one tests, the next one validates, and the others train.

    ValueError if there are too few sequences, or no such fold.
    """
    parts = stratified_folds(names, folds, seed)
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be 0..{folds - 1}, got {fold}")
    role = {fold: "test", (fold + 1) % folds: "val"}
    return {name: role.get(number, "train") for number, part in enumerate(parts) for name in part}


def runs(names: Sequence[str]) -> dict[str, str]:
    """Cut scenes into three runs in the order of their names: three fifths train, one validates, one tests.

    For a data set of which nobody published a split: neighbours by name show the same street, and stay together.
    """
    ordered, count = sorted(names), len(names)
    ends = {"train": -(-3 * count // 5), "val": -(-4 * count // 5), "test": count}
    return {name: next(split for split, end in ends.items() if place < end) for place, name in enumerate(ordered)}


def sequences(names: Sequence[str]) -> list[list[str]]:
    """Group scenes that were taken one after the other: consecutive running numbers, equal conditions."""
    ordered = sorted(names, key=lambda name: (Conditions.parse(name).number, name))
    groups = [ordered[:1]] if ordered else []
    for before, name in pairwise(ordered):
        same_conditions = before.partition("_")[0] == name.partition("_")[0]
        if same_conditions and Conditions.parse(name).number - Conditions.parse(before).number <= 1:
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def stratified_folds(names: Sequence[str], folds: int = FOLDS, seed: int = 0) -> list[list[str]]:
    """Share whole sequences out to folds that are alike in size, season, weather, time of day and kind of road.

    The longest sequences go first, each to the fold where it brings the counts of its traits nearest to an even
    share; the seed orders sequences of equal length. ValueError if there are fewer sequences than folds.
    """
    groups = sequences(names)
    if folds < 3 or len(groups) < folds:
        raise ValueError(
            f"{folds} folds of whole sequences need at least 3 folds and {folds} sequences; "
            f"these {len(names)} scenes come from {len(groups)}"
        )
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    order = sorted(shuffled, key=lambda number: -len(groups[number]))
    traits = np.array([np.sum([_traits(name) for name in group], axis=0) for group in groups])
    target = np.maximum(traits.sum(axis=0) / folds, 1e-9)
    taken = np.zeros((folds, traits.shape[1]))
    parts: list[list[str]] = [[] for _ in range(folds)]
    for number in order:
        # What is left over of each trait, squared, before and after: the gain of putting the sequence there.
        gain = ((target - taken) ** 2 - (target - taken - traits[number]) ** 2) / target
        best = int(gain.sum(axis=1).argmax())
        taken[best] += traits[number]
        parts[best] += groups[number]
    return [sorted(part) for part in parts]


def _traits(name: str) -> NDArray[np.float64]:
    """One for the scene itself and for each of its conditions, zero for every condition it does not have."""
    own = Conditions.parse(name)
    return np.array([1.0] + [float(getattr(own, what) == word) for what, known in TRAITS.items() for word in known])
