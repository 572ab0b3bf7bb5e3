import copy
import dataclasses
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hsiutils.data.classes import CLASSES
from hsiutils.data.inputs import variant
from hsiutils.data.layouts import DatasetError
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.models.keras import write_keras
from hsiutils.models.metrics import scores
from hsiutils.models.recipe import AUTHORS
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper import activations, bands, conservativeness, store
from hsiutils.paper.evidence import Evidence, NotTestable
from hsiutils.paper.measures import MEASURES
from hsiutils.paper.run import PROFILES, departures, profile
from hsiutils.paper.study import over_networks, sunlit
from hsiutils.paper.table1 import evaluation


def test_scenes_are_simulated_in_all_splits_and_sunlight_is_known_where_somebody_recorded_it(tiny_run):
    drive = tiny_run.data
    assert (drive.origin, drive.sensor.tiles) == ("simulated", (16, 32))
    assert {split: len(drive.names(split)) for split in ("train", "val", "test")} == {"train": 6, "val": 2, "test": 2}
    assert [share.shape for share in sunlit(drive, drive.names("test"))] == [(16, 32)] * 2
    blind = SimpleNamespace(truth=lambda name: None)
    assert sunlit(blind, drive.names("test")) is None


def test_every_departure_from_the_authors_training_is_named():
    assert departures(profile("paper")).empty
    quick = departures(profile("quick"))
    assert quick.loc["dropout"].tolist() == ["0.5", "0"]
    assert quick.loc["class weights", "this run"] == "inverse-frequency, to the power 1 falling to 0"
    fields = {field.name for field in dataclasses.fields(AUTHORS)}
    for name in fields - {"drop_epoch", "drop_factor", "patience", "min_delta", "class_weights"}:
        other = {"schedule": "one-cycle", "keep": "last", "weight_power": (1.0, 0.0), "precision": "16-mixed"}
        other["order_seed"] = 1
        value = other.get(name, (getattr(AUTHORS, name) or 0) * 2 or 1)
        paper = profile("paper")
        own = dataclasses.replace(paper, recipe=dataclasses.replace(paper.recipe, **{name: value}), name="own")
        named = departures(own).drop(index="epochs", errors="ignore")
        assert named.empty == (name == "epochs"), name


def test_a_real_data_set_is_opened_where_it_is(tiny_run, tmp_path):
    root = tiny_run.data.root
    other = dataclasses.replace(tiny_run, data_root=root)
    assert other.data.root == root
    assert other.data_key != tiny_run.data_key
    with pytest.raises(DatasetError, match="looked in"):
        dataclasses.replace(tiny_run, data_root=tmp_path).networks([("25", 0)])


def test_a_run_may_split_its_scenes_otherwise(tiny_run):
    first, second, third, *_ = tiny_run.data.names("train")
    splits = (("train", (first,)), ("val", (second,)), ("test", (third, tiny_run.data.names("test")[0])))
    other = dataclasses.replace(tiny_run, splits=splits)
    assert tuple((split, tuple(other.data.names(split))) for split in ("train", "val", "test")) == splits
    assert len(other.data.names()) == len(tiny_run.data.names())
    assert other.data_key == tiny_run.data_key  # the scenes are the same
    asked, own = (run._training("3", 0)["inputs"] for run in (other, tiny_run))
    assert asked["scenes"] != own["scenes"]
    assert pickle.dumps(other)  # as it goes to another process
    assert copy.deepcopy(other) == other
    with pytest.raises(ValueError, match=f"more than once come {first}"):
        dataclasses.replace(tiny_run, splits=(*splits, ("test", (first,))))
    with pytest.raises(ValueError, match="no scenes"):
        dataclasses.replace(tiny_run, splits=(("train", ("nf1111_576", "nf9")),)).data  # noqa: B018


def test_labels_swapped_behind_a_link_are_another_data_set(tiny_run, tmp_path):
    root, far = tmp_path / "set", tmp_path / "far"
    shutil.copytree(tiny_run.data.root, root, ignore=shutil.ignore_patterns(store.MANIFEST))
    (labels,) = root.rglob("labels")
    labels.rename(far)
    labels.symlink_to(far)
    run = dataclasses.replace(tiny_run, data_root=root)
    one, other = (run.data.files(name)[1] for name in run.data.names("train")[:2])
    before, contents = run.data_key, (one.read_bytes(), other.read_bytes())
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert run.data_key != before
    assert dataclasses.replace(run).data_key == run.data_key


