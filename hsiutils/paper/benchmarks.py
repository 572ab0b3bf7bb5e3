"""Beside other tools: the audit and another's loop, the simulated camera on a test bench, scenes of another renderer.

And of trainings: the time of a step, and the paper's network on a GPU; of faults, what was tried. What needs a tool or
a machine that the book does not have comes from a committed record, with its date; the bench is run anew.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.analysis.intervals import interval
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.results import RESULTS
from hsiutils.paper.run import centres_behind
from hsiutils.paper.table1 import class_iou, iou_of
from hsiutils.simulate import Simulation
from hsiutils.simulate.bench import edge_table, emva_table, on_bench, photon_transfer

RECORDS = (RESULTS / "peers.json", RESULTS / "peers_full_size.json")
"""Written by benchmarks/peers.py: of the quick network, and of the paper's size."""
EMVA_RECORD, RENDERER_RECORD = RESULTS / "emva1288.json", RESULTS / "mitsuba.json"
"""Written by benchmarks/camera.py and benchmarks/renderer.py."""
COMPARISONS = ("sun and sky", "all light")
_UNITS = {
    "system gain": "DN/e-",
    "saturation capacity": "e-",
    "full well": "e-",
    "dark noise": "e-",
    "dark current": "e-/s",
    "quantum efficiency": "1",
}


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


GPU_RECORD = RESULTS / "gpu.json"
"""Written by benchmarks/gpu_record.py."""
_NO_GPU = "There is no such record yet: python -m benchmarks.gpu_record makes it where a GPU is at hand."


def gpu_networks(record: Path = GPU_RECORD, seed: int = 0) -> tuple[pd.DataFrame, str]:
    """IoU of the paper's network at the paper's size, as trained on a GPU once, and in words where and when.

    `seed` is of the bootstrap over scenes.

    Returns
    -------
    DataFrame indexed by variant: mean over seeds of `mean` and of every class's IoU, percent, the bounds of a 95 %
    interval over the test scenes of the mean, `low` and `high`, and `seeds`; empty where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), _NO_GPU
    found = json.loads(record.read_text())
    seeds = pd.Series([one["variant"] for one in found["networks"]]).value_counts(sort=False)
    rows = []
    with xr.open_dataset(record.with_suffix(".nc"), engine="h5netcdf") as counts:
        for variant, count in seeds.items():
            own = counts[["confusion"]].sel(network=[f"{variant}, seed {number}" for number in range(count)]).load()
            merits = class_iou(own).mean("network").to_series()
            bounds = interval(own, lambda drawn: iou_of("mean")(drawn).mean("network"), seed=seed)
            rows.append({"mean": merits["mean"], "low": float(bounds["low"]), "high": float(bounds["high"])})
            rows[-1] |= merits.drop("mean").to_dict() | {"seeds": count}
    table = pd.DataFrame(rows, index=seeds.index.rename("variant"))
    size, scenes = " x ".join(map(str, found["image"])), found["scenes"]
    made = f"{found['device']}, {found['precision']}, {found['date']}"
    text = f"{scenes['train']} training and {scenes['test']} test scenes of {size} pixels, {found['filters']} filters; "
    return table, text + made


def gpu_costs(record: Path = GPU_RECORD, on_core: Path = RECORDS[1]) -> list[str]:
    """What the paper's network costs on a GPU, in sentences: feeding, checkpoints, memory, prediction, an audit.

    `on_core` is the record of the same audit on one core, which stands beside it.
    """
    if not record.is_file():
        return [_NO_GPU]
    found = json.loads(record.read_text())
    feeding, ahead, audits = found["feeding"], found["inference"], found["audit_at_first_skip"]
    steps, memory = np.array(feeding["epoch_s"]), found["networks"][0]["peak_gib"]
    fed = steps / np.array(feeding["epoch_on_one_batch_s"])
    usual = next(one for one in audits.values() if isinstance(one, dict))
    core = read_benchmark(on_core)["audit"]["first skip connection"]["audit_s"]
    one, eight = ahead["bfloat16, 1 at a time"], 8 * ahead["bfloat16, 8 at a time"]
    return [
        f"{found['device']}, {found['precision']}, {found['date']}: {feeding['images_s']:.0f} images a second in a "
        f"training{'' if memory is None else f', {memory:.1f} GiB of memory at most'}.",
        f"An epoch's steps on scenes take {np.median(fed):.2f} ({fed.min():.2f} to {fed.max():.2f}, {len(fed)} pairs) "
        "of what they take on one batch that stays there.",
        f"The checkpoint after every epoch takes {feeding['checkpoint_s']:.2f} s, the steps of {feeding['images']} "
        f"images {np.median(steps):.2f} s.",
        "A prediction takes, in ms an image: "
        + "; ".join(f"{name}, {1e3 * seconds:.2g}" for name, seconds in ahead.items())
        + f". Eight images together take {eight / one:.1f} times as long as one, in bfloat16.",
        f"GradCAM's audit of {usual['logits']:,} logits at {audits['layer']} takes {usual['audit_s']:.2f} s; one core "
        f"takes {core:.0f} s for an image of that size.",
    ]


LENS_RECORD = RESULTS / "lens.json"
"""Written by benchmarks/lens.py."""


def lens_table(record: Path = LENS_RECORD) -> tuple[pd.DataFrame, str]:
    """IoU of networks that were trained and tested behind lenses of several widths; in words when.

    Returns
    -------
    DataFrame with a row a lens and input: `blur (px)`, `variant`, and `mean` and every class's IoU, percent; empty
    where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no such record yet: python -m benchmarks.lens makes it."
    found = json.loads(record.read_text())
    rows = [
        {"blur (px)": one["blur_px"], "variant": one["variant"]}
        | {name: 100 * value for name, value in {"mean": one["mean_iou"], **one["iou"]}.items()}
        for one in found["networks"]
    ]
    return pd.DataFrame(rows), f"profile {found['profile']}, one seed, {found['precision']}, {found['date']}"


