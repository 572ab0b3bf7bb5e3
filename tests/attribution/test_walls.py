import numpy as np
import pytest
import torch
from networks import image, shaken, untouched

from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.walls import Walled, behind
from hsiutils.models.unet import UNetConfig

CONFIG = UNetConfig(channels=3, depth=2, filters=3)
SEEN = torch.arange(24).expand(16, 24) < 16


@pytest.fixture(scope="module")
def found():
    model, x = shaken(CONFIG), image(CONFIG, 16, 24)
    names = ("linear decomposition", "DeepLIFT", "Guided BackProp", "CAM", "GradCAM", "ScoreCAM", "EigenCAM")
    with untouched(model):
        result = behind(model, x, SEEN, {name: METHODS[name] for name in names}, ["conv2d_5", model.config.last])
    return result.to_dataframe().set_index(["method", "layer"])["share"]


def test_what_reads_the_input_is_silent_behind_the_wall(found):
    for name in ("linear decomposition", "DeepLIFT", "Guided BackProp"):
        assert found[name, "input"] == 0


def test_class_activation_maps_put_mass_on_what_the_network_cannot_see(found):
    assert found["GradCAM", "conv2d_5"] > 0.1
    assert found["EigenCAM", "conv2d_9"] > 0.1
    assert found["GradCAM", "conv2d_9"] > 0.1
    assert found["CAM", "conv2d_9"] == 0  # silent outside the region, wherever the wall is
    assert ("ScoreCAM", "conv2d_5") not in found.index  # a pass a channel: before the head only


def test_the_image_in_front_of_a_wall_gives_the_maps_of_the_network_behind_it():
    model, x = shaken(CONFIG), image(CONFIG, 16, 24)
    walled, shown = Walled(model, SEEN), x * SEEN
    torch.testing.assert_close(walled(x[None]), model(shown[None]))


def test_a_wall_must_hide_something_and_not_all():
    model, x = shaken(CONFIG), image(CONFIG, 16, 24)
    for seen in (np.ones((16, 24), bool), np.zeros((16, 24), bool), np.ones((3, 3), bool)):
        with pytest.raises(ValueError, match="some true and some false"):
            behind(model, x, seen, {}, [])
