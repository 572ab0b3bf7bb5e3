"""Parameters of chapters: what each may be, the error for what it may not be, and the table on its page.

A chapter declares them once, in its cell tagged `parameters`, as papermill reads it: `name: type = value  # sentence`.
A name means the same in every chapter. `LEGAL` says what it may be, which may depend on the run.
"""

import ast
import difflib
import html
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import papermill
import yaml

from hsiutils.data.classes import HSI_DRIVE_CLASSES
from hsiutils.data.inputs import variant
from hsiutils.data.names import split_of
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.models.keras import read_keras_config
from hsiutils.models.unet import UNetConfig, layer_shapes
from hsiutils.paper.published import input_variant
from hsiutils.paper.run import PROFILES, Run, profile
from hsiutils.simulate import draw_names

MOST_PAGES = 40
"""Of one sweep: each is a run of the chapter."""
_LONG = 30
"""Names that are listed; of more, one is shown."""
_TYPES = {"int": "a whole number", "str": "text", "list[str]": "a list"}


class ParameterError(ValueError):
    """A chapter was given a parameter that it does not have, or a value that it cannot take."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the message says all that its reader can use."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Declared:
    """A parameter as a chapter's cell declares it: its type and default, and a sentence that says what it is."""

    type: str
    default: Any
    sentence: str


def declared(notebook: Path) -> dict[str, Declared]:
    """Parameters of a notebook by name, as papermill reads them; a type that is not written is that of the default."""
    found = {}
    for name, one in papermill.inspect_notebook(str(notebook)).items():
        default, given = ast.literal_eval(one["default"]), one["inferred_type_name"]
        found[name] = Declared(type(default).__name__ if given == "None" else given, default, one["help"])
    return found


@dataclass(frozen=True)
class Kind:
    """What a parameter may be.

    Attributes
    ----------
    type : "int", "str" or "list[str]".
    words : the legal values of a run, for people.
    takes : whether a value is legal in a run.
    known : names, one of which may have been meant by one like it.
    path : whether it names a file or folder.
    spare : whether a default that is more than there is means all that there is.
    """

    type: str
    words: Callable[[Run], str]
    takes: Callable[[Any, Run], bool]
    known: Callable[[Run], Sequence[str]] = lambda run: ()
    path: bool = False
    spare: bool = False


def _whole(most: Callable[[Run], int], what: str = "", least: int = 1, spare: bool = False) -> Kind:
    """A whole number from `least` to as many as there are of `what`."""

    def words(run: Run) -> str:
        return f"{least} to {most(run)}" + (f", {what}" if what else "")

    return Kind("int", words, lambda value, run: type(value) is int and least <= value <= most(run), spare=spare)


def _nothing(text: str) -> bool:
    return False


def _name(known: Callable[[Run], Sequence[str]], rule: str = "", fits: Callable[[str], bool] = _nothing) -> Kind:
    """One of several names, or what fits a rule; where that is "empty", nothing or None."""

    def words(run: Run) -> str:
        names = known(run)
        listed = "one of " + (", ".join(names) if len(names) <= _LONG else f"{len(names)} names such as {names[0]}")
        return f"{listed}; or {rule}" if rule else listed

    def takes(value: Any, run: Run) -> bool:
        if value in ("", None):
            return rule == "empty"
        return isinstance(value, str) and (fits(value) or value in known(run))

    return Kind("str", words, takes, known)


def _names(rule: Callable[[Run], str], fits: Callable[[str, Run], bool]) -> Kind:
    """A list of names, or the same as text; None, or empty text, leaves it to the run, and an empty list to nobody."""

    def takes(value: Any, run: Run) -> bool:
        try:
            return all(fits(name, run) for name in parse_list(value))
        except ValueError:
            return False

    return Kind("list[str]", lambda run: f"{rule(run)}; or None", takes)


