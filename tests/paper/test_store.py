import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from hsiutils.data import atomic
from hsiutils.paper import store

# Builders of this module have the same code, so that any of them makes what another one asked for.


def write(folder):
    (folder / "value.txt").write_text("42")


def make(root, inputs=None, build=write, **kwargs):
    return store.artefact("thing", build, inputs or {"a": 1}, root=root, **kwargs)


def fail(folder):
    raise AssertionError("built although nothing changed")


def test_same_inputs_are_built_once_and_the_manifest_says_what_it_came_from(tmp_path):
    first = make(tmp_path)
    assert (first.folder / "value.txt").read_text() == "42"
    assert make(tmp_path, build=fail).folder == first.folder
    assert first.manifest["inputs"] == {"a": 1}
    assert set(first.manifest) >= {"code", "environment", "made", "machine", "seconds", "files"}
    assert set(first.manifest["environment"]) == {"python", "pytest"}  # what this module imports
    assert list(first.manifest["files"]) == ["value.txt"]


@dataclass(frozen=True)
class Settings:
    size: int
    where: Path = Path("x")


@pytest.mark.parametrize("inputs", [{"a": 2}, {"b": 1}, {"a": [1, 2]}, {"a": Settings(1)}, {"a": Settings(2)}])
def test_other_inputs_get_another_folder(tmp_path, inputs):
    assert make(tmp_path, inputs).folder != make(tmp_path).folder
    assert make(tmp_path, inputs, fail).manifest["inputs"] == json.loads(json.dumps(store._plain(inputs)))


def test_inputs_that_are_no_json_are_refused(tmp_path):
    with pytest.raises(TypeError, match="JSON-able"):
        make(tmp_path, {"a": object()})


def broken(folder):
    (folder / "value.txt").write_text("half")
    raise RuntimeError("power cut")


def test_failed_build_leaves_nothing_that_is_taken_for_finished(tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        make(tmp_path, build=broken)
    assert (make(tmp_path).folder / "value.txt").read_text() == "42"


@pytest.mark.parametrize("damaged", [None, "4", "43", "{"], ids=["deleted", "truncated", "corrupted", "nonsense"])
@pytest.mark.parametrize("victim", ["value.txt", store.MANIFEST])
@pytest.mark.parametrize("resumable", [False, True])
def test_damage_is_noticed_and_mended(tmp_path, damaged, victim, resumable):
    folder = make(tmp_path, resumable=resumable).folder
    time.sleep(0.01)
    (folder / victim).unlink()
    if damaged is not None:
        (folder / victim).write_text(damaged)
    assert store.load(folder) is None
    assert (make(tmp_path, resumable=resumable).folder / "value.txt").read_text() == "42"


def write_both(folder):
    for name in ("a", "b"):
        if not (folder / name).exists():
            (folder / name).write_text(name + str(time.monotonic_ns()))


def test_resumable_build_keeps_what_is_sound(tmp_path):
    folder = make(tmp_path, build=write_both, resumable=True).folder
    kept = (folder / "a").read_text()
    (folder / "b").unlink()
    again = make(tmp_path, build=write_both, resumable=True)
    assert (again.folder / "a").read_text() == kept
    assert (again.folder / "b").read_text().startswith("b")


def test_what_a_killed_process_left_of_a_manifest_is_no_part_of_the_next_build(tmp_path):
    made = make(tmp_path, build=write_both, resumable=True).folder
    unfinished = made.replace(made.with_suffix(".partial"))  # killed before the folder got its name
    stray = unfinished / f".{atomic._host()}-{2**22 + 1}-0.{store.MANIFEST}"  # of a process that cannot be there
    stray.write_text("{")
    again = make(tmp_path, build=write_both, resumable=True)
    assert sorted(path.name for path in again.folder.iterdir()) == ["a", "b", store.MANIFEST]
    assert list(again.manifest["files"]) == ["a", "b"]


def test_copied_store_is_believed_by_its_bytes(tmp_path):
    folder = make(tmp_path / "one").folder
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copy)
    copied = tmp_path / "two" / folder.relative_to(tmp_path / "one")
    os.utime(copied / "value.txt", ns=(1, 1))
    assert store.load(copied) is not None


def write_many(folders, built):
    built.append(sorted(folders))
    for index, folder in folders.items():
        (folder / "n").write_text(str(index))


def test_many_are_built_together_and_only_the_missing(tmp_path):
    built, inputs = [], [{"n": n} for n in range(4)]
    build = partial(write_many, built=built)
    store.artefacts("thing", build, inputs[1:2], root=tmp_path)
    made = store.artefacts("thing", build, inputs, root=tmp_path)
    assert built == [[0], [0, 2, 3]]
    assert [(artefact.folder / "n").read_text() for artefact in made] == ["0", "0", "2", "3"]


