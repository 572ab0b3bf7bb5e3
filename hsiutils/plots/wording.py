"""Numbers with their intervals as people read them in a table: text that no line break parts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


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
    """`hsiutils.activation_results.by_variant` as people read it, in two columns of text.

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
