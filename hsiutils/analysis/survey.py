"""Everything that is summed over scenes, of several networks, in one pass.

A scene is read once for each input, the borders of its labels are traced once, and each network sees it once: head,
edges and skip connection are measured on the same forward pass. No more than one network's activations of one scene
are held at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from hsiutils.analysis.activations import LabelledScenes, Scene, each_scene, head_table, region_sums
from hsiutils.analysis.edges import REACH, Probe, border_probes, border_sums
from hsiutils.analysis.skip import LastBlock, own_border_sums, to_margins
from hsiutils.analysis.skip import region_sums as skip_sums
from hsiutils.attribution.hooks import activations, frozen, full_precision
from hsiutils.models.unet import UNet


@dataclass(frozen=True, eq=False)
class Subject:
    """One network and the scenes as it is given them; subjects of one input share the same object of scenes."""

    model: UNet
    scenes: LabelledScenes


def survey(
    subjects: Sequence[Subject], names: Sequence[str] | None = None, reach: int = REACH
) -> list[dict[str, xr.Dataset]]:
    """Look at every scene once with every network.

    Parameters
    ----------
    subjects : networks of the same classes, with the same scenes in the same order.
    names : one a scene; None numbers them.
    reach : largest distance to a border that is looked at, pixels.

    Returns
    -------
    For each subject, by kind, with the dimension scene first:

    - head: `hsiutils.analysis.activations.region_sums` over the true classes of what the head reads, with the head's
      weight and bias, and gap (scene), the largest |logit - (contributions + bias)| relative to the scene's largest
      |logit|;
    - edges: `hsiutils.analysis.edges.border_sums` of conv2d_1, the tensor that the finest skip connection carries;
    - skip: `hsiutils.analysis.skip.region_sums`, with gap (scene), the same for halves and biases;
    - skip_edges: `hsiutils.analysis.skip.own_border_sums`.

    Raises
    ------
    ValueError
        If there is no subject, or they differ in their classes, in the number of their scenes or in their labels.
    """
    counts = {len(subject.scenes) for subject in subjects}
    if len(counts) != 1:
        raise ValueError(f"subjects must be given the same scenes, and be at least one; got {sorted(counts)} scenes")
    if len(classes := {subject.model.config.names for subject in subjects}) != 1:
        raise ValueError(f"subjects must have the same classes, got {sorted(classes)}")
    regions = classes.pop()
    networks = [_Network(one.model, regions, head_table(one.model), LastBlock.of(one.model)) for one in subjects]
    sums: list[dict[str, list[xr.Dataset]]] = [{} for _ in subjects]
    streams = {id(subject.scenes): each_scene(subject.scenes, names, len(regions)) for subject in subjects}
    for _ in range(counts.pop()):
        given = {key: next(stream) for key, stream in streams.items()}
        first = given[id(subjects[0].scenes)]
        probes = border_probes(first.truth, regions, reach)
        for subject, network, kept in zip(subjects, networks, sums, strict=True):
            scene = given[id(subject.scenes)]
            if not np.array_equal(scene.truth, first.truth):
                raise ValueError(f"scene {scene.name}: subjects are given different labels")
            for kind, part in network.look(scene, probes).items():
                kept.setdefault(kind, []).append(part.assign_coords(scene=scene.name))
    return [network.together(kept) for network, kept in zip(networks, sums, strict=True)]


@dataclass(frozen=True, eq=False)
class _Network:
    """A network with what is made of it once."""

    model: UNet
    classes: Sequence[str]
    head: xr.Dataset
    block: LastBlock

    def look(self, scene: Scene, probes: Mapping[str, Probe]) -> dict[str, xr.Dataset]:
        """Every sum of one scene."""
        config, device = self.model.config, next(self.model.parameters()).device
        layers = {config.last, config.skips[0], *self.block.needs}
        with frozen(self.model), full_precision(), torch.no_grad(), activations(self.model, layers) as seen:
            logits = self.model(scene.image[None].to(device))[0].cpu().numpy()
        rows, columns = scene.truth.shape
        # (1, channel, h', w') of the padded size -> (channel, h, w)
        last, first = (seen[name][0, :, :rows, :columns].cpu().numpy() for name in (config.last, config.skips[0]))
        parts = self.block.split(seen)[..., :rows, :columns]
        margins = to_margins(parts)
        head_sums = region_sums(last, scene.truth, self.classes)
        return {
            "head": head_sums.assign(gap=head_gap(self.head, last, logits)),
            "edges": border_sums(first, probes),
            "skip": skip_sums(margins, scene.truth, self.classes).assign(gap=_gap(parts, logits)),
            "skip_edges": own_border_sums(margins, probes),
        }

    def together(self, parts: Mapping[str, Sequence[xr.Dataset]]) -> dict[str, xr.Dataset]:
        """The sums of all scenes, with what they are of."""
        sums = {kind: xr.concat(datasets, dim="scene") for kind, datasets in parts.items()}
        sums["head"] = sums["head"].merge(self.head).assign_attrs(layer=self.model.config.last, after=True)
        sums["edges"] = sums["edges"].assign_attrs(layer=self.model.config.skips[0], after=True)
        return sums


def head_gap(head: xr.Dataset, maps: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    """Largest |logit - (contributions + bias)| of one image, relative to its largest |logit|.

    Parameters
    ----------
    head : of `head_table`.
    maps : (channel, h, w) activations that the head reads.
    logits : (class, h, w)
    """
    weight, bias = head["weight"].values.astype(np.float32), head["bias"].values
    largest = 0.0
    for index, logit in enumerate(logits):
        # Contributions as they are shown, in the network's precision; added up in a higher one.
        parts = (weight[:, index, None, None] * maps).astype(np.float64)
        largest = max(largest, float(np.abs(parts.sum(axis=0) + bias[index] - logit).max()))
    return largest / float(np.abs(logits).max())


def _gap(parts: NDArray[np.float32], logits: NDArray[np.float32]) -> float:
    difference = parts.astype(np.float64).sum(axis=0) - logits
    return float(np.abs(difference).max() / np.abs(logits).max())
