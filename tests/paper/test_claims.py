import math

import pytest
import yaml

from hsiutils.analysis.estimates import Estimate
from hsiutils.paper import claims
from hsiutils.paper.claims import (
    EQUIVALENT,
    NOT_MEASURED,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    OF_INPUT,
    OF_METHOD,
    PROVED,
    REPRODUCED,
    UNDECIDED,
    Claim,
    Verdict,
    judge,
    ledger_table,
)
from hsiutils.paper.evidence import NotTestable
from hsiutils.paper.measures import MEASURES


def claim(expects, kind="exploratory", paper=None, **fields):
    """A claim with these, and words for the rest."""
    words = dict.fromkeys(("id", "where", "says", "measured", "unit", "control", "over"), "w")
    words |= {"measure": "m", "chapter": 3, "paper": paper, "kind": kind, "about": "learned", "expects": expects}
    words |= fields
    return Claim(**words)


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
        ((93.0, 91.5, 94.5), {"near": 93.24, "within": 2}, REPRODUCED),
        ((93.0, 90, 96), {"near": 93.24, "within": 2}, UNDECIDED),
        ((93.0, math.nan, math.nan), {"near": 93.24, "within": 2}, UNDECIDED),
        ((80.0, 70, 90), {"near": 93.24, "within": 2}, NOT_REPRODUCED),
    ],
)
def test_verdict_follows_from_the_interval(interval, expects, verdict):
    assert judge(Estimate(*interval, 3), claim(expects)) == verdict


@pytest.mark.parametrize(
    ("interval", "paper", "verdict"),
    [
        ((0.1, -0.9, 1.1), 4, EQUIVALENT),
        ((0.5, 0.1, 0.9), 4, EQUIVALENT),  # not zero, and yet too little to matter
        ((1.1, 0.1, 2.1), 4, REPRODUCED),
        ((0.1, -2.1, 2.3), 4, UNDECIDED),
        ((0.1, -0.9, 1.1), None, UNDECIDED),  # where the paper gives no effect, nothing says what would be little
    ],
)
def test_less_than_half_of_the_papers_effect_is_equivalent_to_none(interval, paper, verdict):
    assert judge(Estimate(*interval, 3), claim({"above": 0}, paper=paper)) == verdict


def test_an_identity_is_proved_or_the_numbers_break_it():
    identity = claim({"below": 1e-4}, "identity")
    assert judge(Estimate(1e-7, math.nan, math.nan, 1), identity) == PROVED
    assert judge(Estimate(1e-3, 1e-4, 2e-3, 3), identity) == NOT_REPRODUCED


@pytest.mark.parametrize(("about", "holds"), [("learned", REPRODUCED), ("method", OF_METHOD), ("input", OF_INPUT)])
def test_what_was_not_learned_is_not_called_reproduced(about, holds):
    above, value = {"above": 0}, {"near": 1, "within": 2}
    assert judge(Estimate(1, 0.5, 1.5, 3), claim(above, about=about)) == holds
    assert judge(Estimate(1, 0.5, 1.5, 3), claim(value, about=about)) == holds
    assert judge(Estimate(-1, -1.5, -0.5, 3), claim(above, about=about)) == NOT_REPRODUCED
    assert judge(Estimate(0, -1, 1, 3), claim(above, about=about)) == UNDECIDED


def test_tests_of_a_kind_are_corrected_together(tmp_path, monkeypatch):
    values = {"clear": Estimate(4, 3, 5, 8, 7), "narrow": Estimate(4, 0.1, 7.9, 8, 7), "none": Estimate(0, -1, 1, 8, 7)}
    monkeypatch.setattr(claims, "MEASURES", {name: lambda evidence, name=name: values[name] for name in values})

    def outcomes(kind, *names):
        entries = [vars(claim({"above": 0}, kind, id=f"{n}{i}", measure=n)) for i, n in enumerate(names)]
        path = tmp_path / "claims.yaml"
        path.write_text(yaml.safe_dump({"claims": entries}))
        return [(one.outcome, one.p) for one in claims.evaluate_claims(None, path)]

    (alone,) = outcomes("primary", "narrow")
    assert alone == (REPRODUCED, pytest.approx(values["narrow"].p_value()))
    narrow, clear = outcomes("primary", "narrow", "clear")
    assert (narrow[0], clear[0]) == (REPRODUCED, REPRODUCED)  # the clear one is first, and the other stands alone
    both = outcomes("primary", "narrow", "narrow")
    assert both == [(UNDECIDED, pytest.approx(2 * values["narrow"].p_value()))] * 2
    # The share of false ones among those told is another question, and has no quarrel with two that are equally likely.
    assert [one for one, _ in outcomes("exploratory", "narrow", "narrow")] == [REPRODUCED] * 2
    among = outcomes("exploratory", "narrow", "none", "none")
    assert among[0] == (UNDECIDED, pytest.approx(3 * values["narrow"].p_value()))


