import dataclasses
from itertools import product

import numpy as np
import pandas as pd
import planted
import pytest
import torch
import xarray as xr

from hsiutils.analysis.activations import head_table
from hsiutils.analysis.correlation import Features, moments
from hsiutils.analysis.similarity import source_name
from hsiutils.models.unet import UNet
from hsiutils.paper import activations as study
from hsiutils.paper import store
from hsiutils.paper.study import over_networks


def test_sums_of_a_network_are_kept_and_hold_every_labelled_pixel(tiny_run):
    drive = tiny_run.data
    sums = study.head_sums(tiny_run, "3", 0)
    labelled = [int((drive.labels(name) > 0).sum()) for name in drive.names("test")]
    assert sums["pixels"].sum("region").values.tolist() == labelled
    assert np.array_equal(sums["weight"].values, head_table(tiny_run.model("3", 0).model)["weight"])
    manifests = sorted(store.default_root().glob("activations/*/manifest.json"))
    times = [path.stat().st_mtime_ns for path in manifests]
    again = study.head_sums(tiny_run, "3", 0)
    assert again.equals(sums)
    assert [path.stat().st_mtime_ns for path in manifests] == times
    assert again.attrs["after"]  # else class_contributions refuses it


def test_networks_stand_side_by_side(tiny_run):
    both = over_networks(tiny_run, study.head_sums)
    assert both["gap"].dims == ("variant", "seed", "scene")
    assert (both["gap"] < 1e-4).all()
    assert both.sel(variant="25-PN", seed=1, drop=True).equals(study.head_sums(tiny_run, "25-PN", 1))
    assert list(over_networks(tiny_run, study.head_sums, ["3"])["variant"].values) == ["3"]


def test_everything_goes_over_all_test_scenes(tiny_run):
    names = tiny_run.data.names("test")
    for measure in (study.head_sums, study.edge_sums, study.skip_sums, study.skip_edge_sums, study.knocked):
        assert measure(tiny_run, "3", 0)["scene"].values.tolist() == names
    assert study.similarity_sums(tiny_run)["scene"].values.tolist() == names
    for measure in (study.input_edges, study.untrained_edges, study.material_sums):
        assert measure(tiny_run, "3", 0)["scene"].values.tolist() == names
    counts = study.knocked(tiny_run, "3", 0)
    assert counts.attrs["replacement"] == "mean"
    whole = counts["intact"].sum(["truth", "predicted"])
    assert (counts["silenced"].sum(["truth", "predicted"]) == whole).all()
    fields = study.fields(tiny_run, "3", 0, pixels=2)
    assert fields.groupby(["layer", "scene"]).size().tolist() == [2] * fields["layer"].nunique() * len(names)
    assert set(fields["scene"]) == set(names)
    assert (fields["theoretical"] > 0).all()


def test_networks_looked_at_together_are_what_each_is_alone(tiny_run):
    """Missing ones take one pass; what is found of a network does not depend on the company."""
    together = over_networks(tiny_run, study.skip_edge_sums)
    scenes = tiny_run.inputs("3", together["scene"].values)
    alone = planted.sums(tiny_run.model("3", 1).model, scenes, "skip_edges")
    one = together.sel(variant="3", seed=1)
    for name in ("slope", "noise", "contrast", "total"):
        np.testing.assert_allclose(one[name].transpose(*alone[name].dims), alone[name], rtol=1e-6)


def test_an_untrained_network_is_the_one_that_training_started_from(tiny_run):
    fresh = UNet(tiny_run.model("3", 1).model.config, torch.Generator().manual_seed(1)).eval()
    scenes = tiny_run.inputs("3", tiny_run.data.names("test"))
    edges = planted.sums(fresh, scenes, "edges", scenes.names)
    found = study.untrained_edges(tiny_run, "3", 1)
    np.testing.assert_allclose(found["noise"].transpose(*edges["noise"].dims), edges["noise"])
    one, other = (study.input_edges(tiny_run, "3", seed) for seed in tiny_run.seeds)
    assert one.equals(other)  # no training changes the input
    assert one.sizes["channel"] == 3
    sums = study.similarity_sums(tiny_run, untrained=True)
    names = [source_name(*network) for network in product(tiny_run.variants, tiny_run.seeds)]
    assert list(dict.fromkeys(sums["source"].values)) == names  # and no shuffled ones
    own = moments({names[1]: Features(fresh, scenes)}, names=scenes.names)
    np.testing.assert_allclose(sums["total"][:, sums["source"] == names[1]], own["total"])


