"""A picture of an encoder-decoder network: its blocks, and what runs between them."""

import holoviews as hv
import numpy as np
import pandas as pd

from hsiutils.plots.base import CHART, colour

_WIDEST, _TALLEST, _GAP = 0.7, 0.5, 0.08


def u_net(blocks: pd.DataFrame) -> hv.Overlay:
    """Draw the blocks of a U-Net, one a row in the order of computation, at the height of their level.

    Wider boxes have more channels (by their logarithm). Arrows between neighbours are what is computed next, dashed
    lines between two blocks of a level the skip connections.

    Parameters
    ----------
    blocks : columns `level`, of which the tensor is 2**level times smaller than the image along each axis; `channels`,
        of the output; `name`. Levels go down, and up again; a row of the level before it follows at the same height.

    Examples
    --------
    >>> from hsiutils.plots.base import start
    >>> start()
    >>> blocks = pd.DataFrame({"level": [0, 1, 0], "channels": [8, 16, 8], "name": ["down", "base", "up"]})
    >>> len(u_net(blocks))
    7
    """
    x, y = np.arange(len(blocks), dtype=float), -blocks["level"].to_numpy(dtype=float)
    channels = blocks["channels"].to_numpy(dtype=float)
    half = _WIDEST / 2 * np.log2(1 + channels) / np.log2(1 + channels.max())
    axes = ["block", "level"]
    boxes = hv.Rectangles((x - half, y - _TALLEST / 2, x + half, y + _TALLEST / 2)).opts(
        color=colour(5), line_color=colour(0)
    )
    level = blocks["level"].tolist()
    skips = [(one, level.index(level[one])) for one in range(1, len(blocks)) if level[one] < level[one - 1]]
    across = [(x[first] + half[first], y[one], x[one] - half[one], y[one]) for one, first in skips]
    after = [(x[i], y[i], x[i + 1], y[i + 1]) for i in range(len(blocks) - 1)]
    words = np.array([f"{name}\n{count:.0f}" for name, count in zip(blocks["name"], channels, strict=True)])
    # Where no line runs: above the top level, below the base, and else outside, below the middle of the box.
    base = int(y.argmin())
    places = {
        ("center", "bottom"): (y == 0, x, y + _TALLEST / 2),
        ("center", "top"): (np.arange(len(blocks)) == base, x, y - _TALLEST / 2 - _GAP),
        ("right", "top"): ((y < 0) & (x < base), x - half - _GAP, y),
        ("left", "top"): ((y < 0) & (x > base), x + half + _GAP, y),
    }
    labels = [
        hv.Labels((right[here], up[here], words[here]), axes, "words").opts(
            text_align=align, text_baseline=line, text_font_size="8pt", text_color="black"
        )
        for (align, line), (here, right, up) in places.items()
    ]
    parts = [
        hv.Segments(after, [*axes, "to block", "to level"]).opts(color=colour(4), line_width=2),
        hv.Segments(across, [*axes, "to block", "to level"]).opts(color=colour(0), line_dash="dashed", line_width=2),
        boxes,
        *labels,
    ]
    bare = {"xaxis": None, "yaxis": None, "show_grid": False, "show_frame": False, "show_legend": False}
    ends = {"xlim": (-0.8, len(blocks) - 0.2), "ylim": (y.min() - 0.9, 0.9)}
    return hv.Overlay(parts).opts(hv.opts.Overlay(**(CHART | bare | ends)))
