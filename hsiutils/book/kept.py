"""A plugin for pytest: chapters that nbval runs are written with what they showed, so that pages need no second run.

And none may open a file of its data, or of the store, again and again; while something is made nothing counts.
"""

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nbformat

from hsiutils.book.processes import turn
from hsiutils.paper import store

MOST, MOST_LOOK_UPS = 24, 40
"""How often a chapter may open one file, and the manifest of one artefact. To read a cube takes two: it is looked at
before. To look a network up takes one for each of its measures."""
_HERE = f"__import__({__name__!r}, fromlist=['_'])"
_OPENED: Counter[str] = Counter()


def pytest_addoption(parser: Any) -> None:
    """Add --keep-chapters."""
    parser.addoption("--keep-chapters", default="", metavar="FOLDER", help="write every chapter with its outputs here")


def pytest_runtest_setup(item: Any) -> None:
    """Let kernels start one after the other; called before pytest's own, which starts them."""
    item.alone = turn()
    item.alone.acquire()


def pytest_runtest_call(item: Any) -> None:
    """Let the next kernel start; have this one count what it opens, and the last cell fail by it."""
    item.alone.release()
    if item.cell_num == 0:
        item.parent.kernel.kc.execute(f"{_HERE}.count_opened()", silent=True, stop_on_error=False)
    if item.cell_num == sum(cell.cell_type == "code" for cell in item.parent.nb.cells) - 1:
        item.runtest = partial(_last, item, item.runtest)


def _last(item: Any, run: Callable[[], None]) -> None:
    """Run the last cell of a chapter, and fail if the chapter opens a file too often."""
    run()
    asked = {"often": f"{_HERE}.opened_often(globals().get('data_root') or '')"}
    reply = item.parent.kernel.kc.execute("", silent=True, user_expressions=asked, reply=True, timeout=60)
    often = reply["content"]["user_expressions"]["often"]
    if often.get("data", {}).get("text/plain") != "{}":
        raise RuntimeError(f"{item.path.name} opens files again and again: {often}")


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


def count_opened() -> None:
    """Count the files that Python opens in this process from now on, but for those that what is made in it takes."""
    making, made = [False], store._made

    def apart(described: Any, build: Callable[[Any], Any], *given: Any) -> list[store.Artefact]:
        def building(folders: Any) -> Any:
            before, making[0] = making[0], True
            try:
                return build(folders)
            finally:
                making[0] = before

        return made(described, building, *given)

    def look(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and not making[0]:
            _OPENED[str(given[0])] += 1

    store._made = apart  # type: ignore[assignment]
    sys.addaudithook(look)


def opened_often(data_root: str) -> dict[str, int]:
    """Files of the store and of the data that were opened more often than that, and how often; locks do not count."""
    roots = tuple(str(root) for root in (store.default_root(), data_root) if root)
    most = {store.MANIFEST: MOST_LOOK_UPS}
    often = {path: count for path, count in _OPENED.items() if count > most.get(Path(path).name, MOST)}
    return {path: often[path] for path in often if path.startswith(roots) and not path.endswith(".lock")}
