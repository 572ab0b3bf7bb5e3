import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics.functional.classification import multiclass_jaccard_index
from toyscenes import COLOURS, toy_scenes

from hsiutils.data.classes import CLASSES, VOID, inverse_frequency_weights
from hsiutils.models.metrics import (
    boundary,
    boundary_distance,
    confusion,
    evaluate,
    iou,
    predict,
    scene_counts,
    scores,
    weighted_iou,
)
from hsiutils.models.unet import UNet, UNetConfig


def maps(seed=0, shape=(20, 30), classes=5, void=0.1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    predicted = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape)).astype(np.uint8)
    truth[rng.random(shape) < void] = VOID
    return predicted, truth


def test_confusion_counts_every_pair_but_void_and_under_a_mask_only_there():
    predicted = np.array([[0, 1, 1], [2, 2, 0]])
    truth = np.array([[0, 0, 1], [2, VOID, 2]])
    counts = confusion(predicted, truth, ("a", "b", "c"))
    assert counts.dims == ("truth", "predicted")
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    assert counts.sel(truth="c", predicted="a") == 1
    predicted, truth = maps()
    mask = np.zeros(truth.shape, bool)
    mask[3:9, 4:20] = True
    np.testing.assert_array_equal(
        confusion(predicted, truth, CLASSES, mask=mask), confusion(predicted[3:9, 4:20], truth[3:9, 4:20], CLASSES)
    )
    parts = confusion(predicted, truth, CLASSES, mask=mask) + confusion(predicted, truth, CLASSES, mask=~mask)
    xr.testing.assert_equal(parts, confusion(predicted, truth, CLASSES))


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_iou_agrees_with_torchmetrics(seed):
    predicted, truth = maps(seed)
    expected = multiclass_jaccard_index(
        torch.from_numpy(predicted.astype(int)), torch.from_numpy(truth.astype(int)), 5, "none", ignore_index=VOID
    )
    np.testing.assert_allclose(iou(confusion(predicted, truth, CLASSES)), expected, rtol=1e-6)


