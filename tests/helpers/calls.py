"""Calls for the processes of a cluster, which import them from here."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import torch
from toyscenes import toy_scenes

from hsiutils.models.recipe import Recipe
from hsiutils.models.train import REPORT, fit
from hsiutils.models.unet import UNetConfig

CONFIG = UNetConfig(channels=3, classes=5, depth=2, filters=4, norm_momentum=0.2)
RECIPE = Recipe(epochs=3, batch=4, learning_rate=1e-2, schedule="one-cycle", precision="32-true")


def training(folder: Path, seed: int, channels: int = 3, dies_in: int = 0) -> list[int]:
    """Three epochs on toy scenes: threads, and the epochs that the last process did.

    In epoch `dies_in` the process is killed, as the kernel does when memory runs out; but only once.
    """
    mark, epochs = folder.with_suffix(".killed"), []
    tell = REPORT.get()
    with folder.with_suffix(".gpu").open("a") as file:
        print(os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("MALLOC_TRIM_THRESHOLD_"), file=file)

    def progress(done, total, row):
        epochs.append(done)
        if tell:
            tell(done, total, row)
        if done == dies_in and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    config = replace(CONFIG, channels=channels)
    fit(toy_scenes(8, 1), toy_scenes(4, 2), config, RECIPE, seed, folder, progress=progress, device="cpu")
    return [torch.get_num_threads(), *epochs]
