import numpy as np
import pytest

from hsiutils.analysis.collinear import agreement, band_groups, gathered, told_apart, within

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
    correlation = np.corrcoef(bands)
    groups = band_groups(correlation, 3)
    assert groups.tolist() == [0, 1, 0, 2, 1]
    assert within(correlation, groups) > 0.95
    assert np.isnan(within(correlation, np.arange(5)))
    assert band_groups([[1.0]], 1).tolist() == [0]
    np.testing.assert_allclose(gathered(np.arange(10.0).reshape(2, 5), groups), [[2, 5, 3], [12, 15, 8]])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="square matrix"):
        band_groups(np.full((2, 2), np.nan), 1)
    with pytest.raises(ValueError, match="1 to 2 groups"):
        band_groups(np.eye(2), 3)
    with pytest.raises(ValueError, match="two networks"):
        agreement(np.zeros((1, 2, 4)), np.array([0, 0, 1, 1]), 0)
    assert told_apart(np.zeros((3, 1, 4))) == 0
