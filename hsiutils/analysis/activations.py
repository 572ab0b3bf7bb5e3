"""Activations of any layer as labelled arrays, and their sums over the regions of a scene.

Layers go by their Keras names. What Keras gives as a layer's output is the tensor before batch normalisation and ReLU;
the head decomposes the one after them (arXiv 2502.14416).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hsiutils.analysis.scenes import LabelledScenes, each_scene
from hsiutils.attribution.capture import activations, frozen, full_precision
from hsiutils.classes import CLASSES, VOID
from hsiutils.unet import UNet, UNetConfig, layer_shapes

Maps = NDArray[np.float32]

ROUNDING = 1e-10
"""A variance below this share of the mean square is what rounding leaves of a channel that never varies."""


def last_layer(config: UNetConfig) -> str:
    """Name of the layer that the head reads: conv2d_21 in the paper's network of depth 5."""
    return layer_shapes(config)[-2].name


def layer_level(config: UNetConfig, layer: str) -> int:
    """How often the image was halved where a layer stands: its grid is 2**level times coarser than the image.

    Raises
    ------
    KeyError
        If there is no such layer.
    """
    levels = {shape.name: shape.level for shape in layer_shapes(config)}
    if layer not in levels:
        raise KeyError(f"no layer {layer!r} in a U-Net of depth {config.depth}; it has {', '.join(levels)}")
    return levels[layer]


def observe(model: UNet, image: Tensor, layers: Iterable[str], after: bool = True) -> tuple[dict[str, Maps], Maps]:
    """One forward pass in evaluation mode.

    Parameters
    ----------
    image : (channels, h, w); moved to where the network is.
    layers : Keras names.
    after : activations after batch normalisation and ReLU, else before.

    Returns
    -------
    activations : layer -> (filters, h', w'), without the padding: h' is h halved level times and rounded up.
    logits : (classes, h, w).
    """
    names = list(layers)
    device = next(model.parameters()).device
    with frozen(model), full_precision(), torch.no_grad(), activations(model, names, after) as seen:
        logits = model(image[None].to(device))
        maps = {name: _cropped(seen[name], layer_level(model.config, name), image) for name in names}
    return maps, logits[0].cpu().numpy()


def _cropped(activation: Tensor, level: int, image: Tensor) -> Maps:
    """The part of the padded grid that lies over the image."""
    rows, columns = (-(-size // 2**level) for size in image.shape[1:])
    return np.ascontiguousarray(activation[0, :, :rows, :columns].cpu().numpy())


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
    float32 (scene, channel, y, x); the coordinates y and x are the centres of the layer's cells in image pixels.

    Raises
    ------
    KeyError
        If there is no such layer.
    ValueError
        If `images` is no batch of images, or has not one name each.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be (n, channels, h, w), got {tuple(images.shape)}")
    layer = layer or last_layer(model.config)
    labels = [str(n) for n in range(len(images))] if names is None else list(names)
    if len(labels) != len(images):
        raise ValueError(f"expected one name an image, got {len(labels)} names for {len(images)} images")
    maps = np.stack([observe(model, image, [layer], after)[0][layer] for image in images])
    return labelled_maps(maps, layer_level(model.config, layer), labels).assign_attrs(layer=layer, after=after)


def labelled_maps(maps: ArrayLike, level: int, names: Sequence[str]) -> xr.DataArray:
    """Give (scene, channel, y, x) its names and, along y and x, the cells' centres in image pixels."""
    values = np.asarray(maps)
    centres = [cell_centre(np.arange(size), level) for size in values.shape[2:]]
    coords = {"scene": list(names), "channel": np.arange(values.shape[1]), "y": centres[0], "x": centres[1]}
    return xr.DataArray(values, dims=("scene", "channel", "y", "x"), coords=coords, name="activation")


def cell_centre(index: ArrayLike, level: int) -> NDArray[np.float64]:
    """Where the centre of a layer's cell lies, in image pixels counted from the first pixel's centre."""
    return np.asarray((np.asarray(index, dtype=float) + 0.5) * 2**level - 0.5)


def region_statistics(
    model: UNet,
    scenes: LabelledScenes,
    layer: str | None = None,
    after: bool = True,
    names: Sequence[str] | None = None,
    regions: Sequence[str] = CLASSES,
) -> xr.Dataset:
    """Sums of a full-resolution layer's activations, and of their squares, over each region of each scene.

    Everything that is linear or quadratic in the activations follows from these few numbers, on any resampling of the
    scenes, without another forward pass.

    Parameters
    ----------
    layer : Keras name; None for the layer that the head reads.
    names : one a scene; None numbers them.
    regions : names of the indices in the label maps (the classes, or any other partition); `VOID` is left out.

    Returns
    -------
    Dataset of pixels (scene, region), total and square (scene, region, channel), float64; attrs layer and after.

    Raises
    ------
    ValueError
        If the layer has not the image's resolution, or a label map does not fit.
    """
    layer = layer or last_layer(model.config)
    require_full_resolution(model.config, layer)
    parts = []
    for scene in each_scene(scenes, names, regions):
        maps = observe(model, scene.image, [layer], after)[0][layer]
        parts.append(region_sums(maps, scene.truth, regions).assign_coords(scene=scene.name))
    return xr.concat(parts, dim="scene").assign_attrs(layer=layer, after=after)


def require_full_resolution(config: UNetConfig, layer: str) -> None:
    """Raise ValueError if a layer's grid is coarser than the image, so that its cells have no label of their own."""
    level = layer_level(config, layer)
    if level:
        raise ValueError(
            f"{layer} is {2**level} times coarser than the labels: take a layer of the first or last block"
        )


def region_sums(maps: Maps, truth: NDArray[np.integer[Any]], regions: Sequence[str]) -> xr.Dataset:
    """The sums of `region_statistics` of one scene's maps (channel, h, w)."""
    known = truth != VOID
    values = maps[:, known].astype(np.float64)
    member = np.eye(len(regions))[truth[known]]
    return xr.Dataset(
        {
            "pixels": ("region", member.sum(axis=0)),
            "total": (("channel", "region"), values @ member),
            "square": (("channel", "region"), values**2 @ member),
        },
        coords={"region": list(regions), "channel": np.arange(len(maps))},
    ).transpose("region", "channel")
