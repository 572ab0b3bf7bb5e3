"""Independent calls side by side, by dask.distributed: on the cores of this machine, or on any cluster of dask's.

Which one, in this order: a `distributed.Client` that is open in this process; the address that `--scheduler`,
DASK_SCHEDULER_ADDRESS or dask's configuration names; processes of this machine, started for the calls and gone after
them. Calls and results travel pickled between our own processes, on one machine over its loopback interface; nothing is
unpickled from a file. Who reaches a scheduler can run code on its workers: keep one of your own behind a firewall, or
give it dask's TLS.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from tqdm import tqdm

from hsiutils.models.train import REPORT
from hsiutils.paper import store

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
SCHEDULER = "DASK_SCHEDULER_ADDRESS"
"""Environment variable of dask's that names a cluster, such as tcp://host:8786."""
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
_QUIET = {"silence_logs": "ERROR"}
"""A worker that dies and starts again is no news; a call that cannot be made is raised."""
_UNDISTURBED = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
}
"""Dask has workers give freed memory back at once, which a training step fetches again and takes 1.6 times as long for;
and looks every 10 ms at what they do. On a cluster of your own, set the same in the configuration its workers read.
"""
_NO_INTERRUPT = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
"""Ctrl-C reaches every process of a terminal: the main one hears it, and ends the others."""


def side_by_side(
    calls: Mapping[str, Callable[[], T]], what: str, processes: int, progress: bool = True
) -> dict[str, T]:
    """Make independent calls, each in a process with one torch thread, and return their results by name.

    One thread a process is also what makes a result independent of the number of processes. A failing call does not
    stop the others. One whose process is killed (out of memory, say) is made again, as often as dask's setting
    `distributed.scheduler.allowed-failures` says, and should go on where it was: artefacts of the store do. In a worker
    of a cluster, calls are made one after the other where they are.

    Parameters
    ----------
    calls : by what people call them; they and their results are pickled.
    what : they make, in the plural, for the bar.
    processes : at most, where they run on this machine; with GPUs each sees one of them, in turn.
    progress : one bar with an estimate, in which a training counts by its epochs.

    Raises
    ------
    RuntimeError
        After all the others are done: which calls failed, and why.
    """
    if not calls or in_worker():
        return {name: call() for name, call in calls.items()}
    found: dict[str, T] = {}
    failed: dict[str, BaseException] = {}
    with _client(min(processes, len(calls))) as client, _progress(client, calls, what, progress) as tell:
        from distributed import as_completed

        root = str(store.default_root())
        submitted = {
            client.submit(_make, call, name, _topic(client), root, pure=False): name for name, call in calls.items()
        }
        for future in as_completed(submitted, loop=client.loop):
            name = submitted[future]
            if (error := future.exception()) is None:
                found[name] = future.result()
            else:
                failed[name] = error
            tell(name, 1.0)
    if failed:
        causes = "\n".join(f"  {name}: {type(error).__name__}: {error}" for name, error in failed.items())
        raise RuntimeError(f"{len(failed)} of {len(calls)} {what} failed, the others are complete:\n{causes}")
    return {name: found[name] for name in calls}


def in_worker() -> bool:
    """Whether this is a call that dask makes."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    with suppress(ValueError):
        return get_worker() is not None
    return False


def _make(call: Callable[[], T], name: str, topic: str, root: str) -> T:
    """A call, in a worker."""
    from distributed import get_worker

    os.environ[store.ROOT] = root
    torch.set_num_threads(1)
    worker = get_worker()
    token = REPORT.set(lambda done, total, row: worker.log_event(topic, (name, done / total)))
    try:
        return call()
    finally:
        REPORT.reset(token)


@contextmanager
def _client(processes: int) -> Iterator["Client"]:
    """A client of the cluster that the module describes; of our own, nothing is left afterwards."""
    if find_spec("distributed") is None:
        raise ModuleNotFoundError("training networks side by side needs distributed: pip install 'hsiutils[book]'")
    import dask
    from distributed import Client

    current = None
    with suppress(ValueError):
        current = Client.current()
    if current:
        yield current
        return
    address = os.environ.get(SCHEDULER) or dask.config.get("scheduler-address", None)
    with Client(address, set_as_default=False) if address else _local(processes) as client:
        yield client


@contextmanager
def _local(processes: int) -> Iterator["Client"]:
    """Processes of this machine with one thread each, and one GPU each where there are some."""
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    own = {"host": "127.0.0.1", "nthreads": 1, "memory_limit": 0, "preload": [_NO_INTERRUPT], **_QUIET}
    environments = [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(processes)]
    workers = {n: {"cls": Nanny, "options": {**own, "env": env}} for n, env in enumerate(environments)}
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    before = dict(os.environ)  # dask changes it for the processes that it starts
    try:
        with (
            dask.config.set(_UNDISTURBED),
            SpecCluster(workers=workers, scheduler=scheduler, **_QUIET) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            try:
                yield client
            except BaseException:  # interrupted: dask would wait for the calls that run
                for nanny in cluster.workers.values():
                    nanny.auto_restart = False
                    if nanny.pid:
                        os.kill(nanny.pid, signal.SIGKILL)
                raise
    finally:
        os.environ.clear()
        os.environ.update(before)


def _topic(client: "Client") -> str:
    """Of the events that say how far the calls of a client are."""
    return f"progress-of-{client.id}"


@contextmanager
def _progress(
    client: "Client", calls: Mapping[str, Any], what: str, wanted: bool
) -> Iterator[Callable[[str, float], None]]:
    """What to tell the share of a call that is done; trainings tell it after each epoch, by an event of dask's."""
    shares: dict[str, float] = {}
    lock = threading.Lock()
    with tqdm(total=len(calls), desc=what, bar_format=_BAR, disable=not wanted) as bar:

        def tell(name: str, share: float) -> None:
            with lock:
                shares[name] = max(share, shares.get(name, 0.0))
                bar.update(sum(shares.values()) - bar.n)

        client.subscribe_topic(_topic(client), lambda event: tell(*event[1]))
        try:
            yield tell
        finally:
            client.unsubscribe_topic(_topic(client))
