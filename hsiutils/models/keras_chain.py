"""Chains of Keras layers, of anybody, as torch modules: a whole-model .h5 file read without Keras, nothing run of it.

For networks that are no U-Net of the authors' (`hsiutils.models.keras` reads those): convolutions, transposed ones,
batch normalisation, pooling, upsampling, padding and piecewise linear activations, one after the other. Every other
layer is refused by name. Keras stores images channels last; the torch network takes (n, channels, h, w).
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hsiutils.models.keras import _TORCH_NAMES, _opened, _values
from hsiutils.models.keras_graph import _IDLE, _names, _plain

_NEEDED: dict[str, tuple[str, ...]] = {"Conv2D": ("kernel",), "Conv2DTranspose": ("kernel",)}
_NEEDED["BatchNormalization"] = ("moving_mean", "moving_variance")
_LAST = ("softmax", "sigmoid")
"""Of the last layer they are left out: what is explained is the logit before."""


class Chain(nn.Sequential):
    """A chain of layers, each by its Keras name, an activation as NAME_relu.

    Attributes
    ----------
    input_shape : (channels, h, w) that the file says, None where it leaves a size open.
    """

    input_shape: tuple[int | None, ...] = (None, None, None)


def read_keras_chain(path: Path | str) -> Chain:
    """Read a Keras model whose layers follow one another, in evaluation mode and float32.

    Parameters
    ----------
    path : a whole model as `model.save("x.h5")` writes it, Keras 2 or 3. A softmax or sigmoid at its end is left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, has no description, branches, or holds a layer or a setting that is not known; the
        message names the layer.
    """
    with _opened(Path(path)) as (file, description):
        if description is None or "model_weights" not in file:
            raise ValueError("expected a whole model, saved by model.save('x.h5'): these are weights alone")
        layers = list(_chain(description))
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (kind, settings) in enumerate(layers):
            last = number == len(layers) - 1
            for name, module in _modules(kind, settings, _arrays(file, settings["name"]), last):
                modules[name.replace(".", "_")] = module
        model = Chain(modules)
        shape = next((s[key] for _, s in layers for key in ("batch_input_shape", "batch_shape") if key in s), None)
        if shape is not None and len(shape) == 4:
            model.input_shape = (shape[3], shape[1], shape[2])
    return model.eval()


def _chain(description: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Class and settings of each layer, in order."""
    config = description["config"]
    before: str | None = None
    for layer in config if isinstance(config, list) else config["layers"]:
        kind, settings = layer["class_name"], layer["config"]
        inputs = list(_names(layer.get("inbound_nodes", [])))
        if inputs and inputs != [before]:
            raise ValueError(f"layer {settings['name']} reads {', '.join(inputs)}, not {before}: only chains are read")
        before = settings["name"]
        yield kind, settings


