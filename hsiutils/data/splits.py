"""Which scenes train, validate and test: published splits where there are any, else folds that do not leak.

The images of HSI-Drive come from drives: images with consecutive running numbers and the same conditions show the
same street minutes apart. A fold therefore takes or leaves such a sequence whole. (HS3-Bench's published split does
not: every one of its 151 test images has a training image from its own sequence.)
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.names import DAYTIMES, SCENES, SEASONS, WEATHERS, Conditions, name_table

SPLITS = ("train", "val", "test")


def split_scenes(
    names: Sequence[str],
    official: Mapping[str, str] | None = None,
    *,
    method: str = "auto",
    folds: int = 5,
    fold: int = 0,
    seed: int = 0,
) -> dict[str, str]:
    """Give each scene its split, "train", "val" or "test".

    Parameters
    ----------
    names : scene names, nfSWDS_NNN.
    official : name to split, from the file lists or folders of the data set, where it has them.
    method : "auto" takes the first that knows every scene of "official" (those lists), "hs3-bench" (the published
        split of the v2.0 images, also the simulator's) and "folds" (seeded, stratified by condition, sequences whole);
        a set with fewer sequences than folds is then all "test": there is nothing to train on without leaking.
    folds, fold, seed : for "folds": how many, which one is the test fold (the next one validates), and the shuffling.

    Raises
    ------
    ValueError
        If the method is unknown or does not know every scene.
    """
    if method not in ("auto", "official", "hs3-bench", "folds"):
        raise ValueError(f'method must be "auto", "official", "hs3-bench" or "folds", got {method!r}')
    bench = dict(name_table()["split"])
    known = {"official": official or {}, "hs3-bench": bench}
    for source, table in known.items():
        if method == source or (method == "auto" and all(name in table for name in names)):
            return _looked_up(names, table, source)
    if method == "auto" and len(sequences(names)) < folds:
        return dict.fromkeys(names, "test")
    return _as_splits(stratified_folds(names, folds, seed), fold)


def _looked_up(names: Sequence[str], table: Mapping[str, str], source: str) -> dict[str, str]:
    unknown = [name for name in names if name not in table]
    if unknown:
        raise ValueError(
            f"the {source} split does not know {len(unknown)} of {len(names)} scenes, such as {unknown[:3]}"
        )
    wrong = sorted({table[name] for name in names} - set(SPLITS))
    if wrong:
        raise ValueError(f"the {source} split uses {wrong}; expected {', '.join(SPLITS)}")
    return {name: table[name] for name in names}


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


def stratified_folds(names: Sequence[str], folds: int = 5, seed: int = 0) -> list[list[str]]:
    """Share whole sequences out to folds that are alike in size, season, weather, time of day and kind of road.

    The longest sequences go first, each to the fold where it brings the counts of its traits nearest to an even
    share; the seed orders sequences of equal length.

    Raises
    ------
    ValueError
        If there are fewer sequences than folds.
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
    pairs = ((own.season, SEASONS), (own.weather, WEATHERS), (own.daytime, DAYTIMES), (own.scene, SCENES))
    return np.array([1.0] + [float(value == one) for value, known in pairs for one in known])


def _as_splits(parts: list[list[str]], fold: int) -> dict[str, str]:
    if not 0 <= fold < len(parts):
        raise ValueError(f"fold must be 0..{len(parts) - 1}, got {fold}")
    role = {fold: "test", (fold + 1) % len(parts): "val"}
    return {name: role.get(number, "train") for number, part in enumerate(parts) for name in part}
