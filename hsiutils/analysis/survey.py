"""Everything that is summed over scenes, of several networks, in one pass: head, edges and skip connection.

A scene is read once for each input, the borders of its labels are traced once, and each network sees it once. No more
than one network's activations of one scene are held at a time.

The last decoder block reads [upsampled, skip]: the skip half is conv2d_1's tensor, which never saw a pooling. With the
block taken as the affine map that it is at an image, either half's contribution to every logit is exact. Contributions
are to a class's margin, its logit less the mean of the others', by region and against the distance to label borders.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from hsiutils.analysis.activations import (
    LabelledScenes,
    Parts,
    Scene,
    each_scene,
    head_table,
    name_each,
    region_parts,
    stacked,
)
from hsiutils.analysis.edges import REACH, Labels, Probe, border_coords, border_parts, border_probes
from hsiutils.attribution.hooks import activations, frozen, full_precision
from hsiutils.data.classes import VOID
from hsiutils.models.unet import UNet, UpBlock

PARTS = ("upsampled", "skip", "bias")


def survey(
    networks: Sequence[tuple[UNet, LabelledScenes]], names: Sequence[str] | None = None, reach: int = REACH
) -> list[dict[str, xr.Dataset]]:
    """Look at every scene once with every network.

    Parameters
    ----------
    networks : of the same classes, each with the scenes as it is given them, the same in the same order. Networks of
        one input share the same object of scenes, which is then read once.
    names : one a scene; None numbers them.
    reach : largest distance to a border that is looked at, pixels.

    Returns
    -------
    For each network, by kind, with the dimension scene first:

    - head: `hsiutils.analysis.activations.region_sums` over the true classes of what the head reads, with the head's
      weight and bias, and gap (scene), of `head_gap`;
    - edges: `hsiutils.analysis.edges.border_sums` of conv2d_1, the tensor that the finest skip connection carries;
    - skip: `skip_sums`, with gap (scene), the same for halves and biases;
    - skip_edges: `hsiutils.analysis.edges.border_sums` of what the halves add to each class's margin, in logits, at
      that class's own borders; the channels are "upsampled", "skip" and "margin", the whole of it.

    A ValueError if there is no network, one has no skip connection, or they differ in classes, in the number of their
    scenes or in their labels.
    """
    counts = {len(scenes) for _, scenes in networks}
    if len(counts) != 1:
        raise ValueError(f"networks must be given the same scenes, and be at least one; got {sorted(counts)} scenes")
    if len(classes := {model.config.names for model, _ in networks}) != 1:
        raise ValueError(f"networks must have the same classes, got {sorted(classes)}")
    if not all(model.config.depth for model, _ in networks):
        raise ValueError("networks must have a skip connection to be told apart from the rest, got one of depth 0")
    regions = classes.pop()
    watched = [(model, head_table(model), LastBlock(model)) for model, _ in networks]
    sums: list[dict[str, list[Parts]]] = [{} for _ in networks]
    labels = name_each(counts.pop(), names)
    streams = {id(scenes): each_scene(scenes, labels, len(regions)) for _, scenes in networks}
    for _ in labels:
        given = {key: next(stream) for key, stream in streams.items()}
        first = next(iter(given.values()))
        probes = border_probes(first.truth, regions, reach)
        for (_, scenes), network, kept in zip(networks, watched, sums, strict=True):
            scene = given[id(scenes)]
            if not np.array_equal(scene.truth, first.truth):
                raise ValueError(f"scene {scene.name}: networks are given different labels")
            for kind, part in _look(*network, scene, probes).items():
                kept.setdefault(kind, []).append(part)
    found = [_datasets(kept, labels, regions, probes) for kept in sums]
    for (model, head, _), kinds in zip(watched, found, strict=True):
        kinds["head"] = kinds["head"].merge(head).assign_attrs(layer=model.config.last, after=True)
        kinds["edges"] = kinds["edges"].assign_attrs(layer=model.config.skips[0], after=True)
    return found


class LastBlock:
    """The last decoder block with its normalisation folded in, and the head: what is linear once its gates are known.

    Attributes
    ----------
    block : two convolutions, [upsampled, skip] -> the channels that the head reads.
    head : (classes, channels, 1, 1) and (classes,), weight and bias.
    needs : layers whose activations after ReLU are the halves (upsampled, skip) or show the gates (convolutions).
    """

    def __init__(self, model: UNet) -> None:
        self.block = copy.deepcopy(cast(UpBlock, model.decoder[-1]).block).eval()
        self.block.fold()
        self.block.requires_grad_(False)
        self.head = model.head.weight.detach(), cast(Tensor, model.head.bias).detach()
        self.needs = model.config.transposes[-1], model.config.skips[0], *model.config.blocks[-1]

    def split(self, seen: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """Contributions of `PARTS` to every logit, which is their sum: (part, class, h, w).

        Of the activations of `needs`, (1, channels, h, w) of the padded size.
        """
        up, skip, first, second = (seen[name] for name in self.needs)
        conv1, conv2 = self.block.conv1, self.block.conv2
        kernels = conv1.weight[:, : up.shape[1]], conv1.weight[:, up.shape[1] :]
        with torch.no_grad(), full_precision():
            halves = [conv2d(half, kernel, padding="same") for half, kernel in zip((up, skip), kernels, strict=True)]
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


def _datasets(
    kept: Mapping[str, list[Parts]], names: Sequence[str], regions: Sequence[str], probes: Mapping[str, Probe]
) -> dict[str, xr.Dataset]:
    """Sums by kind along scene: made of many scenes at once, for a Dataset each would take longer than its sums."""
    halves = {"region": list(regions), "part": list(PARTS), "class": list(regions)}
    channels = {kind: np.arange(kept[kind][0]["total"][1].shape[-1]) for kind in ("head", "edges")}
    coords: dict[str, dict[str, Any]] = {
        "head": {"region": list(regions), "channel": channels["head"]},
        "edges": border_coords(probes, channels["edges"]),
        "skip": halves,
        "skip_edges": border_coords(probes, ["upsampled", "skip", "margin"]),
    }
    return {kind: stacked(parts, {**coords[kind], "scene": list(names)}) for kind, parts in kept.items()}


def _look(
    model: UNet, head: xr.Dataset, block: LastBlock, scene: Scene, probes: Mapping[str, Probe]
) -> dict[str, Parts]:
    """Every sum of one scene."""
    read, finest, classes = model.config.last, model.config.skips[0], model.config.names
    layers, device = {read, finest, *block.needs}, next(model.parameters()).device
    with frozen(model), full_precision(), torch.no_grad(), activations(model, layers) as seen:
        logits = model(scene.image[None].to(device))[0].cpu().numpy()
    rows, columns = scene.truth.shape
    # (1, channel, h', w') of the padded size -> (channel, h, w)
    last, first = (seen[name][0, :, :rows, :columns].cpu().numpy() for name in (read, finest))
    parts = block.split(seen)[..., :rows, :columns]
    margins = to_margins(parts)
    gap = float(np.abs(parts.astype(np.float64).sum(axis=0) - logits).max() / np.abs(logits).max())
    return {
        "head": region_parts(last, scene.truth, len(classes)) | _gap(head_gap(head, last, logits)),
        "edges": border_parts(first, probes),
        "skip": skip_parts(margins, scene.truth, len(classes)) | _gap(gap),
        "skip_edges": skip_border_parts(margins, probes),
    }


def _gap(value: float) -> Parts:
    return {"gap": ((), np.asarray(value))}


def head_gap(head: xr.Dataset, maps: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """Largest |logit - (contributions + bias)| of one image, relative to its largest |logit|.

    Of the activations that the head reads, (channel, h, w), and the logits (class, h, w).
    """
    weight, bias = head["weight"].values.astype(np.float32), head["bias"].values
    largest = 0.0
    for index, logit in enumerate(logits):
        # Contributions as they are shown, in the network's precision; added up in a higher one.
        parts = (weight[:, index, None, None] * maps).astype(np.float64)
        largest = max(largest, float(np.abs(parts.sum(axis=0) + bias[index] - logit).max()))
    return largest / float(np.abs(logits).max())


def to_margins(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each class's contribution less the mean of the others', of contributions (part, class, h, w)."""
    others = (logits.sum(axis=1, keepdims=True) - logits) / (logits.shape[1] - 1)
    return np.asarray(logits - others)


