"""Make the whole book: scenes, networks, chapters, pages; each step only if something that it depends on changed."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hsiutils import pipeline, store
from hsiutils.book.chapters import chapters, imported_modules, parameter_names, run_chapter, sources
from hsiutils.book.site import build_site
from hsiutils.claims import LEDGER
from hsiutils.pipeline import Run
from hsiutils.side_by_side import RECORDS

Say = Callable[[str], None]

_READ = {"hsiutils.claims": (LEDGER,), "hsiutils.side_by_side": RECORDS}
"""Files of the repository that modules read: a chapter that imports one depends on them."""


def build_book(run: Run, say: Say = print, target: Path | None = None) -> Path:
    """Build the site and return the path of its first page.

    Parameters
    ----------
    run : what the chapters are run with.
    say : told what happens.
    target : folder of the site, by default `_build/html`.
    """
    say(f"Profile {run.profile.name}, seed {run.seed}, data: {run.data_root or 'simulated scenes'}")
    say("Scenes ...")
    pipeline.data(run)
    say("Networks ...")
    pipeline.train_all(run)
    say("Chapters ...")
    executed = executed_chapters(chapters(), run)
    say("Pages ...")
    return build_site(executed, target=target)


def executed_chapters(notebooks: Sequence[Path], run: Run, progress: bool = True) -> dict[str, Path]:
    """Return all chapters run with these settings by their place in the book, several at a time.

    The ledger comes last: by then the other chapters have computed what it judges.
    """
    ledger = [path for path in notebooks if "hsiutils.claims" in imported_modules(path)]
    others = [path for path in notebooks if path not in ledger]
    at_a_time = min(pipeline.workers(), len(notebooks))
    context = multiprocessing.get_context("spawn")
    done: dict[Path, Path] = {}
    bar = tqdm(total=len(notebooks), desc="chapters", unit="chapter", disable=not progress)
    with bar, ProcessPoolExecutor(at_a_time, context, initializer=_share_cores, initargs=(at_a_time,)) as pool:
        for group in (others, ledger):
            waiting = {pool.submit(executed_chapter, path, run): path for path in group}
            for finished in as_completed(waiting):
                done[waiting[finished]] = finished.result()
                bar.update()
                bar.set_postfix_str(waiting[finished].stem)
    return {_place(path): done[path] for path in notebooks}


def _place(notebook: Path) -> str:
    return f"{notebook.parent.name}/{notebook.name}"


def _share_cores(at_a_time: int) -> None:
    """Give each kernel its share of the cores: threads of several that wait for one another would crawl."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, pipeline.workers() // at_a_time)))


def executed_chapter(notebook: Path, run: Run) -> Path:
    """Return the chapter run with these settings, running it if anything it depends on changed."""
    parameters = chapter_parameters(notebook, run)
    modules = imported_modules(notebook)
    inputs: dict[str, Any] = {"cells": sources(notebook), "parameters": parameters, "data": pipeline.data_key(run)}
    inputs |= {path.name: store.file_hash(path) for name in modules for path in _READ.get(name, ())}
    if run.weights is not None:
        inputs["weights"] = store.file_hash(run.weights)  # the path alone does not tell that the file changed
    made = store.artefact(
        "chapter", inputs, modules, lambda folder: run_chapter(notebook, folder / notebook.name, parameters, False)
    )
    return made.folder / notebook.name


def chapter_parameters(notebook: Path, run: Run) -> dict[str, Any]:
    """Settings of a run as a chapter's parameters; those that the chapter does not have are left out."""
    values: dict[str, Any] = {"profile": run.profile.name, "seed": run.seed}
    if run.data_root is not None:
        values["data_root"] = str(run.data_root)
    if run.variants != run.profile.variants:
        values["variants"] = list(run.variants)
    if run.weights is not None:
        values["weights"] = str(run.weights)
    known = parameter_names(notebook)
    return {name: value for name, value in values.items() if name in known}
