import numpy as np
import pytest
import torch
from planted import RED_EDGE, planted, scene, trained_like, vegetation_head

from hsiutils.analysis import contributions, head_table, margin_weights
from hsiutils.data.classes import CLASSES
from hsiutils.models.unet import UNet, UNetConfig


def test_the_papers_head_is_32_by_5():
    table = head_table(UNet(UNetConfig(channels=1)))
    assert table["weight"].sizes == {"channel": 32, "class": 5}
    assert tuple(table["class"].values) == CLASSES


def test_weights_stand_where_they_were_planted():
    table = head_table(planted(bias=range(5)))
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


def test_a_contribution_is_weight_times_activation():
    image = scene(0)[0]
    found = contributions(planted(), image)["contribution"].sel({"class": "Vegetation", "channel": RED_EDGE})
    np.testing.assert_allclose(found, 4 * (image[1] - image[0]).clip(min=0), atol=1e-5)


def test_margin_weights_ignore_what_all_classes_share():
    head = vegetation_head()
    shared = head + np.array([1.0, -2.0, 3.0, 0.5])
    plain, moved = (margin_weights(head_table(planted(values))) for values in (head, shared))
    np.testing.assert_allclose(plain, moved, atol=1e-6)
    assert plain.sel({"class": "Vegetation", "channel": RED_EDGE}) == pytest.approx(4 - (-2) / 4)


def test_a_margin_needs_another_class():
    with pytest.raises(ValueError, match="at least two classes"):
        margin_weights(head_table(UNet(UNetConfig(channels=1, classes=1, depth=1, filters=2))))
