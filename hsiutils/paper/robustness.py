"""What PN buys and costs, asked so that the answer can be no: streets under a turned sun, and places near an edge.

Scores in sun and in shade compare different pixels, with other classes among them. So the same scenes are rendered
again with the sun further round, and only pixels that pass between sun and shade are asked whether their class changed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.base import BaseEstimator, clone
from torch import Tensor

from hsiutils.analysis.pixels import scene_spectra
from hsiutils.data.names import Conditions
from hsiutils.data.source import Source, open_dataset
from hsiutils.models.files import load_trained
from hsiutils.models.metrics import boundary_distance, confusion, predict
from hsiutils.paper import store
from hsiutils.paper.spectra import classifiers, pixel_inputs
from hsiutils.paper.study import FILE, Subject, read, study

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

TURN_DEG = 150.0
"""How far the sun is turned: the shadows then fall to the other side, and most of what was lit is not."""
Predict = Callable[[str, Source], NDArray[np.integer[Any]]]
"""Of a scene's name and a data set to class indices (h, w)."""


def sunny(run: "Run") -> list[str]:
    """Test scenes in which the sun may shine."""
    return [name for name in run.data.names("test") if Conditions.parse(name).weather == "sunny"]


def relit_changes(run: "Run", name: str, seed: int) -> xr.Dataset:
    """How many pixels change their class when the sun is turned, of those that pass between sun and shade.

    What says one wrong class everywhere never changes, so those that are right under both suns are counted, too.

    Returns
    -------
    Dataset of `changed`, `correct` and `pixels` (scene, class), of the true class.

    Raises
    ------
    ValueError
        If the scenes are real, and cannot be rendered again, or the sun shines in none of them.
    """
    (network,) = run.networks([(name, seed)], progress=False)
    return _changes(run, {"model": network.key}, partial(_network, folder=network.folder))


def pixel_relit_changes(run: "Run", what: str, per_class: int = 50) -> xr.Dataset:
    """The same of a linear classifier of single pixels; `what` is one of `hsiutils.paper.spectra.pixel_inputs`."""
    names = run.data.names("train")
    maker = partial(_pixels, data=run.data, names=names, what=what, per_class=per_class, seed=run.seed)
    return _changes(run, {"pixels": what, "per_class": per_class, "learned from": names, "seed": run.seed}, maker)


def _changes(run: "Run", told: dict[str, Any], maker: Callable[[], Predict]) -> xr.Dataset:
    run.require_simulated("rendered again under another sun")
    if not (names := sunny(run)):
        raise ValueError("the sun shines in no test scene of this run")
    turned = run.turned(names, TURN_DEG)
    build = partial(_count_changes, maker=maker, data=run.data, turned=turned.folder, names=names)
    made = store.artefact("relit", build, {**told, "data": run.data_key, "turned": turned.key, "scenes": names})
    return read(made.folder / FILE)


def _network(folder: Path) -> Predict:
    trained = load_trained(folder)
    fitted = trained.variant
    if fitted is None:
        raise ValueError(f"{folder}: the training kept no input")
    return lambda name, data: predict(trained.model, data.scenes([name], fitted)[0][0][None])[0]


def _pixels(data: Source, names: Sequence[str], what: str, per_class: int, seed: int) -> Predict:
    learn = scene_spectra(data, names, per_class, seed)
    transform = pixel_inputs(data.sensor.wavelengths_nm)[what]
    linear: BaseEstimator = clone(classifiers(learn)["linear"]).fit(transform(learn.values), learn.truth)

    def predicted(name: str, asked: Source) -> NDArray[np.integer[Any]]:
        cube = asked.cube(name).values
        # (band, y, x) -> (pixel, band) -> (y, x)
        found: NDArray[np.integer[Any]] = linear.predict(transform(cube.reshape(len(cube), -1).T))
        return found.reshape(cube.shape[1:])

    return predicted


def _count_changes(
    folder: Path, maker: Callable[[], Predict], data: Source, turned: Path, names: Sequence[str]
) -> None:
    other, predicted = open_dataset(turned), maker()
    rows = []
    for name in names:
        passes = passing(data, other, name)
        one, two = predicted(name, data), predicted(name, other)
        truth = data.classes.merge(data.labels(name))
        which = {"changed": one != two, "correct": (one == truth) & (two == truth), "pixels": True}
        of_class = [passes & (truth == index) for index in range(len(data.classes.names))]
        rows.append([[np.count_nonzero(mask & counted) for mask in of_class] for counted in which.values()])
    dims, coords = ("scene", "class"), {"scene": list(names), "class": list(data.classes.names)}
    counts = zip(which, np.array(rows).swapaxes(0, 1), strict=True)  # (scene, which, class) -> (which, scene, class)
    found = xr.Dataset({key: (dims, values) for key, values in counts}, coords)
    found.to_netcdf(folder / FILE, engine="h5netcdf")


def passing(data: Source, other: Source, name: str) -> NDArray[np.bool_]:
    """Pixels (h, w) of a scene that pass between sun and shade from one data set to the other."""
    before, after = (np.asarray(_sunlit(one, name)) for one in (data, other))
    return np.asarray(np.isfinite(before) & np.isfinite(after) & ((before >= 0.5) != (after >= 0.5)))


