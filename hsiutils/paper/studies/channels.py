"""How many channels, and which: bands evenly spaced or chosen one by one by a linear classifier, or components.

Each with PN and without. PN divides by the sum over all bands, as a camera that has them can; of fewer bands the
network sees only those.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sklearn.model_selection import GroupKFold, cross_val_score

from hsiutils.analysis.pixels import Spectra, scene_spectra
from hsiutils.data.source import Source
from hsiutils.models.metrics import scores
from hsiutils.paper import store
from hsiutils.paper.robustness import edge_cost, edge_counts
from hsiutils.paper.run import Run
from hsiutils.paper.spectra import classifiers, normalised
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.study import FILE, read
from hsiutils.paper.table1 import counts_of

COUNTS = (1, 3, 5, 9, 15)
"""Bands that are picked, beside all."""
FOLDS = 3


def even(wavelengths_nm: Sequence[float], count: int) -> list[int]:
    """Native indices of so many bands, evenly spaced in the order of wavelength; a single one is the middle."""
    ascending, bands = np.argsort(wavelengths_nm), len(wavelengths_nm)
    places = np.linspace(0, bands - 1, count) if count > 1 else [(bands - 1) / 2]
    return sorted(int(band) for band in ascending[np.rint(places).astype(int)])


def greedy(spectra: Spectra, most: int) -> list[int]:
    """Bands in the order in which each helps a linear classifier the most, on scenes that it has not seen."""
    folds = list(GroupKFold(FOLDS).split(spectra.values, spectra.truth, spectra.scene))
    linear, order, every = classifiers(spectra)["linear"], list[int](), range(spectra.values.shape[1])

    def accuracy(band: int) -> float:
        chosen = spectra.values[:, [*order, band]]
        return float(cross_val_score(linear, chosen, spectra.truth, scoring="balanced_accuracy", cv=folds).mean())

    while len(order) < most:
        order.append(max((band for band in every if band not in order), key=accuracy))
    return order


def chosen_bands(run: Run, per_class: int = 20) -> xr.DataArray:
    """Bands by `greedy` on the training scenes (normalisation, rank), with "PN" and with "none"."""
    names = run.data.names("train")
    asked: dict[str, Any] = {"per_class": per_class, "seed": run.seed, "most": max(COUNTS)}
    build = partial(_choose, data=run.data, names=names, **asked)
    made = store.artefact("bands", build, {"data": run.data_key, "scenes": names, **asked})
    return read(made.folder / FILE)["band"]


def _choose(folder: Path, data: Source, names: Sequence[str], per_class: int, seed: int, most: int) -> None:
    raw = scene_spectra(data, names, per_class, seed)
    after = Spectra(normalised(raw.values), raw.truth, raw.scene, raw.classes)
    orders = [greedy(spectra, most) for spectra in (raw, after)]
    found = xr.DataArray(orders, {"normalisation": ["none", "PN"]}, ("normalisation", "rank"))
    found.to_dataset(name="band").to_netcdf(folder / FILE, engine="h5netcdf")


def _grid(run: Run) -> Sequence[Point]:
    chosen, centres = chosen_bands(run), run.data.sensor.wavelengths_nm.tolist()
    points = []
    for normalisation, suffix in (("none", ""), ("PN", "-PN")):
        names = {"all": "25", "PCA-1": "PCA-1", "PCA-3": "PCA-3"}
        for count in COUNTS:
            picked = sorted(chosen.sel(normalisation=normalisation).values[:count].tolist())
            for how, bands in (("even", even(centres, count)), ("greedy", picked)):
                names[f"{count} {how}"] = "bands:" + ",".join(map(str, bands))
        for channels, name in names.items():
            at = {"channels": channels, "normalisation": normalisation}
            points += [Point(run, name + suffix, seed, at) for seed in run.seeds]
    return points


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Percent (channels, normalisation, seed), and where it is of every class, (..., class)."""
    merits = 100 * scores(found["counts_of"].sel(region="all"))
    return merits[["iou", "mean_iou", "boundary_iou"]].assign(edge_cost=edge_cost(found["edge_counts"]))


STUDY = Study(
    file="channels.nc",
    about="1 to 25 bands, evenly spaced or chosen greedily, and principal components; with PN and without",
    grid=_grid,
    measures=(counts_of, edge_counts),
    reduce=_reduce,
)
