"""Training in two processes that share every batch, against one process with the same batches."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toyscenes import toy_scenes

from hsiutils.models.files import LAST, WEIGHTS, load_model
from hsiutils.models.recipe import Recipe
from hsiutils.models.train import fit
from hsiutils.models.unet import UNetConfig

CONFIG = UNetConfig(channels=3, classes=5, depth=2, filters=4, norm_momentum=0.2, dropout=0.0)
RECIPE = Recipe(
    epochs=3,
    batch=4,
    learning_rate=1e-3,
    flip=True,
    dice=1.0,
    weight_power=(1.0, 0.5),
    keep="last",
    precision="32-true",
)


def train(folder, devices, strategy):
    """In whatever processes there are, each with one thread."""
    torch.set_num_threads(1)
    options = {"progress": False, "device": "cpu", "devices": devices, "strategy": strategy}
    fit(toy_scenes(10, 1), toy_scenes(4, 2), CONFIG, RECIPE, 0, folder, **options)


def train_killed(folder):
    """In two processes, of which the second is killed within its second epoch."""
    from hsiutils.models.segmenter import Segmenter

    step = Segmenter.training_step

    def last_step(self, batch, index):
        if (self.current_epoch, index) == (1, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, index)

    if os.environ["RANK"] == "1":
        Segmenter.training_step = last_step
    train(folder, 2, "ddp")


def torchrun(call):
    """A call of a function of this module, in two processes of one thread; how it ended."""
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = [sys.executable, *launcher, sys.executable, "-c", f"from {Path(__file__).stem} import *; {call}"]
    return subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True)  # noqa: S603


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Trained by this process, and by two that torchrun starts."""
    base, threads = tmp_path_factory.mktemp("processes"), torch.get_num_threads()
    train(base / "one", 1, "auto")
    torch.set_num_threads(threads)
    ended = torchrun(f"train(Path({str(base / 'two')!r}), 2, 'ddp')")
    assert ended.returncode == 0, ended.stderr
    return base / "one", base / "two"


def test_two_processes_end_where_one_does(folders):
    """float32 sums in another order: weights of size one agree to 1e-3 after nine steps, losses to 1e-5.

    Not the biases before a batch normalisation, which takes them out: Adam makes steps of their gradient's rounding,
    and the running means that validation uses lag behind them.
    """
    one, two = (load_model(folder).state_dict() for folder in folders)
    assert one.keys() == two.keys()
    for name, value in one.items():
        if name.endswith(("conv1.bias", "conv2.bias", "running_mean")):
            continue
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-3, msg=name)
    histories = [pd.read_csv(folder / "history.csv") for folder in folders]
    for loss, tolerance in (("train_loss", 1e-5), ("val_loss", 1e-3)):
        np.testing.assert_allclose(*(history[loss] for history in histories), rtol=tolerance)


def test_each_file_is_written_once_and_nothing_is_left(folders):
    one, two = (sorted(path.name for path in folder.iterdir()) for folder in folders)
    assert one == two == ["history.csv", "training.json", "weights.safetensors"]


def test_one_of_two_processes_is_killed_and_the_outcome_is_that_of_two_undisturbed(folders, tmp_path):
    """To the last bit: started again, both go on from the last epoch that was written."""
    folder = tmp_path / "killed"
    ended = torchrun(f"train_killed(Path({str(folder)!r}))")
    assert ended.returncode, ended.stderr
    assert "Signal 9 (SIGKILL)" in ended.stderr
    assert (folder / LAST).is_file()
    ended = torchrun(f"train(Path({str(folder)!r}), 2, 'ddp')")
    assert ended.returncode == 0, ended.stderr
    for name in (WEIGHTS, "history.csv"):
        assert (folder / name).read_bytes() == (folders[1] / name).read_bytes(), name
