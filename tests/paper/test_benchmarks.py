import json

import pytest

from hsiutils.paper.benchmarks import RECORDS, audit_times, machine

RECORD = {
    "network": {"image": [96, 192], "filters": 8},
    "machine": {"device": "CPU", "threads": 1},
    "date": "2026-01-02",
    "audit": {
        "logits": 92160,
        "before the head": {"audit_s": 0.5, "peer_s_extrapolated": 7200.0, "times_faster": 14400.0},
    },
}


def test_a_record_becomes_a_row_a_layer(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(RECORD))
    found = audit_times([tmp_path / "one.json"])
    assert list(found) == ["image", "filters", "layer", "audit", "loop", "ratio"]
    assert found.to_numpy().tolist() == [["96 x 192", 8, "before the head", 0.5, 2.0, 14400.0]]
    assert machine([tmp_path / "one.json"]) == "CPU, 1 thread(s), 2026-01-02"


def test_the_committed_records_meet_the_bound():
    """At least a thousand times faster than the loop, at either layer and size."""
    found = audit_times()
    assert len(found) == 2 * len(RECORDS)
    assert (found["ratio"] > 1000).all()
    assert (abs(found["ratio"] * found["audit"] / 3600 / found["loop"] - 1) < 1e-9).all()


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_what_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json: no benchmark record .* python -m benchmarks\.peers"):
        audit_times([path])
