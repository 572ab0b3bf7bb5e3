"""Networks of other libraries, as they are: does the exact decomposition close, and what does a tangent cost?

The U-Net of segmentation-models-pytorch on a ResNet-18, and FCN and DeepLabV3 of torchvision on a ResNet-50, all with
random weights and statistics. In float64 and float32: how far the parts of the three channels and of the biases are
from the logits, at every pixel and class; at random pixels and classes, how far GradCAM's audited sums are from a
backward pass for each; and seconds a tangent, in forward passes of the network, on one thread. From the root of the
repository, in the environment of `benchmarks.training` (benchmarks/README.md):

    python -m benchmarks.strangers --out data/results/strangers.json
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.training import circumstances, declare_operators
from hsiutils.attribution.audit import audit
from hsiutils.attribution.gates import Affine
from hsiutils.attribution.hooks import ask
from hsiutils.attribution.linearise import MEMORY
from hsiutils.attribution.methods import attribute
from hsiutils.attribution.targets import pixel
from hsiutils.data.atomic import write_atomically

CLASSES = 5


def networks() -> dict[str, Callable[[], nn.Module]]:
    """Name -> what builds it."""
    declare_operators()
    smp = import_module("segmentation_models_pytorch")
    vision = import_module("torchvision.models.segmentation")
    bare = {"weights": None, "weights_backbone": None, "num_classes": CLASSES}
    return {
        "U-Net, ResNet-18 (segmentation-models-pytorch)": lambda: smp.Unet(
            "resnet18", encoder_weights=None, classes=CLASSES
        ),
        "FCN, ResNet-50 (torchvision)": lambda: vision.fcn_resnet50(**bare),
        "DeepLabV3, ResNet-50 (torchvision)": lambda: vision.deeplabv3_resnet50(**bare),
    }


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """In evaluation, with statistics and biases as training leaves them: far from 0 and 1."""
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                tensor.data.normal_(0, 0.1, generator=draw)  # type: ignore[union-attr]
            for tensor in (module.running_var, module.weight):
                tensor.data.uniform_(0.5, 2, generator=draw)  # type: ignore[union-attr]
    return model.eval()


def closure(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Channels' parts plus biases less logits, over max(|logit|, 2-norm of the parts): the largest of all logits."""
    affine = Affine(model, x, exact=True)
    channels = affine.push(torch.eye(len(x)).to(x)[:, :, None, None] * x)
    parts = torch.cat([channels, affine.bias()[None]]).double()
    missed = (parts.sum(0) - affine.logits.double()).abs()
    scale = torch.maximum(affine.logits.double().abs(), parts.norm(dim=0))
    return {
        "largest_relative_residual": float((missed / scale).max()),
        "of_the_largest_logit": float(missed.max() / affine.logits.abs().max()),
    }


def audit_differs_by(model: nn.Module, x: Tensor, places: list[tuple[int, ...]]) -> float:
    """GradCAM's audited sums before the logits against its map of each logit: largest difference over largest sum."""
    maps = [attribute("GradCAM", model, x, pixel(model, x, *place), relu=True) for place in places]
    found = audit(model, x, ["GradCAM"], [maps[0].layer])
    sums = (found["residual"] + found["logit"])[0, 0]
    missed = [abs(float(sums[place]) - one.total) for place, one in zip(places, maps, strict=True)]
    return max(missed) / max(abs(one.total) for one in maps)


def cost(model: nn.Module, x: Tensor, repeats: int) -> dict[str, float]:
    """Of one tangent, in forward passes: in blocks as `decompose` takes them, pairs of both, one after the other."""
    affine = Affine(model, x, exact=True)
    block = min(affine.tangents_within(MEMORY), 12)
    tangents = torch.randn(block, *x.shape, generator=torch.Generator().manual_seed(1)).to(x)

    def seconds(action: Callable[[], object]) -> float:
        began = time.process_time()
        action()
        return time.process_time() - began

    def forward() -> object:
        return ask(model, x[None])

    affine.push(tangents), forward()  # the first calls warm up
    pairs = []
    for _ in range(repeats):
        before, whole, after = seconds(forward), seconds(lambda: affine.push(tangents)), seconds(forward)
        pairs.append((whole / block, (before + after) / 2))
    return {
        "tangents_together": block,
        "forward_s": median(forward for _, forward in pairs),
        "forwards_a_tangent": round(median(tangent / forward for tangent, forward in pairs), 3),
    }


def main(arguments: list[str] | None = None, builders: dict[str, Callable[[], nn.Module]] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON record to write")
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--pixels", type=int, default=5, help="pixels and classes asked one by one")
    parser.add_argument("--repeats", type=int, default=5, help="timed pairs, of which the median counts")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    rng = np.random.default_rng(given.seed)
    places = [tuple(int(rng.integers(size)) for size in (CLASSES, *given.size)) for _ in range(given.pixels)]
    for name, build in (builders or networks()).items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given.seed)  # other libraries draw their weights from the global generator
            model = randomised(build(), given.seed)
        image = torch.randn(3, *given.size, generator=torch.Generator().manual_seed(given.seed))
        found[name] = {"parameters": sum(each.numel() for each in model.parameters())}
        for dtype in (torch.float32, torch.float64):
            network, x = model.to(dtype), image.to(dtype)
            found[name][str(dtype).removeprefix("torch.")] = {
                **closure(network, x),
                "gradcam_audit_and_single_maps_differ_by": audit_differs_by(network, x, places),
                **cost(network, x, given.repeats),
            }
            print(name, found[name], flush=True)
    record = {
        **circumstances(),
        "versions": {
            name: version(name)
            for name in ("torch", "torchvision", "segmentation-models-pytorch")
            if builders is None or name == "torch"
        },
        "image": [3, *given.size],
        "seed": given.seed,
        "pixels_and_classes_one_by_one": given.pixels,
        "networks": found,
    }
    write_atomically(given.out, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
