"""Side by side with peers, on the same network, image and target: the same maps, what they cost, and the audit.

pytorch-grad-cam, captum and zennit, method by method: how far their maps are from ours, and how many times our time
they take, in alternating pairs on one thread, in the processor's own seconds. Run from the repository's root, in the
environment of benchmarks/requirements.txt:

    python -m benchmarks.peers --out data/results/peers.json
"""

import argparse
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.training import commit, declare_operators
from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import Target, region
from hsiutils.data.atomic import write_atomically
from hsiutils.models.unet import UNet, UNetConfig

PEERS = ("grad-cam", "captum", "zennit")
PARTS = ("audit", "decomposition", "methods")
NOT_RUN = {
    "EigenCAM of grad-cam": "another definition, of centred activations, with pixels x pixels numbers in memory",
    "interpret-segmentation": "RISE and Hausdorff distance masks: no method of ours is the same, and its RISE takes "
    "networks of one class only",
    "DEA (arXiv 2603.22624)": "its equations and code could not be had here; the abstract does not define it",
}
LAYERS = {"first skip connection": "conv2d_1", "before the head": "conv2d_21"}
MAPS = {
    "GradCAM": "GradCAM",
    "GradCAM++": "GradCAMPlusPlus",
    "XGradCAM": "XGradCAM",
    "HiResCAM": "HiResCAM",
    "LayerCAM": "LayerCAM",
    "ScoreCAM": "ScoreCAM",
    "AblationCAM": "AblationCAM",
}
"""Our name -> pytorch-grad-cam's class."""
REMARKS = {
    ("captum", "DeepLIFT"): "its rule reads tensors that a skip connection carries, too",
    ("captum", "LRP epsilon"): "starts from the gradient of the target, and reads what a skip connection carries",
    ("zennit", "LRP gamma"): "another definition: the peer favours biases and the first and last layer, too",
}


class Pair(NamedTuple):
    """One method of ours, and a peer's."""

    peer: str
    method: str
    layer: str
    ours: Callable[[], np.ndarray]
    theirs: Callable[[], np.ndarray]


def import_peer() -> Any:
    """pytorch_grad_cam; it imports torchvision, which stops at operators that a CPU build of torch does not have."""
    with contextlib.suppress(RuntimeError):  # they are there already
        declare_operators()
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


class _Explained(nn.Module):
    """Images -> the target's value, as captum wants it."""

    def __init__(self, model: nn.Module, target: Target) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x: Tensor) -> Tensor:
        return self.target.value(self.model(x))


def _with_gradcam(model: UNet, x: Tensor, target: Target, loud: Target) -> Iterator[Pair]:
    peer = import_peer()
    for layer in LAYERS.values():
        for name, kind in MAPS.items():
            # The peer adds 1e-6 to GradCAM++'s denominator, which drowns the gradients of a mean; ScoreCAM's softmax is
            # trivial for large numbers.
            asked = target if name == "ScoreCAM" else loud
            scalar = lambda logits, asked=asked: asked.value(logits[None])[0]  # noqa: E731
            yield Pair(
                "grad-cam",
                name,
                layer,
                lambda name=name, asked=asked, layer=layer: METHODS[name](model, x, asked, layer).map.values,
                lambda kind=kind, scalar=scalar, layer=layer: peer_map(peer, kind, model, x, layer, scalar),
            )


