from itertools import permutations

import numpy as np
import pandas as pd
import planted
import pytest
import torch
import xarray as xr
from scipy import stats

from hsiutils.analysis.activations import region_sums
from hsiutils.analysis.channels import discrimination, knock_out, rank_channels
from hsiutils.analysis.edges import edge_measures
from hsiutils.models.metrics import evaluate
from hsiutils.paper import merits as results
from hsiutils.paper.claims import read_claims
from hsiutils.plots.tables import ranges

SCENES = planted.scenes(4)


def driving(strength):
    """A network where vegetation's red edge speaks for Road as strongly as it is told to, edges everywhere."""
    head = planted.vegetation_head()
    head[planted.ROAD, planted.RED_EDGE] = strength
    return planted.planted(head)


@pytest.fixture(scope="module")
def networks():
    """Two variants, two seeds."""
    sums = [[planted.sums(driving(size * sign), SCENES) for size in (3, 3.2)] for sign in (1, -1)]
    rows = [xr.concat(own, xr.Variable("seed", [0, 1])) for own in sums]
    return xr.concat(rows, xr.Variable("variant", ["wrong", "right"]))


def placed(sums):
    """Mean contribution to Road on vegetation, in logits."""
    total = xr.dot(sums["total"], sums["weight"].sel({"class": "Road"}), dim="channel")
    return (total.sum("scene") / sums["pixels"].sum("scene")).sel(region="Vegetation")


def test_vegetation_that_is_predicted_road_is_found_and_a_blind_network_shows_itself():
    pairs = planted.scenes(8)
    models = {
        "wrong": driving(5),
        "right": driving(-3),
        "all road": planted.planted(0 * planted.vegetation_head(), [1, 0, 0, 0, 0]),
    }
    models["gauge"] = planted.planted(models["wrong"].head.weight[:, :, 0, 0].detach().numpy() + np.array([3, 0, 1, 0]))
    counts = {name: evaluate(model, pairs) for name, model in models.items()}
    share = {name: results.predicted_as(found).item() for name, found in counts.items()}
    assert share["wrong"] > 95
    assert share["gauge"] == share["wrong"]  # what all logits share says nothing
    assert share["right"] < 5
    assert share["all road"] == results.predicted_as(counts["all road"], None).item() == 100
    rng = np.random.default_rng(0)
    permuted = [(x, y.flatten()[torch.from_numpy(rng.permutation(y.numel()))].reshape(y.shape)) for x, y in pairs]
    chance = evaluate(models["wrong"], permuted)
    assert results.predicted_as(chance).item() == pytest.approx(results.predicted_as(chance, None).item(), abs=5)


def test_both_intervals_hold_the_mean_and_seeds_bound_it(networks):
    table = results.by_variant(networks, placed, seed=1)
    assert list(table.index) == ["wrong", "right"]
    for low, high in (("least", "most"), ("low", "high")):
        assert table["mean"].between(table[low] - 1e-9, table[high] + 1e-9).all()
    compared = results.compare(networks, placed, 1, ["wrong"], ["right"])
    assert compared["difference"].tolist() == pytest.approx([table["mean"]["wrong"] - table["mean"]["right"]] * 2)
    for more, less, verdict in (
        ("wrong", "right", "holds"),
        ("right", "wrong", "the reverse holds"),
        ("wrong", "wrong", "cannot be told"),
    ):
        told = results.findings({"c": placed}, networks, 1, [more], [less])
        assert told["verdict"].tolist() == [verdict] * 2
        assert told["interval"].tolist() == ["over seeds", "over scenes"]


def test_nothing_known_is_said_and_not_made_up(networks):
    def nothing(sums):
        return placed(sums) * np.nan

    assert np.isnan(results.compare(networks, nothing, 0, ["wrong"], ["right"])).all(axis=None)
    assert results.by_variant(networks, nothing, 0).isna().all(axis=None)
    told = results.findings({"c": nothing}, networks, 0, ["wrong"], ["right"])
    assert told["verdict"].tolist() == ["cannot be told"] * 2
    assert results.findings({"c": placed}, networks, 0).empty  # these networks are not the paper's
    # A scale at which the interval over two seeds is far wider than shares can differ.
    wild = {words: lambda sums: 100 * placed(sums) for words in ("logits", "share (points)")}
    bounds = results.findings(wild, networks, 0, ["wrong"], ["right"]).set_index("statement")["high"]
    assert bounds["logits"].max() > 100
    assert bounds["share (points)"].max() == 100
    with pytest.raises(ValueError, match="no finite value"):
        results.contrast(nothing(networks), ["wrong"], ["right"])


