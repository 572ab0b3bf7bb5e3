"""A network from a program of torch.export (.pt2), read as data: nothing in the file is unpickled, evaluated or run.

`torch.export.load` unpickles, evaluates text and looks functions up by name, and its manual warns of files of others.
The archive itself is plain: a zip with one JSON graph (torch/_export/serde/schema.yaml, major version 8, which torch
writes since 2.8) and raw arrays. Here each node of the graph becomes a module that calls one operation out of a closed
list, named as the module that called it in the original, and the parameters keep their names.
"""

import json
import operator
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from hsiutils.data import guard

_NAMES = (
    "_adaptive_avg_pool2d _log_softmax _native_batch_norm_legit_no_training _prelu_kernel _softmax _to_copy "
    "_unsafe_view _upsample_bilinear2d_aa _upsample_nearest_exact2d abs adaptive_avg_pool2d adaptive_max_pool2d add "
    "addmm alias amax amin arange argmax avg_pool2d baddbmm batch_norm bmm cat celu chunk clamp clamp_max clamp_min "
    "clone constant_pad_nd contiguous conv2d conv_transpose2d convolution cumsum detach div dropout elu eq exp expand "
    "expand_as feature_dropout flatten flip full full_like gather ge gelu grid_sampler grid_sampler_2d group_norm gt "
    "hardshrink hardsigmoid hardswish hardtanh index index_select instance_norm layer_norm le leaky_relu "
    "lift_fresh_copy linalg_vector_norm linear log log_sigmoid log_softmax lt masked_fill matmul max max_pool2d "
    "max_pool2d_with_indices maximum mean min minimum mish mm movedim mul mv narrow native_batch_norm "
    "native_group_norm native_layer_norm ne neg new_full new_ones new_zeros ones ones_like pad permute pixel_shuffle "
    "pixel_unshuffle pow prelu reciprocal reflection_pad2d relu relu6 repeat replication_pad2d reshape roll rsqrt rsub "
    "scaled_dot_product_attention select selu sigmoid sign silu slice softmax softplus softshrink split "
    "split_with_sizes sqrt square squeeze stack std sub sum t tanh threshold to transpose tril triu type_as unbind "
    "unflatten unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var view where zeros zeros_like"
)
_OPERATIONS = frozenset(_NAMES.split())
"""Of torch.ops.aten: arithmetic on tensors, each of which checks its own bounds. Others read files, or print."""
_ON_SIZES: Mapping[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in ["add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge"]
    },
    "torch.ops.aten.sym_size.int": Tensor.size,
}
_ATEN = ["torch", "ops", "aten"]
_CHECKS = tuple(
    f"torch.ops.aten.{name}" for name in ("_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range")
)
"""Operations that only guard the sizes that the program was exported for."""
_DTYPES = {1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16}
_DTYPES |= {7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16}
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_CODES: Mapping[str, Mapping[int, Any]] = {
    "as_scalar_type": _DTYPES,
    "as_memory_format": _FORMATS,
    "as_layout": {7: torch.strided},
}
_KIND_NAMES = (
    "as_tensor as_tensors as_optional_tensor as_optional_tensors as_int as_ints as_float as_floats as_string as_bool "
    "as_bools as_sym_int as_sym_ints as_sym_bool as_sym_float"
)
_KINDS = frozenset(_KIND_NAMES.split())
_EVALUATE = "it was exported in training mode; export model.eval()"
_HELD = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
"""What is an array of the file, and where its name stands."""
_MODEL = "models/model.json"
_FOLDERS = {"data/weights": "model_weights_config.json", "data/constants": "model_constants_config.json"}
_MAJOR = 8
_OF_ARCHIVES = (EOFError, OSError, struct.error, zipfile.BadZipFile)
_DAMAGED = (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, *_OF_ARCHIVES)


