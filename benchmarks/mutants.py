"""Faults planted one at a time in what every number rests on, and whether a test sees each: the record of mutmut.

`make mutants` runs it, on the modules and tests that pyproject.toml names in [tool.mutmut]. Why a survivor is none to
worry about is written into the record by hand, "equivalent: ..." or "accepted: ...", and kept while its line stays.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mutmut import __version__
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

CAUGHT = ("killed", "timeout")


def read(path: Path, reasons: dict[tuple[str, ...], str]) -> tuple[dict[str, Any], list[dict[str, Any]], float]:
    """Counts of one module, its survivors, and the seconds that its mutants took."""
    data = SourceFileMutationData(path=path)
    data.load()
    module, survivors = ".".join(path.with_suffix("").parts), []
    found = {name: status_by_exit_code[code] for name, code in data.exit_code_by_key.items()}
    for name in (name for name, status in found.items() if status not in CAUGHT):
        lines = get_diff_for_mutant(name, path=path).splitlines()[3:]
        was, now = ("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
        function = name.removeprefix(f"{module}.x").partition("__mutmut_")[0][1:].replace("ǁ", ".")
        survivors.append(
            {"module": module, "function": function, "status": found[name], "was": was, "now": now}
            | {"reason": reasons.get((module, function, was, now), "")}
        )
    count = Counter(found.values())
    if missing := count["not checked"]:
        raise SystemExit(f"{path}: {missing} mutants were not tried yet: make mutants goes on with them")
    counts = {"mutants": len(found), **count, "share": round(sum(count[one] for one in CAUGHT) / len(found), 4)}
    return counts, survivors, sum(one or 0 for one in data.durations_by_key.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write")
    out = parser.parse_args().out
    old = json.loads(out.read_text())["survivors"] if out.is_file() else []
    key = ("module", "function", "was", "now")
    reasons = {tuple(one[part] for part in key): one["reason"] for one in old}
    parts = {path: read(Path(path), reasons) for path in config().only_mutate}
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip(),  # noqa: S603
        "machine": {"processor": platform.machine(), "system": platform.platform(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "versions": {"mutmut": __version__},
        "seconds": round(sum(seconds for *_, seconds in parts.values())),
        "modules": {path: counts for path, (counts, *_) in parts.items()},
        "survivors": [one for _, survivors, _ in parts.values() for one in survivors],
    }
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    silent = [one for one in record["survivors"] if not one["reason"]]
    print(f"{out}: {len(record['survivors'])} survivors, {len(silent)} of them without a reason")


if __name__ == "__main__":
    main()
