"""The ledger: what the paper claims, what a run measures, and the verdict, which no author gives by hand.

claims.yaml holds the claims, one small function each measures them by evidence (`MEASURES`), and `judge` holds the
measured interval against what a claim expects.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import yaml

from hsiutils.analysis.intervals import Estimate, false_discovery, holm, interval, mean_over_seeds
from hsiutils.analysis.similarity import beyond_seeds
from hsiutils.models.metrics import scores
from hsiutils.paper import conservativeness, merits, robustness, table1
from hsiutils.paper.evidence import Evidence, NotTestable, require, told
from hsiutils.paper.merits import FEW, MANY

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
        return mean_over_seeds(_iou(evidence, variant, name))

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
    """The same by a linear classifier of single pixels, with an interval over scenes."""

    def measured(evidence: Evidence) -> Estimate:
        both = evidence["relit_pixels"].sel({"class": name}, drop=True)

        def gap(drawn: xr.Dataset) -> xr.DataArray:
            share = robustness.changed_share(drawn)
            return share.sel(input="all") - share.sel(input="PN")

        found = interval(both, gap, seed=evidence.seeds[0], method="percentile", pools=True)
        return Estimate.of(found, both.sizes["scene"])

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
    """Variance inside Other that true materials explain, points, 25 channels with PN minus 1 or 3, the nearer one."""
    explained = evidence["materials"]["explained"]
    return min((told(merits.contrast, explained, MANY, [name]) for name in FEW), key=lambda gap: gap.mean)


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
    """R2 of GradCAM's sums at deeper layers, with or without ReLU, whichever is largest, median over classes."""
    found, last = evidence["explained"]["explained"], evidence["explained"].attrs["last"]
    deeper = [name for name in found["method"].values if name.startswith("GradCAM") and not name.endswith(f" {last}")]
    best = found.sel({"method": deeper}).median("class").mean("scene").max("method")
    return mean_over_seeds(_finite(best, _ALIKE))


def _kept(method: str) -> Measure:
    return lambda evidence: told(conservativeness.kept, evidence["survival"].sel({"method": method}))


for _method in ("GradCAM", "Guided BackProp", "Guided GradCAM"):
    MEASURES[f"{_method.lower().replace(' ', '_')}_kept"] = _kept(_method)


@measure
def reliability(evidence: Evidence) -> Estimate:
    """Rank correlation over channels of what each adds to a class and the IoU lost without it, mean over networks."""
    found = evidence["readings"]["contribution"]
    return mean_over_seeds(_finite(found.mean(["variant", "class"]), _ALIKE), correlations=True)


def _counts(evidence: Evidence, variant: str) -> xr.Dataset:
    require([variant], evidence.variants)
    return evidence["counts"].sel(variant=variant)


def _iou(evidence: Evidence, variant: str, name: str) -> xr.DataArray:
    """IoU of a class, percent (seed)."""
    counts = _counts(evidence, variant).sel(region="all", drop=True)
    return _finite(scores(counts)["iou"].sel({"class": name}) * 100)


def _gained(evidence: Evidence, name: str, more: str, less: str) -> Estimate:
    """IoU of a class with one input, less that with another, points."""

    def points(counts: xr.Dataset) -> xr.DataArray:
        return 100 * scores(counts)["iou"].sel({"class": name}, drop=True)

    for variant in (more, less):
        _seeing(evidence, variant, name)
    counts = evidence["counts"].sel(variant=[more, less], region="all", drop=True)
    return _over_both(evidence, counts, points, [more], [less], "the class does not occur in the test scenes")


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
    counts = _counts(evidence, variant)
    found, everything = (merits.predicted_as(counts, source, name) for source in (name, None))
    more = _finite(found - everything)
    estimate = mean_over_seeds(more)
    if not (estimate.mean if np.isnan(estimate.low) else estimate.low) > _SEES:
        raise NotTestable(f"variant {variant} calls hardly more of {name} by that name than of everything")


def _finite(values: xr.DataArray, otherwise: str = "the class does not occur in the test scenes") -> xr.DataArray:
    if not np.isfinite(values).any():
        raise NotTestable(otherwise)
    return values


