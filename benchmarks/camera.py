"""The simulated camera on the EMVA 1288 bench, evaluated by the standard's reference implementation.

The package emva1288 1.0.2 calls `numpy.asfarray`, which NumPy 2 no longer has, so it gets an environment of its own
(benchmarks/camera-requirements.txt) and is handed frames as files. Run from the repository's root, in this project's
environment:

    python -m benchmarks.camera --evaluator /tmp/emva/bin/python --out data/results/emva1288.json
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SPATIAL_FRAMES = 16
"""Frames in the light and in the dark that fixed patterns are taken from."""
RESULTS = {
    "system gain": "K",
    "saturation capacity": "u_e_sat",
    "dark noise": "sigma_d",
    "dark current": "u_I_mean",
    "quantum efficiency": "QE",
    "photo response non-uniformity": "PRNU1288",
}
"""Our name of a quantity -> the package's; it gives the last two in percent."""


def write_frames(folder: Path, camera: Any, seed: int, levels: int) -> None:
    """Frames as .npy, and images.json: kind -> exposure time in ns -> photons -> files."""
    from hsiutils.simulate.bench import exposures, on_bench
    from hsiutils.simulate.camera import expose, pixel_gains
    from hsiutils.simulate.draws import generator

    on = on_bench(camera)
    images: dict[str, dict[int, dict[float, list[str]]]] = {"temporal": {}, "spatial": {}}

    def keep(kind: str, time_s: float, photons: float, frames: Any) -> None:
        files = []
        for number, frame in enumerate(frames):
            files.append(f"{kind}_{time_s * 1e9:.0f}_{photons > 0:d}_{number}.npy")
            np.save(folder / files[-1], np.asarray(frame, np.uint16))
        images[kind].setdefault(round(time_s * 1e9), {})[photons] = files

    for level in exposures(on, seed, levels):
        keep("temporal", level.time_s, level.photons, level.bright)
        keep("temporal", level.time_s, 0.0, level.dark)
    sensor, rng = on.sensor, generator(seed, "spatial")
    (top, left), (rows, columns) = sensor.active_origin, sensor.active_shape
    active = (slice(top, top + rows), slice(left, left + columns))
    # Half of full well, for a hundredth of a second; the package wants a number of photons that is not zero.
    rate = 50 * sensor.full_well_e * pixel_gains(on, generator(seed, "bench"))
    for photons, light in ((1.0, rate), (0.0, 0 * rate)):
        keep("spatial", 0.01, photons, [expose(light, 0.01, on, rng).frame[active] for _ in range(SPATIAL_FRAMES)])
    (folder / "images.json").write_text(json.dumps(images))


def evaluate(folder: Path) -> dict[str, Any]:
    """What the package finds in the frames of a folder; runs where the package is."""
    from importlib.metadata import version

    from emva1288.process.data import Data1288
    from emva1288.process.loader import LoadImageData
    from emva1288.process.results import Results1288

    read = json.loads((folder / "images.json").read_text())
    images = {
        kind: {
            float(time_ns): {float(photons): files for photons, files in level.items()}
            for time_ns, level in times.items()
        }
        for kind, times in read.items()
    }
    loaded = LoadImageData(images, str(folder), loglevel=logging.WARNING, fload=np.load)
    found = Results1288(Data1288(loaded.data, loglevel=logging.WARNING).data, loglevel=logging.WARNING)
    measured = {}
    for name, theirs in RESULTS.items():
        value = getattr(found, theirs)
        value = float(value() if callable(value) else value)
        measured[name] = value / 100 if theirs in ("QE", "PRNU1288") else value
    return {
        "measured": measured,
        "versions": {name: version(name) for name in ("emva1288", "numpy", "scipy")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--evaluator", type=Path, default=Path(sys.executable), help="python that has emva1288")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--levels", type=int, default=60)
    parser.add_argument("--evaluate", type=Path, help="folder of frames: only evaluate those")
    options = parser.parse_args()
    if options.evaluate:
        print(json.dumps(evaluate(options.evaluate)))
        return
    from hsiutils.data.atomic import write_atomically
    from hsiutils.simulate.bench import asked, characterise, on_bench, photon_transfer
    from hsiutils.simulate.frame import Simulation

    camera = Simulation().camera
    wanted = asked(on_bench(camera)) | {"photo response non-uniformity": camera.non_uniformity}
    with tempfile.TemporaryDirectory() as folder:
        write_frames(Path(folder), camera, options.seed, options.levels)
        command = [str(options.evaluator), __file__, "--evaluate", folder]
        theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    own = characterise(photon_transfer(on_bench(camera), options.seed, options.levels))
    record = {
        "seed": options.seed,
        "levels": options.levels,
        "pixels": list(on_bench(camera).sensor.active_shape),
        "asked": {name: wanted[name] for name in RESULTS},
        "measured": theirs["measured"],
        "same_frames_by_bench": {name: own[name] for name in RESULTS if name in own},
        "machine": {"device": "CPU", "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": theirs["versions"],
        "date": time.strftime("%Y-%m-%d"),
    }
    text = json.dumps(record, indent=2)
    if options.out:
        write_atomically(options.out, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