def _sunlit(data: Source, name: str) -> NDArray[np.floating[Any]]:
    truth = data.truth(name)
    if truth is None:
        raise ValueError(f"{data.root}: nothing tells where the sun shines in {name}")
    return np.asarray(truth["sunlit"].values)


def changed_share(changes: xr.Dataset, what: str = "changed") -> xr.DataArray:
    """Percent of the pixels that "changed" class, or are "correct" under both suns, (class, ...), of all scenes."""
    pixels = changes["pixels"].sum("scene")
    return 100 * changes[what].sum("scene") / pixels.where(pixels > 0)


def edge_counts(run: "Run", name: str, seed: int) -> xr.Dataset:
    """Confusion (scene, place, truth, predicted) of road and its marks, at the edge between the two and elsewhere."""
    return study(run, "edges", _at_edges, (name, seed))


def _at_edges(subject: Subject) -> xr.Dataset:
    names = subject.data.classes.names

    def measure(image: Tensor, truth: NDArray[Any], _: object) -> xr.Dataset:
        return mark_edges(predict(subject.model, image[None])[0], truth, names)

    return subject.by_scene(measure)


def mark_edges(
    predicted: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], classes: Sequence[str]
) -> xr.Dataset:
    """Confusion of one scene's road and marks at their edge, within `boundary_distance` of the other, and elsewhere.

    Parameters
    ----------
    predicted, truth : class indices (h, w); void pixels count nowhere.
    classes : names, with "Road" and "Road Marks" among them.
    """
    road, marks = (truth == list(classes).index(name) for name in ("Road", "Road Marks"))
    size = 2 * boundary_distance(truth.shape) + 1
    near = (road & ndimage.maximum_filter(marks, size)) | (marks & ndimage.maximum_filter(road, size))
    places = {"edge": near, "elsewhere": (road | marks) & ~near}
    parts = [confusion(predicted, truth, classes, mask) for mask in places.values()]
    return xr.Dataset({"confusion": xr.concat(parts, xr.Variable("place", list(places)))})


def edge_cost(counts: xr.Dataset) -> xr.DataArray:
    """Points of recall, mean of road and marks, that are lost at the edge between the two: (...,) of the networks.

    The mean over the two classes knows no class shares: there are as many marks as road at the edge, and few elsewhere.
    """
    mean = (_called(counts, "Road", "Road") + _called(counts, "Road Marks", "Road Marks")) / 2
    return mean.sel(place="elsewhere", drop=True) - mean.sel(place="edge", drop=True)


def edge_odds(counts: xr.Dataset) -> xr.DataArray:
    """`edge_cost` in logits of recall: what has twice the errors everywhere has none, though it costs points.

    Half a pixel is added to what is found and to what is lost, so that no recall is 0 or 1.
    """
    rows: list[xr.DataArray] = []
    for name in ("Road", "Road Marks"):
        of_class = counts["confusion"].sel(truth=name, drop=True).sum("scene")
        found = of_class.sel(predicted=name, drop=True)
        odds = (found + 0.5) / (of_class.sum("predicted") - found + 0.5)
        rows.append(xr.apply_ufunc(np.log, odds))
    mean = (rows[0] + rows[1]) / 2
    return mean.sel(place="elsewhere", drop=True) - mean.sel(place="edge", drop=True)


def edge_accuracy(counts: xr.Dataset) -> xr.DataArray:
    """Percent of the road and marks at the edge between the two that are called so: (...,) of the networks."""
    at_edge = counts["confusion"].sel(place="edge", drop=True).sum("scene")
    right = sum(at_edge.sel(truth=name, predicted=name, drop=True) for name in ("Road", "Road Marks"))
    return 100 * right / at_edge.sum(["truth", "predicted"])


def marks_precision(counts: xr.Dataset) -> xr.DataArray:
    """Percent of what is called Road Marks that is marks, were there as much road as marks: (place, ...).

    Half of the pixels near the edge are marks, and few elsewhere, so plain precision would compare the shares of the
    classes. Of equally many pixels of each, marks that are found and road that is called marks make the precision.
    NaN where nothing is called marks.
    """
    found, false = _called(counts, "Road Marks", "Road Marks"), _called(counts, "Road", "Road Marks")
    return 100 * found / (found + false).where(found + false > 0)


def precision_cost(counts: xr.Dataset) -> xr.DataArray:
    """Points of `marks_precision` that are lost at the edge against elsewhere: (...,) of the networks."""
    precision = marks_precision(counts)
    return precision.sel(place="elsewhere", drop=True) - precision.sel(place="edge", drop=True)


def _called(counts: xr.Dataset, truth: str, predicted: str) -> xr.DataArray:
    """Percent of the true pixels of one class that are called so, of all scenes together: (place, ...)."""
    of_class = counts["confusion"].sel(truth=truth, drop=True).sum("scene")
    pixels = of_class.sum("predicted")
    return 100 * of_class.sel(predicted=predicted, drop=True) / pixels.where(pixels > 0)
