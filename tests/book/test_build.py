import dataclasses
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from filelock import Timeout
from tiny_book import outputs, rewrite, write_book

from hsiutils.book import build, kept
from hsiutils.book import chapters as chapter_room
from hsiutils.book.chapters import chapters
from hsiutils.book.processes import turn


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    project = write_book(tmp_path / "project")
    return chapters(project)[0]


def test_a_chapter_gets_only_the_parameters_that_it_has(chapter, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "declared", lambda notebook: ["profile", "seed", "data_root", "variants"])
    assert build.chapter_parameters(chapter, tiny_run) == {"profile": "tiny", "seed": 0}
    given = {"data_root": tmp_path, "variants": ("3",), "seed": 2, "weights": tmp_path / "model.h5"}
    other = dataclasses.replace(tiny_run, **given)
    expected = {"profile": "tiny", "seed": 2, "data_root": str(tmp_path), "variants": ["3"]}
    assert build.chapter_parameters(chapter, other) == expected
    monkeypatch.setattr(build, "declared", lambda notebook: ["seed", "weights"])
    assert build.chapter_parameters(chapter, other) == {"seed": 2, "weights": str(tmp_path / "model.h5")}


def test_a_chapter_runs_again_only_if_something_changed(chapter, tiny_run, monkeypatch):
    ran = []
    monkeypatch.setattr(chapter_room, "run_chapter", lambda source, out, *_, **__: ran.append(shutil.copy(source, out)))
    chapter.write_text(chapter.read_text().replace("1 + 1", "1 + 3"))  # in no other test
    first = build.executed_chapter(chapter, tiny_run)
    assert build.executed_chapter(chapter, tiny_run) == first
    assert len(ran) == 1
    chapter.write_text(chapter.read_text().replace("1 + 3", "1 + 2"))
    assert build.executed_chapter(chapter, tiny_run) != first
    assert len(ran) == 2


def test_the_book_is_built_from_every_chapter(tiny_run, monkeypatch, tmp_path):
    said, built = [], []
    monkeypatch.setattr(build, "executed_chapters", lambda paths, run: paths)
    monkeypatch.setattr(build, "build_site", lambda executed, target=None: built.extend(executed) or tmp_path)
    build.build_book(tiny_run, said.append)
    assert built == chapters()
    assert said[0].startswith("Profile tiny, seed 0, data: simulated scenes")


def test_kernels_share_the_cores(monkeypatch):
    monkeypatch.setattr(build, "workers", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    build._share_cores(3)
    assert build.os.environ["OMP_NUM_THREADS"] == "2"
    build._share_cores(8)
    assert build.os.environ["OMP_NUM_THREADS"] == "2"  # what the user asked for stays
    monkeypatch.delenv("OMP_NUM_THREADS")


def test_kernels_of_chapters_under_nbval_start_one_after_the_other(tmp_path, store_root):
    chapter = SimpleNamespace(nb=SimpleNamespace(cells=[]))
    cell, other = SimpleNamespace(path=tmp_path / "01_plot.ipynb", cell_num=1, parent=chapter), turn()
    kept.pytest_runtest_setup(cell)
    with pytest.raises(Timeout):
        other.acquire(timeout=0)
    kept.pytest_runtest_call(cell)
    with other.acquire(timeout=60):
        pass


def test_recorded_outputs_come_out_again_and_others_are_caught(tiny_run, tmp_path, capfd):
    front, plot = chapters(write_book(tmp_path / "project"))
    rewrite(plot, "print(factor * 3)", "print(factor * 5)", tags=[build.CHECKED])
    path = "__import__('hsiutils').paper.store.default_root() / 'known.txt'"
    rewrite(front, "1 / 0", f"path = {path}\npath.write_text('')", "[path.read_text() for _ in range(30)]")
    notebook = nbformat.read(plot, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("print('not checked')"))
    nbformat.write(notebook, plot)
    build.renew_outputs(plot, tiny_run)
    assert outputs(plot) == ["6\n", "10\n"]  # only checked cells keep one
    plot.write_text(plot.read_text().replace("factor * 5", "factor * 4"))  # and the output stays
    assert build.validate(tiny_run, [front, plot]) == 1
    said = capfd.readouterr().out
    assert "3 failed, 5 passed" in said
    assert re.search(r"index.ipynb opens files again and again: .*known.txt': 31}", said)
    assert build.validate(tiny_run, chapters(write_book(tmp_path / "whole")), tmp_path / "html") == 0
    page = (tmp_path / "html" / "book" / "01_plot.html").read_text()  # of what it showed, without another run
    assert all(part in page for part in ("Metres against metres.", 'role="figure"', "docs_json"))
