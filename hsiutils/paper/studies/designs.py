"""Inputs in PN's place, asked of networks: those that single pixels name best, with raw bands and PN beside them."""

from collections.abc import Sequence
from dataclasses import replace

from hsiutils.paper.designs import AUGMENTED
from hsiutils.paper.robustness import edge_counts, relit_changes
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of
from hsiutils.paper.tradeoff import kept

INPUTS = {
    "raw": "25",
    "PN": "25-PN",
    "PN + contrast": "25-PN+C",
    "daylight-free + intensity / image": "25-DF+F",
    "daylight-free + contrast": "25-DF+C",
    AUGMENTED: "25",
}
"""By the names that they have in `hsiutils.paper.designs`.

At quick, the two that reach the aim as single pixels, the one with the best marks of all; and one of raw bands.
"""
SPREAD = 0.9
"""Of the log brightness of the training images of `AUGMENTED`, as single pixels have it."""


def _grid(run: Run) -> Sequence[Point]:
    recipe = replace(run.profile.recipe, brightness=SPREAD)
    augmented = replace(run, profile=replace(run.profile, recipe=recipe))
    return [
        Point(augmented if design == AUGMENTED else run, name, seed, {"design": design})
        for design, name in INPUTS.items()
        for seed in run.seeds
    ]


STUDY = Study(
    file="designs.nc",
    about="inputs that may keep PN's robustness and the marks, beside raw bands and PN",
    grid=_grid,
    measures=(relit_changes, edge_counts, counts_of),
    reduce=kept,
)
