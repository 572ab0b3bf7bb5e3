"""The residual of every pixel and class at once: how far each method's map for one logit is from summing to it.

Only methods with sums in their record can be asked so (`hsiutils.attribution.methods.Method`). Guided BackProp, Guided
GradCAM and LRP send each logit back by a rule of their own, and DeepLIFT sums to the logit by construction:
`hsiutils.attribution.leaderboard` asks them at single pixels. Conservativeness: arXiv 2502.14416 Eqs. 5-7.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from hsiutils.attribution.cams import signed_gradcam_sums
from hsiutils.attribution.hooks import INPUT, Picker, full_precision, picked
from hsiutils.attribution.linearise import MEMORY
from hsiutils.attribution.methods import METHODS, Method
from hsiutils.attribution.result import as_map
from hsiutils.attribution.sums import Audited, Sums
from hsiutils.attribution.tape import NotPiecewiseLinear
from hsiutils.attribution.targets import class_names

_SIGNED = replace(METHODS["GradCAM"], name="GradCAM signed", sums=signed_gradcam_sums)
AUDITED: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in (*METHODS.values(), _SIGNED) if method.sums is not None}
)
"""Methods that can be audited, by name. "GradCAM" is as published, with its ReLU, and "GradCAM signed" without."""


def audit(
    model: nn.Module,
    x: Tensor,
    methods: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    *,
    after: bool = True,
    upsample: bool = False,
    patch: int = 8,
    memory: int = MEMORY,
    output: Picker | None = None,
    freeze: bool = False,
) -> xr.Dataset:
    """Residual, total minus logit, of each method at every pixel and class of a batch of images.

    Parameters
    ----------
    model : any torch network that is piecewise linear, of images (n, channels, h, w) and logits (n, classes, h', w'),
        or a dict that has them under "out".
    x : (n, channels, h, w) or (channels, h, w).
    methods : names of `AUDITED`; None for all. Those whose sums are known only before a head, a 1 x 1 convolution that
        makes the logits (`hsiutils.attribution.head`), are left out where there is none.
    layers : Keras names of a `UNet`, torch names of another network, or "input", for methods whose sums are known at
        any layer and, where the last one is among them, for those whose sums are known there only. None for
        the usual ones: the first skip connection, the base, and the last convolution before the head; of another
        network the last layers on the smallest grid and before the logits.
    after : take the layers after batch normalisation and ReLU; else as Keras calls `get_layer(name).output`.
    upsample : sum the maps after bilinear upsampling to the image; else over the layer's own (padded) grid.
    patch : side of occlusion's patches, pixels: it takes a forward pass a patch.
    memory : limit on working memory, bytes; the result comes on top.
    output, freeze : as of `hsiutils.attribution.gates.Affine`, for networks that return more than logits, or have
        smooth gates. With frozen gates no push is the derivative: methods that need it are left out, or refused where
        they are named.

    Returns
    -------
    Dataset
        `residual` (image, method, class, y, x) and `logit` (image, class, y, x); `region_residual` (image, method,
        class) and `region_logit` (image, class) for the region that the network gives to each class, NaN where it
        gives it none. Coordinates of method: `name` and `layer`. Select by `found.sel({"method": "CAM conv2d_21"})`:
        xarray takes `sel(method=...)` for a way of interpolating. Attributes `exact`, 1 unless gates were frozen, and
        `frozen`, their names.

    Raises
    ------
    KeyError
        If there is no such layer.
    NotPiecewiseLinear
        If the network has no exact affine map; the message names what is in the way.
    ValueError
        If there is no such method, or none has sums at these layers, x does not fit the network, or the memory limit is
        too small.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)).double().eval()
    >>> x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)).double()
    >>> found = hu.audit(model, x, methods=["CAM", "GradCAM"], layers=["conv2d_5"])
    >>> abs(found["residual"]).max(("image", "class", "y", "x")).values < 1e-10
    array([ True, False])
    """
    names = list(AUDITED) if methods is None else list(methods)
    if unknown := [name for name in names if name not in AUDITED]:
        raise ValueError(f"no audit of {', '.join(unknown)}: every pixel can be asked of {', '.join(AUDITED)}")
    batch = x[None] if x.ndim == 3 else x
    asked = [method for name, method in AUDITED.items() if name in names]
    with picked(model, output):
        images = (Audited.of(model, image, layers, after, upsample, memory, freeze) for image in batch)
        return xr.concat([_one(image, asked, patch, methods is None) for image in images], dim="image")


def _asked(image: Audited, methods: Sequence[Method]) -> Iterator[tuple[Method, str]]:
    """Each method with each layer at which its sums are known and asked for."""
    if any(method.summed == "head" for method in methods) and image.found:
        yield from ((method, image.last) for method in methods if method.summed == "head")
    yield from ((method, INPUT) for method in methods if method.summed == "input")
    for layer in image.seen:
        known = ("layers",) if layer == INPUT else ("layers", "inner")
        yield from ((method, layer) for method in methods if method.summed in known)
    asked = [method for method in methods if method.summed in ("last", "read")]
    for layer in filter(image.is_last, image.seen if image.after and asked else ()):
        yield from ((method, layer) for method in asked if method.summed == "last" or image.found)


def _one(image: Audited, methods: Sequence[Method], patch: int, lenient: bool) -> xr.Dataset:
    """Audit one image; lenient is to leave out what frozen gates forbid."""
    sums: dict[tuple[str, str], Sums] = {}
    with torch.no_grad(), full_precision():
        for method, layer in _asked(image, methods):
            assert method.sums is not None  # noqa: S101
            options = {"patch": patch} if method.name == "occlusion" else {}
            try:
                sums[method.name, layer] = method.sums(image, layer, **options)
            except NotPiecewiseLinear:
                if not lenient:
                    raise
    if not sums:
        named = ", ".join(method.name for method in methods)
        raise ValueError(f"no sums of {named} are known at {', '.join(image.seen)}: ask for another layer, or method")
    names, layers = zip(*sums, strict=True)
    totals = torch.stack([found.pixels for found in sums.values()])
    regions = torch.stack([found.regions for found in sums.values()])
    region_logit = image.over_regions(image.logits).where(image.masks.any(2).any(1), torch.nan)
    coords: dict[str, Any] = {
        "method": [f"{name} {layer}" for name, layer in sums],
        "name": ("method", list(names)),
        "layer": ("method", list(layers)),
        "class": list(class_names(image.model, len(image.logits))),
    }
    variables = {
        "residual": as_map(totals - image.logits, ("method", "class", "y", "x")),
        "logit": as_map(image.logits, ("class", "y", "x")),
        "region_residual": as_map(regions - region_logit, ("method", "class")),
        "region_logit": as_map(region_logit, ("class",)),
    }
    return xr.Dataset(variables, coords, {"exact": int(image.at.exact), "frozen": ", ".join(image.at.frozen)})
