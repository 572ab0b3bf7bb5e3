"""Chapters: where they are, what one is run with, and running it with papermill.

Parameters are checked before anything is computed. A run chapter appears whole or not at all, with no times or paths
in it.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import EllipsisType
from typing import Any

if lacking := [name for name in ("papermill", "IPython", "ipykernel", "jupyter_book") if find_spec(name) is None]:
    raise ModuleNotFoundError(f"the book needs {', '.join(lacking)}: pip install 'hsiutils[book]'")

import nbformat
import papermill
import yaml
from IPython import get_ipython
from papermill.exceptions import PapermillExecutionError

from hsiutils import MODULES
from hsiutils.book import number_of, project
from hsiutils.book.parameters import Declared, declared, make_run, table, unknown
from hsiutils.book.processes import turn
from hsiutils.data.atomic import replacing
from hsiutils.paper.run import Run

_VOLATILE = ("papermill", "execution", "ExecuteTime", "widgets")
"""Times, paths and progress bars, which say nothing about the result."""
_QUIET = ["--IPKernelApp.log_level=CRITICAL"]
"""For kernels: that they talk to this machine in the clear and end by an interrupt is no news. Errors of cells are."""


FRONT = "index"
"""Name of the first page."""
OWN_DATA = "own-data"
"""Tag of figures whose caption says itself which data they show."""
AND_REAL = "and-real"
"""Tag of figures of the run's scenes beside real data, which the caption names."""


class ChapterError(RuntimeError):
    """A cell of a chapter failed."""


def settings(
    *,
    profile: str = "quick",
    seed: int = 0,
    data_root: str | Path | None = "",
    variants: str | Sequence[str] | EllipsisType | None = ...,
    weights: str | Path | EllipsisType | None = ...,
    **others: Any,
) -> Run:
    """Check a chapter's parameters and return the run that they describe.

    Parameters
    ----------
    profile : "smoke", "quick", "record" or "paper".
    seed : of the simulated scenes and of the first model; further models use seed + 1, seed + 2, ...
    data_root : folder of HSI-Drive; empty or None for simulated scenes.
    variants : list of input variants, or the same written as text ('["1", "25-PN"]', which is how papermill's -p passes
        it on); None or empty text for the profile's own. Left out by chapters that do not take it, as `weights` is.
    weights : published Keras file to ask instead of trained networks; empty or None for those that the run trains. Its
        input is the variant named, or the paper's of as many channels (`hsiutils.paper.published.input_variant`).
    **others : the chapter's other parameters, each checked by its name (`hsiutils.book.parameters.LEGAL`).

    Raises
    ------
    hsiutils.book.parameters.ParameterError
        If papermill passed a parameter that is not named here, or a value is not legal.
    """
    values = {"profile": profile, "seed": seed, "data_root": data_root, "variants": variants, "weights": weights}
    return make_run({name: value for name, value in values.items() if value is not ...} | others, _given())