def skip_parts(parts: NDArray[np.float32], truth: Labels, regions: int) -> Parts:
    """Sums of contributions to the margins (part, class, h, w) over each true class of a scene (h, w).

    pixels (region), total and size (region, class, part), the latter of absolute values.
    """
    known = truth != VOID
    member = np.eye(regions)[truth[known]]  # (labelled pixel, region)
    values = parts[..., known].astype(np.float64)  # (part, class, h, w) -> (part, class, labelled pixel)
    # (part, class, region) -> (region, class, part)
    total, size = ((one @ member).transpose(2, 1, 0) for one in (values, np.abs(values)))
    each = ("region", "class", "part")
    return {"total": (each, total), "size": (each, size), "pixels": (each[:1], member.sum(axis=0))}


def skip_border_parts(parts: NDArray[np.float32], probes: Mapping[str, Probe]) -> Parts:
    """`border_parts` of contributions to each class's margin (part, class, h, w), at that class's own borders."""
    maps = np.concatenate([parts[:2], parts.sum(axis=0, keepdims=True)])  # (channel, class, h, w)
    own = [border_parts(maps[:, index], {name: probe}) for index, (name, probe) in enumerate(probes.items())]
    joined: Parts = {}
    for key, (dims, _) in own[0].items():
        join = np.concatenate if "class" in dims else np.stack
        joined[key] = (("class", *(dim for dim in dims if dim != "class")), join([one[key][1] for one in own]))
    return joined


def skip_share(sums: xr.Dataset) -> xr.Dataset:
    """How much of the margins the skip half brings, of `skip_sums` along scene; further dimensions are carried through.

    Dataset of mean (region, class, part), the mean contribution, in logits; share (region, class), the skip half's part
    of the summed absolute contributions of the two halves, 0..1.
    """
    pooled = sums.sum("scene")
    halves = pooled["size"].sel(part=["upsampled", "skip"]).sum("part")
    share = pooled["size"].sel(part="skip", drop=True) / halves.where(halves > 0)
    return xr.Dataset({"mean": pooled["total"] / pooled["pixels"].where(pooled["pixels"] > 0), "share": share})
