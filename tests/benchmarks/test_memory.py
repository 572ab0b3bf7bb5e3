"""Memory that is kept is seen, memory that is let go is not counted twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

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


def peaks(tree):
    """Of a few scenes that are kept, of many, and of many that are not."""
    return [peak_mb(lambda one=one: read(*one), tree) for one in ((5, True), (40, True), (40, False))]


def test_what_keeps_its_scenes_is_seen_to_grow():
    """In a process of its own: one that many tests ran in has memory to give away unseen."""
    code = "from test_memory import peaks; print(*peaks(False), *peaks(True))"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    for few, many, passed in np.array(done.stdout.split(), dtype=float).reshape(2, 3):
        assert 100 < many - few < 180
        assert passed < 60


def test_growth_is_a_slope_in_kb():
    found = growth([50, 200, 800, 50, 200, 800], [2.0, 2.3, 3.5, 2.0, 2.3, 3.5])
    assert (found["kb_a_scene"], found["low"], found["high"]) == pytest.approx((2, 2, 2))
