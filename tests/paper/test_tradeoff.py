"""Figures and verdicts of networks on planted counts; no network."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hsiutils.paper.designs import CHANGED, MARKS
from hsiutils.paper.studies import confirm
from hsiutils.paper.tradeoff import EDGE, NETWORK, figures, finding, gains, gaps, kept, verdicts

CLASSES = ["Road", "Road Marks", "Vegetation"]


def planted(changed, marks, edge, luck=1.0):
    """A record of designs by name, three seeds and twelve scenes: percent changed, marks found, edges right."""
    rng, names = np.random.default_rng(0), list(changed)
    confusion = np.zeros((len(names), 3, 12, 1, 3, 3))
    edges, relit = np.zeros((len(names), 3, 12, 2, 3, 3)), np.zeros((len(names), 3, 12, 3, 3))
    for place, name in enumerate(names):
        hits, right, unsure = (
            own[name] + luck * rng.normal(size=(3, 1)) + 2 * rng.normal(size=12) for own in (marks, edge, changed)
        )
        confusion[place] += np.diag([100, 0, 100])
        confusion[place, :, :, 0, 1, 1], confusion[place, :, :, 0, 1, 0] = hits, 100 - hits
        edges[place, :, :, :, 0, 0], edges[place, :, :, :, 0, 1] = right[..., None], (100 - right)[..., None]
        relit[place, :, :, 2] = np.stack([np.full((3, 12), 100.0), unsure, np.full((3, 12), 50.0)], -1)
    axes, scenes = {"design": names, "seed": [0, 1, 2]}, [f"scene {n}" for n in range(12)]
    matrix = {"truth": CLASSES, "predicted": CLASSES}
    return xr.Dataset(
        {
            "confusion": (("design", "seed", "scene", "region", "truth", "predicted"), confusion),
            "edges": (("design", "seed", "scene", "place", "truth", "predicted"), edges),
            "relit": (("design", "seed", "sunny", "class", "what"), relit),
        },
        axes
        | matrix
        | {"scene": scenes, "sunny": scenes, "region": ["all"], "place": ["edge", "elsewhere"], "class": CLASSES}
        | {"what": ["pixels", "changed", "right"]},
    )


BEST = {"raw": 40, "PN": 5}, {"raw": 60, "PN": 30}, {"raw": 70, "PN": 50}


def test_figures_are_those_planted_and_their_intervals_hold_both_lucks():
    table = figures(planted(*BEST), 0).set_index(["figure", "design"])
    for figure, at, expected in (
        (CHANGED, "PN", 5),
        (MARKS, "raw", 60),
        (EDGE, "raw", 70),
        ("Vegetation right", "PN", 50),
    ):
        row = table.loc[(figure, at)]
        assert row["value"] == pytest.approx(expected, abs=3)
        assert row["low"] <= expected <= row["high"]
    lucky = figures(planted(*BEST, luck=6), 0).set_index(["figure", "design"])
    wide, narrow = (float(one.loc[(MARKS, "raw"), "high"] - one.loc[(MARKS, "raw"), "low"]) for one in (lucky, table))
    assert wide > 3 * narrow


def test_verdicts_find_the_planted_design_and_none_that_fails_at_one_thing():
    told = [
        {**own, "good": good, "frail": frail, "blunt": blunt, "dull": dull}
        for own, (good, frail, blunt, dull) in zip(
            BEST, ((5, 40, 5, 5), (80, 80, 80, 30), (70, 70, 50, 50)), strict=True
        )
    ]
    table = verdicts(planted(*told), 0).set_index("input")
    assert table["reaches"].to_dict() == {"good": True, "frail": False, "blunt": False, "dull": False}
    assert table.loc["good", ["light:", "marks:", "edges:"]].tolist() == ["undecided", "better", "undecided"]
    assert table.loc["frail", "light:"] == table.loc["blunt", "edges:"] == table.loc["dull", "marks:"] == "worse"
    assert set(table["classifier"]) == {NETWORK}
    said = finding(planted(*told), table.reset_index(), 0)
    assert said[1:3] == [
        "networks: the aim is reached by good",
        "worse in none of the three, as far as noise lets see: good",
    ]
    assert said[3].startswith("of these good has the best marks, ")
    assert finding(planted(*told), table.drop(index="good").reset_index(), 0)[1:] == [
        "networks: no design reaches the aim outside the noise",
        "every design is worse in one of the three, by more than noise",
    ]
    assert table.loc["good", "marks"] == pytest.approx(20, abs=3)
    gained = gains(planted(*told), 0)  # in light, in marks, at edges: more is better
    assert set(gained) == set(table.index)
    for name, expected in {"good": (0, 20, 0), "frail": (-35, 20, 0), "blunt": (0, 20, -20)}.items():
        assert [one.mean for one in gained[name]] == pytest.approx(expected, abs=3)
        assert all(one.low < one.mean < one.high for one in gained[name])


def test_what_seeds_alone_could_have_done_is_not_decided():
    told = [{**own, "twin": own[to]} for own, to in zip(BEST, ("PN", "raw", "raw"), strict=True)]
    table = verdicts(planted(*told, luck=8), 0).set_index("input")
    assert table.loc["twin", ["light:", "marks:", "edges:"]].tolist() == ["undecided"] * 3
    assert not table.loc["twin", "reaches"]


def test_few_seeds_lend_each_other_their_spread():
    """Ten designs of two seeds whose luck is 3 points: alone each interval misses or is of no use."""
    names = [f"design {n:02}" for n in range(10)]
    found = planted(*(dict.fromkeys(names, at) for at in (20, 60, 60)), luck=3.0).isel(seed=[0, 1])
    own, shared = (figures(found, 0, pooled).set_index(["figure", "design"]) for pooled in ((), ("design",)))
    width = [(table["high"] - table["low"]).loc[MARKS] for table in (own, shared)]
    assert width[1].median() < width[0].median() / 2
    assert width[1].max() < 1.5 * width[1].min() < width[0].max() / 5
    rows = shared.loc[MARKS]
    assert ((rows["low"] < 60) & (rows["high"] > 60)).sum() >= 8
    apart = [gaps(found, "design", MARKS, names[0], 0, pooled) for pooled in (False, True)]
    assert apart[0][names[1]].mean == apart[1][names[1]].mean
    assert max(one.error for one in apart[1].values()) < 1.5 * min(one.error for one in apart[1].values())


def test_kept_counts_are_those_of_the_measures():
    one = planted(*BEST)
    relit = one["relit"].rename(sunny="scene").to_dataset("what").rename(right="correct")
    counts = one[["confusion"]].isel(region=[0, 0]).assign_coords(region=["all", "sunlit"])
    found = kept({"relit_changes": relit, "edge_counts": one[["edges"]].rename(edges="confusion"), "counts_of": counts})
    for name in ("confusion", "edges", "relit"):
        xr.testing.assert_equal(found[name].transpose(*one[name].dims), one[name])
    assert set(kept({"counts_of": counts})) == {"confusion"}


KEPT = {
    "good": ((5, 60, 70), ["kept", "kept", "kept"]),
    "frail": ((40, 60, 70), ["kept", "kept", "lost"]),  # relit vegetation changes as with raw bands
    "dull": ((5, 30, 70), ["lost", "kept", "kept"]),
    "blunt": ((5, 60, 50), ["kept", "lost", "kept"]),
    "half": ((5, 45, 70), ["undecided", "kept", "kept"]),  # at the margin, half of what PN loses
}


def test_a_design_keeps_what_it_loses_less_than_half_of():
    own = [{**known, **{name: one[place] for name, (one, _) in KEPT.items()}} for place, known in enumerate(BEST)]
    table = confirm.answers(planted(*own), planted(*BEST), 0)
    assert (table["lost_low"] <= table["lost"]).all()
    assert (table["lost"] <= table["lost_high"]).all()
    for name, (_, expected) in KEPT.items():
        one = table[table["design"] == name]
        assert one["figure"].tolist() == [MARKS, EDGE, CHANGED]
        assert one["verdict"].tolist() == expected
        assert one["margin"].tolist() == pytest.approx([15, 10, 17.5], abs=1)
        (said,) = confirm.findings(one)
        assert (" keeps what " in said) == (name == "good")
        assert said.count(" lost (") == expected.count("lost")


def test_the_choice_of_a_strength_is_told_beside_the_best():
    steps = (0.0, 0.2, 0.8, 0.9, 1.0)
    changed, marks, edge = (
        dict(zip(steps, own, strict=True)) for own in ((40, 9, 7, 5, 5), (60, 70, 60, 50, 20), (70,) * 5)
    )
    found = planted(changed, marks, edge, luck=0.1).rename(design="strength")
    said = confirm.choice(found, 0)
    assert "least vegetation changes at 0.9: " in said
    assert "the best marks are at 0.2: " in said
    asked = pd.DataFrame({"design": ["a", "a", "b"], "figure": ["x", "y", "x"], "verdict": ["kept", "lost", "kept"]})
    assert confirm.summary(asked) == "a: kept x; lost y. b: kept x"


def test_nothing_is_kept_where_the_record_that_chose_saw_no_difference_and_luck_is_large():
    even = [dict.fromkeys(("raw", "PN"), 50)] * 3
    found = planted(*[own | {"new": 50} for own in even], luck=6)
    assert confirm.answers(found, planted(*even), 0)["verdict"].tolist() == ["undecided"] * 3
