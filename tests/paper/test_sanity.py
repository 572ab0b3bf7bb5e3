from types import SimpleNamespace

import numpy as np
import pandas as pd
import planted
import pytest
import torch
import xarray as xr
from strangers import SmpUNet, settled

from hsiutils.attribution.methods import METHODS
from hsiutils.paper import sanity
from hsiutils.paper.studies import sanity as record
from hsiutils.paper.studies import walls

NETWORKS = 3


def encoder(model, x, target, layer=None):
    """Reads the bottom only."""
    with torch.no_grad():
        return SimpleNamespace(map=xr.DataArray(model.encoder[0].conv1(x[None])[0].numpy()))


def edges(model, x, target, layer=None):
    """Reads no weights."""
    return SimpleNamespace(map=xr.DataArray(np.diff(x.numpy(), axis=2)))


@pytest.fixture(scope="module")
def found():
    """Networks of random weights: each is another, so that own and other redrawn maps can be told apart."""
    models = [planted.trained_like(seed) for seed in range(NETWORKS)]
    methods = {"encoder": encoder, "edges": edges, "GradCAM": METHODS["GradCAM"]}
    methods |= dict.fromkeys(sanity.GUIDED, encoder)  # planted for what they are said to be
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sanity, "smoothed", lambda method, copies, seed: method)
        parts = [
            sanity._of_scene(models, methods, image, truth.numpy(), None, seeds=range(NETWORKS), scenes=iter([number]))
            for number, (image, truth) in enumerate(planted.scenes(3))
        ]
    return xr.concat(parts, "scene")


def test_a_map_of_the_encoder_is_left_from_the_head_down_and_gone_from_the_bottom_up(found):
    assert sanity.left(found, "head down", "encoder").low > 0.5
    gone = sanity.left(found, "bottom up", "encoder")
    assert abs(gone.mean) < 0.3
    assert gone.sign <= 0
    top = found["redrawn"].sel({"method": "encoder", "check": "head down"}).transpose("network", "partner", ...)
    np.testing.assert_allclose(top.values[range(3), range(3)], 1)


def test_a_map_that_reads_no_weights_has_nothing_of_a_network(found):
    for check in sanity.CHECKS:
        assert sanity.left(found, check, "edges").mean == pytest.approx(0, abs=1e-6)
    assert sanity.rise(found, "edges").mean == 0


def test_networks_that_are_not_ours_are_checked_the_same_way(monkeypatch):
    monkeypatch.setattr(sanity, "smoothed", lambda method, copies, seed: method)
    image, truth = planted.scene(0)
    models = [settled(SmpUNet(), image, torch.float32, seed) for seed in range(NETWORKS)]
    methods = {"edges": edges, "gradient": METHODS["gradient"]}
    found = sanity._of_scene(models, methods, image, truth.clamp_max(2).numpy(), seeds=range(3), scenes=iter([0]))
    found = found.expand_dims("scene")
    assert sanity.left(found, "head down", "edges").mean == pytest.approx(0, abs=1e-6)
    assert sanity.left(found, "head down", "gradient").mean > 0.1  # what is below the decoder is kept
    assert abs(sanity.left(found, "bottom up", "gradient").mean) < 0.3
    assert (found["complexity"].sel(state="redrawn") != found["complexity"].sel(state="trained")).any()


def test_a_change_of_complexity_counts_above_what_two_draws_of_weights_differ_by():
    trained, redrawn = np.array([[3.0, 1.0, 2.0], [1.0, 1.1, 0.9]]), np.array([[1.0, 3.0, 2.0], [2.0, 2.2, 1.8]])
    values = np.stack([trained, redrawn])[:, :, None].repeat(2, 2)  # (state, method, scene, network)
    dims, states = ("state", "method", "scene", "network"), {"state": ["trained", "redrawn"]}
    found = xr.Dataset({"complexity": (dims, values)}, states | {"method": ["any weights", "reacts"]})
    assert np.mean(redrawn[0] / trained[0] - 1) > 0.4  # without the null it would have risen
    assert sanity.reacts(found, "any weights").mean == pytest.approx(0)
    assert sanity.reacts(found, "reacts").sign == 1
    assert sanity.rise(found, "reacts").low > 0.9
    assert sanity.reacts(found * 0, "reacts").mean == 0


