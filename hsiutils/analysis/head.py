"""The paper's explanation: head weights and bias, and what each channel contributes to each logit.

The head is a 1x1 convolution, so y_c(p) = b_c + sum_k w_ck a_k(p) with a_k the activations that it reads (after batch
normalisation and ReLU). It is an identity: no gradient, no approximation. Source: arXiv 2502.14416, section 3.
"""

from typing import cast

import numpy as np
import xarray as xr
from torch import Tensor

from hsiutils.analysis.activations import last_layer, observe
from hsiutils.attribution.targets import class_name
from hsiutils.unet import UNet


def head_table(model: UNet) -> xr.Dataset:
    """Weights and bias of the head: weight (channel, class), 32 x 5 in the paper, and bias (class); float64."""
    weight = model.head.weight.detach().cpu().double().numpy()[:, :, 0, 0]
    bias = cast(Tensor, model.head.bias).detach().cpu().double().numpy()
    names = [class_name(index) for index in range(len(bias))]
    return xr.Dataset(
        {"weight": (("channel", "class"), weight.T), "bias": ("class", bias)},
        coords={"channel": np.arange(weight.shape[1]), "class": names},
    )


def contributions(model: UNet, image: Tensor) -> xr.Dataset:
    """What every channel contributes to every logit of one image.

    Parameters
    ----------
    image : (channels, h, w)

    Returns
    -------
    Dataset, float32: contribution (class, channel, y, x) = w_ck a_k(p); bias (class); logit (class, y, x), the
    network's own; activation (channel, y, x). contribution summed over channels, plus bias, is the logit.
    """
    layer = last_layer(model.config)
    maps, logits = observe(model, image, [layer])
    head = head_table(model)
    pixels = {"y": np.arange(logits.shape[1]), "x": np.arange(logits.shape[2])}
    activation = xr.DataArray(
        maps[layer], dims=("channel", "y", "x"), coords={"channel": head["channel"], **pixels}, name="activation"
    )
    weight = head["weight"].astype(np.float32)
    parts = (weight * activation).transpose("class", "channel", "y", "x")
    logit = xr.DataArray(logits, dims=("class", "y", "x"), coords={"class": head["class"], **pixels})
    return xr.Dataset({"contribution": parts, "bias": head["bias"], "logit": logit, "activation": activation})


def margin_weights(head: xr.Dataset) -> xr.DataArray:
    """Weight of a channel for a class, less the mean of its weights for the other classes: (channel, class).

    Adding one and the same number to all logits of a pixel changes no prediction and no loss, so training leaves a
    weight's common part undetermined. Differences between classes are what a network says.
    """
    weight, classes = head["weight"], head.sizes["class"]
    if classes < 2:
        raise ValueError("a margin needs at least two classes, the head has one")
    others = (weight.sum("class") - weight) / (classes - 1)
    return (weight - others).rename("margin_weight")
