import math

import pytest
import yaml

from hsiutils.analysis.intervals import Estimate
from hsiutils.paper import claims
from hsiutils.paper.claims import (
    MEASURES,
    NOT_MEASURED,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    UNDECIDED,
    NotTestable,
    judge,
    read_claims,
)


@pytest.mark.parametrize(
    ("interval", "expects", "verdict"),
    [
        ((1, 0.5, 1.5), {"above": 0}, REPRODUCED),
        ((1, -0.5, 2.5), {"above": 0}, UNDECIDED),
        ((-1, -1.5, -0.5), {"above": 0}, NOT_REPRODUCED),
        ((-1, -1.5, -0.5), {"below": 0}, REPRODUCED),
        ((1, 0.5, 1.5), {"below": 0}, NOT_REPRODUCED),
        ((0, -1, 1), {"below": 0}, UNDECIDED),
        ((1, math.nan, math.nan), {"above": 0}, UNDECIDED),
        ((93.0, 90, 96), {"near": 93.24, "within": 2}, REPRODUCED),
        ((80.0, 70, 90), {"near": 93.24, "within": 2}, NOT_REPRODUCED),
    ],
)
def test_verdict_follows_from_the_interval(interval, expects, verdict):
    assert judge(Estimate(*interval, 3), expects) == verdict


def test_the_ledger_is_sound():
    ledger = read_claims()
    assert len({claim.id for claim in ledger}) == len(ledger)
    by_id = {claim.id: claim for claim in ledger}
    # The four cells of Table 1 that are known, and the differences that they imply.
    assert by_id["marks-3-value"].paper == 93.24
    assert by_id["marks-25pn-value"].paper == 89.27
    assert by_id["vegetation-3-value"].paper == 91.90
    assert by_id["vegetation-25pn-value"].paper == 94.12
    assert by_id["marks-fall"].paper == pytest.approx(93.24 - 89.27)
    assert by_id["vegetation-rises"].paper == pytest.approx(94.12 - 91.90)
    assert {claim.measure for claim in ledger} - {None} <= set(MEASURES)
    assert all(claim.says.strip() and claim.measured.strip() for claim in ledger)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "expected the fields"),
        ({"expects": {"around": 1}}, "above, below, or near"),
        ({"measure": "guess"}, "no measure 'guess'"),
    ],
)
def test_faulty_entries_are_named(tmp_path, change, message):
    entry = yaml.safe_load(claims.LEDGER.read_text())["claims"][0] | {"id": "faulty"} | change
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [entry]}))
    with pytest.raises(ValueError, match=f"faulty.*{message}"):
        read_claims(path)


def test_every_claim_gets_a_verdict(tmp_path, monkeypatch):
    def untestable(run):
        raise NotTestable("no sun")

    monkeypatch.setattr(claims, "MEASURES", {"yes": lambda run: Estimate(1, 0.5, 1.5, 3), "no": untestable})
    base = {"where": "Table 9", "says": "s", "measured": "m", "paper": 1.5, "chapter": 3}
    entries = [
        {"id": "a", "measure": "yes", "expects": {"above": 0}, **base},
        {"id": "b", "measure": "no", "expects": {"above": 0}, **base},
        {"id": "c", "measure": None, "expects": {"above": 0}, **base},
        {"id": "d", "measure": None, "expects": None, **base},
    ]
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": entries}))
    verdicts = claims.evaluate_claims(None, path)
    assert [verdict.outcome for verdict in verdicts] == [REPRODUCED, NOT_TESTABLE, NOT_MEASURED, NOT_TESTABLE]
    table = claims.ledger_table(verdicts)
    # The paper's wording stands beside the measure used.
    assert table["the paper says"].tolist() == ["s"] * 4
    assert table["what is measured"].tolist() == ["m"] * 4
    assert table["measured here"].tolist() == ["1 [0.5, 1.5]", "", "", ""]
    assert table["verdict"][1] == "cannot be tested here (no sun)"
    assert table["paper's value"][0] == "1.5"
