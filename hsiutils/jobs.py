"""Many trainings side by side: small networks gain more from several processes than from several threads."""

import multiprocessing
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import torch
from tqdm import tqdm

from hsiutils.classes import CLASSES
from hsiutils.segmenter import Recipe, Scenes
from hsiutils.train import fit
from hsiutils.unet import UNetConfig
from hsiutils.variants import FittedVariant

Messages: TypeAlias = SimpleQueue[tuple[int, int] | None]
Outcome: TypeAlias = pd.DataFrame | BaseException


@dataclass(frozen=True)
class Job:
    """Arguments of one `hsiutils.train.fit`; the data sets travel to another process, and should open files there."""

    train: Scenes
    val: Scenes
    config: UNetConfig
    recipe: Recipe
    seed: int
    folder: Path
    variant: FittedVariant | None = None
    classes: tuple[str, ...] = CLASSES


class JobsFailed(RuntimeError):
    """Some trainings failed; the others are complete. `errors` holds the cause by folder."""

    def __init__(self, errors: Mapping[Path, BaseException], jobs: int) -> None:
        self.errors = dict(errors)
        causes = "\n".join(f"  {folder}: {type(error).__name__}: {error}" for folder, error in errors.items())
        super().__init__(f"{len(errors)} of {jobs} trainings failed, the others are complete:\n{causes}")


def fit_many(jobs: Sequence[Job], workers: int = 2, progress: bool = True) -> list[pd.DataFrame]:
    """Run independent trainings in spawned processes, one torch thread each.

    One thread a process is also what makes a result independent of the number of processes. Each training resumes or
    returns at once as `fit` does; with several GPUs each training takes one in turn. A failing training does not stop
    the others; where a process is killed (out of memory, say), the trainings that it took down are tried once more.

    Parameters
    ----------
    jobs : with a folder of its own each.
    workers : processes.
    progress : one bar over all epochs, with an estimate.

    Returns
    -------
    The histories, in the order of the jobs.

    Raises
    ------
    JobsFailed
        After all others have finished.
    """
    if len({job.folder for job in jobs}) < len(jobs):
        raise ValueError("two jobs share a folder: give each its own")
    outcomes: dict[int, Outcome] = {index: BrokenProcessPool("not yet run") for index in range(len(jobs))}
    with _progress(jobs, progress) as messages:
        for _attempt in range(2):
            left = [index for index, outcome in outcomes.items() if isinstance(outcome, BrokenProcessPool)]
            if left:
                outcomes |= _run(jobs, left, workers, messages)
    errors = {jobs[index].folder: error for index, error in outcomes.items() if isinstance(error, BaseException)}
    if errors:
        raise JobsFailed(errors, len(jobs))
    return [history for history in outcomes.values() if isinstance(history, pd.DataFrame)]


def _run(jobs: Sequence[Job], indices: Sequence[int], workers: int, messages: Messages | None) -> dict[int, Outcome]:
    """Work through some of the jobs in one pool: a history or an error for each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(indices)), context, _begin, (messages,)) as pool:
        futures = {index: pool.submit(_work, jobs[index], index) for index in indices}
        try:
            return {index: future.exception() or future.result() for index, future in futures.items()}
        except BaseException:  # interrupted: what has not begun shall not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_messages: Messages | None = None
"""In a worker: where to tell how far it is. A queue can be handed to a process at its start only, not with a task."""


def _begin(messages: Messages | None) -> None:
    """Set a new worker up."""
    global _messages
    _messages = messages
    torch.set_num_threads(1)


def _work(job: Job, index: int) -> pd.DataFrame:
    """One training, in a process of its own."""
    gpus = torch.cuda.device_count()

    def tell(done: int, total: int, row: Mapping[str, float]) -> None:
        if _messages is not None:
            _messages.put((index, done))

    history = fit(
        job.train,
        job.val,
        job.config,
        job.recipe,
        job.seed,
        job.folder,
        variant=job.variant,
        classes=job.classes,
        progress=tell,
        device=f"cuda:{index % gpus}" if gpus else "cpu",
    )
    tell(job.recipe.epochs, job.recipe.epochs, {})  # early stopping and finished folders leave nothing to wait for
    return history


@contextmanager
def _progress(jobs: Sequence[Job], wanted: bool) -> Iterator[Messages | None]:
    """A queue that processes put (job, epochs done) into, and a bar that shows their sum."""
    if not wanted:
        yield None
        return
    epochs = sum(job.recipe.epochs for job in jobs)
    with tqdm(total=epochs, unit="epoch") as bar:
        messages: Messages = multiprocessing.get_context("spawn").SimpleQueue()
        thread = threading.Thread(target=_show, args=(messages, bar), daemon=True)
        thread.start()
        try:
            yield messages
        finally:
            messages.put(None)
            thread.join()


def _show(messages: Messages, bar: Any) -> None:
    done: dict[int, int] = {}
    while (message := messages.get()) is not None:
        index, epoch = message
        done[index] = epoch
        bar.set_description(f"training {len(done)} networks", refresh=False)
        bar.update(sum(done.values()) - bar.n)
