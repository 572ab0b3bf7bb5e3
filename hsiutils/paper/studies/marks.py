"""Why do road marks suffer under PN? The same streets by a camera with and without noise, its bands displaced or not.

What PN costs at marks is then a sum: of what noise adds to it, of what the displacement of bands in the mosaic adds,
and of what is left to a camera that has neither, which is the intensity that PN takes away. Beside it, other lenses,
and the same asked of single pixels, which know no shape and do not hang on the luck of a training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import xarray as xr

from hsiutils.analysis.estimates import Estimate
from hsiutils.analysis.pixels import pixel_confusion, scene_spectra
from hsiutils.models.metrics import iou
from hsiutils.paper.merits import weighted_over_both
from hsiutils.paper.robustness import edge_cost, edge_counts
from hsiutils.paper.run import Run
from hsiutils.paper.spectra import classifiers, normalised
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of

CAMERAS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no noise": {"noise": False},
    "co-located bands": {"displaced": False},
    "neither": {"noise": False, "displaced": False},
    "lens 0.5 px": {"blur_px": 0.5},
    "lens 1.5 px": {"blur_px": 1.5},
}
"""What differs from the run's own camera."""
INPUTS = ("25", "25-PN")
PER_CLASS = 20
"""Single pixels that are drawn of each class of each scene."""
LEAST = 1.0
"""IoU, percent, of a class that a network can be said to find."""
EFFECTS: dict[str, dict[str, float]] = {
    "camera as it is": {"as it is": 1},
    "noise": {"as it is": 0.5, "no noise": -0.5, "co-located bands": 0.5, "neither": -0.5},
    "displaced bands": {"as it is": 0.5, "no noise": 0.5, "co-located bands": -0.5, "neither": -0.5},
    "lost intensity": {"neither": 1},
    "noise x displacement": {"as it is": 1, "no noise": -1, "co-located bands": -1, "neither": 1},
    "lens 0.5 px": {"lens 0.5 px": 1},
    "lens 1.5 px": {"lens 1.5 px": 1},
    "lens 1.5 px less 0.5 px": {"lens 1.5 px": 1, "lens 0.5 px": -1},
}
"""Weights of the cameras' costs. The first is the sum of the next three, whatever the interaction."""


def _grid(run: Run) -> Sequence[Point]:
    return [
        Point(run.simulating(**changes), name, seed, {"camera": camera, "variant": name})
        for camera, changes in CAMERAS.items()
        for name in INPUTS
        for seed in run.seeds
    ]


