"""The paper's questions, asked of single spectra: of real road scenes, and of the run's.

The real ones are the training spectra of HSICityV2-Benchmark (github.com/iori2333/HSICityV2-Benchmark,
classification/svm): one mean spectrum of a class in one image, 128 bands over 450-950 nm, free exposure, no white
reference. No licence is stated for them, so they are not part of this project; a record of the answers is.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hsiutils.analysis.pixels import Spectra, Transform, pixel_confusion, pixel_scores, scene_spectra
from hsiutils.data.cube import pn_pixels
from hsiutils.data.files import stored_array
from hsiutils.data.inputs import ONE_BAND, THREE_BANDS
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.source import Source
from hsiutils.paper import store
from hsiutils.paper.study import FILE, neighbours, read

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

RECORD = Path(__file__).resolve().parents[2] / "data" / "results" / "spectra.json"
"""Written by benchmarks/spectra.py."""
INPUTS = ("1", "3", "all", "PN", "PN + intensity")
"""What a classifier is given: the paper's four inputs, and PN with the brightness that it takes away."""
QUESTIONS = (("3", "1"), ("all", "3"), ("PN", "all"), ("PN + intensity", "PN"), ("PN + intensity", "all"))
"""Pairs of inputs: what does the first gain over the second?"""
_FILES = ("X_train_hsi.npy", "y_train_hsi.npy")
_GRID_NM = np.linspace(450.0, 950.0, 128)
_WIDTH_NM = 8.0  # full width at half maximum, the middle of the sister sensors' peaks
REAL_CLASSES = ("Road", "Vegetation", "Sky", "Other")
_OF_CITYSCAPES = {0: 0, 8: 1, 9: 1, 10: 2}  # road, vegetation, terrain, sky; the other fifteen are Other


def _array(path: Path) -> NDArray[Any]:
    with stored_array(path) as stored:
        return stored.values()


def read_hsicity(folder: Path | str) -> tuple[Spectra, NDArray[np.float64]]:
    """Spectra of HSICityV2-Benchmark as those of HSI-Drive's bands that lie inside their range would read them.

    Rows run image by image with rising class numbers, so an image begins where the number does not rise.

    Returns
    -------
    Spectra
        Of 23 bands in HSI-Drive's native order, and the classes Road, Vegetation (with terrain), Sky and Other.
    NDArray
        Wavelengths of the bands, nm.

    Raises
    ------
    ValueError
        If a file is missing or is not what it should be; the message names it.
    """
    paths = [Path(folder) / name for name in _FILES]
    try:
        radiance, codes = map(_array, paths)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: expected the spectra of HSICityV2-Benchmark, {' and '.join(_FILES)}; {error}"
        ) from error
    if radiance.ndim != 2 or radiance.shape[1] != len(_GRID_NM) or codes.shape != radiance.shape[:1]:
        raise ValueError(
            f"{folder}: expected (n, {len(_GRID_NM)}) spectra and n classes, got {radiance.shape} and {codes.shape}"
        )
    codes = codes.astype(int)
    centres = HSI_DRIVE.wavelengths_nm
    centres = centres[(centres > _GRID_NM[0]) & (centres < _GRID_NM[-1])]
    responses = band_responses(centres, _GRID_NM)
    truth = np.array([_OF_CITYSCAPES.get(code, 3) for code in codes])
    image = np.cumsum(np.diff(codes, prepend=codes[:1] + 1) <= 0) - 1
    return Spectra(radiance.astype(float) @ responses.T, truth, image, REAL_CLASSES), centres


def band_responses(centres_nm: NDArray[np.floating[Any]], grid_nm: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Bell-shaped responses (band, wavelength) of sum 1 about these centres."""
    sigma = _WIDTH_NM / np.sqrt(8 * np.log(2))
    responses = np.exp(-(((grid_nm - centres_nm[:, None]) / sigma) ** 2) / 2)  # (band, wavelength)
    return np.asarray(responses / responses.sum(axis=1, keepdims=True))


def pixel_inputs(wavelengths_nm: NDArray[np.floating[Any]]) -> dict[str, Transform]:
    """`INPUTS` of spectra with these bands; where bands are picked, the nearest to HSI-Drive's."""
    wanted = HSI_DRIVE.wavelengths_nm
    one, three = (
        [int(np.abs(wavelengths_nm - wanted[band]).argmin()) for band in some] for some in (ONE_BAND, THREE_BANDS)
    )
    made: list[Transform] = [
        lambda values: values[:, one],
        lambda values: values[:, three],
        lambda values: values,
        normalised,
        lambda values: np.column_stack([normalised(values), _intensity(values)]),
    ]
    return dict(zip(INPUTS, made, strict=True))


def normalised(values: NDArray[np.floating[Any]], strength: float = 1.0) -> NDArray[np.float64]:
    """PN of spectra (n, bands)."""
    return pn_pixels(values.T, strength).T.astype(float)


def _intensity(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(values.sum(axis=1), 1e-6)))


