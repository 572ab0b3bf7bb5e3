"""Validate a data set on disk: everything that is wrong with it, in one table.

Opening a data set (`hsiutils.data.source.open_dataset`) stops at the first fault. This looks at every file, and says of
each fault where it is, what was expected, what was found and what to do.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from hsiutils.data.classes import HSI_DRIVE_CLASSES, VOID, Classes
from hsiutils.data.cube import fill_values
from hsiutils.data.files import cube_tiles, read_cube, read_labels, stored_array
from hsiutils.data.hsidrive import HSIDrive, is_sealed, manifest_folder, read_settings
from hsiutils.data.layouts import LAYOUTS, DatasetError, Found, Layout, describe_search, find_layouts, split_of_list
from hsiutils.data.names import NAME, Conditions, name_table
from hsiutils.data.raw import read_frame
from hsiutils.data.sensor import HSI_DRIVE, Sensor
from hsiutils.data.source import open_dataset, recognised

Severity = Literal["error", "warning", "note"]
COLUMNS = ("severity", "scene", "file", "found", "expected", "what to do")
"""Of the table that `check_dataset` gives."""
REFLECTANCE = (0.0, 4.0)
"""Range of the released v2.0 cubes: reflectance against a white reference in other light is not bounded by one."""
_OUTSIDE = 0.01
"""Share of values beyond the range that noise and highlights explain."""
_FETCH = "fetch the file again"


class Finding(NamedTuple):
    """One fault: an error (cannot be read, or would be read wrongly), a warning (it can, but look) or a note."""

    severity: Severity
    scene: str
    """Name, or "" for what concerns the whole data set."""
    file: Path
    found: str
    expected: str
    advice: str


def check_dataset(
    root: Path | str, layout: str | None = None, sensor: Sensor = HSI_DRIVE, progress: bool = False
) -> pd.DataFrame:
    """Read every file of a data set and report all that is wrong.

    Parameters
    ----------
    root : the folder that was unpacked; of HSI-Drive also its Image_dataset.
    layout : name of one of `hsiutils.data.layouts.LAYOUTS`, to check it alone; every one that is there by default.
    sensor : the camera of HSI-Drive; resized to the cubes.
    progress : show a bar.

    Returns
    -------
    One row a fault with `COLUMNS`, errors first; no rows if all is well. The data set can be used as it is where no
    row says "error". Files are named from `root`.

    Raises
    ------
    DatasetError
        If there is no such folder.

    Examples
    --------
    >>> import hsiutils as hu
    >>> data = hu.simulate_dataset("HSI-Drive", scenes=3, tiles=(8, 16), workers=1, progress=False)
    >>> data.files(data.names()[1])[0].unlink()
    >>> hu.check_dataset("HSI-Drive").loc[0, ["severity", "found"]].tolist()
    ['error', 'no cube']
    """
    root = Path(root)
    kind = recognised(root)
    if kind is None:
        expected = f"HSI-Drive, or another known data set: {describe_search()}"
        findings = iter([Finding("error", "", root, "no data set", expected, "name the folder that was unpacked")])
    elif kind is HSIDrive:
        everything = [files for files in find_layouts(root) if layout in (None, files.layout.name)]
        findings = _hsi_drive(everything, sensor, progress)
    else:
        findings = _opened(root, progress)
    order = ("error", "warning", "note")
    rows = [one._replace(file=str(one.file.relative_to(root))) for one in findings]  # type: ignore[arg-type]
    return pd.DataFrame(sorted(rows, key=lambda one: order.index(one.severity)), columns=list(COLUMNS))


def _opened(root: Path, progress: bool) -> Iterator[Finding]:
    """Faults of a data set that its adapter opens, scene by scene."""
    try:
        data = open_dataset(root)
    except DatasetError as error:
        yield _unread("", root, error, "a data set that opens")
        return
    for remark, value in data.remarks().items():
        yield Finding("note", "", root, f"{remark}: {value}", "to be known", "nothing, if that is as it should be")
    bands, tiles = len(data.sensor.bands), data.sensor.tiles
    for name in tqdm(data.names(), unit="scene", disable=not progress):
        cube, labels = data.files(name)[0], data.files(name)[-1]
        yield from _cube(name, cube, lambda name=name: data.cube(name).values, bands, tiles)  # type: ignore[misc]
        yield from _labels(name, labels, partial(data.labels, name), data.classes, tiles)


def _hsi_drive(everything: list[Found], sensor: Sensor, progress: bool) -> Iterator[Finding]:
    yield from _different_scenes(everything)
    with tqdm(total=sum(len(files.names) for files in everything), unit="scene", disable=not progress) as bar:
        for files in everything:
            for part in (_names, _pairs, _strays, _file_lists):
                yield from part(files)
            yield from _contents(files, sensor, bar)
    for base in {files.base for files in everything}:
        yield from _broken_seals(base, [files for files in everything if files.base == base])


def _contents(files: Found, sensor: Sensor, bar: "tqdm[None]") -> Iterator[Finding]:
    layout, bands, tiles = files.layout, len(sensor.bands), _usual_tiles(files, sensor)
    yield from _turned(files, tiles, sensor)
    seen: dict[str, Path] = {}
    fitting = sensor if tiles == sensor.tiles else sensor.resized(tiles)
    for name in files.names:
        for path in files.cubes.get(name, []):
            yield from _cube(name, path, partial(read_cube, path, layout, bands, tiles), bands, tiles, layout)
            yield from _copied(name, path, seen)
        for path in files.labels.get(name, []):
            read = partial(read_labels, path, tiles, HSI_DRIVE_CLASSES)
            yield from _labels(name, path, read, HSI_DRIVE_CLASSES, tiles)
        for path in files.frames.get(name, []):
            try:
                read_frame(path, fitting)
            except DatasetError as error:
                rows, columns = fitting.frame_shape
                yield _unread(name, path, error, f"{rows} x {columns} little-endian uint16 of {sensor.bits} bits")
        bar.update()


def _cube(
    scene: str,
    path: Path,
    read: Callable[[], NDArray[np.float32]],
    bands: int,
    tiles: tuple[int, int],
    layout: Layout | None = None,
) -> Iterator[Finding]:
    """Faults of one cube: unreadable, of another shape or type, or with values that its layout does not have."""
    try:
        values = read()
    except Exception as error:  # on a garbled header the parsers raise whatever they trip over
        expected = f"{bands} bands of {tiles[0]} x {tiles[1]} pixels" + (f" ({layout.name})" if layout else "")
        yield _unread(scene, path, error, expected, f"{_FETCH}, or move it away")
        return
    if layout is not None:
        yield from _stored_otherwise(scene, path, layout)
    measured = np.isfinite(values)
    if not measured.all():
        found = f"{(~measured).sum()} values in {(~measured.all(axis=0)).sum()} pixels are not finite"
        yield Finding("error", scene, path, found, "finite values", f"{_FETCH}; such pixels become zero under PN")
        values = np.where(measured, values, np.float32(0))
    if filled := fill_values(values):
        measured = ~np.isin(values, filled)
        count = f"{(~measured).sum()} values in {(~measured.all(axis=0)).sum()} pixels"
        found = f"{count} are {', '.join(f'{one:g}' for one in filled)}: fill values"
        advice = f"{_FETCH}; such pixels are taken as not measured, and become zero under PN"
        yield Finding("error", scene, path, found, "values of the camera", advice)
        values = np.where(measured, values, np.float32(0))
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    if constant := np.flatnonzero(low == high).tolist():
        found = f"one value throughout in bands {constant}"
        yield Finding("error", scene, path, found, "an image in every band", f"{_FETCH}, or leave the scene out")
    elif layout is not None and layout.units.startswith("reflectance"):
        yield from _no_reflectance(scene, path, values, low, high)
    elif layout is not None and (low.min() < 0 or (high.max() > 1 and "u16" not in layout.name)):
        found = f"values from {low.min():.3g} to {high.max():.3g}"
        yield Finding("warning", scene, path, found, f"{layout.units}: 0 to 1", "see whether it is of this release")


def _stored_otherwise(scene: str, path: Path, layout: Layout) -> Iterator[Finding]:
    with stored_array(path, layout.variable) as stored:
        found = f"values stored as {stored.dtype}"
    wanted = "uint16" if layout.name.endswith("u16") else "float32"
    if stored.dtype != wanted and np.can_cast(wanted, stored.dtype):
        advice = "nothing: no value is lost, the files are larger than they need be"
        yield Finding("note", scene, path, found, wanted, advice)
    elif stored.dtype != wanted:
        loss = "rounded to three digits" if stored.dtype == "float16" else "rounded to whole numbers, or cut off"
        yield Finding("warning", scene, path, found, wanted, f"values may be {loss}; {_FETCH}")


def _no_reflectance(
    scene: str, path: Path, values: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> Iterator[Finding]:
    """Values that some other step of the chain leaves behind."""
    expected, mixed = "reflectance", "a file of another release or step among these; fetch the one of this release"
    outside = float(np.mean((values < REFLECTANCE[0]) | (values > REFLECTANCE[1])))
    if np.all(low == 0) and np.allclose(high, 1.0, rtol=0, atol=1e-6):
        yield Finding("error", scene, path, "every band runs from 0 to 1: band-wise scaled", expected, mixed)
    elif np.abs(values.sum(axis=0) - 1).max() < 1e-3:
        yield Finding("error", scene, path, "every pixel sums to one: PN was applied already", expected, mixed)
    elif outside > _OUTSIDE:
        limits = f"{REFLECTANCE[0]:g}..{REFLECTANCE[1]:g}"
        found = f"{outside:.1%} of the values outside {limits}, median {np.median(values):.3g}"
        advice = "raw numbers, or a wrong white reference: see how the file was made"
        yield Finding("error" if outside > 0.5 else "warning", scene, path, found, expected, advice)


def _labels(
    scene: str, path: Path, read: Callable[[], NDArray[np.uint8]], classes: Classes, tiles: tuple[int, int]
) -> Iterator[Finding]:
    """Faults of one label image: unreadable, of another size, with unknown codes or colours, or empty."""
    try:
        found = classes.merge(read())
    except Exception as error:  # as above
        expected = f"codes of {len(classes.labels)} labels, {tiles[0]} x {tiles[1]} pixels"
        yield _unread(scene, path, error, expected, f"{_FETCH}, or move it and its cube away")
        return
    if (found == VOID).all():
        advice = "nothing to train on or to score: leave the scene out"
        yield Finding("warning", scene, path, "no pixel is labelled", "labelled pixels", advice)


def _unread(scene: str, path: Path, error: Exception, expected: str, advice: str = _FETCH) -> Finding:
    own = getattr(error, "advice", "")
    found = str(error).removeprefix(f"{path}: ").removesuffix(f"; {own}") or type(error).__name__
    return Finding("error", scene, path, found, expected, own or advice)


def _different_scenes(everything: list[Found]) -> Iterator[Finding]:
    """Copies of the data set that do not hold the same scenes: releases were mixed, or unpacking was cut short."""
    for first, other in pairwise(everything):
        if differing := sorted(first.cubes.keys() ^ other.cubes.keys()):
            found = f"{len(first.cubes)} scenes as {first.layout.name}, {len(other.cubes)} as {other.layout.name}"
            expected = f"the same scenes; {_some(differing)} differ"
            advice = "unpack both again, or name the layout that you want"
            yield Finding("warning", "", other.base / other.layout.folder, found, expected, advice)


def _names(files: Found) -> Iterator[Finding]:
    folder, numbers = files.base / files.layout.folder, defaultdict(list)
    for name in files.names:
        path = (files.cubes.get(name) or files.labels[name])[0]
        try:
            numbers[Conditions.parse(name).number].append(name)
        except ValueError as error:
            yield Finding("error", name, path, f"a name that does not parse: {error}", "nfSWDS_NNN", "rename the files")
            continue
        if not files.layout.name.startswith("v1") and name not in name_table().index:
            added = Conditions.parse(name).number > len(name_table())
            advice = "HS3-Bench's split does not know it: give split lists, or all scenes are split in seeded folds"
            advice = advice if added else f"see whether conditions and number are right; {advice}"
            severity: Severity = "note" if added else "warning"
            yield Finding(severity, name, path, "no image of HSI-Drive v2.0", "one of its 752 names", advice)
    for number, names in numbers.items():
        if len(names) > 1:
            advice = "find out which conditions are right, and keep that one"
            yield Finding("error", names[1], folder, f"number {number:03d} is there as {_some(names)}", "once", advice)


def _pairs(files: Found) -> Iterator[Finding]:
    folders = {"cube": files.layout.folder, "label image": files.layout.labels, "raw frame": "raw"}
    for (kind, folder), own in zip(folders.items(), (files.cubes, files.labels, files.frames), strict=True):
        for name, paths in own.items():
            for path in paths[1:]:
                expected = f"one {kind}; the other is {paths[0].relative_to(files.base)}"
                yield Finding("error", name, path, f"a second {kind} of this scene", expected, "keep one")
        for name in files.names:
            if name not in own and (own or kind != "raw frame"):
                severity: Severity = "note" if kind == "raw frame" else "error"
                advice = f"fetch the {kind} of {name}" + (", or move this file away" if severity == "error" else "")
                path = (files.cubes.get(name) or files.labels[name])[0]
                yield Finding(severity, name, path, f"no {kind}", f"one in {folder}/", advice)


def _strays(files: Found) -> Iterator[Finding]:
    others = {one.name: NAME + one.suffix + re.escape(one.extension) for one in LAYOUTS}
    for path in files.strays:
        kin = [name for name, pattern in others.items() if re.fullmatch(pattern, path.name, re.IGNORECASE)]
        scene = (re.match(NAME, path.name) or [""])[0]
        expected = f"nfSWDS_NNN{files.layout.suffix}{files.layout.extension}"
        found = f"a file of {_some(kin)} among those of {files.layout.name}" if kin else "a file of another name"
        advice = "it is not read; move it to its own folder" if kin else "it is not read"
        yield Finding("warning" if kin else "note", scene, path, found, expected, advice)


def _file_lists(files: Found) -> Iterator[Finding]:
    places: dict[str, list[Path]] = defaultdict(list)
    for path, names in files.lists.items():
        for name in names:
            places[name].append(path)
    for name, paths in places.items():
        if len({split_of_list(path) for path in paths}) > 1:
            found = "listed in " + " and ".join(path.name for path in paths)
            yield Finding("error", name, paths[1], found, "one split a scene", "remove it from one of them")
        if name not in files.cubes:
            found, advice = "listed, but without a cube", "fetch it, or strike it out"
            yield Finding("warning", name, paths[0], found, "a file", advice)
    unlisted = sorted(files.cubes.keys() - places.keys()) if files.lists else []
    if unlisted:
        found = f"{len(unlisted)} scenes in no list ({_some([path.name for path in files.lists])}): {_some(unlisted)}"
        advice = "add them; or move the lists away, and the scenes are split as HS3-Bench does, or in seeded folds"
        severity: Severity = "warning" if files.layout.by_split else "error"
        yield Finding(severity, "", files.base, found, "every scene in one list", advice)


def _usual_tiles(files: Found, sensor: Sensor) -> tuple[int, int]:
    """Size that most cubes have; the sensor's if not one can be read."""
    sizes: Counter[tuple[int, int]] = Counter()
    for path in (path for paths in files.cubes.values() for path in paths):
        try:
            sizes[cube_tiles(path, files.layout, len(sensor.bands))] += 1
        except Exception:  # noqa: S112 - `_cube` reports it, whatever a garbled header brings up
            continue
    return sizes.most_common(1)[0][0] if sizes else sensor.tiles