def _with_captum(model: UNet, x: Tensor, target: Target) -> Iterator[Pair]:
    captum = importlib.import_module("captum.attr")
    last = LAYERS["before the head"]

    def on(use: Callable[[nn.Module, Tensor], Tensor], fold: bool = False) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            with quiet():
                explained = _Explained(model.folded() if fold else model, target).eval()
                return use(explained, x[None].clone().requires_grad_())[0].detach().numpy()

        return run

    def lrp(explained: Any, x: Tensor) -> Tensor:
        rules = importlib.import_module("captum.attr._utils.lrp_rules")
        for module in explained.modules():
            if isinstance(module, nn.Identity | nn.ConvTranspose2d):
                module.rule = rules.EpsilonRule(1e-9)
        for block in explained.model.blocks():
            block.norm1, block.norm2, block.dropout = (nn.Dropout(0.0).eval() for _ in range(3))
        return captum.LRP(explained).attribute(x)

    runs = {
        "gradient": on(lambda f, x: captum.Saliency(f).attribute(x, abs=False)),
        "gradient x input": on(lambda f, x: captum.InputXGradient(f).attribute(x)),
        "Guided BackProp": on(lambda f, x: captum.GuidedBackprop(f).attribute(x), fold=True),
        "DeepLIFT": on(lambda f, x: captum.DeepLift(f).attribute(x), fold=True),
        "LRP epsilon": on(lrp, fold=True),
    }
    for name, run in runs.items():
        yield Pair("captum", name, "input", lambda name=name: METHODS[name](model, x, target).map.values, run)
    gradcam = lambda f, x: captum.LayerGradCam(f, f.model.layer(last, after=True)).attribute(x)[0]  # noqa: E731
    yield Pair("captum", "GradCAM", last, lambda: METHODS["GradCAM"](model, x, target, last).map.values, on(gradcam))


def _with_zennit(model: UNet, x: Tensor, target: Target) -> Iterator[Pair]:
    rules, types, composites, attribution = (
        importlib.import_module(f"zennit.{name}") for name in ("rules", "types", "composites", "attribution")
    )
    shared = [(types.Activation, rules.Pass()), (types.BatchNorm, rules.Epsilon(1e-9))]
    made = {
        "LRP epsilon": composites.LayerMapComposite([*shared, (types.Linear, rules.Epsilon(1e-9))]),
        "LRP gamma": composites.LayerMapComposite([*shared, (types.Linear, rules.Gamma(0.25, 1e-9))]),
        "Guided BackProp": composites.GuidedBackprop(),
    }

    def theirs(name: str) -> np.ndarray:
        network = model.folded().requires_grad_(False)
        weights = target.weights.to(x) if "LRP" not in name else None
        start = lambda out: out * target.weights.to(x) if weights is None else weights.expand_as(out)  # noqa: E731
        with attribution.Gradient(network, made[name]) as attributor:
            return attributor(x[None].clone().requires_grad_(), start)[1][0].detach().numpy()

    for name in made:
        ours = lambda name=name: METHODS[name](model, x, target).map.values  # noqa: E731
        yield Pair("zennit", name, "input", ours, lambda name=name: theirs(name))


def pairs_of(model: UNet, x: Tensor) -> Iterator[Pair]:
    """Each method that a peer which is there has, too, for the mean of a class over a rectangle."""
    _, height, width = x.shape
    mask = torch.zeros((height, width), dtype=torch.bool)
    mask[height // 3 : height // 2, width // 4 : width // 2] = True
    mean = region(model, x, 1, mask, mean=True)
    if installed("grad-cam"):
        yield from _with_gradcam(model, x, mean, Target(mean.weights * 1e12, "loud"))
    if installed("captum"):
        yield from _with_captum(model, x, mean)
    if installed("zennit"):
        yield from _with_zennit(model, x, mean)


def side_by_side(filters: int, size: tuple[int, int], repeats: int, names: list[str] | None) -> list[dict[str, Any]]:
    """Method by method: how far the maps are apart in double precision, and what they cost in single precision."""
    exact = quick_network(filters, torch.float64, "cpu"), one_image(size, torch.float64, "cpu")
    quick = quick_network(filters, torch.float32, "cpu"), one_image(size, torch.float32, "cpu")
    found = []
    for apart, timed_one in zip(pairs_of(*exact), pairs_of(*quick), strict=True):
        if names and apart.method not in names:
            continue
        ours, theirs = apart.ours(), np.squeeze(apart.theirs())
        seconds = alternating(timed_one.ours, timed_one.theirs, repeats)
        row = {
            "peer": apart.peer,
            "method": apart.method,
            "layer": apart.layer,
            "largest_relative_difference": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
            "correlation": float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]),
            "ours_s": median(one for one, _ in seconds),
            "peer_s": median(two for _, two in seconds),
            "times_our_time": median(two / one for one, two in seconds),
            "pairs": repeats,
            "ours_peak_mib": peak(timed_one.ours),
            "peer_peak_mib": peak(timed_one.theirs),
            "remark": REMARKS.get((apart.peer, apart.method), ""),
        }
        print(row, flush=True)
        found.append(row)
    return found


