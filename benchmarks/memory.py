"""Peak memory of simulation, conversion, evaluation, audit and training as scenes grow in number.

Each is done with 50, 200 and 800 small scenes of random numbers, in a process of its own, which first does it with a
few. What counts is the peak of resident memory above what the process held before, as the kernel keeps it; of several
processes their sum, looked at every few milliseconds. Growth is the slope of a line through all rounds, with its 95 %
interval. Two must be seen to grow, or nothing is measured: a reader that keeps every scene, and a training that holds
its scenes, as trainings do where they fit in memory.

Simulated scenes, at most HSI-Drive's 752, differ in what stands in them: their peak is that of the heaviest so far. So
one process makes more and more of them, and what it holds after them, with free memory given back, counts beside it.

    python -m benchmarks.memory --out data/results/memory.json

Half an hour on one core, most of it rendering.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy import stats

WARM = 4
"""Scenes that a process does before it is measured: what is loaded and reserved once is not growth."""
SIMULATION = "simulate"
TASKS = (
    SIMULATION,
    "convert to Zarr",
    "convert to Zarr, two workers",
    "evaluate",
    "audit",
    "train, scenes read anew",
    "planted: train, scenes held",
    "planted: evaluate, every scene kept",
)


def _action(task: str, tiles: tuple[int, int]) -> Callable[[Path, int], object]:
    """What does a task in an empty folder, with so many scenes."""
    import torch

    torch.set_num_threads(1)
    own = {
        "convert to Zarr": partial(_convert, workers=1),
        "convert to Zarr, two workers": partial(_convert, workers=2),
        "evaluate": partial(_evaluate, kept=False),
        "audit": _audit,
        "train, scenes read anew": partial(_train, held=False),
        "planted: train, scenes held": partial(_train, held=True),
        "planted: evaluate, every scene kept": partial(_evaluate, kept=True),
    }
    return partial(own[task], tiles)


def simulated(counts: Sequence[int], tiles: tuple[int, int]) -> Iterator[tuple[int, float, float]]:
    """Of so many scenes and more, in this process: how many, the peak so far and what is held after them, MB."""
    from hsiutils.simulate import Simulation, draw_names, write_dataset

    with tempfile.TemporaryDirectory() as folder, _kept_by_the_kernel() as most:
        for count in (WARM, *counts):
            write_dataset(Path(folder), draw_names(count), Simulation(tiles=tiles), workers=1, progress=False)
            peak = most()
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            held = psutil.Process().memory_info().rss
            if count == WARM:
                before = held
                Path("/proc/self/clear_refs").write_text("5")
            else:
                yield count, (peak - before) / 1e6, (held - before) / 1e6


def _scenes(tiles: tuple[int, int], folder: Path, count: int) -> Any:
    """Random scenes on disk, and what they are of."""
    from benchmarks.reading import write
    from hsiutils.data.source import open_dataset

    if not folder.exists():
        write(folder, [f"nf{kind}_{number:03d}" for kind in (1111, 1112) for number in range(1, 401)][:count], tiles)
    return open_dataset(folder)


def _convert(tiles: tuple[int, int], folder: Path, count: int, workers: int) -> None:
    from hsiutils.data.export import to_zarr

    to_zarr(_scenes(tiles, folder / "set", count), folder / "set.zarr", workers=workers, progress=False)


def _network(data: Any, names: Sequence[str], cache: bool = False) -> tuple[Any, Any]:
    """A small U-Net, and scenes for it."""
    import torch

    from hsiutils.data.inputs import fit_inputs
    from hsiutils.models.unet import UNet, UNetConfig

    config = UNetConfig(classes=len(data.classes.names), class_names=data.classes.names, depth=2, filters=2)
    model = UNet(config, torch.Generator().manual_seed(0)).eval()
    fitted = fit_inputs("25", data.with_splits({name: "train" if name in names[:WARM] else "test" for name in names}))
    return model, data.scenes(names, fitted, cache)


def _evaluate(tiles: tuple[int, int], folder: Path, count: int, kept: bool) -> None:
    from hsiutils.models.metrics import evaluate

    data = _scenes(tiles, folder / "set", count)
    model, scenes = _network(data, data.names(), kept)
    evaluate(model, scenes)


def _audit(tiles: tuple[int, int], folder: Path, count: int) -> None:
    from hsiutils.attribution.audit_scenes import audit_scenes

    data = _scenes(tiles, folder / "set", count)
    model, scenes = _network(data, data.names())
    asked = {"methods": ["GradCAM", "CAM"], "layers": ["conv2d_9"], "maps": True}
    audit_scenes(model, scenes, folder / "audit.zarr", **asked, workers=1, progress=False)


def _train(tiles: tuple[int, int], folder: Path, count: int, held: bool) -> None:
    from hsiutils.models import batches
    from hsiutils.models.recipe import Recipe
    from hsiutils.models.train import fit

    batches.HELD_BYTES = batches.HELD_BYTES if held else 0
    data = _scenes(tiles, folder / "set", count)
    model, scenes = _network(data, data.names())
    few = data.scenes(data.names()[:WARM], scenes.inputs)
    recipe = Recipe(epochs=2, batch=4, precision="32-true")
    fit(scenes, few, model.config, recipe, 0, folder / "network", progress=False, device="cpu")


def peak_mb(action: Callable[[], object], tree: bool = False) -> float:
    """The most resident memory while an action runs, above that before it, MB; of all processes, if `tree`."""
    me = psutil.Process()
    before = me.memory_info().rss
    with _summed(me) if tree else _kept_by_the_kernel() as most:
        action()
    return (most() - before) / 1e6


@contextmanager
def _kept_by_the_kernel() -> Iterator[Callable[[], int]]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present again

    def most() -> int:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])

    yield most


@contextmanager
def _summed(me: psutil.Process) -> Iterator[Callable[[], int]]:
    sums, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            sums[0] = max(sums[0], total)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield lambda: sums[0]
    finally:
        ended.set()
        watch.join()


def measure(task: str, count: int, tiles: tuple[int, int]) -> float:
    """The peak of a task with so many scenes, MB, in this process."""
    action = _action(task, tiles)
    with tempfile.TemporaryDirectory() as folder:
        action(Path(folder) / "warm", WARM)
        _scenes(tiles, Path(folder) / "own" / "set", count)
        return peak_mb(partial(action, Path(folder) / "own", count), tree="two workers" in task)


def growth(counts: Sequence[int], peaks_mb: Sequence[float]) -> dict[str, float]:
    """kB that each further scene takes, the slope of a line, and its 95 % interval."""
    line = stats.linregress(counts, peaks_mb)
    half = float(stats.t.ppf(0.975, len(counts) - 2) * line.stderr)
    return {"kb_a_scene": 1e3 * line.slope, "low": 1e3 * (line.slope - half), "high": 1e3 * (line.slope + half)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON record to write")
    parser.add_argument("--scenes", type=int, nargs="+", default=[50, 200, 800])
    parser.add_argument("--rounds", type=int, default=2, help="of all but the simulation")
    parser.add_argument("--tiles", type=int, nargs=2, default=(16, 32), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one and given.one[0] == SIMULATION:
        for found in simulated(sorted({min(count, 752) for count in given.scenes}), tuple(given.tiles)):
            print(json.dumps(found), flush=True)
        return
    if given.one:
        print(measure(given.one[0], int(given.one[1]), tuple(given.tiles)))
        return
    rows, began = [], time.monotonic()

    def asked(task: str, count: int, *more: str) -> str:
        command = [sys.executable, "-m", "benchmarks.memory", "--one", task, str(count), *more]
        command += ["--tiles", *map(str, given.tiles)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
        print(task, count, done.stdout, flush=True)
        return done.stdout

    for task in given.tasks:
        if task == SIMULATION:
            lines = asked(task, 0, "--scenes", *map(str, given.scenes)).splitlines()
            counts, peaks, held = zip(*map(json.loads, lines), strict=True)
            each = {f"{task}, the heaviest so far": peaks, f"{task}, held after it": held}
        else:
            counts = tuple(count for _ in range(given.rounds) for count in given.scenes)
            each = {task: tuple(float(asked(task, count)) for count in counts)}
        for name, own in each.items():
            rows.append({"task": name, "peaks_mb": list(zip(counts, own, strict=True)), **growth(counts, own)})
    from benchmarks.training import circumstances

    pixels = int(np.prod(given.tiles))
    record = {
        **circumstances(),
        "seconds": round(time.monotonic() - began),
        "tiles": list(given.tiles),
        "scene_kb": (25 * 4 + 8) * pixels / 1e3,
        "tasks": rows,
    }
    if given.out:
        given.out.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
