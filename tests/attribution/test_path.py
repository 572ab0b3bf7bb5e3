import numpy as np
import pytest
import torch
from networks import SMALL, image, trained

from hsiutils.attribution.decompose import decompose, decompose_path
from hsiutils.attribution.targets import pixel

X = image()
REFERENCE = np.array([0.5, -0.2, 0.1, 0.3])


@pytest.fixture(scope="module")
def model():
    return trained()


def test_contributions_are_integrated_gradients(model):
    """Against autograd at the nodes of the same rule, for one logit."""
    target = pixel((5, 13, 18), 2, 6, 11)
    start = torch.as_tensor(REFERENCE)[:, None, None].expand_as(X)
    places, weights = np.polynomial.legendre.leggauss(5)
    expected = torch.zeros_like(X)
    for place, weight in zip(places, weights, strict=True):
        point = (start + (place + 1) / 2 * (X - start)).requires_grad_()
        (gradient,) = torch.autograd.grad(target.value(model(point[None])).sum(), point)
        expected += weight / 2 * gradient * (X - start)
    found = decompose_path(model, X, REFERENCE, nodes=5)["contribution"]
    np.testing.assert_allclose(found.values[:, 2, 6, 11], expected.sum((1, 2)), rtol=1e-9, atol=1e-12)


def test_completeness_improves_with_the_nodes_and_is_reported(model):
    found = [decompose_path(model, X, REFERENCE, nodes=nodes) for nodes in (1, 8, 64)]
    completeness = [result.attrs["completeness"] for result in found]
    assert completeness[0] > completeness[1] > completeness[2] > 0
    last = found[-1]
    change = last["logit"] - last["reference"]
    np.testing.assert_allclose(last["residual"], last["contribution"].sum("band") - change)
    assert completeness[2] == pytest.approx(float(abs(last["residual"]).max() / abs(change).max()))
    assert completeness[2] < 0.05


def test_reference_logits_are_those_of_the_reference_image(model):
    start = torch.as_tensor(REFERENCE)[None, :, None, None].expand(1, -1, 13, 18)
    found = decompose_path(model, X, REFERENCE, nodes=1)
    np.testing.assert_allclose(found["reference"], model(start)[0].detach(), rtol=1e-9, atol=1e-9)


def test_parts_of_the_path_take_partitions_and_means(model):
    halves = np.arange(13)[:, None].repeat(18, axis=1) // 7
    joint = decompose_path(model, X, REFERENCE, halves, nodes=2)
    means = decompose_path(model, X, REFERENCE, nodes=2, over=halves, classes=[1])
    bands = joint["contribution"].sum("region")
    np.testing.assert_allclose(means["contribution"].sel(target=0)[:, 0], bands[:, 1, :7].mean(("y", "x")), rtol=1e-9)


def test_a_path_from_the_input_to_itself_says_nothing(model):
    flat = torch.as_tensor(REFERENCE)[:, None, None].expand(SMALL.channels, 8, 8)
    found = decompose_path(model, flat, REFERENCE, nodes=1)
    assert float(abs(found["contribution"]).max()) == 0
    assert np.isnan(found.attrs["completeness"])


def test_float32_stays_float32():
    found = decompose_path(trained(dtype=torch.float32), X.float(), REFERENCE, nodes=2)
    assert found["contribution"].dtype == np.float32
    assert decompose(trained(dtype=torch.float32), X.float())["contribution"].dtype == np.float32


@pytest.mark.parametrize("reference", [REFERENCE[:3], np.full(4, np.nan)])
def test_bad_references_are_named(model, reference):
    with pytest.raises(ValueError, match=r"reference must be a finite number, a spectrum \(4,\) or an image"):
        decompose_path(model, X, reference)


def test_no_nodes_is_an_error(model):
    with pytest.raises(ValueError, match="nodes must be at least 1, got 0"):
        decompose_path(model, X, REFERENCE, nodes=0)
