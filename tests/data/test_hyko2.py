from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

import hsiutils as hu
from hsiutils.data.check import check_dataset
from hsiutils.data.classes import VOID
from hsiutils.data.hyko2 import DATA, LABELS, WAVELENGTHS, HyKo2
from hsiutils.data.inputs import fit_inputs
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import open_dataset
from hsiutils.data.statistics import class_table, data_info
from hsiutils.models.segmenter import Recipe
from hsiutils.models.unet import UNet, UNetConfig

NAMES = tuple(f"scene{number:02d}" for number in range(5))
SIZE = (6, 8)


def cube_of(name: str, bands: int) -> np.ndarray:
    return (1 + int(name[-2:]) + np.arange(SIZE[0] * SIZE[1] * bands).reshape(*SIZE, bands) / 100).astype(np.float32)


def codes_of(name: str) -> np.ndarray:
    return ((np.arange(SIZE[0] * SIZE[1]) + int(name[-2:])) % 11).astype(np.uint8).reshape(SIZE)


def write(root: Path, name: str, bands: int = 15, **changes) -> Path:
    """One scene as the release has it; of the `changes`, None takes a variable away."""
    variables = {DATA: cube_of(name, bands), LABELS: codes_of(name), "label_spectral_reflectances": codes_of(name)}
    variables |= {"id_Semantic Classes for Urban Scenes": np.array(["road", "sky"], dtype=object)} | changes
    root.mkdir(parents=True, exist_ok=True)
    savemat(root / f"{name}.mat", {key: value for key, value in variables.items() if value is not None})
    return root / f"{name}.mat"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        write(tmp_path / "vis_annotated", name)
    return tmp_path / "vis_annotated"


def test_scenes_are_those_written(root: Path) -> None:
    data = open_dataset(root)
    assert isinstance(data, HyKo2)
    assert (data.origin, data.layout, data.sensor.tiles) == ("real", "HyKo2 VIS", SIZE)
    assert [data.names(split) for split in ("train", "val", "test")] == [list(NAMES[:3]), [NAMES[3]], [NAMES[4]]]
    for name in NAMES:
        np.testing.assert_array_equal(data.cube(name), np.moveaxis(cube_of(name, 15), -1, 0))
        np.testing.assert_array_equal(data.labels(name), codes_of(name))
    assert data.classes.names[:2] == ("Road", "Sidewalk")
    assert data.classes.colours[9] == (70, 130, 180)
    np.testing.assert_array_equal(data.classes.merge(data.labels(NAMES[0])) == VOID, codes_of(NAMES[0]) == 0)
    with pytest.raises(DatasetError, match="no scene 'a' among the 5"):
        data.cube("a")


def test_near_infrared_and_the_folder_above(tmp_path: Path) -> None:
    """Band centres are those in the files where they have them; scenes are named by their folder, too."""
    centres = np.linspace(610, 960, 25)
    for unit in (1000, 1):  # micrometres, nanometres
        write(tmp_path / "nir", NAMES[0], 25, **{WAVELENGTHS: centres / unit})
        np.testing.assert_allclose(open_dataset(tmp_path).sensor.wavelengths_nm, centres)
    data = open_dataset(tmp_path)
    assert (data.layout, data.names()) == ("HyKo2 NIR", [f"nir/{NAMES[0]}"])
    assert data.cube(f"nir/{NAMES[0]}").shape == (25, *SIZE)


def test_files_without_labels_are_left_out_and_counted(root: Path) -> None:
    write(root, "scene09", **{LABELS: None})
    data = open_dataset(root)
    assert data.names() == list(NAMES)
    assert data_info(data).at["left out, for labels or image are missing", "value"] == "1 (scene09)"
    assert check_dataset(root)["severity"].tolist() == ["note"]
    assert class_table(data)["all"].iloc[:-1].sum() == pytest.approx(1)


def test_every_fault_is_found(root: Path) -> None:
    assert check_dataset(root).empty
    content = write(root, NAMES[0]).read_bytes()
    (root / f"{NAMES[0]}.mat").write_bytes(content[: len(content) // 2])
    write(root, NAMES[1], bands=14)
    write(root, NAMES[2], **{LABELS: codes_of(NAMES[2]) + np.uint8(9)})
    write(root, NAMES[3], **{LABELS: np.where(codes_of(NAMES[3]) == 3, 2.5, 1)})
    write(root, NAMES[4], **{DATA: np.full((*SIZE, 15), np.nan, np.float32), LABELS: np.zeros(SIZE, np.uint8)})
    found = check_dataset(root).set_index("scene")["found"]
    assert found[NAMES[0]].str.contains("damaged or cut short").all()
    assert "(6, 8, 14)" in found[NAMES[1]]
    assert "unknown label codes [11, 12, 13, 14, 15]" in found[NAMES[2]]
    assert "unknown label codes [2.5]" in found[NAMES[3]]
    assert [words in " ".join(found[NAMES[4]]) for words in ("not finite", "one value", "no pixel")] == [True] * 3


@pytest.mark.parametrize("spec", ["all", "all-PN", "PCA-3", "bands:2,7-PN+I"])
def test_a_network_takes_them(root: Path, spec: str) -> None:
    data = open_dataset(root)
    inputs = fit_inputs(spec, data)
    x, y = data.scenes("test", inputs)[0]
    assert (x.shape, x.dtype, y.dtype) == ((inputs.channels, *SIZE), torch.float32, torch.int64)
    assert -1 <= float(x.min()) < float(x.max()) < 1
    model = UNet(UNetConfig(inputs.channels, len(data.classes), 1, 4, class_names=data.classes.names)).eval()
    assert model(x[None]).shape == (1, 10, *SIZE)


def test_it_is_trained_scored_and_audited_on(root: Path, tmp_path: Path) -> None:
    """The whole front door: the classes that the data set brings are those of network, scores and residuals."""
    data = hu.open_dataset(root)
    inputs = hu.fit_inputs("all-PN", data)
    small, short = hu.UNetConfig(depth=1, filters=2), Recipe(epochs=1, batch=1)
    model = hu.train(data, inputs, tmp_path / "network", config=small, recipe=short, progress=False)
    assert model.config.class_names == data.classes.names
    scenes = data.scenes("test", inputs)
    counted = hu.evaluate(model, scenes)["confusion"]
    assert counted["truth"].values.tolist() == list(data.classes.names)
    x, y = scenes[0]
    assert int(counted.sum()) == int((y != VOID).sum())
    found = hu.audit(model, x, methods=["linear decomposition", "GradCAM"])
    assert found["class"].values.tolist() == list(data.classes.names)
    assert (found.sizes["y"], found.sizes["x"]) == SIZE
