"""Command line: the steps of the book one by one. `hsiutils --help` says what there is."""

import sys
import webbrowser
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from hsiutils.book import commands, project
from hsiutils.book.commands import TOLD, DataRoot, Profile, Scheduler, Seed, print_table, say

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

# Commands import what they need themselves: help and a misspelt option then cost no import of torch.
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(commands.app, name="data")


Variants = Annotated[str, typer.Option(help="Network inputs, such as '[1, 25-PN]'; the profile's by default.")]
Chapter = Annotated[str, typer.Argument(help="Number, name or path of a chapter.")]


@app.command()
def train(
    profile: Profile = "quick",
    seed: Seed = 0,
    data_root: DataRoot = "",
    variants: Variants = "",
    scheduler: Scheduler = "",
) -> None:
    """Train the networks that are not there yet."""
    run = _run(profile, seed, data_root, variants)
    run.train()
    say(f"{len(run.variants) * len(run.seeds)} networks are trained.")


@app.command()
def evaluate(profile: Profile = "quick", seed: Seed = 0, data_root: DataRoot = "", variants: Variants = "") -> None:
    """Score the networks on the test scenes: Table 1."""
    from hsiutils.paper.table1 import evaluation, table1, wide

    counts = evaluation(_run(profile, seed, data_root, variants))
    title = f"IoU in percent on {counts.attrs['origin']} scenes: mean (range over seeds) | paper"
    print_table(wide(table1(counts)).reset_index(), title, lines=True)


@app.command(epilog="Example: hsiutils chapter 5 -p class_name=Sky,Road --profile smoke --open")
def chapter(
    name: Chapter,
    output: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the pages, by default under _build/chapters; or NAME.ipynb for the run notebook alone."
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            help="NAME=VALUE of any parameter on the chapter's page; may come again. NAME=VALUE,VALUE makes a page of "
            "each, a list stands in brackets: variants=[1,3],[25].",
        ),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="As -p profile=..., and so on.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    data_root: Annotated[str | None, typer.Option()] = None,
    variants: Annotated[str | None, typer.Option()] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Run a chapter with your own parameters and make a page of the book of it, or several and a page of contents."""
    _require_book(name)
    from hsiutils.book import pages
    from hsiutils.book.chapters import chapters, find_chapter, run_chapter
    from hsiutils.book.parameters import declared, make_run, sweep

    notebook = find_chapter(name)
    known = declared(notebook)
    options = {"profile": profile, "seed": seed, "data_root": data_root, "variants": variants}
    wanted = sweep(
        [*(f"{one}={value}" for one, value in options.items() if value is not None), *(parameter or [])], known
    )
    for one in wanted:
        make_run({name: about.default for name, about in known.items()} | one, one)
    if output is not None and output.suffix == ".ipynb":
        if len(wanted) > 1:
            raise ValueError(
                f"{output} is one notebook, and {len(wanted)} are asked for: name a folder for their pages"
            )
        if output.is_dir():
            raise ValueError(f"{output} is a folder: name a notebook that is none")
        pages.require_writable(output)
        run_chapter(notebook, output, wanted[0])
        say(f"Written: {output}")
        return
    if notebook not in chapters():
        raise ValueError(f"{notebook} is no chapter of the book, and has no page: name NAME.ipynb for the run notebook")
    folder = (output or pages.target_of(notebook, wanted, project())).resolve()
    page = pages.chapter_pages(notebook, wanted, folder, say)
    say(f"The page: {page}")
    if show and not webbrowser.open(page.as_uri()):
        say("No browser was found to open it.")


@app.command()
def book(
    profile: Profile = "quick",
    seed: Seed = 0,
    data_root: DataRoot = "",
    variants: Variants = "",
    scheduler: Scheduler = "",
) -> None:
    """Make everything that is missing and build the pages."""
    _require_book()
    from hsiutils.book.build import build_book

    run = _run(profile, seed, data_root, variants)
    first = build_book(run, say=say)
    _print_claims(run)
    say(f"The book: {first}")


@app.command(epilog="Example: hsiutils audit NETWORK /path/to/HSI-Drive audit.zarr --method GradCAM --workers 8")
def audit(
    network: Annotated[
        str,
        typer.Argument(help="Folder of a training; or a .pt2 or Keras file, or package.module:function."),
    ],
    root: commands.Root,
    out: Annotated[Path, typer.Argument(help="Zarr store to write, or to go on with.")],
    inputs: Annotated[str, typer.Option(help="What the network is given, such as 25-PN; a training knows.")] = "",
    split: commands.Split = "test",
    method: Annotated[list[str] | None, typer.Option(help="May come again; all that can be asked by default.")] = None,
    layer: Annotated[list[str] | None, typer.Option(help="May come again; the usual ones by default.")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Keep every pixel, too.")] = False,
    layout: commands.LayoutName = "",
    workers: commands.Workers = 2,
    scheduler: Scheduler = "",
) -> None:
    """Audit a network on every scene of a data set. What was interrupted goes on where it stopped."""
    from hsiutils.attribution.audit_scenes import audit_scenes
    from hsiutils.data.inputs import fit_inputs
    from hsiutils.data.source import open_dataset
    from hsiutils.models.files import load_trained
    from hsiutils.models.strangers import open_network

    data = open_dataset(root.absolute(), layout or None)
    model, fitted = load_trained(Path(network))[:2] if Path(network).is_dir() else (open_network(network), None)
    if fitted is None and not inputs:
        raise ValueError(f"{network} does not say what it is given of a cube: name it, such as --inputs 25-PN")
    scenes = data.scenes(split or data.names(), fit_inputs(inputs, data) if inputs or fitted is None else fitted)
    made = audit_scenes(model, scenes, out, method or None, layer or None, maps=maps, workers=workers)
    say(f"{len(scenes)} {data.origin} scenes audited: {made}")


@app.command()
def claims(profile: Profile = "quick", seed: Seed = 0, data_root: DataRoot = "", variants: Variants = "") -> None:
    """Measure the paper's claims and print the ledger."""
    _print_claims(_run(profile, seed, data_root, variants))


