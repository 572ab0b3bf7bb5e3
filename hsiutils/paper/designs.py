"""Inputs that might keep PN's robustness and the marks, and PN of less strength: what single pixels say of each.

Every design is a function of spectra whose last two columns are the mean brightness of their image and of the pixels
around. What it is worth is told by three figures: IoU of the road marks, mean IoU, and how much of the vegetation that
passes between sun and shade changes its class.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from hsiutils.analysis.estimates import Estimate, holm
from hsiutils.analysis.intervals import interval
from hsiutils.analysis.pixels import Spectra, Transform, pixel_confusion, pixel_scores, scene_spectra
from hsiutils.data.cube import clr_pixels, log_brightness, log_pixels, surroundings, without_directions
from hsiutils.data.source import Source, open_dataset
from hsiutils.models.metrics import iou
from hsiutils.paper import store
from hsiutils.paper.exposure import frame_brightness, jittered
from hsiutils.paper.robustness import TURN_DEG, passing, sunny
from hsiutils.paper.spectra import classifiers, normalised
from hsiutils.paper.study import neighbours, read

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""Of PN: a pixel is divided by the sum over its bands to this power."""
AUGMENTED = "raw, augmented"
NEEDS_SPACE = ("PN + contrast", "daylight-free + contrast")
"""Designs that ask for the pixels around, which real class means do not have."""
MARKS, MEAN, CHANGED, RIGHT = "marks IoU", "mean IoU", "Vegetation changed", "Vegetation right"
"""In percent; the last two of the vegetation that passes between sun and shade as the sun is turned."""
_CONTEXT = 2


