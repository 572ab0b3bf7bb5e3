import numpy as np
import pytest
import torch
import xarray as xr
from networks import PLAIN, SMALL, image, shaken, trained, untouched, used

from hsiutils.attribution.checks import (
    RANKED,
    band_ablation,
    compared,
    complexity,
    insertion_deletion,
    parameter_randomisation,
    pixel_map,
    randomised_networks,
    similarity,
    smoothed,
)
from hsiutils.attribution.gradients import gradient_x_input, integrated_gradients
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import class_map, region
from hsiutils.models.unet import UNet, UNetConfig

ORDER = ["conv2d_10", "conv2d_9", "conv2d_8", "conv2d_transpose_1", "conv2d_7", "conv2d_6", "conv2d_transpose"]
ORDER += ["conv2d_5", "conv2d_4", "conv2d_3", "conv2d_2", "conv2d_1", "conv2d"]
EVEN = image(height=16, width=20)
WHOLE = region(PLAIN, EVEN, 1, torch.ones(16, 20, dtype=torch.bool))


@pytest.fixture(scope="module")
def cascade():
    """On a network that has learned something, with three draws, because a new head may happen to favour a class."""
    config = UNetConfig(channels=4, depth=2, filters=6, dropout=0, norm_momentum=0.1)
    model, x = trained(config, torch.float32, steps=100), image(config, 16, 24, torch.float32, seed=7).cumsum(2) / 4
    winners = model(x[None]).argmax(1)
    assert (winners[0] == x.argmax(0)).float().mean() > 0.6
    target = class_map(model, x, int(winners.flatten().mode().values))
    methods = {name: METHODS[name] for name in ("GradCAM", "Guided BackProp", "gradient", "linear decomposition")}
    layers = ["conv2d_10", "conv2d_5"]
    draws = [parameter_randomisation(model, x, target, methods, layers=layers, seed=seed) for seed in range(3)]
    return xr.concat(draws, dim="draw")


def test_guided_backprop_hardly_changes_and_the_others_do(cascade):
    assert cascade["spearman"].dims == ("draw", "method", "layer", "sign")
    assert list(cascade["layer"].values) == ["conv2d_10", "conv2d_5"]
    assert list(cascade["sign"].values) == ["signed", "absolute"]
    kept = cascade["spearman"].sel(sign="signed")
    assert float(kept.sel({"method": "Guided BackProp"}).min()) > 0.5
    for name in ("GradCAM", "gradient", "linear decomposition"):
        assert float(kept.sel({"method": name}).mean()) < 0.3


def redrawn(model, twin):
    """Keras names of the layers whose kernel differs."""
    layers = twin.keras_layers()
    return {name for name, layer in model.keras_layers().items() if not torch.equal(layer.weight, layers[name].weight)}


def test_cascading_redraws_everything_above_and_independent_one_layer():
    model = used()
    with untouched(model):
        cascading = dict(randomised_networks(model, EVEN))
        assert list(cascading) == ORDER
        for place, name in enumerate(ORDER):
            assert redrawn(model, cascading[name]) == set(ORDER[: place + 1])
        for name, twin in randomised_networks(model, EVEN, "bottom-up", layers=["conv2d_5", "conv2d_10"]):
            assert redrawn(model, twin) == set(ORDER[ORDER.index(name) :])
        for name, twin in randomised_networks(model, EVEN, "independent", layers=["conv2d_3", "conv2d_9"]):
            assert redrawn(model, twin) == {name}
            assert not twin.training
    folded = shaken().folded()
    assert redrawn(folded, dict(randomised_networks(folded, EVEN))["conv2d"]) == set(ORDER)


def test_a_redrawn_layer_is_as_before_training():
    model = shaken()
    (twin,) = (twin for _, twin in randomised_networks(model, EVEN, "independent", layers=["conv2d_3"]))
    block, kept = twin.encoder[1], model.encoder[1]
    assert not block.conv2.bias.any()
    assert (block.norm2.weight == 1).all()
    assert (block.norm2.running_var == 1).all()
    assert not block.norm2.running_mean.any()
    torch.testing.assert_close(block.norm1.running_var, kept.norm1.running_var)
    assert block.conv2.weight.dtype == kept.conv2.weight.dtype


