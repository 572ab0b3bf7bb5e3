"""A chapter with own parameters as a page of the book, and a sweep as several."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from tiny_book import rewrite, write_book

from hsiutils import book
from hsiutils.book import pages as module
from hsiutils.book.chapters import ChapterError, find_chapter
from hsiutils.book.pages import MADE, chapter_pages, require_target, target_of


@pytest.fixture
def plot(tmp_path, monkeypatch) -> Path:
    """The second page of a tiny book, which is the one that commands find; the first has a label and a formula."""
    root = write_book(tmp_path / "project")
    monkeypatch.setattr(book, "_SOURCE", root)
    path = find_chapter("1", root)
    path.write_text(path.read_text().replace("See {numref}`fig-a`", "{doc}`Before <index>`"))
    rewrite(path, "import json", "print(factor * 7)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["hide-input"]
    nbformat.write(notebook, path)
    return path


def test_a_page_is_built_offline_with_its_parameters_and_leads_to_the_book(plot, tmp_path):
    there = plot.parents[1] / "_build" / "html" / "book" / "index.html"
    there.parent.mkdir(parents=True)
    there.touch()
    page = chapter_pages(plot, [{"factor": 3}], tmp_path / "out", lambda words: None)
    assert page == tmp_path / "out" / "book" / "01_plot.html"
    text = page.read_text()
    assert "<summary>Parameters (and imports): factor 3</summary>" in text
    assert "factor = 2" not in text  # the cells that set it
    assert "factor = 3" not in text
    assert "21" in text
    assert 'href="index.html"' in text
    assert "hsiutils chapter 1 -p factor=3" in text
    assert not re.findall(r'(?:src|href)="https?://', re.sub(r"<a [^>]*>", "", text))
    (link,) = re.findall(r'href="([^"]+)">In the book', (page.parent / "index.html").read_text())
    assert (page.parent / link).resolve() == there
    downloaded = page.parents[1] / "_sources" / "book" / "01_plot.ipynb"
    assert "factor = 3" in downloaded.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "project"]


@pytest.fixture
def sketched(monkeypatch):
    """Chapters that are not run, and pages of their parameters alone."""

    def run(source, output, parameters):
        if parameters["factor"] == 0:
            output.with_name(f"{output.stem}.unfinished.ipynb").touch()
            raise ChapterError("cell 3")
        if parameters["factor"] == -1:
            raise KeyboardInterrupt
        output.write_text(json.dumps(parameters))

    def build(folder, pages, feet, strict):
        found = folder / "html"
        for name in ("book/01_plot.html", "_sources/book/01_plot.ipynb", "_images/one.png"):
            (found / name).parent.mkdir(parents=True, exist_ok=True)
            (found / name).write_text(pages["book/01_plot.ipynb"].read_text() + "_sources/book/01_plot.ipynb")
        (found / "book" / "own.html").write_text(pages["book/own.md"].read_text())

    monkeypatch.setattr(module, "run_chapter", run)
    monkeypatch.setattr(module, "build_pages", build)


def test_a_sweep_is_a_folder_of_pages_and_one_that_leads_to_them(plot, sketched, tmp_path):
    wanted = [{"factor": factor, "kind": "a<b"} for factor in (1, 2, 3)]
    contents = chapter_pages(plot, wanted, tmp_path / "out", lambda words: None)
    links = re.findall(r'href="(.+?)">(.+?)<', contents.read_text())
    assert links == [("01_plot.html", "factor 1"), ("01_plot-2.html", "factor 2"), ("01_plot-3.html", "factor 3")]
    assert "All with kind a&lt;b" in contents.read_text()
    for (name, _), parameters in zip(links, wanted, strict=True):
        assert (contents.parent / name).read_text().startswith(json.dumps(parameters))
        assert f"_sources/book/{Path(name).stem}.ipynb" in (contents.parent / name).read_text()
        assert (tmp_path / "out" / "_sources" / "book" / name).with_suffix(".ipynb").is_file()
    made = json.loads((tmp_path / "out" / MADE).read_text())
    assert [one["parameters"] for one in made] == wanted
    chapter_pages(plot, wanted[:1], tmp_path / "out", lambda words: None)  # over pages that were made before
    assert not (tmp_path / "out" / "book" / "01_plot-2.html").exists()


def test_of_a_chapter_that_fails_the_notebook_stays_and_the_pages_of_before(plot, sketched, tmp_path):
    chapter_pages(plot, [{"factor": 1}], tmp_path / "out", lambda words: None)
    with pytest.raises(ChapterError):
        chapter_pages(plot, [{"factor": 0}], tmp_path / "out", lambda words: None)
    assert len(list(tmp_path.glob(".out.*/01_plot.unfinished.ipynb"))) == 1
    with pytest.raises(KeyboardInterrupt):
        chapter_pages(plot, [{"factor": -1}], tmp_path / "out", lambda words: None)
    assert len(list(tmp_path.glob(".out.*"))) == 1
    assert (tmp_path / "out" / MADE).is_file()


def test_folders_are_named_by_chapter_and_parameters_and_nothing_of_others_is_replaced(tmp_path):
    wanted = [{"class_name": name, "data_root": "/a b"} for name in ("Sky", "Road Marks")]
    folder = target_of(Path("05_activations.ipynb"), wanted, tmp_path)
    assert folder == tmp_path / "_build" / "chapters" / "05_activations-class_name=Sky,Road-Marks-data_root=-a-b"
    assert target_of(Path("ledger.ipynb"), [{}], tmp_path).name == "ledger"
    require_target(folder)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="holds other files"):
        require_target(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        require_target(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        require_target(tmp_path / "file" / "folder")


def test_titles_are_those_of_the_chapters(plot):
    assert module._title(plot) == "Plot"
    notebook = nbformat.v4.new_notebook()
    nbformat.write(notebook, plot)
    assert module._title(plot) == "01_plot"


def test_a_chapter_can_stand_alone_as_no_page_names_figures_or_equations_of_another():
    for path in find_chapter("1").parent.glob("*.*"):
        if path.suffix in (".ipynb", ".md"):
            text = path.read_text()
            named = re.findall(r"\{(?:eq|numref)\}`(?:[^`<]*<)?([^`>]+)", text)
            assert all(len(re.findall(rf"\b{re.escape(name)}\b", text)) > named.count(name) for name in named), path
