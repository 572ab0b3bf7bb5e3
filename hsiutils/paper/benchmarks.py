"""What the benchmarks recorded: the audit of every pixel beside the loop of another tool, timed in one run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

_RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"
RECORDS = (_RESULTS / "peers.json", _RESULTS / "peers_full_size.json")
"""Written by benchmarks/peers.py: of the quick network, and of the paper's size."""


def audit_times(records: Sequence[Path] = RECORDS) -> pd.DataFrame:
    """GradCAM's residual at every pixel and class: one audit, and a loop that asks for one map after the other.

    Returns
    -------
    DataFrame
        One row a record and layer: `image` (pixels), `filters`, `layer`, `audit` (s), `loop` (hours, extrapolated from
        some pixels), `ratio`.

    Raises
    ------
    ValueError
        If a file is no such record.
    """
    return pd.DataFrame(
        {
            "image": "{} x {}".format(*record["network"]["image"]),
            "filters": record["network"]["filters"],
            "layer": layer,
            "audit": times["audit_s"],
            "loop": times["peer_s_extrapolated"] / 3600,
            "ratio": times["times_faster"],
        }
        for record in map(_read, records)
        for layer, times in record["audit"].items()
        if isinstance(times, dict)
    )


def machine(records: Sequence[Path] = RECORDS) -> str:
    """Where and when the records were made, in words."""
    found = [_read(path) for path in records]
    made = {f"{one['machine']['device']}, {one['machine']['threads']} thread(s), {one['date']}" for one in found}
    return "; ".join(sorted(made))


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        record["network"]["image"], record["audit"], record["machine"]["threads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no benchmark record ({error!r}); a checkout of the repository has them in data/results, and "
            "python -m benchmarks.peers makes them there"
        ) from error
    return record
