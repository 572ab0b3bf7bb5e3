import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
import yaml

from hsiutils.analysis.intervals import Estimate
from hsiutils.data.classes import CLASSES
from hsiutils.paper import claims
from hsiutils.paper.claims import MEASURES, NotTestable


@pytest.mark.parametrize(
    ("interval", "expects", "verdict"),
    [
        ((1, 0.5, 1.5), {"above": 0}, claims.REPRODUCED),
        ((1, -0.5, 2.5), {"above": 0}, claims.UNDECIDED),
        ((-1, -1.5, -0.5), {"above": 0}, claims.NOT_REPRODUCED),
        ((-1, -1.5, -0.5), {"below": 0}, claims.REPRODUCED),
        ((1, 0.5, 1.5), {"below": 0}, claims.NOT_REPRODUCED),
        ((0, -1, 1), {"below": 0}, claims.UNDECIDED),
        ((1, math.nan, math.nan), {"above": 0}, claims.UNDECIDED),
        ((93.0, 90, 96), {"near": 93.24, "within": 2}, claims.REPRODUCED),
        ((80.0, 70, 90), {"near": 93.24, "within": 2}, claims.NOT_REPRODUCED),
    ],
)
def test_verdict_follows_from_the_interval(interval, expects, verdict):
    assert claims.judge(Estimate(*interval, 3), expects) == verdict


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
    ],
)
def test_faulty_entries_are_named(tmp_path, change, message):
    entry = yaml.safe_load(claims.LEDGER.read_text())["claims"][0] | {"id": "faulty"} | change
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [entry]}))
    with pytest.raises(ValueError, match=f"faulty.*{message}"):
        claims.read_claims(path)


def test_every_claim_gets_a_verdict(tmp_path, monkeypatch):
    def untestable(run):
        raise NotTestable("no sun")

    monkeypatch.setattr(claims, "MEASURES", {"yes": lambda run: Estimate(1, 0.5, 1.5, 3), "no": untestable})
    base = {"id": "a", "where": "Table 9", "says": "s", "measured": "m", "paper": 1.5, "chapter": 3}
    base |= {"expects": {"above": 0}}
    differences = ({"measure": "yes"}, {"measure": "no"}, {"measure": None}, {"measure": None, "expects": None})
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [base | own for own in differences]}))
    verdicts = claims.evaluate_claims(None, path)
    expected = [claims.REPRODUCED, claims.NOT_TESTABLE, claims.NOT_MEASURED, claims.NOT_TESTABLE]
    assert [verdict.outcome for verdict in verdicts] == expected
    table = claims.ledger_table(verdicts)
    # The paper's wording stands beside the measure used.
    assert table["the paper says"].tolist() == ["s"] * 4
    assert table["what is measured"].tolist() == ["m"] * 4
    assert table["measured here"].tolist() == ["1 [0.5, 1.5]", "", "", ""]
    assert table["verdict"][1] == "cannot be tested here (no sun)"
    assert table["paper's value"][0] == "1.5"


def planted(iou, boundary=None):
    """Scores of planted networks: variant -> (seed, class) IoU, the same in every region unless a dict by region."""

    def score(run, variant, region="all"):
        values = iou[variant][region] if isinstance(iou[variant], dict) else iou[variant]
        edges = values if boundary is None else boundary[variant]
        dims = ("seed", "class")
        return xr.Dataset({"iou": (dims, values), "boundary_iou": (dims, edges)}, {"class": list(CLASSES)})

    return score


def rows(marks, vegetation=0.9):
    return [[0.9, m, vegetation, 0.9, 0.8] for m in marks]


def test_claims_on_scores_have_the_papers_sign(monkeypatch):
    iou = {"3": rows([0.93, 0.94], 0.91), "25": rows([0.9, 0.9]), "25-PN": rows([0.89, 0.90], 0.94)}
    edges = {"3": rows([0.7, 0.7]), "25": rows([0.7, 0.7]), "25-PN": rows([0.6, 0.6])}
    monkeypatch.setattr(claims, "_scores", planted(iou, edges))
    assert MEASURES["marks_fall"](None).mean == pytest.approx(4)
    assert MEASURES["vegetation_rise"](None).mean == pytest.approx(3)
    assert MEASURES["pn_edge_cost"](None).mean == pytest.approx(10)  # where PN blurs marks


def test_robustness_is_what_25_channels_lose_beyond_pn_of_classes_seen_in_both_lights(monkeypatch):
    one = {"sunlit": [[0.9, 0.1, 0.9, 0.9, 0.9]] * 2, "shadowed": [[0.5, np.nan, 0.5, 0.5, 0.5]] * 2}
    other = {"sunlit": [[0.8] * 5] * 2, "shadowed": [[0.7] * 5] * 2}
    monkeypatch.setattr(claims, "_scores", planted({"25": one, "25-PN": other}))
    assert MEASURES["pn_robustness"](None).mean == pytest.approx(40 - 10)