def alternating(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> list[tuple[float, float]]:
    """Processor seconds of both, one after the other, in pairs after one that does not count."""

    def seconds(action: Callable[[], object]) -> float:
        began = time.process_time()
        action()
        return time.process_time() - began

    return [(seconds(ours), seconds(theirs)) for _ in range(repeats + 1)][1:]


def peak(action: Callable[[], object]) -> float | None:
    """Most resident memory beyond what is held before, MiB; None where the system does not tell (not Linux)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, so that it is counted when it is taken again
    reset.write_text("5")
    held = _kib(status, "VmRSS")
    action()
    return round((_kib(status, "VmHWM") - held) / 1024, 1)


def _kib(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))


def installed(package: str) -> str | None:
    """The version of a package, if it is there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def made_now() -> dict[str, Any]:
    """Commit, day and load of a part of a record."""
    return {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "load_average": round(os.getloadavg()[0], 1)}


def audit_speed(peer: Any, model: UNet, x: torch.Tensor, samples: int, repeats: int) -> dict[str, Any]:
    """GradCAM's residual at every pixel and class: one audit, against the peer's loop over a sample of pixels.

    On a processor in its own seconds.
    """
    clock = time.process_time if x.device.type == "cpu" else time.perf_counter
    classes, (height, width) = model.config.classes, x.shape[1:]
    rng, logits = np.random.default_rng(0), classes * height * width
    found: dict[str, Any] = {"logits": logits, "sampled_pixels": samples}
    for place, layer in LAYERS.items():
        ours = timed(lambda layer=layer: audit(model, x, ["GradCAM"], [layer]), repeats, clock)
        with peer.GradCAM(model, [model.layer(layer, after=True)]) as cam:

            def one(cam: Any = cam) -> None:
                channel, row, column = (int(rng.integers(limit)) for limit in (classes, height, width))
                cam(x[None], [lambda logits: logits[channel, row, column]])

            each = timed(one, samples, clock)
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
        **made_now(),
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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write; parts that are there stay")
    parser.add_argument(
        "--parts", nargs="+", default=PARTS, choices=PARTS, help="what to measure; the audit needs grad-cam"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(96, 192), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--filters", type=int, default=8, help="of the first block: 8 for the quick network, 32 paper")
    parser.add_argument("--samples", type=int, default=30, help="pixels that the peer's loop is timed on")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs or pairs, of which the median counts")
    parser.add_argument("--methods", nargs="+", help="methods to compare; all by default")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of audit and decomposition")
    given = parser.parse_args(arguments)
    if given.device == "cpu":
        torch.set_num_threads(1)
    size = tuple(given.size)
    model = quick_network(given.filters, torch.float32, given.device)
    x = one_image(size, torch.float32, given.device)
    record = json.loads(given.out.read_text()) if given.out.is_file() else {}
    record.pop("agreement_float64_96x192", None)  # of records of former releases
    record |= {
        "network": {"channels": 25, "depth": 5, "filters": given.filters, "classes": 5, "image": list(size)},
        "machine": {
            "device": torch.cuda.get_device_name() if given.device == "cuda" else "CPU",
            "processor": torch.cpu.get_capabilities().get("cpu_name", platform.machine()),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "not_run": NOT_RUN,
    }
    record.setdefault("versions", {}).update({name: installed(name) for name in ("torch", *PEERS) if installed(name)})
    if "audit" in given.parts:
        record["audit"] = audit_speed(import_peer(), model, x, given.samples, given.repeats) | made_now()
        record["date"] = record["audit"]["date"]
    if "decomposition" in given.parts:
        record["decomposition"] = decomposition_cost(model, x, given.repeats)
    if "methods" in given.parts:
        rows = side_by_side(given.filters, size, given.repeats, given.methods)
        how = "alternating pairs of ours and the peer's, one thread, processor seconds, other work beside them"
        record["methods"] = {"how": how, "rows": rows, **made_now()}
    write_atomically(given.out, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
