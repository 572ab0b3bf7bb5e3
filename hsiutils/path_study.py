"""Which bands speak for a class along the path from the average pixel, and how many nodes the path needs.

Integrated gradients of one number, the mean margin of a class over its pixels in one light, need one backward pass a
node; `hsiutils.attribution.path` does the same for every logit of the image. How far the path is from summing to the
logits is asked at every pixel and class, for a ladder of nodes: one tangent a node.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from hsiutils import pipeline
from hsiutils.activation_study import spaced
from hsiutils.attribution.gradients import integrated_gradients
from hsiutils.attribution.path import decompose_path
from hsiutils.attribution.targets import margin
from hsiutils.classes import CLASSES
from hsiutils.pipeline import Run
from hsiutils.spectral_study import average_pixel, kept, target_masks
from hsiutils.unet import UNet

NODES = 32
"""Of the spectra's path, by default."""

LADDER = (4, 16, 64)
"""Nodes at which completeness is asked, by default: each step four times the last."""


def walked(run: Run, name: str, class_name: str, most: int, nodes: int = NODES) -> xr.Dataset:
    """Path spectra of the run's first network of a variant, over some test scenes.

    Returns
    -------
    Dataset of `walked_of` along scene.
    """
    average = average_pixel(run, name)
    scenes = spaced(pipeline.data(run).names("test"), most)
    return kept(
        run,
        name,
        run.seed,
        "path",
        scenes,
        lambda model, scene: walked_of(model, *scene, average, class_name, nodes),
        {"class": class_name, "nodes": nodes},
        ("hsiutils.path_study",),
    )


def walked_of(
    model: UNet,
    x: Tensor,
    truth: NDArray[Any],
    light: NDArray[Any] | None,
    average: NDArray[np.float64],
    class_name: str,
    nodes: int,
) -> xr.Dataset:
    """What every band adds to a class's mean margin over its own pixels, along the path from the average pixel.

    Parameters
    ----------
    x, truth, light, average : as in `hsiutils.spectral_study.feeding_of`.

    Returns
    -------
    Dataset
        `contribution` (band, target) for the class's pixels, all, in sun and in shadow, NaN where there are none;
        `pixels` (target); `residual` (target), the sum over bands less the margin's change from the reference.
    """
    masks = {key: mask for key, mask in target_masks(truth, light).items() if key.partition(",")[0] == class_name}
    spectra = {key: _spectrum(model, x, mask, average, class_name, nodes) for key, mask in masks.items()}
    return xr.Dataset(
        {
            "contribution": (("target", "band"), np.stack([bands for bands, _ in spectra.values()])),
            "residual": (("target",), [residual for _, residual in spectra.values()]),
            "pixels": (("target",), [int(mask.sum()) for mask in masks.values()]),
        },
        {"target": list(masks)},
    )


def _spectrum(
    model: UNet, x: Tensor, mask: NDArray[np.bool_], average: NDArray[np.float64], class_name: str, nodes: int
) -> tuple[NDArray[np.float64], float]:
    if not mask.any():
        return np.full(len(x), np.nan), float("nan")
    target = margin((len(CLASSES), *mask.shape), class_name, torch.as_tensor(mask))
    found = integrated_gradients(model, x, target, reference=average, nodes=nodes)
    return found.map.sum(("y", "x"), dtype=np.float64).values, found.residual


def completeness(run: Run, name: str, ladder: Sequence[int] = LADDER) -> Mapping[int, float]:
    """Completeness of the path by number of nodes, of the run's first network of a variant on one test scene.

    The largest error at any pixel and class, relative to the largest change of any logit.
    """
    average = average_pixel(run, name)

    def build(model: UNet, scene: tuple[Tensor, Any, Any]) -> xr.Dataset:
        whole = np.zeros(scene[0].shape[1:], dtype=int)
        found = [decompose_path(model, scene[0], average, whole, bands=False, nodes=nodes) for nodes in ladder]
        return xr.Dataset({"completeness": ("nodes", [one.attrs["completeness"] for one in found])})

    scenes = spaced(pipeline.data(run).names("test"), 1)
    more = {"ladder": list(ladder)}
    found = kept(run, name, run.seed, "completeness", scenes, build, more, ("hsiutils.path_study",))
    return dict(zip(ladder, found["completeness"].isel(scene=0).values.tolist(), strict=True))