def test_variability_gain_is_a_rank_correlation(monkeypatch):
    rising = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    monkeypatch.setattr(claims, "_scores", planted({"1": [[0.5] * 5] * 2, "25": [0.4 + rising] * 2}))
    run = SimpleNamespace(data=SimpleNamespace(names=lambda split: []))
    monkeypatch.setattr(claims, "statistics", lambda drive, names: None)
    for variability, expected in ((rising, 1), (rising[::-1], -1)):
        monkeypatch.setattr(claims, "class_variability", lambda _, found=variability: xr.DataArray(found))
        assert MEASURES["variability_gain"](run).mean == pytest.approx(expected)
    monkeypatch.setattr(claims, "class_variability", lambda summary: xr.DataArray([0.5, np.nan, np.nan, np.nan, 0.1]))
    with pytest.raises(NotTestable, match="only 2 classes"):
        MEASURES["variability_gain"](run)


def test_the_papers_values_are_compared_with_real_scenes_alone(tiny_run, tmp_path, monkeypatch):
    with pytest.raises(NotTestable, match="simulated"):
        MEASURES["marks_3"](tiny_run)
    monkeypatch.setattr(claims, "_scores", planted({"3": rows([0.93, 0.94])}))
    assert MEASURES["marks_3"](dataclasses.replace(tiny_run, data_root=tmp_path)).mean == pytest.approx(93.5)


def test_scores_are_given_or_a_reason(tiny_run, monkeypatch):
    assert claims._scores(tiny_run, "3")["iou"].dims == ("seed", "class")
    with pytest.raises(NotTestable, match="where the sun shines"):
        claims._scores(tiny_run, "3", "moonlit")
    with pytest.raises(NotTestable, match="needs variant '25'"):
        MEASURES["pn_edge_cost"](tiny_run)
    monkeypatch.setattr(claims, "_scores", planted({"3": rows([np.nan] * 2), "25-PN": rows([0.5, 0.5])}))
    with pytest.raises(NotTestable, match="does not occur"):
        MEASURES["marks_fall"](tiny_run)


def test_gradcam_is_measured_before_the_head_and_guided_by_the_worse_of_the_two(tiny_run, monkeypatch):
    dims, seeds = ("seed", "scene", "method"), {"seed": [0, 1], "scene": ["a"]}
    medians = xr.DataArray(
        [[[9.0, 0.2, 9.0]], [[9.0, 0.4, 9.0]]],
        {**seeds, "method": ["GradCAM conv2d_1", "GradCAM conv2d_9", "CAM conv2d_9"]},
        dims,
    )
    names = ["GradCAM", "Guided BackProp", "Guided GradCAM"]
    absolute = xr.DataArray([[[0.1, 0.9, 0.6]], [[0.3, 0.2, 0.8]]], {**seeds, "method": names}, dims)
    left = xr.concat([absolute, -absolute], xr.Variable("sign", ["absolute", "signed"]))
    monkeypatch.setattr(claims.conservativeness, "summary", lambda *a: xr.Dataset({"median": medians}))
    monkeypatch.setattr(claims.conservativeness, "survival", lambda *a: left)
    assert MEASURES["gradcam_residual"](tiny_run).mean == pytest.approx(0.3)
    assert MEASURES["gradcam_survival"](tiny_run).mean == pytest.approx(0.2)
    assert MEASURES["guided_survival"](tiny_run).mean == pytest.approx(0.4)
    monkeypatch.setattr(claims.conservativeness, "survival", lambda *a: left * np.nan)
    with pytest.raises(NotTestable, match="the same everywhere"):
        MEASURES["guided_survival"](tiny_run)


def by_variant(few, many):
    """(variant, seed) values of 1, 3 and 25-PN."""
    variants = ["1", "3", "25-PN"]
    return xr.DataArray([few, few, many], dims=("variant", "seed"), coords={"variant": variants})


@pytest.mark.parametrize(
    ("measure", "figure", "few", "many"),
    [
        ("vegetation_on_road", "placement", [0.8, 0.9], [0.1, 0.2]),  # claimed larger with few channels
        ("vegetation_share", "road_share", [0.008, 0.009], [0.001, 0.002]),  # in percent
        ("inhomogeneity", "variation", [0.1, 0.2], [0.8, 0.9]),  # and these with many
        ("edge_noise", "edge_noise", [0.1, 0.2], [0.8, 0.9]),
    ],
)
def test_claims_on_activations_have_the_papers_sign(monkeypatch, measure, figure, few, many):
    monkeypatch.setattr(claims, "_compared", lambda run, sums: None)
    monkeypatch.setattr(claims.merits, "evidence", lambda sums, margin=True: sums)
    monkeypatch.setattr(claims.merits, figure, lambda sums: by_variant(few, many))
    assert MEASURES[measure](None).mean == pytest.approx(0.7)
    monkeypatch.setattr(claims.merits, figure, lambda sums: by_variant([np.nan] * 2, many))
    with pytest.raises(NotTestable, match="no finite value"):
        MEASURES[measure](None)


def test_claims_on_activations_of_a_run(tiny_run):
    with pytest.raises(NotTestable, match="needs variant 1;"):
        MEASURES["edge_noise"](tiny_run)
    assert 0 < MEASURES["head_gap"](tiny_run).high < 1e-4
    found = MEASURES["likeness_of_inputs"](tiny_run)
    assert found.count == 1  # two seeds make one pair, without spread
    assert abs(found.mean) <= 2
