import numpy as np
import pytest
import xarray as xr
from planted import EDGES, NOISE, RED_EDGE, planted, scenes, trained_like
from scipy import ndimage

from hsiutils.analysis import border_probes, border_statistics, edge_measures, edge_profiles, edge_statistics, interval
from hsiutils.analysis.edges import peak_width
from hsiutils.data.classes import VOID

SHAPE = (96, 128)


def slanted(angle):
    """A straight border at an angle (degrees), as labels 0 and 1, and its exact signed distance, positive in 0."""
    row, column = np.indices(SHAPE) - np.array(SHAPE)[:, None, None] / 2 + 0.25
    distance = column * np.cos(np.radians(angle)) + row * np.sin(np.radians(angle))
    return (distance < 0).astype(int), distance


def measured(maps, labels, name="b"):
    sums = border_statistics(np.asarray(maps), border_probes(labels, ["a", "b"])).expand_dims("scene")
    return sums.sel({"class": [name]})


def soft_step(distance, sigma):
    """A step blurred by an optics of that standard deviation, pixels."""
    return ndimage.gaussian_filter((distance > 0).astype(float), sigma) if sigma else (distance > 0).astype(float)


def test_an_ideal_step_is_two_pixels_wide_at_the_border():
    labels, distance = slanted(0)
    found = edge_measures(measured([soft_step(distance, 0)], labels))
    assert found["width"] == pytest.approx(2)
    assert found["shift"] == pytest.approx(0, abs=1e-6)
    assert found["noise"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("angle", [0, 30, 45, 70])
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_blurred_step_has_the_width_of_its_blur(angle, sigma):
    labels, distance = slanted(angle)
    found = edge_measures(measured([soft_step(distance, sigma)], labels))
    # Central differences and bins of a pixel blur on their own: their variances (1/3 + 1/12 + 1/12) add up.
    expected = 2.355 * np.sqrt(sigma**2 + 0.5)
    assert 0.84 * expected < found["width"] < 1.05 * expected


def test_a_displaced_edge_is_found_displaced_with_its_sign():
    labels, distance = slanted(0)
    shift = edge_measures(measured([soft_step(distance - 2, 1.0)], labels))["shift"]
    assert shift == pytest.approx(2, abs=0.1)
    shift = edge_measures(measured([soft_step(distance + 1, 1.0)], labels))["shift"]
    assert shift == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("angle", [0, 20, 45, 75])
def test_white_noise_is_measured_at_its_size_at_every_orientation(angle):
    labels, _ = slanted(angle)
    maps = np.random.default_rng(0).normal(0, 0.3, (16, *SHAPE))
    profile = edge_profiles(measured(maps, labels))["noise"].mean("channel")
    np.testing.assert_allclose(profile, 1, rtol=0.1)
    assert profile.mean() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("angle", [0, 30, 45, 70])
def test_a_clean_edge_is_not_mistaken_for_noise(angle):
    labels, distance = slanted(angle)
    found = edge_measures(measured([soft_step(distance, 1.0)], labels))
    assert found["noise_to_contrast"] < 0.025
    assert found["contrast"] == pytest.approx(2, rel=0.02)  # a step of one, whose standard deviation is a half


def test_noise_is_found_where_it_was_planted():
    """Noise of 0.2 within two pixels of the border of a step of one, and none elsewhere."""
    labels, distance = slanted(0)
    maps = soft_step(distance, 1.0) + 0.2 * np.random.default_rng(1).normal(size=(8, *SHAPE)) * (abs(distance) < 2)
    sums = measured(maps, labels)
    found = edge_measures(sums)
    assert found["noise_to_contrast"] == pytest.approx(0.2, rel=0.08)
    assert found["noise"] > 20 * found["floor_noise"]
    noise = edge_profiles(sums)["noise"].mean("channel").squeeze()
    assert (noise.where(abs(noise["distance"]) < 1.6, drop=True) > 0.3).all()
    assert (noise.where(abs(noise["distance"]) > 3, drop=True) < 0.02).all()


def test_a_fringe_that_is_the_same_all_along_is_no_noise():
    labels, distance = slanted(45)
    fringe = np.exp(-(distance**2) / 2)
    assert edge_measures(measured([soft_step(distance, 1.0) + fringe], labels))["noise_to_contrast"] < 0.03


def test_measures_know_neither_scale_nor_offset_of_a_channel():
    labels, distance = slanted(30)
    maps = soft_step(distance, 1.0)[None] + 0.1 * np.random.default_rng(2).normal(size=(3, *SHAPE))
    plain, scaled = (edge_measures(measured(values, labels)) for values in (maps, 5 * maps + 3))
    xr.testing.assert_allclose(plain, scaled, rtol=1e-6)


def test_the_planted_networks_edges_lie_at_the_borders():
    profiles = edge_profiles(edge_statistics(planted(), scenes(12))).sel({"class": "Vegetation"})
    edge, noise = (profiles["slope"].sel(channel=channel) for channel in (RED_EDGE, NOISE))
    assert abs(float(edge["distance"][edge.argmax("distance")])) < 2
    assert edge.max() > 5 * edge.median()
    assert noise.max() < 1.3 * noise.median()
    assert profiles["contrast"].sel(channel=RED_EDGE) > 3 * profiles["noise"].sel(channel=RED_EDGE).max()
    assert profiles["slope"].sel(channel=EDGES).notnull().all()


def test_each_scene_and_class_is_counted_by_itself():
    pairs = [(image, truth) for image, truth in scenes(2)]
    pairs[1][1][pairs[1][1] == 2] = VOID
    sums = edge_statistics(trained_like(), pairs, names=["a", "b"])
    assert sums.sizes["scene"] == 2
    assert sums.attrs == {"layer": "conv2d_1", "after": True}
    assert sums["count"].sel({"class": "Vegetation"}).sum("distance").values[0] > 0
    assert sums["count"].sel({"class": "Vegetation"}).sum("distance").values[1] == 0


def test_measures_have_intervals():
    sums = edge_statistics(planted(), scenes(6, shape=(40, 60))).sel({"class": ["Vegetation"]})
    found = interval(sums, edge_measures, seed=0, resamples=100).sel(measure="noise_to_contrast")
    assert found["low"] < found["value"] < found["high"]


def test_coarse_layers_are_refused():
    with pytest.raises(ValueError, match="conv2d_3 is 2 times coarser"):
        edge_statistics(trained_like(), scenes(1), "conv2d_3")


def test_maps_and_labels_must_agree_in_size():
    with pytest.raises(ValueError, match=r"\(1, 4, 5\), \(4, 4\)"):
        border_statistics(np.zeros((1, 4, 5)), border_probes(np.zeros((4, 4), dtype=int)))


@pytest.mark.parametrize("profile", [np.ones(16), np.full(16, np.nan), -np.exp(-((np.arange(16) - 7.5) ** 2))])
def test_without_a_peak_there_is_no_width(profile):
    assert np.isnan(peak_width(profile, np.arange(16) - 7.5)).all()


def test_a_triangle_is_as_wide_as_half_its_base():
    distance = np.arange(16) - 7.5
    assert peak_width(0.3 + np.clip(1 - abs(distance - 0.5) / 3, 0, None), distance) == pytest.approx((3, 0.5))


def test_a_peak_that_never_falls_has_no_width():
    distance = np.arange(16) - 7.5
    assert np.isnan(peak_width(np.where(distance < -4.9, 0.0, 1.0), distance)).all()
