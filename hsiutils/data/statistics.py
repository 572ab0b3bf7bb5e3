"""A data set in tables and numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.classes import VOID
from hsiutils.data.cube import pn
from hsiutils.data.names import TRAITS
from hsiutils.data.sensor import band_table
from hsiutils.data.source import Source
from hsiutils.data.splits import SPLITS

_ENOUGH = 20
"""Pixels in sun, and in shadow, below which a scene says nothing about the two."""


def statistics(data: Source, names: Sequence[str]) -> xr.Dataset:
    """Summarise scenes, one at a time; pixels with a value that is not finite are left out.

    Returns
    -------
    Dataset of `frequency` (class), share of the labelled pixels; `mean` and `std` (band) of reflectance; `pn_mean` and
    `pn_max` (band) after per-pixel normalisation; `class_mean` and `class_std` (class, band) of reflectance; `shade`
    (band), median over the scenes of mean road reflectance in shadow over in sun, NaN where no shadows are known.
    """
    names, own, bands = list(names), data.classes.names, len(data.sensor.bands)
    road = own.index("Road") if "Road" in own else VOID
    count, first, second = np.zeros((len(own) + 1, 1)), *np.zeros((2, len(own) + 1, bands))  # the last row: all pixels
    shares, largest, ratios = np.zeros(bands), np.full(bands, -np.inf), []
    for name in names:
        cube, labels = data.cube(name), data.classes.merge(data.labels(name))
        measured = np.isfinite(cube.values).all(axis=0)
        if (lit := _sun_and_shadow(data, name, measured & (labels == road))) is not None:
            sun, shadow = (cube.values[:, mask].mean(axis=1) for mask in lit)
            ratios.append(shadow / sun)
        values, normalised = cube.values[:, measured].astype(float), pn(cube).values[:, measured]
        labels = labels[measured]
        shares += normalised.sum(axis=1, dtype=float)
        largest = np.maximum(largest, normalised.max(axis=1, initial=-np.inf))
        for row in range(len(count)):
            picked = values[:, labels == row] if row < len(own) else values
            count[row] += picked.shape[1]
            first[row] += picked.sum(axis=1)
            second[row] += (picked**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = first / count
        std = np.sqrt(np.maximum(second / count - mean**2, 0.0))
    known = np.array([ratio for ratio in ratios if np.isfinite(ratio).all()], dtype=float)
    return xr.Dataset(
        {
            "frequency": ("class", count[:-1, 0] / max(count[:-1].sum(), 1)),
            "mean": ("band", mean[-1]),
            "std": ("band", std[-1]),
            "pn_mean": ("band", shares / count[-1]),
            "pn_max": ("band", largest),
            "class_mean": (("class", "band"), mean[:-1]),
            "class_std": (("class", "band"), std[:-1]),
            "shade": ("band", np.median(known, axis=0) if len(known) else np.full(bands, np.nan)),
        },
        coords={"class": list(own), "wavelength": ("band", data.sensor.wavelengths_nm)},
    )


def spectrum_correlation(measured: xr.Dataset) -> float:
    """Pearson correlation over the bands between mean reflectance here, normalised to sum 1, and the released one."""
    released = band_table()["v2_mean_reflectance"].to_numpy()
    here = measured["mean"].values
    return float(np.corrcoef(here / here.sum(), released / released.sum())[0, 1])


def class_variability(measured: xr.Dataset) -> xr.DataArray:
    """Intra-class variability (class): spread of reflectance relative to its mean, averaged over the bands."""
    return (measured["class_std"] / measured["class_mean"]).mean("band").rename("variability")


def sun_and_shadow(data: Source, names: Sequence[str], class_name: str) -> xr.Dataset:
    """Mean spectra of one class in full sun and in full shadow, averaged over the scenes that have both.

    Returns
    -------
    Dataset of `reflectance` and `pn` (light, band), with the attribute `scenes`: how many had both.

    Raises
    ------
    ValueError
        If no scene has both, or the data set does not know its shadows.
    """
    index = data.classes.index(class_name)
    plain, normalised = [], []
    for name in names:
        cube = data.cube(name)
        own = (data.classes.merge(data.labels(name)) == index) & np.isfinite(cube.values).all(axis=0)
        if (lit := _sun_and_shadow(data, name, own)) is not None:
            plain.append([cube.values[:, mask].mean(axis=1) for mask in lit])
            normalised.append([pn(cube).values[:, mask].mean(axis=1) for mask in lit])
    if not plain:
        raise ValueError(f"none of {len(names)} {data.origin} scenes has {class_name} in sun and in shadow")
    means = {"reflectance": np.mean(plain, axis=0, dtype=float), "pn": np.mean(normalised, axis=0, dtype=float)}
    coords = {"light": ["sun", "shadow"], "wavelength": ("band", data.sensor.wavelengths_nm)}
    variables = {name: (("light", "band"), values) for name, values in means.items()}
    return xr.Dataset(variables, coords, {"scenes": len(plain)})


def _sun_and_shadow(
    data: Source, name: str, own: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Pixels of a class in full sun and in full shadow; None where a scene has too few, or nobody knows."""
    truth = data.truth(name)
    if truth is None:
        return None
    lit = truth["sunlit"].values
    sun, shadow = own & (lit > 0.95), own & (lit < 0.05)
    return (sun, shadow) if min(sun.sum(), shadow.sum()) >= _ENOUGH else None


