import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from hsiutils.analysis.intervals import (
    Estimate,
    difference,
    holm,
    interval,
    jackknife,
    mean_over_seeds,
    weighted,
    weighted_sum,
    within,
)


def data(scenes=40, seed=0):
    values = np.random.default_rng(seed).normal([1.0, 5.0], [1.0, 0.1], size=(scenes, 2))
    return xr.DataArray(values, dims=("scene", "class"), coords={"scene": range(scenes), "class": ["a", "b"]})


def mean(dataset):
    return dataset["value"].mean("scene")


@pytest.mark.parametrize("method", ["BCa", "percentile", "basic"])
def test_intervals_are_scipys(method):
    found = interval(data(), mean, seed=1, method=method, resamples=500)
    for name in "ab":
        sample = data().sel({"class": name}).values
        rng = np.random.default_rng(1)
        plain = stats.bootstrap((sample,), np.mean, method=method, n_resamples=500, rng=rng, batch=100)
        low, high = plain.confidence_interval
        one = found.sel({"class": name})
        assert (one["low"], one["high"]) == (pytest.approx(low), pytest.approx(high))
        assert one["value"] == pytest.approx(sample.mean())


def test_scenes_are_drawn_together_for_all_models():
    """A difference that is the same in every scene is certain, however much the scenes differ."""
    level = np.random.default_rng(0).normal(0, 10, 30)
    both = xr.DataArray(np.stack([level, level + 1], axis=1), dims=("scene", "model"), coords={"model": ["old", "new"]})

    def gain(d):
        return d["value"].sel(model="new").mean("scene") - d["value"].sel(model="old").mean("scene")

    found = interval(both, gain, seed=0, resamples=200)
    assert (found["low"], found["high"]) == (pytest.approx(1), pytest.approx(1))


def test_several_measures_come_as_one_array_and_variables_without_scenes_stay_whole():
    def measures(d):
        return xr.Dataset({"mean": mean(d) * d["scale"], "max": d["value"].max("scene")})

    both = xr.Dataset({"value": data(), "scale": ("class", [2.0, 3.0])})
    found, again, other = (interval(both, measures, seed=seed, resamples=100) for seed in (3, 3, 4))
    assert found["value"].dims == ("measure", "class")
    np.testing.assert_allclose(found["value"].sel(measure="mean"), data().mean("scene") * [2, 3])
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    xr.testing.assert_identical(found, again)
    assert not found.equals(other)


def test_a_statistic_that_few_resamples_lack_has_an_interval_and_one_that_many_lack_has_none():
    """Scenes that show a class: with 5 of 20 a resample misses all of them 0.3 % of the time, with 1 of 20 36 %."""
    often, rare = np.full(20, np.nan), np.full(20, np.nan)
    often[:5], rare[0] = np.arange(5), 1.0
    found = interval(xr.DataArray(np.stack([often, rare], 1), dims=("scene", "class")), mean, seed=0, resamples=1000)
    assert found["low"][0] < 2 < found["high"][0]
    assert np.isnan([found["low"][1], found["high"][1]]).all()


def test_one_scene_has_no_interval_and_none_is_an_error():
    found = interval(data(1), mean, seed=0)
    assert found["value"].notnull().all()
    assert found[["low", "high"]].to_dataarray().isnull().all()
    with pytest.raises(ValueError, match="interval over 'scene': expected data with that dimension"):
        interval(data().rename(scene="image"), mean, seed=0)


def ratio(sums):
    return sums["a"].sum("scene") / sums["b"].sum("scene")


def test_weighted_sums_are_the_scenes_put_together():
    sums = xr.Dataset({"a": data(4), "b": data(4, 1) + 9, "scale": ("class", [1.0, 2.0])})
    often = xr.DataArray([[2.0, 0.0, 1.0, 1.0]], dims=("resample", "scene"))
    drawn = weighted(sums.drop_vars("scene"), often)
    xr.testing.assert_allclose(ratio(drawn).isel(resample=0), ratio(sums.isel(scene=[0, 0, 2, 3])))
    xr.testing.assert_equal(drawn["scale"], sums["scale"])


def test_intervals_of_sums_are_those_of_scenes_put_together_up_to_the_draw():
    sums = xr.Dataset({"a": data(30), "b": data(30, 1) + 9})
    pooled, plain = (interval(sums, ratio, seed=0, method="percentile", pools=pools) for pools in (True, False))
    xr.testing.assert_allclose(pooled["value"], plain["value"])
    width = plain["high"] - plain["low"]
    assert (abs(pooled - plain)[["low", "high"]].to_dataarray() < 0.1 * width).all()
    with pytest.raises(ValueError, match="'percentile' only, got 'BCa'"):
        interval(sums, ratio, seed=0, pools=True)


@pytest.mark.parametrize(("method", "pools"), [("percentile", True), ("percentile", False), ("BCa", False)])
def test_scenes_that_are_alike_are_drawn_together(method, pools):
    """Eight runs of five scenes with one value each: five times as many scenes tell no more than the runs do."""
    street = np.repeat(np.random.default_rng(0).normal(0, 1, 8), 5)
    sums = xr.Dataset({"a": ("scene", street), "b": ("scene", np.ones(40))}, {"scene": range(40)})
    run = np.repeat(list("hgfedcba"), 5)
    plain, alone, whole = (
        interval(sums, ratio, seed=0, method=method, pools=pools, resamples=500, groups=groups)
        for groups in (None, np.arange(40), run)
    )
    xr.testing.assert_identical(plain, alone)
    assert (plain.attrs["drawn"], whole.attrs["drawn"]) == (40, 8)
    assert float(whole["value"]) == float(plain["value"])
    assert (whole["high"] - whole["low"]) / (plain["high"] - plain["low"]) == pytest.approx(np.sqrt(5), rel=0.2)
    # a run is as good as its mean
    means = interval(sums.isel(scene=slice(None, None, 5)), ratio, seed=0, method=method, pools=pools, resamples=500)
    xr.testing.assert_allclose(means, whole, atol=0.01)
    marked = sums.assign_coords(sequence=("scene", run))
    xr.testing.assert_identical(interval(marked, ratio, seed=0, method=method, pools=pools, resamples=500), whole)


def test_one_run_has_no_interval_and_labels_are_one_a_scene():
    assert np.isnan(interval(data(), mean, seed=0, groups=[0] * 40)["low"]).all()
    with pytest.raises(ValueError, match=r"one label for each of 40 scenes, got shape \(3,\)"):
        interval(data(), mean, seed=0, groups=[0, 1, 2])


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
