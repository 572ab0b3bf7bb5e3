"""The layouts in which HSI-Drive was released, and the files of each scene in them.

A layout is recognised by what is there: its folder, holding files of its names, in whatever case. To add one is to add
a line to `LAYOUTS`. Sources: HSI-Drive v1.1, v2.0 (MATLAB and Python), v2.1 data descriptions and the authors' scripts.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from hsiutils.data.names import NAME

BASES = ("", "Image_dataset", "HSIDrive20")
"""Where, below the folder that the user names, a release may begin."""
FOLDER_SPLITS = {"training": "train", "validation": "val", "test": "test"}
"""Folders and file lists of the Python release, and what we call them."""
_LIST = re.compile(r"(train(ing)?|val(idation)?|test(ing)?)_filenames\.txt", re.IGNORECASE)
Files = dict[str, list[Path]]
"""Files by the scene that they are of; a sound data set has one of each kind."""
MAY_NOT, ASK = "may not be read", "ask for the right to, or change it with chmod"


class DatasetError(ValueError):
    """A data set, or one file of it, is not what it should be; the message says which, what was expected, what came.

    It ends with `advice`, what to do, where that is not to fetch the file again.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(f"{message}; {advice}" if advice else message)
        self.advice = advice


@dataclass(frozen=True)
class Layout:
    """How one release stores its cubes."""

    name: str
    folder: str
    """Of the cubes, below the base; with `FOLDER_SPLITS` inside it where `by_split`."""
    suffix: str
    """Regular expression of what follows the scene's name in a cube's file name."""
    extension: str = ".mat"
    variable: str = "cube"
    """Name of the array inside a .mat file."""
    labels: str = "labels"
    """Folder of the label images."""
    bands_first: bool = True
    """Whether arrays are (band, y, x) or (y, x, band)."""
    by_split: bool = False
    units: str = "reflectance"
    """Of the values; only "reflectance" can be normalised per pixel with meaning."""


_BAND_SCALED = "band-wise min-max scaled"
LAYOUTS: tuple[Layout, ...] = (
    Layout("v2.0 MATLAB", "cubes_fl32", "_TC"),
    Layout("v2.0 MATLAB MF", "cubes_fl32/MF", "_MF_TC"),
    Layout("v2.0 Python", "images", "(_TC)?", ".npy", "", "annotations", bands_first=False, by_split=True),
    Layout("v2.0 Python MF", "images_MF", "(_MF)?(_TC)?", ".npy", "", "annotations", bands_first=False, by_split=True),
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


class SceneFiles(NamedTuple):
    """The files of one scene."""

    name: str
    cube: Path
    labels: Path
    raw: Path | None
    split: str | None
    """As the release itself says; None where it does not."""


@dataclass(frozen=True, eq=False)
class Found:
    """All that is there of one layout in one place: cubes, labels and frames by scene, as they are."""

    layout: Layout
    base: Path
    cubes: Files
    labels: Files
    frames: Files
    strays: tuple[Path, ...]
    """Files in the folder of the cubes that are none of this layout."""
    lists: dict[Path, list[str]]
    """The release's own split lists, and the scenes in each."""

    @property
    def names(self) -> list[str]:
        """Every scene that has a cube or a label image."""
        return sorted(self.cubes.keys() | self.labels.keys())

    @cached_property
    def scenes(self) -> dict[str, SceneFiles]:
        """The complete scenes; DatasetError if one has two files where there must be one, or is in two lists."""
        for name, paths in (pair for files in (self.cubes, self.labels, self.frames) for pair in files.items()):
            if len(paths) > 1:
                raise DatasetError(f"{paths[1]}: {name} is there twice, also as {paths[0]}; keep one")
        splits: dict[str, str] = {}
        for path, name in ((path, name) for path, names in self.lists.items() for name in names):
            if (there := splits.setdefault(name, split_of_list(path))) != split_of_list(path):
                raise DatasetError(f"{path}: lists {name}, which is in {there} already; a scene has one split")
        scenes = {}
        for name in sorted(self.cubes.keys() & self.labels.keys()):
            (cube,), (labels,), frame = self.cubes[name], self.labels[name], self.frames.get(name, [None])[0]
            if name not in splits and self.layout.by_split:
                splits[name] = FOLDER_SPLITS[cube.parent.name.lower()]
            scenes[name] = SceneFiles(name, cube, labels, frame, splits.get(name))
        return scenes


def find_layouts(root: Path) -> list[Found]:
    """Every layout present below `root`, the preferred one first."""
    places = dict.fromkeys(inside(root, base) for base in BASES)
    everything = [_find(base, layout) for layout in LAYOUTS for base in places]
    return [found for found in everything if found.cubes]


def _find(base: Path, layout: Layout) -> Found:
    folder = inside(base, layout.folder)
    cubes = _by_name(folder, NAME + layout.suffix + re.escape(layout.extension), layout.by_split)
    if not cubes:
        return Found(layout, base, {}, {}, {}, (), {})
    known = {path for paths in cubes.values() for path in paths}
    strays = [path for path in entries(folder) if path.suffix.lower() == layout.extension and path not in known]
    return Found(
        layout=layout,
        base=base,
        cubes=cubes,
        labels=_by_name(inside(base, layout.labels), NAME + r"(_\w+)?\.png", layout.by_split),
        frames=_by_name(inside(base, "raw"), NAME + r"\.bin", False),
        strays=tuple(strays),
        lists={path: _listed(path) for path in entries(base) if _LIST.fullmatch(path.name)},
    )


def inside(folder: Path, name: str) -> Path:
    """What lies below a folder under a name, in whatever case; the plain path where nothing does."""
    for part in Path(name).parts:
        exact = folder / part
        same = [] if exact.exists() else [path for path in entries(folder) if path.name.lower() == part.lower()]
        folder = same[0] if same else exact
    return folder


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order; nothing where there is none; DatasetError if it may not be read."""
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except PermissionError as error:
        raise DatasetError(f"{folder}: {MAY_NOT}", ASK) from error


def _by_name(folder: Path, pattern: str, by_split: bool) -> Files:
    places = [inside(folder, part) for part in FOLDER_SPLITS] if by_split else [folder]
    files: Files = defaultdict(list)
    for path in (path for place in places for path in entries(place)):
        if match := re.fullmatch(pattern, path.name, re.IGNORECASE):
            files[match["name"].lower()].append(path)
    return dict(sorted(files.items()))


def _listed(path: Path) -> list[str]:
    """Scenes in a list, in whatever encoding: names are ASCII, and without zero bytes UTF-16 and UTF-32 are, too."""
    try:
        text = path.read_bytes().replace(b"\0", b"").decode("latin-1")
    except PermissionError as error:
        raise DatasetError(f"{path}: {MAY_NOT}", ASK) from error
    return [match["name"].lower() for match in re.finditer(NAME, text, re.IGNORECASE)]


def split_of_list(path: Path) -> str:
    """The split that a file list is of, by its name."""
    word = path.name.lower()
    return next(split for split in FOLDER_SPLITS.values() if word.startswith(split))


def describe_search() -> str:
    """What was looked for, for an error message."""
    looked_for = "\n".join(
        f"  {layout.name}: {layout.folder}/{'training|validation|test/' if layout.by_split else ''}"
        f"nfSWDS_NNN{layout.suffix}{layout.extension} with {layout.labels}/"
        for layout in LAYOUTS
    )
    return f"looked in {', '.join(base or '.' for base in BASES)} for\n{looked_for}"
