"""Reading cubes, raw frames to cubes, PN, simulation: megabytes a second, beside what memory, page cache and disk give.

Scenes of HSI-Drive's size (25 x 216 x 409 in single precision) of random numbers, as .mat, .npy and one Zarr store, in
turns: every round does all of them with another scene, and the median over rounds counts. Timed is the processor's
time, with files in the page cache; of the disk alone, which is asked past the cache, the clock's. Rates are of the
cube's bytes. "loadmat" is how hyperseg (arXiv 2409.11205) reads, written anew: one call an item, unchecked. A simulated
scene is rendered, photographed and written with its frame and its truth, by one process.

    python -m benchmarks.reading --out data/results/reading.json

Two minutes on one core.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import xarray as xr
from PIL import Image
from scipy.io import loadmat, savemat

from benchmarks.training import circumstances
from hsiutils.data.cube import pn
from hsiutils.data.export import to_zarr, write_release
from hsiutils.data.inputs import fit_inputs
from hsiutils.data.raw import reflectance_cube
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.source import Source, open_dataset
from hsiutils.simulate import Simulation, draw_names, write_dataset

SUFFIX = "_TC.mat"


def write(root: Path, names: list[str], tiles: tuple[int, int]) -> Source:
    """The MATLAB release, of random numbers."""
    rng = np.random.default_rng(0)
    cubes, labels = (root / "Image_dataset" / kind for kind in ("cubes_fl32", "labels"))
    for folder in (cubes, labels):
        folder.mkdir(parents=True)
    for name in names:
        savemat(cubes / f"{name}{SUFFIX}", {"cube": rng.random((25, *tiles), dtype=np.float32)})
        Image.fromarray(rng.integers(0, 11, tiles, dtype=np.uint8)).save(labels / f"{name}.png")
    return open_dataset(root)


def cold_read(path: Path) -> float:
    """Seconds by the clock to read a file that the page cache has let go."""
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        file.read()
        return time.perf_counter() - began


def compare(folder: Path, tiles: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Rates of all contestants, in MB of the cube a second."""
    names = draw_names(max(rounds + 1, 10), 0)
    matlab = write(folder / "matlab", names, tiles)
    python = open_dataset(write_release(matlab, folder / "python", "python"))
    store = to_zarr(matlab, folder / "set.zarr", workers=1, progress=False)
    sensor, rng = HSI_DRIVE.resized(tiles), np.random.default_rng(1)
    frame, white = (rng.integers(low, 4000, sensor.frame_shape, dtype=np.uint16) for low in (100, 3000))
    inputs, cubes, target = fit_inputs("25-PN", matlab), [], np.empty((25, *tiles), dtype=np.float32)

    def file(name: str) -> Path:
        return matlab.files(name)[0]

    with xr.open_zarr(store, chunks=None) as opened:
        contestants: dict[str, Callable[[str], object]] = {
            "copy in memory": lambda name: np.copyto(target, cubes[-1].values),
            "bytes of a file": lambda name: file(name).read_bytes(),
            "mat, loadmat an item": lambda name: loadmat(file(name))["cube"],
            "mat": lambda name: cubes.append(matlab.cube(name)),
            "npy, numpy.load": lambda name: np.load(python.files(name)[0]).transpose(2, 0, 1).copy(),
            "npy": python.cube,
            "Zarr, a scene": lambda name: opened["cube"].sel(scene=name).values,
            "raw frame to cube": lambda name: reflectance_cube(frame, sensor, white, 64),
            "PN": lambda name: pn(cubes[-1]),
            "network's input, 25-PN": lambda name: inputs.apply(cubes[-1]),
            "simulated scene": lambda name: write_dataset(
                folder / "simulated", [name], Simulation(tiles=tiles), workers=1, progress=False
            ),
        }
        cubes.append(matlab.cube(names[0]))
        times: dict[str, list[float]] = {name: [] for name in contestants}
        disk = []
        for number in range(-1, rounds):  # the first, of the last scene, warms up
            for what, action in contestants.items():
                began = time.process_time()
                action(names[number])
                if number >= 0:
                    times[what].append(time.process_time() - began)
            del cubes[:-1]
        disk = [cold_read(file(name)) for name in names[:rounds]]
    size = target.nbytes / 1e6
    return {
        "cube_mb": size,
        "mb_s": {what: round(size / median(own), 2) for what, own in times.items()},
        "disk_mb_s": round(size / median(disk), 1),
        "rounds": {what: [round(one, 5) for one in own] for what, own in times.items()},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON record to write")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tiles", type=int, nargs=2, default=(216, 409), metavar=("ROWS", "COLUMNS"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.out and given.out.parent) as folder:
        found = compare(Path(folder), tuple(given.tiles), given.rounds)
    versions = {"numpy": np.__version__, "xarray": xr.__version__}
    text = json.dumps({**circumstances(), "versions": versions, **found}, indent=2) + "\n"
    if given.out:
        given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
