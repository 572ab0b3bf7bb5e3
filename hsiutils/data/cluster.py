"""One call for each of many things, side by side, by dask.distributed: on this machine, or on any cluster of dask's.

Which one, in this order: a `distributed.Client` that is open in this process; the address that `--scheduler`,
DASK_SCHEDULER_ADDRESS or dask's configuration names; processes of this machine, started for the calls and gone after
them. A cluster's workers must see the files under the same paths. Calls and results travel pickled between our own
processes, on one machine over its loopback interface; nothing is unpickled from a file. Who reaches a scheduler can run
code on its workers: keep one of your own behind a firewall, or give it dask's TLS.

Results do not depend on where calls are made, so the store takes no account of this module.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from distributed import Client

A = TypeVar("A")
T = TypeVar("T")
SCHEDULER = "DASK_SCHEDULER_ADDRESS"
"""Environment variable of dask's that names a cluster, such as tcp://host:8786."""
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
_AT_ONCE = 256
"""Calls that a cluster knows of: each takes memory, done or not."""
_TOLD = 10
"""Failures that an error names."""
_QUIET = {"silence_logs": "ERROR"}
"""A worker that dies and starts again is no news; a call that cannot be made is raised."""
_UNDISTURBED = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
    "distributed.comm.timeouts.connect": "120s",
}
"""Dask has workers give freed memory back at once, which a training step fetches again and takes 1.6 times as long for;
looks every 10 ms at what they do; and takes half a minute's silence of a busy machine for a dead one's. On a cluster of
your own, set the same in the configuration its workers read.
"""
_NO_INTERRUPT = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
"""Ctrl-C reaches every process of a terminal: the main one hears it, and ends the others."""
_TELL: ContextVar[Callable[[float], None] | None] = ContextVar("_TELL", default=None)


def scene_by_scene(call: Callable[[str], T], names: Sequence[str], workers: int, progress: bool = True) -> dict[str, T]:
    """`side_by_side` for the scenes of a data set; one worker on this machine is this process."""
    own = min(workers, len(names))
    return side_by_side(call, {name: name for name in names}, "scenes", own if own > 1 else 0, progress)


def side_by_side(
    call: Callable[[A], T],
    given: Mapping[str, A],
    what: str,
    processes: int,
    progress: bool = True,
    environments: Sequence[Mapping[str, str]] = ({},),
) -> dict[str, T]:
    """Call a function with each of many things, which do not depend on each other, and return the results by name.

    A failing call does not stop the others. One whose process is killed (out of memory, say) is made again, as often as
    dask's setting `distributed.scheduler.allowed-failures` says, and should go on where it was: artefacts of the store
    do, and files that are written at once or not at all. In a worker of a cluster, calls are made one after the other
    where they are.

    Parameters
    ----------
    call : sent to each process once, however many the calls; results are pickled.
    given : what it is called with, by what people call it.
    what : they make, in the plural, for the bar.
    processes : at most, where they run on this machine. 0 for this process, one call after the other; the first that
        fails then is raised as it is.
    progress : one bar with an estimate, in which a call counts by what it says by `tell`.
    environments : variables of the processes on this machine, in turn.

    Raises
    ------
    RuntimeError
        After all the others are done: which calls failed, and why.
    ModuleNotFoundError
        If distributed is not installed.
    """
    if in_worker():
        return {name: call(one) for name, one in given.items()}
    if not given or not (processes or _named()):
        return {name: call(one) for name, one in tqdm(given.items(), what, disable=not (progress and given))}
    found: dict[str, T] = {}
    failed: dict[str, BaseException] = {}
    with (
        _client(max(1, min(processes, len(given))), environments) as client,
        _progress(client, len(given), what, progress) as told,
    ):
        from distributed import as_completed

        shared = client.submit(_same, call, pure=False)  # remade where the worker that holds it dies
        waiting, submitted, done = iter(given.items()), {}, as_completed(loop=client.loop)

        def submit(count: int) -> None:
            for name, one in islice(waiting, count):
                submitted[future := client.submit(_make, shared, one, name, _topic(client), pure=False)] = name
                done.add(future)

        submit(_AT_ONCE)
        for future in done:
            name = submitted.pop(future)
            if (error := future.exception()) is None:
                found[name] = future.result()
            else:
                failed[name] = error
            told(name, 1.0)
            submit(1)
    if failed:
        causes = [f"  {name}: {type(error).__name__}: {error}" for name, error in failed.items()]
        more = [f"  and {len(causes) - _TOLD} more"] * (len(causes) > _TOLD)
        summary = f"{len(failed)} of {len(given)} {what} failed, the others are complete:"
        raise RuntimeError("\n".join([summary, *causes[:_TOLD], *more]))
    return {name: found[name] for name in given}


def in_worker() -> bool:
    """Whether this is a call that dask makes."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    with suppress(ValueError):
        return get_worker() is not None
    return False


def tell(share: float) -> None:
    """Say, in a call of `side_by_side`, how much of it is done, 0..1; elsewhere nothing happens."""
    if (told := _TELL.get()) is not None:
        told(share)


def _same(call: T) -> T:
    return call


def _make(call: Callable[[A], T], given: A, name: str, topic: str) -> T:
    """A call, in a worker."""
    from distributed import get_worker

    worker = get_worker()
    token = _TELL.set(lambda share: worker.log_event(topic, (name, share)))
    try:
        return call(given)
    finally:
        _TELL.reset(token)


def _current() -> "Client | None":
    """The client that is open in this process."""
    if "distributed" not in sys.modules:
        return None
    from distributed import Client

    with suppress(ValueError):
        current: Client = Client.current()
        return current
    return None


def _address() -> str | None:
    """Of the cluster that the environment or dask's configuration names."""
    if (named := os.environ.get(SCHEDULER)) or find_spec("dask") is None:
        return named
    import dask

    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _named() -> bool:
    """Whether there is a cluster to take instead of processes of this machine."""
    return bool(_current() or _address())


@contextmanager
def _client(processes: int, environments: Sequence[Mapping[str, str]]) -> Iterator["Client"]:
    """A client of the cluster that the module describes; of our own, nothing is left afterwards."""
    if find_spec("distributed") is None:
        raise ModuleNotFoundError("what goes on side by side needs distributed: pip install distributed")
    from distributed import Client

    if current := _current():
        yield current
        return
    address = _address()
    with Client(address, set_as_default=False) if address else _local(processes, environments) as client:
        yield client


@contextmanager
def _local(processes: int, environments: Sequence[Mapping[str, str]]) -> Iterator["Client"]:
    """Processes of this machine with one thread each."""
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    own = {"host": "127.0.0.1", "nthreads": 1, "memory_limit": 0, "preload": [_NO_INTERRUPT], **_QUIET}
    each = [dict(environments[number % len(environments)]) for number in range(processes)]
    workers = {n: {"cls": Nanny, "options": {**own, "env": env}} for n, env in enumerate(each)}
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
def _progress(client: "Client", count: int, what: str, wanted: bool) -> Iterator[Callable[[str, float], None]]:
    """What to tell the share of a call that is done; calls tell it by an event of dask's."""
    shares: dict[str, float] = {}
    lock = threading.Lock()
    with tqdm(total=count, desc=what, bar_format=_BAR, disable=not wanted) as bar:

        def told(name: str, share: float) -> None:
            with lock:
                before = shares.get(name, 0.0)
                shares[name] = max(share, before)
                bar.update(shares[name] - before)

        client.subscribe_topic(_topic(client), lambda event: told(*event[1]))
        try:
            yield told
        finally:
            client.unsubscribe_topic(_topic(client))