def data_info(data: Source) -> pd.DataFrame:
    """What the data set is, without reading its images: one column `value`, indexed by what it says."""
    rows, columns = data.sensor.tiles
    low, high = np.sort(data.sensor.wavelengths_nm)[[0, -1]]
    bands = f"{len(data.sensor.bands)} bands, nominally {low:.1f}-{high:.1f} nm"
    splits = ", ".join(f"{(data.table['split'] == split).sum()} {split}" for split in SPLITS)
    facts = {
        "root": str(data.root),
        "origin": data.origin,
        "layout": data.layout,
        "scenes": f"{len(data.table)} ({splits})",
        "cubes": f"{bands}, {rows} x {columns} pixels, {data.units}",
        "classes": ", ".join(data.classes.names),
        **data.remarks(),
    }
    return pd.DataFrame({"value": facts})


def condition_table(data: Source) -> pd.DataFrame:
    """Number of scenes of every condition, by split and in all: indexed by (condition, value), columns the splits."""
    known = [what for what in TRAITS if what in data.table]
    tables = {what: pd.crosstab(data.table[what], data.table["split"]) for what in known}
    if not tables:
        return pd.DataFrame()
    counts = pd.concat(tables, names=["condition", "value"]).reindex(columns=list(SPLITS), fill_value=0)
    return counts.fillna(0).astype(int).assign(all=lambda table: table.sum(axis=1))


def class_table(data: Source) -> pd.DataFrame:
    """Share of the labelled pixels of each class, by split and in all, beside the published share where there is one.

    Reads every label image. The last row is the share of all pixels that have no label.
    """
    names = data.classes.names
    counts = {split: np.zeros(len(names) + 1, dtype=np.int64) for split in SPLITS}
    for name in data.names():
        classes = data.classes.merge(data.labels(name))
        own = np.bincount(np.where(classes == VOID, len(names), classes).ravel(), minlength=len(names) + 1)
        counts[str(data.table.at[name, "split"])] += own
    columns = {**counts, "all": np.sum(list(counts.values()), axis=0)}
    known = {split: own for split, own in columns.items() if own.any()}
    shares = {split: [*(own[:-1] / max(own[:-1].sum(), 1)), own[-1] / own.sum()] for split, own in known.items()}
    table = pd.DataFrame(shares, index=[*names, "unlabelled, of all pixels"])
    published = data.classes.frequencies
    return table if published is None else table.assign(published=[*published, np.nan])
