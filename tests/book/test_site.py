"""The pages: built from run chapters, whole without a network, and repaired when damaged."""

import re
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from tiny_book import write_book

from hsiutils.book import build as site
from hsiutils.book.build import SiteError, build_site
from hsiutils.book.chapters import chapters
from hsiutils.paper.run import Run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_book(tmp_path_factory.mktemp("site") / "project")


@pytest.fixture(scope="module")
def executed(project: Path, tiny_run: Run) -> dict[str, Path]:
    """By one process, the last chapter first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "workers", lambda: 1)
        return site.executed_chapters(chapters(project), tiny_run, progress=False)


def test_chapters_run_in_another_process_and_come_back_in_order(executed):
    assert list(executed) == ["book/index.ipynb", "book/01_plot.ipynb"]
    assert all(path.is_file() for path in executed.values())


@pytest.fixture(scope="module")
def html(project: Path, executed: dict[str, Path], store_root: Path) -> Path:
    return build_site(executed, project, project / "html").parent


def test_the_first_page_leads_to_the_book_and_figures_are_numbered_captioned_and_described(html):
    assert "book/index.html" in (html / "index.html").read_text()
    assert "Plot" in (html / "book" / "index.html").read_text()
    page = (html / "book" / "01_plot.html").read_text()
    assert "Metres against metres." in page
    assert 'aria-label="A curve that rises."' in page
    assert re.search(r'href="#fig-a"[^>]*>\s*<span[^>]*>Fig\. 1\.1<', page)


def test_chapters_appendices_equations_and_tables_have_numbers_that_the_paper_has_not(html):
    front = (html / "book" / "index.html").read_text()
    assert re.findall(r'toctree-l1"><a[^>]*>([^<]*)', front) == ["1. Plot", "A1. More", "Glossary"]
    assert '<span class="eqno">(0.1)' in front
    assert "section-number" not in front.partition("<article")[2].partition("</article>")[0]
    for number, start in (("0.1", '<span class="caption-text">In Markdown.'), ("0.2", "Of numbers.")):
        assert f'<caption id="table-{number}"><span class="caption-number">Table {number} </span>{start}' in front
    assert 'See <a href="#table-0.2">Table 0.2</a>.' in front
    assert '<span class="caption-number">Table G.1 </span>' in (html / "book" / "glossary.html").read_text()


def test_what_is_folded_says_which_tables_it_holds_and_imports_are_folded_with_the_parameters(html):
    front, plot = ((html / "book" / f"{name}.html").read_text() for name in ("index", "01_plot"))
    folded = re.findall(r'admonition-title">([^<]*)</p>', front)
    assert folded == [f"{word} Table 0.3: What &lt;is&gt; folded, and code" for word in ("Show", "Hide")]
    fold = plot.partition('<details class="hsi-parameters"><summary>Parameters (and imports): ')[2].partition(
        "</details>"
    )
    assert all(name in re.sub("<[^>]*>", "", fold[0]) for name in ("factor", "from hsiutils.plots.base import show"))
    assert "Show code" not in plot


def test_a_fold_that_does_not_say_what_it_holds_stops_the_build(project, executed, tmp_path):
    front = nbformat.read(executed["book/index.ipynb"], as_version=4)
    front.cells[1].metadata["tags"] = ["hide-output"]
    nbformat.write(front, tmp_path / "index.ipynb")
    with pytest.raises(SiteError, match="what is folded has no caption"):
        build_site(executed | {"book/index.ipynb": tmp_path / "index.ipynb"}, project, tmp_path / "html")


def test_a_reference_to_a_table_that_is_not_there_stops_the_build(project, executed, tmp_path):
    front = nbformat.read(executed["book/index.ipynb"], as_version=4)
    front.cells[0].source += '\n\n<a href="#table-lost">It</a>'
    nbformat.write(front, tmp_path / "index.ipynb")
    with pytest.raises(SiteError, match="no table is named 'lost'"):
        build_site(executed | {"book/index.ipynb": tmp_path / "index.ipynb"}, project, tmp_path / "html")


BAR, WARNING = (nbformat.v4.new_output("stream", name="stderr", text=text) for text in (" 50%|###   | 1/2", "Hm."))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": []}, "the cell of figure 'fig-a' shows nothing"),  # as of a cell that ends in an `if`
        ({"outputs": [BAR]}, "a progress bar would stand on the page"),
        ({"outputs": [WARNING]}, "what went to stderr would stand on the page:\nHm."),
        ({"metadata": {"tags": ["parameters"]}}, "code that sets parameters would stand on the page"),
    ],
)
def test_what_no_reader_should_see_stops_the_build(project, executed, tmp_path, changes, message):
    chapter = nbformat.read(executed["book/01_plot.ipynb"], as_version=4)
    chapter.cells[-1].update(nbformat.from_dict(changes))
    nbformat.write(chapter, tmp_path / "01_plot.ipynb")
    with pytest.raises(SiteError, match=rf"book/01_plot\.ipynb: {message}"):
        build_site(executed | {"book/01_plot.ipynb": tmp_path / "01_plot.ipynb"}, project, tmp_path / "html")


def test_building_pages_runs_nothing_again(html, executed):
    # Every drawing of a plot has identifiers of its own: the page holds those of the run, not of a second one.
    drawn = re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", executed["book/01_plot.ipynb"].read_text())
    assert drawn
    assert drawn[-1] in (html / "book" / "01_plot.html").read_text()


def pages(html: Path) -> list[Path]:
    """The pages themselves; themes keep templates among their static files."""
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def requested(page: Path) -> list[str]:
    """Addresses that a browser fetches by itself for a page: scripts, styles, images, imported style sheets."""
    text = page.read_text()
    fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*?\ssrc="([^"]+)"', text)
    fetched += re.findall(r'<link[^>]*?rel="(?:stylesheet|preload|icon)"[^>]*?href="([^"]+)"', text)
    return fetched + re.findall(r'"url":\s*"([^"]+\.css[^"]*)"', text)


def test_everything_that_a_page_asks_for_is_there_and_nothing_on_the_network(html):
    assert len(pages(html)) > 3
    for page in pages(html):
        for url in requested(page):
            path = url.split("?")[0].split("#")[0]
            assert (page.parent / path).is_file() or path.startswith("data:"), f"{page.name} asks for {url}"
    front, plot = ((html / "book" / f"{name}.html").read_text() for name in ("index", "01_plot"))
    assert "cdn.holoviz.org" not in plot
    assert ("bokeh.min.js" in plot, "bokeh.min.js" in front) == (True, False)  # only on pages with plots


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_without_a_network_draws_formula_and_plot(html, tmp_path):
    def dom(name):
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
        options += [f"--user-data-dir={tmp_path}", "--host-resolver-rules=MAP * ~NOTFOUND"]
        page = (html / "book" / name).resolve().as_uri()
        return subprocess.run([CHROMIUM, *options, page], capture_output=True, text=True, timeout=120).stdout  # noqa: S603

    assert "<mjx-container" in dom("index.html")
    assert re.search("bk-Figure|<canvas|data-root-id", dom("01_plot.html"))


def test_unchanged_chapters_build_nothing(project, executed, html, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("built although nothing changed"))
    stamp = (html / "book" / "index.html").stat().st_mtime_ns
    build_site(executed, project, html)
    assert (html / "book" / "index.html").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("damage", [Path.unlink, lambda page: page.write_text("<p>gone</p>")])
def test_damaged_page_is_put_back(project, executed, html, damage):
    page = html / "book" / "index.html"
    before = page.read_bytes()
    damage(page)
    build_site(executed, project, html)
    assert page.read_bytes() == before


@pytest.mark.parametrize("at_once", [True, False], ids=["in one step", "in two"])
def test_folders_change_places(at_once, tmp_path, monkeypatch):
    if not at_once:
        monkeypatch.setattr(site.ctypes, "CDLL", lambda name: object())
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "page").write_text(name)
    site.exchange(tmp_path / "new", tmp_path / "pages")
    site.exchange(tmp_path / "old", tmp_path / "pages")
    assert {path.name: (path / "page").read_text() for path in tmp_path.iterdir()} == {"pages": "old", "old": "new"}


def test_two_builds_at_once_take_turns_and_readers_always_have_a_whole_site(project, executed, html, tmp_path):
    other = tmp_path / "index.ipynb"
    other.write_text(executed["book/index.ipynb"].read_text().replace("# Front", "# Another front"))
    books = [executed, executed | {"book/index.ipynb": other}]
    target = build_site(executed, project, tmp_path / "html").parent
    build_site(books[1], project, tmp_path / "html")  # both are in the store now
    done, whole = threading.Event(), set()

    def read() -> None:
        while not done.is_set():
            found = {name: (target / name).is_file() for name in ("index.html", "_static/mathjax/tex-chtml.js")}
            titles = re.findall(r"Front|Another front", (target / "book" / "index.html").read_text())
            whole.add(all(found.values()) and bool(titles))

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read)
        builds = [pool.submit(build_site, books[i % 2], project, tmp_path / "html") for i in range(4)]
        built = [build.result() for build in builds]
        done.set()
        reader.result()
    assert whole == {True}
    assert set(built) == {target / "index.html"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".html.lock", ".html.other", "html", "index.ipynb"]


def test_a_warning_stops_the_build_and_is_shown(project, executed, store_root, tmp_path):
    broken = tmp_path / "index.ipynb"
    broken.write_text(executed["book/index.ipynb"].read_text().replace("01_plot", "99_nowhere"))
    with pytest.raises(SiteError, match="99_nowhere"):
        build_site(executed | {"book/index.ipynb": broken}, project, tmp_path / "html")
    assert not (tmp_path / "html").exists()
