import numpy as np
import pytest
import xarray as xr
from planted import EDGES, NOISE, RED_EDGE, planted, scenes, sums, trained_like
from scipy import ndimage

from hsiutils.analysis.edges import (
    ARM,
    border,
    border_probes,
    border_sums,
    edge_measures,
    edge_profiles,
    peak_width,
    sampling,
)
from hsiutils.data.classes import VOID


def halves(shape=(12, 16), column=7):
    labels = np.zeros(shape, dtype=int)
    labels[:, column:] = 1
    return labels


def test_a_straight_border_runs_half_way_between_pixels():
    found = border(halves(), 1)
    np.testing.assert_array_equal(found.distance[5], 6.5 - np.arange(16))
    other = border(halves(), 0)
    np.testing.assert_array_equal(other.distance, -found.distance)
    assert found.usable.all()
    # across points out of the class
    np.testing.assert_allclose(found.across[:, 5, 6], [0, -1], atol=1e-9)
    np.testing.assert_allclose(other.across[:, 5, 6], [0, 1], atol=1e-9)


def test_a_discs_border_has_its_radius_and_its_normals():
    place = np.indices((61, 61)) - 30
    radius = np.hypot(*place)
    found, ring = border((radius < 20).astype(int), 1), abs(radius - 20) < 6
    assert abs(found.distance - (radius - 20))[ring].max() < 1
    outward = place / np.maximum(radius, 1)
    assert (found.across * outward).sum(axis=0)[ring].min() > 0.97


def test_the_border_runs_in_the_middle_of_a_void_strip_but_not_where_nobody_knows():
    labels = halves((12, 40), column=20)
    labels[:, 18:22] = VOID
    found = border(labels, 1)
    np.testing.assert_array_equal(found.distance[5], 19.5 - np.arange(40))
    assert found.usable.all()
    labels[:, 12:28] = VOID
    usable = border(labels, 1).usable
    assert not usable[:, 16:24].any()
    assert not usable[:, :12].any()


def test_a_class_alone_or_absent_has_no_border_and_is_probed_nowhere():
    assert border(halves(), 2) is None
    assert border(np.zeros((5, 5), dtype=int), 0) is None
    assert border(np.full((5, 5), VOID), 0) is None
    probes = border_probes(np.full((20, 30), VOID), ["a"])
    assert probes["a"].places.size == 0
    assert not border_sums(np.zeros((3, 20, 30)), probes)["count"].any()
    with pytest.raises(ValueError, match=r"\(1, 4, 5\), \(20, 30\)"):
        border_sums(np.zeros((1, 4, 5)), probes)


def test_sampling_is_exact_on_a_bilinear_surface():
    row, column = np.indices((6, 9)).astype(float)
    maps = np.stack([1 + 2 * row - column + 0.5 * row * column, column])
    points = np.array([[0.0, 5.0, 2.25, 3.0], [0.0, 8.0, 7.75, 8.0]])
    expected = 1 + 2 * points[0] - points[1] + 0.5 * points[0] * points[1]
    values = sampling(points, (6, 9)) @ maps.reshape(2, -1).T
    np.testing.assert_allclose(values.T, [expected, points[1]])


def tilted(shape=(40, 60), tilt=0.5):
    row, column = np.indices(shape)
    return (column > 25 + tilt * row).astype(int)


def bilinear(image, point):
    (row, column), (down, right) = np.floor(point).astype(int), np.asarray(point) % 1
    square = image[row : row + 2, column : column + 2]
    weights = np.outer([1 - down, down], [1 - right, right])[: square.shape[0], : square.shape[1]]
    return float((square * weights).sum())


def test_differences_along_and_across_are_those_of_a_loop():
    """The probes' matrices against the same differences written down pixel by pixel."""
    labels = tilted()
    image = np.random.default_rng(0).normal(size=labels.shape)
    probe, found = border_probes(labels, ["a", "b"])["b"], border(labels, 1)
    along = probe.along @ image.ravel()
    places = np.stack(np.unravel_index(probe.places, labels.shape), axis=1)  # (n, row and column)
    for number in range(0, len(places), 37):
        place = places[number]
        normal = found.across[:, *place]
        step = np.array([-normal[1], normal[0]]) / abs(normal).max()
        between = abs(step).min()
        raw = bilinear(image, place) - (bilinear(image, place + step) + bilinear(image, place - step)) / 2
        assert along[number] == pytest.approx(raw / np.sqrt(1 + ((1 - between) ** 2 + between**2) / 2))
    at_border = [n for n, place in enumerate(probe.places) if abs(found.distance.flat[place]) < 1]
    across = probe.across @ image.ravel()
    assert len(across) == len(at_border)
    for number, near in list(enumerate(at_border))[::11]:
        place = places[near]
        arm = ARM * found.across[:, *place]
        assert across[number] == pytest.approx(bilinear(image, place + arm) - bilinear(image, place - arm))


def test_pixels_lie_in_the_bin_of_their_distance():
    labels = tilted()
    probe, distance = border_probes(labels, ["a", "b"], reach=5)["b"], border(labels, 1).distance.ravel()
    assert probe.member.shape == (10, len(probe.places))
    assert (probe.member.sum(axis=0) == 1).all()
    bins = probe.member.toarray().argmax(axis=0)
    np.testing.assert_array_equal(bins, np.floor(distance[probe.places]) + 5)
    assert abs(distance[probe.places]).max() < 5


SHAPE = (96, 128)


def slanted(angle):
    """A straight border at an angle (degrees), as labels 0 and 1, and its exact signed distance, positive in 0."""
    row, column = np.indices(SHAPE) - np.array(SHAPE)[:, None, None] / 2 + 0.25
    distance = column * np.cos(np.radians(angle)) + row * np.sin(np.radians(angle))
    return (distance < 0).astype(int), distance


