"""Which channels make a class: a ranking that adds up, and the knock-out that checks it.

The score of channel k for class c is

    s_ck = m_ck (mean of a_k over c's pixels - mean over the other classes of their means of a_k),
    m_ck = w_ck - mean over c' != c of w_c'k,

the margin of c over the other classes that the channel adds on c's own pixels, less what it adds on theirs. Summed over
the channels it is exactly the mean margin on own pixels less that on the others'. It depends neither on the scale of a
channel (halving a_k and doubling w_ck changes nothing) nor on a number added to all logits.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hsiutils.analysis.activations import last_layer, observe
from hsiutils.analysis.head import head_table, margin_weights
from hsiutils.analysis.scenes import LabelledScenes, Scene, each_scene
from hsiutils.classes import VOID
from hsiutils.metrics import iou
from hsiutils.unet import UNet

Replacement = Literal["zero", "mean"]


def class_means(statistics: xr.Dataset) -> xr.DataArray:
    """Mean activation on the pixels of each class: (..., class, channel); NaN for a class that no scene shows.

    Parameters
    ----------
    statistics : of `hsiutils.analysis.region_statistics`, with the classes as regions.
    """
    total, pixels = statistics["total"].sum("scene"), statistics["pixels"].sum("scene")
    return (total / pixels.where(pixels > 0)).rename(region="class").rename("activation")


def discrimination(head: xr.Dataset, statistics: xr.Dataset) -> xr.Dataset:
    """How much each channel sets a class apart, and of what that is made up.

    Parameters
    ----------
    head : of `head_table`.
    statistics : of `region_statistics` at the layer that the head reads, with the classes as regions.

    Returns
    -------
    Dataset (class, channel), in units of the logit, means over pixels:

    - contribution: to the class's own logit on its own pixels, w_ck a;
    - taken: from the mean logit of the other classes there;
    - granted: margin that the channel gives the class on the other classes' pixels, each class counting the same;
    - score: contribution + taken - granted, the s_ck of this module.

    Raises
    ------
    ValueError
        If the statistics are of another layer or other regions.
    """
    require_head_input(head, statistics)
    means, weight, margin = class_means(statistics), head["weight"], margin_weights(head)
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


def require_head_input(head: xr.Dataset, statistics: xr.Dataset) -> None:
    """Raise ValueError unless the statistics are of the tensor that the head reads, over the head's classes."""
    if not statistics.attrs.get("after") or list(statistics["channel"].values) != list(head["channel"].values):
        raise ValueError(
            "expected region_statistics of the layer that the head reads, after batch normalisation and ReLU; got "
            f"{statistics.attrs.get('layer')} (after={statistics.attrs.get('after')})"
        )
    if list(statistics["region"].values) != list(head["class"].values):
        raise ValueError(
            f"the regions must be the head's classes {list(head['class'].values)}, "
            f"got {list(statistics['region'].values)}"
        )


def rank_channels(found: xr.Dataset) -> pd.DataFrame:
    """Channels of each class by falling score, with what the first n of them explain.

    Parameters
    ----------
    found : of `discrimination`.

    Returns
    -------
    One row a (class, rank), rank from 1: channel; contribution, taken, granted, score; logit_share, the part of the
    class's mean logit on its own pixels (less the bias) that the channels so far sum to; score_share, the part of the
    class's separation from the others. Shares pass 1 where later channels are against the class.
    """
    table = found.to_dataframe()[["contribution", "taken", "granted", "score"]].reset_index()
    table = table.sort_values(["class", "score"], ascending=[True, False], kind="stable")
    grouped = table.groupby("class", sort=False)
    table["rank"] = grouped.cumcount() + 1
    for name, share in (("contribution", "logit_share"), ("score", "score_share")):
        table[share] = grouped[name].cumsum() / grouped[name].transform("sum")
    order = {name: index for index, name in enumerate(found["class"].values)}
    table = table.sort_values(
        ["class", "rank"], key=lambda column: column.map(order) if column.name == "class" else column
    )
    return table.set_index(["class", "rank"])


