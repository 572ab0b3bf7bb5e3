"""Everything that is summed over scenes, of several networks, in one pass.

A scene is read once for each input, the borders of its labels are found once, and each network sees it once: head,
edges and skip connection are measured on the same forward pass. No more than one network's activations of one scene
are held at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from hsiutils.analysis.activations import LabelledScenes, each_scene, head_table, last_layer, region_sums
from hsiutils.analysis.edges import REACH, Probe, border_probes, border_statistics
from hsiutils.analysis.skip import LastBlock, own_borders, to_margins
from hsiutils.analysis.skip import region_sums as skip_sums
from hsiutils.attribution.hooks import activations, frozen, full_precision
from hsiutils.attribution.linearise import conv_name
from hsiutils.data.classes import CLASSES
from hsiutils.models.unet import UNet


@dataclass(frozen=True, eq=False)
class Subject:
    """One network and the scenes as it is given them; subjects of one input share the same object of scenes."""

    model: UNet
    scenes: LabelledScenes


@dataclass(frozen=True, eq=False)
class _Watched:
    """A subject with what is made of it once."""

    model: UNet
    head: xr.Dataset
    block: LastBlock
    found: dict[str, list[xr.Dataset]] = field(default_factory=dict)

    def look(self, image: Tensor, truth: NDArray[np.integer], probes: Mapping[str, Probe]) -> dict[str, xr.Dataset]:
        """Every sum of one scene."""
        rows, columns = truth.shape
        last, first = last_layer(self.model.config), conv_name(1)
        seen, logits = self._forward(image, {last, first, *self.block.needs})
        maps = {name: seen[name][0, :, :rows, :columns].cpu().numpy() for name in (last, first)}
        parts = self.block.split(seen)[..., :rows, :columns]
        margins = to_margins(parts)
        head = region_sums(maps[last], truth, CLASSES)
        return {
            "head": head.assign(gap=head_gap(self.head, maps[last], logits)),
            "edges": border_statistics(maps[first], probes),
            "skip": skip_sums(margins, truth).assign(gap=_gap(parts, logits)),
            "skip_edges": own_borders(margins, probes),
        }

    def _forward(self, image: Tensor, layers: set[str]) -> tuple[dict[str, Tensor], NDArray[np.float32]]:
        device = next(self.model.parameters()).device
        with frozen(self.model), full_precision(), torch.no_grad(), activations(self.model, layers) as seen:
            logits = self.model(image[None].to(device))
        return seen, logits[0].cpu().numpy()

    def keep(self, scene: str, sums: Mapping[str, xr.Dataset]) -> None:
        for kind, one in sums.items():
            self.found.setdefault(kind, []).append(one.assign_coords(scene=scene))


def survey(
    subjects: Sequence[Subject], names: Sequence[str] | None = None, reach: int = REACH
) -> list[dict[str, xr.Dataset]]:
    """Look at every scene once with every network.

    Parameters
    ----------
    subjects : networks with the same scenes in the same order.
    names : one a scene; None numbers them.
    reach : as in `hsiutils.analysis.edges.edge_statistics`.

    Returns
    -------
    For each subject, by kind:

    - head: of `region_statistics` before the head, with the head's weight and bias, and gap (scene), the largest
      |logit - (contributions + bias)| relative to the scene's largest |logit|;
    - edges: of `edge_statistics` of conv2d_1;
    - skip: of `skip_statistics`, with gap (scene), the same for halves and biases;
    - skip_edges: of `skip_edges`.

    Raises
    ------
    ValueError
        If there is no subject, or their scenes differ in number or in their labels.
    """
    counts = {len(subject.scenes) for subject in subjects}
    if len(counts) != 1:
        raise ValueError(f"subjects must be given the same scenes, and be at least one; got {sorted(counts)} scenes")
    watched = [_Watched(one.model, head_table(one.model), LastBlock.of(one.model)) for one in subjects]
    streams = {id(one.scenes): each_scene(one.scenes, names) for one in subjects}
    for _ in range(counts.pop()):
        seen = {key: next(stream) for key, stream in streams.items()}
        first = seen[id(subjects[0].scenes)]
        probes = border_probes(first.truth, CLASSES, reach)
        for subject, one in zip(subjects, watched, strict=True):
            scene = seen[id(subject.scenes)]
            if not np.array_equal(scene.truth, first.truth):
                raise ValueError(f"scene {scene.name}: subjects are given different labels")
            one.keep(scene.name, one.look(scene.image, scene.truth, probes))
    return [_together(one) for one in watched]


def _together(one: _Watched) -> dict[str, xr.Dataset]:
    sums = {kind: xr.concat(parts, dim="scene") for kind, parts in one.found.items()}
    last = last_layer(one.model.config)
    sums["head"] = sums["head"].merge(one.head).assign_attrs(layer=last, after=True)
    sums["edges"] = sums["edges"].assign_attrs(layer=conv_name(1), after=True)
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
