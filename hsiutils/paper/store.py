"""Content-addressed artefacts: same inputs, no work; changed inputs, a new folder.

An artefact is a folder named by the hash of everything that determines its content: its parameters, and what follows
from the function that builds it. That is the code of the function's module and of all modules of hsiutils which this
imports, the data files of the package that they name, and the installed versions of the distributions that they import.
A manifest beside the files says all of it, with the time and the machine. Folders appear whole or not at all.
"""

import ast
import hashlib
import inspect
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

from hsiutils.data.atomic import beside, write_atomically

MANIFEST = "manifest.json"
PACKAGE = Path(__file__).resolve().parents[1]
"""The folder hsiutils."""
ROOT = "HSIUTILS_STORE"
"""Environment variable that says where artefacts live."""


@dataclass(frozen=True)
class Artefact:
    """A finished folder of the store."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def key(self) -> str:
        """Name of the artefact: changes whenever anything that it depends on does."""
        return self.folder.name


def default_root() -> Path:
    """Where artefacts live: `$HSIUTILS_STORE`, else data/store of the checkout, else the user's cache.

    A relative `$HSIUTILS_STORE` is resolved on first use and handed on so: kernels and workers run in other folders.
    """
    if given := os.environ.get(ROOT):
        os.environ[ROOT] = str(Path(given).expanduser().resolve())
        return Path(os.environ[ROOT])
    if (PACKAGE.parent / "pyproject.toml").is_file():
        return PACKAGE.parent / "data" / "store"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "hsiutils"  # as XDG says of a relative one


default_root()  # in the folder where the program was started


def artefact(
    kind: str,
    build: Callable[[Path], Mapping[str, Any] | None],
    inputs: Mapping[str, Any],
    *,
    uses: Iterable[str] = (),
    resumable: bool = False,
    root: Path | None = None,
) -> Artefact:
    """Return the artefact of these inputs, building it if it is missing, incomplete or damaged.

    Parameters
    ----------
    kind : folder of the store, such as "data" or "model".
    build : called with a folder to fill. If it raises, nothing appears in the store. A module-level function, or
        `functools.partial` of one; the modules of functions and objects among the arguments count, too. What it
        returns, such as measured times, goes into the manifest as `remarks`, beside the content.
    inputs : JSON-able values (dataclasses allowed) that tell this artefact from others that `build` makes.
    uses : names of further modules that the content depends on, such as those that a notebook imports.
    resumable : `build` can continue in a folder left by an interrupted or damaged earlier one.
    root : of the store, by default `default_root()`.

    Raises
    ------
    TypeError
        If an input cannot be written as JSON, or the code of `build` cannot be followed.
    """
    described = [describe(kind, build, inputs, uses)]
    (made,) = _made(described, lambda folders: {0: build(folders[0])}, resumable, root)
    return made


def artefacts(
    kind: str,
    build: Callable[[dict[int, Path]], None],
    inputs: Sequence[Mapping[str, Any]],
    *,
    resumable: bool = False,
    root: Path | None = None,
) -> list[Artefact]:
    """Return many artefacts, building those that are missing together; parameters as of `artefact`.

    `inputs` are those of each artefact, and `build` is called once, with the folders to fill by their index in them.
    """
    return _made([describe(kind, build, own) for own in inputs], build, resumable, root)


def find(kind: str, build: Callable[..., None], inputs: Mapping[str, Any], uses: Iterable[str] = ()) -> Artefact | None:
    """The artefact of these inputs if it is there and intact, else None; parameters as in `artefact`."""
    return load(default_root() / kind / _digest(describe(kind, build, inputs, uses)))


def describe(
    kind: str, build: Callable[..., Any], inputs: Mapping[str, Any], uses: Iterable[str] = (), package: Path = PACKAGE
) -> dict[str, Any]:
    """Everything that determines an artefact, as JSON can say it; parameters as in `artefact`."""
    own = code(frozenset({*makers(build), *((name, None) for name in uses)}), package)
    return {"kind": kind, "inputs": _plain(inputs), "code": own.digest, "environment": versions(own.distributions)}


def _made(
    described: list[dict[str, Any]],
    build: Callable[[dict[int, Path]], Mapping[int, Any] | None],
    resumable: bool,
    root: Path | None,
) -> list[Artefact]:
    folders = [(root or default_root()) / item["kind"] / _digest(item) for item in described]
    found = [load(folder) for folder in folders]
    missing = {index: folders[index] for index, artefact in enumerate(found) if artefact is None}
    with ExitStack() as locks:
        for folder in sorted(set(missing.values())):  # in one order everywhere, or two processes could block each other
            folder.parent.mkdir(parents=True, exist_ok=True)
            locks.enter_context(FileLock(folder.with_suffix(".lock")))
        # Another process may have built some of them while this one waited.
        unfinished = {index: _partial(folder, resumable) for index, folder in missing.items() if load(folder) is None}
        if unfinished:
            started = time.monotonic()
            remarks = build(unfinished) or {}
            seconds = round(time.monotonic() - started, 3)
            for index, folder in unfinished.items():
                _write_manifest(folder, {**described[index], "seconds": seconds, "remarks": remarks.get(index)})
                folder.replace(folders[index])
    return [artefact or _loaded(folder) for artefact, folder in zip(found, folders, strict=True)]


def load(folder: Path) -> Artefact | None:
    """Return the artefact in a folder, or None if it is not there, incomplete or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        intact = all(_intact(folder / name, seal) for name, seal in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Artefact(folder, manifest) if intact else None


Maker = tuple[str, str | None]
"""A module by name, and its file where it is not of hsiutils."""


def makers(build: object) -> Iterator[Maker]:
    """Modules of a builder, of functions among its arguments, and of the classes of objects of hsiutils among them."""
    if isinstance(build, partial):
        yield from makers(build.func)
        for argument in (*build.args, *build.keywords.values()):
            if callable(argument) or type(argument).__module__.partition(".")[0] == PACKAGE.name:
                yield from makers(argument)
    elif inspect.isfunction(build) and build.__qualname__ == build.__name__ and build.__name__ != "<lambda>":
        yield _maker(build)
    elif not callable(build):
        yield _maker(type(build))
    else:
        name = getattr(build, "__qualname__", repr(build))
        raise TypeError(
            f"the store follows the code of a function at the top of a module, or of functools.partial of one; got "
            f"{name}: write it so, and give it what it needs as arguments"
        )


def _maker(made: type | Callable[..., Any]) -> Maker:
    own = made.__module__.partition(".")[0] == PACKAGE.name
    return made.__module__, None if own else inspect.getfile(made)


@dataclass(frozen=True)
class Code:
    """Modules with all that they import: their names, a hash of code and data files, and the distributions used."""

    modules: tuple[str, ...]
    files: tuple[Path, ...]
    digest: str
    distributions: tuple[str, ...]


_UNCOUNTED = {__name__, "hsiutils.data.cluster"}
"""Modules on which no content depends: where things are kept, and where they are made."""


@cache
def code(made: frozenset[Maker], package: Path = PACKAGE) -> Code:
    """Follow modules through all of hsiutils that they import, but `_UNCOUNTED`.

    Computed once a process: code that is already imported does not change.
    """
    read: dict[str, _Source] = {}
    waiting = {name: _file(name, package) if path is None else Path(path) for name, path in made}
    imports = set(waiting)
    while waiting:
        name, path = waiting.popitem()
        if path is None:
            if name.partition(".")[0] == package.name:
                raise ModuleNotFoundError(f"no module {name!r} in {package}")
            continue
        read[name] = _parsed(path.read_bytes())
        imports |= read[name].imports
        for imported in read[name].imports:
            module = next((own for own in (imported, imported.rpartition(".")[0]) if _file(own, package)), None)
            if module and module not in _UNCOUNTED and module not in read:
                waiting[module] = _file(module, package)
    strings = {string for source in read.values() for string in source.strings}
    files = tuple(path for path in _data_files(package) if path.name in strings)
    contents = {name: source.digest for name, source in read.items()} | {path.name: file_hash(path) for path in files}
    tops = {name.partition(".")[0] for name in imports} - {package.name}
    distributions = {own for top in tops for own in _distributions().get(top, ())}
    return Code(tuple(sorted(read)), files, _digest(contents), tuple(sorted(distributions)))


@dataclass(frozen=True)
class _Source:
    """What the code of one module says: names that it imports, in full; last parts of its strings, as of a path."""

    digest: str
    imports: frozenset[str]
    strings: frozenset[str]


@cache
def _parsed(text: bytes) -> _Source:
    python = platform.python_version()
    digest, imports, strings = _kept([python, hashlib.sha256(text).hexdigest()], lambda: _parse(text))
    return _Source(digest, frozenset(imports), frozenset(strings))


def _parse(text: bytes) -> tuple[str, list[str], list[str]]:
    """Comments, docstrings, and imports for the type checker alone do not count."""
    tree = ast.parse(text)
    imports: set[str] = set()
    strings: set[str] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        match body:
            case [ast.Expr(ast.Constant(str())), *_]:  # a docstring
                del body[0]
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value.rpartition("/")[2])
    named = [string for string in strings if "." in string and len(string) < 256]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), sorted(imports), sorted(named)


