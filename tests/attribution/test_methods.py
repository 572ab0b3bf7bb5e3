"""Every method under one convention: one name, one call, and nothing left behind whatever happens."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from networks import MASK, PLAIN, X, image, shaken, untouched, used

from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.methods import METHODS, attribute
from hsiutils.attribution.targets import pixel, region

TARGET = region(PLAIN, X, 1, MASK, mean=True)
EVERY = pytest.mark.parametrize("name", METHODS)


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
def test_half_precision_and_the_target_of_another_image_are_refused(name):
    with pytest.raises(ValueError, match=r"x and the network are torch.bfloat16, too coarse"):
        METHODS[name](shaken(dtype=torch.bfloat16), X.bfloat16(), TARGET)
    model = used()
    with untouched(model), pytest.raises(ValueError, match="make the target with this image's logits shape"):
        METHODS[name](model, X, pixel(model, X[:, :5, :5], 0, 0, 0))


@EVERY
def test_a_method_takes_any_layer_or_says_that_it_does_not(name):
    method = METHODS[name]
    if name == "CAM":
        with pytest.raises(ValueError, match=r"CAM needs the layer that a 1 x 1 .* that is not 'conv2d_2'"):
            method(shaken(), X, TARGET, "conv2d_2")
    elif method.layered:
        assert method(shaken(), X, TARGET, "conv2d_2").layer == "conv2d_2"
    else:
        with pytest.raises(ValueError, match="conv2d_2"):
            method(shaken(), X, TARGET, "conv2d_2")


CALLS = {"audit": lambda model, x, _: audit(model, x), "decompose": lambda model, x, _: decompose(model, x)}


@pytest.mark.parametrize("name", [*METHODS, *CALLS])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_is_left_behind(name, error, monkeypatch):
    def stop(*_):
        raise error("in the middle")

    model, x = used(), X.clone()
    if error:
        monkeypatch.setattr(torch.nn.ReLU, "forward", stop)
    with untouched(model), pytest.raises(error, match="in the middle") if error else nullcontext():
        (METHODS | CALLS)[name](model, X, TARGET)
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
