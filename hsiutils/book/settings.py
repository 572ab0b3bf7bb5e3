"""What a chapter is run with: its tagged parameters, checked before anything is computed."""

import ast
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from IPython import get_ipython

from hsiutils.pipeline import Run
from hsiutils.profiles import profile as find_profile
from hsiutils.published import input_variant
from hsiutils.variants import variant as parse_variant

INJECTED = "# Parameters"
"""First line of the cell that papermill inserts."""


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
        the variant named, or the paper's of as many channels (`hsiutils.published.input_variant`).
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
