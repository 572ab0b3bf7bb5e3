import numpy as np
import pytest

from hsiutils.analysis.collinear import agreement, band_groups, can_be_ranked, gathered, in_words, told_apart

GROUPS = np.repeat(np.arange(4), 4)


def grouped_bands(networks=5, classes=3, seed=0):
    """Only the sum over each group is determined; networks share it out among its bands as they please."""
    draw = np.random.default_rng(seed)
    sums = draw.normal(size=(classes, 4))
    free = draw.normal(size=(networks, classes, 4, 4)) * 5
    free -= free.mean(3, keepdims=True)
    noise = 0.01 * draw.normal(size=(networks, classes, 16))
    return (sums[..., None] / 4 + free).reshape(networks, classes, 16) + noise


def test_where_only_groups_are_determined_groups_agree_and_bands_do_not():
    found = agreement(grouped_bands(), GROUPS, seed=0)
    assert found.groups > 0.95
    assert abs(found.bands) < 0.2
    assert found.p < 0.01
    assert found.groups_told > 0.8
    assert found.bands_told < 0.2


def test_groups_that_have_nothing_in_common_are_no_better_than_random_ones():
    noise = np.random.default_rng(1).normal(size=(5, 3, 16))
    found = agreement(noise, GROUPS, seed=0)
    assert found.low <= found.groups <= found.high
    assert found.p > 0.05
    assert found.bands_told < 0.15
    shared = agreement(noise * 0.01 + np.arange(16.0), GROUPS, seed=0)  # bands are determined as well
    assert shared.bands > 0.95
    assert shared.bands_told > 0.95


def test_bands_that_rise_and_fall_together_are_one_group():
    draw = np.random.default_rng(0)
    common = draw.normal(size=(3, 1000))
    bands = common[[0, 1, 0, 2, 1]] + 0.1 * draw.normal(size=(5, 1000))
    groups = band_groups(np.corrcoef(bands))
    assert groups.tolist() == [0, 1, 0, 2, 1]
    assert band_groups([[1.0]]).tolist() == [0]
    assert band_groups([[1, 0.94], [0.94, 1]]).tolist() == [0, 1]  # nearly alike is not alike
    chain = [[1, 0.96, 0.9], [0.96, 1, 0.96], [0.9, 0.96, 1]]  # the ends are not alike, though each is like the middle
    assert len(set(band_groups(chain).tolist())) == 2
    np.testing.assert_allclose(gathered(np.arange(10.0).reshape(2, 5), groups), [[2, 5, 3], [12, 15, 8]])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="square matrix"):
        band_groups(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="-1 to 1"):
        band_groups(np.eye(2), 3)
    with pytest.raises(ValueError, match="two networks"):
        agreement(np.zeros((1, 2, 4)), np.array([0, 0, 1, 1]), 0)
    assert told_apart(np.zeros((3, 1, 4))) == 0


def test_no_verdict_is_given_where_no_bands_are_alike_or_hardly_any_groups_are_left():
    found, nm = agreement(grouped_bands(), GROUPS, seed=0), 600 + 10 * np.arange(16)
    together = np.where(GROUPS[:, None] == GROUPS, 0.99, 0.1)
    members, verdict = in_words("25", together, GROUPS, nm, found)
    assert members == (
        "25, bands that are alike (nm): 600 610 620 630; 640 650 660 670; 680 690 700 710; 720 730 740 750"
    )
    assert "agree better than random groups (p 0.002): more can be said" in verdict
    worse = agreement(np.random.default_rng(1).normal(size=(5, 3, 16)), GROUPS, seed=0)
    assert "are not shown to agree better" in in_words("25", together, GROUPS, nm, worse)[1]
    alone = np.arange(16)
    (none,) = in_words("25-PN", np.eye(16) + 0.4 * (1 - np.eye(16)), alone, nm, worse)
    assert none == "25-PN: no two bands are alike (largest correlation 0.40), so no groups are asked about."
    halves = np.repeat([0, 1], 8)
    assert in_words("25", together, halves, nm, worse)[1] == "25: of 2 groups no order is asked."
    assert [can_be_ranked(groups) for groups in (GROUPS, alone, halves)] == [True, False, False]