def test_materials_are_those_inside_other_and_a_simulators_to_know(tiny_run, monkeypatch):
    sums = study.material_sums(tiny_run, "3", 0)
    other = tiny_run.data.classes.names.index("Other")
    truths = [truth for _, truth in (tiny_run.inputs("3", [name])[0] for name in sums["scene"].values)]
    assert sums["pixels"].sum("region").values.tolist() == [int((truth == other).sum()) for truth in truths]
    assert not sums.equals(study.material_sums(tiny_run, "3", 0, untrained=True))
    monkeypatch.setattr(type(tiny_run.data), "truth", lambda *_: None)
    study._material.cache_clear()
    with pytest.raises(ValueError, match="only simulated scenes tell"):
        study.material_sums(tiny_run, "25-PN", 1)


def test_every_network_is_a_source_and_the_first_ones_make_nulls(tiny_run):
    sums = study.similarity_sums(tiny_run)
    names = set(map(str, sums["source"].values))
    trained = {source_name(v, s) for v in tiny_run.variants for s in tiny_run.seeds}
    nulls = {source_name(v, 0, kind) for v in tiny_run.variants for kind in ("moved", "other scene")}
    assert names == trained | nulls


def test_models_to_show(tiny_run):
    assert study.choose_models(tiny_run, []) == ["3", "25-PN"]
    assert study.choose_models(tiny_run, ["3"]) == ["3"]
    assert study.choose_models(dataclasses.replace(tiny_run, variants=("PCA-1",)), []) == ["PCA-1"]


def test_scenes_are_chosen_by_name_or_rule():
    scores = pd.Series({"nf1111_001": 0.5, "nf1111_002": 0.9, "nf1111_003": 0.1, "nf1111_004": np.nan})
    assert study.choose_scenes(scores, "median") == ["nf1111_001", "nf1111_003", "nf1111_002"]
    assert study.choose_scenes(scores, "best") == ["nf1111_002", "nf1111_003"]
    assert study.choose_scenes(scores, "nf1111_004")[0] == "nf1111_004"
    with pytest.raises(ValueError, match="unknown rule"):
        study.choose_scenes(scores, "prettiest")


def test_scene_scores_are_of_the_intact_network():
    good, bad = np.diag([4.0, 4.0]), np.diag([4.0, 4.0])[::-1]
    coords = {"scene": ["x", "y"], "truth": ["a", "b"], "predicted": ["a", "b"]}
    counts = xr.Dataset({"intact": (tuple(coords), [good, bad]), "silenced": (tuple(coords), [bad, good])}, coords)
    assert study.scene_scores(counts).to_dict() == {"x": 1.0, "y": 0.0}


def test_maps_are_those_of_the_scene_and_the_layer(tiny_run):
    drive = tiny_run.data
    scene = drive.names("test")[1]
    found = study.contribution_maps(tiny_run, "3", 0, scene)
    summed = found["contribution"].sum("channel") + found["bias"]
    assert abs(summed - found["logit"]).max() < 1e-4 * abs(found["logit"]).max()
    last = tiny_run.model("3", 0).model.config.last
    maps = study.layer_maps(tiny_run, "3", 0, scene, last)
    assert np.array_equal(maps["after"].values, found["activation"].values)
    assert (maps["after"] >= 0).all()
    assert (maps["before"] < 0).any()
    with pytest.raises(KeyError, match="no layer 'conv2d_99'"):
        study.layer_maps(tiny_run, "3", 0, scene, "conv2d_99")
