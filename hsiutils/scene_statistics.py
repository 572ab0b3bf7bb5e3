"""What a data set looks like in numbers, to hold simulated scenes against what is public of the real ones."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.classes import CLASSES, FREQUENCIES, merge
from hsiutils.cube import normalise
from hsiutils.dataset import HSIDrive
from hsiutils.sensor import band_table


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
