"""Check every chapter with nbval: each cell runs, and cells that promise an output still print it."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hsiutils.book.build import chapter_parameters
from hsiutils.book.chapters import chapters, prepare_chapter
from hsiutils.pipeline import Run


def validate(run: Run, only: list[Path] | None = None) -> int:
    """Run the chapters with a run's settings under nbval and return its exit code (0 for success).

    The committed notebooks are left alone: copies with the parameters filled in are checked. Outputs are compared in
    cells tagged `nbval-check-output`, which hold what must not depend on profile, seed or machine.
    """
    folder = Path(tempfile.mkdtemp(prefix="chapters-"))
    try:
        for notebook in only or chapters():
            prepare_chapter(notebook, folder / notebook.name, chapter_parameters(notebook, run))
        command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=1800", "--no-header", "-v"]
        # An empty configuration: pytest's options for the unit tests do not concern the chapters.
        command += ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder), str(folder)]
        return subprocess.run(command, check=False).returncode  # noqa: S603 (our own command)
    finally:
        shutil.rmtree(folder)
