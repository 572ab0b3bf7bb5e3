"""Integrated Gradients held against paths whose every breakpoint is known."""

import numpy as np
import pytest
import torch
from networks import image, shaken
from torch import nn

from hsiutils.attribution import exact_path
from hsiutils.attribution.exact_path import breakpoints, exact_integrated_gradients, quadrature_errors
from hsiutils.attribution.targets import Target, pixel
from hsiutils.models.unet import UNetConfig

SMALL = UNetConfig(channels=2, classes=2, depth=1, filters=2)


def planted():
    """y = relu(x - 1/4) - 2 relu(x - 1/2) at one pixel: bends at 1/4 and 1/2 of the way from 0 to 1."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)).double().eval()
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), ([1, 1], [-0.25, -0.5], [1, -2], [0.125]), strict=True):
            parameter.copy_(torch.tensor(values, dtype=torch.float64).view(parameter.shape))
    return model, torch.ones(1, 1, 1, dtype=torch.float64)


def test_breakpoints_and_parts_are_those_planted():
    model, x = planted()
    assert breakpoints(model, 0 * x, x).tolist() == [0, 0.25, 0.5, 1]
    found = exact_integrated_gradients(model, x, Target(torch.ones(1, 1, 1), "y"))
    assert found.map.values.item() == pytest.approx(0.25 * 1 + 0.5 * (1 - 2))
    assert found.closes
    table = quadrature_errors(model, x, [Target(torch.ones(1, 1, 1), "y")], [1, 64])
    assert table["parts"].tolist() == pytest.approx(table["sum"].tolist())  # one part alone
    assert table["parts"][1] < 0.1 < table["parts"][0]


def test_a_pooling_switches_where_two_lines_cross():
    model = nn.Sequential(nn.MaxPool2d(2)).double()
    start = torch.tensor([[[0.0, 1.0], [-1.0, -1.0]]], dtype=torch.float64)
    end = torch.tensor([[[4.0, 1.0], [-1.0, 2.0]]], dtype=torch.float64)
    assert 0.25 in breakpoints(model, start, end).tolist()
    found = exact_integrated_gradients(model, end, Target(torch.ones(1, 1, 1), "y"), reference=start)
    assert found.map.values.ravel() == pytest.approx([3, 0, 0, 0])


def test_on_a_network_of_ours_it_closes_and_quadrature_comes_closer_with_its_nodes():
    model, x = shaken(SMALL), image(SMALL, height=6, width=6)
    target = pixel(model, x, 1, 3, 4)
    places = breakpoints(model, 0 * x, x)
    assert len(places) > 40
    table = quadrature_errors(model, x, [target, pixel(model, x, 0, 2, 2)], [2, 256])
    assert table["parts"][1] < table["parts"][0] / 4
    assert table.attrs["pieces"] == len(places) - 1
    assert exact_integrated_gradients(model, x, target, reference=image(SMALL, height=6, width=6, seed=4)).closes


def test_what_cannot_be_done_exactly_is_refused(monkeypatch):
    model, x = planted()
    with pytest.raises(ValueError, match="double precision"):
        breakpoints(model.float(), x.float(), x.float())
    model = model.double()
    smooth = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()).double()
    with pytest.raises(ValueError, match="not affine between its breakpoints"):
        breakpoints(smooth, 0 * x, 3 * x)
    with pytest.raises(ValueError, match="called more than once"):
        breakpoints(nn.Sequential(model[0], model[1], model[1]), 0 * x, x)
    with pytest.raises(ValueError, match="padding"):
        breakpoints(
            nn.Sequential(nn.MaxPool2d(2, padding=1)), torch.zeros(1, 4, 4).double(), torch.ones(1, 4, 4).double()
        )
    monkeypatch.setattr(exact_path, "MOST", 3)
    with pytest.raises(ValueError, match="more than 3 pieces"):
        breakpoints(model, 0 * x, x)


def test_the_map_is_the_mean_gradient_times_the_way():
    model, x = shaken(SMALL), image(SMALL, height=6, width=6)
    target, steps = pixel(model, x, 0, 2, 2), 4000
    places = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    points = (places.view(-1, 1, 1, 1) * x).requires_grad_()
    (gradient,) = torch.autograd.grad(target.value(model(points)).sum(), points)
    riemann = (gradient.mean(0) * x).numpy()
    exact = exact_integrated_gradients(model, x, target).map.values
    assert np.linalg.norm(riemann - exact) < 1e-2 * np.linalg.norm(exact)
