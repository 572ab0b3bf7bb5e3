import numpy as np
import pytest
import torch
from planted import DEAD, EDGES, NOISE, RED_EDGE, planted, scenes, sums, trained_like, vegetation_head

from hsiutils.analysis.channels import (
    between_regions,
    class_means,
    discrimination,
    iou_loss,
    knock_out,
    rank_channels,
)
from hsiutils.attribution.hooks import replaced
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.metrics import confusion, iou


def found_in(model, pairs):
    found = sums(model, pairs)
    return discrimination(found, found)


def mean_margins(model, pairs):
    """Mean of each class's margin on each class's pixels, (class, true class), straight from the logits in float64."""
    truth = np.concatenate([truth.numpy().ravel() for _, truth in pairs])
    with torch.no_grad():
        logits = np.concatenate([model(image[None])[0].flatten(1).double().numpy() for image, _ in pairs], axis=1)
    margins = [logits[index] - np.delete(logits, index, axis=0).mean(axis=0) for index in range(5)]
    return np.array([[margin[truth == other].mean() for other in range(5)] for margin in margins])


def test_the_planted_channels_come_first_and_all_together_explain_the_logit():
    found = found_in(planted(), scenes())
    score, table = found["score"], rank_channels(found)
    assert abs(score.sel(channel=[NOISE, DEAD])).max() < 0.01 * abs(score).max()
    assert table.loc[("Vegetation", 1), "channel"] == RED_EDGE
    assert table.loc[("Road Marks", 1), "channel"] == EDGES
    assert list(table.index.get_level_values("class").unique()) == list(CLASSES)
    table = rank_channels(found_in(trained_like(), scenes(2)))
    np.testing.assert_allclose(table.groupby("class").tail(1)[["logit_share", "score_share"]], 1)
    assert (table["score"].groupby("class").diff().dropna() <= 0).all()


def test_scores_sum_to_the_margin_on_own_pixels_less_that_on_the_others():
    model, pairs = trained_like(), scenes(3)
    score = found_in(model, pairs)["score"].sum("channel").values
    for index, means in enumerate(mean_margins(model, pairs)):
        assert score[index] == pytest.approx(means[index] - np.mean(np.delete(means, index)), abs=1e-4)


def test_scores_know_nothing_of_a_number_added_to_all_logits():
    pairs, shared = scenes(2), np.array([5.0, -3.0, 2.0, 1.0])
    plain, moved = (found_in(planted(head), pairs)["score"] for head in (vegetation_head(), vegetation_head() + shared))
    np.testing.assert_allclose(plain, moved, atol=1e-5)


def test_taken_is_the_fall_of_the_others_mean_logit_on_own_pixels():
    model, pairs = planted(), scenes(2)
    found = found_in(model, pairs).sel({"class": "Vegetation", "channel": RED_EDGE})
    activation = class_means(sums(model, pairs)).sel({"class": "Vegetation", "channel": RED_EDGE})
    assert found["contribution"] == pytest.approx(4 * activation.item())
    assert found["taken"] == pytest.approx(2 / 4 * activation.item())


def test_a_class_that_no_scene_shows_has_no_score_and_spoils_no_other():
    pairs = [(image, torch.where(truth == 3, VOID, truth)) for image, truth in scenes(2)]
    score = found_in(planted(), pairs)["score"]
    assert score.sel({"class": "Sky"}).isnull().all()
    assert score.drop_sel({"class": "Sky"}).notnull().all()


def test_sums_of_another_layer_or_of_other_regions_are_refused():
    found = sums(trained_like(), scenes(1))
    with pytest.raises(ValueError, match=r"got conv2d_9 \(after=False\)"):
        discrimination(found, found.assign_attrs(after=False))
    with pytest.raises(ValueError, match="regions must be the head's classes"):
        discrimination(found, found.isel(region=[0]))


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
            expected = confusion(guess, truth.numpy(), CLASSES)
            assert (counts["silenced"].isel(scene=number, channel=channel) == expected).all()


def test_without_the_red_edge_vegetation_is_lost():
    pairs = scenes()
    model = planted(bias=[0.3, 0, 0, 0.1, 0])
    loss = iou_loss(knock_out(model, pairs))
    assert loss.sel({"class": "Vegetation"}).argmax("channel") == RED_EDGE
    intact = iou(knock_out(model, pairs)["intact"].sum("scene")).sel({"class": "Vegetation"})
    assert loss.sel({"class": "Vegetation", "channel": RED_EDGE}) == intact > 0.5
    assert not loss.sel(channel=DEAD).any()


@pytest.mark.parametrize(("replacement", "means"), [("median", None), ("mean", None), ("zero", np.zeros(4))])
def test_replacements_must_be_complete(replacement, means):
    with pytest.raises(ValueError, match="replacement must be"):
        knock_out(planted(), scenes(1), replacement, means)


def test_planted_channels_are_as_homogeneous_as_they_were_made():
    between = between_regions(sums(planted(), scenes(8, noise=0.2)))
    assert between.sel(channel=RED_EDGE) == pytest.approx(1)  # constant on every region
    assert between.sel(channel=NOISE) < 0.01
    assert between.sel(channel=EDGES) < 0.2
    assert np.isnan(between.sel(channel=DEAD))


def test_homogeneity_is_that_of_the_pixels_within_scenes():
    """Two scenes of different level: their difference is not variation inside a region."""
    model, pairs = planted(), scenes(2, noise=0.2)
    lifted = [(pairs[0][0], pairs[0][1]), (pairs[1][0] + torch.tensor([0, 0, 5.0])[:, None, None], pairs[1][1])]
    found = between_regions(sums(model, lifted)).sel(channel=NOISE)
    inside, pixels = 0.0, 0
    for image, truth in lifted:
        for region in range(5):
            values = image[2][truth == region].double()
            inside += float(((values - values.mean()) ** 2).sum())
        known = image[2][truth != 255].double()
        pixels += float(((known - known.mean()) ** 2).sum())
    assert found == pytest.approx(1 - inside / pixels, abs=1e-4)
