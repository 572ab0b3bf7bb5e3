import json
import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hsiutils.paper import store

MODULES = ("hsiutils.data.classes",)


def make(root, inputs=None, build=None, **kwargs):
    build = build or (lambda folder: (folder / "value.txt").write_text("42"))
    return store.artefact("thing", inputs or {"a": 1}, MODULES, build, root=root, **kwargs)


def fail(folder):
    raise AssertionError("built although nothing changed")


def test_same_inputs_are_built_once(tmp_path):
    first = make(tmp_path)
    assert (first.folder / "value.txt").read_text() == "42"
    assert make(tmp_path, build=fail).folder == first.folder


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


def test_manifest_says_what_it_came_from(tmp_path):
    manifest = make(tmp_path).manifest
    assert manifest["inputs"] == {"a": 1}
    assert set(manifest) >= {"code", "environment", "made", "machine", "seconds", "files"}
    assert manifest["environment"]["numpy"]
    assert list(manifest["files"]) == ["value.txt"]


def test_failed_build_leaves_nothing_that_is_taken_for_finished(tmp_path):
    def broken(folder):
        (folder / "value.txt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        make(tmp_path, build=broken)
    assert (make(tmp_path).folder / "value.txt").read_text() == "42"


def damage(folder, how):
    victim = folder / "value.txt"
    if how == "deleted":
        victim.unlink()
    elif how == "truncated":
        victim.write_text("4")
    elif how == "corrupted":
        time.sleep(0.01)
        victim.write_text("43")
    elif how == "manifest deleted":
        (folder / store.MANIFEST).unlink()
    else:
        (folder / store.MANIFEST).write_text("{")


@pytest.mark.parametrize("how", ["deleted", "truncated", "corrupted", "manifest deleted", "manifest corrupted"])
@pytest.mark.parametrize("resumable", [False, True])
def test_damage_is_noticed_and_mended(tmp_path, how, resumable):
    folder = make(tmp_path, resumable=resumable).folder
    damage(folder, how)
    assert store.load(folder) is None
    assert (make(tmp_path, resumable=resumable).folder / "value.txt").read_text() == "42"


def test_resumable_build_keeps_what_is_sound(tmp_path):
    def build(folder):
        for name in ("a", "b"):
            if not (folder / name).exists():
                (folder / name).write_text(name + str(time.monotonic_ns()))

    folder = make(tmp_path, build=build, resumable=True).folder
    kept = (folder / "a").read_text()
    (folder / "b").unlink()
    again = make(tmp_path, build=build, resumable=True)
    assert (again.folder / "a").read_text() == kept
    assert (again.folder / "b").read_text().startswith("b")


def test_copied_store_is_believed_by_its_bytes(tmp_path):
    folder = make(tmp_path / "one").folder
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copy)
    copied = tmp_path / "two" / folder.relative_to(tmp_path / "one")
    os.utime(copied / "value.txt", ns=(1, 1))
    assert store.load(copied) is not None


def test_many_are_built_together_and_only_the_missing(tmp_path):
    requests = [store.Request("thing", {"n": n}, MODULES) for n in range(4)]
    built = []

    def build(folders):
        built.append(sorted(folders))
        for index, folder in folders.items():
            (folder / "n").write_text(str(index))

    store.artefacts(requests[1:2], lambda folders: build({1: folders[0]}), root=tmp_path)
    made = store.artefacts(requests, build, root=tmp_path)
    assert built == [[1], [0, 2, 3]]
    assert [(artefact.folder / "n").read_text() for artefact in made] == ["0", "1", "2", "3"]


def slow_build(folder):
    time.sleep(0.5)
    (folder / f"made-by-{os.getpid()}").write_text("")


def build_in_process(root):
    make(Path(root), build=slow_build)


def test_two_processes_build_one_artefact_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=build_in_process, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("thing/*/made-by-*"))) == 1


def test_code_counts_through_imports_and_comments_do_not(tmp_path, monkeypatch):
    before = store.code_hash(("hsiutils.data.sensor",))
    code_of = store._code_of

    def other(changed):
        store.code_hash.cache_clear()
        monkeypatch.setattr(store, "_code_of", lambda module: code_of(module) + (module == changed) * "x")
        return store.code_hash(("hsiutils.data.cube",))

    unchanged = other(None)
    assert other("hsiutils.data.sensor") != unchanged  # cube imports sensor
    assert other("hsiutils.paper.claims") == unchanged  # and knows nothing of the ledger
    store.code_hash.cache_clear()
    monkeypatch.undo()
    assert store.code_hash(("hsiutils.data.sensor",)) == before


def test_unknown_module_is_an_error():
    with pytest.raises(ValueError, match=r"no module 'hsiutils\.nowhere'"):
        store.code_hash(("hsiutils.nowhere",))


def test_docstrings_and_comments_are_not_code(tmp_path, monkeypatch):
    class Spec:
        origin = str(tmp_path / "m.py")

    monkeypatch.setattr(store, "find_spec", lambda name: Spec)
    texts = ['"""One."""\ndef f():\n    """Doc."""\n    return 1\n', "# note\ndef f():\n    return 1  # one\n"]
    codes = []
    for text in [*texts, "def f():\n    return 2\n"]:
        Path(Spec.origin).write_text(text)
        codes.append(store._code_of("m"))
    assert codes[0] == codes[1] != codes[2]


def test_matches_compares_bytes_both_ways(tmp_path):
    made = make(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(made.folder, copy)
    (copy / store.MANIFEST).unlink()
    assert store.matches(copy, made)
    (copy / "extra").write_text("")
    assert not store.matches(copy, made)
    (copy / "extra").unlink()
    (copy / "value.txt").write_text("43")
    assert not store.matches(copy, made)


def test_default_root_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("HSIUTILS_STORE", str(tmp_path))
    assert store.default_root() == tmp_path
    monkeypatch.delenv("HSIUTILS_STORE")
    assert store.default_root().parts[-2:] == ("data", "store")
