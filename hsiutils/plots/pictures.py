"""Pictures: cubes as pseudo-colour, label maps, montages, and sliders through them."""

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hsiutils.data.classes import CLASSES, VOID

_CLASS_RGB = {"Road": "#595959", "Road Marks": "#F0E442", "Vegetation": "#009E73", "Sky": "#56B4E9", "Other": "#D55E00"}
_GAP = 4
"""Between the tiles of a montage, in pixels of the picture."""


def class_colours() -> dict[str, str]:
    """Colour of each class in label maps: Okabe and Ito's, not the data set's red and green."""
    return dict(_CLASS_RGB)


def paint(classes: ArrayLike) -> NDArray[np.uint8]:
    """Colour a map of class indices; void is black.

    Parameters
    ----------
    classes : (rows, columns) class indices, `VOID` for none.

    Returns
    -------
    (rows, columns, 3) RGB.
    """
    lookup = np.zeros((256, 3), dtype=np.uint8)
    for index, name in enumerate(CLASSES):
        lookup[index] = [int(_CLASS_RGB[name][k : k + 2], 16) for k in (1, 3, 5)]
    lookup[VOID] = 0
    return np.asarray(lookup[np.asarray(classes)])


def colourise(values: ArrayLike, limits: tuple[float, float] | None = None, cmap: str = "cividis") -> NDArray[np.uint8]:
    """Colour a map of numbers; what is not finite is grey.

    Parameters
    ----------
    values : (rows, columns)
    limits : values of the first and last colour; by default the 0.1 and 99.9 percentiles.
    """
    grid = np.asarray(values, dtype=float)
    finite = np.isfinite(grid)
    low, high = limits or (tuple(np.percentile(grid[finite], (0.1, 99.9))) if finite.any() else (0.0, 1.0))
    unit = np.clip((np.where(finite, grid, low) - low) / ((high - low) or 1.0), 0, 1)
    rgb = np.asarray(mpl.colormaps[cmap](unit)[..., :3] * 255).round().astype(np.uint8)
    rgb[~finite] = 128
    return rgb


def thinned(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """Every n-th row and column of a map (y, x, ...), so that at most so many rows are left: many pages stay small."""
    step = -(-values.shape[0] // rows)
    return values[::step, ::step]


def image(rgb: NDArray[np.uint8], title: str = "", labels: Sequence[tuple[float, float, str]] = ()) -> hv.Overlay:
    """Show a picture as wide as the page, its proportions kept.

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8.
    labels : (column, row, text) in pixels from the upper left.
    """
    rows, columns = rgb.shape[:2]
    picture = hv.RGB(rgb, bounds=(0, 0, columns, rows)).opts(
        responsive=True,
        min_height=100,
        xaxis=None,
        yaxis=None,
        toolbar=None,
        title=title,
        fontsize={"title": 9},
        hooks=[_keep_proportions(columns / rows)],
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


def pages(frames: Mapping[Any, Any], by: str) -> hv.HoloMap:
    """Let the reader page through elements with a slider, the first first; it works in a page without a server."""
    return hv.HoloMap(dict(frames), kdims=[hv.Dimension(by, values=list(frames))], sort=False)


def _keep_proportions(ratio: float) -> Any:
    def hook(plot: Any, element: Any) -> None:
        plot.state.sizing_mode = "scale_width"
        plot.state.aspect_ratio = ratio

    return hook