def read_program(path: Path | str) -> "Program":
    """Read a .pt2 file that `torch.export.save` wrote of a network in evaluation mode.

    Parameters
    ----------
    path : of the file. `torch.export.save(torch.export.export(model.eval(), (images,)), path)` writes it for one image
        of that size at a time; `dynamic_shapes` leaves sizes open.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, of another format, holds pickled objects or an operation that is not on the list, changes its
        own arrays as networks in training do, or takes more than one tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no program at {path}")
    try:
        with guard.archive(path) as archive:
            return _program(archive)
    except _DAMAGED as error:
        raise ValueError(
            f"{path}: cannot be read as a program of torch.export ({type(error).__name__}: {error}); it is damaged, "
            "cut short or no such file"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class Program(nn.Module):
    """A program of torch.export, a module for each of its operations; `read_program` makes it.

    A step has the name of the module that it ends in the original, so that layers are found by their names there; other
    steps have the name of their result behind that of the module that they are in.

    Attributes
    ----------
    input_shape : (channels, h, w) of the images that it was exported for, None where a size was left open.
    """

    def __init__(
        self, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], arrays: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.input_shape: tuple[int | None, ...] = (None, None, None)
        self._one_by_one = False
        given = [next(iter(each.items())) for each in inputs]
        images = [each["arg"]["as_tensor"]["name"] for kind, each in given if kind == "user_input"]
        if len(images) != 1 or any(kind not in (*_HELD, "user_input") for kind, _ in given):
            raise ValueError("the program takes other things than one tensor of images: export a module that takes one")
        if any("user_output" not in each for each in outputs):
            raise ValueError(f"the program changes its own arrays: {_EVALUATE}")
        self._image, self._logits = images[0], outputs[0]["user_output"]["arg"]["as_tensor"]["name"]
        self._calls = _calls([node for node in nodes if not node["target"].startswith(_CHECKS)], self._logits)
        for call in sorted(self._calls, key=lambda call: call.name.count(".")):  # what stands around others comes first
            home, own = _home(self, call.name)
            home.add_module(own, call.step)
        self._arrays: list[tuple[str, nn.Module, str]] = []
        for kind, each in given:
            if kind != "user_input":
                name = each[_HELD[kind]]
                home, own = _home(self, name)
                if kind == "parameter":
                    home.register_parameter(own, nn.Parameter(arrays[name], arrays[name].is_floating_point()))
                else:
                    home.register_buffer(own, arrays[name])
                self._arrays.append((each["arg"]["name"], home, own))

    def forward(self, x: Tensor) -> Tensor:
        """What the program returns first, (n, classes, h', w'), of images (n, channels, h, w)."""
        if self._one_by_one and len(x) > 1:
            return torch.cat([self._run(image[None]) for image in x])
        return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {name: getattr(home, own) for name, home, own in self._arrays}
        values[self._image] = x
        for call in self._calls:
            out = call.step(*(values[name] for name in call.reads))
            values.update(zip(call.makes, out if isinstance(out, tuple | list) else (out,), strict=False))
            for name in call.last:
                del values[name]
        return cast(Tensor, values[self._logits])


class Step(nn.Module):
    """One operation of a program; of its arguments those that are computed are left open."""

    def __init__(self, operation: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        super().__init__()
        self._operation, self._arguments, self._named = operation, arguments, named

    def forward(self, *read: Any) -> Any:
        """Call the operation with what it reads."""
        named = {name: _filled(value, read) for name, value in self._named.items()}
        return self._operation(*(_filled(value, read) for value in self._arguments), **named)


class _Call(NamedTuple):
    """A step, its name, what it reads and makes, and what nobody reads after it."""

    name: str
    step: Step
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    last: tuple[str, ...]


class _Slot(int):
    """Place of an argument among what an operation reads."""


def _program(archive: zipfile.ZipFile) -> Program:
    places = {each.filename.partition("/")[2]: each for each in archive.infolist()}
    if "serialized_exported_program.json" in archive.namelist():
        raise ValueError("written by a torch before 2.8: save the program again with a newer one")
    if _MODEL not in places:
        raise ValueError("no program of torch.export is in it; compiled packages are not opened")
    if len(places) < len(archive.infolist()) or any(each.compress_type for each in places.values()):
        raise ValueError("two of its files have one name, or are compressed: torch writes no such archive")
    exported = json.loads(archive.read(places[_MODEL]))
    if (major := exported["schema_version"]["major"]) != _MAJOR:
        raise ValueError(f"expected a program of format {_MAJOR}, got {major}: save it with another release of torch")
    arrays: dict[str, Tensor] = {}
    for folder, config in _FOLDERS.items():
        for name, about in json.loads(archive.read(places[f"{folder}/{config}"]))["config"].items():
            if about["use_pickle"]:
                raise ValueError(f"{name} is a pickled object, and nothing is unpickled: make it a plain tensor")
            arrays[name] = _array(name, archive.read(places[f"{folder}/{about['path_name']}"]), about["tensor_meta"])
    graph, signature = exported["graph_module"]["graph"], exported["graph_module"]["signature"]
    model = Program(graph["nodes"], signature["input_specs"], signature["output_specs"], arrays)
    sizes = [size.get("as_int") for size in graph["tensor_values"][model._image]["sizes"]]
    if len(sizes) != 4:
        raise ValueError(f"the program takes a tensor of {len(sizes)} axes, expected (n, channels, h, w)")
    if sizes[0] not in (None, 1):
        raise ValueError(f"the program takes {sizes[0]} images at a time: export it with one, or leave the number open")
    model._one_by_one = sizes[0] == 1
    model.input_shape = tuple(sizes[1:])
    return model.eval()


def _array(name: str, content: bytes, about: Mapping[str, Any]) -> Tensor:
    """An array of the archive, its memory its own."""
    sizes, strides = ([each["as_int"] for each in about[axes]] for axes in ("sizes", "strides"))
    if about["dtype"] not in _DTYPES:
        raise ValueError(f"{name} has numbers of kind {about['dtype']}, which are not read")
    flat = torch.frombuffer(bytearray(content), dtype=_DTYPES[about["dtype"]]) if content else torch.zeros(0)
    if min(sizes, default=1) < 0 or prod(sizes) > len(flat):
        raise ValueError(f"{name} has {len(flat)} numbers in the file, too few for {sizes}")
    return flat.as_strided(sizes, strides, about["storage_offset"]["as_int"]).clone()


def _calls(nodes: Sequence[Any], kept: str) -> list[_Call]:
    """Steps in the order of computation."""
    found: list[tuple[Step, list[str], list[str]]] = []
    for node in nodes:
        reads: list[str] = []
        operation, given = _operation(node["target"]), {}
        for each in node["inputs"]:
            given[each["name"]] = _argument(each["arg"], reads)
        if given.get("train") or given.get("training"):
            raise ValueError(f"{node['target']} is in training: {_EVALUATE}")
        aten = isinstance(operation, torch._ops.OpOverload)
        step = Step(operation, () if aten else tuple(given.values()), given if aten else {})
        found.append((step, reads, [name for each in node["outputs"] for name in _made(each)]))
    last: dict[int, list[str]] = {number: [] for number in range(len(found))}
    for name, number in {name: at for at, (_, reads, makes) in enumerate(found) for name in (*reads, *makes)}.items():
        last[number] += [name] if name != kept else []
    return [
        _Call(name, step, tuple(reads), tuple(makes), tuple(last[number]))
        for number, (name, (step, reads, makes)) in enumerate(zip(_names(nodes), found, strict=True))
    ]


def _operation(target: str) -> Callable[..., Any]:
    """What a node calls, if it is on the list."""
    if target in _ON_SIZES:
        return _ON_SIZES[target]
    *packet, name, overload = target.split(".")
    known = name if name in _OPERATIONS else name.removesuffix("_")
    found = getattr(torch.ops.aten, name, None) if packet == _ATEN and known in _OPERATIONS else None
    if found is None or "out" in overload or overload not in found.overloads():
        raise ValueError(
            f"the operation {target} is not among those that are run from a file: open the network by a function "
            "(package.module:function)"
        )
    return cast(Callable[..., Any], getattr(found, overload))


def _argument(given: Any, reads: list[str]) -> Any:
    """An argument as the operation takes it; the names that it reads are added to a list, and slots stand for them."""
    if isinstance(given, list):
        return [_argument(each, reads) for each in given]
    if not isinstance(given, dict):
        return given
    if "as_device" in given:
        return torch.device("cpu")
    ((kind, value),) = given.items()
    if kind in ("name", "as_name"):
        reads.append(value)
        return _Slot(len(reads) - 1)
    if kind in _CODES:
        return _CODES[kind][value]
    if kind == "as_none":
        return None
    if kind not in _KINDS:
        raise ValueError(f"an operation has an argument {kind}, which is not read")
    return float(value) if kind == "as_float" else _argument(value, reads)


def _filled(value: Any, read: Sequence[Any]) -> Any:
    """An argument with what is read in its slots."""
    if isinstance(value, list):
        return [_filled(each, read) for each in value]
    return read[value] if isinstance(value, _Slot) else value


def _made(given: Any) -> Iterator[str]:
    """Names of what a node makes; one that it leaves out has none."""
    if isinstance(given, list):
        for each in given:
            yield from _made(each)
    elif isinstance(given, dict):
        yield from _made(list(given.values()))
    else:
        yield given if isinstance(given, str) else ""


def _names(nodes: Sequence[Any]) -> list[str]:
    """A name of its own for each step: of the module that it ends, or its own in the module."""
    paths = [_path(node) for node in nodes]
    ends: dict[str, int] = {}
    for number, path in enumerate(paths):
        parts = path.split(".")
        ends |= {".".join(parts[:size]): number for size in range(1, len(parts) + 1)}
    found: dict[str, None] = {}
    for number, (node, path) in enumerate(zip(nodes, paths, strict=True)):
        name = path
        if not path or ends[path] != number:
            name = ".".join([*filter(None, [path]), next(_made(node["outputs"]))])
        while name in found or (name != path and name in ends):
            name += "_"
        found[name] = None
    return list(found)


def _path(node: Any) -> str:
    """Name of the module that a node was recorded in, "" for the network itself."""
    inside = node["metadata"].get("nn_module_stack", "").split(";")[-1]
    return inside.split(",")[1] if inside.count(",") else ""


def _home(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that something of this dotted name belongs to, made where there is none, and its own name."""
    *path, own = name.split(".")
    for part in path:
        if part not in dict(model.named_children()):
            model.add_module(part, nn.Module())
        model = dict(model.named_children())[part]
    return model, own