def test_new_weights_are_seeded_and_not_those_that_training_started_from():
    fresh = UNet(SMALL, torch.Generator().manual_seed(0))
    assert redrawn(fresh, dict(randomised_networks(fresh, EVEN.float(), seed=0))["conv2d"]) == set(ORDER)
    one, again, other = (next(randomised_networks(fresh, EVEN.float(), seed=seed))[1].head.weight for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_map_that_only_looks_at_the_image_survives_everything():
    def edges(model, x, target, layer=None):
        return Attribution("edges", "input", xr.DataArray(x.diff(dim=2).numpy(), dims=("band", "y", "x")), 0.0)

    found = parameter_randomisation(shaken(), EVEN, WHOLE, {"edges": edges}, layers=["conv2d_10", "conv2d"])
    assert (found["spearman"] > 1 - 1e-12).all()


def test_noise_averages_out_of_smoothed_maps_and_the_mean_stays():
    rng = np.random.default_rng(0)

    def noisy(model, x, target, layer=None):
        values = x.numpy() + rng.normal(size=x.shape)
        return Attribution("noisy", "input", xr.DataArray(values, dims=("band", "y", "x")), 0.0)

    alone, mean = noisy(PLAIN, EVEN, WHOLE), smoothed(noisy, copies=50, noise=0.0)(PLAIN, EVEN, WHOLE)
    spread = [(one.map - EVEN.numpy()).std() for one in (alone, mean)]
    assert spread[1] < 0.2 * spread[0]
    gradient = smoothed(METHODS["gradient x input"], copies=2, noise=0.1, seed=3)
    model = shaken()
    first, again = (gradient(model, EVEN, WHOLE).map for _ in range(2))
    xr.testing.assert_identical(first, again)
    assert similarity(first, gradient_x_input(model, EVEN, WHOLE).map)[0] < 1


def test_complexity_is_the_entropy_of_a_maps_values():
    assert complexity(np.zeros(100)) == 0
    assert complexity(np.arange(10_000)) == pytest.approx(np.log(100))
    rare = np.zeros(1000)
    rare[:10] = 1
    assert 0 < complexity(rare) < 0.1 < complexity(np.random.default_rng(0).normal(size=1000))


def drawn(shape, dims, seed=0):
    return xr.DataArray(np.random.default_rng(seed).normal(size=shape), dims=dims)


def test_similarity_of_a_map_with_itself_its_negative_and_another():
    one = drawn((12, 15), ("y", "x"))
    np.testing.assert_allclose(similarity(one, one), 1)
    np.testing.assert_allclose(similarity(one, 3 * one), 1)
    np.testing.assert_allclose(similarity(one, -one), [-1, 1])
    assert np.abs(similarity(one, drawn((12, 15), ("y", "x"), seed=1))).max() < 0.3


def test_zeros_outside_one_region_are_no_likeness():
    one, other = (abs(drawn((12, 15), ("y", "x"), seed)) * (np.arange(15) < 5) for seed in (0, 1))
    assert np.abs(similarity(one, other)).max() < 0.3


def test_similarity_where_it_is_not_defined():
    flat = xr.DataArray(np.ones((12, 15)), dims=("y", "x"))
    assert np.isnan(similarity(flat, drawn((12, 15), ("y", "x")))).all()
    line = drawn((25,), ("band",))
    np.testing.assert_allclose(similarity(line, line), 1)


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


def test_curves_follow_the_order_of_the_map():
    model = linear_network([1.0, -2.0, 0.5, 3.0])
    truth = model(EVEN[None])[0, 1].detach().numpy()
    found = insertion_deletion(model, EVEN, WHOLE, made(truth), steps=8)
    ordered = np.sort(truth.ravel())[::-1]
    sums = np.array([ordered[: round(share * ordered.size)].sum() for share in np.linspace(0, 1, 9)])
    np.testing.assert_allclose(found["value"].sel(curve="insertion"), sums, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found["value"].sel(curve="deletion"), sums[-1] - sums, rtol=1e-6, atol=1e-9)


def test_the_true_map_scores_above_a_shuffled_one_above_the_opposite():
    model = linear_network([1.0, 2.0, 0.5, 3.0])
    bright = EVEN.abs()
    truth = model(bright[None])[0, 1].detach().numpy()
    shuffled = np.random.default_rng(0).permutation(truth.ravel()).reshape(truth.shape)
    scores = [float(insertion_deletion(model, bright, WHOLE, made(m))["score"]) for m in (truth, shuffled, -truth)]
    assert scores[0] > scores[1] + 0.1 > scores[2] + 0.2
    assert scores[0] == pytest.approx(-scores[2], abs=1e-9)
    assert abs(scores[1]) < 0.1


def test_curves_run_between_the_reference_and_the_image():
    model, reference = shaken(), [0.2, 0.1, -0.4, 0.3]
    coarse = METHODS["GradCAM"](model, EVEN, WHOLE, "conv2d_4")
    found = insertion_deletion(model, EVEN, WHOLE, coarse, reference=reference, steps=5)
    start = torch.tensor(reference).double()[:, None, None].expand_as(EVEN)
    with torch.no_grad():
        ends = [float(WHOLE.value(model(x[None]))) for x in (start, EVEN)]
    np.testing.assert_allclose(found["value"].sel(curve="insertion")[[0, -1]], ends)
    np.testing.assert_allclose(found["value"].sel(curve="deletion")[[0, -1]], ends[::-1])
    assert found.sizes["fraction"] == 6
    own = insertion_deletion(model, EVEN, WHOLE, coarse, reference=EVEN, steps=2)
    assert np.isnan(own["area"]).all()


def test_a_band_that_is_not_seen_does_not_matter_and_the_others_rank_as_they_act():
    model, x = linear_network([1.0, 0.0, 2.0, 4.0]), EVEN.abs() + 0.1
    found = band_ablation(model, x, WHOLE, gradient_x_input(model, x, WHOLE))
    np.testing.assert_allclose(found["claimed"], found["change"], rtol=1e-6, atol=1e-9)
    assert float(found["change"][1]) == pytest.approx(0, abs=1e-9)
    assert float(found["spearman"]) == pytest.approx(1)
    opposite = made(-found["claimed"].values, dims=("band",))
    assert float(band_ablation(model, x, WHOLE, opposite)["spearman"]) == pytest.approx(-1)


def test_bands_against_a_reference_are_judged_against_the_same_reference():
    model, reference = linear_network([1.0, -3.0, 2.0, 4.0]), [0.5, 2.0, 0.1, -1.0]
    claimed = integrated_gradients(model, EVEN, WHOLE, reference=reference, nodes=4)
    found = band_ablation(model, EVEN, WHOLE, claimed, reference=reference)
    np.testing.assert_allclose(found["claimed"], found["change"], rtol=1e-4)
    flat = made(np.ones(4), dims=("band",))  # a claim that is the same for all bands
    assert np.isnan(band_ablation(model, EVEN, WHOLE, flat)["spearman"])


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
        (lambda m: list(randomised_networks(m, EVEN, "upwards")), "mode must be"),
        (lambda m: list(randomised_networks(m, EVEN, layers=["conv2d_77"])), r"no layers \['conv2d_77'\]"),
        (lambda m: insertion_deletion(m, EVEN, WHOLE, made(np.ones(4), dims=("band",))), "a map in space is needed"),
        (lambda m: insertion_deletion(m, EVEN, WHOLE, made(np.ones((7, 9)))), r"a map of \(7, 9\) is of no layer"),
        (lambda m: insertion_deletion(m, EVEN, WHOLE, made(np.full((16, 20), np.nan))), "not finite"),
        (lambda m: insertion_deletion(m, EVEN, WHOLE, made(np.ones((16, 20))), steps=0), "steps must be at least 1"),
        (lambda m: band_ablation(m, EVEN, WHOLE, made(np.ones((16, 20)))), "a map with 4 bands is needed"),
        (lambda m: band_ablation(m, EVEN, WHOLE, made(np.ones(3), dims=("band",))), "a map with 4 bands is needed"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call(shaken())


def test_of_large_maps_as_many_places_as_can_be_sorted_are_compared():
    maps = np.zeros((2, 3 * RANKED))
    maps[0, : RANKED + 2] = np.arange(1, RANKED + 3)
    kept = compared(maps)
    assert 0.4 * RANKED < kept.shape[1] <= RANKED
    np.testing.assert_array_equal(np.diff(kept[0]), 2)  # evenly spaced, and none of the empty places
    assert compared(maps[:, :100]).shape == (2, 100)
