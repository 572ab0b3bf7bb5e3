import numpy as np
import pytest
import torch

from hsiutils.attribution.result import Attribution, as_map, closure_scale


def attribution(values, logit, dtype=torch.float64, **biases):
    return Attribution("method", "conv2d", as_map(torch.tensor(values, dtype=dtype), ("y", "x")), logit, biases)


def test_total_residual_and_verdict():
    found = attribution([[1.0, -2.0], [4.0, 0.5]], 2.5, conv2d=-1.0)
    assert found.total == 2.5
    assert found.residual == 0.0
    assert found.closes


def test_residual_is_positive_where_too_much_is_handed_out():
    found = attribution([[3.0]], 2.0)
    assert found.residual == 1.0
    assert not found.closes


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_tolerance_is_that_of_the_dtype_and_scales_with_the_logit(dtype, tolerance):
    assert attribution([[2.0]], 2.0 * (1 + tolerance / 2), dtype).closes
    assert not attribution([[2.0]], 2.0 * (1 + 2 * tolerance), dtype).closes
    assert attribution([[2000.0]], 2000.0, dtype).tolerance == pytest.approx(2000 * tolerance)


def test_cancelling_entries_excuse_their_two_norm_and_no_more():
    values = [[1.0, -1.0] * 200]
    assert attribution(values, 0.0).tolerance == pytest.approx(20 * 1e-10)


def test_a_residual_that_is_not_a_number_does_not_close():
    assert not attribution([[np.nan]], 1.0).closes


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


def test_scale_is_per_logit():
    parts = np.array([[3.0, 0.0], [-4.0, 1.0]])
    assert closure_scale(np.array([1.0, -7.0]), parts).tolist() == [5.0, 7.0]
