"""A dozen kills at changes of files, and two at once: what is done in the end is as if nothing had been."""

from pathlib import Path

import kills
import pytest

FIXED = [
    (kills.simulate, 2),
    (kills.convert_zarr, 3),
    (kills.convert_envi, 2),
    (kills.convert_python, 1),
    (kills.network, 2),
    (kills.measure, 2),
]
TOGETHER = (kills.convert_zarr, kills.network, kills.measure)


@pytest.mark.parametrize(("action", "count"), FIXED, ids=[action.__name__ for action, _ in FIXED])
def test_killed_and_done_again_or_done_by_two_is_as_if_undisturbed(action, count, tmp_path: Path) -> None:
    most = kills.done(action, tmp_path / "whole")
    wanted = kills.contents(tmp_path / "whole")
    for at in kills.moments(count, most, seed=16):
        kills.killed(action, tmp_path / f"at {at}", at)
        kills.done(action, tmp_path / f"at {at}")
        found = kills.contents(tmp_path / f"at {at}")
        assert found.keys() == wanted.keys()
        assert found == wanted
    if action in TOGETHER:
        kills.at_once(action, tmp_path / "both", seed=0)
        assert kills.contents(tmp_path / "both") == wanted
