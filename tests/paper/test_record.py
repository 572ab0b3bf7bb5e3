import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

from hsiutils.analysis.estimates import Estimate
from hsiutils.book import build
from hsiutils.paper import evidence as gathered
from hsiutils.paper import record, store
from hsiutils.paper.claims import (
    EQUIVALENT,
    NOT_MEASURED,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    PROVED,
    REPRODUCED,
    UNDECIDED,
    Verdict,
    evaluate_claims,
    ledger_table,
    read_claims,
)
from hsiutils.paper.evidence import KINDS, Evidence, NotTestable
from hsiutils.paper.measures import reliabilities
from hsiutils.paper.record import FILE, MANIFEST, Ledger, agreed_verdicts, judged, keep, recorded, score
from hsiutils.paper.results import RESULTS


@pytest.fixture(scope="module")
def folder(tiny_run, tmp_path_factory):
    made = tmp_path_factory.mktemp("results")
    keep(tiny_run, made, progress=False)
    return made


@pytest.fixture
def copy(folder, tmp_path):
    for name in (MANIFEST, FILE):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def told(verdicts):
    return [(one.outcome, one.note, repr(one.p), repr(one.measured)) for one in verdicts]


def test_what_is_kept_is_judged_as_the_run_was(tiny_run, folder):
    kept = recorded(folder)
    assert told(evaluate_claims(kept.evidence)) == told(evaluate_claims(Evidence.of(tiny_run)))
    made = kept.manifest
    assert set(made["evidence"]) | set(made["untestable"]) == set(KINDS)
    assert "needs variant '25'" in made["untestable"]["relit"]
    assert made["networks"]["3"]["1"] == tiny_run.networks([("3", 1)])[0].key
    assert (made["scenes"]["test"], made["profile"]["recipe"]["epochs"]) == (2, 2)
    assert str(kept).startswith("profile tiny, seed 0, simulated scenes, 2 networks for each input, 2 epochs; 20")


def test_planted_evidence_is_kept_as_it_is(tiny_run, tmp_path, monkeypatch):
    """Numbers, names, what is not known, and attributes."""
    table = xr.Dataset(
        {"confusion": (("variant", "scene"), [[2**40, 0], [1, -1]]), "gap": ((), np.float32(0.1))},
        {"variant": ["1", "25-PN"], "scene": ["a", "ü"]},
        {"last": "conv2d_21"},
    )
    planted = {
        "counts": table,
        "explained": xr.Dataset({"explained": ("class", [np.nan, 1 / 3])}, {"class": ["A", "B"]}),
    }
    for module in (gathered, record):
        monkeypatch.setattr(module, "KINDS", {name: lambda run, one=one: one for name, one in planted.items()})
    keep(tiny_run, tmp_path, progress=False)
    kept = recorded(tmp_path).evidence
    for name, one in planted.items():
        xr.testing.assert_identical(kept[name], one)
    with pytest.raises(NotTestable, match="the record was made before 'edges' was measured"):
        kept["edges"]


def test_no_record_is_no_fault_and_half_of_one_is(copy, tmp_path_factory):
    assert recorded(tmp_path_factory.mktemp("empty")) is None
    (copy / FILE).unlink()
    with pytest.raises(ValueError, match=r"claims_record\.json: no record of the claims .*No such file"):
        recorded(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("[]"), "expected the fields"),
        (lambda path: path.write_text("{"), "take both files from the repository again"),
        (lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"other": 1})), "expected the fields"),
        (lambda path: path.write_text(path.read_text().replace('"cores"', '"kernels"')), "cores"),
        (lambda path: path.with_name(FILE).write_bytes(path.with_name(FILE).read_bytes()[:-9]), "is not the one of"),
    ],
)
def test_what_is_no_record_is_named(copy, change, message):
    change(copy / MANIFEST)
    with pytest.raises(ValueError, match=message):
        recorded(copy)


def verdicts(*outcomes):
    claims = [one for one in read_claims() if one.kind == "exploratory"]
    return [Verdict(claims[0], one, Estimate(1, 0, 2, 3)) for one in outcomes]


