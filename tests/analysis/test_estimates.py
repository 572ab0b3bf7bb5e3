import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from hsiutils.analysis.estimates import (
    Estimate,
    crossed,
    difference,
    holm,
    jackknife,
    mean_over_seeds,
    weighted_sum,
    within,
)


def test_interval_of_a_mean_is_students():
    estimate = mean_over_seeds([1.0, 2.0, 3.0])
    half = 4.302652729 * 1.0 / np.sqrt(3)  # t quantile of 2 degrees of freedom times the standard error
    assert estimate.mean == 2.0
    assert np.allclose([estimate.low, estimate.high], [2 - half, 2 + half])
    assert estimate.count == 3


def test_difference_is_signed_and_needs_a_clear_gap():
    assert difference([10.0, 10.1, 9.9], [1.0, 1.1, 0.9]).sign == 1
    assert difference([1.0, 1.1, 0.9], [10.0, 10.1, 9.9]).sign == -1
    assert difference([1.0, 5.0, 9.0], [2.0, 6.0, 8.0]).sign == 0
    assert difference([3.0, 4.0], [1.0, 2.0]).mean == 2.0


def test_a_weighted_sum_of_two_is_their_difference_and_of_more_covers_the_truth_as_often_as_it_says():
    one, other = [3.0, 4.0, 6.0], [1.0, 2.0, 1.5, 2.5]
    found, plain = weighted_sum([one, other], [1, -1]), difference(one, other)
    assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high))
    assert np.isnan(weighted_sum([[1.0], [2.0, 3.0]], [1, 1]).low)
    assert str(weighted_sum([[1.0, 1.0], [2.0, 2.0]], [1, 1])) == "3 [3, 3]"
    drawn = np.random.default_rng(0).normal([0, 1, 2, 4], 1.0, (400, 3, 4))  # an interaction of 1
    parts = [weighted_sum(list(cells.T), [1, -1, -1, 1]) for cells in drawn]
    assert 0.92 < np.mean([part.low < 1 < part.high for part in parts]) < 0.98


@pytest.mark.parametrize("ratio", [0.1, 1, 10])
def test_over_few_seeds_and_many_scenes_the_truth_is_covered_as_often_as_said_if_narrower_than_over_seeds(ratio):
    """`ratio` of the variance over scenes to that over three seeds."""
    rng, count = np.random.default_rng(0), 1000
    covered, narrower = 0, 0
    for one, other, shift, spread in zip(
        *rng.normal(size=(2, count, 3)), rng.normal(size=count), rng.chisquare(25, count), strict=True
    ):
        seeds, scale = difference(one, other), np.sqrt(ratio * 2 / 3)
        half = stats.t.ppf(0.975, 25) * scale * np.sqrt(spread / 25)
        both = crossed(seeds, Estimate(0.0, -half, half, 26, 25))
        covered += both.low < scale * shift < both.high
        narrower += both.high - both.low < seeds.high - seeds.low
    assert covered / count == pytest.approx(0.95, abs=0.02)
    assert narrower / count == pytest.approx({0.1: 0.97, 1: 0.43, 10: 0}[ratio], abs=0.05)


def test_one_value_has_no_interval_and_values_that_agree_exactly_one_of_no_width():
    for estimate in (mean_over_seeds([3.0]), difference([3.0], [1.0, 2.0])):
        assert np.isnan([estimate.low, estimate.high]).all()
        assert estimate.sign == 0
    assert mean_over_seeds([2.0, 2.0]) == Estimate(2.0, 2.0, 2.0, 2)
    assert difference([2.0, 2.0], [1.0, 1.0]) == Estimate(1.0, 1.0, 1.0, 2)
    assert str(Estimate(1.0, 0.5, 1.5, 3)) == "1 [0.5, 1.5]"
    assert str(Estimate(1.0, np.nan, np.nan, 1)) == "1"


def test_what_is_not_finite_is_left_out():
    assert mean_over_seeds([1.0, np.nan, 3.0]).mean == 2.0
    with pytest.raises(ValueError, match="no finite value"):
        mean_over_seeds([np.nan])


def test_p_value_and_interval_say_the_same():
    a, b = np.array([3.0, 5.0, 4.2, 6.1]), np.array([1.0, 2.5, 0.4])
    found = difference(a, b)
    test = stats.ttest_ind(a, b, equal_var=False)
    assert found.p_value() == pytest.approx(test.pvalue)
    assert found.p_value(found.low) == pytest.approx(0.05)
    assert np.isnan(mean_over_seeds([1.0]).p_value())
    assert mean_over_seeds([1.0, 1.0]).p_value() == 0
    assert mean_over_seeds([1.0, 1.0]).p_value(1.0) == 1


