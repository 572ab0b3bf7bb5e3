import numpy as np
import pytest
import torch
from networks import hooks, image, same, state, trained

from hsiutils.attribution import result as closing
from hsiutils.attribution.decompose import decompose, decompose_from, spatial, split_at_skips
from hsiutils.attribution.result import closed, closure
from hsiutils.attribution.targets import pixel

X = image(dtype=torch.float32)
GRID = np.add.outer(np.arange(13) // 5, np.arange(18) // 6 * 10)
DECOMPOSITIONS = {
    "bands": decompose,
    "regions": lambda model, x: decompose(model, x, GRID, bands=False),
    "anchored": lambda model, x: decompose_from(model, x, 0.3),
    "halves": split_at_skips,
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
    before = state(model)
    found = DECOMPOSITIONS[name](model, X)
    assert found.attrs["computed"] == "float64"
    assert {str(found[variable].dtype) for variable in found} == {"float32"}
    assert bool(closure(found)["closes"].all())
    assert same(before, state(model))
    assert hooks(model) == 0
    monkeypatch.setattr(closing, "_closes", lambda _: True)
    single = DECOMPOSITIONS[name](model, X)
    assert single.attrs["computed"] == "float32"
    assert not closure(single)["closes"].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_closes_is_computed_once_in_the_networks_precision(dtype):
    calls = []

    def compute(model, x):
        calls.append(x.dtype)
        return decompose(model, x)

    found = closed(compute, trained(dtype=dtype), X.to(dtype))
    assert calls == [dtype]
    assert found.attrs["computed"] == str(dtype).removeprefix("torch.")


def test_a_map_of_one_target_closes_too():
    model, target = cancelling(), pixel((5, 13, 18), 0, 6, 9)
    found = spatial(model, X, target)
    assert found.map.dtype == "float32"
    assert found.closes


def test_double_precision_that_does_not_close_says_so():
    """Nothing is passed off: what is wrong and not merely rounded stays wrong."""

    def wrong(model, x):
        found = decompose(model, x)
        return found.assign(bias=found["bias"] * 1.01)

    found = closed(wrong, trained(dtype=torch.float32), X)
    assert found.attrs["computed"] == "float64"
    assert not closure(found)["closes"].all()
