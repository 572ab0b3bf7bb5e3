"""What chapter 1 says of the sensor: its long-pass filter, and how like real scenes the simulated ones are.

A statistic of the scenes that a parameter of the simulator was chosen by is *fitted*, and no agreement. One that was in
view while a parameter was chosen, or follows from fitted ones, was *seen*, and its agreement counts apart. The others
are *tests*.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter, uniform_filter

from hsiutils.analysis.intervals import interval
from hsiutils.data.classes import CLASSES, FREQUENCIES
from hsiutils.data.cube import pn
from hsiutils.data.sensor import HSI_DRIVE, band_table
from hsiutils.data.source import Source, open_dataset
from hsiutils.data.statistics import spectrum_correlation, statistics
from hsiutils.paper.run import Run, simulated
from hsiutils.paper.spectra import band_responses
from hsiutils.paper.study import neighbours
from hsiutils.simulate import Simulation, draw_names
from hsiutils.simulate.bench import pn_errors
from hsiutils.simulate.light import GRID_NM, STANDARD, illuminate

LONG_PASS_NM = Simulation().long_pass_nm
"""Edge of the filter that the book simulates; None for none."""
FILTER_SCENES, FILTER_TILES = 12, (32, 64)
"""How many scenes are simulated with and without it, and their (rows, columns)."""


def long_pass_evidence(run: Run, scenes: int = FILTER_SCENES) -> pd.DataFrame:
    """Does the camera carry a long-pass filter? HSI-Drive does not say; its released mean spectrum can tell.

    A few scenes are simulated with and without the filter: a row for each, filter and correlation of its mean spectrum,
    over the 25 bands, with HSI-Drive v2.0's mean reflectance.
    """
    names = draw_names(scenes, run.seed)
    rows = []
    for edge in (LONG_PASS_NM, None):
        made = simulated(names, Simulation(seed=run.seed, tiles=FILTER_TILES, long_pass_nm=edge))
        summary = statistics(open_dataset(made.folder), names)
        rows.append(("none" if edge is None else f"long-pass at {edge:.0f} nm", spectrum_correlation(summary)))
    return pd.DataFrame(rows, columns=["filter", "correlation"])


def daylight(responses: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """How clr spectra of a camera move as daylight changes, by SPECTRL2: from sun to skylight, and with a lower sun.

    Parameters
    ----------
    responses : (bands, wavelengths) on `GRID_NM`; None for the camera that the book simulates.

    Returns
    -------
    (2, bands) directions of the centred log-ratio: skylight minus sun and sky together at equinox noon, and those two
    together four hours after noon minus at noon.
    """
    weights = Simulation().camera.weights if responses is None else responses
    noon, later = (illuminate(replace(STANDARD, time=STANDARD.time + pd.Timedelta(hours=hours)), 0) for hours in (0, 4))
    logs = [np.log(weights @ light) for light in (noon.diffuse, noon.horizontal, later.horizontal)]
    sky, both, low = (one - one.mean() for one in logs)
    return np.stack([sky - both, low - both])


def real_daylight(wavelengths_nm: NDArray[np.floating]) -> NDArray[np.float64]:
    """`daylight` of the bands as which `hsiutils.paper.spectra.read_hsicity` reads the real spectra."""
    return daylight(band_responses(wavelengths_nm, GRID_NM))


class Statistic(NamedTuple):
    """A figure of a data set, and its real value.

    Attributes
    ----------
    needs : variables of `measured`, separated by spaces.
    of : a Dataset of these, reducing `scene`.
    real : NaN where it is not known.
    source : of the real value.
    fitted : which parameter of the simulator was chosen by it; empty for none.
    seen : which one was chosen with it in view, or by the figures that it is made of; empty for none.
    """

    name: str
    needs: str
    of: Callable[[xr.Dataset], xr.DataArray]
    real: float
    source: str
    fitted: str = ""
    seen: str = ""


_SUMS = {"pixels", "labelled", "first", "second", "tail"}
"""Variables of `measured` that are pooled over scenes."""
_BINS = 500
"""Of the histograms of PN, 0..`_TOP`."""
_TOP = 0.5
_SEEN_BY_ALL = HSI_DRIVE.wavelengths_nm < 947
"""The 23 bands that the road scenes of HSICity cover, too (450-950 nm)."""
_FEWEST = 20
"""Pixels of a class below which a scene says nothing about it."""


def measured(data: Source, names: Sequence[str]) -> xr.Dataset:
    """What the statistics of chapter 1 need of every scene.

    Returns
    -------
    Dataset over `scene` of `pixels` and `labelled` (class), how many; sums of reflectance `first` (band) and of its
    products `second` (band, other); mean `spectrum` (class, band); `rough` (class, of: "PN", "intensity"), standard
    deviation in 3 x 3 pixels over their mean, median over pixels and bands; `tail` (band, bin) histogram and `largest`
    (band) of PN; `thickness` of road marks along their ridge, pixels. NaN where a class has too few pixels. Pixels with
    a value that is not finite are left out.
    """
    return xr.concat([_of_scene(data, name) for name in names], "scene").assign_coords(scene=list(names))


def _of_scene(data: Source, name: str) -> xr.Dataset:
    cube, labels = data.cube(name), data.classes.merge(data.labels(name))
    known = np.isfinite(cube.values).all(axis=0)
    values, normalised = np.where(known, cube.values, np.float32(0)), pn(cube).values
    bands, own = len(values), data.classes.names
    flat = values[:, known].astype(float)
    rough = _roughness(normalised), _roughness(values.mean(axis=0, keepdims=True))
    spectrum, smooth = np.full((len(own), bands), np.nan), np.full((len(own), 2), np.nan)
    for index in range(len(own)):
        mask = known & (labels == index)
        inside = minimum_filter(mask, 3)  # whose 3 x 3 neighbours are of the class, too
        if mask.sum() >= _FEWEST:
            spectrum[index] = values[:, mask].mean(axis=1)
        if inside.sum() >= _FEWEST:
            smooth[index] = [np.median(one[:, inside]) for one in rough]
    marks = labels == own.index("Road Marks") if "Road Marks" in own else np.zeros_like(labels, dtype=bool)
    depth = distance_transform_edt(marks)
    ridge = marks & (depth == maximum_filter(depth, 3))
    tails = [np.histogram(band, _BINS, (0, _TOP))[0] for band in np.clip(normalised[:, known], 0, _TOP)]
    return xr.Dataset(
        {
            "pixels": float(flat.shape[1]),
            "labelled": ("class", [float((known & (labels == index)).sum()) for index in range(len(own))]),
            "first": ("band", flat.sum(axis=1)),
            "second": (("band", "other"), flat @ flat.T),
            "spectrum": (("class", "band"), spectrum),
            "rough": (("class", "of"), smooth),
            "tail": (("band", "bin"), np.array(tails, dtype=np.float32)),
            "largest": ("band", normalised.max(axis=(1, 2))),
            "thickness": float(np.mean(2 * depth[ridge] - 1)) if ridge.sum() >= _FEWEST else np.nan,
        },
        {"class": list(own), "of": ["PN", "intensity"]},
    )


def _roughness(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation in 3 x 3 pixels over their mean, of (channels, rows, columns)."""
    mean = uniform_filter(image, (0, 3, 3))
    spread = np.sqrt(np.maximum(uniform_filter(image**2, (0, 3, 3)) - mean**2, 0))
    return np.asarray(spread / np.maximum(mean, 1e-9))


