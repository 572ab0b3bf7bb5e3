"""How audit and decomposition grow with pixels, channels, filters and depth: time, multiplications, peak memory.

GradCAM's residual at every pixel and class at the first skip connection, that of the input's decomposition, and the
decomposition by band; along each axis all else is as in `BASE`. Every round does all sizes, one after the other, and
the median over rounds counts. An exponent is the slope of a line through the logarithms, of the medians; its 95 %
interval comes from drawing whole rounds anew. Beside it stand the exponent of the multiplications, which are counted,
and `BOUND`, the power of the largest term, which a measured one approaches from below as sizes grow. And the peak of
resident memory of the audit against the limit that it is given, beside that of the affine map alone.

    OMP_NUM_THREADS=1 python -m benchmarks.growth --out data/results/growth.json

Some minutes on one core.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers import peak
from benchmarks.training import circumstances
from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.leaderboard import Counted
from hsiutils.attribution.linearise import linearise
from hsiutils.data.atomic import write_atomically
from hsiutils.models.unet import UNet, UNetConfig

LAYER = "conv2d_1"
BASE = {"pixels": (96, 96), "channels": 25, "filters": 8, "depth": 3}
AXES: Mapping[str, Sequence[Any]] = {
    "pixels": [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256)],
    "channels": [4, 8, 16, 32, 64],
    "filters": [4, 8, 12, 16, 24, 32],
    "depth": [1, 2, 3, 4, 5, 6],
}
LIMITED, LIMITS_MIB = (128, 128), (16, 32, 64, 128, 256)
"""Pixels of GradCAM's audit, and what limits its memory is given."""
TASKS: Mapping[str, Callable[..., object]] = {
    f"audit of GradCAM at {LAYER}": lambda model, x, **given: audit(model, x, ["GradCAM"], [LAYER], **given),
    "audit of the input's decomposition": lambda model, x: audit(model, x, ["linear decomposition"]),
    "decomposition by band": lambda model, x: decompose(model, x),
}
BOUND = {
    (f"audit of GradCAM at {LAYER}", "pixels"): 2,  # every logit is held against every pixel of the layer
    (f"audit of GradCAM at {LAYER}", "filters"): 3,  # a tangent a filter, and inside filters are joined with filters
    **{(task, "filters"): 2 for task in list(TASKS)[1:]},
}
"""Power of the largest term, by task and axis; 1 where nothing stands here."""


def subject(**changes: Any) -> tuple[UNet, Tensor]:
    """A network of random weights and an image for it, as in `BASE` but for the changes."""
    own, draw = BASE | changes, torch.Generator().manual_seed(0)
    sizes = {name: own[name] for name in ("channels", "filters", "depth")}
    model = UNet(UNetConfig(**sizes), draw).eval()
    return model, torch.rand(own["channels"], *own["pixels"], generator=draw)


def seconds(action: Callable[[], object]) -> float:
    """Of the processor."""
    began = time.process_time()
    action()
    return time.process_time() - began


def exponent(sizes: Sequence[float], rounds: NDArray[np.float64], draws: int = 1000) -> dict[str, float]:
    """The power of sizes that the medians over rounds (rounds, sizes) grow with, and its 95 % interval over rounds."""

    def slope(chosen: NDArray[np.float64]) -> float:
        return float(np.polyfit(np.log(sizes), np.log(np.median(chosen, axis=0)), 1)[0])

    rng = np.random.default_rng(0)
    again = [slope(rounds[rng.integers(len(rounds), size=len(rounds))]) for _ in range(draws)]
    low, high = np.percentile(again, [2.5, 97.5])
    return {"exponent": slope(rounds), "low": float(low), "high": float(high)}


def grown(axis: str, values: Sequence[Any], rounds: int) -> list[dict[str, Any]]:
    """How every task grows along an axis."""
    sizes = [int(np.prod(value)) for value in values]
    subjects = [subject(**{axis: value}) for value in values]
    found = []
    for task, call in TASKS.items():
        calls = [partial(call, model, x) for model, x in subjects]
        for one in calls:
            one()
        times = np.array([[seconds(one) for one in calls] for _ in range(rounds)])
        peaks = [peak(one) for one in calls]
        counted = [multiplications(one) for one in calls]
        forward = [multiplications(partial(model, x[None])) for model, x in subjects]
        found.append(
            {
                "task": task,
                "along": axis,
                "sizes": sizes,
                "bound": BOUND.get((task, axis), 1),
                "seconds": times.round(5).tolist(),
                "timed": exponent(sizes, times),
                "forward_passes": [round(one / own, 2) for one, own in zip(counted, forward, strict=True)],
                "counted": exponent(sizes, np.array([counted]))["exponent"],
                "peak_mib": peaks,
                "memory": exponent(sizes, np.array([peaks]))["exponent"] if all(peaks) else None,
            }
        )
        print({key: found[-1][key] for key in ("task", "along", "timed", "counted", "peak_mib")}, flush=True)
    return found


def multiplications(action: Callable[[], object]) -> int:
    """Of convolutions and matrix products."""
    with torch.no_grad(), Counted() as counted:
        action()
    return counted.multiplications


def limited(limits_mib: Sequence[int]) -> dict[str, Any]:
    """Peak of GradCAM's audit, without its result, by the memory that it may work in; and of the affine map alone."""
    model, x = subject(pixels=LIMITED)
    task = next(iter(TASKS.values()))
    result = sum(one.nbytes for one in task(model, x).values()) / 2**20
    peaks = [peak(partial(task, model, x, memory=limit << 20)) for limit in limits_mib]
    return {
        "limits_mib": limits_mib,
        "peaks_mib": [most and round(most - result, 1) for most in peaks],
        "map_mib": peak(partial(linearise, model, x)),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON record to write")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.monotonic()
    growth = [row for axis, values in AXES.items() for row in grown(axis, values, given.rounds)]
    record = {
        **circumstances(),
        "versions": {"torch": torch.__version__},
        "base": BASE,
        "growth": growth,
        "memory": limited(LIMITS_MIB),
        "seconds": round(time.monotonic() - began),
    }
    text = json.dumps(record, indent=1) + "\n"
    if given.out:
        write_atomically(given.out, text)
    print(text)


if __name__ == "__main__":
    main()