def test_one_scene_gives_no_interval_over_scenes_and_one_network_no_spread(networks):
    table = results.by_variant(networks.isel(scene=[0]), placed, 0)
    assert table["mean"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)
    table = results.by_variant(networks.isel(seed=[0]), placed, 0)
    assert table[["least", "most"]].isna().all(axis=None)
    assert table["low"].notna().any()
    assert list(ranges(table, "placement").columns) == ["placement"]


def test_the_planted_channels_are_the_top_ones():
    sums = planted.sums(planted.planted(), SCENES)
    top, own, every = results.top_channel(sums, "Vegetation")
    first = results.ranking(sums, "Vegetation", 0).iloc[0]
    assert top == first["channel"] == planted.RED_EDGE
    assert own == pytest.approx(first["score"])
    assert own / every == pytest.approx(first["score_share"])
    edges = planted.sums(planted.planted(), SCENES, "edges")
    assert results.boldest_channel(edges, "Vegetation") in (planted.RED_EDGE, planted.EDGES)


def test_the_costliest_channel_has_its_rank_by_score():
    dims, coords = ("class", "channel"), {"class": ["a", "b", "c"], "channel": [0, 1, 2]}
    nothing = [np.nan] * 3
    score = xr.DataArray([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0], nothing], coords, dims)
    loss = xr.DataArray([[0.1, 0.9, 0.2], [0.9, 0.1, 0.2], nothing], dims=dims, coords=coords)
    assert results._rank_of_costliest(score, loss).values == pytest.approx([1, 3, np.nan], nan_ok=True)


def material_sums(values, by):
    """Of one channel's values (pixel) of one scene, by two materials (pixel)."""
    return region_sums(values[None, None], by[None], ["metal", "glass"]).expand_dims("scene")


def test_materials_explain_what_was_planted_and_permuted_ones_nothing():
    rng = np.random.default_rng(0)
    by = np.repeat([0, 1], 500)
    values = 3 + by + 0.5 * rng.normal(size=1000)  # a variance of a quarter between and inside
    assert results.explained(material_sums(values, by)).item() == pytest.approx(50, abs=3)
    assert results.explained(material_sums(10 * values, by)).item() == pytest.approx(50, abs=3)
    assert results.explained(material_sums(values, rng.permutation(by))).item() < 1


def test_noise_at_edges_is_found_where_it_was_planted():
    quiet, loud = (
        planted.sums(planted.planted(), planted.scenes(4, noise=noise), "edges").isel(channel=[planted.NOISE])
        for noise in (0.01, 0.5)
    )
    # The planted noise is white: in its own standard deviations it is 1 however loud; the red edge's own noise is none.
    assert results.edge_noise(loud).item() == pytest.approx(1, abs=0.15)
    edge = planted.sums(planted.planted(), SCENES, "edges").isel(channel=[planted.RED_EDGE])
    assert results.edge_noise(edge).item() < 0.05
    for measure in ("noise", "noise_to_contrast", "width", "floor_noise"):
        whole = edge_measures(loud)[measure].mean("class").item()
        assert results.edge_noise(loud, measure).item() == pytest.approx(whole, nan_ok=True)
    assert results.edge_noise(quiet).item() == pytest.approx(results.edge_noise(loud).item(), abs=0.15)


def test_the_planted_ranking_stands_in_every_resample():
    sums = planted.sums(planted.planted(), SCENES)
    table = results.ranking(sums, "Vegetation", seed=0)
    direct = rank_channels(discrimination(sums[["weight", "bias"]], sums)).loc["Vegetation"]
    np.testing.assert_allclose(table["score"], direct["score"])
    first = table.iloc[0]
    assert first["channel"] == planted.RED_EDGE
    assert first["score_low"] <= first["score"] <= first["score_high"]
    assert first["score_low"] > table["score_high"].iloc[1:].max()  # the red edge, whatever the scenes
    assert table["logit_share_low"].iloc[-1] == table["logit_share_high"].iloc[-1] == pytest.approx(1)
    alone = results.ranking(sums.isel(scene=[0]), "Vegetation", seed=0)
    assert alone["score"].notna().all()
    assert alone["score_low"].isna().all()


def test_knocking_out_the_planted_channel_costs_its_class_the_most():
    model = planted.planted(bias=[0.3, 0, 0, 0.1, 0])
    table = results.knock_out_table(planted.sums(model, SCENES), knock_out(model, SCENES), seed=0)
    vegetation = table.loc["Vegetation"]
    assert vegetation["place"] == 1
    assert vegetation["loss_low"] <= vegetation["loss"] <= vegetation["loss_high"]
    assert vegetation["loss"] > 50
    assert vegetation["rho"] > 0.7
    assert list(table.index) == list(planted.CLASSES)


