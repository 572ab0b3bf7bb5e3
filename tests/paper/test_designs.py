"""Designs in PN's place: what each is blind to, planted verdicts, and a run's scenes through all of them."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from hsiutils.analysis.pixels import Spectra
from hsiutils.paper import designs as module
from hsiutils.paper.designs import (
    AUGMENTED,
    CHANGED,
    MARKS,
    NEEDS_SPACE,
    Augmented,
    best,
    designs,
    figures,
    real_answers,
    real_spectra,
    run_counts,
    strengths,
    verdicts,
)
from hsiutils.paper.sensor import daylight

NM = np.array([700.0, 650, 900, 800, 750])
LIGHT = np.array([[0.2, 0.3, -0.3, -0.2, 0.0], [0.1, -0.2, 0.1, 0.1, -0.1]])
SUNNY = ["nf1122_650", "nf1121_639"]


@pytest.fixture
def values():
    """Spectra (7, bands + image + around)."""
    return np.random.default_rng(0).uniform(0.1, 1, (7, 7))


def test_designs_are_blind_to_what_they_say(values):
    made = designs(NM, LIGHT)
    brighter, whole = values.copy(), 3 * values
    brighter[:, :-2] *= 3
    for name, one in made.items():
        same = name in ("PN", "clr", "daylight-free")
        assert np.allclose(one(brighter), one(values), atol=1e-6) == same, name
        relative = same or name.endswith(("/ image", "contrast"))
        assert np.allclose(one(whole), one(values), atol=1e-6) == relative, name


def test_daylight_moves_every_design_but_those_free_of_it(values):
    made = designs(NM, LIGHT)
    lit = values.copy()
    lit[:, :-2] *= np.exp(0.7 * LIGHT[0] - 0.4 * LIGHT[1])
    np.testing.assert_allclose(made["daylight-free"](lit), made["daylight-free"](values), atol=1e-12)
    for name in ("raw", "PN", "clr", "derivative"):
        assert np.abs(made[name](lit) - made[name](values)).max() > 0.005, name


def test_strength_runs_from_raw_to_pn(values):
    made, plain = strengths(), designs(NM, LIGHT)
    np.testing.assert_allclose(made["PN @ 0"](values), plain["raw"](values), rtol=1e-6)
    np.testing.assert_array_equal(made["PN @ 1"](values), plain["PN"](values))
    assert len(made) >= 7


def test_skylight_is_bluer_than_sun_and_sky_together():
    sky, low = daylight(np.eye(601)[::20])  # narrow bands from 400 to 1000 nm
    assert sky[0] == sky.max()
    assert np.corrcoef(np.arange(len(sky)), sky)[0, 1] < -0.8
    assert np.corrcoef(np.arange(len(low)), low)[0, 1] > 0  # a low sun is redder


def test_copies_at_other_brightnesses_teach_what_light_does():
    rng, truth = np.random.default_rng(0), np.arange(300) % 2
    shapes = np.array([[1.0, 1.0], [1.0, 1.5]])
    values = shapes[truth] * (1 + 0.03 * rng.standard_normal((300, 2)))
    plain = LinearDiscriminantAnalysis().fit(values, truth)
    taught = Augmented(LinearDiscriminantAnalysis()).fit(values, truth)
    darker = values * 0.3
    assert (plain.predict(darker) == truth).mean() < 0.6
    assert (taught.predict(darker) == truth).mean() > 0.75


def planted(robust, marks):
    """Counts of designs by name: percent of vegetation that changes, percent of marks found, alike in 12 scenes."""
    names, classes = list(robust), ["Road", "Road Marks", "Vegetation"]
    confusion = np.zeros((1, len(names), 12, 3, 3))
    relit = np.zeros((1, len(names), 12, 3, 3))
    drawn = np.random.default_rng(0).integers(0, 9, 12)  # scenes differ, and do so for all designs alike
    for column, name in enumerate(names):
        confusion[0, column] += np.diag([100, marks[name], 100])
        confusion[0, column, :, 1, 0] = 100 - marks[name]
        relit[0, column, :, 2] = (100, robust[name], 50)
        confusion[0, column, :, 0, 0] += drawn
        relit[0, column, :, 2, 1] += drawn
    coords = {"classifier": ["linear"], "input": names}
    told = xr.DataArray(
        confusion,
        coords | {"truth": classes, "predicted": classes},
        ("classifier", "input", "scene", "truth", "predicted"),
    )
    what = {"class": classes, "what": ["pixels", "changed", "right"]}
    return {
        "designs": told,
        "relit": xr.DataArray(relit, coords | what, ("classifier", "input", "scene", "class", "what")),
    }


def test_figures_are_those_planted():
    found = planted({"raw": 40, "PN": 5}, {"raw": 60, "PN": 30})
    value = figures(found, 0)["value"].sel(classifier="linear")
    assert float(value.sel(input="PN", figure=CHANGED)) == pytest.approx(9, abs=2)
    assert float(value.sel(input="raw", figure=MARKS)) == pytest.approx(60)
    assert float(value.sel(input="raw", figure="marks precision")) == 100
    gap = figures(found, 0, "raw")["value"].sel(classifier="linear", input="PN")
    assert float(gap.sel(figure=MARKS)) == pytest.approx(-30)


def test_verdicts_find_the_planted_design_and_name_none_that_is_not_told_apart():
    robust = {"raw": 40, "PN": 5, "good": 5, "dull": 5, "frail": 40, "PN @ 0.5": 5}
    marks = {"raw": 60, "PN": 30, "good": 85, "dull": 30, "frail": 85, "PN @ 0.5": 99}
    found = planted(robust, marks)
    table = verdicts(found, 0).set_index("input")
    assert table.loc["good", ["light:", "marks:", "reaches"]].tolist() == ["undecided", "better", True]
    assert table.loc["frail", ["light:", "marks:", "reaches"]].tolist() == ["worse", "better", False]
    assert table.loc["dull", "marks:"] == "worse"
    assert "PN @ 0.5" not in table.index
    assert best(found, 0, "linear") == ("good", [])
    twins = planted(robust | {"twin": 5}, marks | {"twin": 85})
    name, ties = best(twins, 0, "linear")
    assert {name, *ties} == {"good", "twin"}
    assert best(planted({"raw": 40, "PN": 5, "dull": 5}, {"raw": 60, "PN": 30, "dull": 30}), 0, "linear") == ("", [])


def test_class_means_answer_all_that_needs_no_place():
    rng, truth = np.random.default_rng(0), np.tile(np.arange(4), 15)
    values = np.ones((60, 5)) + 0.5 * np.eye(4, 5)[truth] + 0.02 * rng.standard_normal((60, 5))
    spectra = Spectra(values, truth, np.repeat(np.arange(15), 4), ("Road", "Vegetation", "Sky", "Other"))
    context = real_spectra(spectra).values
    np.testing.assert_allclose(context[:4, -2], values[:4].mean())
    table = real_answers(spectra, NM, LIGHT)
    assert set(table["input"]) == set(designs(NM, LIGHT)) - set(NEEDS_SPACE)
    mean = table[table["class"] == "mean"].set_index(["classifier", "input"])
    assert mean.loc[("linear", "PN"), "value"] > 95
    assert np.isnan(mean.loc[("linear", "raw"), "gain"])
    assert AUGMENTED in set(table["input"])


def test_the_runs_scenes_are_asked_once_and_under_both_suns(tiny_run, monkeypatch):
    monkeypatch.setattr(module, "sunny", lambda run: SUNNY)
    found = run_counts(tiny_run, daylight(), per_class=(2, 4))
    assert set(found) == {"exposure", "designs", "relit"}
    assert found["relit"]["scene"].values.tolist() == SUNNY
    pixels = found["relit"].sel(what="pixels")
    assert (pixels == pixels.isel(input=0)).all()
    assert (found["relit"] <= pixels).all()
    assert set(found["designs"]["scene"].values) <= set(tiny_run.data.names("test"))
    assert {MARKS, CHANGED, "Road right"} <= set(figures(found, 0)["figure"].values)
    real = run_counts(dataclasses.replace(tiny_run, data_root=tiny_run.data.root), daylight(), per_class=(2, 4))
    assert set(real) == {"exposure", "designs"}
    xr.testing.assert_equal(real["designs"], found["designs"])
