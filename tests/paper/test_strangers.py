"""The page for strangers: its networks, its image and its record."""

import json

import numpy as np
import pytest

from hsiutils.paper.strangers import FEW, compared, recorded, road, strangers


@pytest.fixture(scope="module")
def image():
    return road(size=(16, 32))


def test_the_picture_of_a_road_is_three_colours_from_0_to_1(image):
    assert image.shape == (3, 16, 32)
    assert image.dtype == np.float32
    assert (image.min(), image.max()) == (0, 1)


def test_three_networks_are_compared_and_the_smooth_one_says_why(tmp_path, image):
    found = strangers(image)
    assert [one.name for one in found] == ["FCN", "Keras chain", "squeeze and excitation"]
    table, why, audits = compared(found)
    assert list(audits) == [one.name for one in found]
    assert table["exact"].tolist() == ["yes", "yes", "no"]
    assert (table["linear decomposition"] < 1e-9).all()
    assert (table.set_index("exact").loc["yes", "GradCAM"] > 0.01).all()
    assert table["adds up"].tolist() == [
        "linear decomposition, CAM",
        "linear decomposition",
        "linear decomposition, CAM",
    ]
    assert table["CAM"].isna().tolist() == [False, True, False]  # the chain has no head of one pixel
    assert table.set_index("exact").loc["no", list(FEW[2:])].isna().all()
    assert list(why) == ["squeeze and excitation"]
    assert "sigmoid in backbone.5.gate.fc.3" in why["squeeze and excitation"]


def test_the_record_of_large_networks_is_read(tmp_path):
    table, made = recorded()
    assert len(table) == 3
    assert (table["float64"] < 1e-10).all()
    assert "torchvision" in made
    (tmp_path / "other.json").write_text(json.dumps({"networks": {}}))
    with pytest.raises(ValueError, match="no benchmark record"):
        recorded(tmp_path / "other.json")
