"""A Keras model's description of itself, held against the authors' network.

Arrays cannot tell what an activation is or in which order two tensors were joined. A file that holds a whole model says
so in its description (JSON; nothing of it is run). `computed` walks it from the output to the input and refuses the
first layer that is not the authors' network's, by name.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hsiutils.models.unet import keras_name

_IDLE = ("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "ActivityRegularization")
"""Layers that hand on what they read, in evaluation."""
_CONV = {"strides": (1,), "padding": ("same",), "dilation_rate": (1,), "groups": (1,), "use_bias": (True,)}
_UP = {
    **{"kernel_size": (2,), "strides": (2,), "dilation_rate": (1,), "output_padding": (None,), "use_bias": (True,)},
    "activation": ("relu", "linear"),
}
_NORM = {"axis": (-1, 3), "center": (True,), "scale": (True,)}
_RELU = {"max_value": (None,), "negative_slope": (0,), "threshold": (0,)}


class Described(NamedTuple):
    """What a description says that arrays do not, by the names of the layers."""

    order: tuple[str, ...]
    """Convolutions, transposed ones and normalisations in the order of computation."""
    leading: str | None
    """The batch normalisation of the input, where there is one."""
    epsilons: Mapping[str, float]
    """Of each batch normalisation."""


class _Entry(NamedTuple):
    name: str
    kind: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]

    @property
    def active(self) -> str | None:
        """Name of the activation, where the layer is nothing else."""
        return self.settings.get("activation") if self.kind == "Activation" else self.kind.lower()

    def require(self, **allowed: tuple[Any, ...]) -> None:
        """Refuse a setting that this network has not; what is not said is as Keras has it by itself."""
        for key, values in {**allowed, "data_format": ("channels_last",)}.items():
            found = _plain(self.settings[key]) if key in self.settings else values[0]
            if found not in values:
                raise ValueError(
                    f"layer {self.name} ({self.kind}) has {key} {found!r}, expected {' or '.join(map(repr, values))}: "
                    "it is another network"
                )


def computed(description: Any, archive: bool) -> Described | None:
    """The order in which the authors' network is computed, by the names of its layers; None where none is described.

    Parameters
    ----------
    description : parsed JSON of a Keras 2 or Keras 3 model, or None.
    archive : whether it is of a .keras archive, which stores layers under names of its own: their class, counted.

    Raises
    ------
    ValueError
        If it describes another network; the message names the layer and the difference.
    """
    if not description:
        return None
    config, layers = description["config"], description["config"]["layers"]
    stored, counts = {}, Counter[str]()
    for layer in layers:
        # A class's name as Keras 3 names what it stores: Conv2DTranspose is conv2d_transpose.
        spaced = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])
        kind = re.sub("([a-z])([A-Z])", r"\1_\2", spaced).lower()
        stored[layer["config"]["name"]] = keras_name(kind, counts[kind]) if archive else layer["config"]["name"]
        counts[kind] += 1
    norms = [layer["config"] for layer in layers if layer["class_name"] == "BatchNormalization"]
    epsilons = {stored[norm["name"]]: float(norm["epsilon"]) for norm in norms}
    outputs = list(_names(config.get("output_layers", [])))
    if not outputs:
        return Described((), None, epsilons)
    if len(outputs) > 1:
        raise ValueError(f"the model has {len(outputs)} outputs, expected one: it is another network")
    entries = {}
    for layer in layers:
        name, nodes = layer["config"]["name"], layer["inbound_nodes"]
        if len(nodes) > 1:
            raise ValueError(f"layer {name} is used {len(nodes)} times, expected once")
        entries[name] = _Entry(name, layer["class_name"], layer["config"], tuple(_names(nodes)))
    order, leading = _Graph(entries).walk(outputs[0])
    return Described(tuple(stored[name] for name in order), None if leading is None else stored[leading], epsilons)


class _Graph:
    """Layers by name, walked against the direction of computation."""

    def __init__(self, entries: Mapping[str, _Entry]) -> None:
        self.entries = entries

    def walk(self, output: str) -> tuple[tuple[str, ...], str | None]:
        """Every layer with weights in the order of computation, and the leading normalisation."""
        last = self.through(output)
        if last.active == "softmax":
            last = self.through(*last.inputs)
        head = self.expect(last.name, "the head, a 1 x 1 Conv2D", "Conv2D")
        head.require(**{**_CONV, "padding": ("same", "valid")}, kernel_size=(1,), activation=("linear", "softmax"))
        found, skips, name = [head.name], [], head.inputs[0]
        while True:
            name, names = self.block(name)
            found += names
            if self.through(name).kind != "Concatenate":
                break
            name, skip, transposed = self.joined(self.through(name))
            found.append(transposed)
            skips.append(skip)
        for skip in reversed(skips):
            pool = self.expect(name, "max-pooling", "MaxPooling2D")
            pool.require(pool_size=(2,), strides=(2, None))
            if self.through(*pool.inputs).name != self.through(skip).name:
                raise ValueError(f"the decoder skips to {skip}, expected what {pool.name} reads: it is another network")
            name, names = self.block(*pool.inputs)
            found += names
        entry, leading = self.through(name), None
        if entry.kind == "BatchNormalization":
            entry.require(**_NORM)
            entry, leading = self.through(*entry.inputs), entry.name
        if entry.kind != "InputLayer":
            raise ValueError(
                f"layer {entry.name} ({entry.kind}) stands between the input and the first convolution, expected "
                "nothing or a BatchNormalization: it is another network"
            )
        return tuple(reversed(found)), leading

    def block(self, name: str) -> tuple[str, list[str]]:
        """What two convolutions read, each with normalisation and ReLU behind it; and their names, last first."""
        names: list[str] = []
        for _ in range(2):
            active = self.expect(name, "ReLU after batch normalisation", "ReLU", "Activation")
            active.require(**(_RELU if active.kind == "ReLU" else {"activation": ("relu",)}))
            norm = self.expect(active.inputs[0], "batch normalisation before ReLU", "BatchNormalization")
            norm.require(**_NORM)
            conv = self.expect(norm.inputs[0], "Conv2D before batch normalisation", "Conv2D")
            conv.require(**_CONV, activation=("linear",))
            names += [norm.name, conv.name]
            (name,) = conv.inputs
        return name, names

    def joined(self, join: _Entry) -> tuple[str, str, str]:
        """What the upsampling reads, what is skipped to, and the transposed convolution's name."""
        join.require(axis=(-1, 3))
        if len(join.inputs) != 2:
            raise ValueError(f"layer {join.name} joins {len(join.inputs)} tensors, expected 2: it is another network")
        upper, skip = join.inputs
        entry = self.through(upper)
        relu = entry.active == "relu"
        if relu:
            entry.require(**_RELU)
            entry = self.through(*entry.inputs)
        if entry.kind != "Conv2DTranspose":
            raise ValueError(
                f"layer {join.name} joins [{', '.join(join.inputs)}], expected what a Conv2DTranspose with ReLU "
                "upsamples first, and then what is skipped: it is another network"
            )
        entry.require(**{**_UP, "activation": ("linear", "relu") if relu else ("relu",)})
        return entry.inputs[0], skip, entry.name

    def expect(self, name: str, what: str, *kinds: str) -> _Entry:
        entry = self.through(name)
        if entry.kind not in kinds:
            raise ValueError(f"layer {entry.name} is {entry.kind}, expected {what}: it is another network")
        return entry

    def through(self, name: str) -> _Entry:
        """The layer, or the first one before it that does something in evaluation."""
        entry = self.entries[name]
        while entry.kind in _IDLE or entry.active == "linear":
            entry = self.entries[entry.inputs[0]]
        return entry


def _names(nodes: Any) -> Iterator[str]:
    """Names of the layers in Keras 2's nested lists ["name", 0, 0, {}], or in Keras 3's dictionaries of tensors."""
    if isinstance(nodes, dict):
        yield from _names(nodes.get("keras_history") or [nodes.get("args"), nodes.get("config")])
    elif isinstance(nodes, list) and nodes and isinstance(nodes[0], str):
        yield nodes[0]
    elif isinstance(nodes, list):
        for node in nodes:
            yield from _names(node)


def _plain(value: Any) -> Any:
    """A setting as one number or word: (2, 2) is 2, and a described activation is its name."""
    if isinstance(value, list) and value and all(item == value[0] for item in value):
        return value[0]
    if isinstance(value, dict):
        return str(value.get("config", value.get("class_name"))).lower()
    return value
