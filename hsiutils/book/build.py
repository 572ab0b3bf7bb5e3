"""Make the whole book: scenes, networks, chapters, pages; each step only if something that it depends on changed.

And check its chapters with nbval: each cell runs, and cells that promise an output still print it.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from hsiutils import MODULES
from hsiutils.book import live, project
from hsiutils.book.apparatus import checked_out, provenance
from hsiutils.book.chapters import (
    chapters,
    imported_modules,
    prepare_chapter,
    run_chapter,
    run_into,
    sources,
)
from hsiutils.book.offline import SiteError, build_pages
from hsiutils.book.parameters import declared, spared
from hsiutils.book.processes import pool
from hsiutils.data.atomic import write_atomically
from hsiutils.paper import store
from hsiutils.paper.record import judged
from hsiutils.paper.run import Run, workers

CHECKED = "nbval-check-output"
"""Tag of a cell whose committed output must come out again, whatever the profile, seed and machine."""


def build_book(run: Run, say: Callable[[str], None] = print, target: Path | None = None) -> Path:
    """Build the site, by default in `_build/html`, and return the path of its first page; `say` tells what happens."""
    say(f"Profile {run.profile.name}, seed {run.seed}, data: {run.data_root or 'simulated scenes'}")
    say("Scenes ...")
    run.data  # noqa: B018 (rendered here, with a bar)
    say("Networks ...")
    run.train()
    say("Chapters ...")
    executed = executed_chapters(chapters(), run)
    say("Pages ...")
    return build_site(executed, target=target)


def executed_chapters(notebooks: Sequence[Path], run: Run, progress: bool = True) -> dict[str, Path]:
    """Return all chapters run with these settings by their place in the book, several at a time.

    The ledger comes last: by then the other chapters have computed what it judges.
    """
    judging = [path for path in notebooks if "hsiutils.paper.record" in imported_modules(path)]
    others = [path for path in notebooks if path not in judging]
    done: dict[Path, Path] = {}
    with tqdm(total=len(notebooks), desc="chapters", unit="chapter", disable=not progress) as bar:
        for group in (others, judging):
            for path, made in _executed(group, run):
                done[path] = made
                bar.update()
                bar.set_postfix_str(path.stem)
    return {f"{path.parent.name}/{path.name}": done[path] for path in notebooks}


def _executed(notebooks: Sequence[Path], run: Run) -> Iterator[tuple[Path, Path]]:
    """Each chapter and where it is run: those that are there at once, the others as they get ready."""
    asked = {path: _request(path, run) for path in notebooks}
    there = {path: made for path, request in asked.items() if (made := store.find("chapter", **request))}
    yield from ((path, made.folder / path.name) for path, made in there.items())
    missing = [path for path in notebooks if path not in there]
    if not missing:
        return
    at_a_time = min(workers(), len(missing))
    with pool(at_a_time, _share_cores, at_a_time) as processes:
        # The longer ones come late in the book: begun first, none is left to run alone at the end.
        waiting = {processes.submit(executed_chapter, path, run): path for path in reversed(missing)}
        for finished in as_completed(waiting):
            yield waiting[finished], finished.result()


def _share_cores(at_a_time: int) -> None:
    """Give each kernel its share of the cores: threads of several that wait for one another would crawl."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, workers() // at_a_time)))


def executed_chapter(notebook: Path, run: Run) -> Path:
    """Return the chapter run with these settings, running it if anything it depends on changed."""
    return store.artefact("chapter", **_request(notebook, run)).folder / notebook.name


def _request(notebook: Path, run: Run) -> dict[str, Any]:
    """What runs a chapter, and what that depends on, as the store asks for it."""
    parameters = chapter_parameters(notebook, run)
    inputs: dict[str, Any] = {"cells": sources(notebook), "parameters": parameters, "data": run.data_key}
    if run.weights is not None:
        inputs["weights"] = store.file_hash(run.weights)  # the path alone does not tell that the file changed
    build = partial(run_into, source=notebook, parameters=parameters)
    adapter = type(run.data).__module__  # which is found by what lies in the folder, and by no import
    return {"build": build, "inputs": inputs, "uses": (*imported_modules(notebook), adapter)}


def ledger(run: Run) -> tuple[pd.DataFrame, str]:
    """The claims ledger of a run beside the record's, as people read it, and its score in words; measured once."""
    inputs = {"profile": run.profile, "seed": run.seed, "variants": run.variants, "data": run.data_key}
    made = store.artefact("ledger", partial(_write_ledger, run=run), inputs, uses=(type(run.data).__module__,))
    table = pd.read_csv(made.folder / "ledger.csv", keep_default_na=False)
    return table, (made.folder / "score.txt").read_text()


def _write_ledger(folder: Path, run: Run) -> None:
    found = judged(run)
    found.table.to_csv(folder / "ledger.csv", index=False)
    (folder / "score.txt").write_text("\n".join(found.words))


def chapter_parameters(notebook: Path, run: Run) -> dict[str, Any]:
    """Settings of a run as a chapter's parameters; those that the chapter does not have are left out."""
    values: dict[str, Any] = {"profile": run.profile.name, "seed": run.seed}
    if run.data_root is not None:
        values["data_root"] = str(run.data_root)
    if run.variants != run.profile.variants:
        values["variants"] = list(run.variants)
    if run.weights is not None:
        values["weights"] = str(run.weights)
    known = declared(notebook)
    return {name: value for name, value in values.items() if name in known} | spared(known, run)


