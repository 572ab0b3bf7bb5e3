"""Chapters: where they are, what one is run with, and running it with papermill.

Parameters are checked before anything is computed. A run chapter appears whole or not at all, with no times or paths
in it.
"""

import ast
import difflib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if lacking := [name for name in ("papermill", "nbformat", "IPython") if find_spec(name) is None]:
    raise ModuleNotFoundError(f"the book needs {', '.join(lacking)}: pip install 'hsiutils[book]'")

import nbformat
import papermill
import yaml
from IPython import get_ipython
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from hsiutils.book import project
from hsiutils.data.inputs import variant as parse_variant
from hsiutils.paper.published import input_variant
from hsiutils.paper.run import Run
from hsiutils.paper.run import profile as find_profile

INJECTED = "# Parameters"
"""First line of the cell that papermill inserts."""
_VOLATILE = ("papermill", "execution", "ExecuteTime", "widgets")
_QUIET = ["--IPKernelApp.log_level=CRITICAL"]
"""For kernels: that they talk to this machine in the clear and end by an interrupt is no news. Errors of cells are."""


class ChapterError(RuntimeError):
    """A cell of a chapter failed."""


def settings(
    *,
    profile: str = "quick",
    seed: int = 0,
    data_root: str = "",
    variants: str | Iterable[str] | None = None,
    weights: str | None = None,
    **others: Any,
) -> Run:
    """Check a chapter's parameters and return the run that they describe.

    Parameters
    ----------
    profile : "smoke", "quick" or "paper".
    seed : of the simulated scenes and of the first model; further models use seed + 1, seed + 2, ...
    data_root : folder of HSI-Drive; empty for simulated scenes.
    variants : list of input variants, or the same written as text ('["1", "25-PN"]', which is how papermill's -p passes
        it on); empty for the profile's own.
    weights : published Keras file to ask instead of trained networks; empty for those that the run trains. Its input is
        the variant named, or the paper's of as many channels (`hsiutils.paper.published.input_variant`).
    **others : the chapter's other parameters: named here so that a misspelt one can be told from them.

    Raises
    ------
    ValueError
        If papermill passed a parameter that is not named here, or a value does not fit.
    FileNotFoundError
        If `data_root` is no folder, or `weights` no file.
    """
    optional = {"variants": variants, "weights": weights}  # not every chapter takes them
    taken = [name for name, value in optional.items() if value is not None]
    check_names(_injected_names(), ["profile", "seed", "data_root", *taken, *others])
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"parameter seed: expected a whole number from 0 on, got {seed!r}")
    chosen = find_profile(profile)
    root = Path(data_root).expanduser().resolve() if data_root else None
    if root is not None and not root.is_dir():
        raise FileNotFoundError(f"parameter data_root: {root} is not a folder; leave it empty for simulated scenes")
    names = tuple(parse_variant(name).name for name in parse_list(variants or "", "variants"))
    if not weights:
        return Run(chosen, seed, root, names or chosen.variants)
    path = _weights_file(weights)
    return Run(chosen, seed, root, (input_variant(path, names),), path)


def _weights_file(given: str) -> Path:
    path = Path(given).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(
            f"parameter weights: {path} is not a file; expected a Keras file (.h5, .hdf5, .weights.h5 or .keras). "
            "Leave it empty for the networks that the run trains"
        )
    return path


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise a ValueError for the first given name that is not known, with the nearest that is."""
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown parameter {name!r}: {hint}This chapter takes {', '.join(known)}")


def parse_list(value: str | Iterable[Any], name: str) -> tuple[str, ...]:
    """Read a list given as such or as text; an empty one is ()."""
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value) or ()
        except yaml.YAMLError as error:
            raise ValueError(f'parameter {name}: expected a list such as \'["1", "25-PN"]\', got {value!r}') from error
    if isinstance(value, str | int):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, dict):
        raise ValueError(f'parameter {name}: expected a list such as \'["1", "25-PN"]\', got {value!r}')
    return tuple(str(item) for item in value)


def _injected_names() -> list[str]:
    """Names that papermill's cell assigns, if this runs in a notebook that papermill prepared."""
    shell = get_ipython()
    cells = shell.user_ns.get("In", []) if shell else []
    trees = [ast.parse(cell) for cell in cells if cell.startswith(INJECTED)]
    assigned = [node for tree in trees for node in tree.body if isinstance(node, ast.Assign)]
    return [target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)]


def chapters(root: Path | None = None) -> list[Path]:
    """Return the notebooks of the table of contents, in its order.

    Parameters
    ----------
    root : of the checkout, by default `project()`.

    Raises
    ------
    FileNotFoundError
        If there is no checkout, or `_toc.yml` names a page that is not there.
    """
    root = root or project()
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    entries = [toc["root"], *(entry["file"] for entry in toc.get("chapters", []))]
    pages = [_page(root, entry) for entry in entries]
    return [page for page in pages if page.suffix == ".ipynb"]


def find_chapter(name: str, root: Path | None = None) -> Path:
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
    base = Path(__file__).resolve().parents[2].joinpath(*package.split("."), name)
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
