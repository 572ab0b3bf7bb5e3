"""Which channels make a class: a ranking that adds up, and the knock-out that checks it.

The score of channel k for class c is

    s_ck = m_ck (mean of a_k over c's pixels - mean over the other classes of their means of a_k),
    m_ck = w_ck - mean over c' != c of w_c'k,

the margin of c over the other classes that the channel adds on c's own pixels, less what it adds on theirs. Summed over
the channels it is exactly the mean margin on own pixels less that on the others'. It depends neither on the scale of a
channel (halving a_k and doubling w_ck changes nothing) nor on a number added to all logits.

`head` is weight and bias; `sums` are pixels, total and square by region, of `region_sums` along scene, here of the
layer that the head reads with the classes as regions. `hsiutils.analysis.survey.survey` gives both.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.analysis.activations import ROUNDING, LabelledScenes, Scene, each_scene, head_table, observe
from hsiutils.attribution.decompose import margins
from hsiutils.data.classes import VOID
from hsiutils.models.metrics import iou
from hsiutils.models.unet import UNet


def class_means(sums: xr.Dataset) -> xr.DataArray:
    """Mean activation on the pixels of each class: (..., class, channel); NaN for a class that no scene shows."""
    total, pixels = sums["total"].sum("scene"), sums["pixels"].sum("scene")
    return (total / pixels.where(pixels > 0)).rename(region="class").rename("activation")


def discrimination(head: xr.Dataset, sums: xr.Dataset) -> xr.Dataset:
    """How much each channel sets a class apart, and of what that is made up.

    Dataset (class, channel), in units of the logit, means over pixels:

    - contribution: to the class's own logit on its own pixels, w_ck a;
    - taken: from the mean logit of the other classes there;
    - granted: margin that the channel gives the class on the other classes' pixels, each class counting the same;
    - score: contribution + taken - granted, the s_ck of this module.

    A ValueError if the sums are of another layer or other regions.
    """
    _require_head_input(head, sums)
    means, weight, margin = class_means(sums), head["weight"], margins(head["weight"])
    shown = means.notnull()
    # Each class that is shown counts the same, or the scene's largest class would be all that counts.
    others = (means.sum("class") - means.fillna(0)) / (shown.sum("class") - 1)
    parts = {
        "contribution": weight * means,
        "taken": (margin - weight) * means,
        "granted": margin * others.where(shown),
    }
    score = parts["contribution"] + parts["taken"] - parts["granted"]
    return xr.Dataset({**parts, "score": score}).transpose(..., "class", "channel")


def _require_head_input(head: xr.Dataset, sums: xr.Dataset) -> None:
    """Raise ValueError unless the sums are of the tensor that the head reads, over the head's classes."""
    if not sums.attrs.get("after") or list(sums["channel"].values) != list(head["channel"].values):
        raise ValueError(
            "expected sums of the layer that the head reads, after batch normalisation and ReLU; got "
            f"{sums.attrs.get('layer')} (after={sums.attrs.get('after')})"
        )
    if list(sums["region"].values) != list(head["class"].values):
        raise ValueError(
            f"the regions must be the head's classes {list(head['class'].values)}, got {list(sums['region'].values)}"
        )


def rank_channels(scores: xr.Dataset) -> pd.DataFrame:
    """Channels of each class by falling score, of `discrimination`, with what the first n of them explain.

    One row a (class, rank), rank from 1: channel; contribution, taken, granted, score; logit_share, the part of the
    class's mean logit on its own pixels (less the bias) that the channels so far sum to; score_share, the part of the
    class's separation from the others. Shares pass 1 where later channels are against the class.
    """
    order = {name: index for index, name in enumerate(scores["class"].values)}
    table = scores.to_dataframe()[["contribution", "taken", "granted", "score"]].reset_index()
    table = table.sort_values(
        ["class", "score"], key=lambda column: column.map(order) if column.name == "class" else -column, kind="stable"
    )
    grouped = table.groupby("class", sort=False)
    table["rank"] = grouped.cumcount() + 1
    for name, share in (("contribution", "logit_share"), ("score", "score_share")):
        table[share] = grouped[name].cumsum() / grouped[name].transform("sum")
    return table.set_index(["class", "rank"])


