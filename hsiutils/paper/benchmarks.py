"""Records beside other tools: audits and maps, growth, reading, memory by the number of scenes, kills and faults.

What needs a tool or a machine that the book does not have comes from a committed record, with its date.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.results import RESULTS

RECORDS = (RESULTS / "peers.json", RESULTS / "peers_full_size.json")
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
        for record in map(read_benchmark, records)
        for layer, times in record["audit"].items()
        if isinstance(times, dict)
    )


def decompositions(records: Sequence[Path] = RECORDS) -> pd.DataFrame:
    """The exact decomposition by band of every pixel and class, on one core.

    Returns
    -------
    DataFrame
        One row a record: `image` (pixels), `filters`, `forward` (s, one pass of the network), `decomposition` (s),
        `passes` (the second over the first), `residual` (largest, of the sum's size) and `date`.

    Raises
    ------
    ValueError
        If a file is no such record.
    """
    found = [read_benchmark(path, ("network", "decomposition")) for path in records]
    return pd.DataFrame(
        {
            "image": "{} x {}".format(*record["network"]["image"]),
            "filters": record["network"]["filters"],
            "forward": record["decomposition"]["forward_s"],
            "decomposition": record["decomposition"]["decomposition_s"],
            "passes": record["decomposition"]["forward_passes"],
            "residual": record["decomposition"]["largest_relative_residual"],
            "date": record["decomposition"]["date"],
        }
        for record in found
    )


def beside_peers(record: Path = RECORDS[0]) -> tuple[pd.DataFrame, str]:
    """The same method from other tools, on one network, image and target; and in words how it was measured.

    Returns
    -------
    DataFrame
        One row a method of a tool: `tool`, `method`, `layer`, `difference` (largest, over the tool's largest value, in
        double precision), `times our time` (median of alternating pairs), `ours (MiB)` and `theirs (MiB)` (peak
        memory), and `remark` where the definitions differ.

    Raises
    ------
    ValueError
        If the file is no such record.
    """
    found = read_benchmark(record, ("methods", "versions", "not_run"))
    methods = found["methods"]
    names = {
        "peer": "tool",
        "method": "method",
        "layer": "layer",
        "largest_relative_difference": "difference",
        "times_our_time": "times our time",
        "ours_peak_mib": "ours (MiB)",
        "peer_peak_mib": "theirs (MiB)",
        "remark": "remark",
    }
    rows = pd.DataFrame(methods["rows"]).rename(columns=names)[list(names.values())]
    tools = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    left = "; ".join(f"{name} ({why})" for name, why in found["not_run"].items())
    text = f"{methods['rows'][0]['pairs']} {methods['how']}; {tools}; {methods['date']}. Not run: {left}"
    return rows, text


GROWTH_RECORD = RESULTS / "growth.json"
"""Written by benchmarks/growth.py."""


def growth(record: Path = GROWTH_RECORD) -> tuple[pd.DataFrame, str]:
    """How audit and decomposition grow along pixels, channels, filters and depth; and in words, with their memory.

    Returns
    -------
    DataFrame of one row a task and axis: `task`, `grows with`, `from` and `to` (sizes), `passes` (forward passes at the
    last), and the powers of the size that the largest term has (`at most`), that multiplications grow with (`counted`),
    processor time with its 95 % interval over rounds (`time`, `low`, `high`), and peak memory (`memory`). Empty where
    there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no such record yet: python -m benchmarks.growth makes it."
    found = json.loads(record.read_text())
    table = pd.DataFrame(
        {
            "task": row["task"],
            "grows with": row["along"],
            "from": row["sizes"][0],
            "to": row["sizes"][-1],
            "passes": row["forward_passes"][-1],
            "at most": row["bound"],
            "counted": row["counted"],
            "time": row["timed"]["exponent"],
            "low": row["timed"]["low"],
            "high": row["timed"]["high"],
            "memory": row["memory"],
        }
        for row in found["growth"]
    )
    below = (table["low"] <= table["at most"]).sum()
    steep = table.loc[table["time"].idxmax()]
    limits, peaks, own = (found["memory"][key] for key in ("limits_mib", "peaks_mib", "map_mib"))
    kept = [(peak - own, limit) for limit, peak in zip(limits, peaks, strict=True) if peak is not None]
    told = ", ".join(f"{peak:.0f} of {limit}" for peak, limit in kept) or "what was not measured"
    return table, (
        f"By the clock {below} of {len(table)} grow no faster than theory says. The steepest is the {steep['task']} "
        f"with {steep['grows with']}, to the power {steep['time']:.2f} ({steep['low']:.2f} to {steep['high']:.2f}); "
        f"its multiplications grow to the power {steep['counted']:.2f}, their largest term to the power "
        f"{steep['at most']}. Given a limit, GradCAM's audit takes {told} MiB beyond its affine map, "
        f"within the limit in {sum(peak <= limit for peak, limit in kept)} of {len(kept)}. "
        f"{found['machine']['processor']}, one thread, {found['date']}."
    )


READING_RECORD = RESULTS / "reading.json"
"""Written by benchmarks/reading.py."""


def reading_rates(record: Path = READING_RECORD) -> tuple[pd.DataFrame, str]:
    """Megabytes of a cube a second, read or made, and as a share of a copy in memory; in words where and when.

    The table, indexed by `way`, is empty where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no such record yet: python -m benchmarks.reading makes it."
    found = json.loads(record.read_text())
    rates = pd.Series(found["mb_s"])
    table = pd.DataFrame({"MB/s": rates, "of memory": rates / rates["copy in memory"]}).rename_axis("way")
    ours = " and ".join(
        f".{kind} at {rates[kind] / rates[theirs]:.2f} of the rate of {theirs.partition(', ')[2]}"
        for kind, theirs in (("mat", "mat, loadmat an item"), ("npy", "npy, numpy.load"))
    )
    return table, (
        f"The disk alone gives {found['disk_mb_s']:.0f} MB/s, files in the page cache {rates['bytes of a file']:.0f}. "
        f"Looked at for damage first, files are read, {ours}. {found['machine']['processor']}, one thread, "
        f"{found['date']}."
    )


MEMORY_RECORD = RESULTS / "memory.json"
"""Written by benchmarks/memory.py."""


def memory_growth(record: Path = MEMORY_RECORD) -> tuple[pd.DataFrame, str]:
    """Peak memory of all that goes over a data set, by the number of scenes; and in words what grows.

    Returns
    -------
    DataFrame indexed by `task`: MB above what the process held before, median over rounds, by the number of scenes, of
    which `most` are the largest; `kB a scene`, the slope, and its 95 % interval, `low` and `high`. Empty where there is
    no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no such record yet: python -m benchmarks.memory makes it."
    found = json.loads(record.read_text())
    tasks, scene = found["tasks"], found["scene_kb"]
    peaks = [pd.DataFrame(one["peaks_mb"], columns=["scenes", "MB"]).groupby("scenes")["MB"].median() for one in tasks]
    counts = sorted({count for own in peaks for count in own.index})
    few = {f"{count} scenes (MB)": [own.iloc[place] for own in peaks] for place, count in enumerate(counts[:2])}
    last = {"most": [own.index[-1] for own in peaks], "most (MB)": [own.iloc[-1] for own in peaks]}
    table = pd.DataFrame(few | last, index=pd.Index([one["task"] for one in tasks], name="task"))
    for name, key in {"kB a scene": "kb_a_scene", "low": "low", "high": "high"}.items():
        table[name] = [one[key] for one in tasks]
    planted = table.index.str.startswith("planted")
    alike = ~table.index.str.contains("heaviest")  # its scenes differ
    least, growth = table.loc[planted, "low"].min(), table.loc[~planted & alike, "kB a scene"]
    verdict = "which is seen" if least > growth.max() else "which is NOT seen beside the others' growth"
    size = 4 * len(HSI_DRIVE.bands) * HSI_DRIVE.tiles[0] * HSI_DRIVE.tiles[1] / 1e3
    rows, columns = found["tiles"]
    return table, (
        f"What keeps its scenes of {scene:.0f} kB grows by at least {least:.0f} kB a scene, {verdict}. Of what keeps "
        f"none, most grows {growth.idxmax()}, by {growth.max():.1f} kB a scene: {growth.max() / size:.2%} of one of "
        f"HSI-Drive. {counts[0]} to {counts[-1]} scenes of {rows} x {columns} pixels, {found['machine']['processor']}, "
        f"{found['date']}."
    )


FAULT_RECORD = RESULTS / "faults.json"
"""Written by make test-slow."""
_TRIED = {"kills": "killed, then done again", "together": "done by several at once", "inputs": "damaged files read"}


def faults(record: Path = FAULT_RECORD) -> tuple[pd.DataFrame, str]:
    """What the slow tests tried, as often as they did: `what`, `of`, `times`; in words when, and what failed.

    The table is empty where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no record of the slow tests yet: make test-slow makes it, in ten minutes."
    found = json.loads(record.read_text())
    rows = [
        (words, of.replace("_", " "), times)
        for kind, words in _TRIED.items()
        for of, times in found.get(kind, {}).items()
    ]
    table = pd.DataFrame(rows, columns=["what", "of", "times"])
    sums = ", ".join(f"{own['times'].sum():,} {what}" for what, own in table.groupby("what", sort=False))
    return table, (
        f"Tried: {sums}. Tests that failed: {found['failed']}. {found['date']}, {found['machine']['cores']} cores of "
        f"{found['machine']['processor']}, {found['seconds'] / 60:.0f} minutes."
    )


MUTANT_RECORD = RESULTS / "mutants.json"
"""Written by make mutants."""
_UNSEEN = {
    "equivalent": "change nothing",
    "accepted": "change what no test need hold (rounding, speed, words) or can see on a processor",
    "": "were not looked at",
}


def mutants(record: Path = MUTANT_RECORD) -> tuple[pd.DataFrame, str]:
    """How many planted faults tests see: `module`, `faults`, `seen`, `not seen` and `seen (%)`; and in words.

    A fault that lets a test run on and on is seen, too. The table is empty where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no record of planted faults yet: make mutants makes it, in half an hour."
    found = json.loads(record.read_text())
    rows = [
        (path.removeprefix("hsiutils/"), one["mutants"], one.get("killed", 0) + one.get("timeout", 0))
        for path, one in found["modules"].items()
    ]
    table = pd.DataFrame(rows, columns=["module", "faults", "seen"])
    table.loc[len(table)] = ["all", table["faults"].sum(), table["seen"].sum()]
    table["not seen"] = table["faults"] - table["seen"]
    table["seen (%)"] = (100 * table["seen"] / table["faults"]).round(1)
    why = Counter(one["reason"].partition(":")[0] for one in found["survivors"])
    said = "; ".join(f"{why[kind]} {words}" for kind, words in _UNSEEN.items() if why[kind])
    return table, (
        f"Of those not seen: {said or 'none'}. The record has each with its line and reason. "
        f"mutmut {found['versions']['mutmut']}, {found['date']}, {found['seconds'] / 60:.0f} minutes of one core."
    )


def machine(records: Sequence[Path] = RECORDS) -> str:
    """Where and when the records were made, in words."""
    found = [read_benchmark(path) for path in records]
    made = {f"{one['machine']['device']}, threads: {one['machine']['threads']}, {one['date']}" for one in found}
    return "; ".join(sorted(made))


def made(record: Path) -> str:
    """The tool and the date of a record, in words."""
    found = read_benchmark(record, ("versions", "date"))
    tool, version = next(iter(found["versions"].items()))
    return f"{tool} {version}, {found['date']}"


def read_benchmark(path: Path, parts: Sequence[str] = ("network", "audit", "machine")) -> dict[str, Any]:
    """The record of a benchmark, which has these parts; a ValueError if it is not there or has not."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        for part in parts:
            record[part]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: no benchmark record ({error!r}); a checkout of the repository has them in data/results, and "
            "benchmarks/README.md says what makes them"
        ) from error
    return record
