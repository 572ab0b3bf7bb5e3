"""Grids of tiny networks: interrupted, taken up again, with a point that cannot work, kept and read."""

import dataclasses
import json
import multiprocessing
import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from distributed import Client, LocalCluster
from tqdm import tqdm

from hsiutils.analysis.pixels import Spectra, scene_spectra
from hsiutils.data import inputs
from hsiutils.paper.designs import CHANGED
from hsiutils.paper.designs import designs as pixel_designs
from hsiutils.paper.exposure import exposure_spread, spread_of
from hsiutils.paper.robustness import edge_counts
from hsiutils.paper.studies import (
    Point,
    Study,
    channels,
    designs,
    exposure,
    find,
    marks,
    pn_strength,
    space,
    studies,
    variance,
)
from hsiutils.paper.table1 import counts_of
from hsiutils.paper.tradeoff import EDGE, figures

SUNNY = ["nf1122_650", "nf1121_639"]
"""Scenes of the tiny run in which the sun may shine; none of them is a test scene."""


def grid(run):
    return [Point(run, name, seed, {"input": name}) for name in run.variants for seed in run.seeds]


def reduce(found):
    return found["counts_of"][["confusion"]].merge(found["edge_counts"][["confusion"]].rename(confusion="edges"))


TINY = Study("tiny.nc", "two inputs", grid, (counts_of, edge_counts), reduce)


@contextmanager
def in_threads():
    """A cluster in threads of this process, which takes no time to start."""
    before = torch.get_num_threads()
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def threads():
    with in_threads():
        yield


@pytest.fixture(scope="module")
def undisturbed(tiny_run, threads):
    """Made in the store of the session, whose networks other tests share."""
    return TINY.make(tiny_run, progress=False)


def weights(run):
    networks = run.networks([(name, seed) for name in run.variants for seed in run.seeds], progress=False)
    return [(made.folder / "weights.safetensors").read_bytes() for made in networks]