def knock_out(
    model: UNet,
    scenes: LabelledScenes,
    replacement: str = "zero",
    means: xr.DataArray | None = None,
    names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Silence one channel before the head at a time, and count what the network then predicts.

    The head is linear, so one forward pass a scene serves all channels: y_c - w_ck (a_k - r_k).

    Parameters
    ----------
    replacement : r_k is "zero", or the channel's "mean". A channel that is on everywhere acts as a bias, which zero
        takes away and the mean leaves; the mean is the better check of a ranking by what sets classes apart.
    means : (channel) for replacement "mean", and only for it: e.g. the mean activation over all labelled pixels.
    names : one a scene; None numbers them.

    Returns
    -------
    Dataset of intact (scene, truth, predicted) and silenced (scene, channel, truth, predicted), pixel counts.
    """
    if replacement not in ("zero", "mean") or (replacement == "mean") != (means is not None):
        raise ValueError(f"replacement must be 'zero', or 'mean' with `means` given; got {replacement!r}")
    head = head_table(model)
    level = np.zeros(head.sizes["channel"]) if means is None else np.asarray(means, dtype=float)
    parts = [_silence_each(model, scene, head, level) for scene in each_scene(scenes, names, head.sizes["class"])]
    return xr.concat(parts, dim="scene").assign_attrs(replacement=replacement)


def _silence_each(model: UNet, scene: Scene, head: xr.Dataset, level: NDArray[np.float64]) -> xr.Dataset:
    layer = model.config.last
    maps, logits = observe(model, scene.image, [layer])
    weight, classes = head["weight"].values, [str(name) for name in head["class"].values]
    known = scene.truth != VOID
    # (class, h, w) -> (class, labelled pixel), (channel, h, w) -> (channel, labelled pixel)
    truth, before, inputs = scene.truth[known], logits[:, known].astype(np.float64), maps[layer][:, known]

    without = (before - weight[channel][:, None] * (values - level[channel]) for channel, values in enumerate(inputs))
    guesses = (logit.argmax(axis=0) for logit in chain([before], without))
    count = len(classes)  # every pair of true and predicted class has a number
    pairs = (np.bincount(count * truth + guess, minlength=count**2) for guess in guesses)
    intact, *silenced = (found.reshape(count, count) for found in pairs)
    pair = ("truth", "predicted")
    return xr.Dataset(
        {"intact": (pair, intact), "silenced": (("channel", *pair), np.stack(silenced))},
        coords={"channel": head["channel"], "scene": scene.name, **dict.fromkeys(pair, classes)},
    )


def iou_loss(counts: xr.Dataset) -> xr.DataArray:
    """IoU lost without each channel, of `knock_out` over all scenes: (class, channel); negative where a class gains."""
    total = counts.sum("scene")
    loss = iou(total["intact"]) - iou(total["silenced"])
    return loss.transpose(..., "class", "channel").rename("iou_loss")


def between_regions(sums: xr.Dataset) -> xr.DataArray:
    """Share of a channel's variance inside scenes that lies between regions and not inside them: (channel).

    Of `region_sums` along scene, pooled over scenes; the correlation ratio (eta squared). 1 is a channel that is
    constant on every region of a scene; NaN for a channel that never varies.
    """
    pixels, total, square = (sums[name] for name in ("pixels", "total", "square"))
    inside = (square - total**2 / _above_zero(pixels)).clip(min=0)
    whole = square.sum("region") - total.sum("region") ** 2 / _above_zero(pixels.sum("region"))
    whole = whole.clip(min=0).sum("scene")
    varies = whole > ROUNDING * square.sum(["scene", "region"])
    return 1 - inside.sum(["scene", "region"]) / whole.where(varies)


def _above_zero(values: xr.DataArray) -> xr.DataArray:
    """The values where they can be divided by, NaN elsewhere."""
    return values.where(values > 0)
