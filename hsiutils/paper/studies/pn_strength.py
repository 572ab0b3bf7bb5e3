"""How strong should PN be? Pixel / (sum over its bands) ** strength: what is won in another light, and what is lost."""

from collections.abc import Mapping, Sequence

import xarray as xr

from hsiutils.models.metrics import scores
from hsiutils.paper.designs import STRENGTHS
from hsiutils.paper.robustness import changed_share, edge_counts, marks_precision, relit_changes
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of


def _grid(run: Run) -> Sequence[Point]:
    names = {0.0: "25", 1.0: "25-PN"}  # the ends are the book's own networks
    return [
        Point(run, names.get(strength, f"25-PN@{strength}"), seed, {"strength": strength})
        for strength in STRENGTHS
        for seed in run.seeds
    ]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Percent (strength, seed), and where it is of every class (strength, seed, class)."""
    relit, edges, counts = found["relit_changes"], found["edge_counts"], found["counts_of"].sel(region="all")
    matrix = counts["confusion"].sum("scene")
    marks = matrix.sel(truth="Road Marks", predicted="Road Marks", drop=True)
    at_edge = edges["confusion"].sum("scene").sel(place="edge", drop=True)
    road, lines = (at_edge.sel(truth=name, predicted=name, drop=True) for name in ("Road", "Road Marks"))
    merits = scores(counts)
    return xr.Dataset(
        {
            "relit_changed": changed_share(relit).assign_attrs(long_name="pixels that change class under another sun"),
            "relit_correct": changed_share(relit, "correct").assign_attrs(long_name="pixels right under both suns"),
            "iou": (100 * merits["iou"]).assign_attrs(long_name="IoU"),
            "marks_precision": _percent(marks, matrix.sel(predicted="Road Marks", drop=True).sum("truth")),
            "marks_recall": _percent(marks, matrix.sel(truth="Road Marks", drop=True).sum("predicted")),
            "edge_accuracy": _percent(road + lines, at_edge.sum(["truth", "predicted"])),
            "edge_precision": marks_precision(edges).sel(place="edge", drop=True),
        }
    )


def _percent(part: xr.DataArray, whole: xr.DataArray) -> xr.DataArray:
    return 100 * part / whole.where(whole > 0)


STUDY = Study(
    file="pn-strength.nc",
    about="PN of strengths from none to full: robustness to light against road marks",
    grid=_grid,
    measures=(relit_changes, edge_counts, counts_of),
    reduce=_reduce,
)
