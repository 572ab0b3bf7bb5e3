"""The layouts in which HSI-Drive was released, and the files of one scene in each.

A layout is recognised by what is there: its folder, holding files of its names. To add one is to add a line to
`LAYOUTS`. Sources: HSI-Drive v1.1, v2.0 (MATLAB and Python) and v2.1 data descriptions and the authors' scripts.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

BASES = ("", "Image_dataset", "HSIDrive20")
"""Where, below the folder that the user names, a release may begin."""
FOLDER_SPLITS = {"training": "train", "validation": "val", "test": "test"}
"""Folders and file lists of the Python release, and what we call them."""
_NAME = r"(?P<name>nf\d{4}_\d{3})"


class DatasetError(ValueError):
    """A data set, or one file of it, is not what it should be; the message says which, what was expected, what came."""


@dataclass(frozen=True)
class Layout:
    """How one release stores its cubes.

    Attributes
    ----------
    name : what `HSIDrive.layout` calls it.
    folder : of the cubes, below the base; with `FOLDER_SPLITS` inside it where `by_split`.
    suffix : regular expression of what follows the scene's name in a cube's file name.
    extension : ".mat" or ".npy".
    variable : name of the array inside a .mat file.
    labels : folders that may hold the label images.
    bands_first : whether arrays are (band, y, x) or (y, x, band).
    units : of the values; only "reflectance" can be normalised per pixel with meaning.
    """

    name: str
    folder: str
    suffix: str
    extension: str = ".mat"
    variable: str = "cube"
    labels: tuple[str, ...] = ("labels", "Labels")
    bands_first: bool = True
    by_split: bool = False
    units: str = "reflectance"


_BAND_SCALED = "band-wise min-max scaled"
LAYOUTS: tuple[Layout, ...] = (
    Layout("v2.0 MATLAB", "cubes_fl32", "_TC"),
    Layout("v2.0 MATLAB MF", "cubes_fl32/MF", "_MF_TC"),
    Layout("v2.0 Python", "images", "(_TC)?", ".npy", "", ("annotations",), bands_first=False, by_split=True),
    Layout(
        "v2.0 Python MF", "images_MF", "(_MF)?(_TC)?", ".npy", "", ("annotations",), bands_first=False, by_split=True
    ),
    Layout("v2.1 unscaled", "Cubes_NoScaling", "_RC_TC", ".npy", ""),
    Layout("v2.1 unscaled MF", "Cubes_NoScaling/MF", "(_MF|_RC|_TC)+", ".npy", ""),
    Layout("v2.1 scaled", "Cubes_Scaling", "_RC_TC", ".npy", ""),
    Layout("v2.1 MATLAB unscaled", "cubes_fl32/Cubes_NoScaling", "_RC_TC"),
    Layout("v2.1 MATLAB unscaled MF", "cubes_fl32/Cubes_NoScaling/MF", "(_MF|_RC|_TC)+"),
    Layout("v2.1 MATLAB scaled", "cubes_fl32/Cubes_Scaling", "_RC_TC"),
    Layout("v1.1", "cubes_float32", "_MF_TC_N_fl32", variable="cube_fl32", units=_BAND_SCALED),
    # The authors' script casts reflectance to integers as it is: what is left of v2.0 is 0, 1, 2, 3 or 4.
    Layout("v2.0 MATLAB u16", "cubes_u16", "(_MF)?_TC_u16", variable="cube_u16", units="reflectance, whole numbers"),
    Layout("v1.1 u16", "cubes_uint16", "_MF_TC_N_u16", variable="cube_u16", units=_BAND_SCALED),
)
"""Every layout that is known, the preferred one first: a folder may hold several copies of the same images."""


@dataclass(frozen=True)
class SceneFiles:
    """The files of one scene."""

    name: str
    cube: Path
    labels: Path
    raw: Path | None
    split: str | None
    """As the release itself says; None where it does not."""


@dataclass(frozen=True)
class Found:
    """One layout, found in one place.

    Attributes
    ----------
    scenes : complete ones, by name.
    unlabelled : names that have a cube and no label image.
    without_cube : names that have a label image and no cube.
    """

    layout: Layout
    base: Path
    scenes: dict[str, SceneFiles] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    without_cube: tuple[str, ...] = ()


def find_layouts(root: Path) -> list[Found]:
    """Every layout present below `root`, the preferred one first.

    Raises
    ------
    DatasetError
        If a scene has two files where there must be one.
    """
    found = []
    for layout in LAYOUTS:
        for base in dict.fromkeys(root / base for base in BASES):
            cubes = _cube_files(base, layout)
            if cubes:
                found.append(_pair(layout, base, cubes))
    return found


def describe_search(root: Path) -> str:
    """What was looked for below `root` and what is there, for an error message."""
    looked_for = "\n".join(
        f"  {layout.name}: {layout.folder}/{'training|validation|test/' if layout.by_split else ''}"
        f"nfSWDS_NNN{layout.suffix}{layout.extension} with {' or '.join(layout.labels)}/"
        for layout in LAYOUTS
    )
    entries = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    there = ", ".join(entries[:20]) + (f" and {len(entries) - 20} more" if len(entries) > 20 else "")
    bases = ", ".join(base or "." for base in BASES)
    return f"looked in {bases} for\n{looked_for}\nfound in it: {there or 'nothing'}"


def _cube_files(base: Path, layout: Layout) -> dict[str, tuple[Path, str | None]]:
    pattern = re.compile(_NAME + layout.suffix + re.escape(layout.extension))
    return _by_name(base / layout.folder, pattern, layout.by_split)


def _by_name(folder: Path, pattern: re.Pattern[str], by_split: bool) -> dict[str, tuple[Path, str | None]]:
    """Scene name to its file, and to the split of the folder it is in."""
    places = [(folder / sub, split) for sub, split in FOLDER_SPLITS.items()] if by_split else [(folder, None)]
    files: dict[str, tuple[Path, str | None]] = {}
    for place, split in places:
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            match = pattern.fullmatch(path.name)
            if match is None:
                continue
            if match["name"] in files:
                raise DatasetError(
                    f"{path}: {match['name']} is there twice, also as {files[match['name']][0]}; keep one"
                )
            files[match["name"]] = (path, split)
    return files


def _pair(layout: Layout, base: Path, cubes: dict[str, tuple[Path, str | None]]) -> Found:
    label_pattern = re.compile(_NAME + r"(_[A-Za-z0-9_]+)?\.png")
    folders = [base / folder for folder in layout.labels if (base / folder).is_dir()]
    labels = _by_name(folders[0], label_pattern, layout.by_split) if folders else {}
    raw = next((base / folder for folder in ("raw", "RAW") if (base / folder).is_dir()), None)
    frames = _by_name(raw, re.compile(_NAME + r"\.bin"), False) if raw else {}
    listed = _listed_splits(base)
    scenes = {
        name: SceneFiles(name, cube, labels[name][0], frames.get(name, (None,))[0], listed.get(name, split))
        for name, (cube, split) in sorted(cubes.items())
        if name in labels
    }
    return Found(layout, base, scenes, tuple(sorted(cubes.keys() - labels)), tuple(sorted(labels.keys() - cubes)))


def _listed_splits(base: Path) -> dict[str, str]:
    """What the release's own {training,validation,test}_filenames.txt say."""
    splits: dict[str, str] = {}
    for word, split in FOLDER_SPLITS.items():
        path = base / f"{word}_filenames.txt"
        for name in re.findall(r"nf\d{4}_\d{3}", path.read_text(errors="replace")) if path.is_file() else []:
            if splits.setdefault(name, split) != split:
                raise DatasetError(f"{path}: lists {name}, which is in {splits[name]} already; a scene has one split")
    return splits
