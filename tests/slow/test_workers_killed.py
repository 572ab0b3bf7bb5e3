"""Two workers of a cluster, one of them killed midway, again and again: the bytes are those of one process."""

import shutil
from pathlib import Path

import kills
import pytest
import torch
from clusters import one_killed, two_workers
from networks import shaken

from hsiutils.attribution.audit_scenes import audit_scenes
from hsiutils.data.export import to_zarr
from hsiutils.data.inputs import fit_inputs
from hsiutils.data.source import open_dataset
from hsiutils.models.recipe import Recipe
from hsiutils.models.unet import UNetConfig
from hsiutils.paper import store
from hsiutils.paper.run import Profile, Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of
from hsiutils.simulate import Simulation, draw_names, write_dataset

pytestmark = pytest.mark.slow
NAMES, SCENES = draw_names(10), Simulation(tiles=(16, 32))
NETWORK = UNetConfig(channels=3, classes=6, depth=2, filters=2)
PROFILE = Profile("tiny", 10, (16, 32), ("3",), 4, 2, 2, 0.1, Recipe(epochs=2, batch=2))


def simulate(folder: Path, source: Path) -> None:
    write_dataset(folder / "set", NAMES, SCENES, workers=1, progress=False)


def convert(folder: Path, source: Path) -> None:
    to_zarr(open_dataset(source), folder / "set.zarr", workers=1, progress=False)


def audit(folder: Path, source: Path) -> None:
    data = open_dataset(source)
    scenes = data.scenes(NAMES, fit_inputs("3", data))
    model = shaken(NETWORK, torch.float32)
    audit_scenes(model, scenes, folder / "audit.zarr", maps=True, workers=1, progress=False)


def grid(run: Run) -> list[Point]:
    return [Point(run, "3", seed, {"seed": seed}) for seed in run.seeds]


def reduce(found):
    return found["counts_of"][["confusion"]]


def study(folder: Path, source: Path) -> None:
    """The record of a grid of four networks."""
    run = Run(PROFILE, data_root=source, variants=("3",))
    Study("tiny.nc", "four networks", grid, (counts_of,), reduce).keep(run, folder, progress=False)


ACTIONS = {
    simulate: ("set/scenes/nf*.json", len(NAMES)),
    convert: ("set.zarr/written/[0-9]*", len(NAMES)),
    audit: ("audit.zarr/written/[0-9]*", len(NAMES)),
    study: ("store/point/*/manifest.json", 4),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    write_dataset(root, NAMES, SCENES, workers=1, progress=False)
    return root


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_one_of_two_workers_is_killed(action, source, tried, tmp_path: Path, monkeypatch) -> None:
    pattern, count = ACTIONS[action]

    def done(folder: Path) -> dict[str, bytes]:
        monkeypatch.setenv(store.ROOT, str(folder / "store"))
        folder.mkdir()
        action(folder, source)
        found = kills.contents(folder)
        return {name: one for name, one in found.items() if name != "tiny.json"}  # which says the date and the like

    wanted, name = done(tmp_path / "whole"), f"{action.__name__} by two workers"
    for number in range(3):
        folder = tmp_path / f"killed {number}"
        with two_workers() as cluster, one_killed(cluster, folder, pattern, count):
            found = done(folder)
        assert found.keys() == wanted.keys()
        assert [one for one in wanted if found[one] != wanted[one]] == []
        tried["kills"][name] = tried["kills"].get(name, 0) + 1
        shutil.rmtree(folder)
