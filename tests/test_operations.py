"""What things cost, counted and not timed: forward passes of a method, readings of a scene, opened files, look-ups.

Each number is a bound with little room. What costs more fails here, on every machine; what has become cheaper, too, and
its bound is lowered.
"""

import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from networks import image, shaken
from planted import Counted as Scenes
from tiny_hsi_drive import NAMES, write_matlab_release
from toyscenes import toy_scenes

from hsiutils.attribution.audit import AUDITED, audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.leaderboard import cost, question
from hsiutils.attribution.methods import METHODS
from hsiutils.data.inputs import fit_inputs
from hsiutils.data.source import open_dataset
from hsiutils.models import batches
from hsiutils.models.metrics import evaluate
from hsiutils.models.recipe import Recipe
from hsiutils.models.train import fit
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper import store
from hsiutils.paper.activations import head_sums
from hsiutils.paper.table1 import evaluation

NETWORK, IMAGE = shaken(dtype=torch.float32), image(height=16, width=24, dtype=torch.float32)
REGION = question(NETWORK, IMAGE).region
REGIONS = torch.arange(24).expand(16, 24) // 8

MAPS = {
    "linear decomposition": 3,
    "CAM": 1.03,
    "GradCAM": 1.02,
    "SegGradCAM": 1.02,
    "GradCAM++": 1.02,
    "XGradCAM": 1.02,
    "HiResCAM": 1.02,
    "LayerCAM": 1.02,
    "ScoreCAM": 5.02,
    "AblationCAM": 5.02,
    "EigenCAM": 1.03,
    "gradient": 3,
    "gradient x input": 3,
    "Guided BackProp": 3,
    "Guided GradCAM": 4.02,
    "SmoothGrad": 9,
    "Integrated Gradients": 18,
    "DeepLIFT": 4,
    "LRP epsilon": 3,
    "LRP gamma": 3,
    "occlusion": 8,
    "band occlusion": 6,
}
"""Forward passes that the map of one target takes, by method."""
FEWER = {"SmoothGrad": {"samples": 4}, "Integrated Gradients": {"nodes": 8}}
AUDITS = {
    "linear decomposition": 4,
    "CAM": 3.03,
    "GradCAM": 21.21,
    "GradCAM++": 3.02,
    "XGradCAM": 3.41,
    "HiResCAM": 3.41,
    "LayerCAM": 3.03,
    "ScoreCAM": 6.02,
    "AblationCAM": 6.02,
    "EigenCAM": 2.01,
    "gradient": 3,
    "gradient x input": 3,
    "SmoothGrad": 34,
    "Integrated Gradients": 67,
    "occlusion": 8,
    "band occlusion": 6,
    "GradCAM signed": 3.41,
}
"""And the residuals of all pixels and classes, at the usual layers."""
DECOMPOSITIONS = {
    "4 bands": ({}, 5.75),
    "3 regions": ({"by": REGIONS}, 5),
    "4 bands of 3 regions": ({"by": ("bands", REGIONS)}, 13.23),
    "biases of 13 layers": ({"biases": "layers"}, 17.75),
    "from the average pixel": ({"reference": IMAGE.mean((1, 2))}, 6.75),
    "4 nodes of a path": ({"nodes": 4}, 20.97),
}


def forwards(call) -> float:
    return cost(NETWORK, IMAGE, call)[0]


def near(found: float, bound: float) -> bool:
    return 0.97 * bound <= found <= bound


@pytest.mark.parametrize("name", METHODS)
def test_a_map_of_one_target(name: str) -> None:
    found = forwards(lambda: METHODS[name](NETWORK, IMAGE, REGION, **FEWER.get(name, {})))
    assert near(found, MAPS[name]), found


@pytest.mark.parametrize("name", AUDITED)
def test_the_residuals_of_all_pixels_and_classes(name: str) -> None:
    found = forwards(lambda: audit(NETWORK, IMAGE, [name]))
    assert near(found, AUDITS[name]), found


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_a_decomposition(name: str) -> None:
    options, bound = DECOMPOSITIONS[name]
    found = forwards(lambda: decompose(NETWORK, IMAGE, **options))
    assert near(found, bound), found


@pytest.mark.parametrize(("held", "epochs"), [(True, 2), (True, 4), (False, 2)])
def test_a_training_reads_scenes_that_fit_in_memory_once(held: bool, epochs: int, tmp_path, monkeypatch) -> None:
    """And others once an epoch; once more each before it, and the first for its size."""
    if not held:
        monkeypatch.setattr(batches, "HELD_BYTES", 0)
    train, val = Scenes(list(toy_scenes(3, 0))), Scenes(list(toy_scenes(2, 1)))
    config = UNetConfig(channels=3, classes=5, depth=1, filters=2, norm_momentum=0.1)
    fit(train, val, config, Recipe(epochs=epochs, batch=2), 0, tmp_path, progress=False, device="cpu")
    again = 0 if held else epochs
    assert (train.reads, val.reads) == (3 * (1 + again) + 1, 2 * (1 + again))


_opened: list[str] | None = None


def _look(event: str, given: tuple) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(given[0]))


sys.addaudithook(_look)  # cannot be taken back: outside of `opened` it does nothing


@contextmanager
def opened(root):
    """Files under a folder that Python opens inside, as often as it does."""
    global _opened
    _opened, found = [], []
    try:
        yield found
    finally:
        found += [path for path in _opened if path.startswith(str(root))]
        _opened = None


def test_an_evaluation_opens_two_files_a_scene(tmp_path) -> None:
    """The cube's twice: it is looked at before it is read."""
    data = open_dataset(write_matlab_release(tmp_path, NAMES))
    model = UNet(UNetConfig(depth=1, filters=2, class_names=data.classes.names))
    scenes = data.scenes("test", fit_inputs("25-PN", data))
    with opened(tmp_path) as files:
        evaluate(model, scenes)
    assert Counter(path.suffix for path in map(Path, files)) == {".mat": 2 * len(scenes), ".png": len(scenes)}
    assert len(set(files)) == 2 * len(scenes) == 6


def test_what_is_known_is_found_by_three_look_ups_a_network(tiny_run, monkeypatch) -> None:
    """As a chapter asks that was run before: no network is read, no scene, and no file hashed."""
    evaluation(tiny_run, progress=False)
    looked, load = [], store.load
    monkeypatch.setattr(store, "load", lambda folder: looked.append(folder) or load(folder))
    monkeypatch.setattr(store, "file_hash", lambda path: pytest.fail(f"{path} was hashed"))
    with opened(store.default_root()) as files:
        evaluation(tiny_run, progress=False)
    networks = len(tiny_run.variants) * len(tiny_run.seeds)
    assert len(looked) == 3 * networks
    assert {path.rpartition("/")[2] for path in files} == {store.MANIFEST}


def test_a_measure_of_a_known_network_looks_for_no_other_and_reads_no_weights(tiny_run, monkeypatch):
    """Of many that were measured in one pass: its own manifest, and that of what was measured."""
    name, seed, looked, load = tiny_run.variants[0], tiny_run.seed, [], store.load
    head_sums(tiny_run, name, seed)
    scenes = tiny_run.inputs(name, tiny_run.data.names("test"))
    monkeypatch.setattr(store, "load", lambda folder: looked.append(folder) or load(folder))
    monkeypatch.setattr("hsiutils.paper.run.load_trained", lambda folder: pytest.fail(f"{folder} was read"))
    head_sums(tiny_run, name, seed)
    assert [folder.parent.name for folder in looked] == ["model", "survey"]
    assert tiny_run.inputs(name, scenes.names).inputs is scenes.inputs
