"""The simulated camera on a test bench, run anew, and simulated scenes beside another renderer's, by a record."""

from pathlib import Path

import numpy as np
import pandas as pd

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.benchmarks import read_benchmark
from hsiutils.paper.results import RESULTS
from hsiutils.paper.run import centres_behind
from hsiutils.simulate import Simulation
from hsiutils.simulate.bench import edge_table, emva_table, on_bench, photon_transfer

EMVA_RECORD, RENDERER_RECORD = RESULTS / "emva1288.json", RESULTS / "mitsuba.json"
"""Written by benchmarks/camera.py and benchmarks/renderer.py."""
COMPARISONS = ("sun and sky", "all light")
_UNITS = {
    "system gain": "DN/e-",
    "saturation capacity": "e-",
    "full well": "e-",
    "dark noise": "e-",
    "dark current": "e-/s",
    "quantum efficiency": "e-/photon",
}


def camera_on_bench(seed: int = 0, levels: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The camera that the book simulates, on an EMVA 1288 bench.

    Returns
    -------
    A row a quantity: `quantity` with its unit, `asked`, `measured`, `deviation (%)`, `bound (%)`, and `emva1288` (what
    that package found, from the record). And the photon transfer curve: variance (DN squared, above that in the dark)
    `measured` and `asked`, by signal (DN above dark).
    """
    camera = on_bench(Simulation().camera)
    curve = photon_transfer(camera, seed, levels)
    found = emva_table(curve, camera)
    table = pd.DataFrame({"quantity": [f"{name} ({_UNITS[name]})" for name in found.index]}, found.index)
    table[["asked", "measured"]] = found[["asked", "measured"]]
    table["deviation (%)"], table["bound (%)"] = 100 * found["deviation"], 100 * found["bound"]
    table["emva1288"] = pd.Series(read_benchmark(EMVA_RECORD, ("measured",))["measured"])
    signal = (curve["mean"] - curve["dark_mean"]).to_numpy()
    noise = (curve["variance"] - curve["dark_variance"]).to_numpy()
    transfer = pd.DataFrame({"measured": noise, "asked": camera.dn_per_electron * signal}, signal)
    return table.reset_index(drop=True), transfer


def sharpness() -> tuple[pd.DataFrame, float]:
    """MTF50 `measured` and `asked` (cycles a pixel) by where a band sees (nm), and the largest relative deviation."""
    found = edge_table(Simulation())
    found = found.assign(nm=centres_behind(Simulation.long_pass_nm, HSI_DRIVE)).sort_values("nm")
    return found.set_index("nm")[["measured", "asked"]], float(found["deviation"].abs().max())


def against_renderer(record: Path = RENDERER_RECORD) -> tuple[pd.DataFrame, dict[str, tuple[float, float]]]:
    """How far the simulator's median radiance is from another renderer's, over surfaces and the 25 bands.

    Returns
    -------
    One row a surface of a scene: `scene`, `surface`, `light`, and in percent the median, least and most over the bands
    of both comparisons (without and with light that surfaces send to each other). And of each comparison, median and
    largest absolute relative deviation over all.
    """
    scenes = read_benchmark(record, ("scenes",))["scenes"]
    rows, every = [], {kind: np.array([]) for kind in COMPARISONS}
    for title, surface in ((scene["title"], surface) for scene in scenes for surface in scene["surfaces"]):
        row = {"scene": title, "surface": surface["material"], "light": surface["light"]}
        for kind in COMPARISONS:
            low, middle, high = np.percentile(100 * np.array(surface[kind]), [0, 50, 100])
            row[f"{kind} (%)"] = f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"
            every[kind] = np.append(every[kind], np.abs(surface[kind]))
        rows.append(row)
    return pd.DataFrame(rows), {kind: (float(np.median(all_)), float(all_.max())) for kind, all_ in every.items()}
