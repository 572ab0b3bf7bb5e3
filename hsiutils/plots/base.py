"""What every figure shares: the backend, the palette, the size, and words for those who cannot see it."""

import html
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import holoviews as hv

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every common colour vision."""
SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"
HEIGHT = 340
"""Of charts, in screen pixels; their width follows the page."""
CHART: dict[str, Any] = {"responsive": True, "height": HEIGHT, "show_grid": True, "toolbar": None}


@dataclass(frozen=True)
class Figure:
    """A holoviews element that a notebook shows as HTML, with a description for screen readers."""

    element: Any
    alt: str

    def _repr_html_(self) -> str:
        quiet: AbstractContextManager[object] = nullcontext()
        if find_spec("IPython") is not None:
            from IPython.utils.capture import capture_output

            # Drops the empty display that holoviews opens beside each plot of a notebook, for a live server.
            quiet = capture_output(stdout=False, stderr=False)
        with quiet:
            data, _ = hv.renderer("bokeh").components(self.element, comm=False)
        return f'<div role="figure" aria-label="{html.escape(self.alt, quote=True)}">{data["text/html"]}</div>'


def start() -> None:
    """Load the plotting backend; the first thing that a chapter does."""
    hv.extension("bokeh", logo=False)
    hv.output(widget_location="bottom")


def show(element: Any, alt: str) -> Figure:
    """Show an element with a description of what is to be seen, which must not be empty."""
    if not alt.strip():
        raise ValueError("a figure needs a description (alt) for those who cannot see it")
    return Figure(element, alt)


def colour(index: int) -> str:
    """Return the palette's colour, starting over after the last."""
    return PALETTE[index % len(PALETTE)]


def pages(frames: Mapping[Any, Any], *by: str) -> hv.HoloMap:
    """Let the reader page through elements, the first first, in a page without a server.

    Elements go by their key, or by a tuple of keys, one for each slider; `by` names the sliders.
    """
    columns = zip(*(key if isinstance(key, tuple) else (key,) for key in frames), strict=True)
    dimensions = [hv.Dimension(name, values=list(dict.fromkeys(keys))) for name, keys in zip(by, columns, strict=True)]
    return hv.HoloMap(dict(frames), kdims=dimensions, sort=False)
