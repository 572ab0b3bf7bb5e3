"""Build the HTML pages from the chapters that were run."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
import yaml

from hsiutils import store
from hsiutils.book.chapters import PROJECT

TARGET = Path("_build") / "html"


class SiteError(RuntimeError):
    """The pages could not be built."""


def build_site(executed: Mapping[str, Path], root: Path = PROJECT, target: Path | None = None) -> Path:
    """Build the site and put it into `_build/html`; unchanged chapters cost nothing.

    Parameters
    ----------
    executed : run notebooks by their place in the book ("book/01_sensor.ipynb").
    root : of the project.
    target : folder of the site, by default `_build/html` of the project.

    Returns
    -------
    Path of the first page.

    Raises
    ------
    SiteError
        If jupyter-book fails or warns (its last lines are in the message), or a figure is missing from a chapter.
    """
    for name, path in executed.items():
        _require_figures(name, path)
    pages = _pages(executed, root)
    inputs = {name: store.file_hash(path) for name, path in pages.items()}
    site = store.artefact("site", inputs, ("hsiutils.book.offline",), lambda folder: _build(pages, folder))
    target = target or root / TARGET
    _mirror(site, target)
    return target / "index.html"


def _pages(executed: Mapping[str, Path], root: Path) -> dict[str, Path]:
    """Everything that the site is made of, by its place in the source tree."""
    fixed = [root / "_config.yml", root / "_toc.yml", *sorted((root / "book").rglob("*"))]
    plain = {str(path.relative_to(root)): path for path in fixed if path.is_file() and path.suffix != ".ipynb"}
    plain = {name: path for name, path in plain.items() if not Path(name).name.startswith(".")}
    return plain | dict(executed)


def _require_figures(name: str, chapter: Path) -> None:
    """A cell with a caption shows a figure; one that ends in an `if` shows nothing, and no reader can tell."""
    for cell in nbformat.read(chapter, as_version=4).cells:
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure and not cell.get("outputs"):
            raise SiteError(
                f"{name}: the cell of figure {figure.get('name')!r} shows nothing; let it end in the figure"
            )


def _build(pages: Mapping[str, Path], folder: Path) -> None:
    # Built from a copy: jupyter-book would otherwise execute, scan and write beside the committed notebooks.
    source = folder / "source"
    for name, path in pages.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, source / name)
    _never_execute(source / "_config.yml")
    program = Path(sys.executable).parent / "jupyter-book"  # of this environment, whatever PATH says
    command = [str(program), "build", str(source), "--path-output", str(folder), "-W", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own command)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise SiteError(f"jupyter-book could not build the pages:\n{tail}")
    (folder / "_build" / "html").replace(folder / "html")
    shutil.rmtree(folder / "_build")
    shutil.rmtree(source)


def _never_execute(config: Path) -> None:
    """The chapters were run already; "auto", meant for a plain `jupyter-book build .`, would run them once more."""
    settings = yaml.safe_load(config.read_text())
    settings.setdefault("execute", {})["execute_notebooks"] = "off"
    config.write_text(yaml.safe_dump(settings))


def _mirror(site: store.Artefact, target: Path) -> None:
    """Copy the site to where people look for it, unless an intact copy is there already."""
    if store.matches(target, site, prefix="html/"):
        return
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(site.folder / "html", fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)
