"""The sun turned, and places near an edge: planted predictions that the measures must find, and nulls."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from hsiutils.data.source import open_dataset
from hsiutils.models.metrics import boundary_distance
from hsiutils.paper import robustness
from hsiutils.paper.robustness import (
    TURN_DEG,
    changed_share,
    edge_cost,
    edge_counts,
    mark_edges,
    marks_precision,
    precision_cost,
)
from hsiutils.paper.study import FILE, read

CLASSES = ("Road", "Road Marks", "Sky")
SUNNY = ["nf1122_650", "nf1121_639"]
"""Scenes of the tiny run in which the sun may shine; they need not be test scenes to be rendered again."""


@pytest.fixture(scope="module")
def turned(tiny_run):
    return tiny_run.turned(SUNNY, TURN_DEG).folder


def changes(tiny_run, turned, tmp_path, predicted):
    """Counted changes of a prediction (name, data set)."""
    robustness._count_changes(tmp_path, lambda: predicted, tiny_run.data, turned, SUNNY)
    return read(tmp_path / FILE)


def test_turned_scenes_differ_in_their_light_alone(tiny_run, turned):
    other = open_dataset(turned)
    for name in SUNNY:
        np.testing.assert_array_equal(other.labels(name), tiny_run.data.labels(name))
        before, after = (one.truth(name) for one in (tiny_run.data, other))
        for same in ("material", "depth_m", "object_id"):
            np.testing.assert_array_equal(before[same], after[same])
    pairs = [[one.truth(name)["sunlit"].values for one in (tiny_run.data, other)] for name in SUNNY]
    assert any(np.nanmax(np.abs(before - after)) > 0.5 for before, after in pairs)


def test_what_follows_the_light_changes_everywhere_and_what_ignores_it_nowhere(tiny_run, turned, tmp_path):
    def by_light(name, data):
        return (np.nan_to_num(data.truth(name)["sunlit"].values) >= 0.5).astype(int)

    def by_label(name, data):
        return data.classes.merge(data.labels(name))

    found = changes(tiny_run, turned, tmp_path, by_light)
    assert found["pixels"].sum() > 0
    assert (changed_share(found).dropna("class") == 100).all()
    labelled = changes(tiny_run, turned, tmp_path, by_label)
    assert (changed_share(labelled).dropna("class") == 0).all()
    assert (changed_share(labelled, "correct").dropna("class") == 100).all()


def test_one_wrong_class_under_both_suns_does_not_change_and_is_not_right(tiny_run, turned, tmp_path):
    plants = list(tiny_run.data.classes.names).index("Vegetation")
    found = changes(tiny_run, turned, tmp_path, lambda name, data: np.full_like(data.labels(name), plants))
    assert (changed_share(found).dropna("class") == 0).all()
    right = changed_share(found, "correct").dropna("class")
    assert right.sel({"class": "Vegetation"}) == 100
    assert (right.drop_sel({"class": "Vegetation"}) == 0).all()
    assert right.sizes["class"] > 1


def test_networks_and_single_pixels_are_asked_under_both_suns(tiny_run, monkeypatch):
    monkeypatch.setattr(robustness, "sunny", lambda run: SUNNY)
    network = robustness.relit_changes(tiny_run, "3", 0)
    pixels = robustness.pixel_relit_changes(tiny_run, "PN", per_class=20)
    for found in (network, pixels):
        assert dict(found.sizes) == {"scene": 2, "class": 5}
        assert (found["changed"] <= found["pixels"]).all()
    assert (network["pixels"] == pixels["pixels"]).all()


def test_only_simulated_sunny_scenes_can_be_asked(tiny_run, tmp_path):
    with pytest.raises(ValueError, match="the sun shines in no test scene"):
        robustness.relit_changes(tiny_run, "3", 0)
    real = dataclasses.replace(tiny_run, data_root=tiny_run.data.root)
    with pytest.raises(ValueError, match="only simulated scenes"):
        robustness.pixel_relit_changes(real, "PN")


@pytest.fixture
def street():
    """Road with a wide mark, and sky above it (h, w)."""
    truth = np.zeros((40, 60), np.uint8)
    truth[10:30, 20:40] = 1
    truth[:4] = 2
    return truth


def cost(predicted, truth, of=edge_cost):
    counts = mark_edges(predicted, truth, CLASSES).expand_dims("scene")
    return float(of(counts))


def test_a_mark_that_is_drawn_too_wide_or_too_thin_costs_its_edge(street):
    assert cost(street, street) == 0
    wide, thin = street.copy(), street.copy()
    wide[9:31, 19:41] = 1
    thin[10:30, 20:40] = 0
    thin[11:29, 21:39] = 1
    assert boundary_distance(street.shape) == 1
    assert cost(wide, street) == pytest.approx(50)  # every edge pixel of the road, none of the marks
    assert cost(thin, street) == pytest.approx(50)


def test_errors_that_fall_anywhere_cost_nothing(street):
    rng = np.random.default_rng(0)
    found = [cost(np.where(rng.random(street.shape) < 0.3, 2, street), street) for _ in range(40)]
    assert abs(np.mean(found)) < 2
    assert cost(np.full_like(street, 2), street) == 0  # an untrained network that says one class


def precisions(predicted, truth):
    found = marks_precision(mark_edges(predicted, truth, CLASSES).expand_dims("scene"))
    return float(found.sel(place="edge")), float(found.sel(place="elsewhere"))


def test_false_marks_on_open_road_cost_precision_there_and_not_at_the_edge(street):
    rng = np.random.default_rng(0)
    near_marks = ndimage.maximum_filter(street == 1, 5)
    scattered = np.where((street == 0) & ~near_marks & (rng.random(street.shape) < 0.2), 1, street)
    edge, elsewhere = precisions(scattered, street)
    assert edge == 100
    assert elsewhere == pytest.approx(100 / 1.2, abs=2)
    assert cost(scattered, street, precision_cost) < -10
    wide = street.copy()
    wide[9:31, 19:41] = 1
    assert precisions(wide, street) == (50, 100)  # all road at the edge is called marks
    assert cost(wide, street, precision_cost) == 50


def test_false_marks_that_fall_anywhere_cost_no_precision_at_the_edge(street):
    """Though plain precision is far lower where there is hardly a mark."""
    rng = np.random.default_rng(0)
    found = [cost(np.where(rng.random(street.shape) < 0.3, 1, street), street, precision_cost) for _ in range(40)]
    assert abs(np.mean(found)) < 2
    any_class = [cost(rng.integers(0, 3, street.shape), street, precision_cost) for _ in range(40)]
    assert abs(np.mean(any_class)) < 3
    assert cost(np.full_like(street, 1), street, precision_cost) == 0
    assert np.isnan(cost(np.full_like(street, 2), street, precision_cost))  # nothing is called marks


def test_void_counts_nowhere(street):
    predicted = np.where(street == 1, 0, street)
    hidden = np.where(street == 1, 255, street)
    assert mark_edges(predicted, hidden, CLASSES)["confusion"].sel(truth="Road Marks").sum() == 0


def test_edges_are_counted_of_every_network(tiny_run):
    found = edge_counts(tiny_run, "3", 0)
    assert list(found["place"].values) == ["edge", "elsewhere"]
    assert set(found["confusion"].sum(["scene", "place", "predicted"]).truth.values) >= {"Road", "Road Marks"}
    counted = found["confusion"].sum(["scene", "place"])
    assert counted.sel(truth="Sky").sum() == 0
    assert isinstance(edge_cost(found), xr.DataArray)
