import numpy as np
import pandas as pd
import pytest
import torch
from planted import DEAD, EDGES, NOISE, RED_EDGE, planted, scene, scenes, trained_like, vegetation_head

from hsiutils.analysis.activations import (
    activation_maps,
    contributions,
    each_scene,
    head_table,
    observe,
    pick,
    region_sums,
    spaced,
)
from hsiutils.data.classes import CLASSES, VOID


@pytest.mark.parametrize(
    ("most", "centred", "expected"),
    [(4, False, [0, 2, 5, 7]), (4, True, [1, 3, 6, 8]), (1, True, [5]), (1, False, [0]), (99, True, list(range(10)))],
)
def test_spaced_names_cover_the_list(most, centred, expected):
    names = [f"s{index}" for index in range(10)]
    assert spaced(names, most, centred) == [f"s{index}" for index in expected]
    with pytest.raises(ValueError, match="at least one"):
        spaced(names, 0)


@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_5"])
def test_planted_channels_show_what_was_planted(layer):
    image = scene(1)[0].numpy()
    maps = activation_maps(planted(), torch.from_numpy(image)[None], layer).isel(scene=0).values
    inside = (slice(1, -1), slice(1, -1))
    edge = np.clip(image[1] - image[0], 0, None)
    across = np.abs(np.gradient(image[:2].sum(0), axis=1)) * 2
    np.testing.assert_allclose(maps[RED_EDGE], edge, atol=1e-6)
    np.testing.assert_allclose(maps[EDGES][inside], across[inside], atol=1e-5)
    np.testing.assert_allclose(maps[NOISE], image[2].clip(min=0), atol=1e-6)
    assert not maps[DEAD].any()


def test_before_and_after_differ_by_normalisation_and_relu():
    model, image = trained_like(), scene(0)[0]
    before, after = (activation_maps(model, image[None], "conv2d_9", after).values for after in (False, True))
    norm = model.decoder[-1].block.norm2
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().numpy()[:, None, None]
    shift, mean = (value.detach().numpy()[:, None, None] for value in (norm.bias, norm.running_mean))
    np.testing.assert_allclose(after[0], np.maximum((before[0] - mean) * scale + shift, 0), atol=1e-5)
    assert before.min() < 0 == after.min()


def test_coarse_layers_are_cropped_to_the_image_and_know_where_they_are():
    maps = activation_maps(trained_like(), scene(0)[0][None], "conv2d_5")
    assert maps.sizes == {"scene": 1, "channel": 16, "y": 7, "x": 10}
    assert list(maps["y"].values[:2]) == [1.5, 5.5]
    assert maps.attrs == {"layer": "conv2d_5", "after": True}
    with pytest.raises(KeyError, match=r"conv2d_99.*conv2d_10"):
        activation_maps(trained_like(), scene(0)[0][None], "conv2d_99")
    with pytest.raises(ValueError, match="images must be"):
        activation_maps(planted(), scene(0)[0])


def test_region_sums_are_those_of_a_loop_over_pixels():
    model, (image, truth) = trained_like(), scenes(1)[0]
    maps = observe(model, image, ["conv2d_1"])[0]["conv2d_1"]
    found = region_sums(maps, truth.numpy(), CLASSES)
    for region in range(5):
        inside = maps.astype(float)[:, truth.numpy() == region]
        one = found.isel(region=region)
        assert one["pixels"] == inside.shape[1]
        np.testing.assert_allclose(one["total"], inside.sum(1))
        np.testing.assert_allclose(one["square"], (inside**2).sum(1))
    assert found["pixels"].sum() == (truth != VOID).sum()


def test_scenes_come_in_order_with_their_names_and_those_that_do_not_fit_are_errors_that_name_them():
    pairs, (image, truth) = scenes(3), scene(0)
    found = list(each_scene(pairs, ["a", "b", "c"], 5))
    assert [one.name for one in found] == ["a", "b", "c"]
    assert all(torch.equal(one.image, image) for one, (image, _) in zip(found, pairs, strict=True))
    assert all((one.truth == truth.numpy()).all() for one, (_, truth) in zip(found, pairs, strict=True))
    with pytest.raises(ValueError, match="got 1 names for 3"):
        list(each_scene(pairs, ["one"], 5))
    with pytest.raises(ValueError, match=r"scene street: .*\(3, 26, 39\) and \(26, 38\)"):
        list(each_scene([(image, truth[:, 1:])], ["street"], 5))
    for code in (5, -1):
        truth[0, 0] = code
        with pytest.raises(ValueError, match=rf"scene 0: label {code} is no class; expected 0..4"):
            list(each_scene([(image, truth)], None, 5))


def test_rules_pick_by_rank_and_never_a_scene_without_score():
    scores = pd.Series({"e": 0.5, "a": 0.1, "c": np.nan, "b": 0.9, "d": 0.7})
    assert [pick(scores, rule) for rule in ("worst", "median", "best", "quantile:0.4")] == ["a", "e", "b", "e"]
    assert pick(pd.Series({"b": 1.0, "a": 1.0}), "best") == "a"  # of equal scores the first name
    with pytest.raises(ValueError, match="none of the 1 scenes has a score"):
        pick(pd.Series({"a": np.nan}))
    for rule in ("nicest", "quantile:2", "quantile:", "quantile:nan"):
        with pytest.raises(ValueError, match="unknown rule"):
            pick(scores, rule)


def test_weights_stand_where_they_were_planted():
    table = head_table(planted(bias=range(5)))
    assert table["weight"].sizes == {"channel": 4, "class": 5}
    np.testing.assert_array_equal(table["weight"].values.T, np.float32(vegetation_head()))
    assert table["weight"].sel({"class": "Vegetation", "channel": RED_EDGE}) == 4
    assert table["bias"].values.tolist() == [0, 1, 2, 3, 4]


def test_contributions_and_bias_are_the_logit_at_every_pixel_and_class():
    model, image = trained_like(), scene(0)[0]
    found = contributions(model, image)
    with torch.no_grad():
        logits = model(image[None])[0].numpy()
    np.testing.assert_array_equal(found["logit"], logits)
    total = found["contribution"].sum("channel") + found["bias"]
    assert abs(total.transpose("class", "y", "x").values - logits).max() < 1e-5 * abs(logits).max()
    found = contributions(planted(), image)["contribution"].sel({"class": "Vegetation", "channel": RED_EDGE})
    np.testing.assert_allclose(found, 4 * (image[1] - image[0]).clip(min=0), atol=1e-5)