def measured(maps, labels, name="b"):
    found = border_sums(np.asarray(maps), border_probes(labels, ["a", "b"])).expand_dims("scene")
    return found.sel({"class": [name]})


def soft_step(distance, sigma):
    """A step blurred by an optics of that standard deviation, pixels."""
    return ndimage.gaussian_filter((distance > 0).astype(float), sigma) if sigma else (distance > 0).astype(float)


@pytest.mark.parametrize("angle", [0, 30, 45, 70])
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_blurred_step_has_the_width_of_its_blur(angle, sigma):
    labels, distance = slanted(angle)
    found = edge_measures(measured([soft_step(distance, sigma)], labels))
    # Central differences and bins of a pixel blur on their own: their variances (1/3 + 1/12 + 1/12) add up.
    expected = 2.355 * np.sqrt(sigma**2 + 0.5)
    assert 0.84 * expected < found["width"] < 1.05 * expected


def test_an_ideal_step_is_two_pixels_wide_at_the_border_and_a_displaced_one_has_its_sign():
    labels, distance = slanted(0)
    found = edge_measures(measured([soft_step(distance, 0)], labels))
    assert found["width"] == pytest.approx(2)
    assert found["shift"] == pytest.approx(0, abs=1e-6)
    assert found["noise"] == pytest.approx(0, abs=1e-6)
    for shift in (2, -1):
        found = edge_measures(measured([soft_step(distance - shift, 1.0)], labels))
        assert found["shift"] == pytest.approx(shift, abs=0.1)


@pytest.mark.parametrize("angle", [0, 20, 45, 75])
def test_white_noise_is_measured_at_its_size_at_every_orientation(angle):
    labels, _ = slanted(angle)
    maps = np.random.default_rng(0).normal(0, 0.3, (16, *SHAPE))
    profile = edge_profiles(measured(maps, labels))["noise"].mean("channel")
    np.testing.assert_allclose(profile, 1, rtol=0.1)
    assert profile.mean() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(("angle", "limit"), [(0, 0.03), (30, 0.06), (45, 0.03), (70, 0.06)])
def test_neither_a_clean_edge_nor_a_fringe_is_mistaken_for_noise(angle, limit):
    labels, distance = slanted(angle)
    found = edge_measures(measured([soft_step(distance, 1.0)], labels))
    assert found["noise_to_contrast"] < 0.025
    assert found["contrast"] == pytest.approx(2, rel=0.02)  # a step of one, whose standard deviation is a half
    fringe = np.exp(-(distance**2) / 2)  # the same all along the border
    assert edge_measures(measured([soft_step(distance, 1.0) + fringe], labels))["noise_to_contrast"] < limit


def test_noise_is_found_where_it_was_planted():
    """Noise of 0.2 within two pixels of the border of a step of one, and none elsewhere."""
    labels, distance = slanted(0)
    maps = soft_step(distance, 1.0) + 0.2 * np.random.default_rng(1).normal(size=(8, *SHAPE)) * (abs(distance) < 2)
    counted = measured(maps, labels)
    found = edge_measures(counted)
    assert found["noise_to_contrast"] == pytest.approx(0.2, rel=0.08)
    assert found["noise"] > 20 * found["floor_noise"]
    noise = edge_profiles(counted)["noise"].mean("channel").squeeze()
    assert (noise.where(abs(noise["distance"]) < 1.6, drop=True) > 0.3).all()
    assert (noise.where(abs(noise["distance"]) > 3, drop=True) < 0.02).all()


def test_measures_know_neither_scale_nor_offset_of_a_channel():
    labels, distance = slanted(30)
    maps = soft_step(distance, 1.0)[None] + 0.1 * np.random.default_rng(2).normal(size=(3, *SHAPE))
    plain, scaled = (edge_measures(measured(values, labels)) for values in (maps, 5 * maps + 3))
    xr.testing.assert_allclose(plain, scaled, rtol=1e-6)


def test_the_planted_networks_edges_lie_at_the_borders():
    profiles = edge_profiles(sums(planted(), scenes(12), "edges")).sel({"class": "Vegetation"})
    edge, noise = (profiles["slope"].sel(channel=channel) for channel in (RED_EDGE, NOISE))
    assert abs(float(edge["distance"][edge.argmax("distance")])) < 2
    assert edge.max() > 5 * edge.median()
    assert noise.max() < 1.3 * noise.median()
    assert profiles["contrast"].sel(channel=RED_EDGE) > 3 * profiles["noise"].sel(channel=RED_EDGE).max()
    assert profiles["slope"].sel(channel=EDGES).notnull().all()


def test_each_scene_and_class_is_counted_by_itself():
    pairs = [(image, truth) for image, truth in scenes(2)]
    pairs[1][1][pairs[1][1] == 2] = VOID
    found = sums(trained_like(), pairs, "edges", ["a", "b"])
    assert found.sizes["scene"] == 2
    assert found.attrs == {"layer": "conv2d_1", "after": True}
    assert found["count"].sel({"class": "Vegetation"}).sum("distance").values[0] > 0
    assert found["count"].sel({"class": "Vegetation"}).sum("distance").values[1] == 0


def test_a_triangle_is_as_wide_as_half_its_base_and_without_a_peak_that_falls_there_is_no_width():
    distance = np.arange(16) - 7.5
    assert peak_width(0.3 + np.clip(1 - abs(distance - 0.5) / 3, 0, None), distance) == pytest.approx((3, 0.5))
    never_falls = np.where(distance < -4.9, 0.0, 1.0)
    for profile in (np.ones(16), np.full(16, np.nan), -np.exp(-(distance**2)), never_falls):
        assert np.isnan(peak_width(profile, distance)).all()
