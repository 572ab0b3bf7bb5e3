"""The authors' network as Keras stores it: weights read from their files into our `UNet`, and written back.

Read with h5py alone: no TensorFlow, no Keras, nothing unpickled, no code of the file run. Understood are

    model.save("x.h5"), Keras 2 and 3       model_weights/LAYER/.../LAYER/{kernel, bias, gamma, ...}[:0]
    model.save_weights("x.h5"), Keras 2     LAYER/LAYER/{kernel:0, bias:0, gamma:0, ...}
    model.save_weights("x.weights.h5")      layers/LAYER/vars/{0, 1, 2, 3} (Keras 3)
    model.save("x.keras")                   a zip archive that holds such a model.weights.h5

The authors' checkpoints are of the first kind (arXiv 2411.19274, public code). The size of the network follows from
the shapes. Where a file describes its model, the description must be the authors' network
(`hsiutils.models.keras_graph`); of weights alone that is taken for granted. A batch normalisation of the input (the
authors' `implicitNorm`) becomes the network's `entrance`.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hsiutils.data import guard
from hsiutils.data.atomic import replacing
from hsiutils.models.keras_graph import Described, computed
from hsiutils.models.unet import Entrance, UNet, UNetConfig, keras_name, layer_shapes

Arrays = dict[str, dict[str, NDArray[Any]]]
"""By Keras name of the layer, then by role."""
Order = Literal["position", "name"]
_CONV = ("kernel", "bias")
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_TORCH_NAMES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
_TORCH_NAMES |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
_EPSILON = 1e-5
_BROKEN = (
    *(OSError, EOFError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError),
    *(UnicodeError, json.JSONDecodeError, zipfile.BadZipFile, zlib.error),
)
"""What h5py, zipfile and json raise on bytes that make no sense to them."""


class _Layer(NamedTuple):
    """One layer of a file, with its arrays by their role: those of `_CONV` or of `_NORM`."""

    name: str
    arrays: dict[str, h5py.Dataset]


class _Layers(NamedTuple):
    """The layers of a file in the order of computation, by what they do."""

    convs: list[_Layer]
    transposed: list[_Layer]
    norms: list[_Layer]
    leading: _Layer | None = None


def read_keras(
    path: Path | str, *, void_output: int | None = None, order: Order = "position", epsilon: float | None = None
) -> UNet:
    """Read the weights of a Keras U-Net; depth, filters, kernel, channels and classes follow from the shapes.

    Parameters
    ----------
    path : .h5, .hdf5, .weights.h5 or .keras file.
    void_output : output to leave out of the head. The authors' code has six, void (index 0, the label's code) and the
        five classes; void was never trained, so its logit means nothing. None keeps every output.
    order : "position" takes the layers as the file describes or lists them, and by number where it does neither;
        "name" always by the number at the end of the name. The numbers need not start at zero: Keras counts on within
        one process.
    epsilon : of all batch normalisations. None takes what the file says of each, and where it says nothing (files of
        weights alone) the authors' 1e-5; Keras' own default is 1e-3.

    Returns
    -------
    The network in evaluation mode, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, lacks an array, or holds another network; the message names it.
    """
    with _opened(Path(path)) as (file, description):
        described = computed(description, zipfile.is_zipfile(path))
        layers = _layers(file, order, described)
        config = _config(layers)
        outputs = range(config.classes)
        if void_output is not None and void_output not in outputs:
            raise ValueError(f"void_output must be one of the head's outputs, 0..{outputs[-1]}, got {void_output}")
        kept = [output for output in outputs if output != void_output]
        if not kept:
            raise ValueError("the head has one output; nothing is left without it")
        if epsilon is not None and not epsilon > 0:
            raise ValueError(f"epsilon of the batch normalisation must be positive, got {epsilon}")
        known = described.epsilons if described and epsilon is None else {}
        model = UNet(replace(config, classes=len(kept)))
        _fill(model, layers, kept, lambda name: known.get(name, _EPSILON if epsilon is None else epsilon))
    return model.eval()


def read_keras_config(path: Path | str, *, order: Order = "position") -> UNetConfig:
    """The size of a Keras U-Net alone, like `read_keras`; `classes` counts every output of the head."""
    with _opened(Path(path)) as (file, description):
        return _config(_layers(file, order, computed(description, zipfile.is_zipfile(path))))


def write_keras(model: UNet, path: Path | str, *, void_output: int | None = None) -> None:
    """Write the weights of a network as Keras does, atomically: same network, same bytes.

    Parameters
    ----------
    model : with its batch normalisation, not folded.
    path : ending in ".h5" for the layout of Keras 2 (the authors'), which a Keras model of the same build takes by its
        `load_weights`, Keras 3 too; in ".weights.h5" for that of Keras 3, and of no earlier Keras: 2.15 has another
        layout under this very suffix. Neither can be opened by Keras' `load_model`, which needs the description of a
        model. The build has an epsilon of 1e-5, as the authors'.
    void_output : place in the head at which an output for void is put, 0 for the authors' six; it never wins. None
        writes the network's own outputs and no other.

    Raises
    ------
    ValueError
        If the name ends otherwise, the network was folded or has an `entrance`, or the head has no such place.
    """
    path = Path(path)
    if path.suffix != ".h5":
        raise ValueError(f"{path}: Keras weights go to .h5 or .weights.h5, not to {path.suffix or 'no suffix'}")
    if model.config.entrance:
        raise ValueError(f"{path}: a network that normalises its input cannot be written as the authors' Keras network")
    layers = _arrays_of(model)
    if void_output is not None:
        *_, head = layers.values()
        kernel, bias = head["kernel"], head["bias"]
        if not 0 <= void_output <= bias.size:
            raise ValueError(f"void_output must be a place among the head's outputs, 0..{bias.size}, got {void_output}")
        # A logit so low that softmax gives it nothing.
        head |= {"kernel": np.insert(kernel, void_output, 0, axis=3), "bias": np.insert(bias, void_output, -1e4)}
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        if path.name.endswith(".weights.h5"):
            for name, arrays in layers.items():
                for number, values in enumerate(arrays.values()):
                    file.create_dataset(f"layers/{name}/vars/{number}", data=values)
        else:
            _write_keras2(file, layers)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, Any]]:
    """The HDF5 file, and Keras' own description of the model where there is one; errors inside name the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no Keras weights at {path}")
    try:
        if zipfile.is_zipfile(path):
            with guard.archive(path) as archive:
                content, description = archive.read("model.weights.h5"), json.loads(archive.read("config.json"))
            with guard.hdf5(content) as file:
                yield file, description
            return
        with guard.hdf5(path) as file:
            text = file.attrs.get("model_config")
            yield file, None if text is None else json.loads(text)
    except _BROKEN as error:
        size = path.stat().st_size
        raise ValueError(
            f"{path}: cannot be read as a Keras file ({size} bytes): {error}; it is damaged, cut short or no such file"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _layers(file: h5py.File, order: Order, described: Described | None) -> _Layers:
    if order not in ("position", "name"):
        raise ValueError(f'order must be "position" or "name", got {order!r}')
    names = file.get("model_weights", file).attrs.get("layer_names", [])  # in the order of `model.layers`
    listed = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    ranked = (described and described.order) or listed
    place = {name: rank for rank, name in enumerate(ranked if order == "position" else ())}

    def key(layer: _Layer) -> tuple[int, int]:
        suffix = re.search(r"_(\d+)$", layer.name)  # of the second, third, ... layer of one class
        return place.get(layer.name, -1), int(suffix[1]) if suffix else 0

    layers = _Layers([], [], [])
    for layer in sorted(_with_weights(file), key=key):
        roles = _CONV if "kernel" in layer.arrays else _NORM
        if missing := [role for role in roles if role not in layer.arrays]:
            raise ValueError(f"layer {layer.name} has {sorted(layer.arrays)} and lacks {missing}")
        kernel = layer.arrays.get("kernel")
        if kernel is None:
            layers.norms.append(layer)
        elif kernel.ndim != 4:
            raise ValueError(f"layer {layer.name} has a kernel {kernel.shape}: no U-Net, which has convolutions alone")
        else:  # where layers have names of their own: a convolution needs a central pixel, so its kernel is odd
            (layers.transposed if "transpose" in layer.name or kernel.shape[0] % 2 == 0 else layers.convs).append(layer)
    convs, transposed, norms, _ = layers
    if transposed and len(norms) == len(convs) == 4 * len(transposed) + 3:  # the head has no norm: it is the input's
        leading = next((norm for norm in norms if described and norm.name == described.leading), norms[0])
        return _Layers(convs, transposed, [norm for norm in norms if norm is not leading], leading)
    return layers


def _with_weights(file: h5py.File) -> list[_Layer]:
    """Every layer that holds arrays of numbers; the optimiser's moments and random states are not of the network."""
    arrays: dict[str, dict[str, h5py.Dataset]] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and not name.startswith("optimizer"):
            guard.require_stored(item)
            holder, _, role = name.rpartition("/")
            arrays.setdefault(holder, {})[role.removesuffix(":0")] = item

    file.visititems(visit)
    layers = []
    for holder, own in arrays.items():
        if holder.endswith("/vars"):  # Keras 3 numbers the arrays
            roles = _CONV if "0" in own and own["0"].ndim > 1 else _NORM
            own = {dict(enumerate(roles)).get(int(number), number): array for number, array in own.items()}
        layers.append(_Layer(holder.removesuffix("/vars").rpartition("/")[2], own))
    return layers


def _config(layers: _Layers) -> UNetConfig:
    """Size of the network from the number of layers and the shapes of the first and the last."""
    convs, depth, norms = (len(kind) for kind in (layers.convs, layers.transposed, layers.norms))
    if depth < 1 or convs != 4 * depth + 3 or norms != 4 * depth + 2:
        raise ValueError(
            f"found {convs} convolutions, {depth} transposed ones and {norms} batch normalisations; a U-Net of depth d "
            "has 4 d + 3, d and 4 d + 2, or one more that normalises the input. It is another network, or layers are "
            "missing"
        )
    kernel, _, channels, filters = layers.convs[0].arrays["kernel"].shape
    classes = layers.convs[-1].arrays["kernel"].shape[3]
    config = UNetConfig(channels, classes, depth, filters, kernel, entrance=layers.leading is not None)
    for layer, expected in _expected_shapes(layers, config):
        found = {role: layer.arrays[role].shape for role in expected}
        if found != expected:
            raise ValueError(
                f"layer {layer.name}: expected {expected} in a U-Net of depth {config.depth} with {config.filters} "
                f"filters, found {found}; it is another network, or its layers are in another order (see `order`)"
            )
    return config


def _expected_shapes(layers: _Layers, config: UNetConfig) -> Iterator[tuple[_Layer, dict[str, tuple[int, ...]]]]:
    convs, transposed, norms = iter(layers.convs), iter(layers.transposed), iter(layers.norms)
    if layers.leading is not None:
        yield layers.leading, dict.fromkeys(_NORM, (config.channels,))
    for shape in layer_shapes(config):
        if "transpose" in shape.name:
            yield next(transposed), {"kernel": (2, 2, shape.outputs, shape.inputs), "bias": (shape.outputs,)}
            continue
        kernel = (shape.kernel, shape.kernel, shape.inputs, shape.outputs)
        yield next(convs), {"kernel": kernel, "bias": (shape.outputs,)}
        if norm := next(norms, None):  # the head has none
            yield norm, dict.fromkeys(_NORM, (shape.outputs,))


def _fill(model: UNet, layers: _Layers, kept: list[int], epsilon: Callable[[str], float]) -> None:
    theirs = _expected_shapes(layers._replace(leading=None), model.config)
    with torch.no_grad():
        for (_, module), (layer, _) in zip(_modules(model), theirs, strict=True):
            for role, dataset in layer.arrays.items():
                values = _values(layer.name, role, dataset)
                if module is model.head:
                    values = values[..., kept]
                if role == "moving_variance":  # our epsilon is fixed; only its sum with the variance enters
                    values = values + (epsilon(layer.name) - _EPSILON)
                if values.ndim == 4:  # (kh, kw, in, out) to (out, in, kh, kw); transposed ones have both the other way
                    values = np.ascontiguousarray(values.transpose(3, 2, 0, 1))
                cast(Tensor, getattr(module, _TORCH_NAMES[role])).copy_(torch.from_numpy(values))
        if layers.leading is not None:
            name = layers.leading.name
            gamma, beta, mean, variance = (_values(name, role, layers.leading.arrays[role]) for role in _NORM)
            scale = gamma / np.sqrt(variance + epsilon(name))
            entrance = cast(Entrance, model.entrance)
            entrance.scale.copy_(torch.from_numpy(scale))
            entrance.shift.copy_(torch.from_numpy(beta - mean * scale))


def _values(layer: str, role: str, dataset: h5py.Dataset) -> NDArray[np.float64]:
    values = np.asarray(guard.values(dataset), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"layer {layer}: {role} holds values that are not finite; training diverged, or damage")
    if role == "moving_variance" and (values < 0).any():
        raise ValueError(f"layer {layer}: {role} holds negative values; it is no batch normalisation, or damaged")
    return values


def _modules(model: UNet) -> Iterator[tuple[str, nn.Module]]:
    """The layers that have weights, by Keras name, in the order of computation (that of Keras' `model.layers`)."""
    units, numbers = model.units(), count()
    if units[model.config.last].norm is None:
        raise ValueError("this network's batch normalisation was folded away; take it as it was before `folded()`")
    for shape in layer_shapes(model.config):
        yield shape.name, units[shape.name].conv
        if (norm := units[shape.name].norm) is not None:
            yield keras_name("batch_normalization", next(numbers)), norm


def _arrays_of(model: UNet) -> Arrays:
    arrays: Arrays = {}
    for name, module in _modules(model):
        arrays[name] = {}
        for role in _NORM if isinstance(module, nn.BatchNorm2d) else _CONV:
            values = cast(Tensor, getattr(module, _TORCH_NAMES[role])).detach().cpu().float().numpy()
            # (out, in, kh, kw) to (kh, kw, in, out)
            arrays[name][role] = values.transpose(2, 3, 1, 0) if values.ndim == 4 else values
    return arrays


def _write_keras2(file: h5py.File, layers: Arrays) -> None:
    root = file.create_group("model_weights")
    # Keras 3 asks for the version only to tell Keras 1 from what came after it.
    root.attrs.update(layer_names=np.array(list(layers), "S"), backend=b"tensorflow", keras_version=b"2.15.0")
    for name, arrays in layers.items():
        group = root.create_group(name)
        group.attrs["weight_names"] = np.array([f"{name}/{role}:0" for role in arrays], "S")
        for role, values in arrays.items():
            group.create_dataset(f"{name}/{role}:0", data=values)
