"""What networks win in another light and lose at road marks: of studies that count both, per scene.

A figure has one interval over seeds and scenes together: other trainings on other scenes should agree. What is asked of
single pixels (`hsiutils.paper.designs`) is asked here of networks, by the same names and the same rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import xarray as xr

from hsiutils.analysis.estimates import Estimate, crossed, within
from hsiutils.paper.designs import CHANGED, DIFFERENCE, MARKS, judged, light_figures, marks_figures
from hsiutils.paper.merits import Statistic, contrast, over_scenes, with_both
from hsiutils.paper.robustness import edge_accuracy

EDGE = "edge accuracy"
"""Percent of the road and marks at the edge between the two that are called so."""
NETWORK = "network"
"""In the place of a classifier of single pixels."""
ASKED = {"light": (CHANGED, "PN", -1), "marks": (MARKS, "raw", 1), "edges": (EDGE, "raw", 1)}
"""What a design is asked, in short: a figure, the input that it is held against, and which sign is a gain."""


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
    A long table: the axes of the study, `figure` (of `marks_figures`, `light_figures` and `EDGE`), value, low, high,
    all in percent. No interval leaves 0 to 100.
    """
    parts = [with_both(sums, of, seed, pooled) for sums, of in _groups(found)]
    table = pd.concat([part.to_dataframe().reset_index() for part in parts], ignore_index=True).dropna(subset="value")
    return within(table, 0, 100)


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
    rows = []
    for short, (figure, against, good) in ASKED.items():
        for name, gap in gaps(found, "design", figure, against, seed).items():
            rows.append((NETWORK, name, short, gap.mean, gap.low, gap.high, gap.p_value(), good))
    return judged(pd.DataFrame(rows, columns=DIFFERENCE))


def gains(found: xr.Dataset, seed: int) -> dict[str, list[Estimate]]:
    """What every design but raw bands and PN gains in each of `ASKED`; more is better. Parameters as of `verdicts`."""
    parts = [(gaps(found, "design", figure, against, seed), good) for figure, against, good in ASKED.values()]
    designs = [name for name in parts[0][0] if all(name in part for part, _ in parts)]
    return {name: [part[name] if good > 0 else _turned(part[name]) for part, good in parts] for name in designs}


def _turned(gap: Estimate) -> Estimate:
    return replace(gap, mean=-gap.mean, low=-gap.high, high=-gap.low)


def finding(found: xr.Dataset, table: pd.DataFrame, seed: int, what: str = "design") -> list[str]:
    """What `verdicts` say of designs, or `what` else they are, in sentences; the others as of `verdicts`."""
    bought, paid = (gaps(found, "design", figure, "raw", seed)["PN"] for figure in (CHANGED, MARKS))
    reach = "; ".join(table.loc[table["reaches"], "input"])
    said = [
        f"networks, PN less raw bands: vegetation that changes class {bought} points, IoU of marks {paid} points",
        f"networks: {f'the aim is reached by {reach}' if reach else f'no {what} reaches the aim outside the noise'}",
    ]
    asked = ("light", "marks", "edges")
    fair = table[~(table[[f"{short}:" for short in asked]] == "worse").any(axis=1)].sort_values("marks")
    if fair.empty:
        return [*said, f"every {what} is worse in one of the three, by more than noise"]
    best = fair.iloc[-1]
    ends = {"relit vegetation": best["light_high"], "marks": -best["marks_low"], "edges": -best["edges_low"]}
    lost = ", ".join(f"{end:.1f} points of {name}" for name, end in ends.items() if end > 0)
    regained = gaps(found, "design", MARKS, "PN", seed)[best["input"]]
    return [
        *said,
        f"worse in none of the three, as far as noise lets see: {'; '.join(fair['input'])}",
        f"of these {best['input']} has the best marks, {regained} points of IoU more than PN; noise may still hide a "
        f"loss of {lost or 'nothing'}",
    ]
