"""What each claim is measured by: evidence in, a mean with its interval out; by arithmetic alone.

One small function a measure, found in `MEASURES` by the name that claims.yaml uses. Where networks that never learned,
or say one class everywhere, would pass, it is asked first whether they see the class, and `NotTestable` is raised.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from hsiutils.analysis.estimates import Estimate, mean_over_seeds, within
from hsiutils.analysis.intervals import interval
from hsiutils.analysis.similarity import beyond_seeds
from hsiutils.paper import conservativeness, merits, robustness, table1, tradeoff
from hsiutils.paper.evidence import Evidence, NotTestable, require, told
from hsiutils.paper.merits import FEW, MANY
from hsiutils.paper.studies import cameras, conditions, second

Measure = Callable[[Evidence], Estimate]
MEASURES: dict[str, Measure] = {}
"""Measures by the name that claims.yaml uses."""


def measure(function: Measure) -> Measure:
    """Decorator of a function that measures a claim: its name is what claims.yaml calls it."""
    MEASURES[function.__name__] = function
    return function


def _cell(variant: str, name: str) -> Measure:
    def cell(evidence: Evidence) -> Estimate:
        if evidence.origin != "real":
            raise NotTestable("the paper's value belongs to the real HSI-Drive; these scenes are simulated")
        _seeing(evidence, variant, name)
        counts = _counts(evidence, variant)[["confusion"]]
        found = within(merits.with_both(counts, table1.iou_of(name), evidence.seeds[0]), 0, 100)
        return _estimate(found, counts.sizes["seed"])

    return cell


for _name, _label in (("marks", "Road Marks"), ("vegetation", "Vegetation")):
    MEASURES |= {f"{_name}_3": _cell("3", _label), f"{_name}_25pn": _cell("25-PN", _label)}


@measure
def marks_fall(evidence: Evidence) -> Estimate:
    """IoU of Road Marks, 3 channels minus 25 with PN, points."""
    return _gained(evidence, "Road Marks", "3", "25-PN")


@measure
def vegetation_rise(evidence: Evidence) -> Estimate:
    """IoU of Vegetation, 25 channels with PN minus 3, points."""
    return _gained(evidence, "Vegetation", "25-PN", "3")


@measure
def variability_gain(evidence: Evidence) -> Estimate:
    """Logits of IoU gained from 1 to 25 channels per unit of a class's relative spread, within scenes."""
    for variant in ("1", "25"):
        for name in _counts(evidence, variant)["truth"].values:
            _seeing(evidence, variant, name)
    return told(table1.variability_slope, evidence["counts"], evidence["spreads"]["spread"])


@measure
def pn_relit_vegetation(evidence: Evidence) -> Estimate:
    """Vegetation pixels that change class when the sun is turned, 25 channels minus 25 with PN, points."""
    return _relit(evidence, "Vegetation")


@measure
def pn_relit_road(evidence: Evidence) -> Estimate:
    """The same of Road."""
    return _relit(evidence, "Road")


def _relit_pixels(name: str) -> Measure:
    """The same by a linear classifier of single pixels, with an interval over scenes.

    A classifier that learned from exchanged labels changes its mind as well, and is hardly ever right.
    """

    def measured(evidence: Evidence) -> Estimate:
        both = evidence["relit_pixels"].sel({"class": name}, drop=True)
        right = robustness.changed_share(both, "correct")
        for what, share in zip(right["input"].values, right.values, strict=True):
            if not share > _SEES:
                of = "all bands" if what == "all" else what
                raise NotTestable(f"single pixels: with {of} {share:.0f} % of {name} are right under both suns")

        def gap(drawn: xr.Dataset) -> xr.DataArray:
            share = robustness.changed_share(drawn)
            return share.sel(input="all") - share.sel(input="PN")

        found = interval(both, gap, seed=evidence.seeds[0], method="percentile", pools=True)
        return Estimate.of(found, found.attrs["drawn"])

    return measured


MEASURES |= {"pn_relit_pixels": _relit_pixels("Vegetation"), "pn_relit_pixels_road": _relit_pixels("Road")}