def _arrays(file: h5py.File, layer: str) -> dict[str, NDArray[np.float64]]:
    """Arrays of a layer by role."""
    found: dict[str, NDArray[np.float64]] = {}

    def keep(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            role = path.rsplit("/", 1)[-1].split(":")[0]
            found[role] = _values(layer, role, item)

    if layer in file["model_weights"]:
        file["model_weights"][layer].visititems(keep)
    return found


def _modules(
    kind: str, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float64]], last: bool
) -> Iterator[tuple[str, nn.Module]]:
    """A layer and its activation as modules, by name."""
    name = settings["name"]

    def setting(key: str, default: Any, *allowed: Any) -> Any:
        found = _plain(settings.get(key, default))
        if allowed and found not in allowed:
            raise ValueError(f"layer {name} ({kind}) has {key} {found!r}, expected {' or '.join(map(repr, allowed))}")
        return found

    setting("data_format", "channels_last", "channels_last")
    if kind in _IDLE or kind == "InputLayer":
        return
    if lacking := [role for role in _NEEDED.get(kind, ()) if role not in arrays]:
        raise ValueError(f"layer {name} ({kind}) has no {lacking[0]} in the file")
    if kind in ("Conv2D", "Conv2DTranspose"):
        yield name, _filled(name, _convolution(kind, setting, arrays), arrays)
    elif kind == "BatchNormalization":
        setting("axis", -1, -1, 3)
        norm = nn.BatchNorm2d(len(arrays["moving_mean"]), float(settings["epsilon"]))
        yield name, _filled(name, norm, arrays)
    elif kind in ("MaxPooling2D", "AveragePooling2D"):
        setting("padding", "valid", "valid")
        pool = nn.MaxPool2d if kind == "MaxPooling2D" else nn.AvgPool2d
        size = settings["pool_size"]
        yield name, pool(_pair(size), _pair(settings.get("strides") or size))
    elif kind == "UpSampling2D":
        mode = setting("interpolation", "nearest", "nearest", "bilinear")
        yield name, nn.Upsample(scale_factor=tuple(map(float, _pair(settings["size"]))), mode=mode)
    elif kind == "ZeroPadding2D":
        (top, bottom), (left, right) = settings["padding"]
        yield name, nn.ZeroPad2d((left, right, top, bottom))
    elif kind not in ("Activation", "ReLU", "LeakyReLU", "Softmax"):
        raise ValueError(f"layer {name} is {kind}, which this reader does not know: export the model another way")
    active = kind.lower() if kind in ("ReLU", "LeakyReLU", "Softmax") else setting("activation", "linear")
    if active == "relu" and kind == "ReLU":
        setting("negative_slope", 0, 0)
        setting("threshold", 0, 0)
        top = settings.get("max_value")
        yield f"{name}_relu", nn.ReLU() if top is None else nn.Hardtanh(0.0, float(top))
    elif active == "relu":
        yield f"{name}_relu", nn.ReLU()
    elif active == "leakyrelu":
        yield f"{name}_relu", nn.LeakyReLU(float(settings.get("negative_slope", settings.get("alpha", 0.3))))
    elif active != "linear" and not (last and active in _LAST):
        raise ValueError(f"layer {name} has the activation {active}: relu and linear are known, at the end {_LAST}")


def _convolution(kind: str, setting: Any, arrays: Mapping[str, NDArray[np.float64]]) -> nn.Module:
    """A convolution of the size of its kernel: (kh, kw, in, out), of transposed ones (kh, kw, out, in)."""
    setting("dilation_rate", 1, 1)
    setting("groups", 1, 1)
    rows, columns, one, other = arrays["kernel"].shape
    stride, padding = setting("strides", 1, 1, 2, 3, 4), setting("padding", "valid", "valid", "same")
    bias = "bias" in arrays
    if kind == "Conv2D":
        if padding == "same":
            setting("strides", 1, 1)
        return nn.Conv2d(one, other, (rows, columns), stride, padding, bias=bias)
    pads = [max(size - stride, 0) for size in (rows, columns)] if padding == "same" else [0, 0]
    if padding == "same" and (any(pad % 2 for pad in pads) or min(rows, columns) < stride):
        setting("padding", "valid", "valid")
    return nn.ConvTranspose2d(other, one, (rows, columns), stride, (pads[0] // 2, pads[1] // 2), bias=bias)


def _filled(name: str, module: nn.Module, arrays: Mapping[str, NDArray[np.float64]]) -> nn.Module:
    with torch.no_grad():
        if isinstance(module, nn.BatchNorm2d):  # gamma and beta may be left out
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        for role, values in arrays.items():
            if role not in _TORCH_NAMES:
                raise ValueError(f"layer {name} has an array {role}, which is not known")
            # (kh, kw, in, out) to (out, in, kh, kw); transposed ones have both the other way
            values = np.ascontiguousarray(values.transpose(3, 2, 0, 1)) if values.ndim == 4 else values
            cast(Tensor, getattr(module, _TORCH_NAMES[role])).copy_(torch.from_numpy(values))
    return module


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, list | tuple) else (value, value)
    return int(first), int(second)
