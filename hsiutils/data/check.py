"""Validate a data set on disk: everything that is wrong with it, in one table.

The reader (`hsiutils.data.hsidrive.open_hsi_drive`) stops at the first fault that it meets. This looks at every file,
and says of each fault where it is, what was expected, what was found and what to do.

What is wrong with one cube, label image or raw frame of HSI-Drive: every fault as a row of a table.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from hsiutils.data.files import cube_tiles, read_cube, read_labels, stored_dtype
from hsiutils.data.hsidrive import is_sealed, read_settings
from hsiutils.data.layouts import BASES, FOLDER_SPLITS, LAYOUTS, DatasetError, Layout, describe_search
from hsiutils.data.names import Conditions, name_table
from hsiutils.data.raw import read_frame
from hsiutils.data.sensor import HSI_DRIVE, Sensor

Severity = Literal["error", "warning", "note"]
REFLECTANCE = (0.0, 4.0)
"""Range of the released v2.0 cubes: reflectance against a white reference in other light is not bounded by one."""
_OUTSIDE = 0.01
"""Share of values beyond the range that noise and highlights explain."""
_FETCH = "fetch the file again"


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes
    ----------
    severity : "error" (the data cannot be read, or would be read wrongly), "warning" (it can, but look) or "note".
    scene : name, or "" for what concerns the whole data set.
    file : where.
    found, expected : in words.
    advice : what to do.
    """

    severity: Severity
    scene: str
    file: Path
    found: str
    expected: str
    advice: str


def check_cube(scene: str, path: Path, layout: Layout, bands: int, tiles: tuple[int, int]) -> Iterator[Finding]:
    """Faults of one cube: unreadable, of another shape or type, or with values that its layout does not have.

    Parameters
    ----------
    scene : name, for the findings.
    path, layout, bands, tiles : see `hsiutils.data.files.read_cube`.
    """
    expected = f"{bands} bands of {tiles[0]} x {tiles[1]} pixels ({layout.name})"
    try:
        values, dtype = read_cube(path, layout, bands, tiles), stored_dtype(path, layout)
    except Exception as error:  # on a garbled header the parsers raise whatever they trip over
        yield Finding("error", scene, path, _without_path(error, path), expected, f"{_FETCH}, or move it away")
        return
    wanted = "uint16" if layout.name.endswith("u16") else "float32"
    if dtype != wanted:
        loss = "rounded to whole numbers" if dtype[0] in "iu" else "larger than they need be"
        yield Finding("warning", scene, path, f"values stored as {dtype}", wanted, f"values may be {loss}; {_FETCH}")
    yield from _odd_values(scene, path, layout, values)


def _odd_values(scene: str, path: Path, layout: Layout, values: NDArray[np.float32]) -> Iterator[Finding]:
    unmeasured = ~np.isfinite(values)
    if unmeasured.any():
        found = f"{unmeasured.sum()} values in {unmeasured.any(axis=0).sum()} pixels are not finite"
        yield Finding("error", scene, path, found, "finite values", f"{_FETCH}; such pixels become zero under PN")
        values = np.where(unmeasured, np.float32(0), values)
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    if constant := np.flatnonzero(low == high).tolist():
        found = f"one value throughout in bands {constant}"
        yield Finding("error", scene, path, found, "an image in every band", f"{_FETCH}, or leave the scene out")
    elif layout.units.startswith("reflectance"):
        yield from _no_reflectance(scene, path, values, low, high)
    elif low.min() < 0 or (high.max() > 1 and "u16" not in layout.name):
        found = f"values from {low.min():.3g} to {high.max():.3g}"
        yield Finding("warning", scene, path, found, f"{layout.units}: 0 to 1", "see whether it is of this release")