def test_scenes_are_made_otherwise_by_the_settings_of_the_run_and_real_ones_are_not(tiny_run, tmp_path):
    chip = dataclasses.replace(HSI_DRIVE, name="other")
    other = tiny_run.simulating(noise=False, chip=chip, seed=7)
    assert (other.simulation.seed, other.simulation.tiles, other.simulation.chip.tiles) == (0, (16, 32), (16, 32))
    assert dataclasses.replace(other.simulation, noise=True, chip=None) == tiny_run.simulation
    with pytest.raises(ValueError, match="noise: only simulated scenes"):
        dataclasses.replace(tiny_run, data_root=tmp_path).simulating(noise=False)


def test_every_network_is_trained_once_and_kept(tiny_run):
    assert dataclasses.replace(tiny_run, seed=4).seeds == (4, 5)
    wanted = [(name, seed) for name in tiny_run.variants for seed in tiny_run.seeds]
    first = tiny_run.networks(wanted, progress=False)
    assert len({artefact.key for artefact in first}) == 4
    inputs = first[0].manifest["inputs"]
    assert (inputs["data"], inputs["variant"]["name"], inputs["seed"]) == (tiny_run.data_key, "3", 0)
    times = [(artefact.folder / store.MANIFEST).stat().st_mtime_ns for artefact in first]
    again = tiny_run.networks(wanted, progress=False)
    assert [(artefact.folder / store.MANIFEST).stat().st_mtime_ns for artefact in again] == times


def test_network_fits_its_variant_and_its_inputs(tiny_run):
    trained = tiny_run.model("3")
    scenes = tiny_run.inputs("3", tiny_run.data.names("test"))
    image, labels = scenes[0]
    assert trained.model.config.channels == image.shape[0] == 3
    assert image.shape[1:] == labels.shape == (16, 32)
    assert len(trained.history) == 2


def test_a_band_whose_peak_the_filter_stops_sees_by_the_other(tiny_run, monkeypatch):
    named, seen = tiny_run.data.sensor.wavelengths_nm, tiny_run.centres_nm
    assert np.flatnonzero(seen != named).tolist() == [22]
    assert (named[22].round(), seen[22].round()) == (564, 839)
    around = seen[22] + np.arange(-3.0, 4.0)
    assert tiny_run.data.sensor.responses(around, tiny_run.simulation.long_pass_nm)[22].argmax() == 3
    monkeypatch.setattr(type(tiny_run.data), "origin", "real")
    np.testing.assert_array_equal(tiny_run.centres_nm, named)


def test_counts_hold_every_labelled_pixel_once(tiny_run):
    counts = evaluation(tiny_run, progress=False)
    assert dict(counts.sizes) | {"variant": 2, "seed": 2, "scene": 2, "truth": 5} == dict(counts.sizes)
    assert counts.attrs["origin"] == "simulated"
    drive = tiny_run.data
    labelled = [int((drive.labels(name) > 0).sum()) for name in drive.names("test")]
    total = counts["confusion"].sel(region="all").sum(["truth", "predicted"])
    assert np.array_equal(total.values, np.broadcast_to(labelled, total.shape))
    assert scores(counts)["iou"].dims[:1] == ("variant",)


def test_a_damaged_network_is_trained_again_to_the_same_bytes(tiny_run, store_root, tmp_path, monkeypatch):
    tiny_run.networks([("3", 0)], progress=False)
    # In a copy of the store: other tests, in other processes, may be reading these very files.
    for kind in ("data", "model"):
        shutil.copytree(store_root / kind, tmp_path / kind, ignore=shutil.ignore_patterns("*.partial", "*.lock"))
    monkeypatch.setenv("HSIUTILS_STORE", str(tmp_path))
    (made,) = tiny_run.networks([("3", 0)], progress=False)
    assert made.folder.is_relative_to(tmp_path)
    weights = made.folder / "weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:100])
    (again,) = tiny_run.networks([("3", 0)], progress=False)
    assert (again.folder / "weights.safetensors").read_bytes() == before