def _given() -> list[str] | None:
    """In a notebook that papermill prepared: names of the parameters that it was given."""
    shell = get_ipython()
    cells: list[str] = shell.user_ns.get("In", []) if shell else []
    for cell in cells:
        if cell.startswith("# Parameters"):  # the cell that papermill inserts
            assigned = [node.targets for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
            return [each.id for targets in assigned for each in targets if isinstance(each, ast.Name)]
    return None


def chapters(root: Path | None = None) -> list[Path]:
    """Return the notebooks of the table of contents, in its order; of a checkout, by default `project()`.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no checkout, or its `_toc.yml` is no table of contents, or names a page that is not there.
    """
    root = root or project()
    try:
        toc = yaml.safe_load((root / "_toc.yml").read_text())
        parts = toc.get("parts", [toc])
        entries = [toc["root"], *(entry["file"] for part in parts for entry in part.get("chapters", []))]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{root / '_toc.yml'}: expected a root, and chapters each with a file; {what}") from error
    for entry in entries:
        if not any((root / f"{entry}{suffix}").is_file() for suffix in (".ipynb", ".md")):
            raise FileNotFoundError(f"_toc.yml names {entry!r}: neither {entry}.ipynb nor {entry}.md is there")
    return [path for entry in entries if (path := root / f"{entry}.ipynb").is_file()]


def find_chapter(name: str, root: Path | None = None) -> Path:
    """Return a chapter by its number ("3"), its name ("03_training"), or its path."""
    if Path(name).suffix == ".ipynb":
        return Path(name).resolve(strict=True)
    known = chapters(root)
    prefix = f"{int(name):02d}_" if name.isdecimal() else name
    found = [path for path in known if path.stem == prefix or path.stem.startswith(prefix)]
    if len(found) != 1:
        raise ValueError(f"no chapter {name!r}: expected a path, or a number or name of {[p.stem for p in known]}")
    return found[0]


def page_of(chapter: int) -> str:
    """Address of a chapter's page, by its number, from any page of the book."""
    return f"{find_chapter(str(chapter)).stem}.html"


def run_chapter(source: Path, output: Path, parameters: Mapping[str, Any], progress: bool = True) -> None:
    """Run a chapter in a fresh kernel and write it with its outputs, if every cell ran; parameters not given stay.

    Raises
    ------
    ValueError
        If the chapter has no such parameter.
    ChapterError
        If a cell fails, as the one that checks the values does; the notebook as far as it got is kept beside the output
        for inspection.
    """
    known = _require_known(source, parameters)
    unfinished = output.with_name(f"{output.stem}.unfinished.ipynb")
    options = {"cwd": source.parent, "extra_arguments": _QUIET, "progress_bar": progress}
    with _own_name(output) as path, turn() as alone:
        options["on_notebook_start"] = lambda notebook: alone.release()  # its kernel runs
        try:
            papermill.execute_notebook(source, path, dict(parameters), kernel_name="python3", **options)
        except PapermillExecutionError as error:
            path.replace(unfinished)
            raise ChapterError(
                f"{source.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\nAs far as it got: {unfinished}"
            ) from error
        _fold_parameters(path, source, known, parameters)


def _require_known(source: Path, parameters: Mapping[str, Any]) -> dict[str, Declared]:
    known = declared(source)
    for name in parameters:
        if name not in known:
            raise unknown(name, known)
    return known


def _fold_parameters(path: Path, source: Path, known: Mapping[str, Declared], given: Mapping[str, Any]) -> None:
    """Put a table of a chapter's parameters where a page would show the cells that set them.

    And say in the captions of figures, but for those tagged `OWN_DATA`, which data they show: those of the run, with a
    link to the page's foot, which has all keys and versions. Progress bars go.
    """
    values = {name: one.default for name, one in known.items()} | dict(given)
    run = make_run(values, given) if "profile" in values else None
    shown = table(known, values, run, number_of(source))
    notebook = nbformat.read(path, as_version=4)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        figure = cell.metadata.get("mystnb", {}).get("figure")
        tags = cell.metadata.get("tags", [])
        if figure and run and OWN_DATA not in tags:
            scenes = "Simulated scenes" if run.data_root is None else "Scenes of HSI-Drive"
            made = f"profile {run.profile.name}, seed {run.seed}"
            beside = ", beside real data" if AND_REAL in tags else ""
            figure["caption"] += f' {scenes}, <a href="#provenance">{made}</a>{beside}.'
        if {"parameters", "injected-parameters"} & set(tags):
            cell.metadata["tags"] = [*tags, "remove-cell"]
        if "parameters" in tags and source.stem != FRONT:
            cells.append(nbformat.v4.new_markdown_cell(shown, id="parameters"))
    if source.stem == FRONT:  # whose reader did not come for them
        cells.append(nbformat.v4.new_markdown_cell(shown, id="parameters"))
    notebook.cells = cells
    nbformat.write(notebook, path)


def _is_progress(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a step of a bar, which would be a line of the page, or the empty line after one."""
    text = output.get("text", "")
    return output.get("name") == "stderr" and ("%|" in text or not text.strip())


def run_into(folder: Path, source: Path, parameters: Mapping[str, Any]) -> None:
    """`run_chapter` under its own name in a folder, without a progress bar."""
    run_chapter(source, folder / source.name, parameters, progress=False)


def prepare_chapter(source: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Write a chapter with its parameters filled in, without running it."""
    known = _require_known(source, parameters)
    with _own_name(output) as path:
        papermill.execute_notebook(source, path, dict(parameters), kernel_name="python3", prepare_only=True)
        _fold_parameters(path, source, known, parameters)


@contextmanager
def _own_name(output: Path) -> Iterator[Path]:
    """A name beside a notebook for what becomes it at the end, of this run alone: another may be after the same."""
    with replacing(output) as path:
        yield path
        notebook = nbformat.read(path, as_version=4)
        for holder in (notebook, *notebook.cells):
            for key in _VOLATILE:
                holder.metadata.pop(key, None)
        nbformat.write(notebook, path)


def sources(notebook: Path) -> list[str]:
    """Type and text of every cell and its tags: what a chapter is, without its outputs."""
    content = nbformat.read(notebook, as_version=4)
    return [f"{cell.cell_type} {cell.metadata}\n{cell.source}" for cell in content.cells]


def imported_modules(notebook: Path) -> tuple[str, ...]:
    """Modules that a chapter's cells import, of hsiutils and others; of a name of the front door, where it stands."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    nodes = [node for source in code for node in ast.walk(ast.parse(source))]
    imported = {alias for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    doors = {alias.asname or alias.name for alias in imported if alias.name == "hsiutils"}
    found = {alias.name for alias in imported}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {_module_of(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in doors:
            found.add(_module_of("hsiutils", node.attr))
    return tuple(sorted(found - {"hsiutils"}))


def _module_of(package: str, name: str) -> str:
    """`from package import name` may import a submodule or something inside the package."""
    if package == "hsiutils" and name in MODULES:
        return MODULES[name]
    base = Path(__file__).resolve().parents[2].joinpath(*package.split("."), name)
    return f"{package}.{name}" if base.with_suffix(".py").is_file() or base.is_dir() else package
