"""Time that a training takes an image, side by side: this tree, release 0.1.0, a plain loop on another U-Net.

Each in a process of one thread, in turns: every round times all of them, and the median over rounds counts. What is
timed is the processor's time, which other work on the machine disturbs less. From the root of the repository, with
segmentation-models-pytorch in the environment (benchmarks/README.md):

    python -m benchmarks.training --out data/results/training_step.json
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

RELEASE = "9e5d5eb59b44d4f044354386ba5d0f56521a6e51"
"""The commit that is release 0.1.0."""
RECIPE_THEN = {"batch": 2, "learning_rate": 3e-3, "schedule": "one-cycle", "validate_every": 2}
"""Of profile quick in release 0.1.0, but for the number of epochs; dropout 0.5."""
SCENES, JUDGED, SIZE, CHANNELS, CLASSES, FILTERS = 78, 26, (96, 192), 25, 5, 8
"""As in profile quick."""


def scenes(count: int) -> TensorDataset:
    """Noise: time does not depend on what is in the images."""
    draw = torch.Generator().manual_seed(count)
    labels = torch.randint(0, CLASSES, (count, *SIZE), generator=draw)
    return TensorDataset(torch.rand(count, CHANNELS, *SIZE, generator=draw) * 2 - 1, labels)


def wait_for_turn() -> float:
    """The processor time at which a line on standard input says that the round begins."""
    sys.stdin.readline()
    return time.process_time()


def time_training(recipe: dict[str, Any], dropout: float, rounds: int) -> None:
    """Print the seconds an image of `hsiutils`'s own training, all of it: validation, checkpoints, record."""
    rooms = (Path(import_module("hsiutils").__file__ or "").parent / "models").is_dir()
    train, unet = (
        import_module(f"hsiutils.models.{name}" if rooms else f"hsiutils.{name}") for name in ("train", "unet")
    )
    every = recipe["validate_every"]
    config = unet.UNetConfig(channels=CHANNELS, classes=CLASSES, filters=FILTERS, norm_momentum=0.1, dropout=dropout)
    began = 0.0

    def tell(done: int, total: int, row: Any) -> None:
        nonlocal began
        if done % every == 0:
            if done > every:  # the first epochs warm up
                print(json.dumps((time.process_time() - began) / (every * SCENES)), flush=True)
            if done < total:
                began = wait_for_turn()

    made = train.Recipe(**{**recipe, "epochs": every * (rounds + 1)})
    with tempfile.TemporaryDirectory() as folder:
        train.fit(scenes(SCENES), scenes(JUDGED), config, made, 0, Path(folder), progress=tell, device="cpu")


def time_peer(flop: int, autocast: bool, batch: int, rounds: int) -> None:
    """Print the seconds an image of a loop as tutorials have it, on a U-Net of `flop` operations an image."""
    model = narrow_unet(flop).train()
    batches = DataLoader(scenes(SCENES), batch, shuffle=True)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)

    def epoch() -> None:
        for images, labels in batches:
            with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
                logits = model(images)
            adam.zero_grad()
            functional.cross_entropy(logits.float(), labels).backward()
            adam.step()

    epoch()
    for _ in range(rounds):
        began = wait_for_turn()
        epoch()
        print(json.dumps((time.process_time() - began) / SCENES), flush=True)


def declare_operators() -> None:
    """For torchvision, which torchmetrics imports where it is: it stops at operators that a CPU build does not have."""
    if find_spec("torchvision") and not torch.cuda.is_available():
        for operator in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", signature)


def narrow_unet(flop: int) -> torch.nn.Module:
    """segmentation-models-pytorch's U-Net on a ResNet-18 so narrow that it takes about `flop` operations an image."""
    smp = import_module("segmentation_models_pytorch")
    resnet = import_module("segmentation_models_pytorch.encoders.resnet")
    block = import_module("torchvision.models.resnet").BasicBlock

    class Narrow(resnet.ResNetEncoder):  # type: ignore[name-defined, misc]
        """ResNet-18 with `width` channels in its first stage, and twice as many in each that follows."""

        def __init__(self, width: int, **more: Any) -> None:
            super().__init__(block=block, layers=[2, 2, 2, 2], **more)
            self.inplanes = width
            self.conv1 = torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(width)
            for stage in range(4):
                stride = 1 if stage == 0 else 2
                setattr(self, f"layer{stage + 1}", self._make_layer(block, width * 2**stage, 2, stride=stride))

    def build(width: int) -> Any:
        outputs = [3, *(width * factor for factor in (1, 1, 2, 4, 8))]
        smp.encoders.encoders["narrow"] = {
            "encoder": Narrow,
            "params": {"out_channels": outputs, "width": width},
            "pretrained_settings": {},
        }
        decoder = [width * 4, width * 2, width, width // 2, width // 4]
        return smp.Unet("narrow", encoder_weights=None, in_channels=CHANNELS, classes=CLASSES, decoder_channels=decoder)

    return min((build(width) for width in range(8, 65, 2)), key=lambda model: abs(operations(model) - flop))  # type: ignore[no-any-return]


def operations(model: torch.nn.Module) -> int:
    """Floating-point operations for one image in evaluation, two a multiply-accumulate of a convolution."""
    with import_module("torch.utils.flop_counter").FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, CHANNELS, *SIZE))
    return int(counter.get_total_flops())