def build_site(executed: Mapping[str, Path], root: Path | None = None, target: Path | None = None) -> Path:
    """Build the site and return the path of its first page; unchanged chapters cost nothing.

    Parameters
    ----------
    executed : run notebooks by their place in the book ("book/01_sensor.ipynb").
    root : of the checkout, by default `hsiutils.book.project()`.
    target : folder of the site, by default `_build/html` of the checkout.

    Raises
    ------
    SiteError
        If jupyter-book fails or warns (its last lines are in the message), or a figure is missing from a chapter.
    """
    root = root or project()
    for name, path in executed.items():
        _require_readable(name, path)
    pages = site_sources(executed, root)
    commit = checked_out(root)
    feet = {name: provenance(path, commit) for name, path in executed.items()}
    documented = [store.PACKAGE.parent / f"{name.replace('.', '/')}.py" for name in MODULES.values()]
    hashes = {name: store.file_hash(path) for name, path in pages.items()}
    inputs: dict[str, Any] = {"pages": hashes, "feet": feet}
    inputs["documented"] = [*map(store.file_hash, dict.fromkeys(documented))]
    if any(map(live.is_live, executed.values())):
        found = live.runtime()
        inputs["runtime"] = found and [store.file_hash(found / name) for name in live.RUNTIME]
        if found is None:
            print(live.WITHOUT, file=sys.stderr)
    site = store.artefact("site", partial(build_pages, pages=pages, feet=feet), inputs)
    target = target or root / "_build" / "html"
    _mirror(site, target)
    return target / "index.html"


def site_sources(executed: Mapping[str, Path], root: Path) -> dict[str, Path]:
    """Everything that the site is made of, by its place in the source tree."""
    top = [root / name for name in ("_config.yml", "_toc.yml", "CHANGELOG.md")]
    fixed = [*top, *sorted((root / "book").rglob("*"))]
    plain = {str(path.relative_to(root)): path for path in fixed if path.is_file() and path.suffix != ".ipynb"}
    plain = {name: path for name, path in plain.items() if not Path(name).name.startswith(".")}
    return plain | dict(executed)


def _require_readable(name: str, chapter: Path) -> None:
    """A cell with a caption shows a figure, none a progress bar or what was meant for a terminal, nor its parameters.

    A cell that ends in an `if` shows nothing, and no reader can tell; each step of a bar would be a line of the page.
    """
    for cell in nbformat.read(chapter, as_version=4).cells:
        outputs, figure = cell.get("outputs", []), cell.metadata.get("mystnb", {}).get("figure")
        tags = set(cell.metadata.get("tags", []))
        if figure and not outputs:
            raise SiteError(
                f"{name}: the cell of figure {figure.get('name')!r} shows nothing; let it end in the figure"
            )
        if tags & {"parameters", "injected-parameters"} and not tags & {"remove-cell", "remove-input"}:
            raise SiteError(f"{name}: code that sets parameters would stand on the page; tag it remove-cell")
        shown = [one for one in outputs if one.output_type == "stream" and not tags & {"remove-output", "remove-cell"}]
        if any("%|" in one.text for one in shown):
            raise SiteError(f"{name}: a progress bar would stand on the page; call without it:\n{cell.source}")
        if words := "".join(one.text for one in shown if one.name == "stderr"):
            raise SiteError(f"{name}: what went to stderr would stand on the page:\n{words}\nof\n{cell.source}")


def _mirror(site: store.Artefact, target: Path) -> None:
    """Copy the site to where people look for it, unless an intact copy is there already.

    Builds of one checkout take turns. Who reads meanwhile has the old pages or the new ones, whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if store.matches(target, site, prefix="html/"):
            return
        fresh = target.with_name(f".{target.name}.other")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(site.folder / "html", fresh)
        # The old pages are at `fresh` afterwards, and stay for a server that was started in their folder.
        exchange(fresh, target)


def exchange(fresh: Path, target: Path) -> None:
    """Put a folder where another one is, and that one in its place: in one step where the system has it (Linux)."""
    if not target.exists():
        fresh.rename(target)
        return
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE: linux/fcntl.h, linux/fs.h
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None or rename(here, os.fsencode(fresh), here, os.fsencode(target), swap) != 0:
        old = target.with_name(f".{target.name}.old")
        target.rename(old)
        fresh.rename(target)
        old.rename(fresh)


def validate(run: Run, only: Sequence[Path] = (), target: Path | None = None) -> int:
    """Run the chapters with a run's settings under nbval and return its exit code (0 for success).

    The committed notebooks are left alone: copies with the parameters filled in are checked. Outputs are compared in
    cells tagged `CHECKED`, which hold what must not depend on profile, seed or machine. With a `target`, the pages of
    what they showed are built there.
    """
    folder, notebooks = Path(tempfile.mkdtemp(prefix="chapters-")), only or chapters()
    kept = folder / ".kept"
    try:
        for notebook in notebooks:
            prepare_chapter(notebook, folder / notebook.name, chapter_parameters(notebook, run))
        command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-cell-timeout=1800", "--no-header", "-v"]
        command += ["--numprocesses=auto", "--dist=loadfile"]  # chapters side by side, each in a kernel of its own
        # An empty configuration: pytest's options for the unit tests do not concern the chapters.
        command += ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(folder), str(folder)]
        command += ["-p", "hsiutils.book.kept", *(["--keep-chapters", str(kept)] if target is not None else [])]
        code = subprocess.run(command, check=False).returncode  # noqa: S603 (our own command)
        if target is not None and code == 0:
            places = {path: f"{path.parent.name}/{path.name}" for path in notebooks}
            build_site({place: kept / path.name for path, place in places.items()}, notebooks[0].parents[1], target)
        return code
    finally:
        shutil.rmtree(folder)


def renew_outputs(notebook: Path, run: Run) -> None:
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
