"""What a data set looks like in numbers, to hold simulated scenes against what is public of the real ones.

What a data set is: its release, size, splits, conditions and classes, as tables.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.classes import CLASSES, FREQUENCIES, VOID, merge
from hsiutils.data.cube import normalise
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.names import name_table
from hsiutils.data.sensor import band_table
from hsiutils.data.splits import SPLITS


def statistics(drive: HSIDrive, names: Sequence[str]) -> xr.Dataset:
    """Summarise scenes, one at a time.

    Parameters
    ----------
    drive, names : the scenes.

    Returns
    -------
    Dataset of `frequency` (class), share of the labelled pixels; `mean` and `std` (band) of reflectance; `pn_mean` and
    `pn_max` (band) after per-pixel normalisation; `class_mean` and `class_std` (class, band) of reflectance; `shade`
    (band), median over the scenes of mean road reflectance in shadow over in sun, NaN where no shadows are known.
    """
    sums = _Sums(len(drive.sensor.bands))
    shade = []
    for name in names:
        cube, labels = drive.cube(name), merge(drive.labels(name))
        sums.add(cube, labels)
        truth = drive.truth(name)
        if truth is not None:
            shade.append(_shade_ratio(cube.values, labels == 0, truth["sunlit"].values))
    ratio = np.array(shade) if shade else np.full((1, len(drive.sensor.bands)), np.nan)
    known = ratio[np.isfinite(ratio).all(axis=1)]
    median = np.median(known, axis=0) if len(known) else np.full(ratio.shape[1], np.nan)
    return sums.dataset().assign(shade=("band", median)).assign_coords(wavelength=("band", drive.sensor.wavelengths_nm))


def against_released(measured: xr.Dataset, origin: str) -> pd.DataFrame:
    """Hold statistics against what is public of HSI-Drive v2.0.

    Parameters
    ----------
    measured : of `statistics`.
    origin : "simulated" or "real", for the column's name.

    Returns
    -------
    A row per figure: name, value here, released value, ratio of the two.
    """
    released = band_table()
    rows = [
        (f"share of {name}", float(measured["frequency"][index]), FREQUENCIES[index])
        for index, name in enumerate(CLASSES)
    ]
    rows += [
        ("mean reflectance", float(measured["mean"].mean()), released["v2_mean_reflectance"].mean()),
        ("spread of reflectance", float(measured["std"].mean()), released["v2_std_reflectance"].mean()),
        ("largest PN value", float(measured["pn_max"].max()), released["pn_observed_max"].max()),
    ]
    table = pd.DataFrame(rows, columns=["figure", origin, "HSI-Drive v2.0"])
    return table.assign(ratio=table[origin] / table["HSI-Drive v2.0"])


def spectrum_correlation(measured: xr.Dataset) -> float:
    """Pearson correlation over the bands between mean reflectance here, normalised to sum 1, and the released one."""
    released = band_table()["v2_mean_reflectance"].to_numpy()
    here = measured["mean"].values
    return float(np.corrcoef(here / here.sum(), released / released.sum())[0, 1])


def class_variability(measured: xr.Dataset) -> xr.DataArray:
    """Intra-class variability (class): spread of reflectance relative to its mean, averaged over the bands."""
    return (measured["class_std"] / measured["class_mean"]).mean("band").rename("variability")


class _Sums:
    """Running sums over scenes, so that no more than one is in memory."""

    def __init__(self, bands: int) -> None:
        classes = len(CLASSES)
        self.count = np.zeros(classes)
        self.first, self.second = np.zeros((classes, bands)), np.zeros((classes, bands))
        self.pixels = 0
        self.all_first, self.all_second, self.pn = np.zeros(bands), np.zeros(bands), np.zeros(bands)
        self.pn_max = np.full(bands, -np.inf)

    def add(self, cube: xr.DataArray, labels: NDArray[np.uint8]) -> None:
        values = cube.values.reshape(len(cube), -1).astype(float)
        self.pixels += values.shape[1]
        self.all_first += values.sum(axis=1)
        self.all_second += (values**2).sum(axis=1)
        normalised = normalise(cube).values.reshape(len(cube), -1)
        self.pn += normalised.sum(axis=1, dtype=float)
        self.pn_max = np.maximum(self.pn_max, normalised.max(axis=1))
        for index in range(len(CLASSES)):
            own = values[:, (labels == index).ravel()]
            self.count[index] += own.shape[1]
            self.first[index] += own.sum(axis=1)
            self.second[index] += (own**2).sum(axis=1)

    def dataset(self) -> xr.Dataset:
        mean, std = _moments(self.pixels, self.all_first, self.all_second)
        with np.errstate(invalid="ignore", divide="ignore"):
            class_mean, class_std = _moments(self.count[:, None], self.first, self.second)
        return xr.Dataset(
            {
                "frequency": ("class", self.count / max(self.count.sum(), 1)),
                "mean": ("band", mean),
                "std": ("band", std),
                "pn_mean": ("band", self.pn / self.pixels),
                "pn_max": ("band", self.pn_max),
                "class_mean": (("class", "band"), class_mean),
                "class_std": (("class", "band"), class_std),
            },
            coords={"class": list(CLASSES)},
        )


def _moments(
    count: float | NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = first / count
    return mean, np.sqrt(np.maximum(second / count - mean**2, 0.0))


def _shade_ratio(
    cube: NDArray[np.float32], road: NDArray[np.bool_], sunlit: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean road reflectance in full shadow over in full sun, per band; NaN where a scene lacks one of them."""
    shadow, sun = road & (sunlit < 0.05), road & (sunlit > 0.95)
    if min(shadow.sum(), sun.sum()) < 20:
        return np.full(len(cube), np.nan)
    return np.asarray(cube[:, shadow].mean(axis=1) / cube[:, sun].mean(axis=1), dtype=float)


def sun_and_shadow(drive: HSIDrive, names: Sequence[str], class_index: int) -> xr.Dataset:
    """Mean spectra of one class in full sun and in full shadow, averaged over the scenes that have both.

    Returns
    -------
    Dataset of `reflectance` and `pn` (light, band), with the attribute `scenes`: how many had both.

    Raises
    ------
    ValueError
        If no scene has both, or the data set does not know its shadows.
    """
    spectra = [pair for name in names if (pair := _sun_shadow_pair(drive, name, class_index)) is not None]
    if not spectra:
        raise ValueError(f"none of {len(names)} {drive.origin} scenes has {CLASSES[class_index]} in sun and in shadow")
    coords = {"light": ["sun", "shadow"], "wavelength": ("band", drive.sensor.wavelengths_nm)}
    mean = np.mean([pair[0] for pair in spectra], axis=0), np.mean([pair[1] for pair in spectra], axis=0)
    variables = {"reflectance": (("light", "band"), mean[0]), "pn": (("light", "band"), mean[1])}
    return xr.Dataset(variables, coords, {"scenes": len(spectra)})


def _sun_shadow_pair(
    drive: HSIDrive, name: str, class_index: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    truth = drive.truth(name)
    if truth is None:
        return None
    cube, own = drive.cube(name), merge(drive.labels(name)) == class_index
    lit = truth["sunlit"].values
    masks = [own & (lit > 0.95), own & (lit < 0.05)]
    if min(mask.sum() for mask in masks) < 20:
        return None
    normalised = normalise(cube).values
    plain = np.stack([cube.values[:, mask].mean(axis=1) for mask in masks])
    return plain.astype(float), np.stack([normalised[:, mask].mean(axis=1) for mask in masks]).astype(float)


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
    """Where the splits come from, as `hsiutils.data.splits.split_scenes` chose them."""
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
