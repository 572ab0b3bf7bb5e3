import numpy as np
import pytest
import torch
from networks import PLAIN as MODEL
from networks import shaken, untouched, used

from hsiutils.attribution.targets import Target, class_map, margin, one_image, pixel, reference_image, region
from hsiutils.models.unet import UNet, UNetConfig

X = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(1))
SHAPE = (5, 3, 4)
LOGITS = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
MASK = LOGITS[0, 0] > 0
IMAGE = torch.zeros(3, 2, 4)


def test_pixel_reads_one_logit():
    assert torch.equal(pixel(MODEL, X, 3, 2, 1).value(LOGITS), LOGITS[:, 3, 2, 1])
    assert torch.equal(pixel(MODEL, X[None], 3, 2, 1).weights, pixel(MODEL, X, 3, 2, 1).weights)


def test_classes_go_by_the_networks_own_names():
    assert torch.equal(pixel(MODEL, X, "Vegetation", 0, 0).value(LOGITS), LOGITS[:, 2, 0, 0])
    assert pixel(MODEL, X, 2, 1, 3).name == "Vegetation at (1, 3)"
    lanes = UNet(UNetConfig(channels=4, classes=2, depth=1, filters=2, class_names=("ground", "lane")))
    assert pixel(lanes, X, "lane", 0, 0).name == "lane at (0, 0)"
    unnamed = UNet(UNetConfig(channels=4, classes=2, depth=1, filters=2))
    assert pixel(unnamed, X, "class 1", 0, 0).name == "class 1 at (0, 0)"
    with pytest.raises(ValueError, match="no class 'Road' among the network's classes: class 0, class 1"):
        pixel(unnamed, X, "Road", 0, 0)


@pytest.mark.parametrize("mask", [MASK, MASK.numpy(), MASK.tolist()])
def test_region_sums_or_averages_over_its_mask(mask):
    total = region(MODEL, X, 1, mask).value(LOGITS)
    torch.testing.assert_close(total, LOGITS[:, 1, MASK].sum(1))
    torch.testing.assert_close(region(MODEL, X, 1, mask, mean=True).value(LOGITS), total / MASK.sum())


def test_a_margin_is_the_class_less_the_mean_of_the_others_and_ignores_what_all_share():
    target = margin(MODEL, X, "Vegetation", MASK)
    others = LOGITS[:, [0, 1, 3, 4]].mean(1)
    torch.testing.assert_close(target.value(LOGITS), (LOGITS[:, 2] - others)[:, MASK].mean(1))
    torch.testing.assert_close(target.value(LOGITS + 7), target.value(LOGITS))
    with pytest.raises(ValueError, match="at least two classes"):
        margin(UNet(UNetConfig(channels=4, classes=1, depth=1, filters=2)), X, 0, MASK)


def test_class_map_keeps_the_mask_of_the_image_it_was_made_at():
    model, x = used(), X.double()
    logits = shaken()(x[None]).detach()
    index = int(logits[0, :, 0, 0].argmax())
    with untouched(model):
        target = class_map(model, x, index)
    mask = logits[0].argmax(0) == index
    assert torch.equal(target.weights[index].bool(), mask)
    # Other logits with other winners do not move the mask.
    torch.testing.assert_close(target.value(-logits), -logits[:, index, mask].sum(1))
    assert target.weights.sum() == mask.sum()


def test_a_target_does_not_follow_the_tensor_it_was_made_from():
    values = torch.ones(SHAPE)
    target = Target(values, "all")
    values.zero_()
    assert target.value(LOGITS)[0].item() == pytest.approx(LOGITS[0].sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: pixel(MODEL, X, 5, 0, 0), ValueError, r"no class 5: .* 0\.\.4"),
        (lambda: pixel(MODEL, X, -1, 0, 0), ValueError, "no class -1"),
        (lambda: pixel(MODEL, X, "Lane", 0, 0), ValueError, "no class 'Lane'.*Road, Road Marks, Vegetation"),
        (lambda: pixel(MODEL, X, 0, 3, 0), IndexError, r"\(3, 0\) is outside .* 3 rows and 4 columns"),
        (lambda: pixel(MODEL, X, 0, 0, -1), IndexError, "outside"),
        (lambda: pixel(MODEL, X[0], 0, 0, 0), ValueError, "x must be those of one image"),
        (lambda: region(MODEL, X, 0, torch.zeros(3, 4, dtype=torch.bool)), ValueError, "mask for class Road is empty"),
        (lambda: region(MODEL, X, 0, torch.ones(3, 4)), ValueError, "must hold booleans .* got torch.float32"),
        (lambda: region(MODEL, X, 0, np.ones((3, 4), int)), ValueError, r"got torch.int64 \(3, 4\): compare labels"),
        (lambda: region(MODEL, X, 0, np.ones((4, 3), bool)), ValueError, r"shape \(3, 4\), got .*\(4, 3\)"),
        (lambda: class_map(UNet(MODEL.config), X * 0, "Sky"), ValueError, "Sky is empty"),
        (lambda: Target(torch.zeros(SHAPE), "none"), ValueError, "nothing to explain"),
        (lambda: Target(torch.full(SHAPE, torch.inf), "none"), ValueError, "finite"),
        (lambda: Target(torch.ones(3, 4), "flat"), ValueError, r"'flat': weights must be \(classes, h, w\)"),
        (lambda: pixel(MODEL, X, 0, 0, 0).value(LOGITS[0]), ValueError, r"\(n, 5, 3, 4\), got \(5, 3, 4\)"),
        (lambda: pixel(MODEL, X, 0, 0, 0).value(LOGITS[..., :2]), ValueError, "this image's logits shape"),
        (lambda: one_image(LOGITS, "logits"), ValueError, r"logits must be those of one image"),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("spectrum", [[1.0, 2.0, 3.0], np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0])])
def test_a_spectrum_stands_at_every_pixel_a_number_everywhere_and_an_image_stays(spectrum):
    found = reference_image(spectrum, IMAGE)
    assert found.dtype == IMAGE.dtype
    assert found[:, 1, 3].tolist() == found[:, 0, 0].tolist() == [1, 2, 3]
    found[0, 0, 0] = 2  # the result can be written to
    assert (reference_image(0.5, IMAGE) == 0.5).all()
    own = torch.arange(24.0).reshape(3, 2, 4)
    assert torch.equal(reference_image(own, IMAGE), own)


@pytest.mark.parametrize(
    "wrong", [[1.0], [1.0, 2.0], np.zeros((3, 4)), np.zeros((1, 2, 4)), np.zeros((3, 4, 2)), np.nan]
)
def test_a_reference_of_another_shape_or_without_a_finite_value_is_refused(wrong):
    with pytest.raises(ValueError, match=r"a finite number, a spectrum \(3,\) or an image \(3, 2, 4\), got shape"):
        reference_image(wrong, IMAGE)
