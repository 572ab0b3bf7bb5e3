"""Heads found in what networks do, CAM through them by hand, and relevance in networks that are not ours."""

import numpy as np
import pytest
import torch
from strangers import DeepLab, SmpUNet, around, settled
from torch import nn
from torch.nn import functional

from hsiutils.attribution.audit import audit
from hsiutils.attribution.head import head_at
from hsiutils.attribution.linearise import usual_layers
from hsiutils.attribution.lrp import lrp
from hsiutils.attribution.methods import attribute
from hsiutils.attribution.targets import pixel, region
from hsiutils.models.examples import Gate

X = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class PerPixel(nn.Module):
    """A linear layer at every pixel, as transformers have it; `swap` turns rows into columns behind it."""

    def __init__(self, swap=False):
        super().__init__()
        self.features, self.linear = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), nn.Linear(4, 3)
        self.order = (0, 3, 2, 1) if swap else (0, 3, 1, 2)

    def forward(self, x):
        return self.linear(self.features(x).permute(0, 2, 3, 1)).permute(*self.order)


class Auxiliary(nn.Module):
    """A second output of its own, computed after the logits, as torchvision's networks have in training."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), nn.Conv2d(4, 3, 1)
        self.aux = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 1))

    def forward(self, x):
        x = self.body(x)
        return {"out": self.head(x), "aux": self.aux(x)}


def activation(model, layer):
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, out: kept.append(out.detach().clone()))
    model(X[None])
    handle.remove()
    return kept[0][0].numpy()


@pytest.mark.parametrize(
    ("make", "layer", "head"),
    [
        (lambda: around(nn.ReLU(inplace=True)), "1", "2"),
        (lambda: around(nn.ReLU(), Gate(4), nn.ReLU()), "3", "4"),  # what is before the layer may be smooth
        (PerPixel, "features.1", "linear"),
        (Auxiliary, "body.1", "head"),
    ],
)
def test_cam_is_activations_times_the_heads_weights_at_the_pixel_and_nothing_elsewhere(make, layer, head):
    model = settled(make(), X)
    weight, bias = (each.detach().numpy() for each in model.get_submodule(head).parameters())
    found = attribute("CAM", model, X, pixel(model, X, 1, 5, 6), layer)
    expected = np.zeros((12, 16))
    expected[5, 6] = weight[1].ravel() @ activation(model, layer)[:, 5, 6]
    np.testing.assert_allclose(found.map, expected, rtol=1e-12)
    assert (found.layer, found.closes) == (layer, True)
    assert found.biases == pytest.approx({head: bias[1]})


def test_cam_of_upsampled_logits_is_on_the_heads_grid_and_closes():
    model = settled(DeepLab(), X)
    a, weight = activation(model, "project.2"), model.classifier[1].weight.detach().numpy()[:, :, 0, 0]
    ones = torch.eye(a[0].size, dtype=torch.float64).view(-1, 1, *a.shape[1:])
    read = functional.interpolate(ones, (12, 16), mode="bilinear", align_corners=False)[:, 0]  # (cells, h, w)
    target = pixel(model, X, 2, 5, 6)
    found = attribute("CAM", model, X, target, "project.2")
    expected = np.einsum("k,kyx->yx", weight[2], a) * read[:, 5, 6].reshape(a.shape[1:]).numpy()
    np.testing.assert_allclose(found.map, expected, rtol=1e-12)
    assert found.closes
    assert attribute("CAM", model, X, target, upsample=True).map.shape == (12, 16)


def test_the_audit_of_a_region_behind_upsampling_is_the_map_of_its_sum():
    model = settled(DeepLab(), X)
    found, seen = audit(model, X, ["LayerCAM", "GradCAM++", "CAM"]).isel(image=0), model(X[None])["out"][0].argmax(0)
    assert set(found["name"].values) == {"LayerCAM", "GradCAM++", "CAM"}
    for number in seen.unique().tolist():
        target = region(model, X, number, seen == number)
        for name in ("LayerCAM", "GradCAM++", "CAM"):
            one = attribute(name, model, X, target)
            measured = float(found["region_residual"].sel({"method": f"{name} classifier.0"})[number])
            assert measured == pytest.approx(one.residual, rel=1e-9, abs=1e-9)


class Behind(nn.Module):
    """A 1 x 1 convolution, and something behind it."""

    def __init__(self, behind, groups=1, classes=4):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head, self.behind = nn.Conv2d(4, classes, 1, groups=groups), behind

    def forward(self, x):
        x = self.features(x)
        return self.behind(self.head(x), x)


@pytest.mark.parametrize(
    "make",
    [
        SmpUNet,
        lambda: Behind(lambda y, _: functional.relu(y)),
        lambda: Behind(lambda y, _: y.sigmoid()),
        lambda: Behind(lambda y, _: y.roll(1, 1)),
        lambda: Behind(lambda y, _: y.flip(1)),
        lambda: Behind(lambda y, _: y[:, 1:]),
        lambda: Behind(lambda y, x: y + x),  # a second reader
        lambda: Behind(lambda y, _: functional.pixel_shuffle(y, 2)),
        lambda: Behind(lambda y, _: functional.pad(y, (1, 1), value=2.0)),
        lambda: Behind(lambda y, _: functional.conv2d(y, torch.ones(1, 4, 1, 1, dtype=y.dtype))),
        lambda: Behind(lambda y, _: y, groups=2),
        lambda: Behind(lambda y, _: functional.interpolate(y, scale_factor=2, mode="bicubic")),  # reads below zero
        lambda: PerPixel(swap=True),
    ],
)
def test_no_head_is_found_where_another_thing_makes_the_logits(make):
    model = settled(make(), X)
    layer = usual_layers(model, X)[-1] if isinstance(model, SmpUNet) else "features.1"
    assert head_at(model, X, layer) is None
    with pytest.raises(ValueError, match="CAM needs the layer that a 1 x 1 convolution reads"):
        attribute("CAM", model, X, pixel(model, X, 0, 1, 1), layer)


@pytest.mark.parametrize(
    "behind",
    [
        lambda y, _: y[:, :, 1:-2, 3:],
        lambda y, _: functional.pad(y, (1, 1)),
        lambda y, _: functional.interpolate(y, scale_factor=2, mode="nearest"),
        lambda y, _: functional.interpolate(y, (7, 9), mode="bilinear", align_corners=True),
    ],
)
def test_a_head_is_found_through_cropping_padding_and_upsampling_and_spreads_as_they_do(behind):
    model = settled(Behind(behind), X)
    head = head_at(model, X, "features.1")
    read = torch.from_numpy(activation(model, "features.1"))
    plain = torch.einsum("ck,kyx->cyx", model.head.weight.detach()[:, :, 0, 0], read)
    expected = behind(plain[None], None)[0].detach()
    torch.testing.assert_close(head.scores(head.activation), expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert float((head.back(weights) * plain).sum()) == pytest.approx(float((weights * expected).sum()))  # the adjoint


def test_layers_that_the_logits_do_not_depend_on_are_not_the_usual_ones():
    model = settled(Auxiliary(), X)
    assert usual_layers(model, X)[-1] == "body.1"
    assert set(audit(model, X, ["GradCAM", "ScoreCAM"])["layer"].values) == {"body.1"}


@pytest.mark.parametrize("make", [DeepLab, SmpUNet, PerPixel, lambda: around(nn.LeakyReLU(), nn.MaxPool2d(3, 2, 1))])
def test_lrp_epsilon_is_gradient_x_input_on_networks_that_are_zero_at_zero_between_biases(make):
    model = settled(make(), X)
    target = pixel(model, X, 1, 2, 3)
    expected = attribute("gradient x input", model, X, target).map.values
    np.testing.assert_allclose(lrp(model, X, target, epsilon=1e-14).map, expected, atol=1e-7 * np.abs(expected).max())
    assert np.abs(lrp(model, X, target, epsilon=1.0).map - expected).max() > 1e-3 * np.abs(expected).max()


def normalised():
    first, second = (nn.Conv2d(inputs, 4, 3, padding=1, bias=False) for inputs in (3, 4))
    blocks = [[conv, nn.BatchNorm2d(4), nn.ReLU(inplace=True)] for conv in (first, second)]
    return nn.Sequential(*blocks[0], *blocks[1], nn.Conv2d(4, 2, 1))


def test_lrp_gamma_by_hand_with_normalisation_folded_in():
    model = settled(normalised(), X)
    model[1].bias.data.abs_(), model[4].bias.data.abs_().add_(1)  # units that are alive
    target = region(model, X, 1, np.ones((12, 16), bool))
    kernels, shifts = [], []
    for conv, norm in ((model[0], model[1]), (model[3], model[4])):
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
        kernels.append(conv.weight.detach() * scale[:, None, None, None])
        shifts.append((norm.bias - norm.running_mean * scale).detach())
    one = functional.conv2d(X[None], kernels[0], shifts[0], padding=1).relu()
    two = functional.conv2d(one, kernels[1], shifts[1], padding=1)
    logits = functional.conv2d(two.relu(), model[6].weight, model[6].bias).detach()

    def back(x, kernel, z, relevance, padding=1):
        """Shares of x times kernel in z."""
        shares = relevance / (z + torch.where(z < 0, -1e-9, 1e-9))
        return x * functional.conv_transpose2d(shares, kernel, padding=padding)

    relevance = back(two.relu(), model[6].weight.detach(), logits, logits * target.weights, 0)
    favoured = kernels[1] + 0.25 * kernels[1].clamp_min(0)
    relevance = back(one, favoured, functional.conv2d(one, favoured, shifts[1], padding=1), relevance)
    whole = functional.conv2d(X[None], kernels[0], shifts[0], padding=1)
    expected = back(X[None], kernels[0], whole, relevance)[0]
    found = lrp(model, X, target, rule="gamma")
    np.testing.assert_allclose(found.map, expected, atol=1e-9 * float(expected.abs().max()))
    plain = lrp(model, X, target)
    assert np.abs(plain.map - expected.numpy()).max() > 1e-2 * float(expected.abs().max())


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(), nn.ReLU6(inplace=True), nn.Hardswish()])
def test_functions_of_single_numbers_pass_all_relevance_on(activation):
    model = settled(around(activation, nn.Conv2d(4, 4, 3, padding=1)), X)
    for layer in (0, 2, 3):
        nn.init.zeros_(model[layer].bias)
    found = lrp(model, X, pixel(model, X, 1, 5, 6), epsilon=1e-13)
    assert found.total == pytest.approx(found.logit, rel=1e-6)
    assert found.exact
