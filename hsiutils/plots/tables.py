"""Tables as HTML.

Numbers with their intervals as people read them in a table: text that no line break parts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.models.widgets.tables import NumberFormatter, ScientificFormatter, StringFormatter, TableColumn
from pandas.io.formats.style import Styler


def table(
    frame: pd.DataFrame,
    caption: str,
    formats: dict[str, Any] | None = None,
    missing: str = "unknown",
    empty: str = "nothing to show",
) -> Styler:
    """Show a table with a caption; wide ones scroll sideways on a phone.

    Parameters
    ----------
    frame : what to show; its index is left out unless it is named.
    caption : says what, of which data, in which unit.
    formats : column -> format string.
    missing : how an empty cell reads.
    empty : how a table without rows reads.
    """
    if frame.empty:
        frame, formats = pd.DataFrame({"": [empty]}), None
    named = frame.index.name
    if named:  # as the head of its own column: pandas would give it a row of its own
        frame = frame.rename_axis(index=None, columns=named)
    styler = frame.style.format(formats or {}, na_rep=missing).set_caption(caption)
    styler = styler.set_table_attributes('class="hsi-table"').set_uuid("t").set_table_styles([])
    if frame.columns.is_unique and frame.index.is_unique:  # else pandas cannot tell the cells apart
        styler = styler.set_td_classes(_words(frame))
    return styler if named else styler.hide(axis="index")


_SENTENCE = 40
"""Characters from which on a cell is read as a sentence, and its column kept wide enough for one."""


def _words(frame: pd.DataFrame) -> pd.DataFrame:
    """The class "hsi-words" for every cell of a column that holds sentences."""
    classes = {
        place: "hsi-words" if frame.iloc[:, place].map(lambda cell: len(str(cell)) >= _SENTENCE).any() else ""
        for place in range(frame.shape[1])
    }
    found = pd.DataFrame(classes, index=frame.index)
    return found.set_axis(frame.columns, axis=1)


def sortable(frame: pd.DataFrame, precision: Mapping[str, int] | None = None) -> hv.Table:
    """Show a table that the reader sorts by clicking on a column's head; it works in a page without a server.

    Parameters
    ----------
    frame : text and number columns; its index is left out.
    precision : column -> decimals; other numbers are written as powers of ten. An empty cell reads "-".
    """
    places = dict(precision or {})

    def keep_widths(plot: Any, element: Any) -> None:
        shown = plot.handles["table"]
        # Fixed widths: with the autosizing of columns bokeh 3.9 draws nothing and ends with "row is not defined".
        shown.autosize_mode, shown.sizing_mode = "none", "fixed"
        shown.index_position = None
        for column in shown.columns:
            column.formatter = _formatter(frame, column, places)
            column.width = max([7 * len(text) for text in (str(column.title), *_texts(frame, column))]) + 16
        shown.width = sum(column.width for column in shown.columns)

    height = 27 * (len(frame) + 1) + 4
    return hv.Table(frame, list(frame.columns), []).opts(hooks=[keep_widths], height=height, sortable=True)


def _texts(frame: pd.DataFrame, column: TableColumn) -> list[str]:
    """Text cells of a column; numbers are shorter than their heads."""
    values = frame[str(column.title)]
    return [] if pd.api.types.is_numeric_dtype(values) else [str(value) for value in values]


def _formatter(frame: pd.DataFrame, column: TableColumn, places: Mapping[str, int]) -> StringFormatter:
    name = str(column.title)  # the field is the name without spaces and signs
    if not pd.api.types.is_numeric_dtype(frame[name]):
        return StringFormatter()
    if name in places:
        return NumberFormatter(format="0." + "0" * places[name], nan_format="-", text_align="right")
    return ScientificFormatter(precision=1, nan_format="-", text_align="right")


def told(found: pd.DataFrame) -> pd.DataFrame:
    """Findings as people read them: one row a statement, its two intervals and what each of them allows to say."""
    rows = []
    for words, pair in found.groupby("statement", sort=False):
        row: dict[str, object] = {"statement": words}
        for one in pair.itertuples():
            row["difference"] = f"{one.difference:+.2f}"
            row[one.interval] = between(one.low, one.high, "{:+.2f}")
            row[f"{one.interval}:"] = _SIGNS.get(one.verdict, one.verdict)
        rows.append(row)
    columns = ["statement", "difference", "over seeds", "over seeds:", "over scenes", "over scenes:"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"over seeds:": "verdict", "over scenes:": "verdict "})


_SIGNS = {"holds": "above 0", "the reverse holds": "below 0"}
"""How a verdict reads where the statement names a difference."""


def ranges(found: pd.DataFrame, label: str, scale: float = 1.0, digits: int = 2) -> pd.DataFrame:
    """`hsiutils.paper.activations.by_variant` as people read it, in two columns of text.

    Returns
    -------
    One row an input: `label`, mean with its interval over scenes in brackets; seeds, least and most, unless there is
    one network only.
    """
    form, own = f"{{:.{digits}f}}", [scale * row for _, row in found.iterrows()]
    columns = {label: [valued(row["mean"], row["low"], row["high"], form) for row in own]}
    if found["least"].notna().any() or found["mean"].isna().all():
        columns["seeds"] = [between(row["least"], row["most"], form) for row in own]
    return pd.DataFrame(columns, index=found.index.rename("input"))


def beside(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of `ranges` side by side; columns of one name are told apart by spaces that do not show."""
    table = pd.concat(parts, axis=1)
    again = pd.Series(table.columns).groupby(table.columns).cumcount()
    return table.set_axis([name + "\u200b" * n for name, n in zip(table.columns, again, strict=True)], axis=1)


def valued(value: float, low: float, high: float, form: str = "{:.2f}") -> str:
    """A value with its interval in brackets, as one word that no line break parts."""
    return f"{form.format(value)}{_SPACE}({between(low, high, form)})" if np.isfinite(value) else "unknown"


def between(low: float, high: float, form: str = "{:.2f}") -> str:
    """A range as one word that no line break parts."""
    return f"{form}{_SPACE}to{_SPACE}{form}".format(low, high) if np.isfinite(low) and np.isfinite(high) else "unknown"


_SPACE = "\u00a0"
