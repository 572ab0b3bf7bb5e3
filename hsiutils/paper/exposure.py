"""How much must light vary before PN pays? Every image of labelled spectra is made brighter or darker as a whole.

PN takes away a factor on a pixel, so its scores stay the same at any exposure, and those of raw bands fall. The sweep
starts from the images as they are: factors of growing spread for simulated scenes, which one camera exposed alike, and
an exposure that is taken back in part for real ones, which had it free.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.analysis.intervals import interval, with_mean
from hsiutils.analysis.pixels import Spectra, pixel_confusion, scene_spectra
from hsiutils.data.source import Source
from hsiutils.models.metrics import iou
from hsiutils.paper import store
from hsiutils.paper.spectra import REAL_CLASSES, classifiers, normalised
from hsiutils.paper.study import FILE, read

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

JITTERS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.9, 1.2)
"""Standard deviations of the logarithm of the factor on an image."""
DRAWS = 3
"""Times that every image of a sweep gets another factor."""
TAKEN_BACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Exponents on an image's mean brightness, by which its spectra are divided."""


def exposure_spread(spectra: Spectra, class_name: str = "Road") -> float:
    """Standard deviation over images of the logarithm of a class's mean brightness.

    Of a class of one material in nearly every image; what is left of the light after the choice of exposure. A
    coefficient of variation is about the same where it is small, and sqrt(exp(spread^2) - 1) of a log-normal one.
    """
    own = spectra.truth == spectra.classes.index(class_name)
    brightness = pd.Series(spectra.values[own].mean(axis=1)).groupby(spectra.scene[own]).mean()
    return float(np.log(brightness).std())


def spread_of(run: "Run", name: str, seed: int) -> xr.Dataset:
    """`exposure_spread` of the run's training and test scenes together, as `spread`: the same for every network."""
    splits = {split: run.data.names(split) for split in ("train", "test")}
    asked: dict[str, Any] = {"splits": splits, "seed": run.seed}
    made = store.artefact("spread", partial(_spread, data=run.data, **asked), {"data": run.data_key, **asked})
    return read(made.folder / FILE)


def _spread(
    folder: Path, data: Source, splits: Mapping[str, Sequence[str]], seed: int, per_class: tuple[int, int] = (3, 12)
) -> None:
    parts = [scene_spectra(data, names, count, seed) for names, count in zip(splits.values(), per_class, strict=True)]
    found = xr.Dataset({"spread": exposure_spread(_together(*parts))})
    found.to_netcdf(folder / FILE, engine="h5netcdf")


def exposed(spectra: Spectra, factors: NDArray[np.floating[Any]]) -> Spectra:
    """The spectra with every image as much brighter as its factor (image,) says."""
    values = spectra.values * factors[spectra.scene][:, None]
    return Spectra(values, spectra.truth, spectra.scene, spectra.classes)


def jittered(
    learn: Spectra, test: Spectra, seed: int, jitters: Sequence[float] = JITTERS, draws: int = DRAWS
) -> xr.DataArray:
    """Confusion of test spectra as images get random factors, those to learn from and those to predict alike.

    Parameters
    ----------
    learn, test : of other scenes; values are the bands.
    seed : of the factors; they grow from step to step, and keep their order.

    Returns
    -------
    DataArray (classifier, step, input, scene, truth, predicted) of counts, sums over the draws; input is "raw" or "PN".
    The coordinate `spread` along step is the mean `exposure_spread` over the draws.
    """
    kinds = classifiers(learn)
    fixed = draws * pixel_confusion(kinds, {"PN": normalised}, learn, test)  # at any exposure
    steps, spread = [], []
    for jitter in jitters:
        rng = np.random.default_rng(seed)
        parts, found = [], []
        for _ in range(draws):
            factors = [np.exp(jitter * rng.standard_normal(one.scene.max() + 1)) for one in (learn, test)]
            one, other = (exposed(*pair) for pair in zip((learn, test), factors, strict=True))
            parts.append(pixel_confusion(kinds, {"raw": _raw}, one, other))
            found.append(exposure_spread(_together(one, other)))
        steps.append(xr.concat([sum(parts[1:], parts[0]), fixed], "input"))
        spread.append(np.mean(found))
    return xr.concat(steps, "step").assign_coords(spread=("step", spread))