STEP_RECORD = RESULTS / "training_step.json"
"""Written by benchmarks/training.py."""


def step_times(record: Path = STEP_RECORD) -> tuple[pd.DataFrame, str]:
    """Milliseconds a training takes an image, and as a share of release 0.1.0's; in words where and when.

    The table is empty where there is no record.
    """
    if not record.is_file():
        return pd.DataFrame(), "There is no such record yet: python -m benchmarks.training makes it."
    found = json.loads(record.read_text())
    table = pd.DataFrame({"ms an image": found["ms_an_image"], "of release 0.1.0": found["of_release"]})
    table = table[[_of_training(name) for name in table.index]].rename_axis("training")
    share = f"{100 * found['share_of_convolution_rate']:.0f} % of the rate of the machine's best convolution"
    return table, f"{found['machine']['processor']}, one thread, {found['precision']}, {found['date']}; {share}"


def step_rounds(record: Path = STEP_RECORD) -> pd.DataFrame:
    """Every round of the same: `training`, `round` and `ms an image`; empty where there is no record."""
    if not record.is_file():
        return pd.DataFrame()
    rounds = json.loads(record.read_text())["rounds"]
    own = {name: seconds for name, seconds in rounds.items() if _of_training(name)}
    rows = [(name, number, 1e3 * one) for name, seconds in own.items() for number, one in enumerate(seconds, 1)]
    return pd.DataFrame(rows, columns=["training", "round", "ms an image"])


def _of_training(name: str) -> bool:
    """Whether a row of a record of benchmarks/training.py is a whole training."""
    return not name.endswith((", steps alone", ", prediction"))


FULL_STEP_RECORDS = (RESULTS / "training_full_size.json", RESULTS / "training_gpu.json")
"""Written by benchmarks/training.py at the paper's size: on one core, and on a GPU."""


