import numpy as np
import pytest
import xarray as xr
from scipy import stats

from hsiutils.analysis import interval


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


def test_intervals_cover_the_truth_as_often_as_they_say():
    """The mean of 20 normal scenes, 200 times; a 90 % interval should hold it in about 175 of them or more."""
    hits = 0
    for seed in range(200):
        sample = xr.DataArray(np.random.default_rng(seed).normal(size=20), dims="scene")
        found = interval(sample, mean, seed=seed, resamples=200, level=0.9)
        hits += bool(found["low"] <= 0 <= found["high"])
    assert 160 <= hits <= 195


def test_same_seed_same_interval():
    first, second, other = (interval(data(), mean, seed=seed, resamples=100) for seed in (3, 3, 4))
    xr.testing.assert_identical(first, second)
    assert not first.equals(other)


def test_scenes_are_drawn_together_for_all_models():
    """A difference that is the same in every scene is certain, however much the scenes differ."""
    level = np.random.default_rng(0).normal(0, 10, 30)
    both = xr.DataArray(np.stack([level, level + 1], axis=1), dims=("scene", "model"), coords={"model": ["old", "new"]})

    def gain(d):
        return d["value"].sel(model="new").mean("scene") - d["value"].sel(model="old").mean("scene")

    found = interval(both, gain, seed=0, resamples=200)
    assert found["low"] == pytest.approx(1)
    assert found["high"] == pytest.approx(1)


def test_several_measures_come_as_one_array():
    found = interval(data(), lambda d: xr.Dataset({"mean": mean(d), "max": d["value"].max("scene")}), seed=0)
    assert found["value"].dims == ("measure", "class")
    assert (found["low"] <= found["value"]).all()
    assert (found["high"] >= found["value"]).all()


def test_variables_without_scenes_stay_whole():
    both = xr.Dataset({"value": data(), "scale": ("class", [2.0, 3.0])})
    found = interval(both, lambda d: d["value"].mean("scene") * d["scale"], seed=0, resamples=50)
    np.testing.assert_allclose(found["value"], data().mean("scene") * [2, 3])


def test_a_statistic_that_few_resamples_lack_has_an_interval_and_one_that_many_lack_has_none():
    """Scenes that show a class: with 5 of 20 a resample misses all of them 0.3 % of the time, with 1 of 20 36 %."""
    often, rare = np.full(20, np.nan), np.full(20, np.nan)
    often[:5], rare[0] = np.arange(5), 1.0
    found = interval(xr.DataArray(np.stack([often, rare], 1), dims=("scene", "class")), mean, seed=0, resamples=1000)
    assert np.isfinite(found["low"][0])
    assert found["low"][0] < 2 < found["high"][0]
    assert np.isnan(found["low"][1])
    assert np.isnan(found["high"][1])


def test_one_scene_has_no_interval():
    with pytest.raises(ValueError, match="at least two of them, got 1"):
        interval(data(1), mean, seed=0)