def taken_back(spectra: Spectra, exponents: Sequence[float] = TAKEN_BACK, folds: int = 5) -> xr.DataArray:
    """`jittered` of spectra with free exposure, which is taken back in part: divided by (image's mean)^exponent.

    The spectra are predicted in folds of whole images; an image's mean is that over the spectra of its classes.
    """
    kinds, brightness = classifiers(spectra), frame_brightness(spectra)
    fixed = pixel_confusion(kinds, {"PN": normalised}, spectra, folds=folds)
    steps, spread = [], []
    for exponent in exponents:
        one = exposed(spectra, brightness**-exponent)
        steps.append(xr.concat([pixel_confusion(kinds, {"raw": _raw}, one, folds=folds), fixed], "input"))
        spread.append(exposure_spread(one))
    return xr.concat(steps, "step").assign_coords(spread=("step", spread))


def frame_brightness(spectra: Spectra) -> NDArray[np.float64]:
    """Mean over the spectra and bands of each image: (image,); 1 where a number has no spectra."""
    count = np.bincount(spectra.scene)
    total = np.bincount(spectra.scene, spectra.values.mean(axis=1))
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


def gains(counts: xr.DataArray, seed: int) -> xr.Dataset:
    """IoU of PN minus that of raw bands, by step and class: value, low, high in points.

    The last class is "mean": over those classes that real and simulated spectra share, so without road marks.
    """
    return interval(counts, _gain, seed=seed, method="percentile", pools=True).assign_coords(spread=counts["spread"])


def curve(counts: xr.DataArray, seed: int = 0) -> pd.DataFrame:
    """`gains` as a long table: classifier, spread, class, value, low, high."""
    table = gains(counts, seed).to_dataframe().reset_index()
    return table[["classifier", "spread", "class", "value", "low", "high"]]


def courses(table: pd.DataFrame, name: str = "of", value: str = "value") -> list[str]:
    """Where each curve of a table crosses zero, in a sentence a curve, linear between its points.

    Parameters
    ----------
    table : a row a point, with the columns `spread`; `name`, of the curve; and `value`, in points.
    """
    said = []
    for curve_name, own in table.groupby(name, sort=False):
        own = own.sort_values("spread")
        spread, gain = (own[column].to_numpy(dtype=float) for column in ("spread", value))
        ends = f"{gain.min():+.1f} to {gain.max():+.1f} points"
        turns = np.flatnonzero((gain[1:] > 0) != (gain[:-1] > 0))
        if not turns.size:
            said.append(f"{curve_name}: PN {'gains' if gain[0] > 0 else 'costs'} at every spread, {ends}")
            continue
        at = spread[turns] - gain[turns] * np.diff(spread)[turns] / np.diff(gain)[turns]
        ways = ["gains" if gain[i + 1] > 0 else "costs" for i in turns]
        told = ", and ".join(f"{way} from a spread of {place:.2f} on" for way, place in zip(ways, at, strict=True))
        said.append(f"{curve_name}: PN {told}, {ends}")
    return said


def crossing(counts: xr.DataArray, seed: int) -> xr.Dataset:
    """Spread from which on PN gains, linear between the steps, with its bootstrap interval over scenes.

    Returns
    -------
    Dataset of value, low, high (classifier, class); the first spread where PN gains at every step, infinite where it
    does not even at the last. Bounds are NaN where more than one resample in twenty never crosses.
    """
    spread = counts["spread"].values

    def rises(gain: NDArray[np.float64]) -> float:
        below = np.flatnonzero(~(gain > 0))
        if not below.size:
            return float(spread[0])
        if (last := below[-1]) == len(gain) - 1:
            return np.inf
        return float(np.interp(0, gain[last : last + 2], spread[last : last + 2]))

    def where(drawn: xr.Dataset) -> xr.DataArray:
        found: xr.DataArray = xr.apply_ufunc(rises, _gain(drawn), input_core_dims=[["step"]], vectorize=True)
        return found

    return interval(counts.drop_vars("spread"), where, seed=seed, method="percentile", pools=True)


def _gain(drawn: xr.Dataset) -> xr.DataArray:
    per_class = 100 * iou(drawn["value"].sum("scene"))
    gain = per_class.sel(input="PN", drop=True) - per_class.sel(input="raw", drop=True)
    shared = [name for name in gain["class"].values if name in REAL_CLASSES]
    return with_mean(gain, of=gain.sel({"class": shared}))


def _raw(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return values


def _together(one: Spectra, other: Spectra) -> Spectra:
    scene = np.concatenate([one.scene, other.scene + one.scene.max() + 1])
    values, truth = np.concatenate([one.values, other.values]), np.concatenate([one.truth, other.truth])
    return Spectra(values, truth, scene, one.classes)
