"""The paper's network at the paper's size on one GPU, in one go of about a quarter of an hour.

Scenes are rendered on all cores for three minutes at most, then networks are trained, one after the other, until ten
minutes are over: the paper's network (32 filters, depth 5) for each input, seed by seed, as many as fit. Scenes stay on
the GPU between steps. Each network is evaluated on the test scenes and audited on some of them. With the first one it
is timed what feeding costs, what an image takes, and the audit at the first skip connection. The record is written
anew after every network: a run that is cut off leaves what it has. From the root of the repository:

    python -m benchmarks.gpu_record --out data/results/gpu.json

What is left is small (no weights): gpu.json, and gpu.nc with the confusion of every test scene. Chapters 3 and 9 show
them. Every limit is an option: `--scenes 20 --tiles 32 64 --filters 2` runs
the same lines on a laptop.
"""

import argparse
import gc
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
import xarray as xr
from torch import Tensor

import hsiutils as hu
from benchmarks.training import circumstances, declare_operators, now, timed_steps
from hsiutils import simulate
from hsiutils.attribution.audit import audit
from hsiutils.data.atomic import write_atomically
from hsiutils.data.source import Pairs, Source
from hsiutils.models import train
from hsiutils.models.recipe import Recipe, precision
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.run import profile

METHODS = ("GradCAM", "GradCAM signed", "HiResCAM", "gradient x input")
"""Audited before the head."""


def render(folder: Path, tiles: tuple[int, int], most: int, seconds: float, workers: int) -> Source:
    """As many scenes as can be rendered in time: each round tells how many fit into what is left."""
    settings, began = simulate.Simulation(seed=0, tiles=tiles), time.perf_counter()
    count, more = 0, min(most, max(2 * workers, 10))
    while more:
        start, count = time.perf_counter(), count + more
        # The first names of a larger draw are the smaller draw: what is there already is kept.
        simulate.write_dataset(folder, simulate.draw_names(count, 0), settings, workers, progress=False)
        end = time.perf_counter()
        fit = int(more * (began + seconds - end) / (end - start))
        more = min(most - count, fit) if fit >= workers else 0
    return hu.open_dataset(folder)


def networks(variants: list[str], seeds: int, seconds: float) -> Iterator[tuple[str, int]]:
    """Inputs and seeds to train, seed by seed, while one that takes as long as the last would end in time."""
    began, last = time.perf_counter(), 0.0
    for seed in range(seeds):
        for name in variants:
            start = time.perf_counter()
            if start - began + last > seconds:
                return
            yield name, seed
            last = time.perf_counter() - start


def residuals(model: UNet, images: torch.Tensor) -> dict[str, float]:
    """By method, before the head: the median size of the residual over pixels and classes, by that of the logit."""
    found = audit(model, images, METHODS, [model.config.last])
    logit = float(abs(found["logit"]).median())
    sizes = abs(found["residual"]).median([size for size in found["residual"].dims if size != "method"])
    return {str(name): float(size) / logit for name, size in zip(found["method"].values, sizes, strict=True)}


class Loaded(Pairs):
    """Scenes in memory, read side by side: one core would take as long as the GPU trains."""

    def __init__(self, scenes: Any, workers: int) -> None:
        self.names = scenes.names
        with ThreadPoolExecutor(workers) as pool:
            self.pairs = list(pool.map(scenes.__getitem__, range(len(scenes))))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pairs[index]


class Alternating:
    """A loader whose every other epoch is its first batch, again and again; the epochs before are warm-ups."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.epoch = batches, 0
        self.sampler = batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        if self.epoch % 2:
            return iter(self.batches)
        one = next(iter(self.batches))
        return iter([one] * len(self.batches))


def feeding(learnt: Loaded, judged: Loaded, config: UNetConfig, recipe: Recipe, device: str) -> dict[str, Any]:
    """Seconds of an epoch's steps on scenes and on one batch that stays, in turns; the first pair warms up."""
    make, rounds = train.loader, 5
    recipe = replace(recipe, epochs=2 * (rounds + 1), validate_every=2 * (rounds + 1))

    def loader(scenes: Any, batch: int, sampler: Any = None) -> Any:
        made = make(scenes, batch, sampler)
        return Alternating(made) if sampler else made

    with (
        mock.patch.object(train, "loader", loader),
        timed_steps(device) as spans,
        tempfile.TemporaryDirectory() as folder,
    ):
        train.fit(learnt, judged, config, recipe, 0, Path(folder), progress=False, device=device)
    seconds = [end - start for start, end in spans]
    scenes, held = seconds[2::2], seconds[3::2]
    return {
        "images": len(learnt),
        "epoch_s": scenes,
        "epoch_on_one_batch_s": held,
        "ratio": median(a / b for a, b in zip(scenes, held, strict=True)),
        "images_s": len(learnt) / median(scenes),
        "checkpoint_s": median(start - end for (_, end), (start, _) in pairwise(spans)),
    }


def inference(model: UNet, images: Tensor, device: str) -> dict[str, Any]:
    """Seconds an image of a pass in evaluation, by number format and images at a time."""
    own, found = model.folded().to(memory_format=torch.channels_last), {}  # type: ignore[call-overload]
    for used, batch in ((used, batch) for used in ("float32", "bfloat16") for batch in (1, 8)):
        x = images[torch.arange(batch) % len(images)].to(device).contiguous(memory_format=torch.channels_last)
        half, seconds = torch.autocast(device.partition(":")[0], torch.bfloat16), []
        with torch.inference_mode(), half if used == "bfloat16" else nullcontext():
            for _ in range(13):
                began = now(device)
                own(x)
                seconds.append((now(device) - began) / batch)
        found[f"{used}, {batch} at a time"] = median(seconds[3:])
    return found


