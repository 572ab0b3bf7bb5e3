import numpy as np
import pytest
import xarray as xr

from hsiutils.analysis.intervals import Estimate, difference, mean_over_seeds, seed_columns


def test_interval_of_a_mean_is_students():
    estimate = mean_over_seeds([1.0, 2.0, 3.0])
    half = 4.302652729 * 1.0 / np.sqrt(3)  # t quantile of 2 degrees of freedom times the standard error
    assert estimate.mean == 2.0
    assert np.allclose([estimate.low, estimate.high], [2 - half, 2 + half])
    assert estimate.count == 3


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [e.low <= 5.0 <= e.high for e in (mean_over_seeds(rng.normal(5, 2, 3)) for _ in range(400))]
    assert 0.92 < np.mean(hits) < 0.98


def test_difference_is_signed_and_needs_a_clear_gap():
    assert difference([10.0, 10.1, 9.9], [1.0, 1.1, 0.9]).sign == 1
    assert difference([1.0, 1.1, 0.9], [10.0, 10.1, 9.9]).sign == -1
    assert difference([1.0, 5.0, 9.0], [2.0, 6.0, 8.0]).sign == 0
    assert difference([3.0, 4.0], [1.0, 2.0]).mean == 2.0


def test_one_value_has_no_interval():
    for estimate in (mean_over_seeds([3.0]), difference([3.0], [1.0, 2.0])):
        assert np.isnan(estimate.low)
        assert np.isnan(estimate.high)
        assert estimate.sign == 0


def test_values_that_agree_exactly_have_an_interval_of_no_width():
    assert mean_over_seeds([2.0, 2.0]) == Estimate(2.0, 2.0, 2.0, 2)
    assert difference([2.0, 2.0], [1.0, 1.0]) == Estimate(1.0, 1.0, 1.0, 2)


def test_what_is_not_finite_is_left_out():
    assert mean_over_seeds([1.0, np.nan, 3.0]).mean == 2.0
    with pytest.raises(ValueError, match="no finite value"):
        mean_over_seeds([np.nan])


def test_text_shows_the_interval_if_there_is_one():
    assert str(Estimate(1.0, 0.5, 1.5, 3)) == "1 [0.5, 1.5]"
    assert str(Estimate(1.0, np.nan, np.nan, 1)) == "1"


def test_columns_of_seeds_show_a_spread_only_where_there_is_one():
    values = xr.DataArray([[1.0, 5.0], [3.0, 6.0]], dims=("seed", "method"))
    columns = seed_columns(values, "mean", "least", "most")
    assert {name: list(column.values) for name, column in columns.items()} == {
        "mean": [2.0, 5.5],
        "least": [1.0, 5.0],
        "most": [3.0, 6.0],
    }
    assert list(seed_columns(values[:1], "mean", "least", "most")) == ["mean"]
