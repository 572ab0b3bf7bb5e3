"""Pictures: class maps and maps of numbers in colour, and montages of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike, NDArray
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
_GAP = 4
"""Between the tiles of a montage, in pixels of the picture."""


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


def image(rgb: NDArray[np.uint8], title: str = "", labels: Sequence[tuple[float, float, str]] = ()) -> hv.Overlay:
    """Show a picture (rows, columns, 3) as wide as the page, its proportions kept.

    Labels are (column, row, text), in pixels from the upper left.
    """
    rows, columns = rgb.shape[:2]

    def keep_proportions(plot: Any, element: Any) -> None:
        plot.state.sizing_mode, plot.state.aspect_ratio = "scale_width", columns / rows

    bare: dict[str, Any] = {"responsive": True, "min_height": 100, "xaxis": None, "yaxis": None, "toolbar": None}
    picture = hv.RGB(rgb, bounds=(0, 0, columns, rows)).opts(
        title=title, fontsize={"title": 9}, hooks=[keep_proportions], **bare
    )
    texts = hv.Labels([(x, rows - y, text) for x, y, text in labels]).opts(
        text_align="left", text_baseline="top", text_color="white", text_font_size="9pt", background_fill_color="black"
    )
    return picture * texts


def montage(pictures: Mapping[str, NDArray[np.uint8]], columns: int = 2, title: str = "") -> hv.Overlay:
    """Show named pictures of one size side by side."""
    tiles = list(pictures.values())
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    labels = []
    for index, (name, tile) in enumerate(pictures.items()):
        top, left = index // columns * (height + _GAP), index % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
        labels.append((left + 1, top + 1, name))
    return image(sheet, title, labels)