def skip_audit(model: UNet, image: Tensor, device: str, enough: float = 20) -> dict[str, Any]:
    """Seconds and memory of GradCAM's audit of every pixel and class at the first skip connection.

    With the working memory that is the default, and with eight times as much; the second of two runs each, or the first
    where it takes more than `enough` seconds.
    """
    layer, found = model.config.skips[0], {}
    for memory, _ in ((memory, turn) for memory in (1, 8) for turn in range(2)):
        if found and max(one["audit_s"] for one in found.values()) > enough:
            break
        forget_peak(device)
        began = now(device)
        logits = audit(model, image[None], ["GradCAM"], [layer], memory=memory << 30)["logit"].size
        found[f"{memory} GiB"] = {"audit_s": now(device) - began, "peak_gib": peak(device), "logits": int(logits)}
    return {"layer": layer, **found}


def forget_peak(device: str) -> None:
    gc.collect()  # a trainer and its network refer to each other
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float | None:
    """The most memory of the GPU that was in use, GiB; None of a processor."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else None


def tried(what: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """What a measurement found, or why it did not: the networks that follow are worth more."""
    try:
        return what(*given)
    except Exception:
        traceback.print_exc()
        return {"failed": traceback.format_exc(limit=-1)}


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write, and .nc beside it")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "hsiutils-gpu"), help="for the rest")
    parser.add_argument("--tiles", type=int, nargs=2, default=(216, 409), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--scenes", type=int, default=752, help="at most")
    parser.add_argument("--rendering", type=float, default=170, help="seconds")
    parser.add_argument("--training", type=float, default=420, help="seconds, evaluation and audit included")
    parser.add_argument("--variants", nargs="+", default=["25-PN", "25", "3", "1"])
    parser.add_argument("--seeds", type=int, default=8, help="at most")
    parser.add_argument("--epochs", type=int, default=28)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--audited", type=int, default=4, help="test scenes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(arguments)


def write(path: Path, record: dict[str, Any], counts: Sequence[xr.Dataset]) -> None:
    """Write what there is so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=2) + "\n")
    if counts:
        whole = xr.concat(counts, "network")
        packed = {name: {"zlib": True} for name in whole.data_vars}
        whole.to_netcdf(path.with_suffix(".nc"), engine="h5netcdf", encoding=packed)


def main(arguments: list[str] | None = None) -> None:
    declare_operators()
    given, quick = options(arguments), profile("quick")
    recipe, device = replace(quick.recipe, epochs=given.epochs, validate_every=given.epochs), given.device
    began = time.perf_counter()
    data = render(given.work / "scenes", tuple(given.tiles), given.scenes, given.rendering, given.workers)
    record: dict[str, Any] = {
        **circumstances(device),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
        "precision": precision(recipe.precision, device),
        "versions": {"torch": torch.__version__},
        "image": list(given.tiles),
        "scenes": {split: len(data.names(split)) for split in ("train", "val", "test")},
        "rendering_s": round(time.perf_counter() - began, 1),
        "filters": given.filters,
        "recipe": asdict(recipe),
        "networks": [],
    }
    counts: list[xr.Dataset] = []
    write(given.out, record, counts)
    for name, seed in networks(given.variants, given.seeds, given.training):
        start, inputs = time.perf_counter(), hu.fit_inputs(name, data)
        learnt, judged, test = (Loaded(data.scenes(split, inputs), given.workers) for split in ("train", "val", "test"))
        read, folder = time.perf_counter() - start, given.work / "networks" / f"{name}-{seed}"
        names = data.classes.names
        config = replace(
            quick.network(names), channels=inputs.channels, filters=given.filters, class_names=tuple(names)
        )
        forget_peak(device)
        train.fit(learnt, judged, config, recipe, seed, folder, variant=inputs, progress=False, device=device)
        memory, took = peak(device), time.perf_counter() - start - read
        model = hu.load_model(folder).to(device)
        found = hu.evaluate(model, test)
        counts.append(found.expand_dims(network=[f"{name}, seed {seed}"]))
        merits = hu.scores(found.sel(region="all"))
        images = torch.stack([test[index][0] for index in range(min(given.audited, len(test)))])
        own = {
            "variant": name,
            "seed": seed,
            "reading_s": round(read, 2),
            "training_s": round(took, 2),
            "peak_gib": memory,
            "mean_iou": float(merits["mean_iou"]),
            "iou": {str(one): float(merits["iou"].sel({"class": one})) for one in merits["class"].values},
            "residual_of_logit": tried(residuals, model, images.to(device)),
        }
        record["networks"].append(own)
        write(given.out, record, counts)
        print(json.dumps(own), flush=True)
        if len(record["networks"]) == 1:
            for what, measure, *more in (
                ("feeding", feeding, learnt, judged, config, recipe, device),
                ("inference", inference, model, images, device),
                ("audit_at_first_skip", skip_audit, model, images[0].to(device), device),
            ):
                record[what] = tried(measure, *more)
                print(what, json.dumps(record[what]), flush=True)
                write(given.out, record, counts)


if __name__ == "__main__":
    main()