@cache
def _file(module: str, package: Path) -> Path | None:
    """Source of a module of the package; None if it has no such module."""
    if module.partition(".")[0] != package.name:
        return None
    base = package.parent.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@cache
def _data_files(package: Path) -> tuple[Path, ...]:
    """What the package ships beside code, and the records of a checkout."""
    places = (*package.rglob("*.*"), *(package.parent / "data" / "results").glob("*"))
    return tuple(sorted(path for path in places if path.is_file() and path.suffix not in (".py", ".pyc")))


@cache
def _distributions() -> dict[str, list[str]]:
    """Distributions by the top-level modules that they install; read again when one was installed or removed."""
    places = [(place, Path(place).stat().st_mtime_ns) for place in sys.path if Path(place).is_dir()]
    return dict(_kept(["distributions", places], lambda: dict(metadata.packages_distributions())))


def _kept(asked: Any, make: Callable[[], Any]) -> Any:
    """What `make` says, JSON-able; remembered between processes, because reading all code takes a second."""
    path = default_root() / ".code" / f"{_digest(asked)}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        write_atomically(path, text := json.dumps(make()))
        return json.loads(text)


@cache
def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of distributions, and of Python."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in distributions}


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def matches(folder: Path, artefact: Artefact, prefix: str = "") -> bool:
    """Whether a folder holds exactly the artefact's files, those under `prefix`, byte for byte."""
    seals = artefact.manifest["files"]
    wanted = {name.removeprefix(prefix): seal for name, seal in seals.items() if name.startswith(prefix)}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return present == set(wanted) and all(file_hash(folder / name) == wanted[name]["sha256"] for name in wanted)


