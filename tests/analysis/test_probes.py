"""The probes' matrices against the same differences written down pixel by pixel."""

import numpy as np
import pytest

from hsiutils.analysis.edges import ARM, REACH, border, border_probes
from hsiutils.data.classes import VOID


def slanted(shape=(40, 60), tilt=0.5):
    row, column = np.indices(shape)
    return (column > 25 + tilt * row).astype(int)


def bilinear(image, point):
    (row, column), (down, right) = np.floor(point).astype(int), np.asarray(point) % 1
    square = image[row : row + 2, column : column + 2]
    weights = np.outer([1 - down, down], [1 - right, right])[: square.shape[0], : square.shape[1]]
    return float((square * weights).sum())


def test_differences_along_and_across_are_those_of_a_loop():
    labels = slanted()
    image = np.random.default_rng(0).normal(size=labels.shape)
    probe, found = border_probes(labels, ["a", "b"])["b"], border(labels, 1)
    along = probe.along @ image.ravel()
    for number in range(0, len(probe.places), 37):
        place = np.array(np.unravel_index(probe.places[number], labels.shape), dtype=float)
        normal = found.across[:, int(place[0]), int(place[1])]
        step = np.array([-normal[1], normal[0]]) / abs(normal).max()
        between = abs(step).min()
        raw = bilinear(image, place) - (bilinear(image, place + step) + bilinear(image, place - step)) / 2
        assert along[number] == pytest.approx(raw / np.sqrt(1 + ((1 - between) ** 2 + between**2) / 2))
    at_border = [n for n, place in enumerate(probe.places) if abs(found.distance.flat[place]) < 1]
    across = probe.across @ image.ravel()
    assert len(across) == len(at_border)
    for number, near in list(enumerate(at_border))[::11]:
        place = np.array(np.unravel_index(probe.places[near], labels.shape), dtype=float)
        arm = ARM * found.across[:, int(place[0]), int(place[1])]
        assert across[number] == pytest.approx(bilinear(image, place + arm) - bilinear(image, place - arm))


def test_pixels_lie_in_the_bin_of_their_distance():
    labels = slanted()
    probe, distance = border_probes(labels, ["a", "b"], reach=5)["b"], border(labels, 1).distance.ravel()
    assert probe.member.shape == (10, len(probe.places))
    assert (probe.member.sum(axis=0) == 1).all()
    bins = probe.member.toarray().argmax(axis=0)
    np.testing.assert_array_equal(bins, np.floor(distance[probe.places]) + 5)
    assert abs(distance[probe.places]).max() < 5


def test_a_class_without_a_border_is_probed_nowhere():
    probe = border_probes(np.full((20, 30), VOID), ["a"])["a"]
    assert probe.places.size == 0
    assert (probe.along @ np.zeros((600, 3))).shape == (0, 3)
    assert (probe.across @ np.zeros((600, 3))).shape == (0, 3)
    assert probe.member.shape == (2 * REACH, 0)


def test_every_class_has_a_probe_by_name():
    assert list(border_probes(slanted(), ["a", "b", "c"])) == ["a", "b", "c"]
