import json

import numpy as np
import pytest

from benchmarks.peers import alternating, main, peak
from hsiutils.paper.benchmarks import beside_peers


def test_captums_gradients_are_ours_and_its_rules_on_skip_connections_are_not(tmp_path, capsys):
    out = tmp_path / "peers.json"
    out.write_text(json.dumps({"audit": "stays", "agreement_float64_96x192": "of another release"}))
    arguments = ["--size", "32", "32", "--filters", "4", "--repeats", "1", "--parts", "methods"]
    main(["--out", str(out), *arguments])
    record = json.loads(out.read_text())
    assert record["audit"] == "stays"
    assert "agreement_float64_96x192" not in record
    assert record["methods"]["commit"]
    rows = {row["method"]: row for row in record["methods"]["rows"] if row["peer"] == "captum"}
    for name in ("gradient", "gradient x input", "Guided BackProp", "GradCAM"):
        assert rows[name]["largest_relative_difference"] < 1e-12
    for name in ("DeepLIFT", "LRP epsilon"):
        assert rows[name]["largest_relative_difference"] > 1e-4
        assert rows[name]["remark"]
    table, text = beside_peers(out)
    assert table["tool"].unique().tolist()[-1] == "captum"
    assert (table["times our time"] > 0).all()
    assert "alternating pairs" in text
    assert "DEA" in text


def test_pairs_take_turns_after_one_that_does_not_count():
    called = []
    found = alternating(lambda: called.append("ours"), lambda: called.append("theirs"), 3)
    assert called == ["ours", "theirs"] * 4
    assert len(found) == 3


def test_the_peak_is_what_an_action_takes_at_most():
    if peak(lambda: None) is None:
        pytest.skip("the system does not tell")
    assert peak(lambda: np.ones(1 << 23).sum()) == pytest.approx(64, abs=8)
    assert peak(lambda: None) < 4
