"""Records of trainings: what a step takes beside others, the paper's network on a GPU, three lenses."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.analysis.intervals import interval
from hsiutils.paper.benchmarks import RECORDS, read_benchmark
from hsiutils.paper.results import RESULTS
from hsiutils.paper.table1 import class_iou, iou_of

GPU_RECORD = RESULTS / "gpu.json"
"""Written by benchmarks/gpu_record.py."""
FULL_STEP_RECORDS = (RESULTS / "training_full_size.json", RESULTS / "training_gpu.json")
"""Written by benchmarks/training.py at the paper's size: on one core, and on a GPU."""
_NO_GPU = "There is no such record yet: python -m benchmarks.gpu_record makes it where a GPU is at hand."


def gpu_networks(record: Path = GPU_RECORD, seed: int = 0) -> tuple[pd.DataFrame, str]:
    """IoU of the paper's network at the paper's size, as trained on a GPU once, and in words where and when.

    `seed` is of the bootstrap over scenes.

    Returns
    -------
    DataFrame indexed by variant: mean over seeds of `mean` and of every class's IoU, percent, the bounds of a 95 %
    interval over the test scenes of the mean, `low` and `high`, and `seeds`; empty where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), _NO_GPU
    found = json.loads(record.read_text())
    seeds = pd.Series([one["variant"] for one in found["networks"]]).value_counts(sort=False)
    rows = []
    with xr.open_dataset(record.with_suffix(".nc"), engine="h5netcdf") as counts:
        for variant, count in seeds.items():
            own = counts[["confusion"]].sel(network=[f"{variant}, seed {number}" for number in range(count)]).load()
            merits = class_iou(own).mean("network").to_series()
            bounds = interval(own, lambda drawn: iou_of("mean")(drawn).mean("network"), seed=seed)
            rows.append({"mean": merits["mean"], "low": float(bounds["low"]), "high": float(bounds["high"])})
            rows[-1] |= merits.drop("mean").to_dict() | {"seeds": count}
    table = pd.DataFrame(rows, index=seeds.index.rename("variant"))
    size, scenes = " x ".join(map(str, found["image"])), found["scenes"]
    made = f"{found['device']}, {found['precision']}, {found['date']}"
    text = f"{scenes['train']} training and {scenes['test']} test scenes of {size} pixels, {found['filters']} filters; "
    return table, text + made


def gpu_costs(
    record: Path = GPU_RECORD, on_core: Path = RECORDS[1], steps_alone: Path = FULL_STEP_RECORDS[1]
) -> list[str]:
    """What the paper's network costs on a GPU, in sentences: steps, checkpoints, memory, prediction, an audit.

    `on_core` is the record of the same audit on one core, and `steps_alone` that of other steps on a GPU, if there is
    one: they stand beside it.
    """
    if not record.is_file():
        return [_NO_GPU]
    found = json.loads(record.read_text())
    feeding, ahead, audits = found["feeding"], found["inference"], found["audit_at_first_skip"]
    steps, memory = np.array(feeding["epoch_s"]), found["networks"][0]["peak_gib"]
    fed = steps / np.array(feeding["epoch_on_one_batch_s"])
    usual = next(one for one in audits.values() if isinstance(one, dict))
    core = read_benchmark(on_core)["audit"]["first skip connection"]["audit_s"]
    one, eight = ahead["bfloat16, 1 at a time"], 8 * ahead["bfloat16, 8 at a time"]
    return [
        f"{found['device']}, {found['precision']}, {found['date']}: the steps of a training take "
        f"{1e3 / feeding['images_s']:.1f} ms an image ({feeding['images_s']:.0f} images a second), feeding included, "
        f"checkpoint and validation not{'' if memory is None else f'; {memory:.1f} GiB of memory at most'}.",
        *_other_steps(steps_alone, found["machine"]["load_average"]),
        f"An epoch's steps on scenes take {np.median(fed):.2f} ({fed.min():.2f} to {fed.max():.2f}, {len(fed)} pairs) "
        "of what they take on one batch that stays there.",
        f"The checkpoint after every epoch takes {feeding['checkpoint_s']:.2f} s, the steps of {feeding['images']} "
        f"images {np.median(steps):.2f} s.",
        "A prediction takes, in ms an image: "
        + "; ".join(f"{name}, {1e3 * seconds:.2g}" for name, seconds in ahead.items())
        + f". Eight images together take {eight / one:.1f} times as long as one, in bfloat16.",
        f"GradCAM's audit of {usual['logits']:,} logits at {audits['layer']} takes {usual['audit_s']:.2f} s; one core "
        f"takes {core:.0f} s for an image of that size.",
    ]


def _other_steps(record: Path, load: float) -> list[str]:
    """Why the step of `full_size_times` on a GPU is another than that of a training beside this load; or nothing."""
    if not record.is_file():
        return []
    found = read_benchmark(record, ("rounds", "machine"))
    return [
        f"The step of the table, {1e3 * np.median(found['rounds']['this tree, steps alone']):.1f} ms, leaves out the "
        "same. It is of another run, on images of noise, with other work beside it: load average "
        f"{found['machine']['load_average']:.1f} there, {load:.1f} here."
    ]


LENS_RECORD = RESULTS / "lens.json"
"""Written by benchmarks/lens.py."""


def lens_table(record: Path = LENS_RECORD) -> tuple[pd.DataFrame, str]:
    """IoU of networks that were trained and tested behind lenses of several widths; in words when.

    Returns
    -------
    DataFrame with a row a lens and input: `blur (px)`, `variant`, and `mean` and every class's IoU, percent; empty
    where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no such record yet: python -m benchmarks.lens makes it."
    found = json.loads(record.read_text())
    rows = [
        {"blur (px)": one["blur_px"], "variant": one["variant"]}
        | {name: 100 * value for name, value in {"mean": one["mean_iou"], **one["iou"]}.items()}
        for one in found["networks"]
    ]
    return pd.DataFrame(rows), f"profile {found['profile']}, one seed, {found['precision']}, {found['date']}"