def test_an_effect_that_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((4000, 24))
    effect = np.mean([mean_over_seeds(row).detectable() for row in drawn[:200]])
    found = stats.ttest_1samp(drawn + effect, 0, axis=1)
    assert np.mean(found.pvalue < 0.05) == pytest.approx(0.8, abs=0.03)


def test_intervals_of_correlations_stay_among_correlations():
    found = mean_over_seeds([0.99, 0.5, 0.8], correlations=True)
    assert -1 < found.low < found.mean < found.high < 1
    assert mean_over_seeds([0.99, 0.5, 0.8]).high > 1
    assert mean_over_seeds([1.0, 1.0], correlations=True).mean == pytest.approx(1)


def test_intervals_end_where_the_figure_does_and_p_is_of_the_whole_ones():
    """R2 of three networks: Student's interval knows no end."""
    whole = mean_over_seeds([0.03, -1.44, -0.77])
    cut = whole.within(most=1)
    assert whole.high > 1
    assert (cut.mean, cut.low, cut.high) == (whole.mean, whole.low, 1)
    assert (cut.error, cut.p_value(), cut.within(-1, 0.5).error) == (
        whole.error,
        whole.p_value(),
        whole.error,
    )
    frame = pd.DataFrame({"value": [0.5, np.nan, 1 + 1e-7], "low": [-0.1, np.nan, 1], "high": [1.1, np.nan, 1.2]})
    found = within(frame, 0, 1)
    assert found[["low", "high"]].dropna().values.tolist() == [[0, 1], [1, 1]]
    each = within(frame.to_xarray(), -2, xr.DataArray([2, 2, 1.1], dims="index"))
    assert each["high"].values[[0, 2]].tolist() == [1.1, 1.1]
    with pytest.raises(ValueError, match=r"expected values of 0 to 0.9, got 0.5 to 1"):
        within(frame, 0, 0.9)
    with pytest.raises(ValueError, match="expected values of 0 to 1"):
        whole.within(0, 1)


def test_holms_correction_by_hand():
    # Five p-values by hand: times 5, 4, 3, 2, 1 in rising order, never falling, never above one.
    assert holm([0.04, 0.001, 0.2, 0.012, 0.9]) == pytest.approx([0.12, 0.005, 0.4, 0.048, 0.9])
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # the last would fall to 0.04
    assert holm([np.nan, 0.01]) == [1.0, 0.02]
    assert holm([]) == []


def test_the_jackknife_of_a_mean_is_students_and_of_pairs_is_wider():
    values = np.array([0.1, 0.5, 0.2, 0.6])
    of_mean, known = jackknife(lambda kept: float(values[list(kept)].mean()), 4), mean_over_seeds(values)
    assert (of_mean.mean, of_mean.low, of_mean.high) == pytest.approx((known.mean, known.low, known.high))

    def of_pairs(kept):
        return float(np.mean([values[i] + values[j] for i in kept for j in kept if i != j]))

    assert jackknife(of_pairs, 4).error == pytest.approx(2 * known.error)
    assert np.isnan(jackknife(of_pairs, 2).low)
    bounded = jackknife(lambda kept: 5 * float(values[list(kept)].mean()), 4, correlations=True)
    assert -1 < bounded.low < bounded.mean < bounded.high < 1
    assert bounded.mean == pytest.approx(np.tanh(5 * values.mean()))


def test_p_of_correlations_agrees_with_their_interval():
    found = mean_over_seeds([0.05, 0.6, 0.62], correlations=True)
    assert (found.p_value() < 0.05) == (found.low > 0)
    assert found.p_value(found.low) == pytest.approx(0.05)
    assert 0 < found.detectable() < 1


def test_p_of_a_bootstrap_is_no_finer_than_its_resamples():
    found = Estimate.of(xr.Dataset({"value": 5.0, "low": 4.9, "high": 5.1}), 10)
    assert found.p_value() == 1 / 400
    assert found.freedom == 9


def test_a_stricter_level_needs_a_larger_effect():
    found = mean_over_seeds([1.0, 2.0, 4.0])
    assert found.detectable(level=0.01) > 1.9 * found.detectable()