def slow_build(folder):
    time.sleep(0.5)
    (folder / f"made-by-{os.getpid()}").write_text("")


def test_two_processes_build_one_artefact_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make, args=(tmp_path,), kwargs={"build": slow_build}) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("thing/*/made-by-*"))) == 1


def test_matches_compares_bytes_both_ways(tmp_path):
    made = make(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(made.folder, copy, ignore=shutil.ignore_patterns(store.MANIFEST))
    assert store.matches(copy, made)
    (copy / "extra").write_text("")
    assert not store.matches(copy, made)
    (copy / "extra").unlink()
    (copy / "value.txt").write_text("43")
    assert not store.matches(copy, made)


def test_the_root_can_be_moved_and_a_relative_one_is_of_the_folder_where_the_program_started(monkeypatch, tmp_path):
    monkeypatch.delenv(store.ROOT, raising=False)
    assert store.default_root().parts[-2:] == ("data", "store")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(store.ROOT, "mine")
    assert store.default_root() == tmp_path / "mine"
    monkeypatch.chdir("/")  # as a kernel does, which inherits the environment
    assert store.default_root() == tmp_path / "mine"
    code = "import hsiutils.paper.store, os; os.chdir('/'); print(hsiutils.paper.store.default_root())"
    own = {**os.environ, store.ROOT: "mine", "PYTHONPATH": str(store.PACKAGE.parent)}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=True)  # noqa: S603
    assert said.stdout.strip() == str(tmp_path / "mine")  # resolved before anything could change the folder


def test_where_it_is_installed_artefacts_go_to_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv(store.ROOT, raising=False)
    monkeypatch.setattr(store, "PACKAGE", tmp_path / "site-packages" / "hsiutils")
    for given, expected in ((str(tmp_path), tmp_path), ("relative", Path.home() / ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert store.default_root() == expected / "hsiutils"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.default_root() == Path.home() / ".cache" / "hsiutils"


def test_what_cannot_be_followed_is_refused(tmp_path):
    def inside(folder):
        pass

    for build in (inside, lambda folder: None, partial(write_many, built=lambda: 1), print, Settings):
        with pytest.raises(TypeError, match="follows the code of a function at the top of a module") as told:
            make(tmp_path, build=build)
        assert build is not inside or f"got {inside.__qualname__}: write it so" in str(told.value)


class TestCode:
    """What the code of a builder is, on a package of a few lines."""

    FILES: ClassVar = {
        "__init__.py": "from hsiutils.wide import everything",
        "build.py": "import numpy as np\nfrom hsiutils.low import value\ndef build(folder): value()",
        "low.py": "def value():\n    from hsiutils import late\n    return open('data/table.csv')",
        "late.py": "from typing import TYPE_CHECKING\nimport yaml\nif TYPE_CHECKING:\n    from hsiutils import wide",
        "wide.py": "import bokeh\neverything = 'other.csv'",
        "data/table.csv": "1",
        "data/other.csv": "1",
    }

    def code(self, folder, **changes):
        for name, text in {**self.FILES, **changes}.items():
            path = folder / "hsiutils" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        store.code.cache_clear()
        return store.code(frozenset({("hsiutils.build", None)}), folder / "hsiutils")

    def test_it_is_followed_through_imports_and_no_further(self, tmp_path):
        found = self.code(tmp_path)
        assert found.modules == ("hsiutils.build", "hsiutils.late", "hsiutils.low")
        assert [path.name for path in found.files] == ["table.csv"]
        assert found.distributions == ("PyYAML", "numpy")

    @pytest.mark.parametrize(
        ("name", "text", "counts"),
        [
            ("build.py", "from hsiutils.low import value\ndef build(folder): value(2)", True),
            ("low.py", "def value(): return 2", True),
            ("late.py", "import yaml\nx = 2", True),
            ("data/table.csv", "2", True),
            ("wide.py", "x = 2", False),
            ("data/other.csv", "2", False),
            ("build.py", '"""New."""\n# Note\n' + FILES["build.py"] + "  # done", False),
        ],
    )
    def test_it_changes_with_what_it_uses(self, tmp_path, name, text, counts):
        assert (self.code(tmp_path).digest != self.code(tmp_path, **{name: text}).digest) == counts

    def test_a_module_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(ModuleNotFoundError, match=r"no module 'hsiutils\.nowhere'"):
            store.describe("thing", write, {}, uses=["hsiutils.nowhere"])
