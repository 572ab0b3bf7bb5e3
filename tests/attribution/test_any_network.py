"""The leaderboard's measures, walls and sanity checks of networks that are not ours, beside ours."""

import numpy as np
import pytest
import torch
import xarray as xr
from networks import image, shaken, untouched
from strangers import DeepLab, SmpUNet, around, settled
from torch import nn

from hsiutils.attribution.checks import drawn_layers, parameter_randomisation, randomised_networks
from hsiutils.attribution.hooks import picked
from hsiutils.attribution.leaderboard import (
    FLIPPED,
    cost,
    largest_region,
    leaderboard,
    leakage,
    pixel_maps,
    question,
    robustness,
    upper_layers,
)
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.walls import behind
from hsiutils.models.unet import UNetConfig

X = image(UNetConfig(channels=3), 12, 16)
SEEN = torch.arange(16).expand(12, 16) < 10
STRANGERS = {
    "DeepLab": DeepLab,
    "smp's U-Net": SmpUNet,
    "coarse logits": lambda: around(nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 3), nn.ReLU()),
}
EVERY = pytest.mark.parametrize("make", STRANGERS.values(), ids=STRANGERS)


def picture(model, x, target, layer=None):
    """A map that reads no network."""
    return Attribution("picture", "input", xr.DataArray(x.numpy(), dims=("band", "y", "x")), 0.0)


def redrawn(model, twin):
    """Names of the layers whose numbers differ."""
    before, after = (drawn_layers(one, X) for one in (model, twin))
    return {
        name
        for name, (module, *_) in before.items()
        if any(not torch.equal(old, after[name][0].state_dict()[key]) for key, old in module.state_dict().items())
    }


def test_layers_go_from_the_head_down_and_the_upper_ones_end_at_the_smallest_grid():
    layers = list(drawn_layers(settled(SmpUNet(), X), X))
    assert layers[:4] == ["head", "up.1", "up.0", "down2.downsample.1"]
    assert layers[-1] == "down1.conv1"
    assert upper_layers(settled(SmpUNet(), X), X) == layers[:3]
    assert upper_layers(settled(DeepLab(), X), X) == ["classifier.1"]  # all below is on the smallest grid
    ours = shaken(UNetConfig(channels=3, depth=1, filters=2))
    assert upper_layers(ours, X) == ["conv2d_6", "conv2d_5", "conv2d_4", "conv2d_transpose"]
    assert upper_layers(nn.Sequential(ours), X)[0] == "0.head"
    assert upper_layers(nn.Conv2d(3, 2, 1).double(), X) == [""]  # the network itself


@EVERY
def test_layers_of_any_network_are_drawn_anew_and_the_network_stays(make):
    model = settled(make(), X)
    order = list(drawn_layers(model, X))
    half = order[len(order) // 2]
    with untouched(model):
        for mode, expected in {
            "cascading": set(order[: order.index(half) + 1]),
            "bottom-up": set(order[order.index(half) :]),
            "independent": {half},
        }.items():
            ((name, twin),) = randomised_networks(model, X, mode, layers=[half])
            assert (name, redrawn(model, twin)) == (half, expected)
            (again,) = randomised_networks(model, X, mode, layers=[half])
            assert not redrawn(twin, again[1])
    ((_, other),) = randomised_networks(model, X, "independent", seed=1, layers=[half])
    assert redrawn(twin, other) == {half} or isinstance(drawn_layers(model, X)[half][0], nn.BatchNorm2d)
    for module in dict(randomised_networks(model, X))[order[-1]].modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.running_var == 1).all()


def test_what_nobody_can_draw_is_named_where_it_would_be_drawn():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4, 1, 1))

        def forward(self, x):
            return x * self.scale

    model = settled(around(Own(), nn.ReLU()), X)
    assert len(list(randomised_networks(model, X, layers=["3"]))) == 1
    with pytest.raises(ValueError, match=r"layer '1' cannot be drawn anew: Own has weights .* reset_parameters"):
        next(randomised_networks(model, X))
    with pytest.raises(ValueError, match=r"no layers \['9'\] with weights in the network; it has 3, 1, 0"):
        next(randomised_networks(model, X, layers=["9"]))


