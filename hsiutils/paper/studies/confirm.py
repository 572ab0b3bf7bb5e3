"""Do the designs that did best hold up? Their networks once more, on scenes and trainings of other seeds.

What was chosen for its score looks better than it is. So the best of `designs` and of `pn_strength` are asked again,
with nothing left to choose: the scenes are rendered anew, the networks trained anew, and what counts as kept is fixed
by the record of `designs`. A design keeps what raw bands are good at, or PN is, if it loses less than half of what one
of them loses to the other: the margin of a non-inferiority trial that is to preserve half of an effect (FDA 2016,
Non-Inferiority Clinical Trials).
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import xarray as xr

from hsiutils.analysis.estimates import Estimate, holm
from hsiutils.paper.designs import CHANGED, MARKS
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study, designs
from hsiutils.paper.tradeoff import EDGE, figures, gaps

STRENGTH = 0.8
"""Of PN, picked from the record of `pn_strength` by eye, before there was a rule: see `choice`."""
INPUTS = {name: designs.INPUTS[name] for name in ("raw", "PN", "PN + contrast")} | {
    f"PN of strength {STRENGTH}": f"25-PN@{STRENGTH}"
}
FRESH = 100
"""Added to the run's seed, for scenes and networks of which none had a part in the choice."""
TRAININGS = 5
_KEPT = {MARKS: ("raw", "PN", 1), EDGE: ("raw", "PN", 1), CHANGED: ("PN", "raw", -1)}
"""By figure: which input is good at it, which is not, and the sign that is an improvement."""


def _grid(run: Run) -> Sequence[Point]:
    fresh = replace(run, seed=run.seed + FRESH, profile=replace(run.profile, models=TRAININGS))
    return [Point(fresh, name, seed, {"design": design}) for design, name in INPUTS.items() for seed in fresh.seeds]


def answers(found: xr.Dataset, chosen: xr.Dataset, seed: int) -> pd.DataFrame:
    """Is what the better of raw bands and PN is good at kept? With Holm over designs and figures.

    Parameters
    ----------
    found : the record of this study: designs beside "raw" and "PN".
    chosen : the record of `designs`, which sets the margins.
    seed : of the resampling.

    Returns
    -------
    DataFrame
        A row a design and each of road marks, their edges and relit vegetation: `design`; `figure`; `against`, the
        input that is good at it; `margin`, half of what the other loses to it in `chosen`, zero where it loses nothing;
        `lost`, `lost_low`, `lost_high`, what the design loses in `found` (points, with the 95 % interval over trainings
        and scenes); `p`, one-sided, of a loss as large as the margin, after Holm; `verdict`, "kept", "lost" or
        "undecided".
    """
    rows = []
    for figure, (good, bad, sign) in _KEPT.items():
        margin = max(-sign * gaps(chosen, "design", figure, good, seed)[bad].mean / 2, 0.0)
        for design, gap in gaps(found, "design", figure, good, seed).items():
            if design == bad:
                continue
            low, high = sorted((-sign * gap.low, -sign * gap.high))
            lost = replace(gap, mean=-sign * gap.mean, low=low, high=high)
            rows.append((design, figure, good, margin, lost.mean, low, high, _one_sided(lost, margin)))
    table = pd.DataFrame(rows, columns=["design", "figure", "against", "margin", "lost", "lost_low", "lost_high", "p"])
    table["p"] = holm(table["p"])
    kept = table["p"].lt(0.025).map({True: "kept", False: "undecided"})
    return table.assign(verdict=kept.mask(table["lost_low"] > table["margin"], "lost"))


def _one_sided(lost: Estimate, margin: float) -> float:
    both = lost.p_value(margin)
    return both / 2 if lost.mean < margin else 1 - both / 2


def findings(table: pd.DataFrame) -> list[str]:
    """What `answers` say of each design, in words."""
    said = []
    for design, own in table.groupby("design", sort=False):
        whole = "keeps" if (own["verdict"] == "kept").all() else "is not shown to keep"
        each = [
            f"{row.figure} {row.verdict} ({row.lost:+.1f} points lost against {row.against} "
            f"[{row.lost_low:+.1f}, {row.lost_high:+.1f}], margin {row.margin:.1f})"
            for row in own.itertuples()
        ]
        said.append(f"{design}, asked again, {whole} what raw bands and PN are each good at: {'; '.join(each)}")
    return said


def choice(strengths: xr.Dataset, seed: int) -> str:
    """Why `STRENGTH`: what the record of `pn_strength` says of it beside the best strengths below full, in words."""
    table = figures(strengths, seed).pivot(index="strength", columns="figure", values="value").astype(float)
    part = table[(table.index > 0) & (table.index < 1)]

    def told(strength: float) -> str:
        changed, found = table.loc[strength, [CHANGED, MARKS]]
        return f"{changed:.1f} % of vegetation changes, marks have {found:.1f} % IoU"

    least, most = part[CHANGED].idxmin(), part[MARKS].idxmax()
    return (
        f"Strength {STRENGTH:g} was picked by eye from the record of strengths, as one that is robust and has marks "
        f"like raw bands: {told(STRENGTH)}; raw bands: {told(0.0)}; least vegetation changes at {least:g}: "
        f"{told(least)}; the best marks are at {most:g}: {told(most)}"
    )


def summary(table: pd.DataFrame) -> str:
    """What `answers` say, in one line."""
    each = [
        f"{design}: "
        + "; ".join(f"{verdict} {', '.join(rows['figure'])}" for verdict, rows in own.groupby("verdict", sort=False))
        for design, own in table.groupby("design", sort=False)
    ]
    return ". ".join(each)


STUDY = Study(
    file="confirm.nc",
    about="the best designs beside raw bands and PN, on scenes and trainings that had no part in choosing them",
    grid=_grid,
    measures=designs.STUDY.measures,
    reduce=designs.STUDY.reduce,
)
