"""Figures: holoviews elements with axis labels, units and a colour-blind-safe palette, shown with a description."""

from hsiutils.plots.base import Figure, show, start
from hsiutils.plots.charts import bars, dots, lines, matrix
from hsiutils.plots.pictures import class_colours, image, montage, pages, paint
from hsiutils.plots.tables import table

__all__ = [
    "Figure",
    "bars",
    "class_colours",
    "dots",
    "image",
    "lines",
    "matrix",
    "montage",
    "pages",
    "paint",
    "show",
    "start",
    "table",
]
