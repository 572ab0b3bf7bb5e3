import numpy as np
import pytest
import torch
from planted import DEAD, EDGES, NOISE, RED_EDGE, planted, scenes, trained_like, vegetation_head

from hsiutils.analysis import (
    class_means,
    discrimination,
    head_table,
    iou_loss,
    knock_out,
    rank_channels,
    ranking_agreement,
    region_statistics,
)
from hsiutils.attribution.hooks import replaced
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.metrics import confusion, iou


def found_in(model, pairs):
    return discrimination(head_table(model), region_statistics(model, pairs))


def test_the_planted_channels_come_first_for_their_class():
    table = rank_channels(found_in(planted(), scenes()))
    assert table.loc[("Vegetation", 1), "channel"] == RED_EDGE
    assert table.loc[("Road Marks", 1), "channel"] == EDGES
    assert list(table.index.get_level_values("class").unique()) == list(CLASSES)


def test_noise_and_dead_channels_set_no_class_apart():
    score = found_in(planted(), scenes())["score"]
    assert abs(score.sel(channel=[NOISE, DEAD])).max() < 0.01 * abs(score).max()


def test_scores_sum_to_the_margin_on_own_pixels_less_that_on_the_others():
    """The margin straight from the network's logits, class by class, in float64."""
    model, pairs = trained_like(), scenes(3)
    score = found_in(model, pairs)["score"].sum("channel").values
    truth = np.concatenate([truth.numpy().ravel() for _, truth in pairs])
    with torch.no_grad():
        logits = np.concatenate([model(image[None])[0].flatten(1).double().numpy() for image, _ in pairs], axis=1)
    for index in range(5):
        margin = logits[index] - np.delete(logits, index, axis=0).mean(axis=0)
        means = [margin[truth == other].mean() for other in range(5)]
        assert score[index] == pytest.approx(means[index] - np.mean(np.delete(means, index)), abs=1e-4)


def test_scores_know_nothing_of_a_number_added_to_all_logits():
    pairs, shared = scenes(2), np.array([5.0, -3.0, 2.0, 1.0])
    plain, moved = (found_in(planted(head), pairs)["score"] for head in (vegetation_head(), vegetation_head() + shared))
    np.testing.assert_allclose(plain, moved, atol=1e-5)


def test_contribution_taken_and_granted_make_the_score():
    found = found_in(trained_like(), scenes(2))
    np.testing.assert_allclose(found["contribution"] + found["taken"] - found["granted"], found["score"], atol=1e-9)


def test_taken_is_the_fall_of_the_others_mean_logit_on_own_pixels():
    model, pairs = planted(), scenes(2)
    found = found_in(model, pairs).sel({"class": "Vegetation", "channel": RED_EDGE})
    activation = class_means(region_statistics(model, pairs)).sel({"class": "Vegetation", "channel": RED_EDGE})
    assert found["contribution"] == pytest.approx(4 * activation.item())
    assert found["taken"] == pytest.approx(2 / 4 * activation.item())


def test_all_channels_together_explain_the_whole_logit():
    table = rank_channels(found_in(trained_like(), scenes(2)))
    last = table.groupby("class").tail(1)
    np.testing.assert_allclose(last[["logit_share", "score_share"]], 1)
    assert (table["score"].groupby("class").diff().dropna() <= 0).all()


def test_a_class_that_no_scene_shows_has_no_score_and_spoils_no_other():
    pairs = [(image, torch.where(truth == 3, VOID, truth)) for image, truth in scenes(2)]
    score = found_in(planted(), pairs)["score"]
    assert score.sel({"class": "Sky"}).isnull().all()
    assert score.drop_sel({"class": "Sky"}).notnull().all()


def test_statistics_of_another_layer_are_refused():
    model = trained_like()
    with pytest.raises(ValueError, match=r"got conv2d_9 \(after=False\)"):
        discrimination(head_table(model), region_statistics(model, scenes(1), after=False))


def test_regions_must_be_the_classes():
    image, truth = scenes(1)[0]
    halves = region_statistics(planted(), [(image, torch.zeros_like(truth))], regions=["all"])
    with pytest.raises(ValueError, match="regions must be the head's classes"):
        discrimination(head_table(planted()), halves)


@pytest.mark.parametrize("replacement", ["zero", "mean"])
def test_knock_out_is_that_of_the_network_with_the_channel_replaced(replacement):
    model, pairs = trained_like(), scenes(2)
    level = np.array([0.3, 0.0, 1.0, 0.5]) if replacement == "mean" else np.zeros(4)
    counts = knock_out(model, pairs, replacement, level if replacement == "mean" else None)
    for number, (image, truth) in enumerate(pairs):
        for channel in range(4):

            def silence(value, channel=channel):
                value = value.clone()
                value[:, channel] = level[channel]
                return value

            with torch.no_grad(), replaced(model, "conv2d_9", silence):
                guess = model(image[None])[0].argmax(0).numpy()
            expected = confusion(guess, truth.numpy())
            assert (counts["silenced"].isel(scene=number, channel=channel) == expected).all()


def test_without_the_red_edge_vegetation_is_lost():
    pairs = scenes()
    model = planted(bias=[0.3, 0, 0, 0.1, 0])
    loss = iou_loss(knock_out(model, pairs))
    assert loss.sel({"class": "Vegetation"}).argmax("channel") == RED_EDGE
    intact = iou(knock_out(model, pairs)["intact"].sum("scene")).sel({"class": "Vegetation"})
    assert loss.sel({"class": "Vegetation", "channel": RED_EDGE}) == intact > 0.5
    assert not loss.sel(channel=DEAD).any()
    agreement = ranking_agreement(found_in(model, pairs), loss)
    assert agreement.loc["Vegetation", "rho"] > 0.7
    assert agreement.loc["Vegetation", "channels"] == 4


def test_agreement_is_undefined_where_nothing_is_lost():
    found, pairs = found_in(planted(), scenes(2)), scenes(2)
    loss = iou_loss(knock_out(planted(), pairs)) * 0
    assert ranking_agreement(found, loss)["rho"].isna().all()


@pytest.mark.parametrize(("replacement", "means"), [("median", None), ("mean", None), ("zero", np.zeros(4))])
def test_replacements_must_be_complete(replacement, means):
    with pytest.raises(ValueError, match="replacement must be"):
        knock_out(planted(), scenes(1), replacement, means)
