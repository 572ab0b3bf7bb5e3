import numpy as np
import pandas as pd
import pytest
import torch
from planted import scene, scenes

from hsiutils.analysis import each_scene, pick


def test_scenes_come_in_order_with_their_names():
    pairs = scenes(3)
    found = list(each_scene(pairs, ["a", "b", "c"]))
    assert [one.name for one in found] == ["a", "b", "c"]
    assert all(torch.equal(one.image, image) for one, (image, _) in zip(found, pairs, strict=True))
    assert all((one.truth == truth.numpy()).all() for one, (_, truth) in zip(found, pairs, strict=True))


@pytest.mark.parametrize("names", [["one"], ["a", "b", "c"]])
def test_names_must_match_scenes_in_number(names):
    with pytest.raises(ValueError, match=f"got {len(names)} for 2"):
        list(each_scene(scenes(2), names))


def test_a_label_map_of_another_size_is_an_error_that_names_the_scene():
    image, truth = scene(0)
    with pytest.raises(ValueError, match=r"scene street: .*\(3, 26, 39\) and \(26, 38\)"):
        list(each_scene([(image, truth[:, 1:])], ["street"]))


@pytest.mark.parametrize("code", [5, -1])
def test_an_index_that_is_no_class_is_an_error(code):
    image, truth = scene(0)
    truth[0, 0] = code
    with pytest.raises(ValueError, match=r"scene 0: label .* expected 0..4"):
        list(each_scene([(image, truth)]))


def test_rules_pick_by_rank_and_never_a_scene_without_score():
    scores = pd.Series({"e": 0.5, "a": 0.1, "c": np.nan, "b": 0.9, "d": 0.7})
    assert [pick(scores, rule) for rule in ("worst", "median", "best", "quantile:0.4")] == ["a", "e", "b", "e"]


def test_ties_go_to_the_first_name():
    assert pick(pd.Series({"b": 1.0, "a": 1.0}), "best") == "a"


@pytest.mark.parametrize("rule", ["nicest", "quantile:2", "quantile:", "quantile:nan"])
def test_unknown_rules_are_errors(rule):
    with pytest.raises(ValueError, match="unknown rule"):
        pick(pd.Series({"a": 1.0}), rule)


def test_nothing_to_pick_from_is_an_error():
    with pytest.raises(ValueError, match="none of the 1 scenes has a score"):
        pick(pd.Series({"a": np.nan}))
