"""A cluster of two processes of which one is killed when a first result is there."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client, LocalCluster


@contextmanager
def two_workers() -> Iterator[LocalCluster]:
    """A cluster that is there for calls in the block, as a client that is open in this process."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "ERROR"}
    with LocalCluster(**options, processes=True) as cluster, Client(cluster):
        yield cluster


@contextmanager
def one_killed(cluster: LocalCluster, folder: Path, pattern: str, count: int) -> Iterator[None]:
    """SIGKILL for a worker as soon as a file of this pattern is there, which has to be before all of them are."""
    found, ended = [], threading.Event()

    def look() -> None:
        while not found and not ended.is_set():
            if there := len(list(folder.glob(pattern))):
                os.kill(cluster.workers[0].pid, signal.SIGKILL)
                found.append(there)
            time.sleep(0.001)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
    assert found, "no worker was killed"
    assert found[0] < count, "a worker was killed when all was done"
