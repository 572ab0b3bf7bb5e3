"""The ledger: what the paper claims, what a run measures, and the verdict, which no author gives by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hsiutils.measures import MEASURES, NotTestable
from hsiutils.pipeline import Run
from hsiutils.uncertainty import Estimate

LEDGER = Path(__file__).resolve().parents[1] / "data" / "claims.yaml"

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided: within the spread over seeds"
NOT_TESTABLE = "cannot be tested here"
NOT_MEASURED = "not yet measured"

_FIELDS = {"id", "where", "says", "measured", "paper", "measure", "expects", "chapter"}
_EXPECTATIONS: tuple[set[str], ...] = ({"above"}, {"below"}, {"near", "within"})


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper; see data/claims.yaml for the fields."""

    id: str
    where: str
    says: str
    measured: str
    paper: float | None
    measure: str | None
    expects: Mapping[str, float] | None
    chapter: int


@dataclass(frozen=True)
class Verdict:
    """What a run says to a claim."""

    claim: Claim
    outcome: str
    measured: Estimate | None
    note: str = ""


def read_claims(path: Path = LEDGER) -> list[Claim]:
    """Read the ledger.

    Raises
    ------
    ValueError
        If an entry has a field too many or too few, an expectation of another form, or an unknown measure.
    """
    entries = yaml.safe_load(path.read_text())["claims"]
    return [_claim(entry, path) for entry in entries]


def evaluate_claims(run: Run, path: Path = LEDGER) -> list[Verdict]:
    """Measure every claim with a run and judge it."""
    return [_judge(claim, run) for claim in read_claims(path)]


def judge(estimate: Estimate, expects: Mapping[str, float]) -> str:
    """Hold a measured value against what a claim expects.

    An interval that contains the bound decides nothing; neither does one value, whose spread nobody knows.
    """
    if "near" in expects:
        return REPRODUCED if abs(estimate.mean - expects["near"]) <= expects["within"] else NOT_REPRODUCED
    if "above" in expects:
        holds, fails = estimate.low > expects["above"], estimate.high < expects["above"]
    else:
        holds, fails = estimate.high < expects["below"], estimate.low > expects["below"]
    if holds:
        return REPRODUCED
    return NOT_REPRODUCED if fails else UNDECIDED


def ledger_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """The ledger as people read it."""
    rows = [
        {
            "the paper says": verdict.claim.says,
            "where": verdict.claim.where,
            "what is measured": verdict.claim.measured,
            "paper's value": "" if verdict.claim.paper is None else f"{verdict.claim.paper:g}",
            "measured here": "" if verdict.measured is None else str(verdict.measured),
            "verdict": verdict.outcome + (f" ({verdict.note})" if verdict.note else ""),
            "chapter": verdict.claim.chapter,
        }
        for verdict in verdicts
    ]
    return pd.DataFrame(rows)


def _judge(claim: Claim, run: Run) -> Verdict:
    if claim.measure is None or claim.expects is None:
        return Verdict(claim, NOT_MEASURED if claim.expects else NOT_TESTABLE, None)
    try:
        estimate = MEASURES[claim.measure](run)
    except NotTestable as reason:
        return Verdict(claim, NOT_TESTABLE, None, str(reason))
    return Verdict(claim, judge(estimate, claim.expects), estimate)


def _claim(entry: dict[str, Any], path: Path) -> Claim:
    name = entry.get("id", entry)
    if set(entry) != _FIELDS:
        raise ValueError(f"{path}: claim {name}: expected the fields {sorted(_FIELDS)}, got {sorted(entry)}")
    if entry["expects"] is not None and set(entry["expects"]) not in _EXPECTATIONS:
        raise ValueError(f"{path}: claim {name}: expects must be above, below, or near and within")
    if entry["measure"] is not None and entry["measure"] not in MEASURES:
        raise ValueError(f"{path}: claim {name}: no measure {entry['measure']!r}; there are {', '.join(MEASURES)}")
    return Claim(**entry)
