from pathlib import Path

import numpy as np
import pytest
from other_kinds import CITYSCAPES, SIZE, cityscapes_set, codes_of, image_of, write_cityscapes

import hsiutils as hu
from hsiutils.data.check import check_dataset
from hsiutils.data.cityscapes import CITYSCAPES_CLASSES, TRAIN_ID_CLASSES, Cityscapes
from hsiutils.data.classes import VOID
from hsiutils.data.layouts import DatasetError
from hsiutils.models.recipe import Recipe

TRAINED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
"""Label ids in the order of their train ids, as published."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return cityscapes_set(tmp_path)


def test_label_ids_become_train_ids() -> None:
    ids = np.arange(34)
    expected = np.full(34, VOID)
    expected[TRAINED] = np.arange(19)
    np.testing.assert_array_equal(CITYSCAPES_CLASSES.merge(ids), expected)
    np.testing.assert_array_equal(TRAIN_ID_CLASSES.merge([*range(19), 255]), [*range(19), VOID])
    assert TRAIN_ID_CLASSES.names == CITYSCAPES_CLASSES.names
    assert TRAIN_ID_CLASSES.colours == CITYSCAPES_CLASSES.colours
    assert [CITYSCAPES_CLASSES.names[index] for index in (0, 8, 10, 18)] == ["Road", "Vegetation", "Sky", "Bicycle"]


def test_scenes_are_those_written(root: Path) -> None:
    data = hu.open_dataset(root)
    assert isinstance(data, Cityscapes)
    assert {name: split for split in ("train", "val", "test") for name in data.names(split)} == CITYSCAPES
    for name in CITYSCAPES:
        np.testing.assert_allclose(data.cube(name) * 255, np.moveaxis(image_of(name), -1, 0), rtol=1e-6)
        np.testing.assert_array_equal(data.labels(name), codes_of(name, 34))
    assert (data.layout, data.sensor.tiles, data.units) == ("Cityscapes", SIZE, "sRGB, 0..1")
    assert check_dataset(root).empty


def test_test_images_whose_labels_are_withheld_are_void(root: Path) -> None:
    write_cityscapes(root, "berlin_000000_000019", codes=np.full(SIZE, 3, np.uint8))
    data = hu.open_dataset(root)
    assert (data.classes.merge(data.labels(data.names("test")[0])) == VOID).all()
    assert check_dataset(root)["found"].tolist() == ["no pixel is labelled"]


def test_every_fault_is_found(root: Path) -> None:
    first, second, third, last = CITYSCAPES
    path = root / "leftImg8bit" / "train" / "aachen" / f"{first}_leftImg8bit.png"
    path.write_bytes(path.read_bytes()[:60])
    write_cityscapes(root, second, codes=np.full(SIZE, 34, np.uint8))
    write_cityscapes(root, third, image=image_of(third)[:4])
    (root / "gtFine" / "test" / "berlin" / f"{last}_gtFine_labelIds.png").unlink()
    found = check_dataset(root).set_index("scene")["found"]
    assert "damaged or cut short" in found[first]
    assert "unknown label codes [34]" in found[second]
    assert "found RGB of (4, 8)" in found[third]
    assert found[""] == f"left out, for labels or image are missing: 1 ({last})"
    copied = root / "leftImg8bit" / "val" / "aachen" / path.name
    copied.parent.mkdir()
    copied.write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"\['{first}'\] in leftImg8bit/val/aachen and another part"):
        hu.open_dataset(root)


def test_images_without_labels_are_no_data_set(root: Path) -> None:
    (root / "gtFine").rename(root / "gtCoarse")
    with pytest.raises(DatasetError, match=r"no image with a label image can be read; expected leftImg8bit/"):
        hu.open_dataset(root)


def test_a_network_learns_what_colours_tell(tmp_path: Path) -> None:
    """Road is grey, vegetation green, sky blue: three of nineteen classes, which the audit closes for, too."""
    rng, ids = np.random.default_rng(0), np.array([7, 21, 23], np.uint8)
    colours = np.array([(90, 90, 90), (40, 140, 40), (120, 160, 230)])
    for name in (*CITYSCAPES, *(f"ulm_000000_0000{number:02d}" for number in range(14))):
        which = rng.integers(0, 3, (4, 4)).repeat(8, axis=0).repeat(8, axis=1)
        image = np.clip(colours[which] + rng.normal(0, 8, (*which.shape, 3)), 0, 255).astype(np.uint8)
        write_cityscapes(tmp_path / "set", name, image, ids[which])
    data = hu.open_dataset(tmp_path / "set")
    inputs = hu.fit_inputs("all", data)
    small = hu.UNetConfig(depth=1, filters=8, dropout=0.0)
    short = Recipe(epochs=8, batch=1, learning_rate=1e-2, schedule="one-cycle", keep="last")
    model = hu.train(data, inputs, tmp_path / "network", config=small, recipe=short, progress=False)
    scenes = data.scenes("test", inputs)
    counted = hu.evaluate(model, scenes)["confusion"].sum(["scene", "region"])
    for name in ("Road", "Vegetation", "Sky"):
        assert counted.sel(truth=name, predicted=name) > 0.9 * counted.sel(truth=name).sum()
    found = hu.audit(model, scenes[0][0], methods=["linear decomposition", "GradCAM"])
    assert found["class"].values.tolist() == list(CITYSCAPES_CLASSES.names)
