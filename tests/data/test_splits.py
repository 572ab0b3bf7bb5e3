from collections import Counter
from itertools import chain

import numpy as np
import pytest

from hsiutils.data.names import Conditions, name_table
from hsiutils.data.splits import fold_splits, runs, sequences, split_scenes, stratified_folds

ALL = [str(name) for name in name_table().index]


def test_a_sequence_has_consecutive_numbers_and_equal_conditions() -> None:
    names = ["nf1111_012", "nf1111_010", "nf1111_011", "nf1112_013", "nf1112_015", "nf1111_016"]
    assert sequences(names) == [
        ["nf1111_010", "nf1111_011", "nf1111_012"],
        ["nf1112_013"],
        ["nf1112_015"],
        ["nf1111_016"],
    ]
    assert sequences([]) == []


def test_the_real_names_come_from_124_sequences_and_the_published_split_leaks() -> None:
    groups, splits = sequences(ALL), split_scenes(ALL)
    assert sorted(chain.from_iterable(groups)) == sorted(ALL)
    assert len(groups) == 124
    for group in groups:
        numbers = [Conditions.parse(name).number for name in group]
        assert numbers == list(range(numbers[0], numbers[0] + len(group)))
        assert len({name[:6] for name in group}) == 1
    assert Counter(splits.values()) == {"train": 451, "val": 150, "test": 151}
    leaking = [n for g in groups for n in g if splits[n] == "test" and "train" in {splits[m] for m in g}]
    assert len(leaking) == 151


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folds_never_share_a_sequence_and_are_alike_in_size_and_every_condition(seed: int) -> None:
    folds = stratified_folds(ALL, seed=seed)
    assert sorted(chain.from_iterable(folds)) == sorted(ALL)
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold}
    assert all(len({fold_of[name] for name in group}) == 1 for group in sequences(ALL))
    assert all(abs(len(fold) - len(ALL) / 5) < 8 for fold in folds)
    for digit in range(2, 6):
        whole = Counter(name[digit] for name in ALL)
        for fold in folds:
            share = Counter(name[digit] for name in fold)
            assert all(abs(share[d] / len(fold) - whole[d] / len(ALL)) < 0.06 for d in whole)


def test_folds_depend_on_the_seed_and_not_on_the_order_of_names() -> None:
    shuffled = list(np.random.default_rng(0).permutation(ALL))
    assert stratified_folds(shuffled, seed=3) == stratified_folds(ALL, seed=3)
    assert stratified_folds(ALL, seed=3) != stratified_folds(ALL, seed=4)


def test_each_fold_tests_once_and_the_next_one_validates() -> None:
    parts = stratified_folds(ALL, seed=1)
    for fold in range(5):
        roles = dict.fromkeys(ALL, "train") | dict.fromkeys(parts[fold], "test")
        assert fold_splits(ALL, fold, seed=1) == roles | dict.fromkeys(parts[(fold + 1) % 5], "val")


def test_official_lists_come_first_where_they_know_every_scene() -> None:
    names = ALL[:4]
    official = dict(zip(names, ["test", "val", "train", "train"], strict=True))
    assert split_scenes(names, official) == official
    assert split_scenes(names, {names[0]: "test"}) == dict(name_table()["split"][names])


def test_unknown_names_fall_back_to_folds_and_are_all_for_testing_where_too_few() -> None:
    foreign = [f"nf14{name[4:]}" for name in ALL if name[2:4] != "14"]
    splits = split_scenes(foreign)
    assert set(splits.values()) == {"train", "val", "test"}
    assert splits == fold_splits(foreign)
    foreign = [f"nf1433_{number:03d}" for number in (1, 2, 3, 50, 51, 100)]
    assert split_scenes(foreign) == dict.fromkeys(foreign, "test")
    with pytest.raises(ValueError, match="these 6 scenes come from 3"):
        fold_splits(foreign)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fold": 5}, r"fold must be 0\.\.4"), ({"folds": 2}, "at least 3 folds"), ({"folds": 125}, "come from 124")],
)
def test_impossible_folds(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fold_splits(ALL, **options)


def test_runs_keep_neighbours_together() -> None:
    assert list(runs([*"ecabd"]).items()) == [*zip("abcde", ["train"] * 3 + ["val", "test"], strict=True)]
    assert set(runs(["a"]).values()) == {"train"}
