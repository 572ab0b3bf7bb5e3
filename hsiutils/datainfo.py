"""What a data set is: its release, size, splits, conditions and classes, as tables."""

import numpy as np
import pandas as pd

from hsiutils.classes import CLASSES, FREQUENCIES, VOID, merge
from hsiutils.dataset import HSIDrive
from hsiutils.simulate.names import name_table
from hsiutils.splits import SPLITS

_CONDITIONS = ("season", "weather", "daytime", "scene")


def data_info(drive: HSIDrive) -> pd.DataFrame:
    """What the data set is, without reading its images.

    Returns
    -------
    One column `value`; indexed by what it says.
    """
    rows, columns = drive.sensor.tiles
    low, high = np.sort(drive.sensor.wavelengths_nm)[[0, -1]]
    splits = ", ".join(f"{len(drive.scenes.query('split == @split'))} {split}" for split in SPLITS)
    frames = sum(files.raw is not None for files in drive.found.scenes.values())
    facts = {
        "root": str(drive.root),
        "origin": drive.origin,
        "layout": drive.layout,
        "other layouts": ", ".join(drive.others) or "none",
        "scenes": f"{len(drive.scenes)} ({splits})",
        "splits by": _split_source(drive),
        "cubes": f"{len(drive.sensor.bands)} bands, {low:.1f}-{high:.1f} nm, {rows} x {columns} pixels, {drive.units}",
        "raw frames": str(frames),
    }
    return pd.DataFrame({"value": facts})


def _split_source(drive: HSIDrive) -> str:
    """Where the splits come from, as `hsiutils.splits.split_scenes` chose them."""
    if all(files.split is not None for files in drive.found.scenes.values()):
        return "the release's own lists"
    bench = name_table()["split"]
    if all(bench.get(name) == drive.scenes.at[name, "split"] for name in drive.names()):
        return "HS3-Bench's published split"
    return (
        "seeded folds of whole sequences"
        if drive.scenes["split"].nunique() > 1
        else "too few for folds: all for testing"
    )


def condition_table(drive: HSIDrive) -> pd.DataFrame:
    """Number of scenes of every condition, by split and in all: indexed by (condition, value), columns the splits."""
    tables = {what: pd.crosstab(drive.scenes[what], drive.scenes["split"]) for what in _CONDITIONS}
    counts = pd.concat(tables, names=["condition", "value"]).reindex(columns=list(SPLITS), fill_value=0)
    return counts.fillna(0).astype(int).assign(all=lambda table: table.sum(axis=1))


def class_table(drive: HSIDrive) -> pd.DataFrame:
    """Share of the labelled pixels of each class, by split and in all, beside the published share of v2.0.

    Reads every label image. The last row is the share of all pixels that have no label.
    """
    counts = {split: np.zeros(len(CLASSES) + 1, dtype=np.int64) for split in SPLITS}
    for name in drive.names():
        classes = merge(drive.labels(name))
        own = np.bincount(np.where(classes == VOID, len(CLASSES), classes).ravel(), minlength=len(CLASSES) + 1)
        counts[str(drive.scenes.at[name, "split"])] += own
    columns = {**counts, "all": np.sum(list(counts.values()), axis=0)}
    shares = {split: _shares(own) for split, own in columns.items() if own.any()}
    table = pd.DataFrame(shares, index=[*CLASSES, "unlabelled, of all pixels"])
    return table.assign(published=[*FREQUENCIES, np.nan])


def _shares(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[float]:
    labelled = max(int(counts[:-1].sum()), 1)
    return [*(counts[:-1] / labelled).tolist(), float(counts[-1] / counts.sum())]