def _relit(evidence: Evidence, name: str) -> Estimate:
    """`NotTestable` unless the scenes can be rendered again and networks of both inputs tell the class from others."""
    for variant in ("25", "25-PN"):
        _seeing(evidence, variant, name)
    one = evidence["relit"].sel({"class": name}, drop=True)
    return _over_both(evidence, one, robustness.changed_share, ["25"], ["25-PN"], f"no pixel of {name} passes")


@measure
def pn_edge_cost(evidence: Evidence) -> Estimate:
    """Recall lost at the edge between road and marks, 25 channels with PN minus 25, points."""
    return _at_edges(evidence, robustness.edge_cost, "no marks away from their edge in the test scenes")


@measure
def pn_edge_odds(evidence: Evidence) -> Estimate:
    """The same in logits of recall."""
    return _at_edges(evidence, robustness.edge_odds, "no marks away from their edge in the test scenes")


@measure
def pn_edge_precision_cost(evidence: Evidence) -> Estimate:
    """Precision of marks lost at their edge, classes equally many, 25 channels with PN minus 25, points."""
    return _at_edges(evidence, robustness.precision_cost, "no marks are called so away from their edge")


def _at_edges(evidence: Evidence, cost: merits.Statistic, otherwise: str) -> Estimate:
    for variant in ("25-PN", "25"):
        _seeing(evidence, variant, "Road Marks")
    return _over_both(evidence, evidence["edges"], cost, ["25-PN"], ["25"], otherwise)


@measure
def head_gap(evidence: Evidence) -> Estimate:
    """Largest difference between a logit and the sum of its contributions, relative to the scene's largest, by seed."""
    return mean_over_seeds(evidence["head"]["gap"].max(["variant", "scene"]))


@measure
def likeness_of_inputs(evidence: Evidence) -> Estimate:
    """Linear CKA of conv2d_21 between two seeds of one input, less that between two inputs."""
    return told(beyond_seeds, evidence["pairs"].to_dataframe())


@measure
def vegetation_on_road(evidence: Evidence) -> Estimate:
    """Share of true vegetation that is predicted Road, points, mean of 1 and 3 channels minus 25 with PN."""
    require((*FEW, *MANY), evidence.variants)
    for variant in (*FEW, *MANY):
        _seeing(evidence, variant, "Vegetation")
    counts = evidence["counts"].sel(variant=[*FEW, *MANY])
    return _over_both(evidence, counts, merits.predicted_as, FEW, MANY)


@measure
def inhomogeneity(evidence: Evidence) -> Estimate:
    """Variance inside Other that true materials explain, points, 25-PN minus 1 or 3, the less sure one."""
    for variant in (*FEW, *MANY):
        _seeing(evidence, variant, "Other")
    explained = evidence["materials"]["explained"]
    return _least_sure(told(merits.contrast, explained, MANY, [name]) for name in FEW)


@measure
def edge_noise(evidence: Evidence) -> Estimate:
    """Noise of the input along label borders, in standard deviations, 25 with PN minus the mean of 1 and 3."""
    sums = evidence["input_edges"]
    return merits.over_scenes(sums, merits.edge_noise, evidence.seeds[0], MANY, FEW, pools=True)


@measure
def gradcam_explained(evidence: Evidence) -> Estimate:
    """Largest |R2| of any class that GradCAM's sums have before the head (`conservativeness.explained`), by seed."""
    found = evidence["explained"]
    before = abs(found["explained"].sel({"method": f"GradCAM {found.attrs['last']}"})).max(["class", "scene"])
    return mean_over_seeds(_finite(before, _ALIKE))


@measure
def gradcam_explained_deeper(evidence: Evidence) -> Estimate:
    """R2 of GradCAM's sums at deeper layers, with or without ReLU, whichever is largest, median over classes.

    Of the layers from which HiResCAM reads something: where it finds nothing, every map is empty.
    """
    found = evidence["explained"]
    return mean_over_seeds(_deeper(found["explained"].median("class").mean("scene"), found.attrs["last"])).within(
        most=1
    )


