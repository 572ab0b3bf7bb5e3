"""What is killed in the middle and done again, or done by several at once: a function of a folder, each in a process.

Processes are forked from a server that has imported everything and done nothing (multiprocessing's forkserver).
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
from tiny_book import write_book
from tiny_hsi_drive import NAMES, write_matlab_release
from toyscenes import toy_scenes

from hsiutils.data.export import to_zarr, write_envi_set, write_release
from hsiutils.data.source import open_dataset
from hsiutils.models import segmenter  # noqa: F401 - Lightning takes seconds, and the server has them once
from hsiutils.models.recipe import Recipe
from hsiutils.models.train import fit
from hsiutils.models.unet import UNetConfig
from hsiutils.paper import store
from hsiutils.paper.run import Profile, Run
from hsiutils.simulate.draws import draw_names
from hsiutils.simulate.files import write_dataset
from hsiutils.simulate.frame import Simulation

Action = Callable[[Path], None]
_RECIPE = Recipe(epochs=2, batch=2, learning_rate=1e-3)
_TINY = Profile("tiny", 8, (16, 32), ("3",), 1, 2, 2, 0.1, Recipe(epochs=2, batch=2))


def simulate(folder: Path) -> None:
    """Two scenes."""
    write_dataset(folder / "set", draw_names(2), Simulation(tiles=(8, 16)), workers=1, progress=False)


def simulate_two(folder: Path) -> None:
    """Four scenes by two processes."""
    write_dataset(folder / "set", draw_names(4), Simulation(tiles=(8, 16)), workers=2, progress=False)


def _source(folder: Path) -> Any:
    """A data set beside the folders that are compared: its files must stay the same."""
    root = folder.parent / "source"
    if not root.exists():
        write_matlab_release(root, NAMES[:3])
    return open_dataset(root)


def convert_zarr(folder: Path) -> None:
    """To one chunked store."""
    to_zarr(_source(folder), folder / "set.zarr", workers=1, progress=False)


def convert_python(folder: Path) -> None:
    """To the layout of the Python release."""
    write_release(_source(folder), folder, "python")


def convert_envi(folder: Path) -> None:
    """To ENVI images."""
    write_envi_set(_source(folder), folder)


def train(folder: Path) -> None:
    """Two epochs."""
    torch.set_num_threads(1)
    config = UNetConfig(channels=3, classes=5, depth=1, filters=2, norm_momentum=0.2)
    fit(toy_scenes(4, 1), toy_scenes(2, 2), config, _RECIPE, 0, folder / "network", progress=False, device="cpu")


def _fill(folder: Path) -> None:
    for number in range(3):
        path = folder / f"{number}.txt"
        if not path.exists():
            path.write_text(str(number))


def measure(folder: Path) -> None:
    """Two artefacts of a store, of which one goes on where it was."""
    root = folder / "store"
    for resumable in (False, True):
        store.artefact("thing", _fill, {"resumable": resumable}, root=root, resumable=resumable)


def network(folder: Path) -> None:
    """Two epochs, in a store."""
    store.artefact("model", train, {}, root=folder / "store", resumable=True)


def study(folder: Path) -> None:
    """Scenes, a network and what is measured of it, in a store of its own."""
    from hsiutils.paper.table1 import evaluation

    torch.set_num_threads(1)
    os.environ[store.ROOT] = str(folder / "store")
    run = Run(_TINY, seed=0, variants=("3",))
    evaluation(run)


def chapter(folder: Path) -> None:
    """One chapter of the tiny book."""
    from hsiutils.book.chapters import run_chapter

    root = folder.parent / "book"
    if not root.exists():
        write_book(root)
    run_chapter(root / "book/01_plot.ipynb", folder / "out.ipynb", {"factor": 3}, progress=False)


def book(folder: Path) -> None:
    """Both chapters of the tiny book and its pages, in a store of its own."""
    from functools import partial

    from hsiutils.book.build import build_site
    from hsiutils.book.chapters import run_into

    os.environ[store.ROOT] = str(folder / "store")
    root = folder.parent / "book"
    if not root.exists():
        write_book(root)
    made = {}
    for name in ("book/index.ipynb", "book/01_plot.ipynb"):
        build = partial(run_into, source=root / name, parameters={})
        made[name] = store.artefact("chapter", build, {"name": name, "parameters": {}}).folder / Path(name).name
    build_site(made, root, folder / "html")


_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime"}


def _run(action: Action, folder: Path, at: int, told: Path) -> None:
    """In a process of its own: ends by SIGKILL before it changes a file for the `at`-th time; says how many it did."""
    count = 0

    def look(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event in _CHANGES:
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    action(folder)
    done = count
    told.write_text(str(done))


def _processes() -> Any:
    """The server's context; it imports by PYTHONPATH alone."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kills"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return context


