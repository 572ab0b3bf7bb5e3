"""Chapters: where they are, what one is run with, and running it with papermill.

Parameters are checked before anything is computed. A run chapter appears whole or not at all, with no times or paths
in it.
"""

import ast
import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import EllipsisType
from typing import Any
from uuid import uuid4

if lacking := [name for name in ("papermill", "IPython", "ipykernel", "jupyter_book") if find_spec(name) is None]:
    raise ModuleNotFoundError(f"the book needs {', '.join(lacking)}: pip install 'hsiutils[book]'")

import nbformat
import papermill
import yaml
from IPython import get_ipython
from papermill.exceptions import PapermillExecutionError

from hsiutils import MODULES
from hsiutils.book import project
from hsiutils.data.inputs import variant as parse_variant
from hsiutils.paper.published import input_variant
from hsiutils.paper.run import Run
from hsiutils.paper.run import profile as find_profile

SETTINGS = ("profile", "seed", "data_root", "variants", "weights")
"""Parameters of chapters that say what is run; the others choose what is shown."""
_VOLATILE = ("papermill", "execution", "ExecuteTime", "widgets")
"""Times, paths and progress bars, which say nothing about the result."""
_QUIET = ["--IPKernelApp.log_level=CRITICAL"]
"""For kernels: that they talk to this machine in the clear and end by an interrupt is no news. Errors of cells are."""


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
        it on); empty or None for the profile's own. Left out by chapters that do not take it, as `weights` is.
    weights : published Keras file to ask instead of trained networks; empty or None for those that the run trains. Its
        input is the variant named, or the paper's of as many channels (`hsiutils.paper.published.input_variant`).
    **others : the chapter's other parameters: named here so that a misspelt one can be told from them.

    Raises
    ------
    ValueError
        If papermill passed a parameter that is not named here, or a value does not fit.
    FileNotFoundError
        If `data_root` is no folder, or `weights` no file.
    """
    left_out = [name for name, value in {"variants": variants, "weights": weights}.items() if value is ...]
    defaults, given = _papermill_cells()
    known = {name: None for name in SETTINGS if name not in left_out} | {name: defaults.get(name) for name in others}
    _check_parameters(dict.fromkeys(given) | others, known)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"parameter seed: expected a whole number from 0 to {2**32 - 1}, got {seed!r}")
    chosen = find_profile(profile)
    root = _path(data_root, "data_root", "folder")
    if root is not None and not root.is_dir():
        raise FileNotFoundError(f"parameter data_root: {root} is not a folder; leave it empty for simulated scenes")
    names = tuple(parse_variant(name).name for name in parse_list(None if variants is ... else variants, "variants"))
    path = _path(None if weights is ... else weights, "weights", "Keras file")
    if path is None:
        return Run(chosen, seed, root, names or chosen.variants)
    if not path.is_file():
        raise FileNotFoundError(
            f"parameter weights: {path} is not a file; expected a Keras file (.h5, .hdf5, .weights.h5 or .keras). "
            "Leave it empty for the networks that the run trains"
        )
    return Run(chosen, seed, root, (input_variant(path, names),), path)


def _path(given: object, name: str, what: str) -> Path | None:
    if given is None or given == "":
        return None
    if isinstance(given, bool) or not isinstance(given, str | Path | int):
        raise ValueError(f"parameter {name}: expected the path of a {what} as text, got {given!r}")
    return Path(str(given)).expanduser().resolve()  # papermill takes a folder 2024 for a number


def _check_parameters(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first parameter that a chapter does not know, or that is of another kind.

    Kinds are those of the defaults: a count, or text. Text that is empty by default may be None, which says the same.
    The parameters that `settings` names are left to it.
    """
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown parameter {name!r}: {hint}This chapter takes {', '.join(known)}")
        default = None if name in SETTINGS else known[name]
        if isinstance(default, int) and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"parameter {name}: expected a whole number from 1 on, got {value!r}")
        if isinstance(default, str) and not isinstance(value, str) and (default or value is not None):
            raise ValueError(
                f"parameter {name}: expected text, got {value!r}; papermill takes what looks like a number as text "
                f"with -r {name} VALUE"
            )


def parse_list(value: object, name: str) -> tuple[str, ...]:
    """Read a list of names and whole numbers, each once, given as such or as text; empty text and None are ()."""
    wanted, items = f'parameter {name}: expected a list such as \'["1", "25-PN"]\', got {value!r}', value
    if isinstance(value, str):
        try:
            items = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(wanted) from error
    if items is None:
        return ()
    if isinstance(items, str | int):
        items = (items,)
    if not isinstance(items, list | tuple) or any(isinstance(x, bool) or not isinstance(x, str | int) for x in items):
        raise ValueError(wanted)
    return tuple(dict.fromkeys(map(str, items)))


def _papermill_cells() -> tuple[dict[str, Any], list[str]]:
    """In a notebook that papermill prepared: its parameters with their defaults, and the names of those given."""
    shell = get_ipython()
    cells: list[str] = shell.user_ns.get("In", []) if shell else []
    for default, given in pairwise(cells):
        if given.startswith("# Parameters"):  # the cell that papermill inserts
            return _assigned(default), list(_assigned(given))
    return {}, []


def _assigned(cell: str) -> dict[str, Any]:
    """Names that a cell assigns, with their values where they are written out."""
    found: dict[str, Any] = {}
    for node in ast.parse(cell).body:
        if isinstance(node, ast.Assign):
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            found |= {each.id: value for each in node.targets if isinstance(each, ast.Name)}
    return found


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
        If the chapter has no such parameter, or it is of another kind.
    ChapterError
        If a cell fails; the notebook as far as it got is kept beside the output for inspection.
    """
    _check_parameters(parameters, parameter_defaults(source))
    unfinished = output.with_name(f"{output.stem}.unfinished.ipynb")
    options = {"cwd": source.parent, "extra_arguments": _QUIET, "progress_bar": progress}
    with _own_name(output) as path:
        try:
            papermill.execute_notebook(source, path, dict(parameters), kernel_name="python3", **options)
        except PapermillExecutionError as error:
            path.replace(unfinished)
            raise ChapterError(
                f"{source.name}, cell {error.exec_count}: {error.ename}: {error.evalue}\nAs far as it got: {unfinished}"
            ) from error


def run_into(folder: Path, source: Path, parameters: Mapping[str, Any]) -> None:
    """`run_chapter` under its own name in a folder, without a progress bar."""
    run_chapter(source, folder / source.name, parameters, progress=False)


def prepare_chapter(source: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Write a chapter with its parameters filled in, without running it."""
    _check_parameters(parameters, parameter_defaults(source))
    with _own_name(output) as path:
        papermill.execute_notebook(source, path, dict(parameters), kernel_name="python3", prepare_only=True)


@contextmanager
def _own_name(output: Path) -> Iterator[Path]:
    """A name beside a notebook for what becomes it at the end, of this run alone: another may be after the same."""
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.stem}.{uuid4().hex}.ipynb")
    try:
        yield path
        notebook = nbformat.read(path, as_version=4)
        for holder in (notebook, *notebook.cells):
            for key in _VOLATILE:
                holder.metadata.pop(key, None)
        nbformat.write(notebook, path)
        path.replace(output)
    finally:
        path.unlink(missing_ok=True)


def parameter_defaults(notebook: Path) -> dict[str, Any]:
    """Names in the cell tagged `parameters`, with their values; None where one is not written out."""
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return _assigned(tagged[0]) if tagged else {}


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
