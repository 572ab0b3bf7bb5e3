"""Chapter 5's measurements: what the networks of a run look at.

Everything goes over all test scenes. The measures of `hsiutils.analysis.survey` are taken of all networks of the run in
one pass over the scenes; `hsiutils.paper.merits` makes figures of merit of them.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from hsiutils.analysis.activations import activation_maps, contributions, finest, observe, pick, region_parts, stacked
from hsiutils.analysis.channels import knock_out
from hsiutils.analysis.correlation import Features, moments
from hsiutils.analysis.edges import border_probes, border_sums
from hsiutils.analysis.receptive import effective_fields
from hsiutils.analysis.similarity import source_name
from hsiutils.analysis.survey import survey
from hsiutils.data.classes import VOID
from hsiutils.data.source import Source
from hsiutils.models.metrics import iou
from hsiutils.paper.study import Subject, neighbours, read, study, together

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

PAPER_VARIANTS = ("1", "3", "25", "25-PN")
"""Inputs that the paper compares; the 25-channel model without PN stands beside them to tell PN from bands."""
FIELD_PIXELS = 2
"""Pixels of each test scene whose receptive fields are measured: one backward pass a layer and pixel."""


def _surveyed(run: "Run", name: str, seed: int, kind: str, untrained: bool = False) -> xr.Dataset:
    of = (name, seed), _all(run)
    made = together(run, "untrained", _untrained, *of) if untrained else together(run, "survey", _survey, *of)
    return neighbours(run.data, read(made.folder / f"{kind}.nc"))


# Of a run, a variant and a seed: what the survey keeps of that network.
head_sums = partial(_surveyed, kind="head")
"""The head, and sums of the activations that it reads over each class of each test scene."""
edge_sums = partial(_surveyed, kind="edges")
"""Borders of each class in conv2d_1, the tensor that the skip connection carries."""
skip_sums = partial(_surveyed, kind="skip")
"""What skip and upsampled half add to the margins, by true class; and gap."""
skip_edge_sums = partial(_surveyed, kind="skip_edges")
"""What either half adds at the borders of each class."""
input_edges = partial(_surveyed, kind="input", untrained=True)
"""Borders of each class in the network's input, which no training changes."""
untrained_edges = partial(_surveyed, kind="edges", untrained=True)
"""As `edge_sums`, before the network was trained."""


def material_sums(run: "Run", name: str, seed: int, untrained: bool = False) -> xr.Dataset:
    """Sums of what the head reads over each true material inside Other, before training or after.

    Raises
    ------
    ValueError
        If the materials are not known, as in real data.
    """
    return study(run, "materials", _materials, (name, seed), untrained=untrained)


def knocked(run: "Run", name: str, seed: int) -> xr.Dataset:
    """`knock_out` of every channel before the head, set to its mean over all labelled pixels."""
    sums = head_sums(run, name, seed)
    means = sums["total"].sum(["scene", "region"]) / sums["pixels"].sum()
    return study(run, "knock-out", _knocked, (name, seed), means=means.values.tolist())


def fields(run: "Run", name: str, seed: int, pixels: int = FIELD_PIXELS) -> pd.DataFrame:
    """`effective_fields` at pixels drawn from every test scene."""
    found = study(run, "fields", _fields, (name, seed), pixels=pixels, draw=run.seed)
    return found.to_dataframe().reset_index(drop=True)


def similarity_sums(run: "Run", untrained: bool = False) -> xr.Dataset:
    """`moments` of all networks, named by `source_name`, with two nulls for the first of each variant.

    Or of the networks as their trainings found them, a null themselves, and without further ones.
    """
    return study(run, "similarity", _similarity, _all(run), draw=run.seed, untrained=untrained)


def choose_models(run: "Run", wanted: Sequence[str]) -> list[str]:
    """Variants to show: those wanted, else the paper's that the run has, else all of the run."""
    return list(wanted) or [name for name in PAPER_VARIANTS if name in run.variants] or list(run.variants)


def scene_scores(counts: xr.Dataset) -> pd.Series:
    """Mean IoU of each scene, by name, over the classes that it shows or that the intact network of `knocked` sees."""
    return iou(counts["intact"]).mean("class").to_series().rename("mean IoU")


