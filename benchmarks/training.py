"""Time that training and prediction take an image, side by side: this tree, release 0.1.0, a plain loop, Keras.

The plain loop is on another library's U-Net, made to take as many operations. Each in a process of one thread, in
turns: every round times all of them, and the median over rounds counts. What is timed is the processor's time, which
other work on the machine disturbs less; on a GPU it is the clock's, which waits for it. From the root of the
repository, with segmentation-models-pytorch in the environment (benchmarks/README.md):

    python -m benchmarks.training --out data/results/training_step.json

`--size 224 416 --filters 32` is the paper's network, `--keras` has Keras 3 build and train it, too, on the torch
backend; `--device cuda` is a GPU.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

RELEASE = "9e5d5eb59b44d4f044354386ba5d0f56521a6e51"
"""The commit that is release 0.1.0."""
RECIPE_THEN = {"batch": 2, "learning_rate": 3e-3, "schedule": "one-cycle", "validate_every": 2}
"""Of profile quick in release 0.1.0, but for the number of epochs; dropout 0.5."""
CHANNELS, CLASSES = 25, 5
WHAT = {
    ("whole", True): "{}",
    ("steps", True): "{}, steps alone",
    ("steps", False): "{}",
    ("prediction", True): "{}",
    ("prediction", False): "{}, prediction",
}
"""By what is counted, and whether of this library, how the row is called: peers have nothing beside their steps."""
PLAIN = (
    ("plain loop, float32", False, False),
    ("plain loop, bfloat16", True, False),
    ("plain loop, bfloat16, images on the GPU, channels last", True, True),
)
"""Loops, whether each computes in bfloat16, and whether it is made as fast as one can by hand."""


@dataclass(frozen=True)
class Setting:
    """What is trained on what; the defaults are those of profile quick."""

    size: tuple[int, int] = (96, 192)
    filters: int = 8
    scenes: int = 78
    judged: int = 26
    batch: int = 4
    device: str = "cpu"

    def draw(self, count: int) -> TensorDataset:
        """Noise: time does not depend on what is in the images."""
        draw = torch.Generator().manual_seed(count)
        labels = torch.randint(0, CLASSES, (count, *self.size), generator=draw)
        return TensorDataset(torch.rand(count, CHANNELS, *self.size, generator=draw) * 2 - 1, labels)


def now(device: str) -> float:
    """Processor time, seconds; of a GPU the clock's, once it has done what it was asked."""
    if not device.startswith("cuda"):
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def wait_for_turn(device: str) -> float:
    """The time at which a line on standard input says that the round begins."""
    sys.stdin.readline()
    return now(device)


