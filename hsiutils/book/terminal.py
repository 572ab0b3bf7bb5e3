"""A terminal in a chapter, and a small data set in the released layout to show its commands on.

Commands run in a folder of their own, and are shown with their output as a terminal shows them.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

import typer
from typer.testing import CliRunner

from hsiutils.book.commands import TOLD
from hsiutils.data.export import write_release
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.simulate import Simulation, draw_names, write_dataset

FOLDER = "HSI-Drive"
"""Of the small data set."""


class Shell:
    """A terminal in a temporary folder.

    Commands of one program are run by its own command line within this process, which saves the start of Python and of
    torch each time; what they print is the same. All others are run as they are. Progress bars are left out.

    Parameters
    ----------
    program : words with which a command of that program begins, such as "python -m hsiutils data".
    app : its command line.
    columns : width of the terminal, characters.
    """

    def __init__(self, program: str, app: typer.Typer, columns: int = 80) -> None:
        self._program, self._app, self._columns = shlex.split(program), app, str(columns)
        self._temporary = tempfile.TemporaryDirectory(prefix="shell-")

    @property
    def folder(self) -> Path:
        """Where commands run; gone after `close`."""
        return Path(self._temporary.name)

    def __call__(self, *commands: str) -> None:
        """Run commands one after the other and print each with its output, and its exit status if that is not 0.

        Raises
        ------
        FileNotFoundError
            If there is no such program.
        """
        for command in commands:
            text, status = self._run(shlex.split(command))
            shown = [*self._typed(command), *(line.rstrip() for line in text.strip("\n").splitlines())]
            print("\n".join(shown + [f"[exit status {status}]"] * (status != 0)), end="\n\n")

    def _typed(self, command: str) -> list[str]:
        """A command after its prompt, cut as a shell allows where it is longer than the screen is wide."""
        lines = textwrap.wrap(
            f"$ {command}",
            int(self._columns) - 2,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]

    def close(self) -> None:
        """Delete the folder and all in it."""
        self._temporary.cleanup()

    def _run(self, words: list[str]) -> tuple[str, int]:
        if words[: len(self._program)] == self._program:
            return self._run_inside(words[len(self._program) :])
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout + done.stderr, done.returncode

    def _run_inside(self, words: Iterable[str]) -> tuple[str, int]:
        # A notebook's kernel asks for colours, which as text are only noise.
        environment = {"COLUMNS": self._columns, "FORCE_COLOR": None}
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(self._app, list(words), env=environment)
        if isinstance(result.exception, TOLD):
            told = textwrap.fill(f"Error: {result.exception}", int(self._columns), break_on_hyphens=False)
            return f"{result.stdout}{told}", 1
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        # A wrong option is told by typer itself, on stderr; beside it there are only progress bars.
        return result.stdout + (result.stderr if result.exit_code == 2 else ""), result.exit_code


def tree(folder: Path, deepest: int = 3, most: int = 4) -> str:
    """Folders and files as an indented list; of many files of one folder, the first few and their number."""
    return "\n".join(_branches(folder, deepest, most, ""))


def _branches(folder: Path, deepest: int, most: int, indent: str) -> Iterable[str]:
    entries = sorted(folder.iterdir(), key=lambda path: (path.is_file(), path.name))
    files = [path for path in entries if path.is_file()]
    for path in entries:
        if path.is_dir():
            yield f"{indent}{path.name}{os.sep}"
            if deepest > 1:
                yield from _branches(path, deepest - 1, most, indent + "    ")
    for path in files[:most]:
        yield f"{indent}{path.name}"
    if len(files) > most:
        yield f"{indent}... {len(files) - most} more"


def write_demonstration(place: Path, scenes: int = 6, tiles: tuple[int, int] = (54, 102)) -> Path:
    """Write simulated scenes as the MATLAB release has them, and the camera's references beside them; return the set.

        HSI-Drive/Image_dataset/{cubes_fl32,labels,raw}, white.bin, dark.bin

    The same bytes on every call: the scenes do not depend on a run's profile or seed. Of three scenes on, train, val
    and test are all there; tiles are (rows, columns) of the cubes.
    """
    made = place / ".made"
    write_dataset(made, draw_names(scenes), Simulation(tiles=tiles), workers=1, progress=False)
    write_release(HSIDrive.open(made), place / FOLDER, "matlab")
    for name in ("white.bin", "dark.bin"):
        (made / "references" / name).replace(place / name)
    shutil.rmtree(made)
    return place / FOLDER
