"""What networks win in another light and lose at road marks: of studies that count both, per scene.

A figure has one interval over seeds and scenes together: other trainings on other scenes should agree. What is asked of
single pixels (`hsiutils.paper.designs`) is asked here of networks, by the same names and the same rule.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import xarray as xr

from hsiutils.analysis.intervals import Estimate, crossed
from hsiutils.paper.designs import CHANGED, DIFFERENCE, MARKS, judged, light_figures, marks_figures
from hsiutils.paper.merits import Statistic, contrast, over_scenes, with_both
from hsiutils.paper.robustness import edge_accuracy

EDGE = "edge accuracy"
"""Percent of the road and marks at the edge between the two that are called so."""
NETWORK = "network"
"""In the place of a classifier of single pixels."""


def kept(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """What was counted of every network, per scene: the record of a study, of which figures are made when it is read.

    Parameters
    ----------
    found : of the measures counts_of, edge_counts and relit_changes, or some of them, as `Study.reduce` is given them.

    Returns
    -------
    `confusion` (..., scene, region, truth, predicted), of the region "all"; `edges` (..., scene, place, truth,
    predicted); `relit` (..., sunny, class, what), "pixels", "changed" and "right" in scenes with sun.
    """
    parts = {}
    if "counts_of" in found:
        parts["confusion"] = found["counts_of"]["confusion"].sel(region=["all"])
    if "edge_counts" in found:
        parts["edges"] = found["edge_counts"]["confusion"]
    if "relit_changes" in found:
        relit = found["relit_changes"].rename(scene="sunny", correct="right")[["pixels", "changed", "right"]]
        parts["relit"] = relit.to_dataarray("what")
    return xr.Dataset(parts)


def _marks(sums: xr.Dataset) -> xr.DataArray:
    return marks_figures(sums["confusion"].sel(region="all", drop=True))


def _edge(sums: xr.Dataset) -> xr.DataArray:
    return edge_accuracy(sums.rename(edges="confusion")).expand_dims(figure=[EDGE])


def _light(sums: xr.Dataset) -> xr.DataArray:
    return light_figures(sums["relit"])


def _groups(found: xr.Dataset) -> list[tuple[xr.Dataset, Statistic]]:
    """Sums along `scene`, and the figures that are made of them."""
    known: dict[str, Statistic] = {"confusion": _marks, "edges": _edge, "relit": _light}
    return [
        (found[[name]].rename(sunny="scene") if name == "relit" else found[[name]], figures)
        for name, figures in known.items()
        if name in found
    ]


def figures(found: xr.Dataset, seed: int, pooled: Sequence[str] = ()) -> pd.DataFrame:
    """Every figure of a record of `kept`, with its interval over seeds and scenes together.

    Parameters
    ----------
    seed : of the resampling.
    pooled : as of `with_both`.

    Returns
    -------
    A long table: the axes of the study, `figure` (of `marks_figures`, `light_figures` and `EDGE`), value, low, high.
    """
    parts = [with_both(sums, of, seed, pooled) for sums, of in _groups(found)]
    return pd.concat([part.to_dataframe().reset_index() for part in parts], ignore_index=True).dropna(subset="value")


def gaps(
    found: xr.Dataset, axis: str, figure: str, against: str, seed: int, pooled: bool = False
) -> dict[str, Estimate]:
    """A figure of each place on an axis of a record less that of one of them, over seeds and scenes together.

    With `pooled` the variance between seeds is taken to be one for all of them.
    """
    for sums, of in _groups(found):
        if figure in (every := of(sums))["figure"]:

            def one(drawn: xr.Dataset, of: Statistic = of) -> xr.DataArray:
                return of(drawn).sel(figure=figure, drop=True)

            own, sums = every.sel(figure=figure, drop=True).rename({axis: "variant"}), sums.rename({axis: "variant"})
            gap = {}
            for name in (str(value) for value in own["variant"].values if value != against):
                over = over_scenes(sums.sel(variant=[name, against]), one, seed, [name], [against], pools=True)
                gap[name] = crossed(contrast(own, [name], [against], pooled), over)
            return gap
    raise KeyError(f"the record says nothing of {figure!r}")


def verdicts(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """Is a design as robust as PN, and as good as raw bands at marks and at their edges? With Holm over the designs.

    Parameters
    ----------
    found : of `kept`, along `design`, with "raw" and "PN" among them, and `seed`.
    seed : of the resampling.

    Returns
    -------
    As `hsiutils.paper.designs.verdicts`, of `NETWORK`; besides `light` and `marks` there is `edges`, `EDGE` against
    raw.
    """
    asked = {"light": (CHANGED, "PN", -1), "marks": (MARKS, "raw", 1), "edges": (EDGE, "raw", 1)}
    rows = []
    for short, (figure, against, good) in asked.items():
        for name, gap in gaps(found, "design", figure, against, seed).items():
            rows.append((NETWORK, name, short, gap.mean, gap.low, gap.high, gap.p_value(), good))
    return judged(pd.DataFrame(rows, columns=DIFFERENCE))


def finding(table: pd.DataFrame, what: str = "design") -> str:
    """What `verdicts` say of designs, or `what` else they are, in words."""
    best = table[table["reaches"]].sort_values("marks", ascending=False)
    if best.empty:
        failed = {
            short: ", ".join(table.loc[table[f"{short}:"] == "worse", "input"]) or "none"
            for short in ("light", "marks", "edges")
        }
        told = "; ".join(f"in {short}: {names}" for short, names in failed.items())
        return f"networks: no {what} reaches the aim outside the noise (worse {told})"
    first = best.iloc[0]
    ends = {"relit vegetation": first["light_high"], "marks": -first["marks_low"], "edges": -first["edges_low"]}
    lost = ", ".join(f"{end:.1f} points of {what}" for what, end in ends.items() if end > 0)
    return (
        f"networks: {', '.join(best['input'])} reach{'es' * (len(best) == 1)} the aim; {first['input']} has the best "
        f"marks, and what the noise may still hide of a loss is {lost or 'nothing'}"
    )
