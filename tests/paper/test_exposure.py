"""How much light must vary: planted spectra for which the answer is known."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hsiutils.analysis.pixels import Spectra
from hsiutils.paper.exposure import courses, crossing, curve, exposed, exposure_spread, gains, jittered, taken_back

CLASSES = ("Road", "Vegetation", "Sky", "Other")


def spectra(by, scenes=30, seed=0, spread=0.0):
    """Four classes told apart by their shape, or by their intensity alone; each image with its own exposure."""
    rng = np.random.default_rng(seed)
    truth = np.tile(np.repeat(np.arange(4), 4), scenes)
    scene = np.repeat(np.arange(scenes), 16)
    shapes = np.ones((4, 6)) + (0.35 * np.eye(4, 6) if by == "shape" else 0)
    levels = np.ones(4) if by == "shape" else np.geomspace(0.2, 1.6, 4)
    values = shapes[truth] * levels[truth][:, None] * (1 + 0.05 * rng.standard_normal((len(truth), 6)))
    made = Spectra(values, truth, scene, CLASSES)
    return exposed(made, np.exp(spread * rng.standard_normal(scenes)))


def test_spread_is_that_of_the_exposure_and_no_more():
    assert exposure_spread(spectra("shape", 400, spread=0.9)) == pytest.approx(0.9, rel=0.1)
    assert exposure_spread(spectra("shape", 400)) < 0.03


def swept(by, jitters=(0.0, 0.5, 1.0, 1.5)):
    return jittered(spectra(by), spectra(by, seed=1), 0, jitters, draws=2)


def test_light_that_only_scales_pays_pn_the_more_it_varies():
    found = gains(swept("shape"), 0)["value"].sel({"class": "mean"})
    assert (abs(found.sel(step=0)) < 5).all()
    assert (found.sel(step=3) > 5).all()
    assert (found.sel(step=3) > found.sel(step=1)).all()


def test_classes_of_intensity_alone_lose_under_pn_at_any_exposure():
    found = gains(swept("intensity"), 0)
    assert (found["high"].sel({"class": "mean", "step": 0}) < -50).all()
    assert (found["value"].sel({"class": "mean"}) < 0).all()


def test_pn_counts_are_those_of_every_exposure():
    counts = swept("shape", (0.0, 1.0)).sel(input="PN")
    xr.testing.assert_equal(counts.isel(step=0, drop=True), counts.isel(step=1, drop=True))
    one = jittered(spectra("shape", spread=1.0), spectra("shape", seed=1, spread=1.0), 0, (0.0,), draws=2)
    xr.testing.assert_equal(one.sel(input="PN").isel(step=0, drop=True), counts.isel(step=0, drop=True))


def test_exposure_is_taken_back_step_by_step():
    counts = taken_back(spectra("shape", 40, spread=1.0), (0.0, 0.5, 1.0))
    assert counts["spread"].values == pytest.approx([1.0, 0.5, 0.02], abs=0.2)
    mean = curve(counts).query("`class` == 'mean' and classifier == 'nonlinear'")
    assert mean["value"].is_monotonic_decreasing
    assert mean["value"].iloc[0] > 5
    assert abs(mean["value"].iloc[-1]) < 2


def counted(gain):
    """Counts of two classes whose gain under PN is about this at each step, in 40 scenes alike."""
    found = np.zeros((1, len(gain), 2, 40, 2, 2))
    for step, points in enumerate(gain):
        for column, right in enumerate((60.0, 60.0 + points)):
            found[0, step, column] = np.diag([right, right]) + (100 - right) * (1 - np.eye(2))
    names = ["Road", "Sky"]
    coords = {"classifier": ["x"], "input": ["raw", "PN"], "truth": names, "predicted": names}
    dims = ("classifier", "step", "input", "scene", "truth", "predicted")
    return xr.DataArray(found, coords, dims).assign_coords(spread=("step", np.arange(len(gain)) / 2))


def test_a_course_says_where_it_crosses_zero_and_that_it_never_does():
    planted = {
        "rising": [-1.0, 1.0, 3.0],
        "above": [1.0, 1.0, 2.0],
        "below": [-3.0, -2.0, -1.0],
        "bump": [-2.0, 2.0, -2.0],
    }
    rows = [
        (name, spread, value)
        for name, gain in planted.items()
        for spread, value in zip((0.2, 0.4, 0.8), gain, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["of", "spread", "value"])
    assert courses(table.sample(frac=1, random_state=0).sort_values("of")) == [
        "above: PN gains at every spread, +1.0 to +2.0 points",
        "below: PN costs at every spread, -3.0 to -1.0 points",
        "bump: PN gains from a spread of 0.30 on, and costs from a spread of 0.60 on, -2.0 to +2.0 points",
        "rising: PN gains from a spread of 0.30 on, -1.0 to +3.0 points",
    ]


def test_a_crossing_is_found_between_its_steps_and_none_is_made_up():
    found = crossing(counted([-10, -10, 10, 20]), 0)
    assert ((found["value"] > 0.5) & (found["value"] < 1)).all()
    xr.testing.assert_allclose(found["low"], found["value"])  # scenes alike
    assert np.isinf(crossing(counted([-10, 10, -10]), 0)["value"]).all()
    assert (crossing(counted([1, 2, 3]), 0)["value"] == 0).all()
    late = crossing(counted([10, -10, 10]), 0)["value"]
    assert ((late > 0.5) & (late < 1)).all()
