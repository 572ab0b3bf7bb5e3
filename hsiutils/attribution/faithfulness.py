"""Does the network do what a map says? Insertion and deletion of pixels, and replacement of bands.

Both change the input and ask the network again, so they judge what a change does, not whether contributions sum to the
logit. The reference that takes the place of what is removed is an argument: another reference, another answer.
"""

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from hsiutils.attribution.affine import input_image
from hsiutils.attribution.capture import frozen, full_precision
from hsiutils.attribution.grid import to_image
from hsiutils.attribution.perturbation import BATCH, band_occlusion
from hsiutils.attribution.reference import reference_image
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import Target
from hsiutils.unet import UNet


def insertion_deletion(
    model: UNet,
    x: Tensor,
    target: Target,
    attribution: Attribution,
    *,
    reference: ArrayLike | Tensor = 0.0,
    steps: int = 16,
) -> xr.Dataset:
    """The target's value while pixels are put in, or taken out, in the order of a map: highest first (Petsiuk 2018).

    A map on a coarser grid is upsampled; bands are summed. Equal values keep the order of the pixels.

    Parameters
    ----------
    x : (channels, h, w) or (1, channels, h, w).
    attribution : of this image, with axes y and x.
    reference : what stands where pixels are absent: a number, a spectrum (channels,) or an image (channels, h, w).
    steps : points of the curves after the first.

    Returns
    -------
    Dataset
        `value` (curve, fraction): "insertion" goes from the reference image to the image, "deletion" the other way.
        `area` (curve): under the curve of (value - reference's) / (image's - reference's), so that what the order does
        shows and the logit's size does not; NaN where both are the same. `score`: insertion's area less deletion's,
        above zero where the map finds what matters.

    Raises
    ------
    ValueError
        If the map has no space or another size, steps is not positive, or the reference does not fit the image.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    image = input_image(model, x)
    start = reference_image(reference, image)
    ranks = _ranks(pixel_map(model, attribution, image))
    fractions = np.linspace(0, 1, steps + 1)
    present = [torch.as_tensor(ranks < round(share * ranks.size)).to(image.device) for share in fractions]
    insertion = _values(model, target, [torch.where(mask, image, start) for mask in present])
    deletion = _values(model, target, [torch.where(mask, start, image) for mask in present])
    value = np.stack([insertion, deletion])
    change = insertion[-1] - insertion[0]
    shares = (value - insertion[0]) / change if change else np.full_like(value, np.nan)
    area = np.asarray(np.trapezoid(shares, fractions, axis=1))
    return xr.Dataset(
        {"value": (("curve", "fraction"), value), "area": (("curve",), area), "score": ((), area[0] - area[1])},
        {"curve": ["insertion", "deletion"], "fraction": fractions},
    )


def band_ablation(
    model: UNet, x: Tensor, target: Target, claimed: Attribution, *, reference: ArrayLike | Tensor = 0.0
) -> xr.Dataset:
    """What a method says of each band against what happens when the band is replaced.

    Parameters
    ----------
    x : (channels, h, w) or (1, channels, h, w).
    claimed : attribution with an axis "band"; summed over space.
    reference : what a band is replaced by: a number, a spectrum (channels,) or an image (channels, h, w).

    Returns
    -------
    Dataset
        `claimed` and `change` (band,), the latter the fall of the target's value; `spearman`, their rank correlation,
        NaN where one of them is the same for all bands.

    Raises
    ------
    ValueError
        If the map has no axis "band", or not as many bands as the image.
    """
    if "band" not in claimed.map.dims or claimed.map.sizes["band"] != x.shape[-3]:
        raise ValueError(
            f"{claimed.method}: a map with {x.shape[-3]} bands is needed, got dims {dict(claimed.map.sizes)}"
        )
    space = [dim for dim in claimed.map.dims if dim != "band"]
    said = claimed.map.sum(space, dtype=np.float64).values
    change = band_occlusion(model, x, target, reference=reference).map.values.astype(np.float64)
    varied = np.ptp(said) > 0 and np.ptp(change) > 0
    spearman = float(spearmanr(said, change).statistic) if varied else float("nan")
    return xr.Dataset({"claimed": (("band",), said), "change": (("band",), change), "spearman": ((), spearman)})


def pixel_map(model: UNet, attribution: Attribution, image: Tensor) -> NDArray[np.float64]:
    """A map as one number a pixel of the image, (h, w): bands summed, coarser grids upsampled, padding cropped.

    Raises
    ------
    ValueError
        If the map has no axes y and x, values that are not finite, or its grid is not one of this image's.
    """
    if not {"y", "x"} <= set(attribution.map.dims):
        raise ValueError(f"{attribution.method}: a map in space is needed, got dims {attribution.map.dims}")
    if not np.isfinite(attribution.map.values).all():
        raise ValueError(f"{attribution.method}: the map holds values that are not finite, and orders nothing")
    others = [dim for dim in attribution.map.dims if dim not in ("y", "x")]
    values = attribution.map.sum(others, dtype=np.float64).transpose("y", "x").values
    (height, width), stride = image.shape[1:], model.config.stride
    if values.shape == (height, width):
        return np.asarray(values)
    rows, columns = height + -height % stride, width + -width % stride
    if any(full % part for full, part in zip((rows, columns), values.shape, strict=True)):
        raise ValueError(f"{attribution.method}: a map of {values.shape} is of no layer of an image {(height, width)}")
    whole = to_image(torch.as_tensor(values)[None, None], (rows, columns), (height, width))
    return np.asarray(whole[0, 0].numpy())


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each pixel, 0 for the highest."""
    return np.asarray(rankdata(-values, method="ordinal").reshape(values.shape) - 1)


def _values(model: UNet, target: Target, images: list[Tensor]) -> NDArray[np.float64]:
    with torch.no_grad(), full_precision(), frozen(model):
        batches = [torch.stack(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        return np.concatenate([target.value(model(batch)).double().cpu().numpy() for batch in batches])
