"""Make the whole book: scenes, networks, chapters, pages; each step only if something that it depends on changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hsiutils import pipeline, store
from hsiutils.book.chapters import PROJECT, chapters, imported_modules, parameter_names, run_chapter, sources
from hsiutils.book.site import build_site
from hsiutils.claims import LEDGER
from hsiutils.pipeline import Run

Say = Callable[[str], None]


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
    executed = {}
    for number, notebook in enumerate(chapters(), start=1):
        say(f"Chapter {number} of {len(chapters())}: {notebook.stem} ...")
        executed[notebook.relative_to(PROJECT).as_posix()] = executed_chapter(notebook, run)
    say("Pages ...")
    return build_site(executed, target=target)


def executed_chapter(notebook: Path, run: Run) -> Path:
    """Return the chapter run with these settings, running it if anything it depends on changed."""
    parameters = chapter_parameters(notebook, run)
    modules = imported_modules(notebook)
    inputs: dict[str, Any] = {"cells": sources(notebook), "parameters": parameters, "data": pipeline.data_key(run)}
    if "hsiutils.claims" in modules:
        inputs["ledger"] = store.file_hash(LEDGER)
    made = store.artefact(
        "chapter", inputs, modules, lambda folder: run_chapter(notebook, folder / notebook.name, parameters)
    )
    return made.folder / notebook.name


def chapter_parameters(notebook: Path, run: Run) -> dict[str, Any]:
    """Settings of a run as a chapter's parameters; those that the chapter does not have are left out."""
    values: dict[str, Any] = {"profile": run.profile.name, "seed": run.seed}
    if run.data_root is not None:
        values["data_root"] = str(run.data_root)
    if run.variants != run.profile.variants:
        values["variants"] = list(run.variants)
    known = parameter_names(notebook)
    return {name: value for name, value in values.items() if name in known}
