"""Kills at random moments of everything that takes long, also of what it started; and several of it at once."""

import itertools
import random
import re
import time
from pathlib import Path

import kills
import pytest

pytestmark = pytest.mark.slow
AT_CHANGES = [
    (kills.simulate, 10),
    (kills.convert_zarr, 10),
    (kills.convert_python, 6),
    (kills.convert_envi, 4),
    (kills.train, 10),
    (kills.measure, 6),
]
AFTER_SECONDS = [(kills.simulate_two, 4), (kills.study, 4), (kills.chapter, 4), (kills.book, 4)]


@pytest.mark.parametrize(("action", "count"), AT_CHANGES, ids=[action.__name__ for action, _ in AT_CHANGES])
def test_killed_at_a_change_of_files(action, count, tried, tmp_path: Path) -> None:
    most = kills.done(action, tmp_path / "whole")
    wanted = kills.contents(tmp_path / "whole")
    for at in kills.moments(count, most, seed=0):
        kills.killed(action, tmp_path / f"at {at} ü", at)
        kills.done(action, tmp_path / f"at {at} ü")
        found = kills.contents(tmp_path / f"at {at} ü")
        assert found.keys() == wanted.keys(), at
        assert [name for name in wanted if found[name] != wanted[name]] == [], at
        tried["kills"][action.__name__] = tried["kills"].get(action.__name__, 0) + 1


def _names(found: dict[str, bytes]) -> set[str]:
    """Of files; a site is stored under the hash of pages in which plots have numbers of their own, each time others."""
    return {re.sub("store/site/[0-9a-f]+", "store/site", name) for name in found}


@pytest.mark.parametrize(("action", "count"), AFTER_SECONDS, ids=[action.__name__ for action, _ in AFTER_SECONDS])
def test_killed_after_a_while(action, count, tried, tmp_path: Path) -> None:
    """Several times one after the other, then left alone; from nothing again where it was done before that."""
    began = time.monotonic()
    kills.done(action, tmp_path / "whole")
    seconds, draw = time.monotonic() - began, random.Random(0)  # noqa: S311
    wanted = kills.contents(tmp_path / "whole")
    folders = (tmp_path / f"killed {number}" for number in itertools.count())
    folder, killed = next(folders), 0
    while killed < count:
        if kills.killed_after(action, folder, draw.uniform(0, seconds)):
            killed += 1
        else:
            _require_same(kills.contents(folder), wanted)
            folder = next(folders)
    kills.done(action, folder)
    _require_same(kills.contents(folder), wanted)
    tried["kills"][action.__name__] = killed


def _require_same(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """The same files, with the same bytes where these are promised: not of pages, and of what knows their hashes."""
    assert _names(found) == _names(wanted)
    pages = (".ipynb", ".html", ".js", "manifest.json")
    promised = [name for name in wanted if not name.startswith(("store/site", "html")) and not name.endswith(pages)]
    assert [name for name in promised if found[name] != wanted[name]] == []


TOGETHER = [
    (kills.simulate, 4),
    (kills.simulate_two, 2),
    (kills.convert_zarr, 6),
    (kills.convert_envi, 4),
    (kills.network, 6),
    (kills.study, 3),
    (kills.book, 3),
]


@pytest.mark.parametrize(("action", "count"), TOGETHER, ids=[action.__name__ for action, _ in TOGETHER])
def test_several_at_once(action, count, tried, tmp_path: Path) -> None:
    kills.done(action, tmp_path / "whole")
    wanted = kills.contents(tmp_path / "whole")
    for seed in range(count):
        kills.at_once(action, tmp_path / f"at once {seed}", seed, 2 + seed % 2)
        _require_same(kills.contents(tmp_path / f"at once {seed}"), wanted)
        tried["together"][action.__name__] = seed + 1
