"""Does the camera carry a long-pass filter? Nobody says; the released mean spectrum can tell."""

import pandas as pd

from hsiutils import simulate
from hsiutils.data.source import open_dataset
from hsiutils.data.statistics import spectrum_correlation, statistics
from hsiutils.paper import run as pipeline
from hsiutils.paper.run import Run

TILES = (32, 64)


def long_pass_evidence(run: Run, scenes: int = 12) -> pd.DataFrame:
    """Simulate a few scenes with and without the filter and hold their mean spectra against the released one.

    Returns
    -------
    A row for each: filter, correlation over the 25 bands with HSI-Drive v2.0's mean reflectance.
    """
    names = simulate.draw_names(scenes, run.seed)
    rows = []
    for edge in (simulate.Simulation().long_pass_nm, None):
        made = pipeline.simulated(names, simulate.Simulation(seed=run.seed, tiles=TILES, long_pass_nm=edge))
        summary = statistics(open_dataset(made.folder), names)
        rows.append(("none" if edge is None else f"long-pass at {edge:.0f} nm", spectrum_correlation(summary)))
    return pd.DataFrame(rows, columns=["filter", "correlation"])