def classifiers(spectra: Spectra) -> dict[str, BaseEstimator]:
    """A linear classifier and one that is not; both take all classes of the spectra as equally likely."""
    classes = len(np.unique(spectra.truth))
    support = make_pipeline(StandardScaler(), SVC(C=10.0, class_weight="balanced"))
    return {"linear": LinearDiscriminantAnalysis(priors=np.full(classes, 1 / classes)), "nonlinear": support}


def run_counts(run: "Run", per_class: int = 12) -> xr.DataArray:
    """Confusion of single pixels of the run's test scenes, by classifiers of those of its training scenes.

    Parameters
    ----------
    per_class : pixels that are drawn of each class of each scene.
    """
    splits = {split: run.data.names(split) for split in ("train", "test")}
    build = partial(_count, data=run.data, splits=splits, per_class=per_class, seed=run.seed)
    inputs = {"data": run.data_key, "scenes": splits, "per_class": per_class, "seed": run.seed}
    made = store.artefact("pixels", build, inputs)
    counts = read(made.folder / FILE)
    named = counts.assign_coords(scene=[splits["test"][place] for place in counts["scene"].values])
    return neighbours(run.data, named)["counts"]


def _count(folder: Path, data: Source, splits: Mapping[str, Sequence[str]], per_class: int, seed: int) -> None:
    learn, test = (_as_real(scene_spectra(data, splits[split], per_class, seed)) for split in ("train", "test"))
    counts = pixel_confusion(classifiers(learn), pixel_inputs(data.sensor.wavelengths_nm), learn, test)
    counts.to_dataset(name="counts").to_netcdf(folder / FILE, engine="h5netcdf")


def _as_real(spectra: Spectra) -> Spectra:
    """Spectra of the classes that the real ones have, in their order: a mean over others would not compare."""
    own = np.array([REAL_CLASSES.index(name) if name in REAL_CLASSES else -1 for name in spectra.classes])[
        spectra.truth
    ]
    return Spectra(spectra.values[own >= 0], own[own >= 0], spectra.scene[own >= 0], REAL_CLASSES)


def answers(counts: xr.DataArray, seed: int = 0) -> pd.DataFrame:
    """IoU of every input, and what one input gains over another, with 95 % bootstrap intervals over scenes.

    Parameters
    ----------
    counts : of `pixel_confusion` with `pixel_inputs`.
    seed : of the resampling.

    Returns
    -------
    DataFrame
        `classifier`, `what` (an input, or "PN - all"), `class` (the last is "mean"), `value`, `low`, `high`, in points.
    """
    parts = [pixel_scores(counts, seed)]
    for one, other in QUESTIONS:
        gained = pixel_scores(counts.sel(input=[one, other]), seed, against=other)
        parts.append(gained.assign_coords(input=[f"{one} - {other}"]))
    table = (100 * xr.concat(parts, "input")).rename(input="what").to_dataframe()
    return table.reset_index()


def findings(gains: pd.DataFrame) -> list[str]:
    """What PN, and brightness beside it, gain and lose, in sentences: of `answers`, mean of the classes, by `data`."""
    said = []
    for what, words in (("PN - all", "PN in the place of raw bands"), ("PN + intensity - PN", "brightness beside PN")):
        asked = gains[gains["what"] == what]
        where = asked["data"] + " spectra, " + asked["classifier"]
        sides = {"gains": asked["low"] > 0, "loses": asked["high"] < 0}
        sides["is not told from zero"] = ~(sides["gains"] | sides["loses"])
        parts = [
            f"{side} with {' and '.join(f'({one})' for one in where[told])}"
            for side, told in sides.items()
            if told.any()
        ]
        said.append(f"{words}: {'; '.join(parts) or 'not asked'}")
    return said


def real_answers(spectra: Spectra, wavelengths_nm: NDArray[np.floating[Any]], seed: int = 0) -> pd.DataFrame:
    """`answers` of spectra that are predicted in five folds of whole images."""
    return answers(pixel_confusion(classifiers(spectra), pixel_inputs(wavelengths_nm), spectra), seed)


def read_record(path: Path = RECORD, part: str = "answers") -> tuple[pd.DataFrame, str]:
    """The answers on real spectra, or another part of the record, and where and when they were found.

    Raises
    ------
    ValueError
        If the file is no such record.
    """
    try:
        record = json.loads(path.read_text())
        return pd.DataFrame(record[part]), f"{record['source']}, {record['images']} images, recorded {record['date']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no record of real spectra ({error!r}); a checkout of the repository has it in data/results, and "
            "python -m benchmarks.spectra makes it there"
        ) from error
