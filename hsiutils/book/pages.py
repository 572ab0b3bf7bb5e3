"""A chapter with the reader's own parameters, as pages of the book: one, or one for each values of a sweep."""

import html
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import yaml

from hsiutils.book import project
from hsiutils.book.apparatus import checked_out, provenance
from hsiutils.book.build import exchange, site_sources
from hsiutils.book.chapters import chapters, run_chapter
from hsiutils.book.offline import build_pages
from hsiutils.book.parameters import shown
from hsiutils.paper.run import workers

MADE = "parameters.json"
"""Beside the pages: the parameters of each. A folder that has it may be replaced."""


def target_of(notebook: Path, wanted: Sequence[Mapping[str, Any]], root: Path) -> Path:
    """Folder of the pages by default: under `_build/chapters`, by chapter and parameters."""
    values = {name: list(dict.fromkeys(shown(one[name]) for one in wanted)) for name in wanted[0]}
    words = [notebook.stem, *(f"{name}={','.join(each)}" for name, each in values.items())]
    return root / "_build" / "chapters" / re.sub(r"[^\w=,.-]+", "-", " ".join(words))[:120].rstrip("-")


def require_target(folder: Path) -> None:
    """Refuse, before anything is run, a folder that cannot be written or holds what nobody made here.

    Raises
    ------
    OSError, ValueError
        Which of both it is.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MADE).is_file():
        raise ValueError(f"{folder} holds other files: name a new folder, an empty one, or one of pages made before")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for pages, or NAME.ipynb for the run notebook alone")
    require_writable(folder)


def require_writable(path: Path) -> None:
    """Raise the OSError now that writing beside a path would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent):
        pass


def chapter_pages(
    notebook: Path, wanted: Sequence[Mapping[str, Any]], folder: Path, say: Callable[[str], None] = print
) -> Path:
    """Run a chapter of the book with every set of parameters, and build a page of each.

    The pages look and are numbered as in the book; where they lead to other chapters, these say where the book is.

    Parameters
    ----------
    notebook : a chapter of the checkout.
    wanted : parameters of every page that are not the defaults.
    folder : for the pages; what stands in it is replaced once all are there (see `require_target`).
    say : tells what happens.

    Returns
    -------
    Path
        The page; of several, the one that leads to all.
    """
    require_target(folder)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
    names = [notebook.stem, *(f"{notebook.stem}-{count}" for count in range(2, len(wanted) + 1))]
    try:
        for name, parameters in zip(names, wanted, strict=True):
            say(f"{name}: {_words(parameters)}")
            run_chapter(notebook, work / f"{name}.ipynb", parameters)
        say("Pages ...")
        sources = _sources(notebook, names, wanted, work, folder)

        commit, place = checked_out(project()), f"book/{notebook.name}"

        def build(name: str, parameters: Mapping[str, Any]) -> Path:
            (work / name).mkdir()
            foot = provenance(notebook, commit, parameters)
            # Not strict: other pages may lead to what only the whole book has.
            build_pages(work / name, sources | {place: work / f"{name}.ipynb"}, {place: foot}, strict=False)
            return work / name / "html"

        with ThreadPoolExecutor(workers()) as pool:
            fresh, *others = pool.map(build, names, wanted)
        for name, other in zip(names[1:], others, strict=True):
            _add(other, fresh, notebook.stem, name)
        made = [{"page": f"book/{name}.html", "parameters": dict(one)} for name, one in zip(names, wanted, strict=True)]
        (fresh / MADE).write_text(json.dumps(made, indent=1) + "\n")
        exchange(fresh, folder)
    except KeyboardInterrupt:
        shutil.rmtree(work)
        raise  # of anything else, what was run so far stays in `work`
    shutil.rmtree(work)
    return folder / ("book/own.html" if len(wanted) > 1 else f"book/{notebook.stem}.html")


def _words(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in parameters.items()) or "by default"


def _sources(
    notebook: Path, names: Sequence[str], wanted: Sequence[Mapping[str, Any]], work: Path, folder: Path
) -> dict[str, Path]:
    """What the pages are made of besides the chapter: the book, with a few words in the place of other chapters."""
    root = project()
    found = site_sources({}, root)
    contents = work / "_toc.yml"
    toc = yaml.safe_load(found["_toc.yml"].read_text())
    (toc["parts"][0] if "parts" in toc else toc)["chapters"].insert(0, {"file": toc["root"]})
    contents.write_text(yaml.safe_dump(toc | {"root": "book/own"}))
    (work / "own.md").write_text(_contents(_title(notebook), names, wanted))
    for path in chapters(root):
        if path != notebook:
            (work / f"{path.stem}.md").write_text(_stub(path, root, folder))
            found[f"book/{path.stem}.md"] = work / f"{path.stem}.md"
    return found | {"_toc.yml": contents, "book/own.md": work / "own.md"}


def _markdown(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def _title(notebook: Path) -> str:
    found = re.search(r"^# +(.+)$", _markdown(notebook), re.MULTILINE)
    return found[1] if found else notebook.stem


def _contents(title: str, names: Sequence[str], wanted: Sequence[Mapping[str, Any]]) -> str:
    """The page that leads to all, with the parameters of each."""
    same = {name: value for name, value in wanted[0].items() if all(one[name] == value for one in wanted)}
    pages = [{name: value for name, value in one.items() if name not in same} for one in wanted]
    links = [
        f'<a href="{name}.html">{html.escape(_words(one or same))}</a>' for name, one in zip(names, pages, strict=True)
    ]
    of_all = f"All with {_words(same)}; anything else is by default.\n\n" if len(wanted) > 1 and same else ""
    return f"# {title}: with your own parameters\n\n{html.escape(of_all)}" + "".join(f"1. {link}\n" for link in links)


def _stub(chapter: Path, root: Path, folder: Path) -> str:
    """A page in the place of a chapter that was not run, with its title and the labels that others refer to."""
    page = root / "_build" / "html" / "book" / f"{chapter.stem}.html"
    where = "`hsiutils book` makes the book with all chapters."
    if page.is_file():
        address = html.escape(Path(os.path.relpath(page, folder / "book")).as_posix())
        where = f'<a href="{address}">In the book</a>'
    labels = "".join(f"{label}\n" for label in re.findall(r"^\([\w-]+\)=$", _markdown(chapter), re.MULTILINE))
    return f"{labels}# {_title(chapter)}\n\nThis chapter was not run here. {where}\n"


def _add(other: Path, pages: Path, stem: str, name: str) -> None:
    """Put the chapter's page of another site under a name of its own; pictures go by their content."""
    page, source = other / "book" / f"{stem}.html", f"_sources/book/{stem}.ipynb"
    own = source.replace(stem, name)
    (pages / "book" / f"{name}.html").write_text(page.read_text().replace(source, own))
    shutil.copyfile(other / source, pages / own)
    for folder in ("_images", "_downloads", "_static/live"):
        if (other / folder).is_dir():
            shutil.copytree(other / folder, pages / folder, dirs_exist_ok=True)
