"""Insertion, deletion and band ablation on networks whose answers are known."""

import numpy as np
import pytest
import torch
import xarray as xr
from networks import SMALL, image, shaken

from hsiutils.attribution.cams import gradcam
from hsiutils.attribution.checks import band_ablation, insertion_deletion, pixel_map
from hsiutils.attribution.gradients import gradient_x_input, integrated_gradients
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import region
from hsiutils.models.unet import UNet, UNetConfig

X = image(height=16, width=20)
WHOLE = region((SMALL.classes, 16, 20), 1, torch.ones(16, 20, dtype=torch.bool))


def linear_network(weights):
    """Logit of class 1 at a pixel = weights . spectrum there: the first skip connection carries the sum to the head.

    Two channels carry the positive and the negative part, so that the ReLUs on the way change nothing.
    """
    model = UNet(UNetConfig(channels=len(weights), depth=1, filters=2, classes=SMALL.classes)).double().eval()
    with torch.no_grad():
        for layer in model.keras_layers().values():
            layer.weight.zero_()
        model.encoder[0].conv1.weight[0, :, 1, 1] = torch.as_tensor(weights)
        model.encoder[0].conv1.weight[1, :, 1, 1] = -torch.as_tensor(weights)
        for conv, shift in ((model.encoder[0].conv2, 0), (model.decoder[0].block.conv1, 2)):
            conv.weight[0, shift, 1, 1] = conv.weight[1, shift + 1, 1, 1] = 1
        last = model.decoder[0].block.conv2
        last.weight[0, 0, 1, 1] = last.weight[1, 1, 1, 1] = 1
        model.head.weight[1, :, 0, 0] = torch.tensor([1.0, -1.0])
    return model


def made(values, dims=("y", "x"), layer="input"):
    return Attribution("made", layer, xr.DataArray(np.asarray(values, dtype=float), dims=dims), 1.0)


def test_the_network_of_these_tests_is_linear_in_each_spectrum():
    weights = [1.0, -2.0, 0.5, 3.0]
    logit = linear_network(weights)(X[None])[0, 1]
    torch.testing.assert_close(logit, torch.einsum("b,byx->yx", torch.tensor(weights).double(), X), rtol=1e-4, atol=0)


def test_curves_follow_the_order_of_the_map():
    model = linear_network([1.0, -2.0, 0.5, 3.0])
    truth = model(X[None])[0, 1].detach().numpy()
    found = insertion_deletion(model, X, WHOLE, made(truth), steps=8)
    ordered = np.sort(truth.ravel())[::-1]
    sums = np.array([ordered[: round(share * ordered.size)].sum() for share in np.linspace(0, 1, 9)])
    np.testing.assert_allclose(found["value"].sel(curve="insertion"), sums, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found["value"].sel(curve="deletion"), sums[-1] - sums, rtol=1e-6, atol=1e-9)


def test_the_true_map_scores_above_a_shuffled_one_above_the_opposite():
    model = linear_network([1.0, 2.0, 0.5, 3.0])
    bright = X.abs()
    truth = model(bright[None])[0, 1].detach().numpy()
    shuffled = np.random.default_rng(0).permutation(truth.ravel()).reshape(truth.shape)
    scores = [float(insertion_deletion(model, bright, WHOLE, made(m))["score"]) for m in (truth, shuffled, -truth)]
    assert scores[0] > scores[1] + 0.1 > scores[2] + 0.2
    assert scores[0] == pytest.approx(-scores[2], abs=1e-9)
    assert abs(scores[1]) < 0.1


def test_curves_run_between_the_reference_and_the_image():
    model, reference = shaken(), [0.2, 0.1, -0.4, 0.3]
    found = insertion_deletion(model, X, WHOLE, gradcam(model, X, WHOLE, "conv2d_4"), reference=reference, steps=5)
    start = torch.tensor(reference).double()[:, None, None].expand_as(X)
    with torch.no_grad():
        ends = [float(WHOLE.value(model(x[None]))) for x in (start, X)]
    np.testing.assert_allclose(found["value"].sel(curve="insertion")[[0, -1]], ends)
    np.testing.assert_allclose(found["value"].sel(curve="deletion")[[0, -1]], ends[::-1])
    assert found.sizes["fraction"] == 6


def test_areas_have_no_value_where_the_image_is_its_own_reference():
    found = insertion_deletion(shaken(), X, WHOLE, made(np.ones((16, 20))), reference=X, steps=2)
    assert np.isnan(found["area"]).all()


def test_a_band_that_is_not_seen_does_not_matter_and_the_others_rank_as_they_act():
    model, x = linear_network([1.0, 0.0, 2.0, 4.0]), X.abs() + 0.1
    found = band_ablation(model, x, WHOLE, gradient_x_input(model, x, WHOLE))
    np.testing.assert_allclose(found["claimed"], found["change"], rtol=1e-6, atol=1e-9)
    assert float(found["change"][1]) == pytest.approx(0, abs=1e-9)
    assert float(found["spearman"]) == pytest.approx(1)
    opposite = made(-found["claimed"].values, dims=("band",))
    assert float(band_ablation(model, x, WHOLE, opposite)["spearman"]) == pytest.approx(-1)


def test_bands_against_a_reference_are_judged_against_the_same_reference():
    model, reference = linear_network([1.0, -3.0, 2.0, 4.0]), [0.5, 2.0, 0.1, -1.0]
    claimed = integrated_gradients(model, X, WHOLE, reference=reference, nodes=4)
    found = band_ablation(model, X, WHOLE, claimed, reference=reference)
    np.testing.assert_allclose(found["claimed"], found["change"], rtol=1e-4)


def test_no_correlation_with_a_claim_that_is_the_same_for_all_bands():
    flat = made(np.ones(4), dims=("band",))
    assert np.isnan(band_ablation(shaken(), X, WHOLE, flat)["spearman"])


def test_a_coarse_map_is_laid_over_the_padded_image_and_cropped():
    model, x = shaken(), image(height=13, width=18)
    coarse = made(np.arange(20.0).reshape(4, 5), layer="conv2d_4")
    found = pixel_map(model, coarse, x)
    assert found.shape == (13, 18)
    assert found[1, 1] == pytest.approx(0)
    assert np.all(np.diff(found, axis=1) >= 0)
    banded = made(np.ones((4, 13, 18)), dims=("band", "y", "x"))
    np.testing.assert_array_equal(pixel_map(model, banded, x), np.full((13, 18), 4.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: insertion_deletion(m, X, WHOLE, made(np.ones(4), dims=("band",))), "a map in space is needed"),
        (lambda m: insertion_deletion(m, X, WHOLE, made(np.ones((7, 9)))), r"a map of \(7, 9\) is of no layer"),
        (lambda m: insertion_deletion(m, X, WHOLE, made(np.full((16, 20), np.nan))), "not finite"),
        (lambda m: insertion_deletion(m, X, WHOLE, made(np.ones((16, 20))), steps=0), "steps must be at least 1"),
        (lambda m: band_ablation(m, X, WHOLE, made(np.ones((16, 20)))), "a map with 4 bands is needed"),
        (lambda m: band_ablation(m, X, WHOLE, made(np.ones(3), dims=("band",))), "a map with 4 bands is needed"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call(shaken())
