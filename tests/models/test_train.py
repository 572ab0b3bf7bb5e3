import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_hsi_drive import write_matlab_release
from torch.utils.data import TensorDataset
from toyscenes import toy_scenes

from hsiutils.data.classes import CLASSES, VOID
from hsiutils.data.inputs import FittedVariant, fit_inputs, variant
from hsiutils.data.source import open_dataset
from hsiutils.models.batches import examine
from hsiutils.models.files import load_model, load_trained, read_history
from hsiutils.models.metrics import evaluate, weighted_iou
from hsiutils.models.recipe import Recipe
from hsiutils.models.segmenter import kernels, loss_weights
from hsiutils.models.train import fit, train
from hsiutils.models.unet import UNetConfig

CONFIG = UNetConfig(channels=3, depth=2, filters=4, norm_momentum=0.2, class_names=CLASSES)
RECIPE = Recipe(epochs=5, batch=4, learning_rate=1e-2, schedule="one-cycle", flip=True, precision="32-true")
TRAIN, VAL = toy_scenes(12, 1), toy_scenes(4, 2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(folder, recipe=RECIPE, seed=0, data=TRAIN, val=VAL, progress=False, config=CONFIG, **more):
    return fit(data, val, config, recipe, seed, folder, progress=progress, device="cpu", **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


class Killed(Exception):
    pass


def killed_after(epoch):
    def report(done, total, row):
        if done == epoch:
            raise Killed

    return report


def test_separable_scenes_are_learnt(tmp_path):
    certain = replace(CONFIG, dropout=0.0)
    recipe = replace(RECIPE, epochs=16, batch=2)
    history = run(tmp_path, recipe, data=toy_scenes(32, 1), config=certain)
    assert history["val_mean_iou"].iloc[-1] > 0.9
    assert history["val_mean_iou"].iloc[0] < 0.6
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2


def test_history_and_manifest(finished):
    history = read_history(finished)
    assert list(history["epoch"]) == [1, 2, 3, 4, 5]
    assert {"learning_rate", "train_loss", "val_loss", "val_weighted_iou", "val_iou Road Marks"} <= set(history)
    manifest = load_trained(finished).manifest
    assert manifest["config"]["filters"] == 4
    assert manifest["recipe"]["learning_rate"] == 1e-2
    assert manifest["epochs_run"] == 5
    assert manifest["best_val_weighted_iou"] == pytest.approx(history["val_weighted_iou"].max())
    assert history["epoch"][history["val_weighted_iou"].idxmax()] == manifest["best_epoch"]
    assert sorted(path.name for path in finished.iterdir()) == ["history.csv", "training.json", "weights.safetensors"]


def test_weights_kept_are_those_of_the_best_epoch_not_the_last(tmp_path):
    history = run(tmp_path, replace(RECIPE, schedule="step", drop_epoch=3, drop_factor=300.0, epochs=6))
    best = load_trained(tmp_path).manifest["best_epoch"]
    assert best < 6, "the last epochs were meant to go wrong"
    counts = evaluate(load_model(tmp_path), VAL, list("abcd")).sum("scene")["confusion"].sel(region="all")
    shares = examine(TRAIN, CONFIG, "training").frequencies
    assert float(weighted_iou(counts, shares)) == pytest.approx(history["val_weighted_iou"].max(), rel=1e-3)


def test_same_seed_same_bytes_and_another_seed_other_bytes(finished, tmp_path):
    torch.rand(3)  # the global stream is of no importance
    run(tmp_path / "same")
    run(tmp_path / "other", seed=1)
    for name in ("weights.safetensors", "history.csv"):
        whole = (finished / name).read_bytes()
        assert (tmp_path / "same" / name).read_bytes() == whole
        assert (tmp_path / "other" / name).read_bytes() != whole


@pytest.mark.parametrize("epoch", [1, 4])
def test_killed_training_ends_up_where_an_uninterrupted_one_does(finished, tmp_path, epoch):
    with pytest.raises(Killed):
        run(tmp_path, progress=killed_after(epoch))
    assert not json.loads((tmp_path / "training.json").read_text())["finished"]
    seen = []
    run(tmp_path, progress=lambda done, total, row: seen.append((done, total)))
    assert seen[0] == (max(epoch - 1, 1), 5)  # the epoch in which it was killed is done again, no other
    for name in ("weights.safetensors", "history.csv"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


RAW = FittedVariant(variant("3"), tuple(range(25)), (0.0,) * 3, (1.0,) * 3, 99.9)


def test_brightness_and_order_have_a_seed_of_their_own_and_survive_a_kill(tmp_path):
    recipe = replace(RECIPE, epochs=2, brightness=0.9, order_seed=7)
    run(tmp_path / "whole", recipe, variant=RAW)
    with pytest.raises(Killed):
        run(tmp_path / "killed", recipe, variant=RAW, progress=killed_after(2))
    run(tmp_path / "killed", recipe, variant=RAW)
    for name, other in (("start", {"seed": 1}), ("order", {"recipe": replace(recipe, order_seed=8)})):
        run(tmp_path / name, **({"recipe": recipe} | other), variant=RAW)
    plain = replace(recipe, brightness=0.0, order_seed=None)
    run(tmp_path / "same order", replace(plain, order_seed=0), variant=RAW)
    run(tmp_path / "plain", plain, variant=RAW)
    found = {folder.name: (folder / "weights.safetensors").read_bytes() for folder in tmp_path.iterdir()}
    assert found["killed"] == found["whole"]
    assert found["same order"] == found["plain"]
    assert len(set(found.values())) == len(found) - 2


@pytest.mark.parametrize(
    "inputs",
    [None, replace(RAW, low=(-0.1, 0.0, 0.0)), replace(RAW, variant=variant("3-PN"))],
    ids=["unknown", "signed", "PN"],
)
def test_brightness_is_refused_where_inputs_do_not_show_it(tmp_path, inputs):
    with pytest.raises(ValueError, match=r"Recipe\.brightness 0\.5 multiplies values from zero on"):
        run(tmp_path / "folder", replace(RECIPE, brightness=0.5), variant=inputs)
    assert not (tmp_path / "folder").exists()


def test_checkpoint_holds_no_code_and_a_damaged_one_means_a_fresh_start(finished, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, progress=killed_after(3))
    checkpoint = tmp_path / "last.ckpt"
    torch.load(checkpoint, weights_only=True)  # raises where anything but plain values is inside
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0xFF
    checkpoint.write_bytes(content)
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged: training starts afresh"):
        run(tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == (finished / "weights.safetensors").read_bytes()


def test_finished_training_is_not_repeated(finished):
    weights = finished / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    history = run(finished, data=toy_scenes(12, 1), progress=killed_after(1))  # the same scenes, made anew
    pd.testing.assert_frame_equal(history, read_history(finished))
    assert weights.stat().st_mtime_ns == before


@pytest.mark.parametrize("state", ["finished", "killed"])
def test_a_folder_with_other_scenes_is_refused(finished, tmp_path, state):
    folder = finished
    if state == "killed":
        folder = tmp_path
        with pytest.raises(Killed):
            run(folder, progress=killed_after(2))
    images, labels = TRAIN[:]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    moved = TensorDataset(images, labels.roll(1, 2))
    for other in ({"data": toy_scenes(12, 3)}, {"data": moved}, {"val": toy_scenes(4, 5)}):
        with pytest.raises(ValueError, match="training with other scenes: delete it, or take another folder"):
            run(folder, **other)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_other_settings_in_the_same_folder_are_refused(finished):
    with pytest.raises(ValueError, match="other seed: delete it"):
        run(finished, seed=7)
    with pytest.raises(ValueError, match="other recipe"):
        run(finished, replace(RECIPE, l2=0.0))


def test_learning_rate_drops_as_in_the_recipe_and_global_state_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    history = run(tmp_path, Recipe(epochs=4, batch=6, drop_epoch=2))
    np.testing.assert_allclose(history["learning_rate"], [1e-3, 1e-4, 1e-4, 1e-4])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_early_stopping_counts_validations_without_progress(tmp_path):
    history = run(tmp_path, Recipe(epochs=8, batch=6, patience=2, min_delta=100.0))
    assert len(history) == 3
    assert load_trained(tmp_path).manifest["epochs_run"] == 3


def test_class_weights_fall_over_the_steps_and_the_last_weights_are_kept(tmp_path, monkeypatch):
    seen = []

    def weights(recipe, frequencies, power=1.0):
        seen.append(power)
        return loss_weights(recipe, frequencies, power)

    monkeypatch.setattr("hsiutils.models.segmenter.loss_weights", weights)
    recipe = replace(RECIPE, epochs=2, weight_power=(1.0, 0.5), dice=1.0, keep="last", validate_every=2)
    history = run(tmp_path, recipe)
    np.testing.assert_allclose(seen[2:], np.linspace(1, 0.5, 6))  # three batches in each of two epochs
    assert load_trained(tmp_path).manifest["best_epoch"] == 2
    counts = evaluate(load_model(tmp_path), VAL, list("abcd")).sum("scene")["confusion"].sel(region="all")
    shares = examine(TRAIN, CONFIG, "training").frequencies
    assert float(weighted_iou(counts, shares)) == pytest.approx(history["val_weighted_iou"].iloc[-1], rel=1e-3)


def test_validation_now_and_then(tmp_path):
    history = run(tmp_path, replace(RECIPE, epochs=4, validate_every=2))
    np.testing.assert_array_equal(history["val_loss"].notna(), [False, True, False, True])
    assert load_trained(tmp_path).manifest["best_epoch"] in (2, 4)


def test_validation_loss_holds_the_penalty(tmp_path):
    histories = [run(tmp_path / str(l2), Recipe(epochs=1, batch=12, learning_rate=1e-9, l2=l2)) for l2 in (0.0, 1.0)]
    with torch.no_grad():
        squares = sum(float(value.square().sum()) for value in kernels(load_model(tmp_path / "1.0")))
    difference = histories[1]["val_loss"][0] - histories[0]["val_loss"][0]
    assert difference == pytest.approx(squares, rel=1e-3)


def test_diverging_training_says_so(tmp_path):
    with pytest.raises(RuntimeError, match=r"loss is (nan|inf) in epoch \d: lower Recipe\.learning_rate"):
        run(tmp_path, replace(RECIPE, schedule="step", learning_rate=1e30))


def one_class(index):
    images, labels = VAL[:]
    return TensorDataset(images, torch.full_like(labels, index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": TensorDataset(VAL[:][0], torch.full_like(VAL[:][1], VOID))}, "validation scenes is labelled"),
        ({"val": TensorDataset(*(part[:0] for part in VAL[:]))}, "there are no validation scenes"),
        ({"val": TensorDataset(VAL[:][0], torch.full_like(VAL[:][1], 7))}, r"validation scene 0 has class \[7\]"),
        ({"val": one_class(3), "data": one_class(1)}, "validation scenes show no class that the training scenes have"),
        ({"data": toy_scenes(3, 1, size=(8, 8)), "config": replace(CONFIG, depth=3)}, "leave one alone"),
        ({"recipe": replace(RECIPE, class_weights=(1.0, 2.0))}, "do not fit 5 classes"),
    ],
)
def test_what_cannot_be_trained_is_said_before_training(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "new", **{"recipe": replace(RECIPE, batch=2), **change})
    assert not (tmp_path / "new" / "training.json").exists()


def test_the_front_door_takes_classes_and_channels_from_the_data(tmp_path):
    data = open_dataset(write_matlab_release(tmp_path / "data"))
    inputs = fit_inputs("PCA-3", data)
    config = UNetConfig(depth=1, filters=2)
    recipe = Recipe(epochs=1, class_weights="published")
    model = train(data, inputs, tmp_path / "network", config=config, recipe=recipe, progress=False, device="cpu")
    assert model.config == UNetConfig(channels=3, classes=5, depth=1, filters=2, class_names=CLASSES)
    trained = load_trained(tmp_path / "network")
    assert trained.variant.to_dict() == inputs.to_dict()
    assert not trained.model.training
    weights = trained.manifest["recipe"]["class_weights"]
    np.testing.assert_allclose(weights, [0.0245, 0.5073, 0.0747, 0.2094, 0.1841], atol=2e-4)
    counts = evaluate(model, data.scenes("test", inputs))
    assert counts["scene"].values.tolist() == data.names("test")
    assert counts["truth"].values.tolist() == list(CLASSES)


def test_damaged_folders_are_clear_errors(finished, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training\.json: train this variant first"):
        load_trained(tmp_path)
    for path in finished.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "history.csv").write_text("")
    with pytest.raises(ValueError, match=r"history\.csv is damaged"):
        load_trained(tmp_path)
    (tmp_path / "training.json").write_text('{"fin')
    with pytest.raises(ValueError, match=r"training\.json is damaged"):
        load_trained(tmp_path)
    (tmp_path / "training.json").write_text('{"finished": false}')
    with pytest.raises(ValueError, match="has not finished"):
        load_trained(tmp_path)


def test_bar_shows_epochs(tmp_path, capsys):
    run(tmp_path / "3-channels", replace(RECIPE, epochs=2), progress=True)
    shown = capsys.readouterr().err
    assert "3-channels" in shown
    assert "2/2" in shown
