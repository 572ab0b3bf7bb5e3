"""Activations of any layer as labelled arrays, their sums over regions, and what the head makes of them.

Layers go by their Keras names. What Keras gives as a layer's output is the tensor before batch normalisation and ReLU;
the head reads the one after them. It is a 1x1 convolution, so

    y_c(p) = b_c + sum_k w_ck a_k(p)

with a_k the activations that it reads: the paper's explanation (arXiv 2502.14416, section 3), an identity without
gradient or approximation.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from hsiutils.attribution.hooks import activations, frozen, full_precision
from hsiutils.data.classes import VOID
from hsiutils.models.unet import UNet, UNetConfig, layer_shapes

Maps = NDArray[np.float32]
ROUNDING = 1e-10
"""A variance below this share of the mean square is what rounding leaves of a channel that never varies."""


def spaced(names: Sequence[str], most: int, centred: bool = False) -> list[str]:
    """At most so many names, at least one, evenly spaced through the list.

    Each is the first of its stretch of the list, so that the list's first is among them; if centred, the middle one.
    """
    if most < 1:
        raise ValueError(f"expected at least one scene, got {most}")
    count = min(most, len(names))
    return [names[(2 * index + centred) * len(names) // (2 * count)] for index in range(count)]


class LabelledScenes(Protocol):
    """What a torch Dataset of labelled images looks like; a list of pairs is one too."""

    def __len__(self) -> int:
        """Number of scenes."""

    def __getitem__(self, index: int, /) -> tuple[Tensor, Tensor]:
        """Image float (channels, h, w), and class indices (h, w) with `VOID` where nobody knows."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One labelled image: its name, the network's input (channels, h, w), class indices (h, w)."""

    name: str
    image: Tensor
    truth: NDArray[np.integer[Any]]


def name_each(count: int, names: Sequence[str] | None) -> list[str]:
    """One name a scene: those given, else their numbers; ValueError if there is no scene, or not one name each."""
    labels = [str(index) for index in range(count)] if names is None else list(names)
    if not labels or len(labels) != count:
        raise ValueError(f"expected one name a scene and at least one scene, got {len(labels)} names for {count}")
    return labels


def each_scene(scenes: LabelledScenes, names: Sequence[str] | None, classes: int) -> Iterator[Scene]:
    """Go through labelled scenes, named as by `name_each`; ValueError if labels fit neither image nor classes."""
    for index, name in enumerate(name_each(len(scenes), names)):
        image, truth = scenes[index]
        values = np.asarray(truth)
        if image.ndim != 3 or values.shape != tuple(image.shape[1:]):
            raise ValueError(
                f"scene {name}: expected an image (channels, h, w) and labels (h, w) of its size, "
                f"got {tuple(image.shape)} and {values.shape}"
            )
        wrong = values[(values != VOID) & ((values < 0) | (values >= classes))]
        if wrong.size:
            raise ValueError(
                f"scene {name}: label {wrong[0]} is no class; expected 0..{classes - 1}, or {VOID} for unlabelled"
            )
        yield Scene(name, image, values)


def pick(scores: pd.Series, rule: str = "median") -> str:
    """Name of the scene that a stated rule picks, so that nobody picks by eye.

    The scene whose score is the nearest from below to the quantile of all scores: median 0.5, worst 0, best 1. Scenes
    without a score (NaN) are left out; of equal scores the first name in alphabetical order is taken.

    Scores are one number a scene, indexed by name, larger is better, and a ValueError if there is none; rules are
    "median", "worst", "best", or such as "quantile:0.25".
    """
    known = scores.dropna()
    if known.empty:
        raise ValueError(f"no scene can be picked: none of the {len(scores)} scenes has a score")
    named = {"median": "0.5", "worst": "0", "best": "1"}
    try:
        level = float(named.get(rule, rule.removeprefix("quantile:")))
    except ValueError:
        level = np.nan
    if not 0 <= level <= 1:
        raise ValueError(f"unknown rule {rule!r}: expected median, worst, best, or quantile:Q with Q in 0..1")
    value = float(np.quantile(known.to_numpy(dtype=float), level, method="lower"))
    return str(min(map(str, known.index[known.to_numpy(dtype=float) == value])))


def layer_level(config: UNetConfig, layer: str) -> int:
    """How often the image was halved where a layer stands: its grid is 2**level times coarser than the image."""
    return {shape.name: shape.level for shape in layer_shapes(config)}[layer]


