"""Training in two processes that share every batch, against one process with the same batches."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toyscenes import toy_scenes

from hsiutils.models.files import load_model
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


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Trained by this process, and by two that are started with what torchrun tells them."""
    base, threads = tmp_path_factory.mktemp("processes"), torch.get_num_threads()
    train(base / "one", 1, "auto")
    torch.set_num_threads(threads)
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "TORCHELASTIC_RUN_ID": "test"}
    told |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    call = f"train(Path({str(base / 'two')!r}), 2, 'ddp')"
    command = [sys.executable, "-c", f"from pathlib import Path; from {Path(__file__).stem} import train; {call}"]
    started = [
        subprocess.Popen(command, env=os.environ | told | {"RANK": rank, "LOCAL_RANK": rank})  # noqa: S603
        for rank in "01"
    ]
    try:
        assert [process.wait(timeout=300) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
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
