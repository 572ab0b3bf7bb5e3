"""A power that was planted is found, with its interval; and every task is asked along every axis."""

import json

import numpy as np
import pytest

from benchmarks import growth as module
from benchmarks.growth import TASKS, exponent, main, multiplications, subject
from hsiutils.paper.benchmarks import growth


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_power_that_times_were_made_with_is_found(power):
    sizes, rng = np.array([1e3, 2e3, 4e3, 8e3, 16e3]), np.random.default_rng(0)
    times = 1e-4 * sizes**power * np.exp(rng.normal(0, 0.05, (9, 5))) * np.where(rng.random((9, 5)) < 0.1, 3, 1)
    found = exponent(sizes, times)
    assert found["exponent"] == pytest.approx(power, abs=0.03)
    assert found["low"] < power < found["high"] < found["low"] + 0.2


def test_multiplications_of_a_network_grow_with_its_pixels_and_those_of_the_pairs_of_pixels_with_their_square():
    small, large = [subject(pixels=pixels, depth=1, filters=2) for pixels in ((16, 16), (32, 32))]
    forward = [multiplications(lambda one=one: one[0](one[1][None])) for one in (small, large)]
    assert forward[1] == 4 * forward[0] > 0
    audit = next(iter(TASKS.values()))
    passes = [multiplications(lambda one=one: audit(*one)) for one in (small, large)]
    pairs = [2 * 2 * 5 * count**2 for count in (256, 1024)]
    assert passes[1] - 16 * passes[0] < 0 < passes[1] - pairs[1] == pytest.approx(4 * (passes[0] - pairs[0]), rel=0.02)


def test_every_task_grows_along_an_axis(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BASE", {"pixels": (8, 16), "channels": 2, "filters": 2, "depth": 1})
    monkeypatch.setattr(module, "AXES", {"pixels": [(8, 8), (8, 16)]})
    monkeypatch.setattr(module, "LIMITED", (8, 16))
    main(["--out", str(tmp_path / "growth.json"), "--rounds", "1"])
    rows = json.loads((tmp_path / "growth.json").read_text())["growth"]
    assert {(row["task"], row["along"]) for row in rows} == {(task, "pixels") for task in TASKS}
    table, words = growth(tmp_path / "growth.json")
    assert len(table) == len(rows)
    assert "limit" in words
