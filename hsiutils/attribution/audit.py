"""The residual of every pixel and class at once: how far each method's map for one logit is from summing to it.

A method that explains one pixel at a time would need one backward pass for each pixel and class. The closed forms of
`sums_input`, `sums_cams` and `sums_gradcam` need a pass, a pass a channel, or a pass a changed copy of the image, each
for all logits together.

Four methods have no such form: Guided BackProp, Guided GradCAM and LRP send each logit back by a rule of their own,
and DeepLIFT needs none, because it sums to the logit by construction. `hsiutils.attribution.leaderboard` asks them at
single pixels. Conservativeness: arXiv 2502.14416 Eqs. 5-7.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hsiutils.attribution import sums_cams, sums_gradcam, sums_input
from hsiutils.attribution.affine import MEMORY, conv_name
from hsiutils.attribution.audited import Audited, Sums
from hsiutils.attribution.cams import last_layer
from hsiutils.attribution.capture import INPUT
from hsiutils.attribution.targets import class_name
from hsiutils.unet import UNet

AT_INPUT: Mapping[str, Callable[..., Sums]] = MappingProxyType(
    {
        "linear decomposition": sums_input.linear_decomposition,
        "gradient x input": sums_input.gradient_x_input,
        "gradient": sums_input.gradient,
        "SmoothGrad": sums_input.smoothgrad,
        "Integrated Gradients": sums_input.integrated_gradients,
        "occlusion": sums_input.occlusion,
        "band occlusion": sums_input.band_occlusion,
    }
)
"""Methods that explain by the input."""

AT_LAYERS: Mapping[str, Callable[[Audited, str], Sums]] = MappingProxyType(
    {
        "GradCAM": sums_gradcam.gradcam,
        "GradCAM signed": sums_gradcam.signed_gradcam,
        "HiResCAM": sums_cams.hirescam,
        "XGradCAM": sums_cams.xgradcam,
    }
)
"""Methods that have a closed form at any layer. At the input, HiResCAM and XGradCAM are gradient x input."""

BEFORE_HEAD: Mapping[str, Callable[[Audited, str], Sums]] = MappingProxyType(
    {
        "LayerCAM": sums_cams.layercam,
        "GradCAM++": sums_cams.gradcam_plus_plus,
        "EigenCAM": sums_cams.eigencam,
        "AblationCAM": sums_cams.ablationcam,
        "ScoreCAM": sums_cams.scorecam,
    }
)
"""Methods that are audited at the head's input only: elsewhere they have no closed form, or cost a pass a channel."""

AUDITED: tuple[str, ...] = ("CAM", *AT_INPUT, *AT_LAYERS, *BEFORE_HEAD)
"""Names of all methods that can be audited, as in `hsiutils.attribution.methods`; "GradCAM signed" has no ReLU."""


def audit(
    model: UNet,
    x: Tensor,
    layers: Sequence[str] | None = None,
    *,
    methods: Sequence[str] = AUDITED,
    after: bool = True,
    upsample: bool = False,
    patch: int = 8,
    memory: int = MEMORY,
) -> xr.Dataset:
    """Residual, total minus logit, of each method at every pixel and class of a batch of images.

    Parameters
    ----------
    x : (n, channels, h, w) or (channels, h, w).
    layers : Keras names, or "input", for the methods of `AT_LAYERS` (GradCAM as published, with its ReLU) and, where
        the head's input is among them, for those of `BEFORE_HEAD`. None for the first skip connection, the base, and
        the last convolution before the head.
    methods : names of `AUDITED`.
    after : take the layers after batch normalisation and ReLU; else as Keras calls `get_layer(name).output`.
    upsample : sum the maps after bilinear upsampling to the image; else over the layer's own (padded) grid.
    patch : side of occlusion's patches, pixels: it takes a forward pass a patch.
    memory : limit on working memory, bytes; the result comes on top.

    Returns
    -------
    Dataset
        `residual` (image, method, class, y, x) and `logit` (image, class, y, x); `region_residual` (image, method,
        class) and `region_logit` (image, class) for the region that the network gives to each class, NaN where it
        gives it none. Coordinates of method: `name` and `layer`. Select by `found.sel({"method": "CAM conv2d_21"})`:
        xarray takes `sel(method=...)` for a way of interpolating.

    Raises
    ------
    KeyError
        If there is no such layer.
    ValueError
        If there is no such method, x does not fit the network, or the memory limit is too small.
    """
    if unknown := [name for name in methods if name not in AUDITED]:
        raise ValueError(f"no audit of {', '.join(unknown)}: every pixel can be asked of {', '.join(AUDITED)}")
    chosen = default_layers(model) if layers is None else list(layers)
    batch = x[None] if x.ndim == 3 else x
    looks = (Audited.of(model, image, chosen, after, upsample, memory) for image in batch)
    return xr.concat([_one(look, dict(_sums(look, methods, patch))) for look in looks], dim="image")


def default_layers(model: UNet) -> list[str]:
    """The first skip connection's tensor, the base's last, and the one before the head."""
    return [conv_name(1), conv_name(2 * model.config.depth + 1), last_layer(model)]


def _sums(image: Audited, methods: Sequence[str], patch: int) -> Iterator[tuple[tuple[str, str], Sums]]:
    """Every method's sums under (name, layer)."""
    last = last_layer(image.model)
    with torch.no_grad():
        if "CAM" in methods:
            yield ("CAM", last), sums_cams.cam(image)
        for name in (name for name in AT_INPUT if name in methods):
            options = {"patch": patch} if name == "occlusion" else {}
            yield (name, INPUT), AT_INPUT[name](image, **options)
        for layer in image.seen:
            for name in (name for name in AT_LAYERS if name in methods):
                if layer != INPUT or name.startswith("GradCAM"):
                    yield (name, layer), AT_LAYERS[name](image, layer)
        if image.after and last in image.seen:
            for name in (name for name in BEFORE_HEAD if name in methods):
                yield (name, last), BEFORE_HEAD[name](image, last)


def _one(image: Audited, sums: Mapping[tuple[str, str], Sums]) -> xr.Dataset:
    names, layers = zip(*sums, strict=True)
    totals = torch.stack([found.pixels for found in sums.values()])
    regions = torch.stack([found.regions for found in sums.values()])
    region_logit = image.over_regions(image.logits).where(image.masks.any(2).any(1), torch.nan)
    coords: dict[str, Any] = {
        "method": [f"{name} {layer}" for name, layer in sums],
        "name": ("method", list(names)),
        "layer": ("method", list(layers)),
        "class": [class_name(number) for number in range(len(image.logits))],
    }
    return xr.Dataset(
        {
            "residual": (("method", "class", "y", "x"), _numpy(totals - image.logits)),
            "logit": (("class", "y", "x"), _numpy(image.logits)),
            "region_residual": (("method", "class"), _numpy(regions - region_logit)),
            "region_logit": (("class",), _numpy(region_logit)),
        },
        coords,
    )


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(values.detach().cpu().numpy())
