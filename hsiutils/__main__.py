"""Command line: the steps of the book one by one. `python -m hsiutils --help` says what there is."""

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hsiutils.book import commands as data_commands
from hsiutils.book.build import build_book, chapter_parameters
from hsiutils.book.chapters import find_chapter, run_chapter, settings
from hsiutils.book.commands import DataRoot, Profile, Seed
from hsiutils.book.validate import record_outputs
from hsiutils.book.validate import validate as validate_chapters
from hsiutils.paper import run as pipeline
from hsiutils.paper.claims import evaluate_claims, ledger_table
from hsiutils.paper.run import Run
from hsiutils.paper.table1 import table1, wide

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(data_commands.app, name="data")
console = Console()
Variants = Annotated[str, typer.Option(help="Network inputs, such as '[1, 25-PN]'; the profile's by default.")]
_PATHS = ("data_root", "weights")
"""Parameters of chapters that name a file or folder."""


@app.command()
def train(profile: Profile = "quick", seed: Seed = 0, data_root: DataRoot = "", variants: Variants = "") -> None:
    """Train the networks that are not there yet."""
    run = _run(profile, seed, data_root, variants)
    pipeline.train_all(run)
    console.print(f"{len(run.variants) * len(run.seeds)} networks are trained.")


@app.command()
def evaluate(profile: Profile = "quick", seed: Seed = 0, data_root: DataRoot = "", variants: Variants = "") -> None:
    """Score the networks on the test scenes: Table 1."""
    counts = pipeline.evaluation(_run(profile, seed, data_root, variants))
    frame = wide(table1(counts)).reset_index()
    _print_table(frame, f"IoU in percent on {counts.attrs['origin']} scenes: mean (range over seeds) | paper")


@app.command()
def chapter(
    name: Annotated[str, typer.Argument(help="Number, name or path of a chapter.")],
    output: Annotated[Path, typer.Argument(help="Where the run notebook goes.")],
    parameter: Annotated[list[str] | None, typer.Option("-p", help="NAME=VALUE, for any tagged parameter.")] = None,
    profile: Profile = "quick",
    seed: Seed = 0,
    data_root: DataRoot = "",
    variants: Variants = "",
) -> None:
    """Run one chapter with your own parameters."""
    notebook = find_chapter(name)
    parameters = chapter_parameters(notebook, _run(profile, seed, data_root, variants))
    for item in parameter or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"-p {item}: expected NAME=VALUE")
        parameters[key] = int(value) if value.isdecimal() else value
        if key in _PATHS and value:  # the chapter runs in its own folder, and not in the one that was meant
            parameters[key] = str(Path(value).expanduser().resolve())
    run_chapter(notebook, output, parameters)
    console.print(f"Written: {output}", soft_wrap=True)


@app.command()
def book(profile: Profile = "quick", seed: Seed = 0, data_root: DataRoot = "", variants: Variants = "") -> None:
    """Make everything that is missing and build the pages."""
    run = _run(profile, seed, data_root, variants)
    first = build_book(run, say=lambda text: console.print(text, soft_wrap=True))
    _print_claims(run)
    console.print(f"The book: {first}", soft_wrap=True)


@app.command()
def claims(profile: Profile = "quick", seed: Seed = 0, data_root: DataRoot = "", variants: Variants = "") -> None:
    """Measure the paper's claims and print the ledger."""
    _print_claims(_run(profile, seed, data_root, variants))


@app.command()
def validate(profile: Profile = "smoke", seed: Seed = 0, data_root: DataRoot = "") -> None:
    """Run every chapter under nbval."""
    run = _run(profile, seed, data_root)
    pipeline.train_all(run)  # with a progress bar, before nbval's silence
    raise typer.Exit(validate_chapters(run))


@app.command()
def record(
    name: Annotated[str, typer.Argument(help="Number, name or path of a chapter.")], profile: Profile = "smoke"
) -> None:
    """Write the outputs that nbval checks into a chapter, after a change of it."""
    record_outputs(find_chapter(name), _run(profile, 0, ""))


def _run(profile: str, seed: int, data_root: str, variants: str = "") -> Run:
    return settings(profile=profile, seed=seed, data_root=data_root, variants=variants)


def _print_claims(run: Run) -> None:
    origin = pipeline.data(run).origin
    # A terminal has no room for what is measured; the first page has.
    frame = ledger_table(evaluate_claims(run)).drop(columns=["chapter", "what is measured"])
    _print_table(frame, f"The paper's claims, measured on {origin} scenes")


def _print_table(frame: pd.DataFrame, title: str) -> None:
    table = Table(title=title, show_lines=True)
    for column in frame.columns:
        table.add_column(str(column))
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    console.print(table)


def main() -> None:
    """Run the command line; errors in what the user gave are told in one line, without a traceback."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        Console(stderr=True).print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
