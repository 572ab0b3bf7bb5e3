"""Classes told from single spectra: what the bands alone know, without space, without a network, without a seed.

A classifier of single pixels answers questions about inputs (how many bands? normalised or not?) in seconds, and its
only chance is which scenes were drawn. What it finds is a statement about the spectra, not about a network, which sees
their neighbours, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold, cross_val_predict

from hsiutils.analysis.intervals import interval, with_mean
from hsiutils.data.source import Source
from hsiutils.models.metrics import iou

Transform = Callable[[NDArray[np.floating[Any]]], NDArray[np.floating[Any]]]
"""Of spectra (n, bands) to what the classifier is given (n, features)."""


@dataclass(frozen=True)
class Spectra:
    """Labelled spectra, each of a scene.

    Attributes
    ----------
    values : (n, bands).
    truth : (n,) indices of `classes`.
    scene : (n,) number of the scene or image that a spectrum comes from.
    classes : names.
    """

    values: NDArray[np.floating[Any]]
    truth: NDArray[np.integer[Any]]
    scene: NDArray[np.integer[Any]]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not len(self.values) == len(self.truth) == len(self.scene):
            raise ValueError(
                "spectra need values (n, bands), truth (n,) and scene (n,), got "
                f"{self.values.shape}, {self.truth.shape} and {self.scene.shape}"
            )
        if not np.isfinite(self.values).all():
            raise ValueError(f"{np.count_nonzero(~np.isfinite(self.values))} values of the spectra are not finite")
        if len(self.truth) and not 0 <= self.truth.min() <= self.truth.max() < len(self.classes):
            raise ValueError(f"truth must be an index of the {len(self.classes)} classes {self.classes}")


def scene_spectra(
    data: Source,
    names: Sequence[str],
    per_class: int = 200,
    seed: int = 0,
    of: Callable[[str, xr.DataArray], NDArray[np.floating[Any]]] | None = None,
) -> Spectra:
    """Spectra of every class of every scene.

    Parameters
    ----------
    names : of scenes; a scene's number is its place among them.
    per_class : pixels of a class that are drawn in a scene, all where there are fewer.
    seed : of the drawing.
    of : values (pixel, n) of a scene's name and cube, in the place of the bands; pixels with one that is not finite are
        not drawn.

    Raises
    ------
    ValueError
        If no scene has a labelled pixel.
    """
    rng = np.random.default_rng(seed)
    values: list[NDArray[np.floating[Any]]] = []
    found: list[tuple[int, int]] = []  # (class, scene)
    for place, name in enumerate(names):
        cube, labels = data.cube(name), data.classes.merge(data.labels(name)).ravel()
        # (band, y, x) -> (pixel, band)
        spectra = cube.values.reshape(cube.sizes["band"], -1).T if of is None else of(name, cube)
        usable = np.isfinite(spectra).all(axis=1)
        for index in range(len(data.classes.names)):
            order = rng.permutation(np.flatnonzero(labels == index))  # that of all, whichever can be used
            drawn = spectra[order[usable[order]][:per_class]]
            values.append(drawn)
            found += [(index, place)] * len(drawn)
    if not found:
        raise ValueError(f"none of the {len(names)} scenes of {data.root} has a labelled pixel")
    truth, scene = np.array(found).T
    return Spectra(np.concatenate(values), truth, scene, tuple(data.classes.names))


def pixel_confusion(
    classifiers: Mapping[str, BaseEstimator],
    inputs: Mapping[str, Transform],
    spectra: Spectra,
    test: Spectra | None = None,
    folds: int = 5,
) -> xr.DataArray:
    """Confusion of spectra by classifiers that never saw a spectrum of the same scene.

    Parameters
    ----------
    classifiers : scikit-learn's, by name; each is cloned, and fitted anew for each input.
    inputs : what is done to the spectra before, by name.
    spectra : to learn from.
    test : to predict; without it, `spectra` are predicted in `folds` of whole scenes, each from all others.

    Returns
    -------
    DataArray (classifier, input, scene, truth, predicted) of counts.

    Raises
    ------
    ValueError
        If `test` has other classes, or there are fewer scenes than folds.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    >>> rng, truth = np.random.default_rng(0), np.arange(80) % 2
    >>> spectra = Spectra(rng.normal(size=(80, 3)) + 4 * truth[:, None], truth, np.arange(80) // 8, ("Road", "Sky"))
    >>> counts = pixel_confusion({"LDA": LinearDiscriminantAnalysis()}, {"3": lambda values: values}, spectra)
    >>> counts.dims, int(counts.sum())
    (('classifier', 'input', 'scene', 'truth', 'predicted'), 80)
    >>> bool(pixel_scores(counts, seed=0)["value"].sel({"class": "mean"}) > 0.9)
    True
    """
    shown = spectra if test is None else test
    if shown.classes != spectra.classes:
        raise ValueError(f"test spectra have the classes {shown.classes}, those to learn from {spectra.classes}")
    scenes, place = np.unique(shown.scene, return_inverse=True)
    if test is None and len(scenes) < folds:
        raise ValueError(f"{folds} folds of whole scenes need as many scenes, got {len(scenes)}")
    size = len(shown.classes)
    counts = np.zeros((len(classifiers), len(inputs), len(scenes), size, size), dtype=np.int64)
    for column, transform in enumerate(inputs.values()):
        known, asked = transform(spectra.values), transform(shown.values)
        for row, classifier in enumerate(classifiers.values()):
            if test is None:
                whole = GroupKFold(folds)
                predicted = cross_val_predict(classifier, known, spectra.truth, groups=spectra.scene, cv=whole)
            else:
                predicted = clone(classifier).fit(known, spectra.truth).predict(asked)
            np.add.at(counts[row, column], (place, shown.truth, predicted), 1)
    return xr.DataArray(
        counts,
        dims=("classifier", "input", "scene", "truth", "predicted"),
        coords={
            "classifier": list(classifiers),
            "input": list(inputs),
            "scene": scenes,
            "truth": list(shown.classes),
            "predicted": list(shown.classes),
        },
    )


def pixel_scores(counts: xr.DataArray, seed: int, against: str | None = None) -> xr.Dataset:
    """IoU of every class, and their mean, with a bootstrap interval over scenes.

    Parameters
    ----------
    counts : of `pixel_confusion`.
    seed : of the resampling.
    against : an input whose score is taken off that of every other, scene by scene the same; None for the scores.

    Returns
    -------
    Dataset of value, low, high (classifier, input, class); the last class is "mean".
    """

    def score(drawn: xr.Dataset) -> xr.DataArray:
        found = with_mean(iou(drawn["value"].sum("scene")))
        return found if against is None else found.drop_sel(input=against) - found.sel(input=against, drop=True)

    return interval(counts, score, seed=seed, method="percentile", pools=True)
