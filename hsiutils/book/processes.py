"""Processes side by side on this machine, none of which outlives the one that started them; and kernels, in turns."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from filelock import FileLock

from hsiutils.paper import store


def turn() -> FileLock:
    """What is held while a kernel starts: two that start at once may take the same port, and one of them dies.

    Of all processes that share a store; any thread may release it.
    """
    path = store.default_root() / ".kernels.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)


def pool(processes: int, begin: Callable[..., object] | None = None, *given: Any) -> ProcessPoolExecutor:
    """Workers that first call `begin` with what is given, each, and end with this process, also where it is killed.

    Spawned, not forked: a fork of a process with running threads (BLAS, torch) can hang.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(os.getpid(), begin, given))


def _begin(parent: int, begin: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
    end_with(parent)
    if begin is not None:
        begin(*given)


def end_with(parent: int) -> None:
    """Let this process end within a second of its parent, which would otherwise leave it waiting, or writing."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