_SEES = 25.0
"""Points that a class must be called by its name more than everything is, or a network does not see it."""
_ALIKE = "the maps, or the logits, are the same everywhere, and then nothing is defined"
LEDGER = Path(__file__).resolve().with_name("claims.yaml")
PROVED = "proved"
REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
EQUIVALENT = "equivalent"
UNDECIDED = "undecided"
NOT_TESTABLE = "cannot be tested here"
NOT_MEASURED = "not yet measured"
LEARNED = "learned"
OF_METHOD = "true of the method, trained or not"
OF_INPUT = "true of the input, trained or not"
_HOLDS = {LEARNED: REPRODUCED, "method": OF_METHOD, "input": OF_INPUT}
"""What a claim that holds is called, by what it is about: only of learned networks is it a finding reproduced."""
OUTCOMES = (PROVED, *_HOLDS.values(), NOT_REPRODUCED, EQUIVALENT, UNDECIDED, NOT_TESTABLE, NOT_MEASURED)
_KINDS = ("identity", "value", "primary", "exploratory")
_FIELDS = {
    *("id", "where", "says", "measured", "control", "paper", "kind", "about", "over", "measure", "expects", "chapter"),
}
_EXPECTATIONS: tuple[set[str], ...] = ({"above"}, {"below"}, {"near", "within"})
_SIGNIFICANT = 0.05
_CORRECTIONS = {"primary": "Holm", "exploratory": "Benjamini and Hochberg"}


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper; see claims.yaml for the fields."""

    id: str
    where: str
    says: str
    measured: str
    control: str
    paper: float | None
    kind: str
    about: str
    over: str
    measure: str | None
    expects: Mapping[str, float] | None
    chapter: int

    @property
    def bound(self) -> float | None:
        """What the measured value must lie above or below; None for other expectations."""
        return next((value for name, value in (self.expects or {}).items() if name in ("above", "below")), None)


@dataclass(frozen=True)
class Verdict:
    """What a run says to a claim.

    Attributes
    ----------
    outcome : one of `OUTCOMES`.
    p : of the test against the claim's bound, corrected for the other tests of its kind; None where there is none.
    """

    claim: Claim
    outcome: str
    measured: Estimate | None
    note: str = ""
    p: float | None = None


def read_claims(path: Path = LEDGER) -> list[Claim]:
    """Read the ledger.

    Raises
    ------
    ValueError
        If an entry has a field too many or too few, a kind, subject or expectation of another form, or an unknown
        measure; or if a primary test is not about what networks learn.
    """
    entries = yaml.safe_load(path.read_text())["claims"]
    for entry in entries:
        where = f"{path}: claim {entry.get('id', entry)}:"
        if set(entry) != _FIELDS:
            raise ValueError(f"{where} expected the fields {sorted(_FIELDS)}, got {sorted(entry)}")
        if entry["kind"] not in _KINDS:
            raise ValueError(f"{where} kind must be one of {', '.join(_KINDS)}, got {entry['kind']!r}")
        if entry["about"] not in _HOLDS:
            raise ValueError(f"{where} about must be one of {', '.join(_HOLDS)}, got {entry['about']!r}")
        if entry["kind"] == "primary" and entry["about"] != LEARNED:
            raise ValueError(f"{where} a primary test is about what is learned, got about {entry['about']}")
        if entry["expects"] is not None and set(entry["expects"]) not in _EXPECTATIONS:
            raise ValueError(f"{where} expects must be above, below, or near and within")
        if entry["measure"] is not None and entry["measure"] not in MEASURES:
            raise ValueError(f"{where} no measure {entry['measure']!r}; there are {', '.join(MEASURES)}")
    return [Claim(**entry) for entry in entries]


def evaluate_claims(evidence: Evidence, path: Path = LEDGER) -> list[Verdict]:
    """Measure every claim by evidence and judge it.

    The primary tests are corrected together for the chance of any false one, as Holm (1979) does; the exploratory ones
    for the share of false ones among those told, as Benjamini and Hochberg (1995) do.
    """
    verdicts = [_judge(claim, evidence) for claim in read_claims(path)]
    for kind, correct in {"primary": holm, "exploratory": false_discovery}.items():
        # Of the primary ones also what is not tested counts, or it would ease the others.
        places = [place for place, one in enumerate(verdicts) if one.claim.kind == kind]
        places = [place for place in places if kind == "primary" or verdicts[place].p is not None]
        for place, p in zip(places, correct(verdicts[place].p for place in places), strict=True):
            if verdicts[place].p is None:
                continue
            one = replace(verdicts[place], p=p)
            if one.outcome in (*_HOLDS.values(), NOT_REPRODUCED) and p >= _SIGNIFICANT:
                one = replace(
                    one, outcome=UNDECIDED, note=f"p = {p:.2g} after {_CORRECTIONS[kind]}, {len(places)} tests"
                )
            verdicts[place] = one
    return verdicts


def judge(estimate: Estimate, claim: Claim) -> str:
    """Hold a measured value against what a claim expects.

    - An identity is proved on paper; the run only shows that its numbers obey, by their mean.
    - An interval that contains a bound decides nothing; neither does one value, whose spread nobody knows.
    - An interval within half of the paper's effect of no effect at all is equivalent to none.
    - What networks show that were never trained, or the input alone, is said to be of these, and not reproduced.
    """
    expects = claim.expects or {}
    low, high = estimate.low, estimate.high
    if claim.kind == "identity":
        return PROVED if estimate.mean < expects["below"] else NOT_REPRODUCED
    if "near" in expects:
        least, most = expects["near"] - expects["within"], expects["near"] + expects["within"]
        if least <= low <= high <= most:
            return _HOLDS[claim.about]
        return NOT_REPRODUCED if high < least or low > most else UNDECIDED
    bound = claim.bound or 0.0
    if claim.paper is not None and max(abs(low - bound), abs(high - bound)) < abs(claim.paper) / 2:
        return EQUIVALENT
    above, below = low > bound, high < bound
    if not above and not below:
        return UNDECIDED
    return _HOLDS[claim.about] if above == ("above" in expects) else NOT_REPRODUCED


def ledger_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """The ledger as people read it."""
    primary = sum(one.claim.kind == "primary" for one in verdicts)
    tests = {
        "primary": primary,
        "exploratory": sum(one.claim.kind == "exploratory" and one.p is not None for one in verdicts),
    }
    corrections = {"value": "none", "identity": "no test"}
    corrections |= {kind: f"{name}, {tests[kind]} tests" for kind, name in _CORRECTIONS.items()}
    return pd.DataFrame(
        {
            "the paper says": one.claim.says,
            "where": one.claim.where,
            "what is measured": one.claim.measured,
            "control": one.claim.control,
            "test": one.claim.kind,
            "about": one.claim.about,
            "correction": corrections[one.claim.kind],
            "paper's value": "" if one.claim.paper is None else f"{one.claim.paper:g}",
            "measured here": "" if one.measured is None else str(one.measured),
            "interval over": one.claim.over,
            "sign": _sign(one),
            "size": _size(one),
            "p": "" if one.p is None or np.isnan(one.p) else f"{one.p:.2g}",
            "smallest effect it could see": _smallest(one, 0.05 / primary if one.claim.kind == "primary" else 0.05),
            "verdict": one.outcome + (f" ({one.note})" if one.note else ""),
            "chapter": one.claim.chapter,
        }
        for one in verdicts
    )


def in_short(verdict: Verdict) -> str:
    """A verdict with what was measured, and the reason where it has one."""
    measured = "" if verdict.measured is None else f": {verdict.measured}"
    return f"{verdict.outcome}{measured}" + (f" ({verdict.note})" if verdict.note else "")


def _sign(verdict: Verdict) -> str:
    """Whether the mean lies on the side of the bound that the claim names, be it by chance."""
    measured, bound = verdict.measured, verdict.claim.bound
    if measured is None or bound is None or verdict.claim.kind == "identity":
        return ""
    return "as claimed" if (measured.mean > bound) == ("above" in (verdict.claim.expects or {})) else "opposite"


def _size(verdict: Verdict) -> str:
    """What is measured beside the paper's number."""
    paper, measured = verdict.claim.paper, verdict.measured
    if measured is None or verdict.claim.kind == "identity":
        return ""
    if not paper:
        return "the paper gives none"
    if verdict.claim.bound is None:
        return f"{measured.mean - paper:+.2g} from the paper's"
    return f"{abs(measured.mean / paper):.1f} times the paper's"


def _smallest(verdict: Verdict, level: float) -> str:
    """With 80 % power, from the bound, or the paper's value; of primary tests at the strictest of Holm's levels."""
    if verdict.measured is None or verdict.claim.kind == "identity" or np.isnan(verdict.measured.error):
        return ""
    return f"{verdict.measured.detectable(level=level):.2g}"


def _judge(claim: Claim, evidence: Evidence) -> Verdict:
    if claim.measure is None or claim.expects is None:
        return Verdict(claim, NOT_MEASURED if claim.expects else NOT_TESTABLE, None)
    try:
        estimate = MEASURES[claim.measure](evidence)
    except NotTestable as reason:
        return Verdict(claim, NOT_TESTABLE, None, str(reason))
    tested = claim.bound is not None and claim.kind != "identity"
    return Verdict(claim, judge(estimate, claim), estimate, p=estimate.p_value(claim.bound or 0.0) if tested else None)
