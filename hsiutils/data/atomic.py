"""Files appear whole or not at all: written under another name in the same folder, then renamed."""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

_COUNT = count()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write a file under, which becomes `path` at the end of the block; the folder is made.

    It is that of `beside`. Readers see the old file or the whole new one; if the block fails, the old one stays.
    """
    with beside(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A name in the folder of `path`, hidden and with its ending, for a file or folder that is gone after the block.

    What a process of this machine left under such a name as it was killed goes, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{_host()}-{os.getpid()}-{next(_COUNT)}.{path.name}")
    try:
        yield temporary
    finally:
        for left in (temporary, *_abandoned(path)):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _abandoned(path: Path) -> Iterator[Path]:
    own = re.compile(rf"\.{re.escape(_host())}-(\d+)-\d+\.{re.escape(path.name)}")
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if (match := own.fullmatch(name)) and not _alive(int(match[1])):
            yield path.with_name(name)


def _alive(process: int) -> bool:
    """Whether there is a process of that number, of whomever."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _host() -> str:
    return re.sub(r"\W", "", socket.gethostname())[:32]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to a file, at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
