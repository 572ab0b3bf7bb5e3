import pytest

from hsiutils.paper.studies import channels


@pytest.fixture(scope="module")
def record():
    found, made = channels.STUDY.shown()
    assert "Record" in made
    return found


def test_intervals_stay_within_what_a_share_can_be_and_all_bands_end_both_ways(record):
    table = channels.curves(record, 0)
    assert ((table["low"] >= 0) & (table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert (table["high"] <= 100).all()
    assert set(table["how"]) == {kind + pn for kind in ("even", "greedy", "components") for pn in ("", ", PN")}
    ends = table[(table["count"] == 25) & (table["figure"] == channels.MEAN)].set_index("how")["value"]
    assert ends["even"] == ends["greedy"] != ends["even, PN"] == ends["greedy, PN"]


def test_a_planted_record_in_which_pn_does_nothing_and_channels_do_nothing_is_told_so(record):
    words = channels.finding(record, 0)
    assert "lowers it in" in words
    same = record.copy()
    one = same["confusion"].sel(channels="all", normalisation="none")
    same["confusion"] = one.broadcast_like(record["confusion"]).transpose(*record["confusion"].dims)
    told = channels.finding(same, 0)
    assert "lowers it in 0 of" in told
    assert "one principal component cannot be told from them (+0.0" in told
    assert told != words
