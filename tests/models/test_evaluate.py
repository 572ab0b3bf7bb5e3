import numpy as np
import pytest
import torch
from torch import nn
from toyscenes import COLOURS, toy_scenes

from hsiutils.data.classes import VOID
from hsiutils.models.metrics import confusion, evaluate, predict, scores


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


def test_predict_restores_the_mode_after_an_error():
    model = ByColour().train()
    with pytest.raises(RuntimeError):
        predict(model, torch.zeros(1, 7, 4, 4))
    assert model.training
    with pytest.raises(ValueError, match=r"expects images \(n, channels, h, w\), got \(3, 4, 4\)"):
        predict(model, torch.zeros(3, 4, 4))


def test_evaluate_counts_each_scene_by_name():
    scenes = toy_scenes(5, 1, noise=0.6)
    names = [f"s{index}" for index in range(5)]
    state = torch.get_rng_state()
    counts = evaluate(ByColour(), scenes, names, batch=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(counts["scene"].values) == names
    image, labels = scenes[3]
    expected = confusion(predict(ByColour(), image[None])[0], labels.numpy())
    np.testing.assert_array_equal(counts["confusion"].sel(scene="s3", region="all"), expected)
    assert 0.3 < scores(counts)["accuracy"].sel(region="all") < 1


def test_evaluate_splits_sunlit_from_shadowed():
    scenes = toy_scenes(3, 2)
    dark = [image.clone() for image, _ in scenes]
    sunlit = [np.indices((16, 24))[1] < 12] * 3
    for image in dark:
        image[:, :, 12:] = COLOURS[0][:, None, None]  # in the shadow all looks like the first class
    counts = evaluate(
        ByColour(), [(image, label) for image, (_, label) in zip(dark, scenes, strict=True)], list("abc"), sunlit=sunlit
    )
    accuracy = scores(counts)["accuracy"]
    assert accuracy.sel(region="sunlit") == 1
    assert accuracy.sel(region="shadowed") < 0.5


@pytest.mark.parametrize("count", [2, 4])
def test_names_must_be_as_many_as_scenes(count):
    with pytest.raises(ValueError, match=f"{count} names"):
        evaluate(ByColour(), toy_scenes(3, 0), [str(index) for index in range(count)])


def test_masks_must_be_as_many_as_names():
    with pytest.raises(ValueError, match="3 names and 2 masks"):
        evaluate(ByColour(), toy_scenes(3, 0), list("abc"), sunlit=[np.ones((16, 24), bool)] * 2)