def knock_out(
    model: UNet,
    scenes: LabelledScenes,
    replacement: Replacement = "zero",
    means: xr.DataArray | None = None,
    names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Silence one channel before the head at a time, and count what the network then predicts.

    The head is linear, so one forward pass a scene serves all channels: y_c - w_ck (a_k - r_k). The mean logit that a
    class loses on its own pixels is therefore known beforehand, for zero the `contribution` of `discrimination`; what
    the pixels are then taken for is not.

    Parameters
    ----------
    replacement : r_k is zero, or the channel's mean. A channel that is on everywhere acts as a bias, which zero takes
        away and the mean leaves; the mean is the better check of a ranking by what sets classes apart.
    means : (channel) for replacement "mean": e.g. the mean activation over all labelled pixels.
    names : one a scene; None numbers them.

    Returns
    -------
    Dataset of intact (scene, truth, predicted) and silenced (scene, channel, truth, predicted), pixel counts.

    Raises
    ------
    ValueError
        If `means` are missing for replacement "mean", or given for "zero".
    """
    if replacement not in ("zero", "mean") or (replacement == "mean") != (means is not None):
        raise ValueError(f"replacement must be 'zero', or 'mean' with `means` given; got {replacement!r}")
    head = head_table(model)
    level = np.zeros(head.sizes["channel"]) if means is None else np.asarray(means, dtype=float)
    classes = [str(name) for name in head["class"].values]
    parts = [_silence_each(model, scene, head, level) for scene in each_scene(scenes, names, classes)]
    return xr.concat(parts, dim="scene").assign_attrs(replacement=replacement)


def _silence_each(model: UNet, scene: Scene, head: xr.Dataset, level: NDArray[np.float64]) -> xr.Dataset:
    layer = last_layer(model.config)
    maps, logits = observe(model, scene.image, [layer])
    weight, classes = head["weight"].values, [str(name) for name in head["class"].values]
    known = scene.truth != VOID
    truth, before, inputs = scene.truth[known], logits[:, known].astype(np.float64), maps[layer][:, known]
    silenced = [
        _confusion(
            (before - weight[channel][:, None] * (inputs[channel] - level[channel])).argmax(axis=0), truth, classes
        )
        for channel in range(len(inputs))
    ]
    pair = ("truth", "predicted")
    return xr.Dataset(
        {
            "intact": (pair, _confusion(before.argmax(axis=0), truth, classes)),
            "silenced": (("channel", *pair), np.stack(silenced)),
        },
        coords={"channel": head["channel"], "scene": scene.name, **dict.fromkeys(pair, classes)},
    )


def _confusion(guess: NDArray[np.intp], truth: NDArray[np.integer[Any]], classes: Sequence[str]) -> NDArray[np.intp]:
    """Pixels of each pair (truth, predicted)."""
    count = len(classes)
    return np.bincount(truth.astype(np.intp) * count + guess, minlength=count**2).reshape(count, count)


def iou_loss(counts: xr.Dataset) -> xr.DataArray:
    """IoU that each class loses without each channel, over all scenes: (class, channel); negative where it gains.

    Parameters
    ----------
    counts : of `knock_out`.
    """
    total = counts.sum("scene")
    loss = iou(total["intact"]) - iou(total["silenced"])
    return loss.transpose(..., "class", "channel").rename("iou_loss")


def ranking_agreement(found: xr.Dataset, loss: xr.DataArray) -> pd.DataFrame:
    """Spearman's rank correlation between the channels' scores and the IoU that is lost without them, per class.

    Returns
    -------
    One row a class: rho, p (two-sided), channels. NaN where scores or losses are all equal or unknown.
    """
    rows = {}
    for name in found["class"].values:
        score, lost = found["score"].sel({"class": name}).values, loss.sel({"class": name}).values
        varied = np.ptp(score) > 0 and np.ptp(lost) > 0
        rho, p = spearmanr(score, lost) if varied else (np.nan, np.nan)
        rows[name] = {"rho": float(rho), "p": float(p), "channels": len(score)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("class")