def _place(there: Callable[[Path], bool], what: str, fits: Callable[[str], bool] = _nothing) -> Kind:
    """A path that is there, or what fits a rule; where that is "empty", nothing or None."""

    def takes(value: Any, run: Run) -> bool:
        if value in ("", None):
            return what.endswith("empty")
        if isinstance(value, bool) or not isinstance(value, str | Path | int):  # papermill takes 2024 for a number
            return False
        return fits(str(value)) or there(Path(str(value)).expanduser())

    return Kind("str", lambda run: what, takes, path=True)


def is_function(text: str) -> bool:
    """Whether a text names a function, package.module:function."""
    return re.fullmatch(r"\w+(\.\w+)*:\w+", text) is not None


def _simulated(run: Run) -> bool:
    """Whether the run's scenes are known without being rendered or opened."""
    return run.data_root is None and not run.splits


def test_scenes(run: Run) -> list[str]:
    """Names of a run's test scenes, which are not rendered for it."""
    if not _simulated(run):
        return run.data.names("test")
    return _drawn(run.profile.scenes, run.seed)


@cache
def _drawn(scenes: int, seed: int) -> list[str]:
    return [name for name in draw_names(scenes, seed) if split_of(name) == "test"]


def _classes(run: Run) -> Sequence[str]:
    return HSI_DRIVE_CLASSES.names if _simulated(run) else run.data.classes.names


def _pixels(run: Run) -> int:
    """Pixels that the largest class of a scene has at least."""
    tiles = run.profile.tiles if _simulated(run) else run.data.sensor.tiles
    return prod(tiles) // len(_classes(run))


def _layers(run: Run) -> list[str]:
    depth = run.profile.depth if run.weights is None else read_keras_config(run.weights).depth
    return [shape.name for shape in layer_shapes(UNetConfig(depth=depth))]


def _is_input(name: str, run: Run) -> bool:
    """Whether a name is that of an input, and the run's camera has its bands."""
    try:
        wanted = variant(name)
    except ValueError:
        return False
    bands = len((HSI_DRIVE if _simulated(run) else run.data.sensor).bands)
    return max(wanted.bands or (0,)) < bands and (wanted.pca or 0) <= bands


def _is_quantile(text: str) -> bool:
    return re.fullmatch(r"quantile:(0(\.\d*)?|1(\.0*)?|\.\d+)", text) is not None


_SCENES = _whole(lambda run: len(test_scenes(run)), "the test scenes", spare=True)
_FOLDER = _place(Path.is_dir, "a folder that is there; or empty")
_FILE = _place(Path.is_file, "a file that is there; or empty")
_KERAS = _place(Path.is_file, "a Keras file (.h5, .hdf5, .weights.h5 or .keras) that is there; or empty")
_FORMS = 'inputs such as ["1", "25-PN"]: 1, 3, 25, all, PCA-N or bands:I,J,..., each also with -PN or another ending'
LEGAL = {
    "profile": _name(lambda run: [one.name for one in PROFILES]),
    "seed": _whole(lambda run: 2**32 - 1, least=0),
    "data_root": _FOLDER,
    "variants": _names(lambda run: _FORMS, _is_input),
    "weights": _KERAS,
    "scenes": _SCENES,
    "band_scenes": _SCENES,
    "without_scenes": _SCENES,
    "pixels": _whole(_pixels, "the pixels that a scene's largest class has at least"),
    # numpy has tested its quadrature up to 100 nodes: numpy.polynomial.legendre.leggauss
    "nodes": _whole(lambda run: 100),
    "models": _names(lambda run: f"some of {', '.join(run.variants)}", lambda name, run: name in run.variants),
    "class_name": _name(_classes),
    "scene": _name(
        lambda run: ["median", "worst", "best", *test_scenes(run)], "quantile:Q with Q from 0 to 1", _is_quantile
    ),
    "layer": _name(_layers, "empty"),
    "spectra": _FOLDER,
    "camvid": _FOLDER,
    "model": _place(Path.is_file, "a file that is there; or package.module:function", is_function),
    "image": _FILE,
    "layers": _names(lambda run: "names of layers of the network", lambda name, run: bool(name)),
    "lane": _FILE,
    "images": _whole(lambda run: 10**9),
    "teraflops": _whole(lambda run: 10**6),
}
"""What each parameter of the book may be, by its name."""