@contextmanager
def timed_steps(device: str, flags: str = "") -> Iterator[list[tuple[float, float]]]:
    """When every epoch's steps begin and end, before validation and checkpoint, of a training of this tree inside.

    With flags "no filling", memory is not filled before use where algorithms are to be deterministic; with "any
    algorithm", they need not be, and convolutions are tried out.
    """
    from pytorch_lightning.callbacks import Callback

    segmenter, spans = import_module("hsiutils.models.segmenter"), []
    make = segmenter.trainer

    class Timer(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.began = now(device)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx + 1 == trainer.num_training_batches:
                spans.append((self.began, now(device)))

    def trainer(*arguments: Any, **options: Any) -> Any:
        made = make(*arguments, **options)
        made.callbacks.append(Timer())
        torch.utils.deterministic.fill_uninitialized_memory = not flags
        if flags == "any algorithm":
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.benchmark = True
        return made

    with mock.patch.object(segmenter, "trainer", trainer):
        yield spans


def time_training(setting: Setting, recipe: dict[str, Any], dropout: float, rounds: int, flags: str = "") -> None:
    """Print the seconds an image of `hsiutils`'s own training: all of it, and where it is this tree the steps alone."""
    rooms = (Path(import_module("hsiutils").__file__ or "").parent / "models").is_dir()
    train, unet = (
        import_module(f"hsiutils.models.{name}" if rooms else f"hsiutils.{name}") for name in ("train", "unet")
    )
    every, device = recipe["validate_every"], setting.device
    network = {"channels": CHANNELS, "classes": CLASSES, "filters": setting.filters, "norm_momentum": 0.1}
    began = 0.0

    def tell(done: int, total: int, row: Any) -> None:
        nonlocal began
        if done % every == 0:
            if done > every:  # the first epochs warm up
                images = every * setting.scenes
                found = {"whole": (now(device) - began) / images}
                print(
                    json.dumps(
                        found | ({"steps": sum(end - start for start, end in spans[-every:]) / images} if rooms else {})
                    ),
                    flush=True,
                )
            if done < total:
                began = wait_for_turn(device)

    made = train.Recipe(**{**recipe, "epochs": every * (rounds + 1)})
    learnt, judged = setting.draw(setting.scenes), setting.draw(setting.judged)
    with tempfile.TemporaryDirectory() as folder, timed_steps(device, flags) if rooms else nullcontext([]) as spans:
        config = unet.UNetConfig(**network, dropout=dropout)
        train.fit(learnt, judged, config, made, 0, Path(folder), progress=tell, device=device)


def time_prediction(setting: Setting, rounds: int) -> None:
    """Print the seconds an image of `hsiutils.predict`."""
    hu, device, images = import_module("hsiutils"), setting.device, setting.draw(setting.batch).tensors[0]
    model = hu.UNet(hu.UNetConfig(channels=CHANNELS, classes=CLASSES, filters=setting.filters)).to(device)
    hu.predict(model, images)
    for _ in range(rounds):
        began = wait_for_turn(device)
        hu.predict(model, images)
        print(json.dumps({"prediction": (now(device) - began) / setting.batch}), flush=True)


def time_peer(setting: Setting, width: int, autocast: bool, held: bool, rounds: int) -> None:
    """Print the seconds an image of a plain loop on another U-Net, and of its prediction.

    As tutorials have it: on a GPU with workers that load batches to pinned memory. Held, with all that one can do by
    hand: images stay on the device, channels last.
    """
    model, data, device = narrow_unet(width).train().to(setting.device), setting.draw(setting.scenes), setting.device
    workers = {"num_workers": 4, "persistent_workers": True, "pin_memory": True} if device.startswith("cuda") else {}
    batches = DataLoader(data, setting.batch, shuffle=True, **workers)  # type: ignore[arg-type]
    images, labels = data.tensors
    if held:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        labels = labels.to(device)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)

    def fed() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if held:
            yield from ((images[one], labels[one]) for one in torch.randperm(setting.scenes).split(setting.batch))
        else:
            yield from ((a.to(device, non_blocking=True), b.to(device, non_blocking=True)) for a, b in batches)

    def cast() -> Any:
        return torch.autocast(device.partition(":")[0], torch.bfloat16) if autocast else nullcontext()

    def epoch() -> None:
        model.train()
        for images, labels in fed():
            with cast():
                logits = model(images)
            adam.zero_grad()
            functional.cross_entropy(logits.float(), labels).backward()
            adam.step()

    def predict() -> None:
        model.eval()
        with torch.inference_mode(), cast():
            model(images[: setting.batch].to(device)).argmax(1).cpu()

    take_turns(setting, rounds, epoch, predict)


def time_keras(setting: Setting, rounds: int) -> None:
    """Print the seconds an image of Keras's own training of the authors' network, on the torch backend."""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"KERAS_BACKEND": "torch", "KERAS_HOME": home}
        keras = import_module("keras")
    layers, widths = keras.layers, [setting.filters * 2**level for level in range(6)]

    def block(x: Any, width: int) -> Any:
        for _ in range(2):
            x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same")(x)))
        return x

    entrance, skips = layers.Input((*setting.size, CHANNELS)), []
    x = entrance
    for width in widths[:-1]:
        skips.append(block(x, width))
        x = layers.MaxPooling2D(2)(skips[-1])
    x = block(x, widths[-1])
    for width, skip in zip(widths[-2::-1], reversed(skips), strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same", activation="relu")(x)
        x = block(layers.Concatenate()([x, skip]), width)
    images, labels = setting.draw(setting.scenes).tensors
    images, labels = images.permute(0, 2, 3, 1).numpy(), labels.numpy()  # (scene, h, w, channel)
    with keras.device(setting.device.replace("cuda", "gpu")):
        model = keras.Model(entrance, layers.Conv2D(CLASSES, 1)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-3), loss)
        take_turns(
            setting,
            rounds,
            lambda: model.fit(images, labels, batch_size=setting.batch, verbose=0),
            lambda: model.predict_on_batch(images[: setting.batch]).argmax(-1),
        )


def take_turns(setting: Setting, rounds: int, epoch: Callable[[], Any], predict: Callable[[], Any]) -> None:
    """Print the seconds an image of an epoch and of a prediction whenever it is asked; once before, to warm up."""
    for turn in range(rounds + 1):
        began = wait_for_turn(setting.device) if turn else 0.0
        epoch()
        trained = now(setting.device)
        predict()
        found = {
            "steps": (trained - began) / setting.scenes,
            "prediction": (now(setting.device) - trained) / setting.batch,
        }
        if turn:
            print(json.dumps(found), flush=True)


