"""What the pixels of one class say for another, and how alike the pixels of one region are.

Claims 5 and 6 of arXiv 2502.14416 (its Fig. 5): vegetation wrongly activates for Road in the 1- and 3-channel models;
the 25-channel model's activations are less homogeneous in diverse regions.
"""

import numpy as np
import xarray as xr

from hsiutils.analysis.activations import ROUNDING
from hsiutils.analysis.channels import require_head_input
from hsiutils.analysis.head import margin_weights


def evidence(head: xr.Dataset, statistics: xr.Dataset, margin: bool = True) -> xr.Dataset:
    """What the channels say for and against each class, summed over the pixels of each true class.

    The activations before the head are not negative, so the positive contributions of all channels to a logit are a
    linear function of them: sum_k max(w_ck, 0) a_k.

    Parameters
    ----------
    head : of `head_table`.
    statistics : of `region_statistics` at the layer that the head reads, with the classes as regions.
    margin : weigh by `margin_weights`, which a number added to all logits leaves unchanged; else by the plain weights,
        as the paper's pictures do.

    Returns
    -------
    Dataset of positive and negative (scene, region, class), in logits times pixels, and pixels (scene, region).
    """
    require_head_input(head, statistics)
    weight = margin_weights(head) if margin else head["weight"]
    total = statistics["total"]
    return xr.Dataset(
        {
            "positive": xr.dot(total, weight.clip(min=0), dim="channel"),
            "negative": xr.dot(total, weight.clip(max=0), dim="channel"),
            "pixels": statistics["pixels"],
        }
    )


def drive(found: xr.Dataset, source: str = "Vegetation", target: str = "Road") -> xr.Dataset:
    """How strongly true pixels of one class drive another, pooled over scenes.

    Parameters
    ----------
    found : of `evidence`; further dimensions (model, seed...) are carried through.
    source : true class whose pixels are looked at.
    target : class whose logit they drive.

    Returns
    -------
    Dataset, every variable without unit and independent of the scale of the logits:

    - share: of all positive contributions to the target's logit, the part on source pixels;
    - area: of all labelled pixels, the part that are source pixels; a network that does not look has share = area;
    - ratio: positive contribution per source pixel over that per true target pixel; 0 is clean, 1 blind. What speaks
      against the target at the same pixels is not in it;
    - balance: (positive + negative) / (positive - negative) on source pixels; -1 all against the target, +1 all for it;
    - placement: where the source pixels' mean contribution, for and against, lies on a line from the mean over the
      remaining classes (0) to the target's own pixels (1): driven like any other class, or like the target. The bias
      drops out. NaN where the target's pixels are not driven more than the remaining classes'.
    """
    pooled = found.sum("scene")
    positive, negative = (pooled[name].sel({"class": target}, drop=True) for name in ("positive", "negative"))
    on, off = positive.sel(region=source, drop=True), negative.sel(region=source, drop=True)
    pixels, own_pixels = (_some(pooled["pixels"].sel(region=name, drop=True)) for name in (source, target))
    own = positive.sel(region=target, drop=True) / own_pixels
    return xr.Dataset(
        {
            "share": on / _some(positive.sum("region")),
            "area": pixels / _some(pooled["pixels"].sum("region")),
            "ratio": on / pixels / _some(own),
            "balance": (on + off) / _some(on - off),
            "placement": _placement(pooled, source, target),
        }
    )


def _placement(pooled: xr.Dataset, source: str, target: str) -> xr.DataArray:
    sums = (pooled["positive"] + pooled["negative"]).sel({"class": target}, drop=True)
    mean = sums / _some(pooled["pixels"])
    # A class that no scene shows is NaN, and left out.
    rest = mean.drop_sel(region=[source, target]).mean("region")
    own, on = (mean.sel(region=name, drop=True) for name in (target, source))
    return (on - rest) / _some(own - rest)


def homogeneity(statistics: xr.Dataset) -> xr.Dataset:
    """How alike a layer's activations are inside the regions of the same scene, pooled over scenes.

    Parameters
    ----------
    statistics : of `region_statistics`, any layer and any partition (the merged class "Other" is the paper's diverse
        region; a map of label codes or of objects works as well).

    Returns
    -------
    Dataset, neither of which depends on a channel's scale:

    - variation (region, channel): coefficient of variation, the standard deviation inside a region of a scene over the
      region's mean; larger is less homogeneous. Meant for activations after ReLU. NaN for a channel silent there.
    - between (channel): share of the variance inside scenes that lies between regions and not inside them; 1 is a
      channel that is constant on every region. NaN for a channel that never varies.
    """
    pixels, total, square = (statistics[name] for name in ("pixels", "total", "square"))
    inside = (square - total**2 / _some(pixels)).clip(min=0)
    whole = (square.sum("region") - total.sum("region") ** 2 / _some(pixels.sum("region"))).clip(min=0).sum("scene")
    spread = np.sqrt(inside.sum("scene") / _some(pixels.sum("scene")))
    mean = total.sum("scene") / _some(pixels.sum("scene"))
    varies = whole > ROUNDING * square.sum(["scene", "region"])
    between = 1 - inside.sum(["scene", "region"]) / whole.where(varies)
    return xr.Dataset({"variation": spread / _some(abs(mean)), "between": between})


def _some(values: xr.DataArray) -> xr.DataArray:
    """The values where there is anything to divide by, NaN elsewhere."""
    return values.where(values > 0)
