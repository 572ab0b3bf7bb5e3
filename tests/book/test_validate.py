"""nbval on a tiny book: what is right passes, what fails or prints something else does not."""

from pathlib import Path

import nbformat
import pytest
from tiny_book import write_book

from hsiutils.book.chapters import chapters
from hsiutils.book.validate import CHECKED, record_outputs, validate


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    return chapters(write_book(tmp_path / "project"))[1]


def edit(path: Path, source: str, tags: list[str]) -> None:
    notebook = nbformat.read(path, as_version=4)
    cell = notebook.cells[-1]
    cell.source, cell.metadata = source, nbformat.from_dict({"tags": tags})
    nbformat.write(notebook, path)


def outputs(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [output["text"] for cell in cells for output in cell.get("outputs", [])]


def test_recorded_outputs_come_out_again_and_others_are_caught(chapter, tiny_run):
    edit(chapter, "print(factor * 3)", [CHECKED])
    record_outputs(chapter, tiny_run)
    assert outputs(chapter) == ["6\n"]
    assert validate(tiny_run, [chapter]) == 0
    edit(chapter, "print(factor * 4)", [CHECKED])
    assert validate(tiny_run, [chapter]) == 1


def test_only_checked_cells_keep_an_output(chapter, tiny_run):
    edit(chapter, "print(1)", [])
    record_outputs(chapter, tiny_run)
    assert outputs(chapter) == []


def test_a_failing_cell_fails(chapter, tiny_run):
    edit(chapter, "1 / 0", [])
    assert validate(tiny_run, [chapter]) == 1