def _no_reflectance(
    scene: str, path: Path, values: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> Iterator[Finding]:
    """Values that some other step of the chain leaves behind."""
    expected, mixed = "reflectance", "a file of another release or step among these; fetch the one of this release"
    if np.all(low == 0) and np.allclose(high, 1.0, rtol=0, atol=1e-6):
        yield Finding("error", scene, path, "every band runs from 0 to 1: band-wise scaled", expected, mixed)
        return
    if np.abs(values.sum(axis=0) - 1).max() < 1e-3:
        yield Finding("error", scene, path, "every pixel sums to one: PN was applied already", expected, mixed)
        return
    outside = float(np.mean((values < REFLECTANCE[0]) | (values > REFLECTANCE[1])))
    if outside > _OUTSIDE:
        low_limit, high_limit = REFLECTANCE
        found = f"{outside:.1%} of the values outside {low_limit:g}..{high_limit:g}, median {np.median(values):.3g}"
        advice = "raw numbers, or a wrong white reference: see how the file was made"
        yield Finding("error" if outside > 0.5 else "warning", scene, path, found, expected, advice)


def check_labels(scene: str, path: Path, tiles: tuple[int, int]) -> Iterator[Finding]:
    """Faults of one label image: unreadable, coloured, of another size, with unknown codes, or empty."""
    try:
        codes = read_labels(path, tiles)
    except Exception as error:  # as above
        found, expected = _without_path(error, path), f"codes 0..10, {tiles[0]} x {tiles[1]} pixels"
        yield Finding("error", scene, path, found, expected, f"{_FETCH}, or move it and its cube away")
        return
    if not codes.any():
        advice = "nothing to train on or to score: leave the scene out"
        yield Finding("warning", scene, path, "no pixel is labelled", "labelled pixels", advice)


def check_frame(scene: str, path: Path, sensor: Sensor) -> Iterator[Finding]:
    """Faults of one raw frame: cut short, of another sensor, or in another byte order."""
    expected = f"{sensor.frame_shape[0]} x {sensor.frame_shape[1]} little-endian uint16 of {sensor.bits} bits"
    try:
        read_frame(path, sensor)
    except (OSError, ValueError) as error:
        yield Finding("error", scene, path, _without_path(error, path), expected, _FETCH)


def _without_path(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ") or type(error).__name__


COLUMNS = ("severity", "scene", "file", "found", "expected", "what to do")
"""Of the table that `check_dataset` gives."""
_SEVERITIES = ("error", "warning", "note")
_NAME = r"nf\d{4}_\d{3}"
Files = dict[str, list[Path]]


@dataclass(frozen=True)
class _Listing:
    """What is there of one layout: the files of every scene, where a sound data set has one of each kind."""

    layout: Layout
    base: Path
    cubes: Files
    labels: Files
    frames: Files
    strays: tuple[Path, ...]
    """Files in the folder of the cubes that are none of this layout."""

    @property
    def names(self) -> list[str]:
        return sorted(self.cubes.keys() | self.labels.keys())


def check_dataset(
    root: Path | str, layout: str | None = None, sensor: Sensor = HSI_DRIVE, progress: bool = False
) -> pd.DataFrame:
    """Read every file of a data set and report all that is wrong.

    Parameters
    ----------
    root : the folder that was unpacked, or its Image_dataset.
    layout : name of one of `hsiutils.data.layouts.LAYOUTS`, to check it alone; every one that is there by default.
    sensor : the camera; resized to the cubes.
    progress : show a bar.

    Returns
    -------
    One row a fault with `COLUMNS`, errors first; no rows if all is well. The data set can be used as it is where no
    row says "error". Files are named from `root`.

    Raises
    ------
    DatasetError
        If there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected the unpacked HSI-Drive, or a simulated set")
    listings = [one for one in _listings(root) if layout in (None, one.layout.name)]
    findings = list(_findings(root, listings, sensor, progress))
    if not listings:
        advice = "name the folder that was unpacked"
        findings.append(Finding("error", "", root, "no HSI-Drive data", describe_search(root), advice))
    return _table(findings, root)


def _table(findings: Iterable[Finding], root: Path) -> pd.DataFrame:
    ordered = sorted(findings, key=lambda one: _SEVERITIES.index(one.severity))
    rows = [
        (one.severity, one.scene, str(one.file.relative_to(root)), one.found, one.expected, one.advice)
        for one in ordered
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _findings(root: Path, listings: list[_Listing], sensor: Sensor, progress: bool) -> Iterator[Finding]:
    yield from _different_scenes(listings)
    total = sum(len(listing.names) for listing in listings)
    with tqdm(total=total, unit="scene", disable=not progress) as bar:
        for listing in listings:
            yield from _names(listing)
            yield from _pairs(listing)
            yield from _strays(listing)
            yield from _file_lists(listing)
            yield from _contents(listing, sensor, bar)
    for base in {listing.base for listing in listings}:
        yield from _broken_seals(base, [one for one in listings if one.base == base])


def _listings(root: Path) -> list[_Listing]:
    places = dict.fromkeys(root / base for base in BASES)
    listings = [_listing(base, layout) for layout in LAYOUTS for base in places]
    return [one for one in listings if one.cubes]


def _listing(base: Path, layout: Layout) -> _Listing:
    def files(folder: Path, pattern: str, by_split: bool) -> Files:
        places = [folder / part for part in FOLDER_SPLITS] if by_split else [folder]
        return _by_name((path for place in places for path in _entries(place)), pattern)

    pattern = f"({_NAME}){layout.suffix}{re.escape(layout.extension)}"
    cubes = files(base / layout.folder, pattern, layout.by_split)
    label_folders = [base / folder for folder in layout.labels if (base / folder).is_dir()]
    raw_folders = [base / folder for folder in ("raw", "RAW") if (base / folder).is_dir()]
    known = {path for paths in cubes.values() for path in paths}
    return _Listing(
        layout=layout,
        base=base,
        cubes=cubes,
        labels=files(label_folders[0], rf"({_NAME})\w*\.png", layout.by_split) if label_folders else {},
        frames=files(raw_folders[0], rf"({_NAME})\.bin", False) if raw_folders else {},
        strays=tuple(p for p in _entries(base / layout.folder) if p.suffix == layout.extension and p not in known),
    )


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _by_name(paths: Iterable[Path], pattern: str) -> Files:
    files: Files = defaultdict(list)
    for path in paths:
        if match := re.fullmatch(pattern, path.name):
            files[match[1]].append(path)
    return dict(files)


def _different_scenes(listings: list[_Listing]) -> Iterator[Finding]:
    """Copies of the data set that do not hold the same scenes: releases were mixed, or unpacking was cut short."""
    for first, other in pairwise(listings):
        if differing := sorted(first.cubes.keys() ^ other.cubes.keys()):
            found = f"{len(first.cubes)} scenes as {first.layout.name}, {len(other.cubes)} as {other.layout.name}"
            expected = f"the same scenes; {_some(differing)} differ"
            advice = "unpack both again, or name the layout that you want"
            yield Finding("warning", "", other.base / other.layout.folder, found, expected, advice)


def _names(listing: _Listing) -> Iterator[Finding]:
    folder, numbers = listing.base / listing.layout.folder, defaultdict(list)
    for name in listing.names:
        path = (listing.cubes.get(name) or listing.labels[name])[0]
        try:
            numbers[Conditions.parse(name).number].append(name)
        except ValueError as error:
            yield Finding("error", name, path, f"a name that does not parse: {error}", "nfSWDS_NNN", "rename the files")
            continue
        if not listing.layout.name.startswith("v1") and name not in name_table().index:
            advice = "see whether conditions and number are right; HS3-Bench's split does not know it"
            yield Finding("warning", name, path, "no image of HSI-Drive v2.0", "one of its 752 names", advice)
    for number, names in numbers.items():
        if len(names) > 1:
            advice = "find out which conditions are right, and keep that one"
            yield Finding("error", names[1], folder, f"number {number:03d} is there as {_some(names)}", "once", advice)


def _pairs(listing: _Listing) -> Iterator[Finding]:
    for kind, files in (("cube", listing.cubes), ("label image", listing.labels), ("raw frame", listing.frames)):
        for name, paths in files.items():
            for path in paths[1:]:
                expected = f"one {kind}; the other is {paths[0].relative_to(listing.base)}"
                yield Finding("error", name, path, f"a second {kind} of this scene", expected, "keep one")
    for name in listing.names:
        if name not in listing.labels:
            yield _missing("error", name, listing.cubes[name][0], "label image", "/".join(listing.layout.labels[:1]))
        elif name not in listing.cubes:
            yield _missing("error", name, listing.labels[name][0], "cube", listing.layout.folder)
        if listing.frames and name not in listing.frames:
            path = (listing.cubes.get(name) or listing.labels[name])[0]
            yield _missing("note", name, path, "raw frame", "raw")


def _missing(severity: Severity, name: str, path: Path, kind: str, folder: str) -> Finding:
    advice = f"fetch the {kind} of {name}" + (", or move this file away" if severity == "error" else "")
    return Finding(severity, name, path, f"no {kind}", f"one in {folder}/", advice)


def _strays(listing: _Listing) -> Iterator[Finding]:
    others = {one.name: f"{_NAME}{one.suffix}{re.escape(one.extension)}" for one in LAYOUTS}
    for path in listing.strays:
        kin = [name for name, pattern in others.items() if re.fullmatch(pattern, path.name)]
        scene = (re.match(_NAME, path.name) or [""])[0]
        expected = f"nfSWDS_NNN{listing.layout.suffix}{listing.layout.extension}"
        if kin:
            found = f"a file of {_some(kin)} among those of {listing.layout.name}"
            yield Finding("warning", scene, path, found, expected, "it is not read; move it to its own folder")
        else:
            yield Finding("note", scene, path, "a file of another name", expected, "it is not read")


def _file_lists(listing: _Listing) -> Iterator[Finding]:
    places: dict[str, list[Path]] = defaultdict(list)
    for path in (listing.base / f"{word}_filenames.txt" for word in FOLDER_SPLITS):
        for name in re.findall(_NAME, path.read_text(errors="replace")) if path.is_file() else []:
            places[name].append(path)
    for name, paths in places.items():
        if len(set(paths)) > 1:
            found = "listed in " + " and ".join(path.name for path in paths)
            yield Finding("error", name, paths[1], found, "one split a scene", "remove it from one of them")
        if name not in listing.cubes:
            yield Finding(
                "warning", name, paths[0], "listed, but without a cube", "a file", "fetch it, or strike it out"
            )
    unlisted = sorted(listing.cubes.keys() - places.keys()) if places else []
    if unlisted:
        found, advice = f"{len(unlisted)} scenes in no list: {_some(unlisted)}", "the lists are then not used as splits"
        yield Finding("warning", "", listing.base, found, "every scene in one list", advice)


def _contents(listing: _Listing, sensor: Sensor, bar: "tqdm[None]") -> Iterator[Finding]:
    tiles = _usual_tiles(listing, sensor)
    yield from _turned(listing, tiles, sensor)
    seen: dict[str, Path] = {}
    fitting = sensor if tiles == sensor.tiles else sensor.resized(tiles)
    for name in listing.names:
        for path in listing.cubes.get(name, []):
            yield from check_cube(name, path, listing.layout, len(sensor.bands), tiles)
            yield from _copied(name, path, seen)
        for path in listing.labels.get(name, []):
            yield from check_labels(name, path, tiles)
        for path in listing.frames.get(name, []):
            yield from check_frame(name, path, fitting)
        bar.update()


def _usual_tiles(listing: _Listing, sensor: Sensor) -> tuple[int, int]:
    """Size that most cubes have; the sensor's if not one can be read."""
    sizes: Counter[tuple[int, int]] = Counter()
    for path in (path for paths in listing.cubes.values() for path in paths):
        try:
            sizes[cube_tiles(path, listing.layout, len(sensor.bands))] += 1
        except Exception:  # noqa: S112 - `check_cube` reports it, whatever a garbled header brings up
            continue
    return sizes.most_common(1)[0][0] if sizes else sensor.tiles


def _turned(listing: _Listing, tiles: tuple[int, int], sensor: Sensor) -> Iterator[Finding]:
    if tiles == sensor.tiles:
        return
    folder, found = listing.base / listing.layout.folder, f"cubes of {tiles[0]} x {tiles[1]} pixels"
    expected = f"{sensor.tiles[0]} x {sensor.tiles[1]} ({sensor.name})"
    if tiles == sensor.tiles[::-1]:
        yield Finding("error", "", folder, f"{found}: rows and columns exchanged", expected, "transpose the cubes")
    else:
        yield Finding("note", "", folder, found, expected, "right for a simulated or cropped set; taken as it is")


def _copied(name: str, path: Path, seen: dict[str, Path]) -> Iterator[Finding]:
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return  # `check_cube` reports it
    if content in seen:
        advice = "one of the two scenes is not what its name says; fetch both again"
        yield Finding("error", name, path, f"the same bytes as {seen[content].name}", "an image of its own", advice)
    seen.setdefault(content, path)


def _broken_seals(base: Path, listings: list[_Listing]) -> Iterator[Finding]:
    """Simulated scenes whose files are not those that the simulator wrote."""
    root = next((place for place in (base, base.resolve().parent) if (place / "simulation.json").is_file()), None)
    try:
        sealed = root is not None and "converted_from" not in read_settings(root)
    except ValueError as error:
        expected, advice = "the settings of a simulated set", "simulate it anew"
        yield Finding("error", "", base, f"a damaged simulation.json: {error}", expected, advice)
        return
    names = sorted({name for listing in listings for name in listing.names}) if sealed else []
    for name in names:
        if root and not is_sealed(root, name):
            path = base / next(one for one in listings if name in one.names).layout.folder
            found = "files that differ from their record, or no sound record"
            expected = f"files with the hashes in scenes/{name}.json"
            yield Finding("error", name, path, found, expected, "simulate the scene anew")


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