STEP_RECORD = RESULTS / "training_step.json"
"""Written by benchmarks/training.py."""


def step_times(record: Path = STEP_RECORD) -> tuple[pd.DataFrame, str]:
    """Milliseconds a training takes an image, and as a share of release 0.1.0's; in words where and when.

    The table is empty where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no such record yet: python -m benchmarks.training makes it."
    found = json.loads(record.read_text())
    table = pd.DataFrame({"ms an image": found["ms_an_image"], "of release 0.1.0": found["of_release"]})
    table = table[[_of_training(name) for name in table.index]].rename_axis("training").rename(_shown)
    share = f"{100 * found['share_of_convolution_rate']:.0f} % of the rate of the machine's best convolution"
    return table, f"{found['machine']['processor']}, one thread, {found['precision']}, {found['date']}; {share}"


def step_rounds(record: Path = STEP_RECORD) -> pd.DataFrame:
    """Every round of the same: `training`, `round` and `ms an image`; empty where there is no record."""
    if not record.is_file():
        return pd.DataFrame()
    rounds = json.loads(record.read_text())["rounds"]
    own = {name: seconds for name, seconds in rounds.items() if _of_training(name)}
    rows = [(_shown(name), number, 1e3 * one) for name, seconds in own.items() for number, one in enumerate(seconds, 1)]
    return pd.DataFrame(rows, columns=["training", "round", "ms an image"])


def _shown(name: str) -> str:
    """A row of a record of benchmarks/training.py as a page has it."""
    return name.replace("this tree", "ours")


def _of_training(name: str) -> bool:
    """Whether a row of a record of benchmarks/training.py is a whole training."""
    return not name.endswith((", steps alone", ", prediction"))


def full_size_times(records: Sequence[Path] = FULL_STEP_RECORDS) -> tuple[pd.DataFrame, list[str]]:
    """Training step and prediction of the paper's network, and what others take for as many operations.

    Returns
    -------
    Table with a row a contestant of a record: `on` what, `by` whom, `step` and `prediction` (ms an image, medians of
    rounds), `of our step` and `of our prediction` (medians of the rounds' ratios); NaN where nobody timed it. And a
    sentence a record. Both are empty where there is none.

    Raises
    ------
    ValueError
        If a file is no such record.
    """
    rows: list[dict[str, Any]] = []
    words = []
    for path in filter(Path.is_file, records):
        found = read_benchmark(path, ("rounds", "machine", "date", "precision", "share_of_convolution_rate"))
        rounds = {name: 1e3 * np.array(seconds) for name, seconds in found["rounds"].items()}
        machine = found["machine"]
        where = machine.get("device", f"one core of {machine['processor']}")
        half = "bfloat16" if found["precision"] == "bf16-mixed" else "float32"
        for name, step in rounds.items():
            ours = name.startswith("this tree")
            by = name.removesuffix(", steps alone")
            if name.endswith(", prediction") or (ours and by == name):
                continue
            predicted = {"this tree": "", "this tree, float32": "this tree, prediction"}  # which computes in float32
            guess = rounds.get(predicted.get(by, f"{by}, prediction"))
            rows.append(
                {
                    "on": where,
                    "by": f"ours, {half}" if by == "this tree" else _shown(by),
                    "step": np.median(step),
                    "of our step": np.median(step / rounds["this tree, steps alone"]),
                    "prediction": np.nan if guess is None else np.median(guess),
                    "of our prediction": np.nan
                    if guess is None
                    else np.median(guess / rounds["this tree, prediction"]),
                }
            )
        words.append(
            f"{where}, {found['date']}: {len(step)} rounds, {found['batch']['this tree']} images a step; ours "
            f"runs at {found['share_of_convolution_rate']:.0%} of the rate of the machine's best convolution"
        )
    return pd.DataFrame(rows), words
