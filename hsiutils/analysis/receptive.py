"""How far a layer looks: the theoretical receptive field beside the effective one.

The authors measure the effective field as the circle that holds the gradients above 25 % of the maximum (first author's
public code of December 2023). Here the gradient is that of the sum over the layer's channels at one cell, its size at
an input pixel is its Euclidean length over the input's channels, and the circle is centred on the cell.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hsiutils.analysis.activations import LabelledScenes, cell_centre, each_scene, layer_level
from hsiutils.attribution.hooks import activations, frozen
from hsiutils.data.classes import VOID
from hsiutils.models.unet import UNet, UNetConfig, receptive_field


def field_layers(config: UNetConfig) -> list[str]:
    """The layers whose fields the authors show: the second of every block, but for the two around the bottom of the U.

    At depth 5 these are conv2d_1, 3, 5, 7, 15, 17, 19, 21: encoder blocks but the last, decoder blocks but the first.
    """
    return [name for _, name in config.blocks if layer_level(config, name) < max(config.depth - 1, 1)]


def effective_fields(
    model: UNet,
    scenes: LabelledScenes,
    seed: int,
    layers: Sequence[str] | None = None,
    pixels: int = 4,
    after: bool = False,
    names: Sequence[str] | None = None,
    threshold: float = 0.25,
) -> pd.DataFrame:
    """Effective receptive fields at labelled pixels drawn at random.

    Parameters
    ----------
    seed : of the draw.
    layers : Keras names; None for `field_layers`.
    pixels : drawn from each scene, without repeating.
    after : after batch normalisation and ReLU; else what Keras calls the layer's output.
    names : one a scene; None numbers them.
    threshold : share of the largest gradient above which an input pixel counts.

    Returns
    -------
    One row a (layer, scene, pixel): layer, scene, class, row, column; diameter of the circle, and of the disc whose
    area is that of the pixels above the threshold (area_diameter), pixels; theoretical, the side of the square that the
    layer can see (the circle around it is wider by the root of two). Fields end at the image's rim. NaN where no
    gradient reaches the input. A KeyError if there is no such layer, a ValueError if a scene has fewer labelled pixels
    than are to be drawn.
    """
    if not 0 < threshold < 1 or pixels < 1:
        raise ValueError(f"threshold must lie in 0..1 and pixels be 1 or more, got {threshold} and {pixels}")
    chosen = field_layers(model.config) if layers is None else list(layers)
    rng = np.random.default_rng(seed)
    classes = model.config.names
    rows: list[dict[str, object]] = []
    for scene in each_scene(scenes, names, len(classes)):
        labelled = np.argwhere(scene.truth != VOID)
        if len(labelled) < pixels:
            raise ValueError(f"scene {scene.name} has {len(labelled)} labelled pixels, {pixels} are to be drawn")
        image = scene.image[None].to(next(model.parameters()).device, copy=True).requires_grad_()
        with frozen(model), torch.enable_grad(), activations(model, chosen, after) as seen:
            model(image)
        for row, column in rng.choice(labelled, pixels, replace=False).tolist():
            place = {"class": classes[int(scene.truth[row, column])], "row": row, "column": column}
            for layer in chosen:
                field = _field(seen[layer], layer_level(model.config, layer), image, (row, column), threshold)
                rows.append({"layer": layer, "scene": scene.name, **place, **field})
    table = pd.DataFrame(rows)
    return table.assign(theoretical=table["layer"].map(receptive_field(model.config)))


def _field(activation: Tensor, level: int, image: Tensor, place: tuple[int, int], threshold: float) -> dict[str, float]:
    """Diameters of the field of the cell (of channels, h', w') that an image pixel lies in: one backward pass."""
    row, column = (index >> level for index in place)
    (gradient,) = torch.autograd.grad(activation[0, :, row, column].sum(), image, retain_graph=True)
    size = gradient[0].square().sum(0).sqrt().cpu().double().numpy()  # (1, channels, h, w) -> (h, w)
    if not size.max() > 0:
        return {"diameter": np.nan, "area_diameter": np.nan}
    held = np.argwhere(size >= threshold * size.max())
    reach = np.hypot(*(held - cell_centre((row, column), level)).T).max()
    # A pixel is one pixel wide: a field of one pixel has the diameter 1.
    return {"diameter": float(2 * reach + 1), "area_diameter": float(2 * np.sqrt(len(held) / np.pi))}


def theoretical_fields(config: UNetConfig) -> pd.DataFrame:
    """Level and side of the square of input pixels (theoretical) of the second convolution of every block, by layer."""
    fields = receptive_field(config)
    rows = [{"layer": name, "level": layer_level(config, name), "side": fields[name]} for _, name in config.blocks]
    return pd.DataFrame(rows).set_index("layer")
