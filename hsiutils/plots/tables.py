"""Tables as HTML."""

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler


def table(frame: pd.DataFrame, caption: str, formats: dict[str, Any] | None = None, missing: str = "unknown") -> Styler:
    """Show a table with a caption; wide ones scroll sideways on a phone.

    Parameters
    ----------
    frame : what to show; its index is left out unless it is named.
    caption : says what, of which data, in which unit.
    formats : column -> format string.
    missing : how an empty cell reads.
    """
    styler = frame.style.format(formats or {}, na_rep=missing).set_caption(caption)
    styler = styler.set_table_attributes('class="hsi-table"').set_uuid("t").set_table_styles([])
    return styler if frame.index.name else styler.hide(axis="index")