def test_a_study_that_is_interrupted_and_taken_up_equals_one_that_is_not(tiny_run, store_root, tmp_path, monkeypatch):
    run = dataclasses.replace(tiny_run, variants=("3",))
    run.data  # noqa: B018 (rendered here, where it is not yet)
    shutil.copytree(store_root / "data", tmp_path / "data", ignore=shutil.ignore_patterns("*.partial", "*.lock"))
    monkeypatch.setenv("HSIUTILS_STORE", str(tmp_path))
    monkeypatch.setattr("hsiutils.paper.studies.workers", lambda: 1)
    update = tqdm.update

    def interrupted(bar, share):
        if threading.current_thread() is threading.main_thread():  # which hears of whole points
            raise KeyboardInterrupt
        return update(bar, share)

    with monkeypatch.context() as patch:
        patch.setattr("tqdm.std.tqdm.update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            TINY.make(run)
    assert multiprocessing.active_children() == []
    states = TINY.points(run)["state"].tolist()
    assert {"there", "missing"} == set(states)
    with in_threads():
        found = []
        for root in (tmp_path, store_root):  # the session's, whose networks other tests share
            monkeypatch.setenv("HSIUTILS_STORE", str(root))
            found.append((TINY.make(run, progress=False), weights(run)))
    xr.testing.assert_identical(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_points_lie_along_the_axes_and_hold_what_chapters_measure(tiny_run, undisturbed):
    assert dict(undisturbed.sizes) | {"input": 2, "seed": 2, "scene": 2} == dict(undisturbed.sizes)
    one = undisturbed["confusion"].sel(input="25-PN", seed=1, drop=True)
    np.testing.assert_array_equal(one, counts_of(tiny_run, "25-PN", 1)["confusion"])
    assert TINY.points(tiny_run)["state"].unique().tolist() == ["there"]


def test_a_point_that_fails_is_named_and_the_others_are_kept(tiny_run, threads):
    recipe = dataclasses.replace(tiny_run.profile.recipe, class_weights=(1.0, 2.0))
    wrong = dataclasses.replace(tiny_run, profile=dataclasses.replace(tiny_run.profile, recipe=recipe))
    points = [Point(wrong, "3", 0, {"recipe": "wrong"}), Point(tiny_run, "3", 0, {"recipe": "right"})]
    study = Study("failing.nc", "", lambda run: points, (counts_of,), reduce)
    with pytest.raises(RuntimeError, match=r"(?s)1 of . points failed.*recipe wrong, seed 0: .*do not fit 5 classes"):
        study.make(tiny_run, progress=False)
    assert study.points(tiny_run)["state"].tolist() == ["missing", "there"]


def test_a_record_says_how_it_was_made_and_is_refused_when_it_is_damaged(tiny_run, undisturbed, tmp_path):
    with pytest.raises(ValueError, match="hsiutils study tiny` makes it again"):
        TINY.recorded(tmp_path)
    assert TINY.shown(tmp_path) == (None, "There is no record of this study yet: `hsiutils study tiny` makes it.")
    TINY.keep(tiny_run, tmp_path, progress=False)
    found, manifest = TINY.recorded(tmp_path)
    assert manifest["date"] in TINY.shown(tmp_path)[1]
    xr.testing.assert_equal(found, undisturbed)
    assert (manifest["study"], manifest["profile"]["name"], list(manifest["seeds"])) == ("tiny", "tiny", [0, 1])
    assert {"date", "machine", "versions", "scenes"} <= set(manifest)
    fewer = dataclasses.replace(TINY, file="fewer.nc", grid=lambda run: [one for one in grid(run) if one.seed == 1])
    fewer.keep(tiny_run, tmp_path, progress=False)
    assert fewer.recorded(tmp_path)[1]["seeds"] == [1]
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(manifest | {"sha256": "0"}))
    with pytest.raises(ValueError, match="not the one of the manifest"):
        TINY.recorded(tmp_path)


def test_studies_are_found_by_name():
    assert all(name == study.name and study.about for name, study in studies().items())
    with pytest.raises(ValueError, match=r"expected one of .*pn-strength"):
        find("pn")


class TestStrengthOfPN:
    def test_its_ends_are_the_books_own_inputs(self, tiny_run):
        points = pn_strength.STUDY.grid(tiny_run)
        assert len(points) == 14
        assert {point.variant for point in points if point.at["strength"] in (0, 1)} == {"25", "25-PN"}

    def test_every_strength_gets_its_gain_and_its_cost(self, tiny_run, threads, monkeypatch):
        monkeypatch.setattr(pn_strength, "STRENGTHS", (0.5, 1.0))
        monkeypatch.setattr("hsiutils.paper.robustness.sunny", lambda run: SUNNY)
        run = dataclasses.replace(tiny_run, profile=dataclasses.replace(tiny_run.profile, models=1))
        found = pn_strength.STUDY.make(run, progress=False)
        assert {"strength": 2, "seed": 1, "sunny": 2, "scene": 2}.items() <= found.sizes.items()
        table = figures(found, 0)
        assert {CHANGED, EDGE, "Road right", "marks precision"} & set(table["figure"]) >= {CHANGED}
        assert table["value"].between(0, 100).all()
        assert set(table["strength"]) == {0.5, 1.0}


class TestDesigns:
    def test_one_is_raw_bands_that_were_trained_at_other_brightnesses(self, tiny_run):
        points = designs.STUDY.grid(tiny_run)
        assert len({str(point) for point in points}) == len(points) == 6 * 2
        assert set(designs.INPUTS) <= {*pixel_designs(range(25), np.eye(2, 25))}
        told = {point.at["design"]: point for point in points}
        own = [told[name].run._training("25", 0)["inputs"] for name in ("raw", designs.AUGMENTED)]
        assert (own[0]["variant"], own[0]["data"]) == (own[1]["variant"], own[1]["data"])
        assert [one["recipe"].brightness for one in own] == [0, designs.SPREAD]
        assert told["raw"].run is tiny_run


class TestSpace:
    def test_a_network_of_single_pixels_is_trained_and_measured(self, tiny_run, threads, monkeypatch):
        monkeypatch.setattr(space, "INPUTS", ("25-PN",))
        run = dataclasses.replace(tiny_run, profile=dataclasses.replace(tiny_run.profile, models=1))
        found = space.STUDY.make(run, progress=False)
        assert {"sees": 2, "input": 1, "scene": 2}.items() <= found.sizes.items()
        (point,) = (point for point in space.STUDY.grid(run) if point.at["sees"] == "pixel")
        config = point.run.model("25-PN").model.config
        assert (config.depth, config.kernel, config.filters) == (0, 1, space.FILTERS)

    def test_gains_are_those_planted(self):
        classes, names = ["Road", "Road Marks"], list(space.INPUTS)
        right = {"1": {"pixel": 40, "space": 80}, "25": {"pixel": 70, "space": 90}, "25-PN": {"pixel": 60, "space": 60}}
        noise = np.random.default_rng(0).normal(0, 0.5, (3, 2, 3, 12))
        hits = np.array([[right[name][sees] for sees in ("pixel", "space")] for name in names])[..., None, None] + noise
        confusion = np.zeros((*hits.shape, 1, 2, 2))
        for index in (0, 1):
            confusion[..., 0, index, index] = hits
            confusion[..., 0, index, 1 - index] = 100 - hits
        coords = {"input": names, "sees": ["pixel", "space"], "region": ["all"], "truth": classes, "predicted": classes}
        found = xr.Dataset(
            {"confusion": (("input", "sees", "seed", "scene", "region", "truth", "predicted"), confusion)}, coords
        )
        table = space.gains(found, 0).set_index(["added", "class"])
        of = {share: 100 * share / (200 - share) for share in (40, 60, 70, 80, 90)}  # IoU of two equal classes
        expected = [of[80] - of[40], of[90] - of[70], 0, of[70] - of[40], of[90] - of[80]]
        for added, gain in zip(space.GAINS, expected, strict=True):
            for name in (*classes, "mean"):
                row = table.loc[(added, name)]
                assert row["value"] == pytest.approx(gain, abs=1)
                assert (row["low"] < 0 < row["high"]) == (gain == 0)


class TestVariance:
    @pytest.fixture
    def networks(self):
        """Two inputs whose initial weights matter twice as much as the order and as what neither explains."""
        rng, shape = np.random.default_rng(3), (2, 60, 60)
        start, order = rng.normal(0, 2, (2, 1, 60)), rng.normal(0, 1, (2, 60, 1))
        values = np.array([50, 80])[:, None, None] + start + order + rng.normal(0, 1, shape)
        return xr.DataArray(values, dims=("input", "order", "seed"))

    def test_components_are_those_planted(self, networks):
        table = variance.components(networks)
        assert table["sd"].to_dict() == pytest.approx(
            {"initial weights": 2, "order of the images": 1, "both together": 1}, rel=0.15
        )
        assert table["share"].sum() == pytest.approx(100)
        assert table.loc["initial weights", "low"] < 4 < table.loc["initial weights", "high"]
        assert table.loc["initial weights", "p"] < 1e-6

    def test_where_nothing_matters_the_interval_begins_at_zero(self, networks):
        rng = np.random.default_rng(0)
        found = [variance.components(0 * networks[:, :3, :3] + rng.normal(size=(2, 3, 3))) for _ in range(200)]
        missed = np.array([table["low"].iloc[:2] > 0 for table in found])
        assert missed.mean() == pytest.approx(0.025, abs=0.02)
        ratios = pd.concat(table.iloc[:2] for table in found)
        assert (ratios["ratio"] == 0).mean() > 0.4  # estimated below zero about as often as above
        assert ((ratios["low"] <= ratios["ratio"]) & (ratios["ratio"] <= ratios["high"])).all()
        assert np.mean([table["p"].iloc[0] < 0.05 for table in found]) == pytest.approx(0.05, abs=0.04)

    def test_a_setting_is_held_against_the_luck_of_one_training(self):
        values = 50 + np.random.default_rng(1).normal(size=(1, 1, 3, 3, 3))
        values[:, :, 1:, 1:], values[:, :, 1:, :, 1:] = np.nan, np.nan
        values[0, 0, 1, 0, 0], values[0, 0, 2, 0, 0] = 60, 50.3
        coords = {"figure": ["marks IoU"], "input": ["25"], "setting": [variance.DEFAULT, "better", "same"]}
        table = variance.changes(xr.DataArray(values, coords, (*coords, "order", "seed"))).set_index("setting")
        assert table.loc["better", "value"] == pytest.approx(10, abs=1)
        assert table.loc["better", "low"] > 0 > table.loc["same", "low"]
        wild = 40 * (values - 50) + 50  # nothing that is lost or won leaves 0 to 100 %
        wild[0, 0, 1:, 0, 0] = 0, 100
        table = variance.changes(xr.DataArray(wild, coords, (*coords, "order", "seed"))).set_index("setting")
        assert table.loc["better", "high"] == table.loc["same", "low"] == 0
        usual = xr.DataArray([40.0, 50, 60], dims="seed")
        parts = pd.DataFrame(
            {"sd": [3.0, 4], "share": [36.0, 64], "p": [0.01, np.nan]}, ["initial weights", "both together"]
        )
        assert variance.finding(parts, usual, "25, marks IoU") == (
            "25, marks IoU: 3 trainings reach 40.0 to 60.0 %, 50.0 on average; standard deviation of one training 5.0 "
            "points, of its variance initial weights 36 %, both together 64 %; told from chance: initial weights"
        )
        assert set(table.index) == {"better", "same"}

    def test_settings_that_leave_nothing_are_said_together(self):
        values = np.full((1, 2, 4, 2, 2), 40.0)
        values[0, 1, 1:3], values[:, :, 1:, 1], values[:, :, 1:, :, 1] = 0, np.nan, np.nan
        coords = {"figure": ["marks IoU"], "input": ["25", "25-PN"], "setting": [variance.DEFAULT, "a", "b", "c"]}
        scores = xr.DataArray(values, coords, (*coords, "order", "seed"))
        (said,) = variance.lost_all(scores)
        assert said.startswith("25-PN, marks IoU: with a, b nothing is left of the 40.0 %")
        assert variance.lost_all(scores.sel(input=["25"])) == []

    def test_the_books_own_networks_are_part_of_it(self, tiny_run):
        points = variance.STUDY.grid(tiny_run)
        assert len(points) == len({str(point) for point in points}) == 2 * (2 * 2 + 4)
        own = [p for p in points if p.at["setting"] == variance.DEFAULT and p.seed == p.at["order"]]
        assert {point.run.profile for point in own} == {tiny_run.profile}
        counts = {s: p.network(["a"]) for s, p in variance.settings(tiny_run.profile).items()}
        assert (counts["one pooling less"].depth, counts["twice the filters"].filters) == (1, 4)


class TestChannels:
    def test_even_bands_run_from_end_to_end_and_one_is_the_middle(self):
        centres = [700, 600, 900, 800, 650]
        assert channels.even(centres, 3) == [0, 1, 2]
        assert channels.even(centres, 1) == [0]
        assert channels.even(centres, 5) == [0, 1, 2, 3, 4]

    def test_greedy_finds_the_bands_that_tell_classes_and_the_best_first(self):
        rng = np.random.default_rng(0)
        truth = np.tile([0, 1, 2], 60)
        values = rng.normal(size=(180, 5))
        values[:, 3] += 4 * (truth == 0)
        values[:, 1] += 2 * (truth == 1)
        spectra = Spectra(values, truth, np.repeat(np.arange(9), 20), ("a", "b", "c"))
        assert channels.greedy(spectra, 2) == [3, 1]

    @pytest.mark.filterwarnings("ignore:y_pred contains classes")  # a tiny fold may lack one
    def test_every_point_names_an_input_of_its_channels(self, tiny_run, monkeypatch):
        monkeypatch.setattr(channels, "COUNTS", (1, 3))
        points = channels.STUDY.grid(tiny_run)
        assert len(points) == len({str(point) for point in points}) == 2 * (3 + 2 * 2) * 2
        asked = {str(point.at["channels"]): inputs.variant(point.variant) for point in points}
        assert all(len(asked[name].bands) == int(name[0]) for name in ("1 even", "3 greedy"))
        assert {point.variant.endswith("-PN") for point in points if point.at["normalisation"] == "PN"} == {True}


def planted(hits, classes=("Road", "Road Marks", "Other"), scenes=6):
    """Confusion (..., scene, truth, predicted) with so many (...) of 1000 road marks found, the others called road.

    Scenes differ in how many marks they have, and seeds by a tenth of a point.
    """
    size = xr.DataArray(np.arange(1, scenes + 1), {"scene": [f"s{n}" for n in range(scenes)]}, ("scene",))
    found = (hits + xr.DataArray([-1, 0, 1], {"seed": [0, 1, 2]}, ("seed",))) * size
    rows = {name: xr.zeros_like(found) for name in classes}
    called = rows | {"Road Marks": found}
    of_marks = xr.concat([1000 * size - found if name == "Road" else called[name] for name in classes], "predicted")
    whole = [xr.concat([2000 * size + 0 * found if a == b else rows[a] for b in classes], "predicted") for a in classes]
    parts = [of_marks if name == "Road Marks" else one for name, one in zip(classes, whole, strict=True)]
    return (
        xr.concat(parts, "truth")
        .assign_coords(truth=list(classes), predicted=list(classes))
        .to_dataset(name="confusion")
    )


class TestMarks:
    def record(self):
        planted_costs = {"as it is": 10, "no noise": 7.5, "co-located bands": 6.5, "neither": 5, "lens 0.5 px": 8}
        cost = xr.DataArray([planted_costs.get(name, 12) for name in marks.CAMERAS], {"camera": list(marks.CAMERAS)})
        hits = 800 - 10 * cost * xr.DataArray([0, 1], {"variant": list(marks.INPUTS)}, ("variant",))
        counts = planted(hits)
        edges = xr.concat([counts, planted(0 * hits + 900)], xr.Variable("place", ["edge", "elsewhere"]))
        pixels = counts.expand_dims(classifier=["linear", "nonlinear"])
        counts = counts.expand_dims(region=["all"])
        return marks.STUDY.reduce({"counts_of": counts, "edge_counts": edges, "pixel_counts": pixels})

    def test_planted_effects_of_noise_and_displacement_are_found_and_sum_to_the_cost(self):
        found = marks.costs(self.record()).set_index(["figure", "effect"])
        expected = {
            "camera as it is": 10,
            "noise": 2,
            "displaced bands": 3,
            "lost intensity": 5,
            "noise x displacement": 1,
            "lens 1.5 px less 0.5 px": 4,
        }
        for figure in ("IoU", "recall", "IoU, single pixels"):
            assert found.loc[figure]["value"][list(expected)].tolist() == pytest.approx(list(expected.values()))
        assert found.loc[("recall at the edge against elsewhere", "displaced bands"), "value"] == pytest.approx(1.5)
        assert found.loc["precision"]["value"].abs().max() < 1e-9, "nothing is called marks that is not"
        width = (found["high"] - found["low"]).loc["IoU"]
        assert (width > 0).all()
        assert (width < 1).all()
        said = marks.finding(self.record(), marks.costs(self.record()))
        assert said[0].startswith("networks: PN costs road marks +10.0 [")
        assert said[0].endswith("; noise: adds to this; displaced bands: adds to this; lost intensity: adds to this")
        assert [one.split(",")[0] for one in said] == [
            "networks: PN costs road marks " + said[0].split("marks ")[1].split(",")[0],
            "networks",
            "single pixels",
        ]

    def test_networks_that_find_no_marks_are_told_and_no_interval_leaves_what_can_be(self):
        record = self.record()
        of_pn = {"camera": "neither", "variant": marks.INPUTS[1], "truth": "Road Marks", "predicted": "Road Marks"}
        record["confusion"].loc[of_pn | {"seed": record["seed"][0]}] = 0
        assert {name: none for name, (none, _) in marks.blind(record).items() if none} == {"neither": 1}
        table = marks.costs(record).set_index(["figure", "effect"])
        assert table.loc[("IoU", "lost intensity"), "high"] == 100
        judged, told, *_ = marks.finding(record, table.reset_index())
        assert f"find no marks at all: neither: 1 of {record.sizes['seed']};" in told
        assert judged.endswith("noise: no verdict; displaced bands: no verdict; lost intensity: no verdict")

    def test_single_pixels_are_those_of_the_camera_with_and_without_pn(self, tiny_run):
        raw, after = (marks.pixel_counts(tiny_run, name, 0)["confusion"] for name in marks.INPUTS)
        assert raw.dims == ("classifier", "scene", "truth", "predicted")
        assert raw.sum("predicted").equals(after.sum("predicted"))
        assert not raw.equals(after)
        assert raw.sum(["truth", "predicted"]).max() <= marks.PER_CLASS * raw.sizes["truth"]

    def test_every_camera_is_another_data_set_and_the_usual_one_the_runs_own(self, tiny_run):
        points = marks.STUDY.grid(tiny_run)
        assert len(points) == 6 * 2 * 2
        runs = {point.at["camera"]: point.run for point in points}
        assert runs["as it is"] == tiny_run
        assert len({run.simulation for run in runs.values()}) == 6


class TestExposure:
    def test_what_pn_gains_is_told_with_the_spread_of_light(self):
        jitters, gained = list(exposure.JITTERS), [-5.0, 0.0, 10.0]
        gain = xr.DataArray(gained, {"jitter": jitters}, ("jitter",))
        hits = 700 + 10 * gain * xr.DataArray([0, 1], {"variant": list(exposure.INPUTS)}, ("variant",))
        spread = xr.Dataset({"spread": 0 * hits + gain / 10}).expand_dims(seed=[0, 1, 2])
        counts = planted(hits).expand_dims(region=["all"])
        found = exposure.gains(exposure.STUDY.reduce({"counts_of": counts, "spread_of": spread}))
        own = found[found["class"] == "Road Marks"]
        assert own["value"].tolist() == pytest.approx(gained)
        assert own["spread"].tolist() == pytest.approx([-0.5, 0, 1])
        assert ((own["low"] < own["value"]) & (own["value"] < own["high"])).all()
        assert set(found["class"]) == {"Road", "Road Marks", "Other", "mean"}
        said = exposure.finding(found[::-1])
        mean, own = said.split(". And in road marks: ")
        assert mean.startswith("networks: PN gains, in points of IoU, mean of the classes without road marks: -")
        assert own.startswith("-5.0 [")
        for part in (mean, own):
            assert [one.rpartition(" ")[2] for one in part.split("; ")] == ["-0.50", "0.00", "1.00"]

    def test_the_spread_is_that_of_the_scenes_of_the_point(self, tiny_run):
        points = exposure.STUDY.grid(tiny_run)
        assert [point.run.simulation.exposure_jitter for point in points[::4]] == [0, 0.6, 1.2]
        assert points[0].run == tiny_run
        names = tiny_run.data.names("train") + tiny_run.data.names("test")
        every = exposure_spread(scene_spectra(tiny_run.data, names, 10**6))
        assert float(spread_of(points[0].run, "25", 0)["spread"]) == pytest.approx(every, rel=0.3)