@pytest.mark.parametrize(
    ("mean", "fields", "sign", "size"),
    [
        (32.0, {"paper": 4.0}, "as the paper says", "8.0 times the paper's"),
        (-2.0, {"paper": 4.0}, "against what the paper says", "0.5 times the paper's"),
        (1, {"expects": {"below": 0}}, "against what the paper says", "the paper gives none"),
        (0.3, {"expects": {"above": 0.5}}, "short of the bound, 0.5", "the paper gives none"),
        (-0.3, {"expects": {"above": 0.5}}, "against what the paper says", "the paper gives none"),
        (91, {"paper": 93.5, "expects": {"near": 93.5, "within": 2}}, "", "-2.5 from the paper's"),
        (1, {"kind": "identity", "expects": {"below": 2}}, "", ""),
    ],
)
def test_sign_and_size_are_two_things(mean, fields, sign, size):
    one = Verdict(claim(**{"expects": {"above": 0}} | fields), REPRODUCED, Estimate(mean, mean - 1, mean + 1, 3, 2))
    row = ledger_table([one]).iloc[0]
    assert (row["direction"], row["size"]) == (sign, size)
    # (t 4.30 + 1.06) / 4.30 half widths, two degrees of freedom; nothing needs to be seen of what is proved
    assert row["smallest effect it could see"] == ("" if one.claim.kind == "identity" else "1.2")


def test_every_row_that_was_measured_has_all_that_a_reader_needs():
    tests = [one for one in claims.read_claims() if one.kind != "identity"]
    table = ledger_table([Verdict(one, UNDECIDED, Estimate(1, 0.5, 1.5, 3, 2), p=0.01) for one in tests])
    for column in ("what is measured", "control", "holds if", "test", "correction", "measured here", "size", "verdict"):
        assert (table[column] != "").all()
    assert (table["smallest effect it could see"] != "").all()
    said = (table["test"] != "value") & ~table["where"].str.contains("open question")
    assert (table["direction"] != "").equals(said)
    assert set(table["correction"][table["test"] == "primary"]) == {"Holm, 5 tests"}


def test_the_rule_of_a_row_can_be_read():
    rules = [
        ({"above": 0}, "exploratory", "the interval lies above 0"),
        ({"below": 1e-4}, "identity", "the mean lies below 0.0001"),
        ({"near": 93.24, "within": 2.0}, "value", "the interval lies within 2 of 93.24"),
        (None, "exploratory", ""),
    ]
    rows = ledger_table([Verdict(claim(expects, kind), UNDECIDED, None) for expects, kind, _ in rules])
    assert rows["holds if"].tolist() == [words for *_, words in rules]


def test_the_ledger_is_sound():
    ledger = claims.read_claims()
    assert len({claim.id for claim in ledger}) == len(ledger)
    values = {claim.id: claim.paper for claim in ledger}
    # The four cells of Table 1 that are known, and the differences that they imply.
    cells = [values[f"{name}-value"] for name in ("marks-3", "marks-25pn", "vegetation-3", "vegetation-25pn")]
    assert cells == [93.24, 89.27, 91.90, 94.12]
    assert values["marks-fall"] == pytest.approx(93.24 - 89.27)
    assert values["vegetation-rises"] == pytest.approx(94.12 - 91.90)
    assert {claim.measure for claim in ledger} - {None} <= set(MEASURES)
    assert all(claim.says.strip() and claim.measured.strip() for claim in ledger)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "expected the fields"),
        ({"expects": {"around": 1}}, "above, below, or near"),
        ({"measure": "guess"}, "no measure 'guess'"),
        ({"study": "none"}, "study must be one of second.*, of no primary test, got 'none'"),
        ({"kind": "sure"}, "kind must be one of identity, value, primary, exploratory, got 'sure'"),
        ({"about": "luck"}, "about must be one of learned, method, input, got 'luck'"),
        ({"kind": "primary", "about": "input"}, "a primary test is about what is learned, got about input"),
    ],
)
def test_faulty_entries_are_named(tmp_path, change, message):
    entry = yaml.safe_load(claims.LEDGER.read_text())["claims"][0] | {"id": "faulty"} | change
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [entry]}))
    with pytest.raises(ValueError, match=f"faulty.*{message}"):
        claims.read_claims(path)


def test_every_claim_gets_a_verdict(tmp_path, monkeypatch):
    def untestable(evidence):
        raise NotTestable("no sun")

    monkeypatch.setattr(claims, "MEASURES", {"yes": lambda run: Estimate(1, 0.5, 1.5, 3), "no": untestable})
    base = {
        "id": "a",
        "where": "Table 9",
        "says": "s",
        "measured": "m",
        "unit": "u",
        "control": "c",
        "paper": 1.5,
        "chapter": 3,
    }
    base |= {"kind": "exploratory", "about": "learned", "over": "seeds", "expects": {"above": 0}}
    differences = ({"measure": "yes"}, {"measure": "no"}, {"measure": None}, {"measure": None, "expects": None})
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [base | own for own in differences]}))
    verdicts = claims.evaluate_claims(None, path)
    expected = [REPRODUCED, NOT_TESTABLE, NOT_MEASURED, NOT_TESTABLE]
    assert [verdict.outcome for verdict in verdicts] == expected
    table = claims.ledger_table(verdicts)
    # The paper's wording stands beside the measure used.
    assert table["the paper says"].tolist() == ["s"] * 4
    assert table["what is measured"].tolist() == ["m"] * 4
    assert table["measured here"].tolist() == ["1 [0.5, 1.5] u", "", "", ""]
    assert table["verdict"][1] == "cannot be tested here (no sun)"
    assert table["paper's value"][0] == "1.5"