def make_run(values: Mapping[str, Any], given: Collection[str] | None = None) -> Run:
    """Check the parameters of a chapter, before anything is computed, and return the run that they describe.

    Parameters
    ----------
    values : of all parameters of the chapter, given or by default.
    given : names of those that were given; None for all. More scenes than there are is an error where they were asked
        for, and by default means all that there are.

    Raises
    ------
    ParameterError
        That names the first parameter that the chapter does not have or that is not legal, and what would be.
    """
    given = values if given is None else given
    for name in given:
        if name not in values:
            raise unknown(name, values)
    run, rest = Run(PROFILES[0]), dict(values)

    def legal(*names: str) -> list[Any]:
        found = [rest.pop(name, None) for name in names]
        for name, value in zip(names, found, strict=True):
            if name in values:
                _check(name, value, run, name in given)
        return found

    named, seed, root = legal("profile", "seed", "data_root")
    run = Run(profile(named or "quick"), seed or 0, _path(root))
    wanted, weights = legal("variants", "weights")
    inputs, file = parse_list(wanted), _path(weights)
    if file is not None:
        try:
            inputs = (input_variant(file, inputs),)
        except ValueError as error:
            raise ParameterError(f"parameter weights: {error}") from error
    run = replace(run, variants=inputs or run.profile.variants, weights=file)
    legal(*rest)
    return run


def spared(known: Mapping[str, Declared], run: Run) -> dict[str, int]:
    """Of parameters whose default is more scenes than a run has: all that there are, by name."""
    kinds = {name: LEGAL[name] for name in known if name in LEGAL}
    return {
        name: len(test_scenes(run))
        for name, kind in kinds.items()
        if kind.spare and not kind.takes(known[name].default, run)
    }