@app.command()
def validate(
    profile: Profile = "smoke",
    seed: Seed = 0,
    data_root: DataRoot = "",
    renew: Annotated[str, typer.Option(help="A chapter whose checked outputs are written anew, after a change.")] = "",
    pages: Annotated[str, typer.Option(help="Folder for the pages of what the chapters showed.")] = "",
) -> None:
    """Run every chapter under nbval."""
    _require_book(renew)
    from hsiutils.book import build
    from hsiutils.book.chapters import find_chapter

    run = _run(profile, seed, data_root)
    if renew:
        build.renew_outputs(find_chapter(renew), run)
        return
    run.train()  # with a progress bar, before nbval's silence
    raise typer.Exit(build.validate(run, target=Path(pages).resolve() if pages else None))


@app.command()
def record(
    profile: Profile = "record",
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option(help="Folder; by default data/results of the checkout.")] = None,
    scheduler: Scheduler = "",
) -> None:
    """Train and measure the record that every ledger is shown beside; takes hours, and goes on where it stopped."""
    if output is None:
        project()
    from hsiutils.paper.record import keep
    from hsiutils.paper.results import RESULTS

    kept = keep(_run(profile, seed, ""), output or RESULTS)
    say(f"{kept}: {len(kept.manifest['evidence'])} kinds of evidence in {output or RESULTS}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Of the study; without one, all are listed.")] = "",
    points: Annotated[bool, typer.Option("--points", help="Only list the grid, and what is missing.")] = False,
    profile: Profile = "quick",
    seed: Seed = 0,
    data_root: DataRoot = "",
    output: Annotated[Path | None, typer.Option(help="Folder; by default data/results of the checkout.")] = None,
    scheduler: Scheduler = "",
) -> None:
    """Train and measure the grid of a study, and write its record; goes on where it stopped."""
    import pandas as pd

    from hsiutils.paper.results import RESULTS
    from hsiutils.paper.studies import find, studies

    if not name:
        known = [(one.name, one.about) for one in studies().values()]
        print_table(pd.DataFrame(known, columns=["study", "about"]), "Studies")
        return
    own, run = find(name), _run(profile, seed, data_root)
    if points:
        print_table(table := own.points(run), f"{name}: {own.about}")
        say(f"{(table['state'] == 'missing').sum()} of {len(table)} points are missing.")
        return
    if output is None:
        project()
    own.keep(run, output or RESULTS)
    say(f"Written: {(output or RESULTS) / own.file}")


def _require_book(chapter: str = "") -> None:
    """Say at once what running chapters lacks: packages, or a checkout, unless the chapter is given by its path."""
    if chapter.endswith(".ipynb"):
        return
    project()
    import_module("hsiutils.book.chapters").chapters()


def _run(profile: str, seed: int, data_root: str, variants: str = "") -> "Run":
    from hsiutils.book.chapters import settings

    return settings(profile=profile, seed=seed, data_root=data_root, variants=variants)


def _print_claims(run: "Run") -> None:
    from hsiutils.book.build import ledger

    found, score = ledger(run)
    # A terminal has no room for how it was measured; the first page has.
    columns = [name for name in ("the paper says", "paper's value", "record", "this run") if name in found]
    print_table(found[columns], f"The paper's claims, measured on {run.data.origin} scenes", lines=True)
    say(score)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except TOLD as error:
        if not str(error):  # as dask's TimeoutError: only where it came from says what it is
            raise
        Console(stderr=True).print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
