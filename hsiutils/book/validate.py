"""Check every chapter with nbval: each cell runs, and cells that promise an output still print it."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from hsiutils.book.build import chapter_parameters
from hsiutils.book.chapters import chapters, prepare_chapter, run_chapter
from hsiutils.data.atomic import write_atomically
from hsiutils.paper.run import Run

CHECKED = "nbval-check-output"
"""Tag of a cell whose committed output must come out again, whatever the profile, seed and machine."""


def validate(run: Run, only: list[Path] | None = None) -> int:
    """Run the chapters with a run's settings under nbval and return its exit code (0 for success).

    The committed notebooks are left alone: copies with the parameters filled in are checked. Outputs are compared in
    cells tagged `CHECKED`, which hold what must not depend on profile, seed or machine.
    """
    folder = Path(tempfile.mkdtemp(prefix="chapters-"))
    try:
        for notebook in only or chapters():
            prepare_chapter(notebook, folder / notebook.name, chapter_parameters(notebook, run))
        command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=1800", "--no-header", "-v"]
        command += ["--numprocesses=auto", "--dist=loadfile"]  # chapters side by side, each in a kernel of its own
        # An empty configuration: pytest's options for the unit tests do not concern the chapters.
        command += ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder), str(folder)]
        return subprocess.run(command, check=False).returncode  # noqa: S603 (our own command)
    finally:
        shutil.rmtree(folder)


def record_outputs(notebook: Path, run: Run) -> None:
    """Run a chapter and write the outputs of its checked cells, and no others, into the notebook itself."""
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / notebook.name
        run_chapter(notebook, executed, chapter_parameters(notebook, run))
        outputs = {cell.id: cell.get("outputs", []) for cell in nbformat.read(executed, as_version=4).cells}
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "code":
            checked = CHECKED in cell.metadata.get("tags", [])
            cell.outputs = [output for output in outputs[cell.id] if output.output_type != "error"] if checked else []
            cell.execution_count = 1 if cell.outputs else None  # nbval takes an output without it for a mistake
    write_atomically(notebook, nbformat.writes(content) + "\n")
