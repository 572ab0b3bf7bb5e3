"""Memory that is kept is seen, memory that is let go is not counted twice."""

import time

import numpy as np
import pytest

from benchmarks.memory import growth, peak_mb


def read(count, kept):
    found = []
    for number in range(count):
        scene = np.full(500_000, number, dtype=float)  # 4 MB
        if kept:
            found.append(scene)
    time.sleep(0.05)


@pytest.mark.parametrize("tree", [False, True])
def test_what_keeps_its_scenes_is_seen_to_grow(tree):
    few, many = (peak_mb(lambda count=count: read(count, kept=True), tree) for count in (5, 40))
    assert 100 < many - few < 180
    assert peak_mb(lambda: read(40, kept=False), tree) < 60


def test_growth_is_a_slope_in_kb():
    found = growth([50, 200, 800, 50, 200, 800], [2.0, 2.3, 3.5, 2.0, 2.3, 3.5])
    assert (found["kb_a_scene"], found["low"], found["high"]) == pytest.approx((2, 2, 2))