def test_readings_find_the_planted_channels_and_nothing_in_exchanged_ones():
    model = planted.planted(bias=[0.3, 0, 0, 0.1, 0])
    sums, silenced = planted.sums(model, SCENES), knock_out(model, SCENES)
    found = results.readings(sums, silenced)
    assert (found.sel({"class": "Vegetation"}).to_dataarray() > 0.5).all()
    table = results.knock_out_table(sums, silenced, seed=0)
    np.testing.assert_allclose(found["score"], table["rho"])
    orders = [silenced.isel(channel=list(order)).drop_vars("channel") for order in permutations(range(4))]
    means = xr.concat([results.readings(sums, one) for one in orders], "order").mean("order").to_dataarray()
    np.testing.assert_allclose(means.where(means.notnull(), 0), 0, atol=1e-12)


def test_readings_are_told_with_their_range_and_by_the_ledgers_bound():
    each = xr.DataArray([[[0.0, 0.2], [0.1, 0.3]]], dims=("variant", "seed", "class"))
    told = results.readings_in_words(xr.Dataset({"contribution": each, "score": each + 0.4}))
    assert told[0].startswith("The paper's reading, what a channel adds to a class, ranks channels")
    assert "+0.15 (rank correlation, mean of 2 networks; single ones from +0.10 to +0.20)" in told[0]
    assert told[1].startswith("This book's score ranks channels")
    assert told[2] == "Reliable, 0.5 or more: This book's score."
    assert results.readings_in_words(xr.Dataset({"contribution": each, "score": each * np.nan}))[1:] == [
        "Reliable, 0.5 or more: neither."
    ]
    (claim,) = (one for one in read_claims() if one.id == "head-contributions-reliable")
    assert claim.expects == {"above": results.RELIABLE}


def test_rank_correlation_is_spearmans_and_nothing_where_all_is_equal():
    one = xr.DataArray([[3.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]], dims=("class", "channel"))
    other = xr.DataArray([[9.0, 1.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]], dims=("class", "channel"))
    found = results.rank_correlation(one, other, "channel")
    assert found[0] == pytest.approx(stats.spearmanr(one[0], other[0]).statistic)
    assert np.isnan(found[1])


def test_median_fields_are_of_all_pixels_with_an_interval_over_scenes():
    rows = [
        {"layer": layer, "scene": scene, "diameter": base + value}
        for layer, base in (("conv2d_1", 0), ("conv2d_3", 100))
        for scene, values in {"a": (1, 2), "b": (3, 9), "c": (4, np.nan)}.items()
        for value in values
    ]
    table = results.median_fields(pd.DataFrame(rows), seed=0)
    assert table["median"].to_dict() == {"conv2d_1": 3, "conv2d_3": 103}
    assert (table["low"] < table["median"]).all()
    assert (table["median"] < table["high"]).all()
    assert results.median_fields(pd.DataFrame(rows[:2]), seed=0)["low"].isna().all()


def test_pooled_resamples_give_the_intervals_of_scenes_put_together(networks):
    pooled, plain = (results.by_variant(networks, placed, 1, pools) for pools in (True, False))
    np.testing.assert_allclose(pooled[["mean", "least", "most"]], plain[["mean", "least", "most"]])
    np.testing.assert_allclose(pooled[["low", "high"]], plain[["low", "high"]], rtol=0.05)
    assert (pooled["low"] < pooled["high"]).all()


def test_scenes_that_agree_leave_the_interval_over_trainings():
    seeds = np.array([[1.0, 2.0, 4.0], [3.0, 3.5, np.nan]])  # of the second input there are two
    sums = xr.DataArray(seeds, {"input": ["a", "b"], "seed": [0, 1, 2]}, ("input", "seed")).expand_dims(scene=9)
    found = results.with_both(xr.Dataset({"x": sums}), lambda drawn: drawn["x"].mean("scene"), seed=0)
    for name, own in zip("ab", ([1.0, 2.0, 4.0], [3.0, 3.5]), strict=True):
        half = stats.t.ppf(0.975, len(own) - 1) * stats.sem(own)
        at = found.sel(input=name)
        np.testing.assert_allclose([at["low"], at["high"]], [np.mean(own) - half, np.mean(own) + half], rtol=1e-6)
