"""Side by side with pytorch-grad-cam, on the same network: the same maps, and how long every pixel and class takes.

Run from the repository's root, in the environment of benchmarks/requirements.txt:

    python -m benchmarks.peers --out data/results/peers.json
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import Target, region
from hsiutils.data.atomic import write_atomically
from hsiutils.models.unet import UNet, UNetConfig

LAYERS = {"first skip connection": "conv2d_1", "before the head": "conv2d_21"}
MAPS = {
    "GradCAM": "GradCAM",
    "GradCAM++": "GradCAMPlusPlus",
    "XGradCAM": "XGradCAM",
    "HiResCAM": "HiResCAM",
    "LayerCAM": "LayerCAM",
    "ScoreCAM": "ScoreCAM",
    "AblationCAM": "AblationCAM",
    "EigenCAM": "EigenCAM",
}
"""Our name -> pytorch-grad-cam's class."""


def import_peer() -> Any:
    """pytorch_grad_cam; it imports torchvision, which stops at operators that a CPU build of torch does not have."""
    if not torch.cuda.is_available():
        for operator in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", signature)
    return importlib.import_module("pytorch_grad_cam")


def quick_network(filters: int, dtype: torch.dtype, device: str) -> UNet:
    """25 channels, depth 5, with biases and batch statistics as after training (not trained: time does not care)."""
    draw = torch.Generator().manual_seed(0)
    model = UNet(UNetConfig(filters=filters), draw)
    with torch.no_grad():
        for layer in model.keras_layers().values():
            layer.bias.normal_(0, 0.1, generator=draw)
        for block in model.blocks():
            for norm in (block.norm1, block.norm2):
                norm.running_mean.normal_(0, 0.1, generator=draw)
                norm.running_var.uniform_(0.5, 2, generator=draw)
    return model.to(device, dtype).eval()


def one_image(size: tuple[int, int], dtype: torch.dtype, device: str) -> torch.Tensor:
    return (2 * torch.rand(25, *size, generator=torch.Generator().manual_seed(1)) - 1).to(device, dtype)


def peer_map(peer: Any, kind: str, model: UNet, x: torch.Tensor, layer: str, target: Any) -> np.ndarray:
    """The peer's map as it is before it is rectified and rescaled: what its get_cam_image returns."""
    with getattr(peer, kind)(model, [model.layer(layer, after=True)]) as cam, quiet():
        kept: list[np.ndarray] = []
        original = cam.get_cam_image
        cam.get_cam_image = lambda *arguments: kept.append(original(*arguments)) or kept[-1]
        cam(x[None], [target])
    return kept[0][0]


def agreement(peer: Any, size: tuple[int, int]) -> dict[str, dict[str, dict[str, float]]]:
    """Largest difference of each map from the peer's, over the peer's largest value, and their correlation."""
    model, x = quick_network(8, torch.float64, "cpu"), one_image(size, torch.float64, "cpu")
    mask = torch.zeros(size, dtype=torch.bool)
    mask[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    mean = region(model, x, 1, mask, mean=True)
    loud = Target(mean.weights * 1e12, "loud")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for place, layer in LAYERS.items():
        found[place] = {}
        for name, kind in MAPS.items():
            # The peer adds 1e-6 to GradCAM++'s denominator, which drowns the gradients of a mean; ScoreCAM's softmax is
            # trivial for large numbers.
            target = mean if name == "ScoreCAM" else loud
            theirs = peer_map(peer, kind, model, x, layer, lambda logits, t=target: t.value(logits[None])[0])
            ours = METHODS[name](model, x, target, layer).map.values
            found[place][name] = {
                "largest_relative_difference": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
                "correlation": float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]),
            }
    return found


def audit_speed(peer: Any, model: UNet, x: torch.Tensor, samples: int, repeats: int) -> dict[str, Any]:
    """GradCAM's residual at every pixel and class: one audit, against the peer's loop over a sample of pixels."""
    classes, (height, width) = model.config.classes, x.shape[1:]
    rng, logits = np.random.default_rng(0), classes * height * width
    found: dict[str, Any] = {"logits": logits, "sampled_pixels": samples}
    for place, layer in LAYERS.items():
        ours = timed(lambda layer=layer: audit(model, x, ["GradCAM"], [layer]), repeats)
        with peer.GradCAM(model, [model.layer(layer, after=True)]) as cam:

            def one(cam: Any = cam) -> None:
                channel, row, column = (int(rng.integers(limit)) for limit in (classes, height, width))
                cam(x[None], [lambda logits: logits[channel, row, column]])

            each = timed(one, repeats=samples)
        found[place] = {
            "audit_s": ours,
            "peer_s_a_pixel_and_class": each,
            "peer_s_extrapolated": each * logits,
            "times_faster": each * logits / ours,
        }
    return found


def decomposition_cost(model: UNet, x: torch.Tensor, repeats: int) -> dict[str, Any]:
    """The 25-band decomposition of every pixel and class, in forward passes of the network as it is.

    On a processor in its own seconds, which other work on the machine does not count into.
    """
    clock = time.process_time if x.device.type == "cpu" else time.perf_counter

    def forward() -> None:
        with torch.no_grad():
            model(x[None])

    # Forward passes before and after each decomposition: a machine that slows down slows both.
    rounds = [
        [timed(forward, clock=clock), timed(lambda: decompose(model, x), 1, clock), timed(forward, clock=clock)]
        for _ in range(repeats)
    ]
    found = decompose(model, x)
    return {
        "forward_s": median(one for before, _, after in rounds for one in (before, after)),
        "decomposition_s": median(whole for _, whole, _ in rounds),
        "forward_passes": median(2 * whole / (before + after) for before, whole, after in rounds),
        "pairs": repeats,
        "largest_relative_residual": float(found.relative.max()),
        "computed": found.computed,
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d"),
    }


def timed(action: Callable[[], object], repeats: int = 3, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds, after one run that does not count."""
    action()
    seconds = []
    for _ in range(repeats):
        synchronise()
        start = clock()
        action()
        synchronise()
        seconds.append(clock() - start)
    return median(seconds)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def quiet() -> Iterator[None]:
    """The peer's progress bars go nowhere."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 192), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--filters", type=int, default=8, help="of the first block: 8 for the quick network, 32 paper")
    parser.add_argument("--samples", type=int, default=30, help="pixels that the peer's loop is timed on")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of what is ours, of which the median counts")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--decomposition",
        action="store_true",
        help="measure the decomposition alone, and put it into the record that is there; needs no peer",
    )
    return parser.parse_args()


def main() -> None:
    given = options()
    size = tuple(given.size)
    model = quick_network(given.filters, torch.float32, given.device)
    x = one_image(size, torch.float32, given.device)
    if given.decomposition:
        record = json.loads(given.out.read_text()) | {"decomposition": decomposition_cost(model, x, given.repeats)}
        write_atomically(given.out, json.dumps(record, indent=2) + "\n")
        return
    peer = import_peer()
    record = {
        "network": {"channels": 25, "depth": 5, "filters": given.filters, "classes": 5, "image": list(size)},
        "machine": {
            "device": torch.cuda.get_device_name() if given.device == "cuda" else "CPU",
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 1),
        },
        "versions": {"torch": torch.__version__, "grad-cam": importlib.metadata.version("grad-cam")},
        "date": time.strftime("%Y-%m-%d"),
        "audit": audit_speed(peer, model, x, given.samples, given.repeats),
        "decomposition": decomposition_cost(model, x, given.repeats),
        "agreement_float64_96x192": agreement(peer, (96, 192)),
    }
    write_atomically(given.out, json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
