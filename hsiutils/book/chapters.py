"""Run one chapter with papermill: parameters checked first, output whole or not there, no times or paths in it."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from hsiutils.book.settings import check_names

PROJECT = Path(__file__).resolve().parents[2]
"""Root of the checkout: the folder with `_toc.yml`, `_config.yml` and `book`."""

_VOLATILE = ("papermill", "execution", "ExecuteTime", "widgets")


_QUIET = ["--IPKernelApp.log_level=CRITICAL"]
"""For kernels: that they talk to this machine in the clear and end by an interrupt is no news. Errors of cells are."""


class ChapterError(RuntimeError):
    """A cell of a chapter failed."""


def chapters(root: Path = PROJECT) -> list[Path]:
    """Return the notebooks of the table of contents, in its order.

    Raises
    ------
    FileNotFoundError
        If `_toc.yml` names a page that is not there.
    """
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    entries = [toc["root"], *(entry["file"] for entry in toc.get("chapters", []))]
    pages = [_page(root, entry) for entry in entries]
    return [page for page in pages if page.suffix == ".ipynb"]


def find_chapter(name: str, root: Path = PROJECT) -> Path:
    """Return a chapter by its number ("3"), its name ("03_training"), or its path."""
    if Path(name).suffix == ".ipynb" and Path(name).is_file():
        return Path(name).resolve()
    known = chapters(root)
    prefix = f"{int(name):02d}_" if name.isdecimal() else name
    found = [path for path in known if path.stem == prefix or path.stem.startswith(prefix)]
    if len(found) != 1:
        raise ValueError(f"no chapter {name!r}: expected a path, or a number or name of {[p.stem for p in known]}")
    return found[0]


def run_chapter(source: Path, output: Path, parameters: Mapping[str, Any], progress: bool = True) -> None:
    """Run a chapter in a fresh kernel and write it with its outputs.

    Parameters
    ----------
    source, output : notebooks. The output appears only if every cell ran.
    parameters : values of tagged parameters; others keep the notebook's defaults.

    Raises
    ------
    ValueError
        If the chapter has no such parameter.
    ChapterError
        If a cell fails; the notebook as far as it got is kept beside the output for inspection.
    """
    check_names(parameters, parameter_names(source))
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.stem}.unfinished.ipynb")
    try:
        papermill.execute_notebook(
            source,
            unfinished,
            dict(parameters),
            kernel_name="python3",
            progress_bar=progress,
            cwd=source.parent,
            extra_arguments=_QUIET,
        )
    except PapermillExecutionError as error:
        raise ChapterError(
            f"{source.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\nAs far as it got: {unfinished}"
        ) from error
    _rewrite(unfinished, output)


def prepare_chapter(source: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Write a chapter with its parameters filled in, without running it."""
    check_names(parameters, parameter_names(source))
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.stem}.unfinished.ipynb")
    papermill.execute_notebook(source, unfinished, dict(parameters), kernel_name="python3", prepare_only=True)
    _rewrite(unfinished, output)


def parameter_names(notebook: Path) -> list[str]:
    """Names in the cell tagged `parameters`."""
    return list(papermill.inspect_notebook(notebook))


def sources(notebook: Path) -> list[str]:
    """Type and text of every cell and its tags: what a chapter is, without its outputs."""
    content = nbformat.read(notebook, as_version=4)
    return [f"{cell.cell_type} {cell.metadata}\n{cell.source}" for cell in content.cells]


def imported_modules(notebook: Path) -> tuple[str, ...]:
    """Modules of hsiutils that a chapter's cells import."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    found: set[str] = set()
    for node in (node for source in code for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {_module_of(node.module, alias.name) for alias in node.names}
    return tuple(sorted(name for name in found if name.partition(".")[0] == "hsiutils"))


def _module_of(package: str, name: str) -> str:
    """`from package import name` may import a submodule or something inside the package."""
    base = PROJECT.joinpath(*package.split("."), name)
    return f"{package}.{name}" if base.with_suffix(".py").is_file() or base.is_dir() else package


def _page(root: Path, entry: str) -> Path:
    for suffix in (".ipynb", ".md"):
        if (root / f"{entry}{suffix}").is_file():
            return root / f"{entry}{suffix}"
    raise FileNotFoundError(f"_toc.yml names {entry!r}: neither {entry}.ipynb nor {entry}.md is there")


def _rewrite(unfinished: Path, output: Path) -> None:
    notebook = without_traces(nbformat.read(unfinished, as_version=4))
    nbformat.write(notebook, unfinished)
    unfinished.replace(output)


def without_traces(notebook: NotebookNode) -> NotebookNode:
    """Drop times, paths and progress widgets that say nothing about the result."""
    for holder in (notebook, *notebook.cells):
        for key in _VOLATILE:
            holder.metadata.pop(key, None)
    return notebook