def _loaded(folder: Path) -> Artefact:
    if (artefact := load(folder)) is None:
        raise OSError(f"{folder} was changed while it was being made: run again")
    return artefact


def _partial(folder: Path, resumable: bool) -> Path:
    """Return the folder to build in; what a damaged artefact still holds is kept if the builder can use it."""
    unfinished = folder.with_suffix(".partial")
    if folder.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        folder.replace(unfinished)
        _drop_damaged(unfinished)
    if not resumable:
        shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(exist_ok=True)
    return unfinished


def _drop_damaged(folder: Path) -> None:
    manifest = folder / MANIFEST
    try:
        seals = json.loads(manifest.read_text())["files"]
        damaged = [name for name, seal in seals.items() if not _intact(folder / name, seal)]
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(folder)  # without its manifest nothing tells which files are sound
        return
    for name in damaged:
        (folder / name).unlink(missing_ok=True)
    manifest.unlink()


def _write_manifest(folder: Path, known: dict[str, Any]) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # of a process that was killed before it was done with the folder,
    with beside(folder / MANIFEST):  # and what it left of one it was writing
        pass
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        **known,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "files": {path.relative_to(folder).as_posix(): _seal(path) for path in files},
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1))


def _seal(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"bytes": stat.st_size, "modified": stat.st_mtime_ns, "sha256": file_hash(path)}


def _intact(path: Path, seal: Mapping[str, Any]) -> bool:
    """Whether a file is the one sealed: size and time tell at once; after a copy, its bytes do."""
    if not path.is_file() or (stat := path.stat()).st_size != seal["bytes"]:
        return False
    return bool(stat.st_mtime_ns == seal["modified"] or file_hash(path) == seal["sha256"])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Turn dataclasses, paths and tuples into what JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"an artefact's inputs must be JSON-able, got {type(value).__name__}: {value!r}")