def test_only_missing_networks_are_trained_under_names_that_tell_them(tiny_run, monkeypatch):
    (known,) = tiny_run.networks([("3", 0)], progress=False)
    seen = []
    monkeypatch.setattr("hsiutils.paper.run.side_by_side", lambda calls, *_: seen.extend(calls) or dict.fromkeys(calls))
    asked = [("3", 99), ("3", 0), ("25-PN", 99), ("3", 99)]
    assert tiny_run.networks(asked, progress=False) == [None, known, None, None]
    assert seen == ["variant 3, seed 99", "variant 25-PN, seed 99"]


def write_weights(path, seed=0):
    config = UNetConfig(classes=6, depth=4, filters=2)
    write_keras(UNet(config, torch.Generator().manual_seed(seed)), path)


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.h5"
    write_weights(path)
    return dataclasses.replace(tiny_run, variants=("25-PN",), weights=path)


class TestWeights:
    """A published Keras file in the place of trained networks; another depth and another head than the profile's."""

    def made(self, run):
        (artefact,) = run.networks([("25-PN", run.seed)], progress=False)
        return artefact

    def test_it_is_the_only_network(self, run):
        assert run.seeds == (0,)
        assert run.replicates == "one network, no spread over seeds"
        assert run.first == "model.h5"
        run.train(progress=False)
        assert run.model("25-PN").model.config == UNetConfig(depth=4, filters=2, class_names=CLASSES)
        with pytest.raises(ValueError, match="there is none of seed 1"):
            run.model("25-PN", 1)
        for names in ((), ("3", "25-PN")):
            with pytest.raises(ValueError, match="takes one input variant"):
                dataclasses.replace(run, variants=names)

    def test_it_goes_by_what_the_file_holds(self, run, tmp_path):
        first = self.made(run)
        copy = tmp_path / "copy.h5"
        copy.write_bytes(run.weights.read_bytes())
        assert self.made(dataclasses.replace(run, weights=copy)).key == first.key
        write_weights(copy, seed=1)
        changed = dataclasses.replace(run, weights=copy)
        assert self.made(changed).key != first.key
        copy.unlink()
        with pytest.raises(FileNotFoundError, match=r"copy\.h5"):
            self.made(changed)

    def test_another_input_is_another_artefact(self, run):
        plain = dataclasses.replace(run, variants=("25",))
        (other,) = plain.networks([("25", 0)], progress=False)
        assert other.key != self.made(run).key

    def test_remarks_are_for_it_alone(self, run, tiny_run):
        assert tiny_run.remarks() == ()
        assert any("void left out" in remark for remark in run.remarks())
        assert "simulated" in run.remarks()[-1]
        assert (tiny_run.replicates, tiny_run.first) == ("2 seeds", "seed 0")

    def test_what_the_chapters_measure_takes_it(self, run):
        assert evaluation(run, progress=False).sizes["seed"] == 1
        gap = over_networks(run, activations.head_sums)["gap"]
        assert gap.sizes["variant"] == gap.sizes["seed"] == 1
        (scene,) = conservativeness.audited_scenes(run)
        methods = conservativeness.residuals(run, conservativeness.subject(run), run.seed, scene)["method"].values
        assert "CAM conv2d_17" in methods
        shares = bands.layer_shares(bands.spectra(run, "25-PN", run.seed, most=1))
        assert "conv2d_18" in shares["layer"].values

    def test_measures_say_what_they_lack_and_take_its_own_depth(self, run):
        evidence = Evidence.of(run)
        for name in ("inhomogeneity", "edge_noise", "likeness_of_inputs", "marks_fall"):
            with pytest.raises(NotTestable, match="needs"):
                MEASURES[name](evidence)
        assert np.isnan(MEASURES["gradcam_explained"](evidence).low)


def test_paper_profile_is_the_papers():
    paper = profile("paper")
    assert (paper.scenes, paper.tiles, paper.depth, paper.filters) == (752, (216, 409), 5, 32)
    assert paper.recipe == dataclasses.replace(AUTHORS, precision="32-true")
    assert {"1", "3", "25", "25-PN"} == set(paper.variants)


@pytest.mark.parametrize("own", PROFILES, ids=lambda own: own.name)
def test_every_profile_can_show_a_spread_and_names_real_variants(own):
    assert own.models >= 3
    assert own.depth == 5  # so that conv2d_21 is the last 3x3 convolution everywhere
    assert [variant(name).name for name in own.variants] == list(own.variants)
