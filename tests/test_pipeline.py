import dataclasses
import json

import numpy as np
import pytest

from hsiutils import pipeline, store
from hsiutils.layouts import DatasetError
from hsiutils.metrics import scores


def test_scenes_are_simulated_in_all_splits(tiny_run):
    drive = pipeline.data(tiny_run)
    assert drive.origin == "simulated"
    assert drive.sensor.tiles == (16, 32)
    assert {split: len(drive.names(split)) for split in ("train", "val", "test")} == {"train": 6, "val": 2, "test": 2}


def test_a_real_data_set_is_opened_where_it_is(tiny_run, tmp_path):
    root = pipeline.data(tiny_run).root
    other = dataclasses.replace(tiny_run, data_root=root)
    assert pipeline.data(other).root == root
    assert pipeline.data_key(other) != pipeline.data_key(tiny_run)
    with pytest.raises(DatasetError, match="looked in"):
        pipeline.data(dataclasses.replace(tiny_run, data_root=tmp_path))


def test_seeds_follow_from_the_first(tiny_run):
    assert dataclasses.replace(tiny_run, seed=4).seeds == (4, 5)


def test_every_network_is_trained_once_and_kept(tiny_run):
    wanted = [(name, seed) for name in tiny_run.variants for seed in tiny_run.seeds]
    first = pipeline.models(tiny_run, wanted, progress=False)
    assert len({artefact.key for artefact in first}) == 4
    times = [(artefact.folder / store.MANIFEST).stat().st_mtime_ns for artefact in first]
    again = pipeline.models(tiny_run, wanted, progress=False)
    assert [(artefact.folder / store.MANIFEST).stat().st_mtime_ns for artefact in again] == times


def test_network_fits_its_variant_and_its_inputs(tiny_run):
    trained = pipeline.model(tiny_run, "3")
    scenes = pipeline.inputs(tiny_run, "3", pipeline.data(tiny_run).names("test"))
    image, labels = scenes[0]
    assert trained.model.config.channels == image.shape[0] == 3
    assert image.shape[1:] == labels.shape == (16, 32)
    assert len(trained.history) == 2


def test_counts_hold_every_labelled_pixel_once(tiny_run):
    counts = pipeline.evaluation(tiny_run, progress=False)
    assert dict(counts.sizes) | {"variant": 2, "seed": 2, "scene": 2, "truth": 5} == dict(counts.sizes)
    assert counts.attrs["origin"] == "simulated"
    drive = pipeline.data(tiny_run)
    labelled = [int((drive.labels(name) > 0).sum()) for name in drive.names("test")]
    total = counts["confusion"].sel(region="all").sum(["truth", "predicted"])
    assert np.array_equal(total.values, np.broadcast_to(labelled, total.shape))
    parts = counts["confusion"].sel(region=["sunlit", "shadowed"]).sum("region")
    assert (parts <= counts["confusion"].sel(region="all")).all()
    assert scores(counts)["iou"].dims[:1] == ("variant",)


def test_a_damaged_network_is_trained_again_to_the_same_bytes(tiny_run):
    (made,) = pipeline.models(tiny_run, [("3", 0)], progress=False)
    weights = made.folder / "weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:100])
    (again,) = pipeline.models(tiny_run, [("3", 0)], progress=False)
    assert (again.folder / "weights.safetensors").read_bytes() == before


def test_a_failed_training_is_named_and_the_others_are_kept(tiny_run, monkeypatch):
    def fail(jobs, workers, progress):
        raise pipeline.JobsFailed({jobs[-1].folder: MemoryError("no room")}, len(jobs))

    monkeypatch.setattr(pipeline, "fit_many", fail)
    with pytest.raises(RuntimeError, match=r"variant 3, seed 99: no room"):
        pipeline.models(tiny_run, [("3", 99)], progress=False)


def test_sunlight_is_known_only_where_somebody_recorded_it(tiny_run):
    drive = pipeline.data(tiny_run)
    names = drive.names("test")
    shares = pipeline.sunlit(drive, names)
    assert shares is not None
    assert all(share.shape == (16, 32) for share in shares)

    class Blind:
        def truth(self, name):
            return None

    assert pipeline.sunlit(Blind(), names) is None


def test_manifest_of_a_network_names_its_scenes(tiny_run):
    (made,) = pipeline.models(tiny_run, [("3", 0)], progress=False)
    manifest = json.loads((made.folder / store.MANIFEST).read_text())
    assert manifest["inputs"]["data"] == pipeline.data_key(tiny_run)
    assert manifest["inputs"]["variant"]["name"] == "3"
    assert manifest["inputs"]["seed"] == 0
