"""Every method under one convention: one name, one call, and nothing left behind whatever happens."""

import numpy as np
import pytest
import torch
from networks import PLAIN, hooks, image, shaken, state

from hsiutils.attribution.methods import METHODS, attribute
from hsiutils.attribution.targets import pixel, region

X = image()
MASK = torch.zeros(13, 18, dtype=torch.bool)
MASK[3:7, 5:11] = True
TARGET = region(PLAIN, X, 1, MASK, mean=True)
EVERY = pytest.mark.parametrize("name", METHODS)


def used():
    """A model as it may come: in training mode but for a part, with gradients, one parameter frozen."""
    model = shaken().train()
    model.encoder[0].eval()
    model.encoder[1].conv1.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    return model


def attributes(model):
    return [sorted(vars(module)) for module in model.modules()]


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_method_answers_under_its_name_for_its_target(name, dtype):
    model, x = shaken(dtype=dtype), image(dtype=dtype)
    found = METHODS[name](model, x, TARGET)
    with torch.no_grad():
        assert found.logit == pytest.approx(float(TARGET.value(model(x[None]))), rel=1e-4)
    assert found.method == name
    assert found.map.dtype == str(dtype).removeprefix("torch.")
    assert np.isfinite(found.map.values).all()
    assert found.map.values.any()


def test_which_methods_close():
    model, target = shaken(), pixel(PLAIN, X, 2, 4, 7)
    closing = {name for name, method in METHODS.items() if method(model, X, target).closes}
    assert closing == {"linear decomposition", "CAM", "DeepLIFT"}


@EVERY
def test_the_answer_is_the_same_in_training_mode_and_under_no_grad(name):
    expected = METHODS[name](shaken(), X, TARGET).map.values
    with torch.no_grad():
        found = METHODS[name](used(), X[None], TARGET)
    np.testing.assert_array_equal(found.map.values, expected)


@EVERY
@pytest.mark.parametrize("mode", ["autocast", "inference"])
def test_the_callers_modes_change_nothing(name, mode):
    x = X.float()
    expected = METHODS[name](shaken(dtype=torch.float32), x, region(PLAIN, x, 1, MASK, mean=True))
    with torch.autocast("cpu", dtype=torch.bfloat16) if mode == "autocast" else torch.inference_mode():
        model, inside = shaken(dtype=torch.float32), x.clone()
        found = METHODS[name](model, inside, region(model, inside, 1, MASK, mean=True))
        assert torch.is_autocast_enabled("cpu") == (mode == "autocast")
        assert torch.is_inference_mode_enabled() == (mode == "inference")
    np.testing.assert_array_equal(found.map.values, expected.map.values)
    assert found.logit == expected.logit


@EVERY
def test_half_precision_is_refused(name):
    with pytest.raises(ValueError, match=r"x and the network are torch.bfloat16, too coarse"):
        METHODS[name](shaken(dtype=torch.bfloat16), X.bfloat16(), TARGET)


@EVERY
def test_a_method_takes_any_layer_or_says_that_it_does_not(name):
    method = METHODS[name]
    if name == "CAM":
        with pytest.raises(ValueError, match="take HiResCAM at other layers"):
            method(shaken(), X, TARGET, "conv2d_2")
    elif method.layered:
        assert method(shaken(), X, TARGET, "conv2d_2").layer == "conv2d_2"
    else:
        with pytest.raises(ValueError, match="conv2d_2"):
            method(shaken(), X, TARGET, "conv2d_2")


def fine(model, method):
    method(model, X, TARGET)


def wrong_target(model, method):
    with pytest.raises(ValueError, match="make the target with this image's logits shape"):
        method(model, X, pixel(model, X[:, :5, :5], 0, 0, 0))


def raises(error):
    def scenario(model, method):
        def stop(*_):
            raise error("stopped")

        handle = model.base.relu1.register_forward_pre_hook(stop)
        try:
            with pytest.raises(error, match="stopped"):
                method(model, X, TARGET)
        finally:
            handle.remove()

    return scenario


SCENARIOS = {
    "fine": fine,
    "wrong target": wrong_target,
    "module raises": raises(RuntimeError),
    "KeyboardInterrupt": raises(KeyboardInterrupt),
}


@EVERY
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_left_behind(name, scenario):
    model, x = used(), X.clone()
    before, seen, rng = state(model), attributes(model), torch.random.get_rng_state()
    SCENARIOS[scenario](model, METHODS[name])
    assert hooks(model) == 0
    assert before == state(model)
    assert attributes(model) == seen
    assert torch.equal(rng, torch.random.get_rng_state())
    assert torch.equal(X, x)
    assert not X.requires_grad


def test_attribute_takes_a_name_and_the_options_of_the_method():
    found = attribute("GradCAM", shaken(), X, TARGET, "conv2d_4", relu=True)
    expected = METHODS["GradCAM"](shaken(), X, TARGET, "conv2d_4").map.values.clip(min=0)
    np.testing.assert_array_equal(found.map.values, expected)
    with pytest.raises(KeyError, match="no method 'GradCam'; there are linear decomposition, CAM, GradCAM"):
        attribute("GradCam", shaken(), X, TARGET)


def test_the_list_cannot_be_changed():
    with pytest.raises(TypeError):
        METHODS["mine"] = METHODS["CAM"]
