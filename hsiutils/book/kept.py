"""A plugin for pytest: chapters that nbval runs are written with what they showed, so that pages need no second run."""

from pathlib import Path
from typing import Any

import nbformat

from hsiutils.book.processes import turn


def pytest_addoption(parser: Any) -> None:
    """Add --keep-chapters."""
    parser.addoption("--keep-chapters", default="", metavar="FOLDER", help="write every chapter with its outputs here")


def pytest_runtest_setup(item: Any) -> None:
    """Let kernels start one after the other; called before pytest's own, which starts them."""
    item.alone = turn()
    item.alone.acquire()


def pytest_runtest_call(item: Any) -> None:
    """Let the next kernel start."""
    item.alone.release()


def pytest_runtest_teardown(item: Any, nextitem: Any) -> None:
    """Take over what a cell of nbval's showed; write the notebook after its last one."""
    item.alone.release()  # if its kernel did not start
    folder = item.config.getoption("--keep-chapters")
    if not folder or not hasattr(item, "test_outputs"):
        return
    item.cell.outputs = item.test_outputs or []
    item.cell.execution_count = item.cell_num + 1
    if nextitem is None or nextitem.parent is not item.parent:
        Path(folder).mkdir(parents=True, exist_ok=True)
        nbformat.write(item.parent.nb, Path(folder) / item.path.name)