def unknown(name: str, known: Collection[str]) -> ParameterError:
    """The error for a parameter that a chapter does not have."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ParameterError(f"unknown parameter {name!r}: {hint}This chapter takes {', '.join(known)}")


def _check(name: str, value: Any, run: Run, given: bool) -> None:
    kind = LEGAL.get(name)
    if kind is None or kind.takes(value, run):
        return
    if kind.spare and not given and type(value) is int and value > 0:
        return
    near = difflib.get_close_matches(str(value), kind.known(run), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if kind.type != "int" and isinstance(value, int | float):
        hint = f"; papermill takes what looks like a number as text with -r {name} VALUE"
    raise ParameterError(f"parameter {name}: expected {_TYPES[kind.type]}, {kind.words(run)}; got {value!r}{hint}")


def _path(given: Any) -> Path | None:
    return None if given in ("", None) else Path(str(given)).expanduser().resolve()


def parse_list(value: object) -> tuple[str, ...]:
    """Read a list of names and whole numbers, each once, given as such or as text; empty text and None are ().

    Raises
    ------
    ValueError
        If it is no list, or empty.
    """
    items = _yaml(value) if isinstance(value, str) else value
    if items is None:
        return ()
    items = [items] if isinstance(items, str) or type(items) is int else items
    if not isinstance(items, list | tuple) or not items or any(type(one) not in (str, int) for one in items):
        raise ValueError(f'expected a list such as ["1", "25-PN"], got {value!r}')
    return tuple(dict.fromkeys(map(str, items)))


def _yaml(text: str) -> Any:
    """Lists of YAML, with every scalar as the text that it is, tags or not; a ValueError of anything else."""
    try:
        return _texts(yaml.compose(text, yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        where = " ".join(str(getattr(error, "problem", error)).split())
        raise ValueError(f"{text!r} cannot be read: {where}; put text with such signs in quotes") from error


def _texts(node: yaml.Node | None) -> Any:
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_texts(one) for one in node.value]
    raise yaml.YAMLError("a mapping is neither text nor a list")


def sweep(items: Sequence[str], known: Mapping[str, Declared]) -> list[dict[str, Any]]:
    """Parameters of every page that NAME=VALUE or NAME=VALUE,VALUE,... ask for: one, or all combinations.

    A value that is a list stands in brackets, and so its commas are none of the sweep's; text with a comma, a bracket
    or a space after a colon stands in quotes. Paths are of the folder where one stands, as a chapter runs in its own.

    Raises
    ------
    ParameterError
        If a parameter is unknown or comes twice, a value cannot be read, or there are more than `MOST_PAGES` pages.
    """
    found: dict[str, list[Any]] = {}
    for item in items:
        name, equals, text = (part.strip() for part in item.partition("="))
        if not equals:
            raise ParameterError(f"-p {item}: expected NAME=VALUE")
        if name not in known:
            raise unknown(name, known)
        if name in found:
            raise ParameterError(f"parameter {name} comes twice: several values are {name}=VALUE,VALUE")
        found[name] = _values(name, text, known[name].type)
    pages = prod(map(len, found.values()))
    if pages > MOST_PAGES:
        counts = " x ".join(f"{len(values)} {name}" for name, values in found.items() if len(values) > 1)
        raise ParameterError(f"{counts} are {pages} pages: at most {MOST_PAGES} at a time")
    return [dict(zip(found, values, strict=True)) for values in product(*found.values())]


def _values(name: str, text: str, kind: str) -> list[Any]:
    try:
        values = _yaml(f"[{text}]") or [""]
    except ValueError as error:
        raise ParameterError(f"parameter {name}: {error}") from error
    if kind.startswith("list") and len(values) > 1 and not all(isinstance(one, list) for one in values):
        raise ParameterError(
            f"parameter {name}: a list is written in brackets: {name}=[{text}] is one, {name}=[...],[...] are two"
        )
    found: list[Any] = []
    for value in values:
        value = None if value == "None" else value  # as papermill reads it
        if kind == "int" and isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
            value = int(value)
        elif name in LEGAL and LEGAL[name].path and isinstance(value, str) and value and not is_function(value):
            value = str(_path(value))
        if value not in found:
            found.append(value)
    return found


def table(known: Mapping[str, Declared], values: Mapping[str, Any], run: Run | None, name: str) -> str:
    """Parameters of a chapter for its page, folded, as HTML: type, default, legal values, a sentence.

    Its heading says which are not the defaults. `values` are those of the page; without a run, legal values are left
    out. `name` is what the command line calls the chapter.
    """
    other = {one: value for one, value in values.items() if value != known[one].default}
    said = ", ".join(f"{one} {shown(value)}" for one, value in other.items()) or "all as by default"
    heads = ["parameter", *(["on this page"] if other else []), "default", "type", "legal values", "what it is"]
    rows = ""
    for one, about in known.items():
        kind = LEGAL.get(one)
        cells = {
            "on this page": f"<b>{_text(shown(values[one]))}</b>" if one in other else _text(shown(values[one])),
            "default": _text(shown(about.default)),
            "type": _text(_TYPES.get(about.type, about.type).removeprefix("a ")),
            "legal values": _text(kind.words(run)) if kind and run else "",
            "what it is": _text(about.sentence),
        }
        rows += f'<tr><th scope="row"><code>{_text(one)}</code></th>'
        rows += "".join(f'<td data-head="{head}">{cells[head]}</td>' for head in heads[1:]) + "</tr>"
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f'<details class="hsi-parameters"><summary>Parameters: {_text(said)}</summary>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"<p>This page with others: <code>hsiutils chapter {_text(name)} -p NAME=VALUE</code></p></details>"
    )


def _text(words: str) -> str:
    return html.escape(words)


def shown(value: Any) -> str:
    """A value as people read it."""
    return "empty" if value == "" else str(value) if not isinstance(value, list) else f"[{', '.join(map(str, value))}]"