def choose_scenes(scores: pd.Series, wanted: str) -> list[str]:
    """The scene that is wanted, by name or by a rule of `pick`; then the worst and the best, by `scene_scores`."""
    first = wanted if wanted in scores.index else pick(scores, wanted)
    return list(dict.fromkeys([first, pick(scores, "worst"), pick(scores, "best")]))


def contribution_maps(run: "Run", name: str, seed: int, scene: str) -> xr.Dataset:
    """`contributions` of one network for one scene: what every channel adds to every logit."""
    image, _ = run.inputs(name, [scene])[0]
    return contributions(run.model(name, seed).model, image)


def layer_maps(run: "Run", name: str, seed: int, scene: str, layer: str) -> xr.Dataset:
    """Activations of any layer for one scene: before and after normalisation and ReLU, (channel, y, x)."""
    image, _ = run.inputs(name, [scene])[0]
    model = run.model(name, seed).model
    both = {
        label: activation_maps(model, image[None], layer, after).isel(scene=0, drop=True)
        for label, after in (("before", False), ("after", True))
    }
    return xr.Dataset(both)


def _all(run: "Run") -> list[tuple[str, int]]:
    return list(product(run.variants, run.seeds))


def _survey(subjects: Sequence[Subject]) -> list[dict[str, xr.Dataset]]:
    return survey([(one.model, one.scenes) for one in subjects], subjects[0].names)


def _untrained(subjects: Sequence[Subject]) -> list[dict[str, xr.Dataset]]:
    kept: list[dict[str, list[xr.Dataset]]] = [{"input": [], "edges": []} for _ in subjects]
    fresh = [one.untrained() for one in subjects]
    for index in range(len(subjects[0].names)):
        probes = border_probes(subjects[0].scenes[index][1].numpy(), subjects[0].model.config.names)
        given: dict[int, tuple[Tensor, xr.Dataset]] = {}  # networks of one input share images and their borders
        for one, parts in zip(fresh, kept, strict=True):
            if id(one.scenes) not in given:
                image = one.scenes[index][0]
                given[id(one.scenes)] = image, border_sums(image.numpy(), probes)
            image, own = given[id(one.scenes)]
            parts["input"].append(own)
            parts["edges"].append(border_sums(finest(one.model, image), probes))
    scenes = xr.Variable("scene", subjects[0].names)
    return [{kind: xr.concat(parts, dim=scenes) for kind, parts in one.items()} for one in kept]


def _materials(subject: Subject, untrained: bool) -> xr.Dataset:
    model = (subject.untrained() if untrained else subject).model
    layer, other, parts = model.config.last, model.config.names.index("Other"), []
    for index, name in enumerate(subject.names):
        image, truth = subject.scenes[index]
        material, names = _material(subject.data, name)
        inside = np.where(truth.numpy() == other, material, VOID)
        parts.append(region_parts(observe(model, image, [layer])[0][layer], inside, len(names)))
    channels = np.arange(model.config.filters)
    return stacked(parts, {"region": list(names), "channel": channels, "scene": subject.names})


@lru_cache(maxsize=64)
def _material(data: Source, name: str) -> tuple[NDArray[np.int_], list[str]]:
    """What every pixel of a scene is made of, and the names of the materials: read once for all networks."""
    known = data.truth(name)
    if known is None:
        raise ValueError("needs to know what every pixel is made of, which only simulated scenes tell")
    return known["material"].values.astype(int), list(known.attrs["materials"])


def _knocked(subject: Subject, means: Sequence[float]) -> xr.Dataset:
    return knock_out(subject.model, subject.scenes, "mean", xr.DataArray(means, dims="channel"), subject.names)


def _fields(subject: Subject, pixels: int, draw: int) -> xr.Dataset:
    table = effective_fields(subject.model, subject.scenes, draw, pixels=pixels, names=subject.names)
    return xr.Dataset.from_dataframe(table.astype({"theoretical": float}))


def _similarity(subjects: Sequence[Subject], draw: int, untrained: bool) -> xr.Dataset:
    sources = {}
    for one in (each.untrained() for each in subjects) if untrained else subjects:
        sources[source_name(one.variant, one.seed)] = Features(one.model, one.scenes)
        if one.seed == draw and not untrained:
            sources[source_name(one.variant, one.seed, "moved")] = Features(one.model, one.scenes, "moved")
            if len(one.scenes) > 1:
                name = source_name(one.variant, one.seed, "other scene")
                sources[name] = Features(one.model, one.scenes, "other scene")
    return moments(sources, names=subjects[0].names, seed=draw)