def _turned(files: Found, tiles: tuple[int, int], sensor: Sensor) -> Iterator[Finding]:
    folder, found = files.base / files.layout.folder, f"cubes of {tiles[0]} x {tiles[1]} pixels"
    expected = f"{sensor.tiles[0]} x {sensor.tiles[1]} ({sensor.name})"
    if tiles == sensor.tiles[::-1]:
        yield Finding("error", "", folder, f"{found}: rows and columns exchanged", expected, "transpose the cubes")
    elif tiles != sensor.tiles:
        yield Finding("note", "", folder, found, expected, "right for a simulated or cropped set; taken as it is")


def _copied(name: str, path: Path, seen: dict[str, Path]) -> Iterator[Finding]:
    if not path.is_file():
        return  # `_cube` reports it
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return  # `_cube` reports it
    if content in seen:
        advice = "one of the two scenes is not what its name says; fetch both again"
        yield Finding("error", name, path, f"the same bytes as {seen[content].name}", "an image of its own", advice)
    seen.setdefault(content, path)


def _broken_seals(base: Path, everything: list[Found]) -> Iterator[Finding]:
    """Simulated scenes whose files are not those that the simulator wrote."""
    try:
        root = manifest_folder(base)
        if root is None or "converted_from" in read_settings(root):
            return
    except ValueError as error:
        expected, advice = "the settings of a simulated set", "simulate it anew"
        yield Finding("error", "", base, f"a damaged simulation.json: {error}", expected, advice)
        return
    where = {name: files.layout.folder for files in everything for name in files.names}
    for name, folder in sorted(where.items()):
        if not is_sealed(root, name):
            found = "files that differ from their record or may not be read, or no sound record"
            expected, advice = f"files with the hashes in scenes/{name}.json", "let them be read, or simulate it anew"
            yield Finding("error", name, base / folder, found, expected, advice)


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