def test_sentences_and_table_follow_the_signs(found):
    (sentence,) = sanity.finding(found, ["encoder"])
    assert "that something of the network is left is shown by 1 of 3 checks (head down)." in sentence
    assert sanity.sentence(found).endswith("is shown by 1 of 3 checks (head down).")
    unknown = found.assign(redrawn=found["redrawn"] * 0)
    assert sanity.sentence(unknown).endswith("is shown by none of 3 checks.")
    table = sanity.sanity_table(found)
    complexity = ["rise of complexity", "change above its null (nats)"]
    assert list(table.columns) == [*(f"left, {check}" for check in sanity.CHECKS), *complexity]
    lost = found.assign(redrawn=found["redrawn"] * np.nan)
    assert (sanity.sanity_table(lost)["left, bottom up"] == "undefined").all()


def test_checks_and_walls_of_a_run_are_kept(tiny_run, monkeypatch):
    monkeypatch.setattr(sanity, "RANDOMISED", ("GradCAM", "Guided BackProp"))
    found = sanity.revisited(tiny_run, "25-PN", 0, most=1)
    assert dict(found.sizes) == {"scene": 1, "check": 3, "method": 2, "network": 2, "partner": 2, "state": 2}
    assert (found["complexity"] > 0).any()
    (point,) = record.STUDY.grid(tiny_run)
    assert (point.variant, point.seed) == ("25-PN", 0)
    reduced = record.STUDY.reduce({"revisited": found.expand_dims(input=["25-PN"], seed=[0])})
    assert reduced["redrawn"].dims == ("scene", "check", "method", "network", "partner")
    monkeypatch.setattr(sanity, "WALLED", ("linear decomposition", "GradCAM"))
    walled = sanity.walls(tiny_run, "25-PN", 0, most=1)
    assert float(walled["share"].isel(map=0, scene=0)) == 0
    assert 0.3 < float(walled["area"].mean()) < 0.4
    assert [(point.variant, point.seed) for point in walls.STUDY.grid(tiny_run)] == [("25-PN", 0), ("25-PN", 1)]
    kept = walls.STUDY.reduce({"walls": walled.expand_dims(input=["25-PN"], seed=[0, 1])})
    noise = xr.DataArray(np.random.default_rng(0).normal(0.5, 0.1, (12, 2, 3)), dims=("scene", "seed", "map"))
    share = kept["share"].isel(scene=0, drop=True) + noise.where(kept["layer"] != "input", 0)
    told = sanity.behind_walls(share.to_dataset(name="share"), 0)
    assert told["method"].tolist() == ["linear decomposition", "GradCAM", "GradCAM"]
    assert (told["low"] > 0).tolist() == [False, True, True]
    assert told["value"][0] == told["most"][0] == 0
    assert (told["least"] <= told["value"]).all()
    assert told["high"][1] - told["low"][1] < 0.2


def test_sentences_on_walls_name_the_least_and_the_most_of_a_layer():
    rows = [("gradient", "input", 0.0), ("CAM", "last", 0.0), ("EigenCAM", "last", 0.585), ("GradCAM", "last", 0.3)]
    said = sanity.walls_in_words(pd.DataFrame(rows, columns=["method", "layer", "value"]), 1 / 3)
    assert said == [
        "Maps at the input: none has anything behind the wall.",
        "Maps at last: 0 % (CAM) to 58 % (EigenCAM) of their mass is behind the wall; a map that is the same "
        "everywhere has 33 %.",
    ]