def observe(model: UNet, image: Tensor, layers: Iterable[str], after: bool = True) -> tuple[dict[str, Maps], Maps]:
    """Activations and logits of an image (channels, h, w), by one forward pass in evaluation mode.

    Activations, layer -> (filters, h', w'), after batch normalisation and ReLU or before, come without the padding: h'
    is h halved level times and rounded up. Logits are (classes, h, w).
    """
    maps, names = {}, list(layers)
    with frozen(model), full_precision(), torch.no_grad(), activations(model, names, after) as seen:
        logits = model(image[None].to(next(model.parameters()).device))
        for name in names:
            rows, columns = (-(-size // 2 ** layer_level(model.config, name)) for size in image.shape[1:])
            # (1, filters, padded h', padded w') -> (filters, h', w')
            maps[name] = np.ascontiguousarray(seen[name][0, :, :rows, :columns].cpu().numpy())
    return maps, logits[0].cpu().numpy()


def finest(model: UNet, image: Tensor) -> Maps:
    """What the finest skip connection of a network carries, (filters, h, w), computed alone; see `observe`."""
    height, width = image.shape[1:]
    rows, columns = model.config.padded((height, width))
    with frozen(model), full_precision(), torch.no_grad():
        x = model.entrance(image[None].to(next(model.parameters()).device))
        x = next(model.blocks())(functional.pad(x, (0, columns - width, 0, rows - height)))
    return np.ascontiguousarray(x[0, :, :height, :width].cpu().numpy())


def activation_maps(
    model: UNet,
    images: Tensor,
    layer: str | None = None,
    after: bool = True,
    names: Sequence[str] | None = None,
) -> xr.DataArray:
    """Activations of one layer for some images.

    Parameters
    ----------
    images : (n, channels, h, w)
    layer : Keras name; None for the layer that the head reads (conv2d_21 in the paper).
    after : after batch normalisation and ReLU; else what Keras calls the layer's output.
    names : one an image; None numbers them.

    Returns
    -------
    float32 (scene, channel, y, x); the coordinates y and x are the centres of the layer's cells in image pixels. A
    KeyError if there is no such layer, a ValueError if `images` is no batch, or has not one name each.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be (n, channels, h, w), got {tuple(images.shape)}")
    layer, labels = layer or model.config.last, name_each(len(images), names)
    # (channel, h', w') of each image -> (scene, channel, y, x)
    maps = np.stack([observe(model, image, [layer], after)[0][layer] for image in images])
    rows, columns = (cell_centre(np.arange(size), layer_level(model.config, layer)) for size in maps.shape[2:])
    coords = {"scene": labels, "channel": np.arange(maps.shape[1]), "y": rows, "x": columns}
    return xr.DataArray(maps, coords, tuple(coords), "activation", {"layer": layer, "after": after})


def cell_centre(index: ArrayLike, level: int) -> NDArray[np.float64]:
    """Where the centre of a layer's cell lies, in image pixels counted from the first pixel's centre."""
    return np.asarray((np.asarray(index, dtype=float) + 0.5) * 2**level - 0.5)


Parts = dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]
"""Dimensions and values of variables of one scene, of which a Dataset of many is made at once."""


def stacked(scenes: Sequence[Parts], coords: Mapping[str, ArrayLike]) -> xr.Dataset:
    """The variables of scenes, named by the coordinate scene, along scene."""
    return xr.Dataset(
        {key: (("scene", *dims), np.stack([one[key][1] for one in scenes])) for key, (dims, _) in scenes[0].items()},
        coords,
    )


def region_sums(maps: Maps, truth: NDArray[np.integer[Any]], regions: Sequence[str]) -> xr.Dataset:
    """Sums of activations and of their squares over each region of a scene.

    Of maps (channel, h, w) at the image's resolution and indices of regions (h, w), `VOID` left out; `regions` names
    the indices: the classes, or any other partition. Dataset of pixels (region), total and square (region, channel),
    float64.
    """
    coords = {"region": list(regions), "channel": np.arange(len(maps))}
    return xr.Dataset(region_parts(maps, truth, len(regions)), coords)


def region_parts(maps: Maps, truth: NDArray[np.integer[Any]], regions: int) -> Parts:
    """The variables of `region_sums` by their names."""
    known = truth != VOID
    values = maps[:, known].astype(np.float64)  # (channel, h, w) -> (channel, labelled pixel)
    member = np.eye(regions)[truth[known]]  # (labelled pixel, region), 1 where the pixel belongs to it
    each = ("region", "channel")
    return {
        "pixels": (each[:1], member.sum(axis=0)),
        "total": (each, (values @ member).T),
        "square": (each, (values**2 @ member).T),
    }


def head_table(model: UNet) -> xr.Dataset:
    """Weights and bias of the head: weight (channel, class), 32 x 5 in the paper, and bias (class); float64."""
    weight = model.head.weight.detach().cpu().double().numpy()[:, :, 0, 0]  # (class, channel, 1, 1) -> (class, channel)
    bias = cast(Tensor, model.head.bias).detach().cpu().double().numpy()
    return xr.Dataset(
        {"weight": (("channel", "class"), weight.T), "bias": ("class", bias)},
        coords={"channel": np.arange(weight.shape[1]), "class": list(model.config.names)},
    )


def contributions(model: UNet, image: Tensor) -> xr.Dataset:
    """What every channel contributes to every logit of one image (channels, h, w).

    Returns
    -------
    Dataset, float32: contribution (class, channel, y, x) = w_ck a_k(p); bias (class); logit (class, y, x), the
    network's own; activation (channel, y, x). contribution summed over channels, plus bias, is the logit.

    Examples
    --------
    >>> import torch
    >>> from hsiutils.models.unet import UNet, UNetConfig
    >>> model = UNet(UNetConfig(channels=3, filters=4, depth=1)).eval()
    >>> parts = contributions(model, torch.ones(3, 8, 10))
    >>> rest = parts["logit"] - parts["bias"] - parts["contribution"].sum("channel")
    >>> bool(abs(rest).max() < 1e-5)
    True
    """
    layer = model.config.last
    maps, logits = observe(model, image, [layer])
    head = head_table(model)
    pixels = {"y": np.arange(logits.shape[1]), "x": np.arange(logits.shape[2])}
    activation = xr.DataArray(maps[layer], {"channel": head["channel"], **pixels}, ("channel", "y", "x"))
    parts = (head["weight"].astype(np.float32) * activation).transpose("class", "channel", "y", "x")
    logit = (("class", "y", "x"), logits)
    return xr.Dataset({"contribution": parts, "bias": head["bias"], "logit": logit, "activation": activation})