@measure
def gradcam_explained_without_spectra(evidence: Evidence) -> Estimate:
    """The same on real colour images, by the record of the study; below zero counted as zero."""
    found = evidence["second"]["explained"].sel(state="trained", drop=True)
    real = [name for name in found["data"].values if str(name).startswith(second.REAL)]
    if not real:
        raise NotTestable("the record of the study has no real colour images")
    methods = [str(name) for name in found["method"].values]
    last = next(name for name in methods if name.startswith("CAM ")).removeprefix("CAM ")
    return mean_over_seeds(_deeper(found.sel(data=real[0], drop=True), last).clip(min=0)).within(most=1)


def _deeper(found: xr.DataArray, last: str) -> xr.DataArray:
    """Largest of GradCAM's R2 (method, seed) before the last layer, of the layers that are read: (seed)."""
    parts = []
    for name in (str(value) for value in found["method"].values if str(value).startswith("GradCAM")):
        layer = name.rpartition(" ")[2]
        if layer != last:
            read = abs(found.sel({"method": f"HiResCAM {layer}"}, drop=True)) > _READ
            parts.append(found.sel({"method": name}, drop=True).where(read))
    return _finite(xr.concat(parts, "method").max("method"), _ALIKE)


def _kept(method: str) -> Measure:
    return lambda evidence: told(conservativeness.kept, evidence["survival"].sel({"method": method}))


for _method in ("GradCAM", "CAM", "Guided BackProp", "Guided GradCAM"):
    MEASURES[f"{_method.lower().replace(' ', '_')}_kept"] = _kept(_method)


def reliabilities(evidence: Evidence) -> dict[str, Estimate]:
    """Rank correlation over channels of what each adds to a class and the IoU lost without it, mean over networks.

    Of each reading of `merits.readings`, by its name: the plain one, which is the paper's, and the margins'.
    """
    readings = evidence["readings"]
    for variant, name in product(readings["variant"].values, readings["class"].values):
        _seeing(evidence, str(variant), str(name))
    means = {str(name): _finite(one.mean(["variant", "class"]), _ALIKE) for name, one in readings.items()}
    return {name: mean_over_seeds(one, correlations=True) for name, one in means.items()}


@measure
def reliability(evidence: Evidence) -> Estimate:
    """Of `reliabilities` the larger."""
    return max(reliabilities(evidence).values(), key=lambda found: found.mean)


@measure
def design_keeps_both(evidence: Evidence) -> Estimate:
    """Least of what a design gains over PN in light and over raw bands at marks and at their edges, points.

    Of the design for which this is largest. Its interval is as wide as if each design had been asked (Bonferroni).
    """
    found = evidence["designs"]
    for design, name in product(found["design"].values, ("Vegetation", "Road Marks")):
        _told_apart(found.sel(design=design), f"design {design}", name)
    every = told(tradeoff.gains, found, evidence.seeds[0])
    best = max(every.values(), key=lambda gains: min(gain.mean for gain in gains))
    half = [stats.t.ppf(1 - 0.025 / len(every), gain.freedom) * gain.error for gain in best]
    low, high = (np.min([gain.mean + side * wide for gain, wide in zip(best, half, strict=True)]) for side in (-1, 1))
    least = min(best, key=lambda gain: gain.mean)
    return Estimate(least.mean, float(low), float(high), found.sizes["seed"], least.freedom)


@measure
def rich_spectra_unseen(evidence: Evidence) -> Estimate:
    """Points of mean IoU that 25 bands lose more than 3 in a condition never seen, less the same elsewhere."""
    found = evidence["conditions"]
    for variant in ("3", "25"):
        own = found.sel(input=variant, trained=conditions.CONTROL).expand_dims(region=["all"])
        _told_apart(own, f"variant {variant}", "Vegetation")
    table = conditions.compared(found, evidence.seeds[0])
    return _row(table, found.sizes["seed"], where=conditions.NET, condition=conditions.MEAN, input="25 less 3")


