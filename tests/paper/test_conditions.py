"""Leaving a condition out: which scenes train, and what planted counts are found to lose."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from hsiutils.data.names import Conditions
from hsiutils.paper.studies import conditions
from hsiutils.paper.studies.conditions import (
    CONDITIONS,
    CONTROL,
    MEAN,
    NET,
    NULL,
    UNSEEN,
    WHOLE,
    compared,
    has,
    losses,
    trainings,
)
from hsiutils.paper.table1 import counts_of

NAMES = [
    Conditions(*words, number).name
    for number, words in enumerate(
        product(("winter", "fall"), ("sunny", "wet"), ("sunset", "dawn"), ("highway", "road")), 1
    )
]
CLASSES = ["Road", "Sky"]


def confusion(wrong: float) -> np.ndarray:
    """Of 100 pixels of each class, so many of Road called Sky: IoU of Road 100 - wrong, of Sky 100 / (100 + wrong)."""
    return np.array([[100 - wrong, wrong], [0, 100]])


def at(table, where):
    """Rows of one place, by condition, input and class."""
    return table[table["where"] == where].set_index(["condition", "input", "class"])


@pytest.fixture
def planted() -> xr.Dataset:
    """A record in which "3" loses 20 points of Road on scenes that were never seen, "25" ten, "25-PN" none."""
    lost, inputs = {"3": 20, "25": 10, "25-PN": 0}, ["3", "25", "25-PN"]
    trained, seeds = [CONTROL, *CONDITIONS, WHOLE], [0, 1, 2]
    counts = np.full((len(trained), 3, 3, len(NAMES), 2, 2), np.nan)
    for (i, one), (j, name), (k, scene) in product(enumerate(trained), enumerate(inputs), enumerate(NAMES)):
        unseen = one in CONDITIONS and has(scene, one)
        counts[i, j, 0, k] = confusion(10 + lost[name] * unseen)
        if one == WHOLE:
            counts[i, j, :, k] = [confusion(10 + error) for error in (-1, 0, 1)]
    dims = {"trained": trained, "input": inputs, "seed": seeds, "scene": NAMES, "truth": CLASSES, "predicted": CLASSES}
    return xr.DataArray(counts, dims).to_dataset(name="confusion")


def test_networks_learn_as_many_scenes_and_never_of_what_is_left_out(tiny_run):
    runs, tested = trainings(tiny_run), {*tiny_run.data.names("val"), *tiny_run.data.names("test")}
    assert list(runs) == [CONTROL, *CONDITIONS]
    learned = {one: [run.data.names(split) for split in ("train", "val")] for one, run in runs.items()}
    ((count, _),) = {tuple(map(len, splits)) for splits in learned.values()}
    epochs = {run.profile.recipe.epochs for run in runs.values()}
    assert epochs == {round(tiny_run.profile.recipe.epochs * len(tiny_run.data.names("train")) / count)}
    recipe = replace(tiny_run.profile.recipe, epochs=40, validate_every=4)
    rarely = replace(tiny_run, profile=replace(tiny_run.profile, recipe=recipe))
    assert all(run.profile.recipe.epochs % 4 == 0 for run in trainings(rarely).values())
    assert not any(tested & {*train, *val} for train, val in learned.values())
    for one in CONDITIONS:
        assert not any(has(name, one) for names in learned[one] for name in names)
    assert (
        len(conditions.STUDY.grid(tiny_run)) == 5 * 4 + 2 * 2
    )  # and the tiny run's own networks, of two of the inputs


def test_what_leaves_nothing_to_train_with_is_refused(tiny_run, monkeypatch):
    monkeypatch.setattr(conditions, "has", lambda name, condition: condition == "sunny")
    with pytest.raises(ValueError, match="of 6 training scenes only 0 are not sunny"):
        trainings(tiny_run)


def test_a_network_is_asked_about_all_scenes_that_nothing_trained_on(tiny_run):
    scenes = [*tiny_run.data.names("val"), *tiny_run.data.names("test")]
    found = conditions.unseen_counts(tiny_run, "3", 0)
    assert found["scene"].values.tolist() == scenes
    train = tiny_run.data.names("train")
    assert int(found["learned"].sel(condition="winter")) == sum(has(name, "winter") for name in train)
    assert int(found["learned_in_all"]) == len(train)
    record = xr.concat([found.expand_dims(input=["3"], seed=[0])] * 2, xr.Variable("trained", [CONTROL, "winter"]))
    assert conditions.learned(record).startswith(f"Every network learned from {len(train)} scenes; among the control's")
    test = found["confusion"].sel(scene=tiny_run.data.names("test"))
    expected = counts_of(tiny_run, "3", 0)["confusion"].sel(region="all")
    np.testing.assert_array_equal(test, expected)


def test_what_is_lost_unseen_is_found_and_elsewhere_nothing(planted):
    every = losses(planted, seed=0)
    assert len(every) == 3 * 5 * 3 * 3
    found = at(every, UNSEEN)
    for condition, (name, lost) in product([*CONDITIONS, MEAN], {"3": 20, "25": 10, "25-PN": 0}.items()):
        assert found.loc[(condition, name, "Road"), "value"] == pytest.approx(lost)
    assert found["scenes"].groupby("condition").unique().explode().to_dict() == dict.fromkeys(CONDITIONS, 8) | {
        MEAN: 16
    }
    np.testing.assert_allclose(at(every, NULL)["value"], 0, atol=1e-9)
    np.testing.assert_allclose(at(every, NET)["value"], found["value"], atol=1e-9)


def test_an_interval_is_as_wide_as_trainings_differ(planted):
    every = losses(planted, seed=0)
    found = at(every, UNSEEN).loc[("winter", "25-PN", "Road")]
    # Scenes are all alike here, and IoU of Road is a point off from seed to seed: of two networks, twice the variance.
    half = stats.t.ppf(0.975, 6) * np.sqrt(2)
    assert (found["low"], found["high"]) == pytest.approx((-half, half))
    net = at(every, NET).loc[("winter", "25-PN", "Road")]
    assert (net["low"], net["high"]) == pytest.approx(
        (0, 0), abs=1e-6
    )  # a point off on all scenes is no matter of winter
    alone = losses(planted.sel(trained=[CONTROL, *CONDITIONS]), seed=0)
    assert alone["low"].isna().all()  # nobody knows how far trainings differ


def test_inputs_are_compared_by_what_they_lose(planted):
    found = at(compared(planted, seed=0), NET)["value"]
    for condition in (*CONDITIONS, MEAN):
        assert found[condition, "25 less 3", "Road"] == pytest.approx(-10)
        assert found[condition, "25-PN less 25", "Road"] == pytest.approx(-10)
    said = conditions.findings(losses(planted, 0), compared(planted, 0))
    assert sum("generalises better" in one for one in said) == 3
    assert said[-1] == (
        "On all other scenes 0 of 15 losses, means among them, can be told from zero; chance makes one in 20."
    )
    assert conditions.luck(planted, losses(planted, 0)) == []
    inputs = losses(planted.isel(input=slice(None, None, -1)), 0)["input"]
    assert list(dict.fromkeys(inputs)) == ["3", "25", "25-PN"]
    more = conditions.advice(losses(planted, 0), compared(planted, 0))
    assert "2 of 3 inputs (3: 17.0, 25: 8.8 points, less what is lost on all other scenes)" in more[0]
    assert more[1].startswith("By condition, of 3 inputs so many have a loss that is told from zero: winter 2, ")
    assert ". The mean loss with the null left in is not, for 25-PN: " in more[1]
    assert "smaller for 25 less 3 (-" in more[2]
    assert "left out" not in more[2]
    assert set(found.index.get_level_values("input")) == {"25 less 3", "25-PN less 3", "25-PN less 25"}


def test_a_network_that_is_worse_on_all_scenes_does_not_generalise_better(planted):
    """The control of 25-PN is ten points worse everywhere: not to see winter seems to do it good."""
    planted["confusion"].loc[{"input": "25", "seed": 0}] = planted["confusion"].sel(input="25-PN", seed=0)
    planted["confusion"].loc[{"input": "25-PN", "trained": CONTROL, "seed": 0}] = confusion(20)
    lost, gaps = losses(planted, 0), compared(planted, 0)
    seen = (MEAN, "25-PN less 25", "Road")
    assert [at(gaps, where).loc[seen, "value"] for where in (UNSEEN, NULL, NET)] == pytest.approx(
        [-10, -10, 0], abs=1e-6
    )
    assert at(gaps, UNSEEN).loc[seen, "high"] < 0
    (pair,) = (one for one in conditions.findings(lost, gaps) if one.startswith("25-PN less 25"))
    assert pair.endswith("cannot be told apart.")
    assert "25-PN mean (-" in next(one for one in conditions.findings(lost, gaps) if one.startswith("On all other"))
    assert "25-PN less 25" not in conditions.advice(lost, gaps)[2]
    (said,) = conditions.luck(planted, lost)
    assert said.startswith("25-PN on these scenes: its control has")


def test_a_class_that_a_training_missed_counts_for_no_input(planted):
    """25-PN finds no sky from scenes of all kinds, and some without winter: as if it did better for not seeing it."""
    planted["confusion"].loc[{"trained": CONTROL, "input": "25-PN", "truth": "Sky"}] = 0  # what is called Sky is Road
    assert not conditions.found_by_all(planted).sel({"input": "25-PN", "class": "Sky"})
    assert conditions.found_by_all(planted).sum() == 5
    lost = losses(planted, 0)
    table = at(lost, UNSEEN)["value"]
    assert np.isnan(table["winter", "25-PN", "Sky"])
    assert table["winter", "3", "Sky"] > 5
    for name, expected in (("3", 20), ("25", 10), ("25-PN", 0)):
        assert table["winter", name, MEAN] == pytest.approx(table["winter", name, "Road"])
        assert table["winter", name, "Road"] == pytest.approx(expected, abs=1e-6)
    gaps = compared(planted, 0)
    said = conditions.findings(lost, gaps)
    caveat = ", Sky left out, which a network of 25-PN does not find."
    assert said[-1].startswith("Sky is in no mean, for a network of 25-PN does not find it;")
    assert all(
        one.endswith(caveat)
        for one in (*(one for one in said if "generalises" in one), conditions.advice(lost, gaps)[2])
    )
