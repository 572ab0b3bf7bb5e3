"""Content-addressed artefacts: same inputs, no work; changed inputs, a new folder.

An artefact is a folder named by the hash of everything that determines its content: its parameters, the code that
makes it (followed through imports), and the installed versions of what that code uses. A manifest beside the files
says all of it, with the time and the machine. Folders appear whole or not at all.
"""

import ast
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grimp
from filelock import FileLock

from hsiutils.data.atomic import write_atomically

MANIFEST = "manifest.json"
_PACKAGE = __name__.partition(".")[0]


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
    """Where artefacts live: `$HSIUTILS_STORE`, else data/store of the project."""
    given = os.environ.get("HSIUTILS_STORE")
    return Path(given).resolve() if given else Path(__file__).resolve().parents[2] / "data" / "store"


@dataclass(frozen=True)
class Request:
    """Everything that determines an artefact.

    Attributes
    ----------
    kind : folder of the store, such as "data" or "model".
    inputs : JSON-able values (dataclasses allowed).
    modules : modules of hsiutils whose code, with all that they import, makes the content.
    resumable : the builder can continue in a folder left by an interrupted or damaged earlier one.
    """

    kind: str
    inputs: Mapping[str, Any]
    modules: tuple[str, ...]
    resumable: bool = False

    def described(self) -> dict[str, Any]:
        """Everything that determines the artefact, as JSON can say it."""
        code, environment = code_hash(self.modules), versions()
        return {"kind": self.kind, "inputs": _plain(self.inputs), "code": code, "environment": environment}


def artefact(
    kind: str,
    inputs: Mapping[str, Any],
    modules: tuple[str, ...],
    build: Callable[[Path], None],
    *,
    resumable: bool = False,
    root: Path | None = None,
) -> Artefact:
    """Return the artefact of these inputs, building it if it is missing, incomplete or damaged.

    Parameters
    ----------
    kind, inputs, modules, resumable : as in `Request`.
    build : called with a folder to fill. If it raises, nothing appears in the store.
    root : of the store, by default `default_root()`.

    Raises
    ------
    TypeError
        If an input cannot be written as JSON.
    """
    (made,) = artefacts([Request(kind, inputs, modules, resumable)], lambda folders: build(folders[0]), root=root)
    return made


def artefacts(
    requests: Sequence[Request], build: Callable[[dict[int, Path]], None], *, root: Path | None = None
) -> list[Artefact]:
    """Return many artefacts, building those that are missing together.

    Parameters
    ----------
    requests : what is wanted.
    build : called once, with the folders to fill by their index in `requests`.
    root : of the store, by default `default_root()`.
    """
    described = [request.described() for request in requests]
    folders = [(root or default_root()) / item["kind"] / _digest(item) for item in described]
    found = [load(folder) for folder in folders]
    missing = {index: folders[index] for index, artefact in enumerate(found) if artefact is None}
    with ExitStack() as locks:
        for folder in sorted(set(missing.values())):  # in one order everywhere, so that nobody waits in a circle
            folder.parent.mkdir(parents=True, exist_ok=True)
            locks.enter_context(FileLock(folder.with_suffix(".lock")))
        # Another process may have built some of them while this one waited.
        partial = {i: _partial(f, requests[i].resumable) for i, f in missing.items() if load(f) is None}
        if partial:
            started = time.monotonic()
            build(partial)
            for index, folder in partial.items():
                _write_manifest(folder, described[index], time.monotonic() - started)
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


@cache
def code_hash(modules: tuple[str, ...]) -> str:
    """Hash of modules and of all of hsiutils that they import; comments and docstrings do not count.

    Computed once a process: code that is already imported does not change.

    Raises
    ------
    ValueError
        If hsiutils has no such module.
    """
    graph = _import_graph()
    closure = set(modules)
    for module in sorted(closure):
        if module not in graph.modules:
            raise ValueError(f"no module {module!r} in {_PACKAGE}")
        closure |= graph.find_upstream_modules(module)
    return _digest({module: _code_of(module) for module in sorted(closure)})


@cache
def _import_graph() -> grimp.ImportGraph:
    return grimp.build_graph(_PACKAGE, cache_dir=None)


@cache
def versions() -> dict[str, str]:
    """Installed versions of what hsiutils depends on, and of Python."""
    requirements = metadata.requires(_PACKAGE) or []
    names = sorted(line.partition("==")[0] for line in requirements if "extra ==" not in line)
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


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
    artefact = load(folder)
    if artefact is None:
        raise OSError(f"{folder} was changed while it was being made: run again")
    return artefact


def _partial(folder: Path, resumable: bool) -> Path:
    """Return the folder to build in; what a damaged artefact still holds is kept if the builder can use it."""
    partial = folder.with_suffix(".partial")
    if folder.exists():
        shutil.rmtree(partial, ignore_errors=True)
        folder.replace(partial)
        _drop_damaged(partial)
    if not resumable:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(exist_ok=True)
    return partial


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


def _write_manifest(folder: Path, described: dict[str, Any], seconds: float) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        **described,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "files": {path.relative_to(folder).as_posix(): _seal(path) for path in files},
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1))


def _seal(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"bytes": stat.st_size, "modified": stat.st_mtime_ns, "sha256": file_hash(path)}


def _intact(path: Path, seal: Mapping[str, Any]) -> bool:
    """Whether a file is the one sealed: size and time tell at once; after a copy, its bytes do."""
    if not path.is_file():
        return False
    stat = path.stat()
    if stat.st_size != seal["bytes"]:
        return False
    return bool(stat.st_mtime_ns == seal["modified"] or file_hash(path) == seal["sha256"])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _code_of(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module} has no source file")
    tree = ast.parse(Path(spec.origin).read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


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
