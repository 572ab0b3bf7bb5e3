"""Chapter 4's measurements of a run's networks, each an artefact: audits, randomisation, and the leaderboard.

An audit is of every pixel and class. The other two ask about one class and region of a scene
(`hsiutils.attribution.leaderboard.Question`). Residuals are in units of the root mean square of the class's logit over
the scene: one unit for all methods, and none that is divided by a logit near zero.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from torch import Tensor

from hsiutils.analysis.activations import spaced
from hsiutils.attribution.audit import audit
from hsiutils.attribution.checks import parameter_randomisation
from hsiutils.attribution.leaderboard import leaderboard, question, stops, upper_layers
from hsiutils.attribution.methods import METHODS
from hsiutils.models.unet import UNet
from hsiutils.paper.study import Subject, over_networks, study

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

RANDOMISED = ("CAM", "GradCAM", "gradient", "linear decomposition", "Guided BackProp", "Guided GradCAM")
"""Methods whose maps are followed down the cascade: the paper's, and what they stand against."""
GUIDED = ("Guided BackProp", "Guided GradCAM")
DRAWS = 5
"""New weights drawn for head and decoder: one draw says as much about the draw as about the method."""
SCENES = 1
"""Test scenes that are audited for each seed. Every pixel and class of a scene counts, and the spread is over seeds."""
PATCH = 16
"""Side of occlusion's patches, pixels: with smaller ones it costs more than all other methods together."""


def subject(run: "Run") -> str:
    """Variant that is explained: the paper's 25 channels with PN where the run has it, else the run's last."""
    return "25-PN" if "25-PN" in run.variants else run.variants[-1]


def audited_scenes(run: "Run", count: int = SCENES) -> list[str]:
    """At most so many test scenes, evenly spaced through their list, each in the middle of its part."""
    return spaced(run.data.names("test"), count, centred=True)


def residuals(run: "Run", variant: str, seed: int, scene: str) -> xr.Dataset:
    """Audit of one network on one scene: variables of `hsiutils.attribution.audit.audit`, without its axis image."""
    return _of_scene(run, "audit", _audited, variant, seed, scene, patch=PATCH)


def relative(found: xr.Dataset) -> xr.DataArray:
    """Size of the residual at every pixel in units of the class's logit, (method, class, y, x).

    The unit is the root mean square of the logit over the scene; NaN where that is zero.
    """
    return abs(in_units(found))


def in_units(found: xr.Dataset) -> xr.DataArray:
    """The signed residual in the same unit, (method, class, y, x)."""
    unit = (found["logit"].astype(float) ** 2).mean(["y", "x"]) ** 0.5
    return found["residual"] / unit.where(unit > 0)


def summary(run: "Run", variant: str, scenes: Sequence[str]) -> xr.Dataset:
    """Median and largest `relative` residual over pixels and classes, (seed, scene, method)."""
    over = ["class", "y", "x"]

    def measure(run: "Run", variant: str, seed: int) -> xr.Dataset:
        parts = [relative(residuals(run, variant, seed, scene)) for scene in scenes]
        tables = [xr.Dataset({"median": part.median(over), "largest": part.max(over)}) for part in parts]
        return xr.concat(tables, xr.Variable("scene", list(scenes)))

    return over_networks(run, measure, [variant]).isel(variant=0, drop=True)


def randomisation(run: "Run", variant: str, seed: int, scene: str) -> xr.Dataset:
    """Cascading randomisation of one network on one scene (`hsiutils.attribution.checks.parameter_randomisation`).

    `spearman` and `ssim` (method, layer, sign) are down the cascade, of one draw from the network's own seed; `upper`
    (draw, method, sign) is the rank correlation with head and decoder redrawn, of `DRAWS` draws.
    """
    return _of_scene(run, "randomisation", _randomised, variant, seed, scene, methods=RANDOMISED, draws=DRAWS)


def survival(run: "Run", variant: str, scenes: Sequence[str]) -> xr.DataArray:
    """Rank correlation of the maps left after the head and the decoder are redrawn, (seed, scene, method, sign).

    The mean over draws.
    """

    def measure(run: "Run", variant: str, seed: int) -> xr.Dataset:
        parts = [randomisation(run, variant, seed, scene)[["upper"]].mean("draw", skipna=False) for scene in scenes]
        return xr.concat(parts, xr.Variable("scene", list(scenes)))

    return over_networks(run, measure, [variant])["upper"].isel(variant=0, drop=True)


def board(run: "Run", variant: str, seed: int, scene: str, pixels: int = 3) -> xr.Dataset:
    """The leaderboard of all methods for one network and scene (`hsiutils.attribution.leaderboard.leaderboard`).

    In the place of measured times, which no rerun repeats, stands what a map costs, `passes` of `Method`.
    """
    found = _of_scene(run, "leaderboard", _ranked, variant, seed, scene, patch=PATCH, pixels=pixels)
    return found.assign(passes=("method", [METHODS[name].passes for name in found["method"].values]))


def _of_scene(
    run: "Run", kind: str, build: Callable[..., xr.Dataset], variant: str, seed: int, scene: str, **settings: Any
) -> xr.Dataset:
    return study(run, kind, build, (variant, seed), [scene], **settings).isel(scene=0, drop=True)


def _audited(subject: Subject, patch: int) -> xr.Dataset:
    return subject.by_scene(lambda image, *_: audit(subject.model, image, patch=patch).isel(image=0))


def _randomised(subject: Subject, methods: Sequence[str], draws: int) -> xr.Dataset:
    return subject.by_scene(lambda image, *_: _redrawn(subject.model, image, subject.seed, methods, draws))


def _ranked(subject: Subject, patch: int, pixels: int) -> xr.Dataset:
    model = subject.model
    methods: dict[str, Callable[..., Any]] = {**METHODS, "occlusion": partial(METHODS["occlusion"], patch=patch)}
    return subject.by_scene(
        lambda image, *_: leaderboard(model, image, question(model, image, pixels), methods, seed=subject.seed)
    )


def _redrawn(model: UNet, image: Tensor, seed: int, names: Sequence[str], draws: int) -> xr.Dataset:
    methods = {name: METHODS[name] for name in names}
    region, upper = question(model, image).region, upper_layers(model)[-1]
    redrawn = partial(parameter_randomisation, model, image, region, methods)
    found = redrawn(layers=stops(model), seed=seed)
    seeds = np.random.SeedSequence(seed).generate_state(draws - 1)
    every = [found, *(redrawn(layers=[upper], seed=int(own)) for own in seeds)]
    return found.assign(upper=xr.concat([one["spearman"].sel(layer=upper, drop=True) for one in every], "draw"))