def test_absent_class_is_nan_and_left_out_of_means_and_no_pixel_at_all_has_no_score():
    truth = np.array([[0, 0, 1, 1]])
    predicted = np.array([[0, 0, 1, 0]])
    counts = scene_counts(predicted, truth, ("a", "b", "never"))
    result = scores(counts).sel(region="all")
    np.testing.assert_allclose(result["iou"], [2 / 3, 1 / 2, np.nan])
    assert result["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["accuracy"] == pytest.approx(3 / 4)
    assert np.isnan(result["boundary_iou"].sel({"class": "never"}))
    predicted_alone = confusion(np.array([[0, 1]]), np.array([[0, 0]]), ("a", "b"))
    np.testing.assert_allclose(iou(predicted_alone), [1 / 2, 0])  # never true, and not NaN
    assert iou(predicted_alone).name == "iou"
    single = scores(scene_counts(np.array([[0]]), np.array([[0]]), ("a", "b"))).sel(region="all")
    np.testing.assert_array_equal(single["iou"], [1, np.nan])
    np.testing.assert_array_equal(single["boundary_iou"], [1, np.nan])
    assert single["accuracy"] == 1
    result = scores(scene_counts(truth, np.full((1, 4), VOID), CLASSES)).sel(region="all")
    assert all(np.isnan(result[name]).all() for name in result)


def test_aggregates_are_frequency_and_inverse_frequency_weighted_means():
    predicted, truth = maps(3)
    result = scores(scene_counts(predicted, truth, CLASSES)).sel(region="all")
    per_class = result["iou"].values
    share = np.bincount(truth[truth != VOID], minlength=5) / np.sum(truth != VOID)
    assert result["global_iou"] == pytest.approx(np.sum(share * per_class))
    assert result["weighted_iou"] == pytest.approx(np.sum(inverse_frequency_weights(share) * per_class))
    known = truth != VOID
    assert result["accuracy"] == pytest.approx(np.mean(predicted[known] == truth[known]))
    given_share = np.array([0.6148, 0.0297, 0.2017, 0.0719, 0.0818])
    fixed = scores(scene_counts(predicted, truth, CLASSES), given_share).sel(region="all")
    assert fixed["weighted_iou"] == pytest.approx(np.sum(inverse_frequency_weights(given_share) * per_class))
    assert fixed["global_iou"] == pytest.approx(np.sum(given_share / given_share.sum() * per_class))
    counts = scene_counts(predicted, truth, CLASSES)["confusion"].sel(region="all")
    assert weighted_iou(counts).name == "weighted_iou"
    # A class of frequency zero weighs nothing.
    without = weighted_iou(counts, [0.0, *given_share[1:]])
    weights = 1 / given_share[1:]
    assert without == pytest.approx(np.sum(weights * per_class[1:]) / weights.sum())


def test_figures_of_merit_are_of_each_region_apart():
    predicted, truth = maps(7)
    left = np.indices(truth.shape)[1] < 13
    both = scores(scene_counts(predicted, truth, CLASSES, left, distance=1))
    assert all(both[name].dims[:1] == ("region",) for name in both)
    alone = scores(scene_counts(predicted[:, :13], truth[:, :13], CLASSES))
    for name in ("mean_iou", "global_iou", "weighted_iou", "accuracy"):
        assert both[name].sel(region="sunlit") == pytest.approx(alone[name].sel(region="all"))
        assert both[name].sel(region="sunlit") != both[name].sel(region="shadowed")


def erosion_definition(mask, distance):
    """Pixel by pixel: is any pixel of the (2 d + 1) square, or beyond the image, outside the mask?"""
    padded = np.pad(mask, distance)
    edge = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        edge[row, column] = not padded[row : row + 2 * distance + 1, column : column + 2 * distance + 1].all()
    return edge


@pytest.mark.parametrize("distance", [1, 2, 4])
def test_boundary_is_the_definition(distance):
    rng = np.random.default_rng(1)
    mask = rng.random((15, 21)) < 0.97
    np.testing.assert_array_equal(boundary(mask, distance), erosion_definition(mask, distance))
    assert boundary_distance((216, 409)) == 2
    assert boundary_distance((216, 409), 0.02) == 9
    assert boundary_distance((8, 8)) == 1


def square(shift=0, size=12):
    truth = np.zeros((40, 40), int)
    truth[10 : 10 + size, 10 + shift : 10 + shift + size] = 1
    return truth


def test_boundary_iou_of_a_shifted_square_counted_by_hand():
    # Rim of a 12 x 12 square, one pixel wide: 44. Shifted by one column the rims share two rows of 11, and no column
    # beyond what those rows hold.
    counts = scene_counts(square(1), square(0), ("ground", "square"), distance=1)
    of_square = counts.sel({"region": "all", "class": "square"})
    assert of_square["boundary_intersection"] == 2 * 11
    assert of_square["boundary_union"] == 2 * 44 - 2 * 11
    assert scores(counts)["boundary_iou"].sel({"region": "all", "class": "square"}) == pytest.approx(1 / 3)
    # It sees edges that plain IoU hardly notices.
    counts = scene_counts(square(1, 24), square(0, 24), ("ground", "square"), distance=2)
    result = scores(counts).sel({"region": "all", "class": "square"})
    assert result["iou"] > 0.9
    # Frames two pixels wide, 176 pixels each, share 4 rows of 23 and a column of 20 on either side.
    assert result["boundary_iou"] == pytest.approx(132 / 220)
    both = scores(counts).sel(region="all")
    assert both["mean_boundary_iou"] == pytest.approx(both["boundary_iou"].mean())


def test_contour_inside_the_void_strip_is_not_judged():
    truth, predicted = square(0), square(0)
    truth[8:24, 8:24] = VOID
    truth[12:20, 12:20] = 1
    predicted[9:23, 9:23] = 1  # one pixel too large on every side: within the strip
    counts = scene_counts(predicted, truth, ("ground", "square"), distance=1)
    np.testing.assert_allclose(scores(counts)["boundary_iou"], 1.0)
    predicted[5:27, 5:27] = 1  # beyond it
    counts = scene_counts(predicted, truth, ("ground", "square"), distance=1)
    assert (scores(counts)["boundary_iou"] < 0.9).any()


def test_regions_split_the_counts_and_keep_the_contours_of_the_whole_image():
    predicted, truth = maps(5)
    sunlit = np.zeros(truth.shape, bool)
    sunlit[:, :11] = True
    counts = scene_counts(predicted, truth, CLASSES, sunlit=sunlit, distance=1)
    assert list(counts["region"].values) == ["all", "sunlit", "shadowed"]
    assert set(counts.coords) == {"region", "class", "truth", "predicted"}
    parts = counts.sel(region=["sunlit", "shadowed"]).sum("region")
    xr.testing.assert_equal(parts, counts.sel(region="all", drop=True))
    np.testing.assert_array_equal(
        counts["confusion"].sel(region="sunlit"), confusion(predicted[:, :11], truth[:, :11], CLASSES)
    )
    share = np.full(truth.shape, np.nan)  # no sun to speak of, which is neither
    share[0], share[1], share[2] = 1.0, 0.2, 0.5
    counts = scene_counts(truth % 5, truth % 5, CLASSES, sunlit=share)
    assert counts["confusion"].sum(["truth", "predicted"]).values.tolist() == [600, 60, 30]
    assert counts["boundary_union"].dims == counts["boundary_intersection"].dims == ("region", "class")
    assert counts.sel(region="sunlit")["boundary_union"].sum() == 60  # all is contour here


def test_scores_sum_scenes_before_dividing_and_keep_other_dimensions():
    scenes = [scene_counts(*maps(seed, (8 + seed, 9)), CLASSES) for seed in range(3)]
    together = xr.concat(scenes, dim="scene")
    summed = sum(scene["confusion"] for scene in scenes)
    xr.testing.assert_allclose(scores(together)["iou"], iou(summed))
    seeds = xr.concat([together, together], dim="seed")
    assert scores(seeds)["mean_iou"].dims == ("seed", "region")
    assert scores(together)["accuracy"].dims == ("region",)


@pytest.mark.parametrize(
    ("predicted", "truth", "mask", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), None, "differ in shape"),
        (np.full((2, 2), 5), np.zeros((2, 2), int), None, "prediction has class 5: expected 0..4"),
        (np.zeros((2, 2), int), np.full((2, 2), 7), None, "truth has class 7"),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), np.ones((2, 2)), "mask must be bool"),
        (np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int), None, "one image"),
    ],
)
def test_maps_that_do_not_belong_together_are_refused(predicted, truth, mask, message):
    with pytest.raises(ValueError, match=message):
        (confusion if mask is not None else scene_counts)(predicted, truth, CLASSES, mask)