def declare_operators() -> None:
    """For torchvision, which torchmetrics imports where it is: it stops at operators that a CPU build does not have."""
    if find_spec("torchvision") and not torch.cuda.is_available():
        for operator in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", signature)


def narrow_unet(width: int) -> torch.nn.Module:
    """segmentation-models-pytorch's U-Net on a ResNet-18 of `width` channels in its first stage."""
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

    outputs = [3, *(width * factor for factor in (1, 1, 2, 4, 8))]
    smp.encoders.encoders["narrow"] = {
        "encoder": Narrow,
        "params": {"out_channels": outputs, "width": width},
        "pretrained_settings": {},
    }
    decoder = [width * 4, width * 2, width, width // 2, width // 4]
    return smp.Unet("narrow", encoder_weights=None, in_channels=CHANNELS, classes=CLASSES, decoder_channels=decoder)  # type: ignore[no-any-return]


def peer_operations(width: int, size: tuple[int, int]) -> int:
    """Floating-point operations of `narrow_unet` for one image, two a multiply-accumulate of a convolution."""
    counter = import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        narrow_unet(width).eval()(torch.zeros(1, CHANNELS, *size))
    return int(counter.get_total_flops())


def convolution_rate(dtype: torch.dtype, setting: Setting) -> float:
    """Operations a second of a convolution that suits the machine: 3 x 3, 128 channels to 128, one thread."""
    torch.set_num_threads(1)
    device, batch = setting.device, 16 if setting.device.startswith("cuda") else 2
    x = torch.rand(batch, 128, *setting.size).to(device, dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(128, 128, 3, 3).to(device, dtype).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(7):
            began = now(device)
            functional.conv2d(x, kernel, padding=1)
            seconds.append(now(device) - began)
    return 2 * batch * setting.size[0] * setting.size[1] * 128 * 128 * 9 / min(seconds)


class Contestant:
    """A process of one thread that times one round whenever it is asked."""

    def __init__(self, tree: Path, task: str, *arguments: Any) -> None:
        paths = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(Path(__file__).resolve()), "--task", task, json.dumps(arguments)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self) -> dict[str, float]:
        """Seconds an image of one more round, by what is counted: the whole training, or the steps alone."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        while (answer := self.process.stdout.readline()) and not answer.startswith("{"):
            pass  # a library's remark
        if not answer:
            raise RuntimeError(f"{self.process.args}: stopped before it was asked")
        found: dict[str, float] = json.loads(answer)
        return found


def compare(setting: Setting, release: Path | None, rounds: int, peer: bool, keras: bool) -> dict[str, Any]:
    """Times of this tree, of an unpacked release, and of peers; here nothing is imported before it is needed."""
    from hsiutils.models.recipe import precision
    from hsiutils.models.unet import UNetConfig, flops
    from hsiutils.paper.run import profile

    flop = flops(UNetConfig(channels=CHANNELS, classes=CLASSES, filters=setting.filters), setting.size)
    quick, here, own, gpu = profile("quick"), Path.cwd(), asdict(setting), setting.device.startswith("cuda")
    recipe = asdict(replace(quick.recipe, batch=setting.batch))
    if setting != Setting():
        recipe["validate_every"] = 1  # one epoch a round
    contestants: dict[str, Contestant] = {}
    if release:
        contestants["release 0.1.0"] = Contestant(release, "training", own, RECIPE_THEN, 0.5, rounds)
    contestants["this tree"] = Contestant(here, "training", own, recipe, quick.dropout, rounds)
    if release:
        name = "this tree, recipe of release 0.1.0"
        contestants[name] = Contestant(here, "training", own, RECIPE_THEN, 0.5, rounds)
    if setting != Setting():
        full = recipe | {"precision": "32-true"}
        contestants["this tree, float32"] = Contestant(here, "training", own, full, quick.dropout, rounds)
    for flags in ("no filling", "any algorithm") if gpu else ():
        contestants[f"this tree, {flags}"] = Contestant(here, "training", own, recipe, quick.dropout, rounds, flags)
    if peer:
        width = min(range(8, 129, 2), key=lambda width: abs(peer_operations(width, setting.size) - flop))
        for name, *how in PLAIN[: 3 if gpu else 2]:
            contestants[name] = Contestant(here, "peer", own, width, *how, rounds)
    if keras:
        contestants["Keras 3, float32"] = Contestant(here, "keras", own, rounds)
    contestants["this tree, prediction"] = Contestant(here, "prediction", own, rounds)
    times: dict[str, list[float]] = {}
    failed = set()
    for name, contestant in ((name, one) for _ in range(rounds) for name, one in contestants.items()):
        try:
            answer = {} if name in failed else contestant.seconds()
        except (RuntimeError, OSError):  # the others are worth a record
            failed.add(name)
            continue
        for what, seconds in answer.items():
            times.setdefault(WHAT[what, name.startswith(("this", "release"))].format(name), []).append(seconds)
    times = {name: found for name, found in times.items() if len(found) == rounds}
    used = precision(quick.recipe.precision, setting.device)
    rates = {name: convolution_rate(getattr(torch, name), setting) for name in ("float32", "bfloat16")}
    whole, steps = times["this tree"], times["this tree, steps alone"]
    taken = median(whole if setting == Setting() else steps)

    def ratios(reference: list[float]) -> dict[str, float]:
        return {
            name: round(median(a / b for a, b in zip(found, reference, strict=True)), 3)
            for name, found in times.items()
        }

    return {
        "ms_an_image": {name: round(1e3 * median(found), 3) for name, found in times.items()},
        **({"of_release": ratios(times["release 0.1.0"])} if release else {}),
        "of_steps": ratios(steps),
        "rounds": times,
        "failed": sorted(failed),
        "precision": used,
        "gflop_an_image": {
            "ours": 3e-9 * flop,
            **({"peer": 3e-9 * peer_operations(width, setting.size)} if peer else {}),
        },
        "gflop_s": {
            "training": 3e-9 * flop / taken,
            **{f"convolution, {name}": 1e-9 * rate for name, rate in rates.items()},
        },
        "batch": {
            **({"release 0.1.0": RECIPE_THEN["batch"]} if release else {}),
            "this tree": setting.batch,
            "plain loops": setting.batch,
        },
        "share_of_convolution_rate": 3 * flop / taken / rates["bfloat16" if used == "bf16-mixed" else "float32"],
    }


def commit() -> str:
    """The commit that is at work; "-dirty" behind it says that files had changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    return ""


def circumstances(device: str = "cpu") -> dict[str, Any]:
    """Commit, day and machine of a record of one thread."""
    gpu = {"device": torch.cuda.get_device_name()} if device.startswith("cuda") else {}
    return {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": gpu
        | {
            "processor": torch.cpu.get_capabilities().get("cpu_name", platform.machine()),
            "threads": 1,
            "load_average": round(os.getloadavg()[0], 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON record to write")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=Setting.size, metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--filters", type=int, default=Setting.filters)
    parser.add_argument("--scenes", type=int, default=Setting.scenes, help="a round, and a third of them to validate")
    parser.add_argument("--batch", type=int, default=Setting.batch)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="without segmentation-models-pytorch")
    parser.add_argument("--keras", action="store_true", help="with Keras 3, which must be there")
    parser.add_argument("--no-release", dest="release", action="store_false", help="without release 0.1.0")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    declare_operators()
    if given.task:
        torch.set_num_threads(1)
        tasks: dict[str, Callable[..., None]] = {
            "training": time_training,
            "prediction": time_prediction,
            "peer": time_peer,
            "keras": time_keras,
        }
        setting, *more = json.loads(given.task[1])
        tasks[given.task[0]](Setting(**setting | {"size": tuple(setting["size"])}), *more)
        return
    size, judged = tuple(given.size), max(1, given.scenes // 3)
    setting = Setting(size, given.filters, given.scenes, judged, given.batch, given.device)
    with tempfile.TemporaryDirectory() as folder:
        if given.release:
            command = ["git", "archive", RELEASE, "hsiutils"]
            packed = io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603
            with tarfile.open(fileobj=packed) as archive:
                archive.extractall(folder, filter="data")
        found = compare(setting, Path(folder) if given.release else None, given.rounds, given.peer, given.keras)
    record = {
        **circumstances(given.device),
        "versions": {"torch": torch.__version__}
        | ({"segmentation-models-pytorch": version("segmentation-models-pytorch")} if given.peer else {})
        | ({"keras": version("keras")} if given.keras else {}),
        "network": {"channels": CHANNELS, "filters": given.filters, "image": list(size)},
        **found,
    }
    text = json.dumps(record, indent=2) + "\n"
    if given.out:
        given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
