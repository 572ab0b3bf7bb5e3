"""What the skip connection brings to the logits, and what comes up from below, exactly.

The last decoder block reads [upsampled, skip]: the skip half is conv2d_1's tensor, which never saw a pooling. With the
block taken as the affine map that it is at an image, either half's contribution to every logit is exact, and follows
from the forward pass that other measures share. Contributions are pooled over scenes, by region and against the
distance to label borders. All are to a class's margin, its logit less the mean of the others'.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from hsiutils.analysis.edges import Labels, Probe, border_sums
from hsiutils.attribution.hooks import full_precision
from hsiutils.data.classes import VOID
from hsiutils.models.unet import ConvBlock, UNet, UNetConfig, UpBlock

PARTS = ("upsampled", "skip", "bias")


@dataclass(frozen=True, eq=False)
class LastBlock:
    """The last decoder block with its normalisation folded in, and the head: what is linear once its gates are known.

    Attributes
    ----------
    block : two convolutions, [upsampled, skip] -> the channels that the head reads.
    head : (classes, channels, 1, 1) and (classes,), weight and bias.
    config : of the network.
    """

    block: ConvBlock
    head: tuple[Tensor, Tensor]
    config: UNetConfig

    @classmethod
    def of(cls, model: UNet) -> "LastBlock":
        """That of a network; later changes of the network do not reach it."""
        block = copy.deepcopy(cast(UpBlock, model.decoder[-1]).block).eval()
        block.fold()
        bias = cast(Tensor, model.head.bias)
        return cls(block.requires_grad_(False), (model.head.weight.detach(), bias.detach()), model.config)

    @property
    def needs(self) -> tuple[str, str, str, str]:
        """Layers whose activations after ReLU are the halves (upsampled, skip) or show the gates (convolutions)."""
        return self.config.transposes[-1], self.config.skips[0], *self.config.blocks[-1]

    def split(self, seen: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """Contributions of the halves, and of the biases above the cut, to every logit.

        Parameters
        ----------
        seen : layer -> (1, channels, h, w), of the padded size.

        Returns
        -------
        (part, class, h, w), parts as in `PARTS`; their sum is the logit.
        """
        up, skip, first, second = (seen[name] for name in self.needs)
        conv1, conv2 = self.block.conv1, self.block.conv2
        cut = up.shape[1]
        with torch.no_grad(), full_precision():
            halves = [
                conv2d(up, conv1.weight[:, :cut], padding="same"),
                conv2d(skip, conv1.weight[:, cut:], padding="same"),
            ]
            first_bias, second_bias, head_bias = (
                cast(Tensor, bias).detach()[:, None, None] for bias in (conv1.bias, conv2.bias, self.head[1])
            )
            # three times (1, channels, h, w) -> (part, channels, h, w)
            tangents = torch.cat([*halves, first_bias.expand_as(halves[0])]) * (first > 0)
            tangents = conv2d(tangents, conv2.weight, padding="same")
            tangents[2] += second_bias
            logits = conv2d(tangents * (second > 0), self.head[0])
            logits[2] += head_bias
        return np.asarray(logits.cpu().numpy())


def to_margins(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each class's contribution less the mean of the others', of contributions (part, class, h, w)."""
    others = (logits.sum(axis=1, keepdims=True) - logits) / (logits.shape[1] - 1)
    return np.asarray(logits - others)


def region_sums(parts: NDArray[np.float32], truth: Labels, regions: Sequence[str]) -> xr.Dataset:
    """Sums of the halves' contributions to the margins over each true class of a scene.

    Parameters
    ----------
    parts : (part, class, h, w) of `to_margins`.
    truth : (h, w) class indices with `hsiutils.data.classes.VOID`.
    regions : names of the classes.

    Returns
    -------
    Dataset of pixels (region), total and size (region, class, part): sums of contributions and of their absolute
    values.
    """
    known = truth != VOID
    member = np.eye(len(regions))[truth[known]]  # (labelled pixel, region), 1 where the pixel belongs to it
    values = parts[:, :, known].astype(np.float64)  # (part, class, h, w) -> (part, class, labelled pixel)
    dims = ("part", "class", "region")
    return xr.Dataset(
        {
            "pixels": ("region", member.sum(axis=0)),
            "total": (dims, values @ member),
            "size": (dims, np.abs(values) @ member),
        },
        coords={"region": list(regions), "part": list(PARTS), "class": list(regions)},
    ).transpose("region", "class", "part")


def skip_share(sums: xr.Dataset) -> xr.Dataset:
    """How much of the margins the skip half brings, pooled over scenes.

    Parameters
    ----------
    sums : of `region_sums` along scene; further dimensions are carried through.

    Returns
    -------
    Dataset of mean (region, class, part), the mean contribution, in logits; share (region, class), the skip half's part
    of the summed absolute contributions of the two halves, 0..1.
    """
    pooled = sums.sum("scene")
    size = pooled["size"]
    halves = size.sel(part=["upsampled", "skip"]).sum("part")
    share = size.sel(part="skip", drop=True) / halves.where(halves > 0)
    return xr.Dataset({"mean": pooled["total"] / pooled["pixels"].where(pooled["pixels"] > 0), "share": share})


def own_border_sums(parts: NDArray[np.float32], probes: Mapping[str, Probe]) -> xr.Dataset:
    """Edge statistics of what each half adds to a class's margin, at that class's own borders in one scene.

    Parameters
    ----------
    parts : (part, class, h, w) of `to_margins`.
    probes : of the scene's labels, by class, in the order of the classes.

    Returns
    -------
    As `hsiutils.analysis.edges.border_sums`, for `edge_profiles` and (of one channel at a time) `edge_measures`. The
    channels are "upsampled", "skip" and "margin", the whole of it. Sums are in logits, so that the halves compare.
    """
    maps = np.concatenate([parts[:2], parts.sum(axis=0, keepdims=True)])  # (channel, class, h, w)
    own = [
        border_sums(maps[:, index], {name: probe}).assign_coords(channel=["upsampled", "skip", "margin"])
        for index, (name, probe) in enumerate(probes.items())
    ]
    return xr.concat(own, dim="class", data_vars="all")