def test_verdicts_that_agree_are_counted():
    here = verdicts(REPRODUCED, UNDECIDED, REPRODUCED, NOT_TESTABLE, EQUIVALENT)
    kept = verdicts(REPRODUCED, REPRODUCED, NOT_REPRODUCED, REPRODUCED, EQUIVALENT)
    identity = [dataclasses.replace(one, claim=next(c for c in read_claims() if c.kind == "identity")) for one in here]
    found = agreed_verdicts(here + identity, kept + identity)
    assert found.startswith(
        "Of 4 tests that both could make (identities and studies apart), 2 have the same verdict, 1 are"
    )
    assert found.endswith("and 1 have verdicts that differ.")
    assert score(verdicts(PROVED, REPRODUCED, PROVED)) == "2 proved, 1 reproduced"


def test_a_run_stands_beside_the_record(tiny_run, folder, tmp_path, monkeypatch):
    both = judged(tiny_run, folder)
    first, second, third = both.words
    assert first.startswith("The record (profile tiny")
    assert second.startswith("This run (profile tiny")
    assert ", 0 have verdicts that differ" not in third
    assert third.endswith("and 0 have verdicts that differ.")
    assert list(both.table["record"]) == list(both.table["this run"])
    assert list(both.counts.index) == ["record", "this run"]
    assert (both.counts.sum(axis=1) == len(both.here)).all()
    assert both.counts.loc["record", PROVED] == 2
    often = both.counts.loc["record"]
    assert both.common == f"the record's commonest, of {often.max()} in {often.sum()}, is {often.idxmax()}"
    (proof,) = [one for one in both.findings if one.endswith(": *proved*.")]
    assert "Its sums explain less than a millionth of how a score varies" in proof
    open_ = sum(one.outcome in (UNDECIDED, NOT_TESTABLE, NOT_MEASURED) for one in both.record or [])
    assert (
        f"Of {len(both.here)} sentences and questions of the paper the record leaves {open_} open: " in both.unanswered
    )
    monkeypatch.setattr(record, "evaluate_claims", lambda evidence: both.here)
    other = {**recorded(folder).manifest, "origin": "real"}
    (tmp_path / MANIFEST).write_text(json.dumps(other))
    (tmp_path / FILE).write_bytes((folder / FILE).read_bytes())
    assert "The record's scenes are real, this run's simulated" in judged(tiny_run, tmp_path).words[2]
    alone = judged(tiny_run, tmp_path / "empty")
    assert alone.words[1].startswith("There is no record here")
    assert "record" not in alone.table
    assert list(alone.table["this run"]) == list(both.table["this run"])


def test_the_record_of_the_repository_has_all_evidence_and_is_small():
    if (kept := recorded()) is None:
        pytest.skip("no record is kept yet")
    assert set(kept.manifest["evidence"]) == set(KINDS)
    assert (RESULTS / FILE).stat().st_size < 5e6
    assert {RESULTS / FILE, RESULTS / MANIFEST} <= set(store.code(frozenset(store.makers(build.ledger))).files)
    assert {len(seeds) for seeds in kept.manifest["networks"].values()} == {8}
    verdicts = evaluate_claims(kept.evidence)
    own = [one for one in verdicts if one.claim.study is None]
    # Whatever else could be tested, a study's verdict is the same.
    nothing = evaluate_claims(dataclasses.replace(kept.evidence, find=lambda kind: "not asked", known={}))
    assert [one for one in nothing if one.claim.study] == [one for one in verdicts if one.claim.study]
    assert score(own) in " ".join((store.PACKAGE.parent / "README.md").read_text().split())
    found = ledger_table([one for one in verdicts if one.measured is not None])
    found = found[found["test"] != "identity"]
    assert len(found) > 10
    for column in (
        "what is measured",
        "control",
        "correction",
        "measured here",
        "size",
        "p",
    ):  # open questions have no direction
        assert (found[column] != "").all(), column
    assert found["measured here"].str.contains("[", regex=False).all()
    assert (found["smallest effect it could see"] != "").all()


def test_the_first_page_says_both_readings_of_channels_and_the_ledger_which_is_judged():
    kept = recorded(RESULTS)
    found = reliabilities(kept.evidence)
    assert max(found, key=lambda name: found[name].mean) == "score"  # "in the record the second", says the ledger
    verdicts = [one for one in evaluate_claims(kept.evidence) if one.claim.id in record._FINDINGS]
    ledger = Ledger(verdicts, verdicts, (), "", found)
    (said,) = (one for one in ledger.findings if one.startswith("**Channels"))
    assert f"{found['contribution']} for what a channel adds (the paper's reading)" in said
    assert f"{found['score']} for this book's score" in said