def done(action: Action, folder: Path) -> int:
    """An undisturbed run; how often it changed a file."""
    folder.mkdir(parents=True, exist_ok=True)
    told = folder.parent / f"{folder.name}.changes"
    process = _processes().Process(target=_run, args=(action, folder, 0, told))
    process.start()
    process.join(300)
    assert process.exitcode == 0, f"{action.__name__} ended with {process.exitcode}"
    return int(told.read_text())


def killed(action: Action, folder: Path, at: int) -> None:
    """A run that is killed before its `at`-th change of a file."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _processes().Process(target=_run, args=(action, folder, at, folder.parent / "unheard"))
    process.start()
    process.join(300)
    assert process.exitcode in (-signal.SIGKILL, 0), f"{action.__name__} ended with {process.exitcode}"


def killed_after(action: Action, folder: Path, seconds: float) -> bool:
    """A run that is killed after a time; whether it was still running. Nothing that it started is left."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _processes().Process(target=_run_in_session, args=(action, folder))
    process.start()
    process.join(seconds)
    running = process.exitcode is None
    group = process.pid
    if running:
        process.kill()
    process.join()
    for _ in range(150):
        if not left_of(group):
            return running
        time.sleep(0.2)
    raise AssertionError(f"{action.__name__} left processes: {left_of(group)}")


def _run_in_session(action: Action, folder: Path) -> None:
    os.setsid()
    action(folder)


def left_of(session: int) -> list[str]:
    """Processes of a session that run, by their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "stat").read_text().rpartition(")")[2].split()
            if int(words[3]) == session and words[0] != "Z":
                found.append(f"{path.name} {(path / 'cmdline').read_text()[:200]}")
        except OSError:
            continue
    return found


def _run_slowly(action: Action, folder: Path, seed: int, ready: Any) -> None:
    """In a process of its own: begins with the others, and waits a little before it changes a file, now and then."""
    draw = random.Random(seed)  # noqa: S311

    def look(event: str, given: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and isinstance(given[2], int) and given[2] & os.O_CREAT):
            time.sleep(draw.choice((0, 0, 0.002, 0.01)))

    sys.addaudithook(look)
    ready.wait(120)
    action(folder)


def at_once(action: Action, folder: Path, seed: int, count: int = 2) -> None:
    """Several processes that do the same in one folder at the same time, each at a pace of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    context = _processes()
    ready = context.Barrier(count)
    seeds = range(100 * seed, 100 * seed + count)
    processes = [context.Process(target=_run_slowly, args=(action, folder, own, ready)) for own in seeds]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * count, action.__name__


def contents(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes; of manifests of the store without what differs from run to run; without locks."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"):
        content = path.read_bytes()
        if path.name == store.MANIFEST:
            seals = json.loads(content)["files"]
            content = json.dumps({name: one["sha256"] for name, one in seals.items()}).encode()
        if path.parent.name != ".code" and path.name != ".lock":
            found[path.relative_to(folder).as_posix()] = content
    return found


def moments(count: int, most: int, seed: int) -> Sequence[int]:
    """Distinct changes to be killed at, drawn by a seed."""
    return random.Random(seed).sample(range(1, most + 1), min(count, most))  # noqa: S311
