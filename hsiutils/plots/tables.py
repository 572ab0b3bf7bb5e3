"""Tables and cards as HTML, and numbers with their intervals as text that no line break parts."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from pandas.io.formats.style import Styler

_SPACE = "\u00a0"
_SIDES = {"holds": "above 0", "the reverse holds": "below 0"}


def table(
    frame: pd.DataFrame,
    caption: str,
    formats: Mapping[str, str] | str | None = None,
    missing: str = "unknown",
    empty: str = "nothing to show",
    name: str = "",
) -> Styler:
    """Show a table with a caption; wide ones scroll sideways on a phone.

    Parameters
    ----------
    frame : what to show; its index is left out unless it is named.
    caption : says what, of which data, in which unit.
    formats : column -> format string, or one for every column of floats.
    missing : how an empty cell reads.
    empty : how a table without rows reads.
    name : by which text on the same page refers to it, with a link to `#table-NAME`.
    """
    if frame.empty:
        frame, formats = pd.DataFrame({"": [empty]}), None
    if isinstance(formats, str):
        formats = dict.fromkeys(frame.select_dtypes("floating").columns, formats)
    named = frame.index.name
    if named:  # as the head of its own column: pandas would give it a row of its own
        frame = frame.rename_axis(index=None, columns=html.escape(str(named)))
    styler = frame.style.format(dict(formats or {}), na_rep=missing, escape="html").set_caption(html.escape(caption))
    for axis in (0, 1):
        styler = styler.format_index(escape="html", axis=axis)
    own = f' data-name="{html.escape(name)}"' if name else ""
    styler = styler.set_table_attributes(f'class="hsi-table"{own}').set_uuid("t").set_table_styles([])
    if frame.columns.is_unique and frame.index.is_unique:  # else pandas cannot tell the cells apart
        long = frame.map(lambda cell: len(str(cell)) >= 40).any()  # a sentence, whose column is kept wide enough
        words = {name: "hsi-words" if long[name] else "" for name in frame.columns}
        styler = styler.set_td_classes(pd.DataFrame(words, index=frame.index))
    return styler if named else styler.hide(axis="index")


@dataclass(frozen=True)
class Cards:
    """Rows of a table, each on a card of its own; a notebook shows them as HTML."""

    frame: pd.DataFrame
    heading: str
    badges: tuple[str, ...]
    links: Mapping[str, Sequence[str]]
    folded: tuple[str, ...]

    def _repr_html_(self) -> str:
        return f'<ul class="hsi-cards">{"".join(map(self._card, range(len(self.frame))))}</ul>'

    def _card(self, place: int) -> str:
        row = {str(name): html.escape(str(cell)) for name, cell in self.frame.iloc[place].items()}
        row |= {name: f'<a href="{html.escape(to[place])}">{row[name]}</a>' for name, to in self.links.items()}
        heading = row.pop(self.heading)
        said = {name: cell for name in self.badges if (cell := row.pop(name))}
        kinds = {name: said[name].split(":")[0].split(" (")[0].split(",")[0].replace(" ", "-") for name in said}
        badges = "".join(
            f'<p class="hsi-badge {kinds[name]}"><b>{html.escape(name)}</b> {text}</p>' for name, text in said.items()
        )
        more = _pairs({name: row.pop(name) for name in self.folded})
        fold = f"<details><summary>How it is measured</summary>{more}</details>" if more else ""
        return f"<li><h3>{heading}</h3>{badges}{_pairs(row)}{fold}</li>"


def cards(
    frame: pd.DataFrame,
    heading: str,
    badges: Sequence[str] = (),
    links: Mapping[str, Sequence[str]] | None = None,
    folded: Sequence[str] = (),
) -> Cards:
    """Show every row of a table as a card, which a phone shows as well as a wide screen.

    Parameters
    ----------
    frame : what to show; empty cells are left out, and its index.
    heading : column that is a card's title.
    badges : columns of verdicts, whose colour follows their first words, up to a colon, a comma or a bracket.
    links : where the cells of a column lead, one address a row.
    folded : columns that the reader unfolds.
    """
    return Cards(frame, heading, tuple(badges), dict(links or {}), tuple(folded))


def _pairs(cells: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{cell}</dd>" for name, cell in cells.items() if cell)
    return f"<dl>{rows}</dl>" if rows else ""


def sortable(frame: pd.DataFrame, caption: str, precision: Mapping[str, int] | None = None) -> Styler:
    """Show a table, without its index, that the reader sorts by the heads of its columns in the book's pages.

    Numbers have as many decimals as `precision` says of their column, else powers of ten. An empty cell reads "-".
    """
    places = dict(precision or {})
    formats = {
        str(name): f"{{:.{places[name]}f}}" if name in places else "{:.1e}" for name in frame.select_dtypes("number")
    }
    styler = table(frame.reset_index(drop=True), caption, formats, missing="-")
    return styler.set_table_attributes('class="hsi-table hsi-sortable"')


def listed(values: pd.Series, form: str) -> str:
    """Figures in one line, each in a format, with its name in brackets.

    >>> listed(pd.Series({"25": 61.24, "25-PN": 70.0}), "{:.0f} %")
    '61 % (25), 70 % (25-PN)'
    """
    return ", ".join(f"{form.format(value)} ({name})" for name, value in values.items())


def spoken(findings: pd.DataFrame, empty: str) -> str:
    """Differences as text, a line a statement, of the frame that `verdicts` shows; `empty` where there is none.

    The interval is that over seeds, or over scenes where one network leaves no other.
    """
    lines = []
    for words, pair in findings.groupby("statement", sort=False):
        line = pair.sort_values("interval", ascending=False)  # over seeds before over scenes
        line = line[line["low"].notna()] if line["low"].notna().any() else line
        _, interval, gap, low, high, verdict = line.iloc[0]
        reach = f"[{low:+.2f}, {high:+.2f}] {interval}" if np.isfinite(low) else "one network on one scene"
        lines.append(f"{words}: {gap:+.2f} {reach}: {_SIDES.get(verdict, 'cannot be told from 0')}")
    return "\n".join(lines) or empty


def verdicts(findings: pd.DataFrame) -> pd.DataFrame:
    """Differences with one row a statement: its difference, both intervals and verdicts.

    Of a row an interval ("over seeds", "over scenes"): statement, interval, difference, low, high, verdict. Where there
    is no interval there is nothing to judge: both cells read "-".
    """
    rows = []
    for words, pair in findings.groupby("statement", sort=False):
        row: dict[str, object] = {"statement": words}
        for line in pair.itertuples():
            row["difference"] = f"{line.difference:+.2f}"
            known = np.isfinite(line.low)
            row[line.interval] = between(line.low, line.high, "{:+.2f}") if known else "-"
            row[f"{line.interval}:"] = _SIDES.get(line.verdict, line.verdict) if known else "-"
        rows.append(row)
    columns = ["statement", "difference", "over seeds", "over seeds:", "over scenes", "over scenes:"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"over seeds:": "verdict", "over scenes:": "verdict "})


def ranges(figures: pd.DataFrame, label: str, scale: float = 1.0, digits: int = 2) -> pd.DataFrame:
    """Figures of every variant in two columns of text, times `scale`, with so many digits behind the point.

    Of mean, least, most (over seeds), low, high (over scenes). One row an input: `label`, mean with its interval over
    scenes in brackets; seeds, least and most, unless there is one network only.
    """
    form = f"{{:.{digits}f}}"
    columns = {label: estimates(figures, "mean", form, scale)}
    if figures["least"].notna().any() or figures["mean"].isna().all():
        columns["seeds"] = [between(low, high, form) for low, high in (scale * figures[["least", "most"]]).to_numpy()]
    return pd.DataFrame(columns, index=figures.index.rename("input"))


def beside(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of `ranges` side by side; columns of one name are told apart by spaces that do not show."""
    table = pd.concat(parts, axis=1)
    again = pd.Series(table.columns).groupby(table.columns).cumcount()
    return table.set_axis([name + "\u200b" * n for name, n in zip(table.columns, again, strict=True)], axis=1)