@measure
def rich_spectra_other_camera(evidence: Evidence) -> Estimate:
    """Points of mean IoU that 25 bands, resampled, lose through that other camera of which it is least sure."""
    found = evidence["cameras"]
    own = found.sel(input="25", camera=cameras.OWN, mapping="native").expand_dims(region=["all"])
    _told_apart(own, "variant 25", "Vegetation")
    losses = cameras.losses(found, evidence.seeds[0])
    others = [name for name in found["camera"].values if name not in (cameras.OWN, cameras.MOVED)]
    trainings = found.sizes["seed"]
    return _least_sure(_row(losses, trainings, camera=name, mapping="resampled", input="25") for name in others)


def _least_sure(gaps: Iterable[Estimate]) -> Estimate:
    """Of differences that a sentence wants all above 0, the one that speaks for it least, in widths of its interval.

    It lies above 0 where all do, and below where one does (intersection-union test, Berger 1982); by its mean alone a
    small sure one could hide a large unsure one.
    """

    def for_it(gap: Estimate) -> float:
        width = gap.high - gap.low
        return gap.mean if np.isnan(width) else gap.mean / max(width, 1e-12)

    return min(gaps, key=for_it)


def _row(table: pd.DataFrame, trainings: int, **where: str) -> Estimate:
    """One row, of the mean over classes, with its interval."""
    own = table[(table[list(where)] == pd.Series(where)).all(axis=1) & (table["class"] == conditions.MEAN)]
    if own.empty or not np.isfinite(own["value"].iloc[0]):
        raise NotTestable(f"the record of the study has no {', '.join(where.values())}")
    return _estimate(own.iloc[0], trainings)


def _estimate(found: xr.Dataset | pd.Series, trainings: int) -> Estimate:
    """Of value, low and high over trainings and scenes; its freedom is that of the trainings or larger."""
    mean, low, high = (float(found[name]) for name in ("value", "low", "high"))
    return Estimate(mean, low, high, trainings, max(trainings - 1, 1))


def _counts(evidence: Evidence, variant: str) -> xr.Dataset:
    require([variant], evidence.variants)
    return evidence["counts"].sel(variant=variant)


def _gained(evidence: Evidence, name: str, more: str, less: str) -> Estimate:
    """IoU of a class with one input, less that with another, points."""
    for variant in (more, less):
        _seeing(evidence, variant, name)
    counts = evidence["counts"].sel(variant=[more, less])
    return _over_both(
        evidence, counts, table1.iou_of(name), [more], [less], "the class does not occur in the test scenes"
    )


def _over_both(
    evidence: Evidence,
    sums: xr.Dataset,
    statistic: merits.Statistic,
    more: Sequence[str],
    less: Sequence[str],
    otherwise: str = "no finite value",
) -> Estimate:
    """`merits.over_both`, or why there is nothing to compare."""
    _finite(statistic(sums.sel(variant=[*more, *less])), otherwise)
    return told(merits.over_both, sums, statistic, evidence.seeds[0], more, less)


def _seeing(evidence: Evidence, variant: str, name: str) -> None:
    """`NotTestable` unless the networks of a variant call far more of a class by its name than of everything.

    What says one class nearly everywhere, or any at random, has the same score under every input, is wrong alike at an
    edge and elsewhere, and says the same under any sun.
    """
    _told_apart(_counts(evidence, variant), f"variant {variant}", name)


def _told_apart(counts: xr.Dataset, who: str, name: str) -> None:
    """The same of any counts; `who` is for the reason."""
    found, everything = (merits.predicted_as(counts, source, name) for source in (name, None))
    more = _finite(found - everything)
    estimate = mean_over_seeds(more)
    if not (estimate.mean if np.isnan(estimate.low) else estimate.low) > _SEES:
        raise NotTestable(f"{who} calls hardly more of {name} by that name than of everything")


def _finite(values: xr.DataArray, otherwise: str = "the class does not occur in the test scenes") -> xr.DataArray:
    if not np.isfinite(values).any():
        raise NotTestable(otherwise)
    return values


_SEES = 25.0
"""Points that a class must be called by its name more than everything is, or a network does not see it."""
_READ = 0.01
"""R2 of HiResCAM below which nothing of a layer reaches the logits."""
_ALIKE = "the maps, or the logits, are the same everywhere, and then nothing is defined"
