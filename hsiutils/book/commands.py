"""Data sets: make simulated scenes; check, describe, convert and show what is there; raw frames to cubes."""

import json
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from hsiutils.data.compare import Chain
    from hsiutils.data.hsidrive import HSIDrive
    from hsiutils.data.source import Source


def _on(scheduler: str) -> str:
    """Name a cluster to all that goes on side by side: here, and in the kernels of chapters."""
    if scheduler:
        os.environ["DASK_SCHEDULER_ADDRESS"] = scheduler
    return scheduler


Scheduler = Annotated[
    str,
    typer.Option(help="Of dask, such as tcp://host:8786: a cluster to work on, not this machine.", callback=_on),
]
TOLD = (ValueError, OSError, RuntimeError, ModuleNotFoundError)
"""Errors in what the user gave: told in one line, without a traceback."""
# Commands import what they need themselves: help then costs no import of torch.
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
_MOST = 40
"""Rows of a table on a screen; a file takes all."""
Format = Literal["table", "csv", "json"]
Target = Literal["zarr", "matlab", "python", "envi"]
Interleave = Literal["bil", "bip", "bsq"]
Order = Literal["ascending", "native"]
Profile = Annotated[str, typer.Option(help="Size of everything: smoke, quick, record or paper.")]
Seed = Annotated[int, typer.Option(help="Every random choice follows from it.")]
DataRoot = Annotated[str, typer.Option(help="Folder with HSI-Drive; without it, simulated scenes.")]
BlurPx = Annotated[float, typer.Option(min=0, help="Blur of the simulated lens, sensor pixels (standard deviation).")]
Root = Annotated[Path, typer.Argument(help="Folder of the data set, as it was unpacked.")]
LayoutName = Annotated[str, typer.Option(help="One of several layouts in the folder, such as 'v2.0 MATLAB MF'.")]
Names = Annotated[list[str] | None, typer.Option("--name", help="A scene, such as nf1111_576; may come again.")]
Split = Annotated[str, typer.Option(help="Only the scenes of one split: train, val or test.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes of this machine; not used with --scheduler.")]
Printed = Annotated[Format, typer.Option("--format", help="How to print: for people, or for programs.")]


def _example(command: str) -> str:
    return f"Example: python -m hsiutils data {command}"


@app.command(epilog=_example("make --profile quick --seed 1"))
def make(
    profile: Profile = "quick",
    seed: Seed = 0,
    data_root: DataRoot = "",
    blur_px: BlurPx = 1.0,
    scheduler: Scheduler = "",
) -> None:
    """Make the simulated scenes of a profile (or open the real ones) and say what there is."""
    from hsiutils.book.chapters import settings

    run = settings(profile=profile, seed=seed, data_root=data_root)
    data = (run if data_root else run.simulating(blur_px=blur_px)).data
    say(f"{len(data.table)} {data.origin} scenes, layout {data.layout}: {data.root}")
    say(data.table["split"].value_counts().to_string())


@app.command(epilog=_example("check /path/to/HSI-Drive"))
def check(root: Root, layout: LayoutName = "", form: Printed = "table") -> None:
    """Read every file, and list what is wrong and what to do; exit status 1 if there are errors."""
    from hsiutils.data.check import check_dataset

    found = check_dataset(root, layout or None, progress=True)
    counts = {kind: int((found["severity"] == kind).sum()) for kind in ("error", "warning", "note")}
    if form != "table":
        _print({"findings": found}, form)
    elif not found.empty:  # in columns that fit a screen
        words = found["found"] + "\nexpected: " + found["expected"] + "\nto do: " + found["what to do"]
        print_table(found[["severity", "file"]].assign(found=words), f"Findings in {root}")
    said = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())
    say(f"{root}: {said}. " + ("Mend the errors first." if counts["error"] else "It can be used as it is."), form)
    raise typer.Exit(int(counts["error"] > 0))


@app.command(epilog=_example("info /path/to/HSI-Drive"))
def info(
    root: Root,
    layout: LayoutName = "",
    classes: Annotated[bool, typer.Option(help="Count the classes, which reads every label image.")] = True,
    form: Printed = "table",
) -> None:
    """Say what a data set is: release, size, splits, conditions, classes."""
    from hsiutils.data.statistics import class_table, condition_table, data_info

    data = _open(root, layout)
    tables = {"What it is": data_info(data)}
    if not (conditions := condition_table(data)).empty:
        tables["Scenes"] = conditions
    if classes:
        tables["Share of the labelled pixels"] = class_table(data)
    _print(tables, form)