def convolution_rate(dtype: torch.dtype) -> float:
    """Operations a second of a convolution that suits the machine: 3 x 3, 128 channels to 128, one thread."""
    torch.set_num_threads(1)
    x = torch.rand(2, 128, *SIZE).to(dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(128, 128, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(7):
            began = time.process_time()
            functional.conv2d(x, kernel, padding=1)
            seconds.append(time.process_time() - began)
    return 2 * 2 * SIZE[0] * SIZE[1] * 128 * 128 * 9 / min(seconds)


class Contestant:
    """A process of one thread that times one round whenever it is asked."""

    def __init__(self, tree: Path, task: str, *arguments: Any) -> None:
        paths = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(Path(__file__).resolve()), "--task", task, json.dumps(arguments)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def seconds(self) -> float:
        """Seconds an image of one more round."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.process.args}: stopped before it was asked")
        return float(json.loads(answer))


def compare(release: Path, rounds: int, peer: bool) -> dict[str, Any]:
    """Times of this tree, of an unpacked release, and of the peer; here nothing is imported before it is needed."""
    from hsiutils.models.recipe import precision
    from hsiutils.models.unet import UNetConfig, flops
    from hsiutils.paper.run import profile

    flop, quick = flops(UNetConfig(channels=CHANNELS, classes=CLASSES, filters=FILTERS), SIZE), profile("quick")
    here, recipe = Path.cwd(), asdict(quick.recipe)
    contestants = {
        "release 0.1.0": Contestant(release, "training", RECIPE_THEN, 0.5, rounds),
        "this tree": Contestant(here, "training", recipe, quick.dropout, rounds),
        "this tree, recipe of release 0.1.0": Contestant(here, "training", RECIPE_THEN, 0.5, rounds),
    }
    if peer:
        contestants["plain loop, float32"] = Contestant(here, "peer", flop, False, quick.recipe.batch, rounds)
        contestants["plain loop, bfloat16"] = Contestant(here, "peer", flop, True, quick.recipe.batch, rounds)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            times[name].append(contestant.seconds())
    used = precision(quick.recipe.precision, "cpu")
    rates = {name: convolution_rate(getattr(torch, name)) for name in ("float32", "bfloat16")}
    own = median(times["this tree"])
    return {
        "ms_an_image": {name: round(1e3 * median(found), 2) for name, found in times.items()},
        "of_release": {
            name: round(median(a / b for a, b in zip(found, times["release 0.1.0"], strict=True)), 3)
            for name, found in times.items()
        },
        "rounds": times,
        "precision": used,
        "gflop_an_image": {"ours": 3e-9 * flop, **({"peer": 3e-9 * operations(narrow_unet(flop))} if peer else {})},
        "gflop_s": {
            "training": 3e-9 * flop / own,
            **{f"convolution, {name}": 1e-9 * rate for name, rate in rates.items()},
        },
        "batch": {
            "release 0.1.0": RECIPE_THEN["batch"],
            "this tree": quick.recipe.batch,
            "plain loops": quick.recipe.batch,
        },
        "share_of_convolution_rate": 3 * flop / own / rates["bfloat16" if used == "bf16-mixed" else "float32"],
    }


def commit() -> str:
    """The commit that is at work; "-dirty" behind it says that files had changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603


def circumstances() -> dict[str, Any]:
    """Commit, day and machine of a record of one thread."""
    return {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "processor": torch.cpu.get_capabilities().get("cpu_name", platform.machine()),
            "threads": 1,
            "load_average": round(os.getloadavg()[0], 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON record to write")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without segmentation-models-pytorch")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    declare_operators()
    if given.task:
        torch.set_num_threads(1)
        tasks: dict[str, Callable[..., None]] = {"training": time_training, "peer": time_peer}
        tasks[given.task[0]](*json.loads(given.task[1]))
        return
    command = ["git", "archive", RELEASE, "hsiutils"]
    packed = io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603
    with tempfile.TemporaryDirectory() as release:
        with tarfile.open(fileobj=packed) as archive:
            archive.extractall(release, filter="data")
        found = compare(Path(release), given.rounds, given.peer)
    record = {
        **circumstances(),
        "versions": {"torch": torch.__version__}
        | ({"segmentation-models-pytorch": version("segmentation-models-pytorch")} if given.peer else {}),
        "network": {"channels": CHANNELS, "filters": FILTERS, "image": list(SIZE)},
        **found,
    }
    text = json.dumps(record, indent=2) + "\n"
    if given.out:
        given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
