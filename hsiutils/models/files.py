"""Networks on disk: the files and folders that they are read from, and what other programs take.

A training folder holds `weights.safetensors`, `history.csv` and `training.json`. `load_model` reads it, a weights file,
or the authors' Keras files (`hsiutils.models.keras`). A network leaves as a program of torch's core operations (.pt2)
or as ONNX; both hold it in evaluation mode with batch normalisation folded in, are of one size of the image, since
padding depends on it, and leave the number of images open.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hsiutils.data import guard
from hsiutils.data.atomic import replacing
from hsiutils.data.inputs import FittedVariant
from hsiutils.models.keras import read_keras
from hsiutils.models.unet import UNet, UNetConfig

if TYPE_CHECKING:
    from torch.export import ExportedProgram

WEIGHTS, HISTORY, MANIFEST, LAST = "weights.safetensors", "history.csv", "training.json", "last.ckpt"


class Trained(NamedTuple):
    """A folder that a training left behind: the network in evaluation mode, and what is known about it."""

    model: UNet
    variant: FittedVariant | None
    history: pd.DataFrame
    manifest: dict[str, Any]


def load_model(path: Path | str, *, void_output: int | None = None, class_names: Sequence[str] = ()) -> UNet:
    """A network from a file or a training folder, in evaluation mode on the CPU.

    Parameters
    ----------
    path : .safetensors file, folder that a training left behind, or Keras file (.h5, .hdf5, .weights.h5, .keras).
    void_output : output of a Keras file to leave out, as in `hsiutils.models.keras.read_keras`; 0 for the authors' six.
    class_names : of the outputs; empty for those that the file names. Keras files name none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or holds another network, or the names are not as many as the outputs.

    Examples
    --------
    >>> import hsiutils as hu
    >>> from hsiutils.models.keras import write_keras
    >>> write_keras(hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)), "authors.h5")
    >>> hu.load_model("authors.h5", class_names=("Road", "Sky")).config.names
    ('Road', 'Sky')
    """
    path = Path(path)
    if path.suffix in (".h5", ".hdf5", ".keras"):
        model = read_keras(path, void_output=void_output)
    elif void_output is not None:
        raise ValueError(f"{path}: void_output is for Keras files, got {void_output}")
    else:
        model = _load_weights(path / WEIGHTS if path.is_dir() else path)
    if class_names:
        model.config = replace(model.config, class_names=tuple(class_names))
    return model


def save(model: UNet, path: Path) -> None:
    """Write weights and configuration to one safetensors file, atomically.

    The configuration is JSON in the file's header, so that a weights file can never meet the wrong network.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={"unet": json.dumps(asdict(model.config))})


def _load_weights(path: Path) -> UNet:
    if not path.is_file():
        raise FileNotFoundError(f"no U-Net weights at {path}: train this variant first")
    try:
        with safe_open(path, framework="pt") as file:
            config = UNetConfig(**json.loads((file.metadata() or {})["unet"]))
            names = list(file.keys())
            if config.depth > len(names):
                raise ValueError(f"a depth of {config.depth}, and {len(names)} arrays")
            with torch.device("meta"):  # which has shapes and no memory
                expected = {name: value.shape for name, value in UNet(config).state_dict().items()}
            if differing := [n for n in expected.keys() | set(names) if not _fits(file, names, n, expected.get(n))]:
                raise ValueError(f"arrays that are not those of its configuration, such as {min(differing)}")
            model = UNet(config)
            model.load_state_dict({name: file.get_tensor(name) for name in names})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        what = "damaged or not a U-Net saved by hsiutils"
        raise ValueError(f"{path} is {what} ({error}): delete it and retrain") from error
    return model.eval()


def _fits(file: Any, names: Sequence[str], name: str, expected: Sequence[int] | None) -> bool:
    return name in names and expected is not None and file.get_slice(name).get_shape() == list(expected)


def load_trained(folder: Path) -> Trained:
    """All that a training left in a folder; FileNotFoundError or ValueError if it is missing, damaged or unfinished."""
    manifest = read_json(folder / MANIFEST)
    if not manifest.get("finished"):
        raise ValueError(f"the training in {folder} has not finished: run it again, it will continue")
    try:
        variant = None if manifest["variant"] is None else FittedVariant.from_dict(manifest["variant"])
    except (ValueError, KeyError) as error:
        raise ValueError(f"{folder / MANIFEST}: no inputs of a network ({error}): train it again") from error
    return Trained(load_model(folder), variant, read_history(folder), manifest)


def read_history(folder: Path) -> pd.DataFrame:
    """The history that a training wrote; FileNotFoundError or ValueError if it is missing or damaged."""
    path = folder / HISTORY
    try:
        guard.require_file(path)
        history = pd.read_csv(path)
        if "epoch" not in history.columns or history.empty:
            raise ValueError("no epochs in it")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete its folder and train again") from error
    return history


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a training folder holds; FileNotFoundError or ValueError if it is missing or damaged."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: train this variant first")
    try:
        found = guard.read_json(path)
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}, and no settings")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete its folder and train again") from error
    return found


def export_program(model: UNet, shape: tuple[int, int]) -> "ExportedProgram":
    """The network in evaluation mode as a graph of torch's core operations; `model` itself stays as it is.

    The input is (n, channels, rows, columns) float32 with any n >= 1 and `shape` for rows and columns, the output
    (n, classes, rows, columns) logits. `program.module()(x)` runs it, and `save_program` writes it.
    """
    from torch.export import Dim, export  # loading a network must not pay for it

    # Two examples: a size of one would be taken for a constant.
    example = torch.zeros(2, model.config.channels, *shape)
    frozen = model.folded()  # the same logits with half the layers
    return export(frozen, (example,), dynamic_shapes={"x": {0: Dim("n", min=1)}})


def save_program(model: UNet, path: Path | str, shape: tuple[int, int]) -> Path:
    """Write `export_program` to a .pt2 file, atomically; `torch.export.load` reads it."""
    return _atomically(Path(path), ".pt2", partial(torch.export.save, export_program(model, shape)))


def save_onnx(model: UNet, path: Path | str, shape: tuple[int, int]) -> Path:
    """Write `export_program` as ONNX to one .onnx file, input `image` and output `logits`, atomically.

    Raises
    ------
    ImportError
        If the packages onnx and onnxscript, which torch writes ONNX with, are not installed.
    """
    names: dict[str, list[str]] = {"input_names": ["image"], "output_names": ["logits"]}
    program = torch.onnx.export(export_program(model, shape), dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
    if program is None:
        raise RuntimeError("torch gave no ONNX program")
    return _atomically(Path(path), ".onnx", lambda temporary: program.save(temporary, external_data=False))


def _atomically(path: Path, suffix: str, write: Callable[[Path], None]) -> Path:
    if path.suffix != suffix:
        raise ValueError(f"{path}: expected a name ending in {suffix}")
    with replacing(path) as temporary:
        write(temporary)
    return path
