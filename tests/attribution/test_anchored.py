import numpy as np
import pytest
import torch
import xarray as xr
from networks import SMALL, image, trained

from hsiutils.attribution.decompose import decompose, decompose_from, margins
from hsiutils.attribution.result import closure

X = image()
SPECTRUM = np.array([0.5, -0.2, 0.1, 0.3])
GRID = np.add.outer(np.arange(13) // 5, np.arange(18) // 6 * 10)


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.mark.parametrize("options", [{}, {"partition": GRID, "bands": False}, {"partition": GRID, "over": GRID}])
def test_it_closes_at_every_pixel_and_class(model, options):
    judged = closure(decompose_from(model, X, SPECTRUM, **options))
    assert bool(judged["closes"].all())
    assert float(judged["relative"].max()) < 1e-10


def test_from_zero_it_is_the_plain_decomposition(model):
    anchored, plain = decompose_from(model, X, 0.0, GRID), decompose(model, X, GRID)
    np.testing.assert_allclose(anchored["contribution"], plain["contribution"], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(anchored["bias"].sel(layer="all"), plain["bias"].sel(layer="all"))
    assert not anchored["bias"].sel(layer="reference").any()


def test_contributions_are_the_derivative_times_the_distance(model):
    found = decompose_from(model, X, SPECTRUM)["contribution"]
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x[None])[0, 2, 6, 11], x)
    expected = (gradient * (X - torch.as_tensor(SPECTRUM)[:, None, None])).sum((1, 2))
    np.testing.assert_allclose(found[:, 2, 6, 11], expected, rtol=1e-9, atol=1e-12)


def test_the_reference_itself_says_nothing(model):
    flat = torch.as_tensor(SPECTRUM)[:, None, None].expand(SMALL.channels, 8, 8)
    found = decompose_from(model, flat, SPECTRUM)
    assert not found["contribution"].any()
    np.testing.assert_allclose(found["bias"].sum("layer"), found["logit"], rtol=1e-9, atol=1e-12)


def test_a_reference_of_another_size_is_refused(model):
    with pytest.raises(ValueError, match="reference must be a finite number, a spectrum"):
        decompose_from(model, X, SPECTRUM[:3])


def test_margins_ignore_what_all_classes_share_and_keep_sums(model):
    logits = xr.DataArray([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]], dims=("y", "class"))
    np.testing.assert_allclose(margins(logits), [[1.5, -1.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(margins(logits + 7), margins(logits))
    found = margins(decompose_from(model, X, SPECTRUM))
    summed = found["contribution"].sum("band") + found["bias"].sum("layer")
    np.testing.assert_allclose(summed, found["logit"], rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="at least two classes"):
        margins(logits.isel({"class": [0]}))