def estimates(frame: pd.DataFrame, value: str, form: str = "{:.2f}", scale: float = 1.0) -> list[str]:
    """A column of values with their intervals in brackets, each as one word that no line break parts.

    Of the columns `value`, and its `_low` and `_high`, or low and high, times a scale such as 100 for percent.
    """
    bounds = [f"{value}{end}" if f"{value}{end}" in frame else end[1:] for end in ("_low", "_high")]
    return [
        f"{form.format(mean)}{_SPACE}({between(low, high, form)})" if np.isfinite(mean) else "unknown"
        for mean, low, high in (scale * frame[[value, *bounds]]).to_numpy(dtype=float)
    ]


def between(low: float, high: float, form: str = "{:.2f}") -> str:
    """A range as one word that no line break parts."""
    return f"{form}{_SPACE}to{_SPACE}{form}".format(low, high) if np.isfinite(low) and np.isfinite(high) else "unknown"


def seed_columns(values: xr.DataArray, mean: str, lowest: str, highest: str) -> dict[str, xr.DataArray]:
    """Columns of a table by these names: mean, lowest and highest over `seed`. One network has no spread to show."""
    columns = {mean: values.mean("seed")}
    if values.sizes["seed"] > 1:
        columns |= {lowest: values.min("seed"), highest: values.max("seed")}
    return columns