def designs(wavelengths_nm: ArrayLike, daylight: ArrayLike) -> dict[str, Transform]:
    """What is made of spectra (n, bands + 2) in the place of PN, by name; "raw" and "PN" are among them.

    Parameters
    ----------
    wavelengths_nm : (bands,) of the bands, in the order of the values.
    daylight : (directions, bands) along which clr spectra move as the light does; see `hsiutils.paper.sensor.daylight`.
    """
    rising = np.argsort(wavelengths_nm)

    def clr(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return clr_pixels(_bands(values).T).T

    def free(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return without_directions(clr(values).T, daylight).T

    def pn(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return normalised(_bands(values))

    def both(one: Transform, other: Transform) -> Transform:
        return lambda values: np.column_stack([one(values), other(values)])

    return {
        "raw": _bands,
        "log": _logs,
        "derivative": lambda values: np.diff(_bands(values)[:, rising]),
        "raw / image": lambda values: _bands(values) / _image(values),
        AUGMENTED: _bands,
        "PN": pn,
        "PN + intensity": both(pn, _log_mean),
        "PN + intensity / image": both(pn, _of_image),
        "PN + contrast": both(pn, _contrast),
        "PN + raw": both(pn, _bands),
        "clr": clr,
        "daylight-free": free,
        "daylight-free + intensity / image": both(free, _of_image),
        "daylight-free + contrast": both(free, _contrast),
    }


def strengths() -> dict[str, Transform]:
    """PN of `STRENGTHS`, by "PN @ 0.2" and the like."""
    return {f"PN @ {alpha:g}": partial(_strong, alpha=alpha) for alpha in STRENGTHS}


class Augmented(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that learns from copies of the spectra at random brightness as well.

    Parameters
    ----------
    classifier : scikit-learn's.
    copies : of each spectrum, besides itself.
    spread : standard deviation of the logarithm of a copy's factor; that of free exposure by default.
    random_state : seed of the factors.
    """

    def __init__(self, classifier: BaseEstimator, copies: int = 2, spread: float = 0.9, random_state: int = 0) -> None:
        self.classifier, self.copies, self.spread, self.random_state = classifier, copies, spread, random_state

    def fit(self, values: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]]) -> "Augmented":
        """Learn from (n, features) and (n,)."""
        factors = np.exp(
            self.spread * np.random.default_rng(self.random_state).standard_normal((self.copies, len(values), 1))
        )
        # (copies, n, features) -> (copies n, features), and the spectra themselves
        known = np.concatenate([values, (factors * values).reshape(-1, values.shape[1])])
        self.fitted_ = clone(self.classifier).fit(known, np.tile(truth, self.copies + 1))
        return self

    def predict(self, values: NDArray[np.floating[Any]]) -> NDArray[np.integer[Any]]:
        """Classes (n,) of (n, features)."""
        return np.asarray(self.fitted_.predict(values))


def run_counts(run: "Run", daylight: ArrayLike, per_class: tuple[int, int] = (3, 12)) -> dict[str, xr.DataArray]:
    """What single pixels of the run's scenes say, once: `jittered`, and of each design its confusion and relit pixels.

    Parameters
    ----------
    daylight : as of `designs`.
    per_class : pixels of each class of each scene that are drawn of the training scenes, and of the test scenes; of
        those that pass between sun and shade, ten times as many.

    Returns
    -------
    `exposure` of `hsiutils.paper.exposure.jittered`; `designs` (classifier, input, scene, truth, predicted); `relit`
    (classifier, input, scene, class, what) counts of "pixels", "changed" and "right", of vegetation and the other
    classes; it is missing where the sun cannot be turned: in real scenes, or where it shines in none.
    """
    splits = {split: run.data.names(split) for split in ("train", "test")}
    names = [] if run.data_root else sunny(run)
    turned = run.turned(names, TURN_DEG) if names else None
    told = {
        "data": run.data_key,
        "turned": turned.key if turned else None,
        "scenes": splits,
        "sunny": names,
        "seed": run.seed,
    }
    light = np.asarray(daylight, dtype=float).round(6).tolist()
    build = partial(
        _measure,
        data=run.data,
        splits=splits,
        turned=turned.folder if turned else None,
        names=names,
        light=light,
        per_class=per_class,
        seed=run.seed,
    )
    made = store.artefact("designs", build, {**told, "daylight": light, "per_class": per_class})
    found = {}
    for path in sorted(made.folder.glob("*.nc")):
        counts = read(path)
        of = splits["test"] if path.stem != "relit" else names
        named = counts.assign_coords(scene=[of[place] for place in counts["scene"].values])
        found[path.stem] = neighbours(run.data, named)["counts"]
    return found


def _measure(
    folder: Path,
    data: Source,
    splits: Mapping[str, Sequence[str]],
    turned: Path | None,
    names: Sequence[str],
    light: ArrayLike,
    per_class: tuple[int, int],
    seed: int,
) -> None:
    learn, test = (
        scene_spectra(data, splits[split], count, seed, _context)
        for split, count in zip(("train", "test"), per_class, strict=True)
    )
    bare = [Spectra(_bands(one.values), one.truth, one.scene, one.classes) for one in (learn, test)]
    found = {"exposure": jittered(bare[0], bare[1], seed)}
    inputs = designs(data.sensor.wavelengths_nm, light) | strengths()
    found["designs"] = confusions(inputs, learn, test)
    if turned is not None:
        other = open_dataset(turned)

        def passed(name: str, cube: xr.DataArray) -> NDArray[np.floating[Any]]:
            return np.where(passing(data, other, name).ravel()[:, None], _context(name, cube), np.nan)

        pair = [scene_spectra(one, names, 10 * per_class[1], seed, passed) for one in (data, other)]  # the same pixels
        found["relit"] = _relit(inputs, learn, *pair)
    for name, counts in found.items():
        counts.to_dataset(name="counts").to_netcdf(folder / f"{name}.nc", engine="h5netcdf")


def confusions(inputs: Mapping[str, Transform], learn: Spectra, test: Spectra | None = None) -> xr.DataArray:
    """`pixel_confusion` of designs by `classifiers`; that named `AUGMENTED` learns from more brightnesses."""
    kinds, parts = classifiers(learn), []
    for name, transform in inputs.items():
        own = {kind: Augmented(one) if name == AUGMENTED else one for kind, one in kinds.items()}
        parts.append(pixel_confusion(own, {name: transform}, learn, test))
    return xr.concat(parts, "input")


def _relit(inputs: Mapping[str, Transform], learn: Spectra, before: Spectra, after: Spectra) -> xr.DataArray:
    kinds = classifiers(learn)
    shape = (len(kinds), len(inputs), before.scene.max() + 1, len(learn.classes), 3)
    counts = np.zeros(shape, dtype=np.int64)
    for column, (name, transform) in enumerate(inputs.items()):
        for row, kind in enumerate(kinds.values()):
            fitted = clone(Augmented(kind) if name == AUGMENTED else kind).fit(transform(learn.values), learn.truth)
            one, two = (fitted.predict(transform(spectra.values)) for spectra in (before, after))
            right = (one == before.truth) & (two == before.truth)
            told = np.stack([np.ones_like(right), one != two, right], axis=1)
            np.add.at(counts[row, column], (before.scene, before.truth), told)
    coords = {"classifier": list(kinds), "input": list(inputs), "scene": np.arange(shape[2])}
    coords |= {"class": list(learn.classes), "what": ["pixels", "changed", "right"]}
    return xr.DataArray(counts, coords, ("classifier", "input", "scene", "class", "what"))


def figures(found: Mapping[str, xr.DataArray], seed: int, against: str | None = None) -> xr.Dataset:
    """What each design is worth, with bootstrap intervals over scenes.

    Parameters
    ----------
    found : of `run_counts`.
    seed : of the resampling.
    against : a design whose figures are taken off those of every other, scene by scene the same.

    Returns
    -------
    Dataset of value, low, high (classifier, input, figure): `MARKS`, `MEAN`, "marks precision" and "marks
    recall"; and where the sun was turned, "changed" and "right" of every class, such as `CHANGED` and `RIGHT`.
    """

    def less(table: xr.DataArray) -> xr.DataArray:
        return table if against is None else table.drop_sel(input=against) - table.sel(input=against, drop=True)

    def drawn_of(told: Callable[[xr.DataArray], xr.DataArray]) -> Callable[[xr.Dataset], xr.DataArray]:
        return lambda drawn: less(told(drawn["value"]))

    of = [("designs", marks_figures), ("relit", light_figures)]
    parts = [
        interval(found[name], drawn_of(told), seed=seed, method="percentile", pools=True)
        for name, told in of
        if name in found
    ]
    return xr.concat(parts, "figure")


def marks_figures(counts: xr.DataArray) -> xr.DataArray:
    """`MARKS`, `MEAN`, precision and recall of marks, percent (figure, ...), of (..., scene, truth, predicted)."""
    counts = counts.sum("scene")
    marks, scores = counts.sel(truth="Road Marks", drop=True), iou(counts)
    hit, called = marks.sel(predicted="Road Marks", drop=True), counts.sel(predicted="Road Marks", drop=True)
    parts = {MARKS: scores.sel({"class": "Road Marks"}, drop=True), MEAN: scores.mean("class")}
    parts |= {"marks precision": hit / called.sum("truth"), "marks recall": hit / marks.sum("predicted")}
    return 100 * xr.concat(parts.values(), xr.Variable("figure", list(parts)), coords="minimal", compat="override")


def light_figures(counts: xr.DataArray) -> xr.DataArray:
    """Percent "changed" and "right" of every class, such as `CHANGED` (figure, ...), of (..., scene, class, what)."""
    counts = counts.sum("scene")
    pixels = counts.sel(what="pixels", drop=True)
    shares = 100 * counts.sel(what=["changed", "right"]) / pixels.where(pixels > 0)
    asked = [(name, what) for name in shares["class"].values for what in shares["what"].values]
    parts = [shares.sel({"class": name, "what": what}, drop=True) for name, what in asked]
    return xr.concat(parts, xr.Variable("figure", [f"{name} {what}" for name, what in asked]))


def verdicts(found: Mapping[str, xr.DataArray], seed: int) -> pd.DataFrame:
    """Is a design as robust as PN, and as good at marks as raw bands? Paired, with Holm over the designs.

    Returns
    -------
    DataFrame
        A row a classifier and design: differences in points, each with `_low` and `_high`, `light` (vegetation that
        changes class, against PN) and `marks` (IoU, against raw); `light:` and `marks:` say "better", "worse" or
        "undecided"; `reaches` is whether neither is worse and one is better.
    """
    asked = {"light": (CHANGED, "PN", -1), "marks": (MARKS, "raw", 1)}
    rows = []
    for short, (figure, against, good) in asked.items():
        gaps = figures({name: _designs_only(one) for name, one in found.items()}, seed, against).sel(figure=figure)
        scenes = found["designs" if short == "marks" else "relit"].sizes["scene"]
        for kind in gaps["classifier"].values:
            for name in gaps["input"].values:
                gap = gaps.sel(classifier=kind, input=name)
                estimate = Estimate.of(gap, scenes)
                rows.append(
                    (kind, name, short, *(float(gap[v]) for v in ("value", "low", "high")), estimate.p_value(), good)
                )
    return judged(pd.DataFrame(rows, columns=DIFFERENCE))


DIFFERENCE = ["classifier", "input", "asked", "value", "low", "high", "p", "good"]
"""What `judged` needs to know of a difference; `good` is the sign that is an improvement."""


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Differences of `DIFFERENCE` as `verdicts` tells them, after Holm over the inputs of a classifier and question."""
    asked, table = dict.fromkeys(table["asked"]), table.copy()
    table["p"] = table.groupby(["classifier", "asked"])["p"].transform(holm)
    better = np.sign(table["value"]) == table["good"]
    table["verdict"] = np.where(table["p"] >= 0.05, "undecided", np.where(better, "better", "worse"))
    wide = {}
    for short in asked:
        part = table[table["asked"] == short].set_index(["classifier", "input"])
        names = {"value": short, "low": f"{short}_low", "high": f"{short}_high", "verdict": f"{short}:"}
        wide[short] = part[list(names)].rename(columns=names)
    joined = pd.concat(wide.values(), axis=1, join="inner")
    said = joined[[f"{short}:" for short in asked]]
    joined["reaches"] = ~(said == "worse").any(axis=1) & (said == "better").any(axis=1)
    return joined.reset_index()


def best(found: Mapping[str, xr.DataArray], seed: int, classifier: str) -> tuple[str, list[str]]:
    """Of the designs that reach the aim: that with the best marks, and those that cannot be told from it (Holm)."""
    table = verdicts(found, seed)
    names = table[(table["classifier"] == classifier) & table["reaches"]]["input"].tolist()
    if not names:
        return "", []
    own = {"designs": found["designs"].sel(classifier=[classifier], input=names)}
    first = str(names[int(np.argmax(figures(own, seed)["value"].sel(figure=MARKS, classifier=classifier).values))])
    if len(names) == 1:
        return first, []
    gaps = figures(own, seed, first).sel(figure=MARKS, classifier=classifier)
    scenes = own["designs"].sizes["scene"]
    others = [str(name) for name in gaps["input"].values]
    p = holm(Estimate.of(gaps.sel(input=name), scenes).p_value() for name in others)
    return first, [name for name, one in zip(others, p, strict=True) if one >= 0.05]


def _designs_only(counts: xr.DataArray) -> xr.DataArray:
    return counts.sel(input=[name for name in counts["input"].values if "@" not in str(name)])


def real_spectra(spectra: Spectra) -> Spectra:
    """Class means of real images as designs take them; nothing is known of the pixels around."""
    image = frame_brightness(spectra)[spectra.scene]
    return Spectra(np.column_stack([spectra.values, image, image]), spectra.truth, spectra.scene, spectra.classes)


def real_answers(spectra: Spectra, wavelengths_nm: ArrayLike, daylight: ArrayLike, seed: int = 0) -> pd.DataFrame:
    """IoU of every design that class means of real images can be asked for, in five folds of whole images.

    Returns
    -------
    DataFrame
        `classifier`, `input`, `class` (the last is "mean"), `value`, `low`, `high`, in percent; and `gain`, `gain_low`,
        `gain_high` over raw bands, in points.
    """
    asked = {name: one for name, one in designs(wavelengths_nm, daylight).items() if name not in NEEDS_SPACE}
    counts = confusions(asked, real_spectra(spectra))
    table = (100 * pixel_scores(counts, seed)).to_dataframe()
    gain = (100 * pixel_scores(counts, seed, against="raw")).to_dataframe()
    return table.join(gain.rename(columns={"value": "gain", "low": "gain_low", "high": "gain_high"})).reset_index()


def _context(name: str, cube: xr.DataArray) -> NDArray[np.float64]:
    """Bands, and the mean brightness of the image and of a square around: (pixel, bands + 2)."""
    image, around = surroundings(cube.values)
    columns = [cube.values, np.full_like(around, image)[None], around[None]]
    return np.concatenate(columns).reshape(len(cube) + _CONTEXT, -1).T  # (band, y, x) -> (pixel, band)


def _bands(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return values[:, :-_CONTEXT]


def _image(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return values[:, -2:-1]


def _around(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return values[:, -1:]


def _log_mean(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return log_brightness(_bands(values).T)[:, None]


def _of_image(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Log brightness against that of the whole image."""
    return np.asarray(_log_mean(values) - np.log(_image(values)))


def _contrast(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Log brightness against that of the pixels around."""
    return np.asarray(_log_mean(values) - np.log(_around(values)))


def _logs(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return log_pixels(_bands(values).T).T


def _strong(values: NDArray[np.floating[Any]], alpha: float) -> NDArray[np.float64]:
    return normalised(_bands(values), alpha)
