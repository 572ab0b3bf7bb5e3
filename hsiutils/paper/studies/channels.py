"""How many channels, and which: bands evenly spaced or chosen one by one by a linear classifier, or components.

Each with PN and without. PN divides by the sum over all bands, as a camera that has them can; of fewer bands the
network sees only those.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.model_selection import GroupKFold, cross_val_score

from hsiutils.analysis.estimates import holm
from hsiutils.analysis.pixels import Spectra, scene_spectra
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.source import Source
from hsiutils.paper import store
from hsiutils.paper.designs import MARKS, MEAN, marks_figures
from hsiutils.paper.robustness import edge_counts
from hsiutils.paper.run import Run
from hsiutils.paper.spectra import classifiers, normalised
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.study import FILE, read
from hsiutils.paper.table1 import counts_of
from hsiutils.paper.tradeoff import figures, gaps, kept

COUNTS = (1, 3, 5, 9, 15)
"""Bands that are picked, beside all."""
FOLDS = 3
_BANDS = len(HSI_DRIVE.bands)
SEEDS = 2
"""Networks of each input: two, so that the grid can be made on a few cores."""


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
            points += [Point(run, name + suffix, seed, at) for seed in run.seeds[:SEEDS]]
    return points


def curves(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """`figures` of the record along the number of channels.

    The variance between seeds is taken to be one for all choices of bands, apart for PN and without: with PN some
    trainings find no marks.

    Returns
    -------
    With the columns `count`, of channels, and `how` they were chosen: "even", "greedy" or "components", and ", PN"
    where it came first. All bands are the end of both ways.
    """
    table = figures(found, seed, pooled=("channels",))
    told = table["channels"].str.extract(r"^(?:PCA-)?(?P<count>\d+) ?(?P<how>\w*)$")
    table = table.assign(count=told["count"].astype(float), how=told["how"].replace("", "components"))
    whole = table[table["channels"] == "all"]
    ends = [whole.assign(count=float(_BANDS), how=how) for how in ("even", "greedy")]
    table = pd.concat([table[table["channels"] != "all"], *ends], ignore_index=True)
    return table.assign(how=table["how"] + table["normalisation"].map({"none": "", "PN": ", PN"}))


def finding(found: xr.Dataset, seed: int) -> str:
    """What fewer channels cost without PN, whether one component is best, and what PN costs marks, in words."""
    against = gaps(found.sel(normalisation="none", drop=True), "channels", MEAN, "all", seed, pooled=True)
    p = dict(zip(against, holm(gap.p_value() for gap in against.values()), strict=True))
    equal = [name for name in against if p[name] >= 0.05]
    one = against["PCA-1"]
    marks = marks_figures(found["confusion"].sel(region="all", drop=True)).sel(figure=MARKS).mean("seed")
    lost = marks.sel(normalisation="none") - marks.sel(normalisation="PN")
    told = "cannot be told from them" if p["PCA-1"] >= 0.05 else "is better" if one.mean > 0 else "is worse"
    return (
        f"mean IoU against all {_BANDS} bands, without PN: one principal component {told} ({one.mean:+.1f} points "
        f"[{one.low:+.1f}, {one.high:+.1f}]); not told from them after Holm: {', '.join(equal) or 'none'}\n"
        f"IoU of marks: PN lowers it in {int((lost > 0).sum())} of {lost.size} choices, "
        f"by {float(lost.min()):.0f} to {float(lost.max()):.0f} points"
    )


STUDY = Study(
    file="channels.nc",
    about="1 to 25 bands, evenly spaced or chosen greedily, and principal components; with PN and without",
    grid=_grid,
    measures=(counts_of, edge_counts),
    reduce=kept,
)