@EVERY
def test_the_leaderboard_and_the_cascade_tell_maps_of_the_picture_from_maps_of_the_network(make):
    model = settled(make(), X)
    methods = {name: METHODS[name] for name in ("linear decomposition", "gradient x input", "GradCAM")}
    asked = question(model, X)
    found = leaderboard(model, X, asked, methods | {"picture": picture}, steps=2).to_dataframe()
    assert found["residual"]["linear decomposition"] < 1e-10 < 1e-3 < found["residual"]["GradCAM"]
    assert found["sanity"]["picture"] == found["class_sensitivity"]["picture"] == pytest.approx(1)
    assert found["sanity"]["gradient x input"] < 0.95
    assert np.isfinite(found["faithfulness"]).all()
    maps, stops = {"picture": picture, "gradient": METHODS["gradient"]}, [*drawn_layers(model, X)][::-4][::-1]
    curves = parameter_randomisation(model, X, asked.region, maps, layers=stops)
    kept = curves["spearman"].sel(sign="signed")
    assert (kept.sel({"method": "picture"}) > 1 - 1e-9).all()
    assert float(kept.sel({"method": "gradient"})[-1]) < 0.5
    assert list(curves["layer"].values) == stops


@EVERY
def test_walls_stand_before_any_network(make):
    model = settled(make(), X)
    names = ("linear decomposition", "Guided BackProp", "DeepLIFT", "GradCAM", "EigenCAM", "ScoreCAM")
    with untouched(model):
        found = behind(model, X, SEEN, {name: METHODS[name] for name in names})
    share = found.to_dataframe().set_index("method")["share"]
    assert (share[["linear decomposition", "Guided BackProp", "DeepLIFT"]] == 0).all()
    assert share["EigenCAM"].max() > 0.01
    assert float(found["area"]) == 6 / 16
    assert len(share["ScoreCAM":"ScoreCAM"]) == 1  # a pass a channel: before the logits only


@EVERY
def test_leakage_robustness_and_cost_of_any_network(make):
    model = settled(make(), X)
    target = largest_region(model, X)
    gradient = METHODS["gradient x input"]
    assert 0 <= leakage(model, X, target, gradient(model, X, target)) <= 1
    images = {"same": X, FLIPPED: X.flip(-1)}
    assert robustness(model, X, target, picture, images) == pytest.approx({"same": 1, FLIPPED: 1})
    assert robustness(model, X, target, gradient, images)["same"] == pytest.approx(1)
    assert cost(model, X, lambda: METHODS["band occlusion"](model, X, target))[0] == pytest.approx(5, abs=1)


def test_our_network_and_a_strangers_that_does_the_same_get_the_same_answers():
    ours = shaken(UNetConfig(channels=3, depth=2, filters=3))
    model = nn.Sequential(ours)
    methods = {name: METHODS[name] for name in ("linear decomposition", "CAM", "GradCAM", "ScoreCAM", "DeepLIFT")}
    mine, theirs = (behind(one, X, SEEN, methods)["share"].values for one in (ours, model))
    np.testing.assert_allclose(theirs, mine, rtol=1e-6)
    one, other = question(ours, X), question(model, X)
    assert one.places == other.places
    assert torch.equal(one.rival.weights, other.rival.weights)
    xr.testing.assert_allclose(pixel_maps(ours, X, one), pixel_maps(model, X, other))
    assert torch.equal(largest_region(ours, X, 1).weights, largest_region(model, X, 1).weights)
    assert not torch.equal(largest_region(ours, X, 1).weights, one.region.weights)


def test_a_question_needs_two_classes_and_logits_that_can_be_picked():
    with pytest.raises(ValueError, match="two classes to tell apart, and the network has one"):
        question(settled(around(classes=1), X), X)
    plain = settled(SmpUNet(), X)
    several = nn.Sequential(plain)
    several.register_forward_hook(lambda _, __, out: [out.mean(), out])
    with picked(several, lambda out: out[1]):
        assert torch.equal(question(several, X).region.weights, question(plain, X).region.weights)
        assert upper_layers(several, X)[0] == "0.head"