def full_size_times(records: Sequence[Path] = FULL_STEP_RECORDS) -> tuple[pd.DataFrame, list[str]]:
    """Training step and prediction of the paper's network, and what others take for as many operations.

    Returns
    -------
    Table with a row a contestant of a record: `on` what, `by` whom, `step` and `prediction` (ms an image, medians of
    rounds), `of our step` and `of our prediction` (medians of the rounds' ratios); NaN where nobody timed it. And a
    sentence a record. Both are empty where there is none.

    Raises
    ------
    ValueError
        If a file is no such record.
    """
    rows: list[dict[str, Any]] = []
    words = []
    for path in filter(Path.is_file, records):
        found = read_benchmark(path, ("rounds", "machine", "date", "precision", "share_of_convolution_rate"))
        rounds = {name: 1e3 * np.array(seconds) for name, seconds in found["rounds"].items()}
        machine = found["machine"]
        where = machine.get("device", f"one core of {machine['processor']}")
        half = "bfloat16" if found["precision"] == "bf16-mixed" else "float32"
        for name, step in rounds.items():
            ours = name.startswith("this tree")
            by = name.removesuffix(", steps alone")
            if name.endswith(", prediction") or (ours and by == name):
                continue
            predicted = {"this tree": "", "this tree, float32": "this tree, prediction"}  # which computes in float32
            guess = rounds.get(predicted.get(by, f"{by}, prediction"))
            rows.append(
                {
                    "on": where,
                    "by": f"this tree, {half}" if by == "this tree" else by,
                    "step": np.median(step),
                    "of our step": np.median(step / rounds["this tree, steps alone"]),
                    "prediction": np.nan if guess is None else np.median(guess),
                    "of our prediction": np.nan
                    if guess is None
                    else np.median(guess / rounds["this tree, prediction"]),
                }
            )
        words.append(
            f"{where}, {found['date']}: {len(step)} rounds, {found['batch']['this tree']} images a step; ours "
            f"runs at {found['share_of_convolution_rate']:.0%} of the rate of the machine's best convolution"
        )
    return pd.DataFrame(rows), words


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
        f"Looked at first, files are read, {ours}. {found['machine']['processor']}, one thread, {found['date']}."
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
    rows = [(words, of, times) for kind, words in _TRIED.items() for of, times in found.get(kind, {}).items()]
    table = pd.DataFrame(rows, columns=["what", "of", "times"])
    sums = ", ".join(f"{own['times'].sum():,} {what}" for what, own in table.groupby("what", sort=False))
    return table, (
        f"Tried: {sums}. Failed: {found['failed']} tests. {found['date']}, {found['machine']['cores']} cores of "
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
    made = {f"{one['machine']['device']}, {one['machine']['threads']} thread(s), {one['date']}" for one in found}
    return "; ".join(sorted(made))


def camera_on_bench(seed: int = 0, levels: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The camera that the book simulates, on an EMVA 1288 bench.

    Returns
    -------
    A row a quantity: `quantity` with its unit, `asked`, `measured`, `deviation (%)`, `bound (%)`, and `emva1288` (what
    that package found, from the record). And the photon transfer curve: variance (DN squared, above that in the dark)
    `measured` and `asked`, by signal (DN above dark).
    """
    camera = on_bench(Simulation().camera)
    curve = photon_transfer(camera, seed, levels)
    found = emva_table(curve, camera)
    table = pd.DataFrame({"quantity": [f"{name} ({_UNITS[name]})" for name in found.index]}, found.index)
    table[["asked", "measured"]] = found[["asked", "measured"]]
    table["deviation (%)"], table["bound (%)"] = 100 * found["deviation"], 100 * found["bound"]
    table["emva1288"] = pd.Series(read_benchmark(EMVA_RECORD, ("measured",))["measured"])
    signal = (curve["mean"] - curve["dark_mean"]).to_numpy()
    noise = (curve["variance"] - curve["dark_variance"]).to_numpy()
    transfer = pd.DataFrame({"measured": noise, "asked": camera.dn_per_electron * signal}, signal)
    return table.reset_index(drop=True), transfer


def sharpness() -> tuple[pd.DataFrame, float]:
    """MTF50 `measured` and `asked` (cycles a pixel) by where a band sees (nm), and the largest relative deviation."""
    found = edge_table(Simulation())
    found = found.assign(nm=centres_behind(Simulation.long_pass_nm, HSI_DRIVE)).sort_values("nm")
    return found.set_index("nm")[["measured", "asked"]], float(found["deviation"].abs().max())


def against_renderer(record: Path = RENDERER_RECORD) -> tuple[pd.DataFrame, dict[str, tuple[float, float]]]:
    """How far the simulator's median radiance is from another renderer's, over surfaces and the 25 bands.

    Returns
    -------
    One row a surface of a scene: `scene`, `surface`, `light`, and in percent the median, least and most over the bands
    of both comparisons (without and with light that surfaces send to each other). And of each comparison, median and
    largest absolute relative deviation over all.
    """
    scenes = read_benchmark(record, ("scenes",))["scenes"]
    rows, every = [], {kind: np.array([]) for kind in COMPARISONS}
    for title, surface in ((scene["title"], surface) for scene in scenes for surface in scene["surfaces"]):
        row = {"scene": title, "surface": surface["material"], "light": surface["light"]}
        for kind in COMPARISONS:
            low, middle, high = np.percentile(100 * np.array(surface[kind]), [0, 50, 100])
            row[f"{kind} (%)"] = f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"
            every[kind] = np.append(every[kind], np.abs(surface[kind]))
        rows.append(row)
    return pd.DataFrame(rows), {kind: (float(np.median(all_)), float(all_.max())) for kind, all_ in every.items()}


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
