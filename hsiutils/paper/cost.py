"""What the paper's profile costs, carried over from committed records to any number of scenes; and which these are.

Nothing is run for it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from hsiutils.data.classes import CLASSES
from hsiutils.models.batches import HELD_BYTES
from hsiutils.models.unet import UNetConfig, flops
from hsiutils.paper.benchmarks import READING_RECORD, RECORDS, read_benchmark
from hsiutils.paper.results import RESULTS
from hsiutils.paper.run import profile
from hsiutils.paper.trainings import FULL_STEP_RECORDS, GPU_RECORD

BACKWARD = 2
"""Forward passes that a backward pass counts for: by the image and by the kernels, a convolution each."""
_DAY, _HOUR = 86400, 3600
_UNITS = ("threads", "cores")
_OF_STUDIES = (
    "cameras.json",
    "channels.json",
    "conditions.json",
    "confirm.json",
    "designs.json",
    "exposure.json",
    "foretold.json",
    "leaderboard.json",
    "marks.json",
    "pn-strength.json",
    "sanity.json",
    "second.json",
    "space.json",
    "variance.json",
    "walls.json",
)
_MADE_BY = {
    **{name: f"hsiutils study {name.removesuffix('.json')}" for name in _OF_STUDIES},
    "claims_record.json": "hsiutils record",
    "emva1288.json": "python -m benchmarks.camera",
    "faults.json": "make test-slow",
    "growth.json": "python -m benchmarks.growth",
    "gpu.json": "python -m benchmarks.gpu_record",
    "lens.json": "python -m benchmarks.lens",
    "memory.json": "python -m benchmarks.memory",
    "mitsuba.json": "python -m benchmarks.renderer",
    "mutants.json": "make mutants",
    "peers.json": "python -m benchmarks.peers",
    "peers_full_size.json": "python -m benchmarks.peers",
    "reading.json": "python -m benchmarks.reading",
    "spectra.json": "python -m benchmarks.spectra",
    "strangers.json": "python -m benchmarks.strangers",
    "training_full_size.json": "python -m benchmarks.training",
    "training_gpu.json": "python -m benchmarks.training",
    "training_step.json": "python -m benchmarks.training",
}
"""Records and what makes them. Names are written out: by them the store knows what a page depends on."""


def paper_cost(
    scenes: Sequence[int],
    teraflops: float,
    full_size: Path = RECORDS[1],
    step: Path = FULL_STEP_RECORDS[0],
    gpu: Path = GPU_RECORD,
    reading: Path = READING_RECORD,
) -> tuple[pd.DataFrame, list[str]]:
    """Cost of every network of profile paper, by the number of scenes; and in words what was measured and what assumed.

    Epochs are all that the recipe allows, and cost is in proportion to scenes and multiplications, but for a GPU's
    checkpoints, one an epoch. Reading, rendering and evaluation of test scenes are left out.

    Parameters
    ----------
    scenes : numbers of scenes, cut into training, validation and test as profile paper cuts its own.
    teraflops : 1e12 operations that a GPU does in a second of training; assumed where there is no record of one.
    full_size : record with the time of a forward pass at the paper's size (benchmarks/peers.py).
    step : record of the steps of a training at that size on one core, in float32 (benchmarks/training.py).
    gpu : record of trainings at the paper's size (benchmarks/gpu_record.py); it need not be there.
    reading : record of reading (benchmarks/reading.py), neither.

    Returns
    -------
    Table with a row a quantity and a column a number of scenes; and sentences. Days are of one core: by the time of a
    forward pass, and by the rate of a training.

    Raises
    ------
    ValueError
        If a number is not positive, or one of the first two files is no such record.
    """
    if not scenes or min(scenes) < 1 or not teraflops > 0:
        raise ValueError(f"numbers of scenes and teraflops must be positive, got {list(scenes)} and {teraflops}")
    own, whole = profile("paper"), read_benchmark(full_size, ("decomposition", "machine", "network"))
    short = read_benchmark(step, ("gflop_an_image", "rounds", "machine", "date"))
    config, networks = own.network(CLASSES), len(own.variants) * own.models
    seconds = median(short["rounds"]["this tree, float32, steps alone"])
    forward, rate = whole["decomposition"]["forward_s"], 1e9 * short["gflop_an_image"]["ours"] / seconds
    one = flops(config, own.tiles)  # of an image
    on_gpu = _on_gpu(gpu, one, teraflops)
    between = networks * own.recipe.epochs * on_gpu.checkpoint / _HOUR
    image = 4 * config.channels * own.tiles[0] * own.tiles[1]  # bytes, float32
    columns = {}
    for count in scenes:
        train, val = round(0.6 * count), round(0.2 * count)
        passes = own.recipe.epochs * ((1 + BACKWARD) * train + val / own.recipe.validate_every)
        columns[f"{count:,} scenes"] = {
            "training scenes": train,
            "cubes on disk (GB)": count * image / 1e9,
            "training scenes, as float32 (GB)": train * image / 1e9,
            "a network: 1e15 operations": passes * one / 1e15,
            "a network: days by the pass": passes * forward / _DAY,
            "a network: days by training": passes * one / rate / _DAY,
            f"{networks} networks: GPU hours": networks * passes * on_gpu.forward / _HOUR + between,
            f"{networks} networks: of these, checkpoints": between,
        }
    most, ways = int(HELD_BYTES / image), forward * rate / one
    words = [
        f"Measured: one forward pass of the paper's network on one core takes {forward:.2f} s "
        f"({_where(whole['decomposition'] | {'machine': whole['machine']})}); the steps of its "
        f"training do {rate / 1e9:.0f} GFLOP a second in single precision ({_where(short)}).",
        f"Counted: {one / 1e9:.1f} GFLOP a forward pass; a step counts for {1 + BACKWARD} of them, and a network sees "
        f"its scenes {own.recipe.epochs} times if nothing stops it before.",
        f"The two ways to days of one core, by pass and by training, differ by a factor of {max(ways, 1 / ways):.2f}.",
        f"Up to {most:,} training scenes are held in memory; more are read again in every epoch.",
        on_gpu.how,
        *_waiting(reading, (1 + BACKWARD) * on_gpu.forward),
    ]
    return pd.DataFrame(columns).rename_axis("cost"), words


class _OnGPU(NamedTuple):
    """Seconds of a GPU for a forward pass of a training and for a checkpoint, and in words how they are known."""

    forward: float
    checkpoint: float
    how: str


def _on_gpu(record: Path, one: int, teraflops: float) -> _OnGPU:
    """What a training takes in which a forward pass is of `one` operations."""
    if not record.is_file():
        how = (
            f"No GPU was measured: its rows assume {teraflops:g} TFLOP a second, and nothing for checkpoints. "
            "python -m benchmarks.gpu_record makes the record where one is at hand."
        )
        return _OnGPU(one / (1e12 * teraflops), 0.0, how)
    found = json.loads(record.read_text())
    recipe, scenes, feeding = found["recipe"], found["scenes"], found["feeding"]
    step, checkpoint = median(feeding["epoch_s"]) / feeding["images"], feeding["checkpoint_s"]
    forward, took = step / (1 + BACKWARD), [network["training_s"] for network in found["networks"]]
    whole = recipe["epochs"] * (
        scenes["train"] * step + scenes["val"] * forward / recipe["validate_every"] + checkpoint
    )
    size = flops(UNetConfig(filters=found["filters"], classes=len(CLASSES)), tuple(found["image"]))
    how = (
        f"The rows of the GPU are measured: {found['device']}, {found['precision']}, {found['date']}. A step takes "
        f"{1e3 * step:.1f} ms an image, {1e-12 * size / forward:.1f} TFLOP a second; a checkpoint {checkpoint:.2f} s, "
        f"once an epoch, however many scenes there are. Added up for the trainings of that record: {whole:.0f} s each; "
        f"they took {min(took):.0f} to {max(took):.0f} s, starting included."
    )
    return _OnGPU(forward * one / size, checkpoint, how)


def _waiting(record: Path, step: float) -> list[str]:
    """Whether a GPU that takes `step` seconds an image waits for one process that reads; nothing without a record."""
    if not record.is_file():
        return []
    found = json.loads(record.read_text())
    took = sum(found["cube_mb"] / found["mb_s"][way] for way in ("mat", "network's input, 25-PN"))
    end = "would wait for scenes that are not held" if took > step else "need not wait for scenes that are not held"
    return [
        f"One process reads an image and makes it the network's input in {1e3 * took:.0f} ms; that GPU takes "
        f"{1e3 * step:.0f} ms for its step, the checkpoint left out, and {end}."
    ]


def _where(record: dict[str, Any]) -> str:
    return f"{record['machine']['processor']}, {record['date']}"


def every_record(folder: Path = RESULTS) -> pd.DataFrame:
    """Every record that is there: `record`, the command that `makes` it, the `date` and the `machine` if it says so."""
    rows = []
    for name, command in sorted(_MADE_BY.items()):
        if (folder / name).is_file():
            found = json.loads((folder / name).read_text())
            own = found.get("machine", {})
            gpu = own.get("device", "CPU")
            count = next((f"{own[key]} {key}"[: None if own[key] > 1 else -1] for key in _UNITS if key in own), "")
            where = " of ".join(filter(None, [count, own.get("processor", "")])) if gpu == "CPU" else gpu
            rows.append((name, command, found["date"], where))
    return pd.DataFrame(rows, columns=["record", "makes", "date", "machine"])
