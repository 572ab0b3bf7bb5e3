"""What the skip connection brings to the logits, and what comes up from below, exactly.

The last decoder block reads [upsampled, skip]: the skip half is conv2d_1's tensor, which never saw a pooling. With the
block taken as the affine map that it is at an image, either half's contribution to every logit is exact. It is what
`hsiutils.attribution.decompose.split_at_skips` finds at level 0, here from the forward pass that other measures share.
Contributions are pooled over scenes, by region and against the distance to label borders. All are to a class's margin,
its logit less the mean of the others'.
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

from hsiutils.analysis.activations import LabelledScenes, Scene, each_scene
from hsiutils.analysis.edges import REACH, Labels, Probe, border_probes, border_statistics
from hsiutils.attribution.hooks import activations, frozen, full_precision
from hsiutils.attribution.linearise import conv_name, transpose_name
from hsiutils.attribution.targets import class_name
from hsiutils.data.classes import CLASSES, VOID
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
        depth = self.config.depth
        return transpose_name(depth - 1), conv_name(1), conv_name(4 * depth), conv_name(4 * depth + 1)

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
        one, two = self.block.conv1, self.block.conv2
        cut = up.shape[1]
        with torch.no_grad(), full_precision():
            halves = [
                conv2d(up, one.weight[:, :cut], padding="same"),
                conv2d(skip, one.weight[:, cut:], padding="same"),
            ]
            bias = _spread(one.bias).expand_as(halves[0])
            tangents = conv2d(torch.cat([*halves, bias]) * (first > 0), two.weight, padding="same")
            tangents[2] += _spread(two.bias)
            logits = conv2d(tangents * (second > 0), self.head[0])
            logits[2] += _spread(self.head[1])
        return np.asarray(logits.cpu().numpy())


def _spread(bias: Tensor | None) -> Tensor:
    return cast(Tensor, bias).detach()[:, None, None]


def skip_contributions(model: UNet, scene: Scene) -> xr.DataArray:
    """Contribution of each half, and of the biases above the cut, to every class's margin: (part, class, y, x).

    Parts are "upsampled", "skip" and "bias"; their sum is the margin.
    """
    block = LastBlock.of(model)
    image = scene.image[None].to(next(model.parameters()))
    with frozen(model), full_precision(), torch.no_grad(), activations(model, block.needs) as seen:
        model(image)
    rows, columns = scene.truth.shape
    parts = to_margins(block.split(seen)[..., :rows, :columns])
    coords = {"part": list(PARTS), "class": [class_name(index) for index in range(parts.shape[1])]}
    return xr.DataArray(parts, coords, ("part", "class", "y", "x"))


def to_margins(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each class's contribution less the mean of the others', of contributions (part, class, h, w)."""
    others = (logits.sum(axis=1, keepdims=True) - logits) / (logits.shape[1] - 1)
    return np.asarray(logits - others)


def skip_statistics(model: UNet, scenes: LabelledScenes, names: Sequence[str] | None = None) -> xr.Dataset:
    """Sums of the halves' contributions to the margins over each true class of each scene.

    Returns
    -------
    Dataset of pixels (scene, region), total and size (scene, region, class, part): sums of contributions and of their
    absolute values.
    """
    found = [
        region_sums(skip_contributions(model, scene).values, scene.truth).assign_coords(scene=scene.name)
        for scene in each_scene(scenes, names)
    ]
    return xr.concat(found, dim="scene")


def region_sums(parts: NDArray[np.float32], truth: Labels) -> xr.Dataset:
    """The sums of `skip_statistics` of one scene's contributions (part, class, h, w)."""
    known = truth != VOID
    member = np.eye(len(CLASSES))[truth[known]]
    values = parts[:, :, known].astype(np.float64)
    dims = ("part", "class", "region")
    return xr.Dataset(
        {
            "pixels": ("region", member.sum(axis=0)),
            "total": (dims, values @ member),
            "size": (dims, np.abs(values) @ member),
        },
        coords={"region": list(CLASSES), "part": list(PARTS), "class": list(CLASSES)},
    ).transpose("region", "class", "part")


def skip_share(sums: xr.Dataset) -> xr.Dataset:
    """How much of the margins the skip half brings, pooled over scenes.

    Parameters
    ----------
    sums : of `skip_statistics`; further dimensions are carried through.

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


def skip_edges(
    model: UNet, scenes: LabelledScenes, names: Sequence[str] | None = None, reach: int = REACH
) -> xr.Dataset:
    """Edge statistics of what each half adds to a class's margin, at that class's own borders.

    Returns
    -------
    As `hsiutils.analysis.edges.edge_statistics`, for `edge_profiles` and (of one channel at a time) `edge_measures`.
    The channels are "upsampled", "skip" and "margin", the whole of it. Sums are in logits, so that the halves compare.
    """
    found = []
    for scene in each_scene(scenes, names):
        parts, probes = skip_contributions(model, scene).values, border_probes(scene.truth, CLASSES, reach)
        found.append(own_borders(parts, probes).assign_coords(scene=scene.name))
    return xr.concat(found, dim="scene")


def own_borders(parts: NDArray[np.float32], probes: Mapping[str, Probe]) -> xr.Dataset:
    """The sums of `skip_edges` of one scene's contributions (part, class, h, w) to the margins."""
    maps = np.concatenate([parts[:2], parts.sum(axis=0, keepdims=True)])
    own = [
        border_statistics(maps[:, index], {name: probe}).assign_coords(channel=["upsampled", "skip", "margin"])
        for index, (name, probe) in enumerate(probes.items())
    ]
    return xr.concat(own, dim="class", data_vars="all")
