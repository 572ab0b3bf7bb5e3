"""Trainings, and points of studies, side by side: `hsiutils.data.cluster` for what goes into the store."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch

from hsiutils.data import cluster
from hsiutils.models.train import REPORT
from hsiutils.paper import store

A = TypeVar("A")
T = TypeVar("T")


def side_by_side(
    calls: Mapping[str, Callable[[], T]], what: str, processes: int, progress: bool = True
) -> dict[str, T]:
    """Make independent calls, each in a process with one torch thread, and return their results by name.

    One thread a process is also what makes a result independent of the number of processes. Processes of this machine
    each see one of its GPUs, in turn, and a training counts in the bar by its epochs. All else, and what is raised, is
    as of `hsiutils.data.cluster.side_by_side`.
    """
    if not calls:
        return {}
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    make = partial(_make, root=str(store.default_root()))
    return cluster.side_by_side(make, calls, what, processes, progress, environments)


def _make(call: Callable[[], T], root: str) -> T:
    """A call, in a worker of a cluster; in one that makes such a call already, or in no worker, it is only made."""
    if REPORT.get() is not None:
        return call()
    os.environ[store.ROOT] = root
    torch.set_num_threads(1)
    token = REPORT.set(lambda done, total, row: cluster.tell(done / total))
    try:
        return call()
    finally:
        REPORT.reset(token)
