from collections import Counter
from itertools import chain

import numpy as np
import pytest

from hsiutils.data.names import Conditions, name_table
from hsiutils.data.splits import sequences, split_scenes, stratified_folds

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


def test_the_real_names_come_from_124_sequences() -> None:
    groups = sequences(ALL)
    assert sorted(chain.from_iterable(groups)) == sorted(ALL)
    assert len(groups) == 124
    for group in groups:
        numbers = [Conditions.parse(name).number for name in group]
        assert numbers == list(range(numbers[0], numbers[0] + len(group)))
        assert len({name[:6] for name in group}) == 1


def test_the_published_split_does_leak_as_stated() -> None:
    splits = split_scenes(ALL)
    assert Counter(splits.values()) == {"train": 451, "val": 150, "test": 151}
    leaking = [n for g in sequences(ALL) for n in g if splits[n] == "test" and "train" in {splits[m] for m in g}]
    assert len(leaking) == 151


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folds_never_share_a_sequence(seed: int) -> None:
    folds = stratified_folds(ALL, seed=seed)
    assert sorted(chain.from_iterable(folds)) == sorted(ALL)
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold}
    assert all(len({fold_of[name] for name in group}) == 1 for group in sequences(ALL))


def test_folds_are_alike_in_size_and_in_every_condition() -> None:
    folds = stratified_folds(ALL)
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
        splits = split_scenes(ALL, method="folds", fold=fold, seed=1)
        assert sorted(n for n, s in splits.items() if s == "test") == parts[fold]
        assert sorted(n for n, s in splits.items() if s == "val") == parts[(fold + 1) % 5]
        assert sum(s == "train" for s in splits.values()) == sum(map(len, parts)) - len(parts[fold]) - len(
            parts[(fold + 1) % 5]
        )


def test_official_lists_come_first_where_they_know_every_scene() -> None:
    names = ALL[:4]
    official = dict(zip(names, ["test", "val", "train", "train"], strict=True))
    assert split_scenes(names, official) == official
    assert split_scenes(names, {names[0]: "test"}) == dict(name_table()["split"][names])
    assert split_scenes(names, official, method="hs3-bench") == dict(name_table()["split"][names])


def test_unknown_names_fall_back_to_folds() -> None:
    foreign = [f"nf14{name[4:]}" for name in ALL if name[2:4] != "14"]
    splits = split_scenes(foreign)
    assert set(splits.values()) == {"train", "val", "test"}
    assert splits == split_scenes(foreign, method="folds")


def test_a_set_too_small_for_folds_is_for_testing_only() -> None:
    foreign = [f"nf1433_{number:03d}" for number in (1, 2, 3, 50, 51, 100)]
    assert split_scenes(foreign) == dict.fromkeys(foreign, "test")
    with pytest.raises(ValueError, match="these 6 scenes come from 3"):
        split_scenes(foreign, method="folds")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"method": "random"}, "method must be"),
        ({"method": "official"}, "official split does not know 752 of 752"),
        ({"official": dict.fromkeys(ALL, "training")}, "'training'.*expected train, val, test"),
        ({"method": "folds", "fold": 5}, r"fold must be 0\.\.4"),
        ({"method": "folds", "folds": 2}, "at least 3 folds"),
        ({"method": "folds", "folds": 125}, "come from 124"),
    ],
)
def test_bad_input(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_scenes(ALL, **kwargs)
