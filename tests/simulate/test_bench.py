from dataclasses import replace

import numpy as np
import pytest

from hsiutils.simulate import bench, draw_names
from hsiutils.simulate.bench import (
    BOUNDS,
    MTF_BOUND,
    characterise,
    edge_mtf,
    edge_table,
    emva_table,
    mtf50,
    noisiest,
    on_bench,
    photon_transfer,
    pn_errors,
)
from hsiutils.simulate.frame import Simulation

SIMULATION = Simulation()
CAMERA = on_bench(SIMULATION.camera, tiles=(27, 51))
LEVELS = 30


def erf_edge(sigma: float, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Places and levels of an edge behind a Gaussian lens, sampled by point pixels."""
    place = np.random.default_rng(0).uniform(-15, 15, 6000)
    return place, 3 - 2 * bench.ndtr((place - offset) / sigma)


def test_the_camera_has_the_gain_well_and_noise_that_were_asked_for():
    found = emva_table(photon_transfer(CAMERA, levels=LEVELS), CAMERA)
    assert list(found.index) == list(BOUNDS)
    assert found["within"].all(), found
    assert (found["deviation"] != 0).all()


@pytest.mark.parametrize(
    ("wrong", "caught"),
    [
        (replace(CAMERA, sensor=replace(CAMERA.sensor, full_well_e=10_000.0)), {"system gain", "full well"}),
        (replace(CAMERA, read_noise_e=14.0), {"dark noise"}),
        (replace(CAMERA, dark_current_e=140.0), {"dark current"}),
        (replace(CAMERA, long_pass_nm=CAMERA.sensor.bands[0].centre_nm + 5), {"quantum efficiency"}),
    ],
    ids=["gain", "noise", "current", "filter"],
)
def test_a_camera_that_is_not_what_is_claimed_is_found(wrong, caught):
    found = emva_table(photon_transfer(wrong, levels=LEVELS), CAMERA)
    missed = set(found.index[~found["within"]])
    assert caught <= missed
    assert missed - caught <= {"saturation capacity"}, "and what is right is not blamed"


def test_a_fault_in_the_noise_of_the_chain_is_found(monkeypatch):
    """Photon noise of half the variance: the claimed gain is right, the frames are not."""
    honest = bench.expose

    def quiet(rate, time_s, camera, rng):
        shots = [honest(rate, time_s, camera, rng).frame.astype(float) for _ in range(2)]
        return replace(honest(rate, time_s, camera, rng), frame=np.mean(shots, axis=0))

    monkeypatch.setattr(bench, "expose", quiet)
    found = emva_table(photon_transfer(CAMERA, levels=20), CAMERA)
    assert found.loc["system gain", "deviation"] == pytest.approx(-0.5, abs=0.02)


def test_fixed_patterns_are_no_temporal_noise():
    even, uneven = (
        characterise(photon_transfer(replace(CAMERA, non_uniformity=share), levels=20)) for share in (0.0, 0.05)
    )
    assert uneven["system gain"] == pytest.approx(even["system gain"], rel=0.02)


def test_saturation_capacity_is_where_cut_poisson_noise_is_largest():
    rng, well = np.random.default_rng(0), 2000
    means = np.arange(1700, 2001, 10)
    variances = [np.minimum(rng.poisson(mean, 400_000), well).var() for mean in means]
    assert noisiest(well, 0.0) == pytest.approx(means[np.argmax(variances)], rel=0.01)
    assert noisiest(well, 0.02) < noisiest(well, 0.0) < well


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_the_mtf_of_an_analytic_edge(sigma):
    frequency, transfer = edge_mtf(*erf_edge(sigma, offset=0.37))
    np.testing.assert_allclose(transfer[::50], np.exp(-2 * (np.pi * sigma * frequency[::50]) ** 2), atol=0.01)
    assert mtf50(frequency, transfer) == pytest.approx(np.sqrt(np.log(2) / 2) / (np.pi * sigma), rel=0.01)


def test_the_mtf_of_a_square_pixel_is_a_sinc():
    place, _ = erf_edge(1.0)
    frequency, transfer = edge_mtf(place, np.clip(0.5 + place / 3, 0, 1))  # 3 pixels wide: zero at a third
    np.testing.assert_allclose(transfer[::50], np.abs(np.sinc(3 * frequency[::50])), atol=0.01)


def test_an_edge_that_is_too_short_or_too_sharp_is_told():
    with pytest.raises(ValueError, match=r"bins have no sample; use a taller edge"):
        edge_mtf([0.1, 0.2], [1.0, 0.0])
    assert np.isnan(mtf50(np.linspace(0, 0.5, 3), np.ones(3)))


def test_every_band_is_as_sharp_as_lens_and_pixel_allow():
    found = edge_table(SIMULATION)
    assert len(found) == 25
    assert found["within"].all()
    assert found["deviation"].abs().max() < MTF_BOUND
    assert found["measured"].nunique() == 25, "measured, not copied"


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_another_lens_is_found(factor):
    other = replace(SIMULATION, blur_px=factor * SIMULATION.blur_px)
    assert not edge_table(other, SIMULATION)["within"].any()


def test_pn_errs_by_noise_with_light_and_by_displacement_at_borders():
    names, simulation = draw_names(2), Simulation(tiles=(24, 48))
    found = pn_errors(names, simulation).set_index("where")
    beside = found.iloc[-1]
    assert 0.8 < found["pixels"].sum() / (2 * 24 * 48) <= 1
    assert beside["displacement"] > 2 * found.loc["Road", "displacement"] > 0
    assert 0.005 < found.loc["Road", "noise"] < 0.03
    soft = pn_errors(names, replace(simulation, blur_px=3.0)).iloc[-1]
    assert soft["displacement"] < 0.7 * beside["displacement"]
    assert soft["noise"] == pytest.approx(beside["noise"], rel=0.2)