def _share(class_name: str) -> Callable[[xr.Dataset], xr.DataArray]:
    def of(data: xr.Dataset) -> xr.DataArray:
        counts = data["labelled"].sum("scene")
        return counts.sel({"class": class_name}) / counts.sum("class")

    return of


def _rough(class_name: str, of: str) -> Callable[[xr.Dataset], xr.DataArray]:
    return lambda data: data["rough"].sel({"class": class_name, "of": of}).median("scene")


def _mean_reflectance(data: xr.Dataset) -> xr.DataArray:
    return data["first"].sum("scene") / data["pixels"].sum("scene")


def _moments(data: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Mean (band), covariance (band, other) and standard deviation (band) over all pixels."""
    mean = _mean_reflectance(data)
    covariance = data["second"].sum("scene") / data["pixels"].sum("scene") - mean * mean.rename(band="other")
    diagonal = covariance.isel(band=xr.DataArray(np.arange(25), dims="b"), other=xr.DataArray(np.arange(25), dims="b"))
    return mean, covariance, diagonal.rename(b="band") ** 0.5


def _correlation(data: xr.Dataset) -> xr.DataArray:
    """One minus the mean over pairs of different bands of their correlation over pixels."""
    _, covariance, std = _moments(data)
    count = std.sizes["band"]
    found = covariance / (std * std.rename(band="other"))
    return 1 - (found.sum(["band", "other"]) - count) / (count * (count - 1))


def _cv_over_pixels(data: xr.Dataset) -> xr.DataArray:
    mean, _, std = _moments(data)
    return (std / mean).mean("band")


def _between_images(class_name: str, normalise: bool, robust: bool) -> Callable[[xr.Dataset], xr.DataArray]:
    """Spread of a class's mean spectrum from image to image over its mean: median over the bands seen by all.

    By standard deviation, or by quartiles (their distance over 1.349 and over the median), which outliers leave alone.
    """

    def of(data: xr.Dataset) -> xr.DataArray:
        spectrum = data["spectrum"].sel({"class": class_name}).isel(band=_SEEN_BY_ALL)
        spectrum = spectrum / spectrum.sum("band", skipna=False) if normalise else spectrum
        if not robust:
            return (spectrum.std("scene") / spectrum.mean("scene")).median("band")
        quarter = spectrum.quantile([0.25, 0.5, 0.75], "scene")
        low, middle, high = (quarter.isel(quantile=index, drop=True) for index in range(3))
        return ((high - low) / 1.349 / middle).median("band")

    return of


def _band_means(data: xr.Dataset) -> xr.DataArray:
    """Mean spectrum over the released one, both of sum 1."""
    mean, released = _mean_reflectance(data), _released("v2_mean_reflectance")
    return mean / mean.sum("band") / (released / released.sum())


def _released(column: str) -> xr.DataArray:
    return xr.DataArray(band_table()[column].to_numpy(), dims="band")


def _pn_tail(data: xr.Dataset) -> xr.DataArray:
    """The 99.9th percentile of PN over the clip limit, median over bands."""
    rising = data["tail"].sum("scene").cumsum("bin")
    place = (rising < 0.999 * rising.isel(bin=-1)).sum("bin") + 1
    return (place * (_TOP / _BINS) / _released("pn_clip_max")).median("band")


_RELEASED = "HSI-Drive v2.0, released figures"
_FRAME = "one frame of an imec 5 x 5 NIR chip over trees, 8 bit (swisssmartfarming)"
_CITY = "about 1,000 road scenes, free exposure (HSICity)"
_AUTHORS = "HSI-Drive v2.0, limits of the authors; 752 images"


def known_statistics() -> Iterator[Statistic]:
    """Every figure of the scenes of which something is known, or worth knowing, in reality."""
    released = band_table()
    level, deviation = released["v2_mean_reflectance"], released["v2_std_reflectance"]
    for name, share in zip(CLASSES, FREQUENCIES, strict=True):
        yield Statistic(f"share of {name}", "labelled", _share(name), share, _RELEASED, "what stands where")
    yield Statistic(
        "thickness of marks (pixels)",
        "thickness",
        lambda data: data["thickness"].mean("scene"),
        np.nan,
        "not known; 2.4 to 2.6 as simulated at 216 x 409",
        "width of marks",
    )
    means = "pixels first"
    for name, of, real, fitted in (
        ("mean reflectance", lambda data: _mean_reflectance(data).mean("band"), float(level.mean()), "metering"),
        (
            "mean spectrum: correlation over bands",
            lambda data: xr.corr(_mean_reflectance(data), _released("v2_mean_reflectance"), "band"),
            1.0,
            "long-pass filter",
        ),
        ("mean spectrum: lowest band over real", lambda data: _band_means(data).min("band"), 1.0, ""),
        ("mean spectrum: highest band over real", lambda data: _band_means(data).max("band"), 1.0, ""),
    ):
        yield Statistic(name, means, of, real, _RELEASED, fitted)
    moments = "pixels first second"
    yield Statistic(
        "variation of reflectance over pixels", moments, _cv_over_pixels, float((deviation / level).mean()), _RELEASED
    )
    yield Statistic("1 - correlation of bands over pixels", moments, _correlation, 0.017, "HSI-Drive v1")
    for what, real in (("intensity", 0.063), ("PN", 0.025)):
        plants = f"roughness of {what}, vegetation"
        yield Statistic(plants, "rough", _rough("Vegetation", what), real, _FRAME, "texture of plants")
    yield Statistic(
        "roughness of PN over that of intensity, vegetation",
        "rough",
        lambda data: _rough("Vegetation", "PN")(data) / _rough("Vegetation", "intensity")(data),
        0.39,
        _FRAME,
        seen="texture of plants",
    )
    for name in ("Road", "Road Marks"):
        yield Statistic(f"roughness of PN, {name.lower()}", "rough", _rough(name, "PN"), np.nan, "not known")
    for name, quartiles, plain, exposed, chosen in (
        ("Road", 0.054, 0.087, 1.20, ("spread of light", "")),
        ("Vegetation", 0.057, 0.065, 0.77, ("", "spread of light")),
    ):
        what = f"of {name.lower()} between images"
        robust = _between_images(name, True, True)
        yield Statistic(f"PN {what}, by quartiles", "spectrum", robust, quartiles, _CITY, *chosen)
        yield Statistic(f"PN {what}", "spectrum", _between_images(name, True, False), plain, _CITY, *chosen)
        yield Statistic(f"reflectance {what}", "spectrum", _between_images(name, False, False), exposed, _CITY)
    yield Statistic(
        "largest PN over that observed, median band",
        "largest",
        lambda data: (data["largest"].max("scene") / _released("pn_observed_max")).median("band"),
        1.0,
        _AUTHORS,
    )
    yield Statistic("99.9th percentile of PN over the clip limit, median band", "tail", _pn_tail, 1.0, _AUTHORS)


def likeness(data: Source, names: Sequence[str], seed: int = 0, close: float = 0.1) -> pd.DataFrame:
    """Hold scenes against what is known of real ones.

    Parameters
    ----------
    close : how far, relative to it, the real value may lie outside the interval and the two still agree; the real
        values have no intervals of their own.

    Returns
    -------
    A row a statistic: `figure`, `row` ("fitted", "seen" or "test"), `here`, `low` and `high` (95 % of bootstrapped
    scenes), `real`, `agrees` ("yes", "nearly" where it is `close`, or "no"; empty where it was fitted, or no real value
    is known), `chosen with it` (the parameter that was fitted, or chosen with it in view) and `source` of the real
    value.
    """
    found, rows = neighbours(data, measured(data, names)), []
    for one in known_statistics():
        own = found[one.needs.split()]
        estimate = interval(
            own, one.of, seed=seed, resamples=400, method="percentile", pools=_SUMS.issuperset(own.data_vars)
        )
        value, low, high = (float(estimate[key]) for key in ("value", "low", "high"))
        off = max(low - one.real, one.real - high)
        close_enough = "yes" if off <= 0 else "nearly" if off <= close * abs(one.real) else "no"
        agrees = "" if one.fitted or np.isnan(one.real) else close_enough
        kind = "fitted" if one.fitted else "seen" if one.seen else "test"
        rows.append((one.name, kind, value, low, high, one.real, agrees, one.fitted or one.seen, one.source))
    columns = ["figure", "row", "here", "low", "high", "real", "agrees", "chosen with it", "source"]
    return pd.DataFrame(rows, columns=columns)


def agreeing(table: pd.DataFrame) -> str:
    """How many rows of `likeness` agree with what is real, in a sentence; those that were seen are counted apart."""
    tests, seen = (table.loc[(table["row"] == kind) & (table["agrees"] != ""), "agrees"] for kind in ("test", "seen"))
    agree, near = (tests != "no").sum(), (tests == "nearly").sum()
    told = f"of {len(tests)} tests that were not seen while choosing, {agree} agree{'s' if agree == 1 else ''}"
    told += "" if not near else ", and only nearly" if near == agree else f" ({near} of them nearly)"
    return f"{told}; of {len(seen)} that were seen, {(seen != 'no').sum()}, which counts for little"


def errors_of_pn(run: Run, scenes: int = 4) -> pd.DataFrame:
    """Noise and displacement of bands in scenes as the run simulates them, by `hsiutils.simulate.bench.pn_errors`."""
    return pn_errors(draw_names(scenes, run.seed), run.simulation)
