import numpy as np
import pytest
import torch
from networks import MASK, trained, untouched
from networks import X as DOUBLE

from hsiutils.attribution.decompose import decompose, linear_decomposition
from hsiutils.attribution.result import Attribution, Decomposition, as_map, closed, closure_scale
from hsiutils.attribution.targets import pixel


def attribution(values, logit, dtype=torch.float64, **biases):
    return Attribution("method", "conv2d", as_map(torch.tensor(values, dtype=dtype), ("y", "x")), logit, biases)


def test_a_residual_is_positive_where_too_much_is_handed_out_and_condemned_where_it_is_no_number():
    found = attribution([[1.0, -2.0], [4.0, 0.5]], 2.5, conv2d=-1.0)
    assert (found.total, found.residual, found.closes) == (2.5, 0.0, True)
    found = attribution([[3.0]], 2.0)
    assert (found.residual, found.closes) == (1.0, False)
    assert not attribution([[np.nan]], 1.0).closes


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_tolerance_is_that_of_the_dtype_and_scales_with_the_logit(dtype, tolerance):
    assert attribution([[2.0]], 2.0 * (1 + tolerance / 2), dtype).closes
    assert not attribution([[2.0]], 2.0 * (1 + 2 * tolerance), dtype).closes
    assert attribution([[2000.0]], 2000.0, dtype).tolerance == pytest.approx(2000 * tolerance)


def test_cancelling_entries_excuse_their_two_norm_and_no_more():
    assert attribution([[1.0, -1.0] * 200], 0.0).tolerance == pytest.approx(20 * 1e-10)
    parts = np.array([[3.0, 0.0], [-4.0, 1.0]])
    assert closure_scale(np.array([1.0, -7.0]), parts).tolist() == [5.0, 7.0]


def test_the_map_is_summed_in_float64():
    values = torch.full((1, 2**20 + 1), 0.1)
    values[0, 0] = 2**20
    found = Attribution("m", "input", as_map(values, ("y", "x")), 0.0)
    assert found.total == pytest.approx(2**20 + 2**20 * float(np.float32(0.1)), rel=1e-12)


def test_half_precision_has_no_verdict():
    with pytest.raises(ValueError, match="no closure tolerance for dtype float16: compute in float32 or float64"):
        attribution([[1.0]], 1.0, torch.float16)


def test_biases_cannot_be_changed_afterwards():
    with pytest.raises(TypeError):
        attribution([[1.0]], 1.0).biases["conv2d"] = 3.0


X = DOUBLE.float()
DECOMPOSITIONS = {
    "bands": decompose,
    "regions": lambda model, x: decompose(model, x, MASK),
    "anchored": lambda model, x: decompose(model, x, reference=0.3),
}


def cancelling():
    """Two copies of a channel with weights of ten million that all but cancel: too much for single precision."""
    model = trained(dtype=torch.float32)
    last = model.decoder[-1].block
    with torch.no_grad():
        last.conv2.weight[1], last.conv2.bias[1] = last.conv2.weight[0], last.conv2.bias[0]
        for tensor in (last.norm2.weight, last.norm2.bias, last.norm2.running_mean, last.norm2.running_var):
            tensor[1] = tensor[0]
        last.conv2.weight[1, 0, 1, 1] += 1e-6
        model.head.weight[:, 0], model.head.weight[:, 1] = 1e7, -1e7
    return model


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_what_does_not_close_in_single_precision_is_computed_in_double(name, monkeypatch):
    model = cancelling()
    with untouched(model):
        found = DECOMPOSITIONS[name](model, X)
    assert found.computed == "float64"
    assert {str(part.dtype) for part in (found.contribution, found.bias, found.logit)} == {"float32"}
    assert found.closes
    one = linear_decomposition(model, X, pixel(model, X, 0, 6, 9))
    assert (one.map.dtype, one.closes) == ("float32", True)
    with monkeypatch.context() as patch:
        patch.setattr(Decomposition, "closes", True)
        single = DECOMPOSITIONS[name](model, X)
    assert single.computed == "float32"
    assert not single.closes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_closes_is_computed_once_in_the_networks_precision(dtype):
    calls = []

    def compute(model, x):
        calls.append(x.dtype)
        return decompose(model, x)

    found = closed(compute, trained(dtype=dtype), X.to(dtype))
    assert calls == [dtype]
    assert found.computed == str(dtype).removeprefix("torch.")
