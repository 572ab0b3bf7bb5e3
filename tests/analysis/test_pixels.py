"""Single spectra: planted truths that the measure must find, nulls that it must not, and scenes kept apart."""

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from hsiutils.analysis.pixels import Spectra, pixel_confusion, pixel_scores, scene_spectra
from hsiutils.data.cube import pn_pixels

INPUTS = {"raw": lambda values: values, "PN": lambda values: pn_pixels(values.T).T}
SIMPLE = {"Bayes": GaussianNB()}


def spectra(shapes, levels, light, seed=0, scenes=30):
    """Two classes of given spectral shape and brightness, under a light that scales each scene."""
    rng = np.random.default_rng(seed)
    truth, scene = np.tile([0, 1], 20 * scenes), np.repeat(np.arange(scenes), 40)
    scale = np.exp(light * rng.standard_normal(scenes))[scene] * np.array(levels)[truth]
    values = np.array(shapes)[truth] * scale[:, None] * (1 + 0.02 * rng.standard_normal((len(truth), 3)))
    return Spectra(values, truth, scene, ("Road", "Vegetation"))


def gain(found):
    """PN minus raw, mean IoU."""
    return pixel_scores(found, seed=0, against="raw").sel({"class": "mean", "input": "PN", "classifier": "Bayes"})


def test_a_class_that_only_intensity_tells_is_lost_under_pn():
    found = gain(pixel_confusion(SIMPLE, INPUTS, spectra([[1, 1, 1]] * 2, [0.2, 0.8], light=0)))
    assert found["high"] < -0.5


def test_where_light_only_scales_pn_gains():
    found = gain(pixel_confusion(SIMPLE, INPUTS, spectra([[1, 1, 1], [0.9, 1, 1.1]], [1, 1], light=1)))
    assert found["low"] > 0.05


def test_where_nothing_tells_the_classes_apart_nothing_is_gained():
    same = spectra([[1, 1, 1]] * 2, [1, 1], light=1)
    found = gain(pixel_confusion(SIMPLE, INPUTS, same))
    assert found["low"] < 0 < found["high"]
    score = pixel_scores(pixel_confusion(SIMPLE, INPUTS, same), seed=0)["value"].sel({"class": "mean"})
    assert float(abs(score - 1 / 3).max()) < 0.05  # half right of each: a third of the union


def test_a_spectrum_is_predicted_from_other_scenes_only():
    """Spectra that tell the scene and nothing else: who had seen the scene would be right, who has not is wrong."""
    rng = np.random.default_rng(1)
    scene = np.repeat(np.arange(20), 10)
    told = Spectra(rng.random((20, 3))[scene], (np.arange(20) % 2)[scene], scene, ("Road", "Sky"))
    counts = pixel_confusion({"nearest": KNeighborsClassifier(1)}, {"raw": INPUTS["raw"]}, told)
    right = sum(int(counts.isel(truth=k, predicted=k).sum()) for k in (0, 1)) / len(scene)
    assert right < 0.8
    seen = pixel_confusion({"nearest": KNeighborsClassifier(1)}, {"raw": INPUTS["raw"]}, told, told)
    assert int(seen.sum()) == sum(int(seen.isel(truth=k, predicted=k).sum()) for k in (0, 1)) == len(scene)


def test_counts_keep_every_spectrum_in_its_scene():
    given = spectra([[1, 1, 1], [0.9, 1, 1.1]], [1, 1], light=1, scenes=6)
    counts = pixel_confusion(SIMPLE, INPUTS, given)
    assert (counts.sum(["truth", "predicted"]) == 40).all()
    assert (counts.sum("predicted").sel(truth="Road") == 20).all()


def test_bad_spectra_are_refused():
    values = np.ones((4, 3))
    with pytest.raises(ValueError, match=r"\(4, 3\), \(3,\) and \(4,\)"):
        Spectra(values, np.zeros(3, int), np.zeros(4, int), ("Road",))
    with pytest.raises(ValueError, match="3 values of the spectra are not finite"):
        Spectra(values * [[1], [np.nan], [1], [1]], np.zeros(4, int), np.zeros(4, int), ("Road",))
    with pytest.raises(ValueError, match="index of the 1 classes"):
        Spectra(values, np.ones(4, int), np.zeros(4, int), ("Road",))
    few = Spectra(values, np.array([0, 0, 0, 0]), np.array([0, 0, 1, 1]), ("Road",))
    with pytest.raises(ValueError, match="5 folds of whole scenes need as many scenes, got 2"):
        pixel_confusion(SIMPLE, INPUTS, few)
    with pytest.raises(ValueError, match="test spectra have the classes"):
        pixel_confusion(SIMPLE, INPUTS, few, Spectra(values, few.truth, few.scene, ("Sky",)))


def test_scenes_give_pixels_of_their_classes(tiny_run):
    data, names = tiny_run.data, tiny_run.data.names("test")
    drawn = scene_spectra(data, names, per_class=5, seed=1)
    _, often = np.unique(np.stack([drawn.scene, drawn.truth]), axis=1, return_counts=True)
    assert often.max() == 5
    cube, labels = data.cube(names[0]).values, data.classes.merge(data.labels(names[0]))
    own = drawn.values[(drawn.scene == 0) & (drawn.truth == drawn.truth[0])]
    pixels = {tuple(pixel) for pixel in cube[:, labels == drawn.truth[0]].T}
    assert {tuple(pixel) for pixel in own} <= pixels