class ByColour(nn.Module):
    """Knows the colour of every class; wrong while training."""

    def __init__(self):
        super().__init__()
        self.colours = nn.Parameter(COLOURS)

    def forward(self, x):
        logits = -((x[:, None] - self.colours[:, :, None, None]) ** 2).sum(dim=2)
        return -logits if self.training else logits


def test_predict_takes_the_largest_logit_in_evaluation_mode():
    model = ByColour().train()
    images, labels = toy_scenes(5, 0)[:]
    predicted = predict(model, images, batch=2)
    assert predicted.dtype == np.uint8
    known = labels.numpy() != VOID
    np.testing.assert_array_equal(predicted[known], labels.numpy()[known])
    np.testing.assert_array_equal(predict(model, images.numpy()), predicted)
    assert model.training
    with pytest.raises(RuntimeError):
        predict(model, torch.zeros(1, 7, 4, 4))
    assert model.training  # after an error, too
    with pytest.raises(ValueError, match=r"expects images \(n, channels, h, w\), got \(3, 4, 4\)"):
        predict(model, torch.zeros(3, 4, 4))
    np.testing.assert_array_equal(predict(model.double(), images), predicted)
    assert (predict(model.bfloat16(), images) == predicted).mean() > 0.95


def test_evaluate_counts_each_scene_by_name():
    scenes = toy_scenes(5, 1, noise=0.6)
    names = [f"s{index}" for index in range(5)]
    state = torch.get_rng_state()
    counts = evaluate(ByColour(), scenes, names, CLASSES, batch=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(counts["scene"].values) == names
    image, labels = scenes[3]
    expected = confusion(predict(ByColour(), image[None])[0], labels.numpy(), CLASSES)
    np.testing.assert_array_equal(counts["confusion"].sel(scene="s3", region="all"), expected)
    assert 0.3 < scores(counts)["accuracy"].sel(region="all") < 1
    for distance in (None, 1, 3):
        found = evaluate(ByColour(), scenes, names, CLASSES, distance=distance).sel(scene="s3")
        one = scene_counts(predict(ByColour(), image[None])[0], labels.numpy(), CLASSES, distance=distance)
        xr.testing.assert_equal(found.drop_vars("scene"), one)


def test_the_boundary_is_a_share_of_the_diagonal_of_an_image_of_any_shape():
    column = np.indices((20, 600))[1]
    predicted, truth = column // 300, (column + 10) // 310
    found, given = (scene_counts(predicted, truth, ("a", "b"), distance=width) for width in (None, 3))
    xr.testing.assert_equal(found, given)


def test_images_are_predicted_as_many_at_a_time_as_was_asked():
    seen = []
    model = ByColour()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    evaluate(model, toy_scenes(11, 0), classes=CLASSES, batch=9)
    predict(model, toy_scenes(5, 0)[:][0], batch=3)
    assert seen == [9, 2, 3, 2]


def test_evaluate_splits_sunlit_from_shadowed():
    images, labels = toy_scenes(3, 2)[:]
    images[..., 12:] = COLOURS[0][:, None, None]  # in the shadow all looks like the first class
    sunlit = [np.indices((16, 24))[1] < 12] * 3
    counts = evaluate(ByColour(), TensorDataset(images, labels), list("abc"), CLASSES, sunlit)
    accuracy = scores(counts)["accuracy"]
    assert accuracy.sel(region="sunlit") == 1
    assert accuracy.sel(region="shadowed") < 0.5


@pytest.mark.parametrize(("names", "masks"), [(2, None), (4, None), (3, 2)])
def test_names_and_masks_must_be_as_many_as_scenes(names, masks):
    sunlit = masks and [np.ones((16, 24), bool)] * masks
    with pytest.raises(ValueError, match=f"{names} names and {masks or names} masks were given for 3 scenes"):
        evaluate(ByColour(), toy_scenes(3, 0), [str(index) for index in range(names)], CLASSES, sunlit)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_refused(value):
    images, labels = toy_scenes(3, 0)[:]
    images[1, 0, 5, 5] = value
    with pytest.raises(ValueError, match=r"images \[1\] hold values that are not finite"):
        predict(ByColour(), images)
    with pytest.raises(ValueError, match="scene b: its image holds values that are not finite"):
        evaluate(ByColour(), TensorDataset(images, labels), list("abc"), CLASSES)


def test_evaluate_takes_names_from_the_scenes_and_classes_from_the_network():
    model, scenes = UNet(UNetConfig(channels=3, depth=1, filters=2, class_names=tuple("abcde"))), toy_scenes(2, 0)
    counts = evaluate(model, scenes)
    assert (counts["scene"].values.tolist(), counts["truth"].values.tolist()) == (["0", "1"], list("abcde"))
    scenes.names = ["first", "second"]
    named = evaluate(model.double(), scenes)
    assert named["scene"].values.tolist() == ["first", "second"]
    np.testing.assert_array_equal(named["confusion"], counts["confusion"])  # images in the network's precision
