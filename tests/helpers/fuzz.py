"""Damaged and hostile files by the thousand, each read in a child process with little time and little memory.

A child is forked from this process, which has imported everything, and reads one input after the other. Where it dies
or hangs, that input is the fault, and another child goes on behind it.
"""

import contextlib
import io
import json
import os
import random
import resource
import signal
import struct
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 10
"""An input may take, on a busy machine."""
MEMORY = 1 << 30
"""Bytes beyond those of this process that reading may ask for."""
_LARGE = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10 * 2**30, 2**63 - 1, 2**63, 2**64 - 1)
_LEAVES = (
    None,
    True,
    "",
    "x",
    0,
    -1,
    1,
    3,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    [],
    {},
    [[]],
    "../../x",
    "/dev/zero",
)


class Subject(NamedTuple):
    """A reader, sound files of it, and what it is documented to raise."""

    name: str
    """Of the file to write; its ending may tell the reader the format."""
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    raises: tuple[type[BaseException], ...]
    tree: Any = None
    """What lies in a file as JSON, and is changed as a tree of values, too."""
    pack: Callable[[Any], bytes] | None = None
    """Makes a file of such a tree."""
    around: Callable[[Path], object] | None = None
    """Writes the files that the one to read lies among."""


class Fault(NamedTuple):
    """An input that did what none may do."""

    what: str
    content: bytes


def inputs(subject: Subject, count: int, seed: int, others: Sequence[bytes] = ()) -> Iterator[bytes]:
    """Changed files of a subject; `others` are sound files of other kinds, whose headers are put in front."""
    rng = random.Random(seed)  # noqa: S311
    for _ in range(count):
        if subject.pack is not None and rng.random() < 0.5:
            with contextlib.suppress(Exception):  # what cannot even be written
                yield subject.pack(changed_tree(subject.tree, rng))
                continue
        content = rng.choice(subject.seeds)
        if content[:2] == b"PK" and rng.random() < 0.7:
            yield changed_archive(content, rng)
        else:
            yield changed_bytes(content, rng, others)


def changed_bytes(content: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Cut, with some bytes or bits or numbers changed, with a piece left out or doubled, or under another header."""
    kind, end = rng.randrange(8), len(content)
    if not end or rng.random() < 0.01:
        return rng.choice((rng.randbytes(rng.randrange(40)), b"[" * 3000, b"[" * 200_000, b"{a: " * 3000))
    if kind == 0:
        return content[: rng.choice((rng.randrange(end), rng.randrange(min(end, 600)), end - 1))]
    if kind == 1 and others:
        cut = rng.choice((4, 8, 16, 128, 512))
        return rng.choice(others)[:cut] + content[cut:]
    if kind == 2:
        start, size = rng.randrange(end), rng.choice((1, 4, 8, 64))
        piece = content[start : start + size]
        return content[:start] + rng.choice((b"", piece * rng.choice((2, 300)))) + content[start + size :]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        at = min(rng.randrange(end), rng.randrange(end)) if rng.random() < 0.5 else rng.randrange(min(end, 1024))
        if kind <= 4:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 5:
            changed[at] = rng.randrange(256)
        else:
            size, order = rng.choice((2, 4, 8)), rng.choice("<>")
            number = rng.choice(_LARGE) % 2 ** (8 * size)
            changed[at : at + size] = struct.pack(order + {2: "H", 4: "I", 8: "Q"}[size], number)[: end - at]
    return bytes(changed)


def changed_archive(content: bytes, rng: random.Random) -> bytes:
    """A zip archive of which one member is changed, left out or packed to a bomb."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name, packing = rng.choice(list(members)), zipfile.ZIP_STORED
    match rng.randrange(8):
        case 0:
            del members[name]
        case 1:
            members[name] += bytes(1 << 21)
            packing = zipfile.ZIP_DEFLATED
        case 2:
            members[rng.choice(("../" + name, "/" + name, name + "/x"))] = members.pop(name)
        case _ if name.endswith("json"):
            members[name] = text(changed_tree(json.loads(members[name]), rng))
        case _:
            members[name] = changed_bytes(members[name], rng)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", packing) as archive:
        for each, data in members.items():
            archive.writestr(each, data)
    return buffer.getvalue()


def text(tree: Any) -> bytes:
    """A tree as JSON."""
    return json.dumps(tree).encode()


def changed_tree(tree: Any, rng: random.Random) -> Any:
    """A tree in which one or two values are of another kind, left out, doubled, or nested beyond reason."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(tree))
        if not places:
            return rng.choice(_LEAVES)
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 1:
                holder[rng.choice(("x", "__class__", "forward", "../x", "a.b"))] = holder.pop(key)
            case 2:
                other, place = rng.choice(places)
                holder[key] = json.loads(json.dumps(other.get(place) if isinstance(other, dict) else None))
            case 3:
                deep: Any = 0
                for _ in range(rng.choice((3, 400))):
                    deep = [deep]
                holder[key] = deep
            case 4 if isinstance(holder[key], int | float):
                holder[key] = rng.choice((-holder[key], holder[key] + 1, holder[key] * 1000, float(holder[key]), 2**40))
            case _:
                holder[key] = rng.choice(_LEAVES)
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from _places(value)


def faults(subject: Subject, contents: Sequence[bytes], folder: Path) -> list[Fault]:
    """Read every content in children of this process: what raised something else, died, or took too long or much."""
    found: list[Fault] = []
    begin = 0
    if subject.around is not None:
        subject.around(folder)
    (folder / subject.name).parent.mkdir(parents=True, exist_ok=True)
    while begin < len(contents):
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(here)
            _read_all(subject, contents[begin:], folder, there)
        os.close(there)
        with os.fdopen(here) as pipe:
            lines = pipe.read().splitlines()
        _, status = os.waitpid(child, 0)
        reports = [json.loads(line) for line in lines if line.startswith("{")]
        found += [Fault(one["what"], contents[begin + one["at"]]) for one in reports]
        if status == 0:
            break
        last = int(lines[-1]) if lines and lines[-1].isdecimal() else 0
        ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"
        what = f"more than {SECONDS} s" if ended == "SIGALRM" else f"the process ended by {ended}"
        found.append(Fault(what, contents[begin + last]))
        begin += last + 1
    return found


def _read_all(subject: Subject, contents: Sequence[bytes], folder: Path, pipe: int) -> None:
    """In a child: never returns."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process, wherever it is
    warnings.simplefilter("ignore")
    path = folder / subject.name
    for at, content in enumerate(contents):
        os.write(pipe, f"{at}\n".encode())
        path.write_bytes(content)
        signal.alarm(SECONDS)
        try:
            subject.read(path)
            what = ""
        except subject.raises as error:
            what = _improper(error, folder)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"[:300]
        signal.alarm(0)
        if what:
            os.write(pipe, json.dumps({"at": at, "what": what}).encode() + b"\n")
    os._exit(0)


def _improper(error: BaseException, folder: Path) -> str:
    """What is wrong with a documented error: it names no file, or came of memory that ran out."""
    if str(folder) not in str(error):
        return f"names no file: {type(error).__name__}: {error}"[:300]
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, MemoryError) or "allocate memory" in str(chain) or "can't allocate" in str(chain):
            return f"asked for more than {MEMORY} bytes: {error}"[:300]
        chain = chain.__cause__ or chain.__context__
    return ""