def pixel_counts(run: Run, name: str, seed: int) -> xr.Dataset:
    """Confusion (classifier, scene, truth, predicted) of single test pixels, drawn by `seed`, as many of each class."""
    own = {split: scene_spectra(run.data, run.data.names(split), PER_CLASS, seed) for split in ("train", "test")}
    if name == "25-PN":
        own = {split: replace(spectra, values=normalised(spectra.values)) for split, spectra in own.items()}
    counts = pixel_confusion(classifiers(own["train"]), {name: lambda values: values}, own["train"], own["test"])
    names = [run.data.names("test")[place] for place in counts["scene"].values]
    return counts.sel(input=name, drop=True).assign_coords(scene=names).to_dataset(name="confusion")


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Counts of every scene, (camera, variant, seed, scene, ...): of all classes, and of road and marks by place."""
    counts = found["counts_of"][["confusion"]].sel(region="all", drop=True)
    edges = found["edge_counts"]["confusion"].sel(truth=["Road", "Road Marks"]).rename(truth="of")
    pixels = found["pixel_counts"]["confusion"].fillna(0)  # a scene without a pixel of any class
    return counts.assign(edges=edges, pixels=pixels).astype("int32").reindex(camera=list(CAMERAS), variant=list(INPUTS))


def marks_iou(sums: xr.Dataset) -> xr.DataArray:
    """IoU of road marks, percent."""
    return 100 * iou(sums["confusion"].sum("scene")).sel({"class": "Road Marks"}, drop=True)


def marks_precision(sums: xr.Dataset) -> xr.DataArray:
    """Percent of what is called marks that is, of all pixels."""
    return _share(sums["confusion"].sel(predicted="Road Marks", drop=True), "truth")


def marks_recall(sums: xr.Dataset) -> xr.DataArray:
    """Percent of the marks that are found."""
    return _share(sums["confusion"].sel(truth="Road Marks", drop=True), "predicted")


def marks_edges(sums: xr.Dataset) -> xr.DataArray:
    """`hsiutils.paper.robustness.edge_cost`, turned round so that more is better, as of the others."""
    return -edge_cost(sums[["edges"]].rename(edges="confusion", of="truth"))


def pixels_iou(sums: xr.Dataset) -> xr.DataArray:
    """IoU of road marks among single pixels, as many of each class, by the classifier with curved borders; percent."""
    counts = sums["pixels"].sel(classifier="nonlinear", drop=True).sum("scene")
    return 100 * iou(counts).sel({"class": "Road Marks"}, drop=True)


def _share(counts: xr.DataArray, over: str) -> xr.DataArray:
    every = counts.sum("scene")
    pixels = every.sum(over)
    return 100 * every.sel({over: "Road Marks"}, drop=True) / pixels.where(pixels > 0)


FIGURES: dict[str, Callable[[xr.Dataset], xr.DataArray]] = {
    "IoU": marks_iou,
    "precision": marks_precision,
    "recall": marks_recall,
    "recall at the edge against elsewhere": marks_edges,
    "IoU, single pixels": pixels_iou,
}
"""Of road marks, percent or points; more is better."""


def costs(found: xr.Dataset, seed: int = 0) -> pd.DataFrame:
    """What PN costs road marks, 25 channels minus 25 with PN, and what noise, displacement and lens add to it.

    Returns
    -------
    DataFrame
        A row a figure and effect, of `FIGURES` and `EFFECTS`: `figure`, `effect`, `value`, `low`, `high`, in points,
        with intervals over seeds and scenes together, which do not leave what sums of such differences can be.
    """
    sign = xr.DataArray([1.0, -1.0], {"variant": list(INPUTS)}, ("variant",))
    rows = []
    for figure, statistic in FIGURES.items():
        read = {marks_edges: "edges", pixels_iou: "pixels"}.get(statistic, "confusion")  # type: ignore[arg-type]
        sums = found[[read]]  # what is not read need not be resampled
        for effect, cameras in EFFECTS.items():
            weights = sign * xr.DataArray(list(cameras.values()), {"camera": list(cameras)}, ("camera",))
            most = 100 * float(abs(weights).sum() / 2) * (2 if statistic is marks_edges else 1)
            cost = weighted_over_both(sums, statistic, seed, weights).within(-most, most)
            rows.append((figure, effect, cost.mean, cost.low, cost.high))
    return pd.DataFrame(rows, columns=["figure", "effect", "value", "low", "high"])


def blind(found: xr.Dataset) -> dict[str, tuple[int, int]]:
    """By camera: of how many networks with PN none finds marks (IoU below `LEAST`, percent), and how many there are."""
    reached = marks_iou(found[["confusion"]]).sel(variant=INPUTS[1], drop=True).transpose("camera", "seed")
    return {str(one["camera"].item()): (int((one < LEAST).sum()), one.sizes["seed"]) for one in reached}


def finding(found: xr.Dataset, table: pd.DataFrame) -> list[str]:
    """What `costs`, the table, and the record say, in sentences: first what follows, then what it rests on."""
    effects = table.set_index(["figure", "effect"])
    whole, *parts = list(EFFECTS)[:4]

    def told(figure: str, effect: str) -> str:
        one = effects.loc[(figure, effect)]
        return f"{one['value']:+.1f} [{one['low']:+.1f}, {one['high']:+.1f}]"

    missed = {camera: (none, of) for camera, (none, of) in blind(found).items() if none}
    words = {1: "adds to this", -1: "takes from this", 0: "cannot be told from zero"}
    bounds = {part: effects.loc[("IoU", part)].astype(float) for part in parts}
    signs = {part: Estimate(one["value"], one["low"], one["high"], 0).sign for part, one in bounds.items()}
    judged = {part: words[signs[part]] if missed.keys().isdisjoint(EFFECTS[part]) else "no verdict" for part in parts}
    said = [
        f"networks: PN costs road marks {told('IoU', whole)} points of IoU; "
        + "; ".join(f"{part}: {verdict}" for part, verdict in judged.items()),
    ]
    if missed:
        own = "; ".join(f"{camera}: {none} of {of}" for camera, (none, of) in missed.items())
        said.append(
            f"networks with PN that find no marks at all: {own}; a part that is made of such cameras has no verdict, "
            "for it says how often a training fails as much as what the camera does"
        )
    said.append("networks, in points of IoU: " + "; ".join(f"{part} {told('IoU', part)}" for part in parts))
    single = "; ".join(f"{effect} {told('IoU, single pixels', effect)}" for effect in (whole, *parts))
    return [*said, f"single pixels, in points of IoU: {single}"]


STUDY = Study(
    file="marks.nc",
    about="Why road marks suffer under PN: the 2 x 2 of sensor noise and displaced bands, and three lenses",
    grid=_grid,
    measures=(counts_of, edge_counts, pixel_counts),
    reduce=_reduce,
)
