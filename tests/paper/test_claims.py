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
from hsiutils.paper import claims as measures
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


def planted(iou, boundary=None, regions=("all",)):
    """Scores of planted networks: variant -> (seed, class) IoU, the same in every region unless a dict by region."""

    def score(run, variant, region="all"):
        if variant not in iou:
            raise NotTestable(f"needs variant {variant!r}")
        if region not in regions:
            raise NotTestable("needs to know where the sun shines")
        values = iou[variant][region] if isinstance(iou[variant], dict) else iou[variant]
        edges = values if boundary is None else boundary[variant]
        dims = ("seed", "class")
        return xr.Dataset({"iou": (dims, np.array(values)), "boundary_iou": (dims, np.array(edges))}).assign_coords(
            {"class": list(CLASSES)}
        )

    return score


def rows(marks, vegetation=0.9):
    return [[0.9, m, vegetation, 0.9, 0.8] for m in marks]


def test_marks_fall_and_vegetation_rise_have_the_papers_sign(monkeypatch):
    scores = planted({"3": rows([0.93, 0.94], 0.91), "25-PN": rows([0.89, 0.90], 0.94)})
    monkeypatch.setattr(measures, "_scores", scores)
    assert MEASURES["marks_fall"](None).mean == pytest.approx(4)
    assert MEASURES["vegetation_rise"](None).mean == pytest.approx(3)


def test_edge_cost_is_positive_where_pn_blurs_marks(monkeypatch):
    iou = {"25": rows([0.9, 0.9]), "25-PN": rows([0.9, 0.9])}
    edges = {"25": rows([0.7, 0.7]), "25-PN": rows([0.6, 0.6])}
    monkeypatch.setattr(measures, "_scores", planted(iou, edges))
    assert MEASURES["pn_edge_cost"](None).mean == pytest.approx(10)


def test_robustness_is_what_25_channels_lose_beyond_pn(monkeypatch):
    def by_light(sun, shadow):
        return {"sunlit": [[sun] * 5] * 2, "shadowed": [[shadow] * 5] * 2}

    scores = planted({"25": by_light(0.9, 0.5), "25-PN": by_light(0.8, 0.7)}, regions=("sunlit", "shadowed"))
    monkeypatch.setattr(measures, "_scores", scores)
    assert MEASURES["pn_robustness"](None).mean == pytest.approx(40 - 10)


def test_robustness_compares_only_classes_seen_in_both_lights(monkeypatch):
    sun, shadow = [[0.9, 0.1, 0.9, 0.9, 0.9]] * 2, [[0.5, np.nan, 0.5, 0.5, 0.5]] * 2
    pair = {"sunlit": sun, "shadowed": shadow}
    monkeypatch.setattr(measures, "_scores", planted({"25": pair, "25-PN": pair}, regions=("sunlit", "shadowed")))
    assert measures._lost_in_shadow(None, "25").values == pytest.approx([40, 40])


def test_variability_gain_is_a_rank_correlation(monkeypatch):
    one = [[0.5] * 5] * 2
    many = [[0.50, 0.60, 0.70, 0.80, 0.90]] * 2
    monkeypatch.setattr(measures, "_scores", planted({"1": one, "25": many}))
    run = SimpleNamespace(data=SimpleNamespace(names=lambda split: []))
    monkeypatch.setattr(measures, "statistics", lambda drive, names: None)
    monkeypatch.setattr(measures, "class_variability", lambda summary: xr.DataArray([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert MEASURES["variability_gain"](run).mean == pytest.approx(1)
    monkeypatch.setattr(measures, "class_variability", lambda summary: xr.DataArray([0.5, 0.4, 0.3, 0.2, 0.1]))
    assert MEASURES["variability_gain"](run).mean == pytest.approx(-1)
    monkeypatch.setattr(measures, "class_variability", lambda summary: xr.DataArray([0.5, np.nan, np.nan, np.nan, 0.1]))
    with pytest.raises(NotTestable, match="only 2 classes"):
        MEASURES["variability_gain"](run)


def test_the_papers_values_are_not_compared_with_simulated_scenes(tiny_run):
    with pytest.raises(NotTestable, match="simulated"):
        MEASURES["marks_3"](tiny_run)


def test_the_papers_values_are_compared_with_real_ones(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "_scores", planted({"3": rows([0.93, 0.94])}))
    assert MEASURES["marks_3"](dataclasses.replace(tiny_run, data_root=tmp_path)).mean == pytest.approx(93.5)


def test_missing_variant_and_missing_class_are_told(tiny_run, monkeypatch):
    with pytest.raises(NotTestable, match="needs variant '25'"):
        MEASURES["pn_edge_cost"](tiny_run)
    monkeypatch.setattr(measures, "_scores", planted({"3": rows([np.nan] * 2), "25-PN": rows([0.5, 0.5])}))
    with pytest.raises(NotTestable, match="does not occur"):
        MEASURES["marks_fall"](tiny_run)


def test_a_real_evaluation_gives_scores_or_a_reason(tiny_run):
    assert measures._scores(tiny_run, "3")["iou"].dims == ("seed", "class")
    with pytest.raises(NotTestable, match="where the sun shines"):
        measures._scores(tiny_run, "3", "moonlit")


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
    monkeypatch.setattr(measures.conservativeness, "summary", lambda *a: xr.Dataset({"median": medians}))
    monkeypatch.setattr(measures.conservativeness, "survival", lambda *a: left)
    assert MEASURES["gradcam_residual"](tiny_run).mean == pytest.approx(0.3)
    assert MEASURES["gradcam_survival"](tiny_run).mean == pytest.approx(0.2)
    assert MEASURES["guided_survival"](tiny_run).mean == pytest.approx(0.4)
    monkeypatch.setattr(measures.conservativeness, "survival", lambda *a: left * np.nan)
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
    monkeypatch.setattr(measures, "_compared", lambda run, sums: None)
    monkeypatch.setattr(measures.merits, "evidence", lambda sums, margin=True: sums)
    monkeypatch.setattr(measures.merits, figure, lambda sums: by_variant(few, many))
    assert MEASURES[measure](None).mean == pytest.approx(0.7)
    monkeypatch.setattr(measures.merits, figure, lambda sums: by_variant([np.nan] * 2, many))
    with pytest.raises(NotTestable, match="no finite value"):
        MEASURES[measure](None)


def test_claims_on_activations_need_the_papers_inputs(tiny_run):
    with pytest.raises(NotTestable, match="needs variant 1;"):
        MEASURES["edge_noise"](tiny_run)


def test_every_network_of_a_run_adds_up(tiny_run):
    assert 0 < MEASURES["head_gap"](tiny_run).high < 1e-4


def test_likeness_of_inputs_without_spread_is_a_value_without_interval(tiny_run):
    found = MEASURES["likeness_of_inputs"](tiny_run)
    assert found.count == 1  # two seeds make one pair
    assert abs(found.mean) <= 2
