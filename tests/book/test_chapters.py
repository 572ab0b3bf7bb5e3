from pathlib import Path

import nbformat
import pytest
from tiny_book import write_book

from hsiutils import book
from hsiutils.book.chapters import (
    ChapterError,
    chapters,
    find_chapter,
    imported_modules,
    parameter_names,
    prepare_chapter,
    run_chapter,
    sources,
)

BOOK = chapters()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_book(tmp_path / "project")


def outputs(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [output.get("text", "") for cell in cells for output in cell.get("outputs", [])]


def chapter(project: Path, *code: str) -> Path:
    path = project / "book" / "01_plot.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = notebook.cells[:2] + [nbformat.v4.new_code_cell(text) for text in code]
    nbformat.write(notebook, path)
    return path


def test_chapters_come_in_the_order_of_the_contents(project):
    assert [path.stem for path in chapters(project)] == ["index", "01_plot"]


def test_a_page_that_is_not_there_is_named(project):
    (project / "book" / "01_plot.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match="names 'book/01_plot'"):
        chapters(project)


def test_chapters_are_found_by_number_name_and_path(project):
    for name in ("1", "01_plot", "01", str(project / "book" / "01_plot.ipynb")):
        assert find_chapter(name, project).stem == "01_plot"
    with pytest.raises(ValueError, match="no chapter '9'"):
        find_chapter("9", project)


def test_parameters_reach_the_chapter_and_no_trace_of_the_run_stays(project, tmp_path):
    out = tmp_path / "out.ipynb"
    run_chapter(chapter(project, "print(factor * 21)"), out, {"factor": 2}, progress=False)
    assert "42\n" in outputs(out)
    text = out.read_text()
    assert "papermill" not in text.replace("injected-parameters", "")
    assert str(tmp_path) not in text
    assert "start_time" not in text
    assert [path.name for path in tmp_path.glob("*.ipynb")] == ["out.ipynb"]


def test_misspelt_parameter_stops_before_anything_runs(project, tmp_path):
    with pytest.raises(ValueError, match="unknown parameter 'facto': did you mean 'factor'"):
        run_chapter(chapter(project, "1"), tmp_path / "out.ipynb", {"facto": 1}, progress=False)
    assert not list(tmp_path.glob("*.ipynb"))


def test_failing_cell_is_named_and_no_output_appears(project, tmp_path):
    with pytest.raises(ChapterError, match=r"01_plot.ipynb, cell \d+: ZeroDivisionError"):
        run_chapter(chapter(project, "1 / 0"), tmp_path / "out.ipynb", {}, progress=False)
    assert [path.name for path in tmp_path.glob("*.ipynb")] == ["out.unfinished.ipynb"]


def test_prepared_chapter_has_its_parameters_and_did_not_run(project, tmp_path):
    prepare_chapter(chapter(project, "print(factor)"), tmp_path / "out.ipynb", {"factor": 7})
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert any(cell.source.startswith("# Parameters") and "factor = 7" in cell.source for cell in notebook.cells)
    assert outputs(tmp_path / "out.ipynb") == []


def test_imports_of_hsiutils_are_found_as_modules(project):
    path = chapter(
        project,
        "import numpy\nfrom hsiutils.paper import run\nfrom hsiutils.plots.base import show\nimport hsiutils.data.cube",
    )
    assert imported_modules(path) == ("hsiutils.data.cube", "hsiutils.paper.run", "hsiutils.plots.base")


def test_outputs_are_not_what_a_chapter_is(project, tmp_path):
    path = chapter(project, "print(1)")
    before = sources(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nbformat.write(notebook, path)
    assert sources(path) == before
    assert sources(chapter(project, "print(2)")) != before


@pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)
def test_committed_chapters_are_clean_and_parameterised(path):
    notebook = nbformat.read(path, as_version=4)
    assert {"profile", "seed", "data_root"} <= set(parameter_names(path))
    assert not set(notebook.metadata) - {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not set(cell.metadata) - {"tags", "mystnb"}
        assert not [output for output in cell.get("outputs", []) if output.output_type == "error"]
        if "nbval-check-output" in cell.metadata.get("tags", []):
            assert cell.outputs, f"{path.name}: a cell promises an output and holds none:\n{cell.source}"
        elif cell.cell_type == "code":
            assert not cell.outputs, f"{path.name}: outputs are made by the build, not committed:\n{cell.source}"


@pytest.mark.parametrize("number", [4, 5, 7])
def test_chapters_on_what_a_network_does_take_a_published_one(number):
    path = find_chapter(str(number))
    assert {"weights", "variants"} <= set(parameter_names(path))
    code = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert "pipeline.remarks(run)" in code
    assert "profile.depth" not in code  # the file's network may have another


@pytest.mark.parametrize("path", BOOK, ids=lambda path: path.stem)
def test_every_figure_has_a_caption_and_a_name_of_its_own(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.source.find("show(") >= 0]
    figures = [cell.metadata["mystnb"]["figure"] for cell in cells]
    assert all(figure["caption"].strip() for figure in figures)
    assert len({figure["name"] for figure in figures}) == len(figures)


def test_a_checkout_is_where_the_package_is_or_where_one_stands(project, tmp_path, monkeypatch):
    assert (book.project() / "_toc.yml").is_file()
    monkeypatch.setattr(book, "_SOURCE", tmp_path)  # as installed
    monkeypatch.chdir(project)
    assert book.project() == project
    assert [path.stem for path in chapters()] == ["index", "01_plot"]
    monkeypatch.chdir(tmp_path)
    for needs_it in (chapters, lambda: find_chapter("1")):
        with pytest.raises(FileNotFoundError, match=f"needs a checkout .* there is none in {tmp_path}"):
            needs_it()
