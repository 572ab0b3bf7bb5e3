"""Pictures: class maps and maps of numbers in colour, and montages of them."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from skimage.transform import resize

from hsiutils.data.classes import Classes
from hsiutils.plots.base import DIVERGING, SEQUENTIAL

SAFE: Mapping[str, str] = {
    "Road": "#595959",
    "Road Marks": "#F0E442",
    "Vegetation": "#009E73",
    "Sky": "#56B4E9",
    "Other": "#D55E00",
}
"""Okabe and Ito's colours for HSI-Drive's classes, whose own red and green are not told apart by everybody."""
CLIP = (0.1, 99.9)
"""Percentiles at which maps are cut, as in the authors' code."""
MAP_COLOURS = 512
"""No map has more colours than this: palettes have 256."""


@dataclass(frozen=True)
class Picture:
    """Named pictures (rows, columns, 3) in so many columns, which a notebook shows as HTML.

    Attributes
    ----------
    title : stands above all of them; a line break is one.
    notes : by the name of a picture, what is written on it, one note below the other.
    """

    tiles: Mapping[str, NDArray[np.uint8]]
    columns: int = 2
    title: str = ""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        tiles = "".join(_tile(name, rgb, self.notes.get(name, ())) for name, rgb in self.tiles.items())
        title = f'<p class="hsi-title">{html.escape(self.title)}</p>' if self.title else ""
        columns = min(self.columns, len(self.tiles))
        return f'{title}<div class="hsi-montage" style="--hsi-columns: {columns}">{tiles}</div>'


def paint(indices: ArrayLike, classes: Classes, palette: Mapping[str, str] = SAFE) -> NDArray[np.uint8]:
    """Colour a map of class indices (rows, columns) as RGB (rows, columns, 3); void, and what is no class, is black.

    A class that is not in the palette (class name -> "#rrggbb") has the data set's own colour.
    """
    lookup = np.zeros((256, 3), dtype=np.uint8)
    for index, (name, own) in enumerate(zip(classes.names, classes.colours, strict=True)):
        lookup[index] = list(bytes.fromhex(palette[name][1:])) if name in palette else own
    return np.asarray(lookup[np.asarray(indices)])


def colourise(
    values: ArrayLike, limits: tuple[float, float] | None = None, cmap: str = SEQUENTIAL
) -> NDArray[np.uint8]:
    """Colour a map of numbers (rows, columns) between limits, by default the percentiles `CLIP`; not finite is grey."""
    grid = np.asarray(values, dtype=float)
    finite = np.isfinite(grid)
    low, high = limits or (tuple(np.percentile(grid[finite], CLIP)) if finite.any() else (0.0, 1.0))
    unit = np.clip((np.where(finite, grid, low) - low) / ((high - low) or 1.0), 0, 1)
    rgb = np.asarray(mpl.colormaps[cmap](unit)[..., :3] * 255).round().astype(np.uint8)
    rgb[~finite] = 128
    return rgb


def tinted(image: ArrayLike, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture (rows, columns, 3) of this size of an image (channels, h, w) in any units.

    The first three channels are red, green and blue; of one or two, and of more than four, grey shows their mean.
    """
    values = np.asarray(image, dtype=float)
    values = values[:3] if len(values) in (3, 4) else values.mean(0, keepdims=True).repeat(3, 0)
    low, high = np.percentile(values, (1, 99))
    unit = np.clip((values.transpose(1, 2, 0) - low) / ((high - low) or 1.0), 0, 1)  # (3, h, w) -> (h, w, 3)
    return np.asarray((resize(unit, size) * 255).round().astype(np.uint8))  # type: ignore[no-untyped-call]


def signed(values: ArrayLike, limit: float | None = None) -> NDArray[np.uint8]:
    """Colour a map of signed numbers (rows, columns) about zero: red for, blue against, white nothing.

    The last colour is that of the limit, by default `clip_limit`, the first that of its negative.
    """
    reach = (clip_limit(values) if limit is None else limit) or 1.0
    return colourise(values, (-reach, reach), DIVERGING)


def clip_limit(values: ArrayLike) -> float:
    """Larger absolute value of the percentiles `CLIP`."""
    return float(np.abs(np.nanpercentile(np.asarray(values, dtype=float), CLIP)).max())


def marked(picture: NDArray[np.uint8], places: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """A picture (rows, columns, 3) with a white frame, black around it, about each place (row, column)."""
    framed = picture.copy()
    for shade, reach in ((0, 5), (255, 4)):
        for row, column in places:
            inside = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
            framed[inside] = shade
    for row, column in places:
        inside = np.s_[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        framed[inside] = picture[inside]
    return framed


def montage(pictures: Mapping[str, NDArray[np.uint8]], columns: int = 2, title: str = "") -> Picture:
    """Show named pictures side by side."""
    return Picture(dict(pictures), columns, title)


def _tile(name: str, rgb: NDArray[np.uint8], notes: Sequence[str]) -> str:
    """A picture under its name; notes are written over it, one below the other in equal rows.

    Maps keep every value. A photograph, known by its many colours, loses what no eye sees.
    """
    file = io.BytesIO()
    colours = np.unique(rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32))  # (h, w, 3) -> (h, w)
    photograph = len(colours) > MAP_COLOURS
    Image.fromarray(rgb).save(file, "webp", lossless=not photograph, quality=90)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    written = "".join(f"<span>{html.escape(note)}</span>" for note in notes)
    over = f'<div class="hsi-notes">{written}</div>' if notes else ""
    size = f'width="{rgb.shape[1]}" height="{rgb.shape[0]}"'
    return f'<div class="hsi-tile"><p>{html.escape(name)}</p><div><img alt="" {size} src="{source}">{over}</div></div>'
