"""The record of the slow suite: what was tried, and what failed, in data/results/faults.json once all of it has run."""

import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RECORD = Path(__file__).parents[2] / "data" / "results" / "faults.json"


@pytest.fixture(scope="session")
def tried(request: pytest.FixtureRequest) -> Iterator[dict[str, dict[str, Any]]]:
    """Counts by kind ("kills", "together", "inputs") and name; tests add theirs."""
    began, counts = time.monotonic(), {"kills": {}, "together": {}, "inputs": {}, "failures": {}}
    yield counts
    if not (counts["kills"] and counts["inputs"]):  # only part of the suite was asked for
        return
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"processor": platform.machine(), "system": platform.platform(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - began),
        "failed": request.session.testsfailed,
        **counts,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
