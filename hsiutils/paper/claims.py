"""The ledger: what the paper claims, and the verdict, which no author gives by hand.

claims.yaml holds the claims, `hsiutils.paper.measures` measures them by evidence, and `judge` holds the measured
interval against what a claim expects.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from hsiutils.analysis.estimates import Estimate, false_discovery, holm
from hsiutils.paper.evidence import STUDIES, Evidence, NotTestable
from hsiutils.paper.measures import MEASURES

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
    *(
        "id",
        "where",
        "says",
        "measured",
        "unit",
        "control",
        "paper",
        "kind",
        "about",
        "over",
        "measure",
        "expects",
        "chapter",
    ),
}
_OPTIONAL = "study"
_EXPECTATIONS: tuple[set[str], ...] = ({"above"}, {"below"}, {"near", "within"})
_SIGNIFICANT = 0.05
_CORRECTIONS = {"primary": "Holm", "exploratory": "Benjamini and Hochberg"}
_FAMILIES = (("primary", False), ("exploratory", False), ("exploratory", True))
"""Tests that are corrected together: by kind, and by whether a study judges them."""


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper; see claims.yaml for the fields."""

    id: str
    where: str
    says: str
    measured: str
    unit: str
    control: str
    paper: float | None
    kind: str
    about: str
    over: str
    measure: str | None
    expects: Mapping[str, float] | None
    chapter: int
    study: str | None = None

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
        measure or study; or if a primary test is not about what networks of the run learn.
    """
    entries = yaml.safe_load(path.read_text())["claims"]
    for entry in entries:
        where = f"{path}: claim {entry.get('id', entry)}:"
        if set(entry) - {_OPTIONAL} != _FIELDS:
            raise ValueError(f"{where} expected the fields {sorted(_FIELDS)}, got {sorted(entry)}")
        if entry["kind"] not in _KINDS:
            raise ValueError(f"{where} kind must be one of {', '.join(_KINDS)}, got {entry['kind']!r}")
        if entry["about"] not in _HOLDS:
            raise ValueError(f"{where} about must be one of {', '.join(_HOLDS)}, got {entry['about']!r}")
        if (study := entry.get(_OPTIONAL)) is not None and (study not in STUDIES or entry["kind"] == "primary"):
            raise ValueError(f"{where} study must be one of {', '.join(STUDIES)}, of no primary test, got {study!r}")
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
    for the share of false ones among those told, as Benjamini and Hochberg (1995) do. Those that studies judge are a
    family of their own: their records are the same whatever the run, and so are their verdicts.
    """
    verdicts = [_judge(claim, evidence) for claim in read_claims(path)]
    for kind, of_studies in _FAMILIES:
        places = [place for place, one in enumerate(verdicts) if _family(one) == (kind, of_studies)]
        correct = holm if kind == "primary" else false_discovery
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


def _family(verdict: Verdict) -> tuple[str, bool] | None:
    """Kind of a test, and whether a study judges it; None of what is not tested.

    Of the primary ones also what is not tested counts, or it would ease the others.
    """
    tested = verdict.claim.kind == "primary" or (verdict.claim.kind == "exploratory" and verdict.p is not None)
    return (verdict.claim.kind, verdict.claim.study is not None) if tested else None


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
    tests = Counter(family for one in verdicts if (family := _family(one)))
    corrections: dict[tuple[str, bool] | None, str] = {None: "none"}
    corrections |= {(kind, of): f"{_CORRECTIONS[kind]}, {tests[kind, of]} tests" for kind, of in _FAMILIES}
    primary = tests["primary", False]
    return pd.DataFrame(
        {
            "the paper says": one.claim.says,
            "where": one.claim.where,
            "what is measured": one.claim.measured,
            "control": one.claim.control,
            "holds if": _rule(one.claim),
            "test": one.claim.kind,
            "about": one.claim.about,
            "correction": corrections[_family(one)],
            "paper's value": "" if one.claim.paper is None else f"{one.claim.paper:g}",
            "measured here": _measured(one),
            "interval over": one.claim.over,
            "direction": _direction(one),
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
    measured = f": {_measured(verdict)}" if verdict.measured else ""
    return f"{verdict.outcome}{measured}" + (f" ({verdict.note})" if verdict.note else "")


def _measured(verdict: Verdict) -> str:
    """The figure with its interval and unit."""
    return f"{verdict.measured} {verdict.claim.unit}" if verdict.measured else ""


def _rule(claim: Claim) -> str:
    """What a claim expects, in words."""
    expects = claim.expects or {}
    if "near" in expects:
        return f"the interval lies within {expects['within']:g} of {expects['near']:g}"
    what = "the mean" if claim.kind == "identity" else "the interval"
    return "".join(f"{what} lies {side} {bound:g}" for side, bound in expects.items())


def _direction(verdict: Verdict) -> str:
    """Whether the mean lies where the claim says, be it by chance; nothing of open questions, which say nothing."""
    measured, bound = verdict.measured, verdict.claim.bound
    if measured is None or bound is None or verdict.claim.kind == "identity" or "open" in verdict.claim.where:
        return ""
    claimed = (measured.mean > bound) == ("above" in (verdict.claim.expects or {}))
    if claimed:
        return "as the paper says"
    short = (
        measured.mean * bound > 0
    )  # on its side of zero, as ours of a reliable correlation, which is no word of the paper's
    return f"short of the bound, {bound:g}" if short else "against what the paper says"


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