@app.command(epilog=_example("convert /path/to/HSI-Drive drive.zarr --workers 8"))
def convert(
    root: Root,
    out: Annotated[Path, typer.Argument(help="Zarr store, or folder, to write.")],
    to: Annotated[
        Target, typer.Option(help="Zarr for dask and xarray; MATLAB or Python layout; ENVI for other tools.")
    ] = "zarr",
    layout: LayoutName = "",
    name: Names = None,
    split: Split = "",
    workers: Workers = 2,
    scheduler: Scheduler = "",
    interleave: Annotated[Interleave, typer.Option(help="By line, pixel or band (ENVI).")] = "bil",
    order: Annotated[Order, typer.Option(help="Of the bands (ENVI).")] = "ascending",
) -> None:
    """Write a data set in another form. A Zarr store that was interrupted goes on where it stopped."""
    from hsiutils.data import export

    data = _open(root.absolute(), layout)  # workers may be in other folders
    names = _chosen(data, name, split)
    try:
        if to == "zarr":
            made = export.to_zarr(data, out, names, workers=workers)
        elif to == "envi":
            write = partial(export.write_envi_set, interleave=interleave, order=order)
            made = write(data, out, names, workers=workers, progress=True)
        else:
            made = export.write_release(_hsi_drive(data), out, to, names, workers=workers, progress=True)
    except KeyboardInterrupt:
        further = "the same command goes on where it stopped" if to == "zarr" else "the same command writes it anew"
        say(f"Stopped. Every file in {out} is whole; {further}.")
        raise typer.Exit(130) from None
    say(f"{_scenes(names)} of {data.layout} ({data.origin}) written as {to}: {made}")


@app.command(epilog=_example("quicklook /path/to/HSI-Drive sheet.png --split test"))
def quicklook(
    root: Root,
    out: Annotated[Path, typer.Argument(help="PNG to write.")],
    layout: LayoutName = "",
    name: Names = None,
    split: Split = "",
    columns: Annotated[int, typer.Option(min=1, help="Scenes in a row.")] = 4,
    width: Annotated[int, typer.Option(min=1, help="Of one picture, pixels.")] = 204,
) -> None:
    """Write a contact sheet: every scene in pseudocolour beside its labels."""
    from hsiutils.plots.contact_sheet import contact_sheet

    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: a contact sheet is a PNG; name a file that ends in .png")
    data = _open(root, layout)
    names = _chosen(data, name, split)
    made = contact_sheet(data, out, names, columns=columns, width=width, progress=True)
    say(f"{_scenes(names)} ({data.origin}): {made}")


@app.command(epilog=_example("raw /path/to/HSI-Drive --white white.bin --dark 64 --exposure 4 --white-exposure 1"))
def raw(
    root: Annotated[Path, typer.Argument(help="Folder of the data set, or one frame, FRAME.bin.")],
    white: Annotated[str, typer.Option(help="White reference: a .bin frame, or a number of DN.")] = "",
    dark: Annotated[str, typer.Option(help="Dark reference: the same.")] = "",
    exposure: Annotated[float | None, typer.Option(help="Time of the frames, in any unit.")] = None,
    white_exposure: Annotated[float | None, typer.Option(help="Of the white reference, in the same unit.")] = None,
    median: Annotated[bool, typer.Option("--median", help="3x3 median filter at the end (MF).")] = False,
    layout: LayoutName = "",
    name: Names = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the cubes, as NAME_TC.mat.")] = None,
    form: Printed = "table",
) -> None:
    """Make cubes from raw frames with your references, and compare them with the released ones.

    One scene gives a table of its bands, several give a table of scenes. A simulated set knows its references.
    """
    from hsiutils.data.compare import exposure_ratio, read_reference
    from hsiutils.data.raw import read_frame, reflectance_cube
    from hsiutils.data.sensor import HSI_DRIVE

    data = None if root.suffix.lower() == ".bin" else _hsi_drive(_open(root, layout))
    sensor = data.sensor if data else HSI_DRIVE
    given = {**(_own_references(data) if data else {}), **{k: v for k, v in (("white", white), ("dark", dark)) if v}}
    if lacking := [f"--{key}" for key in ("white", "dark") if key not in given]:
        raise ValueError(f"give {' and '.join(lacking)}: a .bin frame or a number of DN; the release has none")
    whites, darks = (read_reference(given[key], sensor) for key in ("white", "dark"))
    ratio = exposure_ratio(exposure, white_exposure)
    chain = partial(reflectance_cube, white=whites, dark=darks, exposure_ratio=ratio, median=median)
    if data is None:
        cube = chain(read_frame(root, sensor), sensor)
        low, high = cube.quantile((0.01, 0.99))
        say(f"{root}: reflectance {low:.3g} to {high:.3g} (percentiles 1 and 99); nothing to compare it with")
        _write_cubes({root.stem: cube}.items(), out, median)
        return
    names = [one for one in _chosen(data, name, "") if data.found.scenes[one].raw is not None]
    if not names:
        raise ValueError(f"{data.root}: no raw frames of these scenes; expected raw/nfSWDS_NNN.bin beside the cubes")
    _print_comparison(data, names, chain, form)
    _write_cubes(((one, chain(data.frame(one), sensor, source=data.origin)) for one in names), out, median)


