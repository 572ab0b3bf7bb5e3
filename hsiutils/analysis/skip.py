"""What the skip connection brings to the logits, and what comes up from below, exactly.

The last decoder block reads [upsampled, skip]: the skip half is conv2d_1's tensor, which never saw a pooling. With the
network taken as the affine map that it is at an image, either half's contribution to every logit is exact
(`hsiutils.attribution.linear.split_at_skips`). Here they are pooled over scenes, by region and against the distance to
label borders. All contributions are to a class's margin, its logit less the mean of the others'.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from hsiutils.analysis.borders import Labels
from hsiutils.analysis.edges import REACH, border_statistics
from hsiutils.analysis.scenes import LabelledScenes, Scene, each_scene
from hsiutils.attribution.linear import split_at_skips
from hsiutils.classes import CLASSES, VOID
from hsiutils.unet import UNet


def skip_contributions(model: UNet, scene: Scene) -> xr.DataArray:
    """Contribution of each half, and of the biases above the cut, to every class's margin: (part, class, y, x).

    Parts are "upsampled", "skip" and "bias"; their sum is the margin.
    """
    parameter = next(model.parameters())
    found = split_at_skips(model, scene.image.to(parameter))
    halves = found["contribution"].assign_coords(part=["upsampled", "skip"])
    bias = found["bias"].sum("layer").expand_dims(part=["bias"])
    return _margins(xr.concat([halves, bias.broadcast_like(found["logit"])], dim="part"))


def _margins(logits: xr.DataArray) -> xr.DataArray:
    others = (logits.sum("class") - logits) / (logits.sizes["class"] - 1)
    return (logits - others).transpose("part", "class", "y", "x")


def skip_statistics(model: UNet, scenes: LabelledScenes, names: Sequence[str] | None = None) -> xr.Dataset:
    """Sums of the halves' contributions to the margins over each true class of each scene.

    Returns
    -------
    Dataset of pixels (scene, region), total and size (scene, region, class, part): sums of contributions and of their
    absolute values.
    """
    return xr.concat([_region_sums(model, scene) for scene in each_scene(scenes, names)], dim="scene")


def _region_sums(model: UNet, scene: Scene) -> xr.Dataset:
    parts = skip_contributions(model, scene)
    known = scene.truth != VOID
    member = np.eye(len(CLASSES))[scene.truth[known]]
    values = parts.values[:, :, known].astype(np.float64)
    dims = ("part", "class", "region")
    return xr.Dataset(
        {
            "pixels": ("region", member.sum(axis=0)),
            "total": (dims, values @ member),
            "size": (dims, np.abs(values) @ member),
        },
        coords={"region": list(CLASSES), "part": parts["part"], "class": parts["class"], "scene": scene.name},
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
    parts = []
    for scene in each_scene(scenes, names):
        found = skip_contributions(model, scene)
        whole = found.sum("part").expand_dims(part=["margin"])
        maps = xr.concat([found.sel(part=["upsampled", "skip"]), whole], dim="part").transpose(
            "class", "part", "y", "x"
        )
        parts.append(_own_borders(maps, scene.truth, reach).assign_coords(scene=scene.name))
    return xr.concat(parts, dim="scene")


def _own_borders(maps: xr.DataArray, truth: Labels, reach: int) -> xr.Dataset:
    """Statistics of each class's maps at its own borders."""
    own = []
    for index in range(len(CLASSES)):
        sums = border_statistics(maps.values[index], truth, CLASSES, reach, [index])
        own.append(sums.assign_coords(channel=maps["part"].values))
    return xr.concat(own, dim="class", data_vars="all")
