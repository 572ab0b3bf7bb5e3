"""The paper's network at the paper's size on one GPU, in one go of about a quarter of an hour.

Scenes are rendered on all cores for three minutes at most, then networks are trained, one after the other, until ten
minutes are over: the paper's network (32 filters, depth 5) for each input, seed by seed, as many as fit. Scenes stay on
the GPU between steps. Each network is evaluated on the test scenes and audited on some of them. From the root of the
repository:

    python -m benchmarks.gpu_record --out gpu-record

What is left in the folder is small (no weights): record.json, and counts.nc with the confusion of every test scene.
Copied to data/results/gpu/, chapter 3 shows it. Every limit is an option: `--scenes 20 --tiles 32 64 --filters 2` runs
the same lines on a laptop.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr

import hsiutils as hu
from hsiutils import simulate
from hsiutils.attribution.audit import audit
from hsiutils.data.atomic import write_atomically
from hsiutils.data.source import Source
from hsiutils.models.recipe import precision
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.run import profile

METHODS = ("GradCAM", "GradCAM signed", "HiResCAM", "gradient x input")
"""Audited before the head."""


def render(folder: Path, tiles: tuple[int, int], most: int, seconds: float, workers: int) -> Source:
    """As many scenes as can be rendered in time: a first round, two for each process, tells how many that are."""
    settings, first = simulate.Simulation(seed=0, tiles=tiles), min(most, max(2 * workers, 10))
    began = time.perf_counter()
    simulate.write_dataset(folder, simulate.draw_names(first, 0), settings, workers, progress=False)
    took = time.perf_counter() - began
    count = min(most, max(first, int(first * seconds / took)))
    # The first names of a larger draw are the smaller draw: what is there already is kept.
    simulate.write_dataset(folder, simulate.draw_names(count, 0), settings, workers, progress=False)
    return hu.open_dataset(folder)


def networks(variants: list[str], seeds: int, seconds: float) -> Iterator[tuple[str, int]]:
    """Inputs and seeds to train, seed by seed, until the next one would not end in time."""
    began, longest = time.perf_counter(), 0.0
    for seed in range(seeds):
        for name in variants:
            start = time.perf_counter()
            if start - began + longest > seconds:
                return
            yield name, seed
            longest = max(longest, time.perf_counter() - start)


def residuals(model: UNet, images: torch.Tensor) -> dict[str, float]:
    """By method, before the head: the median size of the residual over pixels and classes, by that of the logit."""
    found = audit(model, images, METHODS, [model.config.last])
    logit = float(abs(found["logit"]).median())
    sizes = abs(found["residual"]).median([size for size in found["residual"].dims if size != "method"])
    return {str(name): float(size) / logit for name, size in zip(found["method"].values, sizes, strict=True)}


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the record")
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


def main(arguments: list[str] | None = None) -> None:
    given, quick = options(arguments), profile("quick")
    recipe = replace(quick.recipe, epochs=given.epochs, validate_every=given.epochs)
    config = UNetConfig(filters=given.filters, norm_momentum=quick.norm_momentum, dropout=quick.dropout)
    began = time.perf_counter()
    data = render(given.work / "scenes", tuple(given.tiles), given.scenes, given.rendering, given.workers)
    rendered = time.perf_counter() - began
    trained: list[dict[str, Any]] = []
    counts: list[xr.Dataset] = []
    inputs = {name: hu.fit_inputs(name, data) for name in given.variants}
    for name, seed in networks(given.variants, given.seeds, given.training):
        start, folder = time.perf_counter(), given.work / "networks" / f"{name}-{seed}"
        made = hu.train(
            data, inputs[name], folder, config=config, recipe=recipe, seed=seed, progress=False, device=given.device
        )
        took, model, test = time.perf_counter() - start, made.to(given.device), data.scenes("test", inputs[name])
        found = hu.evaluate(model, test)
        counts.append(found.expand_dims(network=[f"{name}, seed {seed}"]))
        merits = hu.scores(found.sel(region="all"))
        images = torch.stack([test[index][0] for index in range(min(given.audited, len(test)))])
        own = {"variant": name, "seed": seed, "training_s": round(took, 2), "mean_iou": float(merits["mean_iou"])}
        iou = {str(one): float(merits["iou"].sel({"class": one})) for one in merits["class"].values}
        trained.append({**own, "iou": iou, "residual_of_logit": residuals(model, images.to(given.device))})
        print(json.dumps(trained[-1]), flush=True)
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if given.device.startswith("cuda") else "CPU",
        "precision": precision(recipe.precision, given.device),
        "versions": {"torch": torch.__version__},
        "image": list(given.tiles),
        "scenes": {split: len(data.names(split)) for split in ("train", "val", "test")},
        "rendering_s": round(rendered, 1),
        "filters": given.filters,
        "recipe": asdict(recipe),
        "networks": trained,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    write_atomically(given.out / "record.json", json.dumps(record, indent=2) + "\n")
    whole = xr.concat(counts, "network")
    packed = {name: {"zlib": True} for name in whole.data_vars}
    whole.to_netcdf(given.out / "counts.nc", engine="h5netcdf", encoding=packed)


if __name__ == "__main__":
    main()
