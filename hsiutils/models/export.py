"""The network for other tools: a `torch.export` program, and ONNX where that package is installed.

Both fix the size of the image, since padding depends on it, and leave the number of images open.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from hsiutils.data.atomic import replacing
from hsiutils.models.unet import UNet


def export_program(model: UNet, shape: tuple[int, int]) -> ExportedProgram:
    """The network in evaluation mode as a graph of torch's core operations.

    Parameters
    ----------
    model : stays as it is.
    shape : (rows, columns) of the image, pixels; any, since the padding is part of the graph.

    Returns
    -------
    Program with input (n, channels, rows, columns) float32, any n >= 1, and output (n, classes, rows, columns) logits.
    `program.module()(x)` runs it; `torch.export.save(program, path)` or `save_program` writes it.
    """
    # Two examples: a size of one would be taken for a constant.
    example = torch.zeros(2, model.config.channels, *shape)
    frozen = model.folded()  # the same logits with half the layers
    return torch.export.export(frozen, (example,), dynamic_shapes={"x": {0: Dim("n", min=1)}})


def save_program(model: UNet, path: Path | str, shape: tuple[int, int]) -> Path:
    """Write `export_program` to a .pt2 file, atomically; `torch.export.load` reads it."""
    program = export_program(model, shape)
    return _atomically(Path(path), ".pt2", lambda temporary: torch.export.save(program, temporary))


def save_onnx(model: UNet, path: Path | str, shape: tuple[int, int]) -> Path:
    """Write the network as ONNX, input `image` and output `logits`, atomically, in one file.

    Parameters
    ----------
    model, shape : see `export_program`.
    path : ending in .onnx.

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
