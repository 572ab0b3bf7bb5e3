import numpy as np
import pytest
import xarray as xr
from scipy import stats

from hsiutils.analysis.intervals import interval, weighted


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