def _print_comparison(data: "HSIDrive", names: Sequence[str], chain: "Chain", form: Format) -> None:
    from hsiutils.data.compare import difference_table, remade, remade_table, verdict

    if len(names) == 1:
        _, comparison = remade(data, names[0], chain)
        _print(
            {f"{names[0]} from its raw frame, against the released cube (nominal nm)": difference_table(comparison)},
            form,
        )
        say(f"{names[0]}: {verdict(comparison)}.", form)
    else:
        table = remade_table(data, names, chain, progress=True)
        _print({"Cubes from raw frames, against the released ones": table}, form)
        low, high = table["scale"].min(), table["scale"].max()
        say(f"{len(table)} scenes; the factor to the released cube runs from {low:.4g} to {high:.4g}.", form)


def _write_cubes(cubes: "Iterable[tuple[str, xr.DataArray]]", out: Path | None, median: bool) -> None:
    from hsiutils.data.export import write_cube

    for name, cube in cubes if out else ():
        write_cube(cube, Path(str(out)) / f"{name}{'_MF' if median else ''}_TC.mat")
    if out:
        say(f"Cubes written to {out}")


def _own_references(data: "HSIDrive") -> dict[str, str]:
    """Those of a simulated set; a real one comes without."""
    if data.manifest is None:
        return {}
    places = {key: data.manifest.parent / "references" / f"{key}.bin" for key in ("white", "dark")}
    return {key: str(place) for key, place in places.items() if place.is_file()}


def _scenes(names: Sequence[str]) -> str:
    return f"{len(names)} scene{'' if len(names) == 1 else 's'}"


def _open(root: Path, layout: str) -> "Source":
    from hsiutils.data.source import open_dataset

    return open_dataset(root, layout=layout or None)


def _hsi_drive(data: "Source") -> "HSIDrive":
    from hsiutils.data.hsidrive import HSIDrive

    if not isinstance(data, HSIDrive):
        raise ValueError(f"{data.root}: a {type(data).__name__}; only HSI-Drive has raw frames and releases of its own")
    return data


def _chosen(data: "Source", names: Sequence[str] | None, split: str) -> list[str]:
    """The scenes asked for; all by default."""
    known = data.names(split or None)
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"{data.root}: no scene {', '.join(unknown)}{f' in split {split}' if split else ''}")
    return list(names or known)


def say(text: str, form: Format = "table") -> None:
    """Print a line; to stderr where stdout holds a table for programs."""
    # Plain text everywhere, also where a notebook would be offered HTML.
    Console(stderr=form != "table", force_jupyter=False).print(text, soft_wrap=True, markup=False, highlight=False)


def _print(tables: "dict[str, pd.DataFrame]", form: Format) -> None:
    """Print tables with what their rows are named by; as one document where it is for programs."""
    named = {
        title: table.reset_index(names=[n or "what" for n in table.index.names]) for title, table in tables.items()
    }
    if form == "csv":
        typer.echo("\n".join(table.to_csv(index=False) for table in named.values()), nl=False)
    elif form == "json":
        records = {title: json.loads(table.to_json(orient="records")) for title, table in named.items()}
        typer.echo(json.dumps(records if len(records) > 1 else next(iter(records.values())), indent=1))
    else:
        for title, table in named.items():
            print_table(table, title)


def print_table(frame: "pd.DataFrame", title: str, lines: bool = False) -> None:
    """Print the first rows of a table, with lines between them where a row may take several."""
    style = box.SQUARE if lines else box.SIMPLE_HEAD
    table = Table(
        title=title, title_justify="left", box=style, show_lines=lines, pad_edge=lines, collapse_padding=not lines
    )
    for column, values in frame.items():
        number = values.dtype.kind in "fi"
        table.add_column(str(column), overflow="fold", justify="right" if number else "left", no_wrap=number)
    for row in frame.head(_MOST).itertuples(index=False):
        table.add_row(*map(_shown, row))
    Console(force_jupyter=False).print(table, markup=False)
    if len(frame) > _MOST:
        say(f"... and {len(frame) - _MOST} more; --format csv prints all.")


def _shown(value: Any) -> Text:
    if isinstance(value, float):
        return Text("" if value != value else f"{value:.4g}")  # nan is not itself
    return Text(str(value))
