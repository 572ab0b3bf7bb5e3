"""Chapter 4's measurements of a run's networks, each an artefact: audits, randomisation, and the leaderboard.

An audit is of every pixel and class. The other two ask about one class and region of a scene
(`hsiutils.attribution.leaderboard.Question`). Residuals are in units of the root mean square of the class's logit over
the scene: one unit for all methods, and none that is divided by a logit near zero.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from hsiutils.analysis.activations import spaced
from hsiutils.attribution.audit import audit
from hsiutils.attribution.checks import parameter_randomisation
from hsiutils.attribution.leaderboard import leaderboard, question, stops, upper_layers
from hsiutils.attribution.methods import METHODS
from hsiutils.models.train import load_trained
from hsiutils.models.unet import UNet
from hsiutils.paper import run as pipeline
from hsiutils.paper import store
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
_FILE = "found.nc"
_MODULES = ("hsiutils.attribution.leaderboard", "hsiutils.attribution.audit", "hsiutils.data.hsidrive")


def subject(run: Run) -> str:
    """Variant that is explained: the paper's 25 channels with PN where the run has it, else the run's last."""
    return "25-PN" if "25-PN" in run.variants else run.variants[-1]


def audited_scenes(run: Run, count: int = SCENES) -> list[str]:
    """At most so many test scenes, evenly spaced through their list.

    Raises
    ------
    ValueError
        If `count` is not positive.
    """
    return spaced(pipeline.data(run).names("test"), count, centred=True)


def residuals(run: Run, variant: str, seed: int, scene: str) -> xr.Dataset:
    """Audit of one network on one scene: variables of `hsiutils.attribution.audit.audit`, without its axis image."""
    return _found(run, variant, seed, scene, "audit", {"patch": PATCH}, _audited)


def relative(found: xr.Dataset) -> xr.DataArray:
    """Size of the residual at every pixel in units of the class's logit, (method, class, y, x).

    The unit is the root mean square of the logit over the scene; NaN where that is zero.
    """
    return abs(in_units(found))


def in_units(found: xr.Dataset) -> xr.DataArray:
    """The signed residual in the same unit, (method, class, y, x)."""
    unit = (found["logit"].astype(float) ** 2).mean(["y", "x"]) ** 0.5
    return found["residual"] / unit.where(unit > 0)


def summary(run: Run, variant: str, seeds: Sequence[int], scenes: Sequence[str]) -> xr.Dataset:
    """Median and largest `relative` residual over pixels and classes, (seed, scene, method)."""
    over = ["class", "y", "x"]
    parts = [[relative(residuals(run, variant, seed, scene)) for scene in scenes] for seed in seeds]
    tables = [
        xr.concat([xr.Dataset({"median": part.median(over), "largest": part.max(over)}) for part in row], "scene")
        for row in parts
    ]
    return xr.concat(tables, xr.Variable("seed", list(seeds))).assign_coords(scene=list(scenes))


def randomisation(run: Run, variant: str, seed: int, scene: str) -> xr.Dataset:
    """Cascading randomisation of one network on one scene (`hsiutils.attribution.checks.parameter_randomisation`).

    The new weights are drawn from the network's own seed.

    Returns
    -------
    Dataset
        `spearman` and `ssim` (method, layer, sign) down the cascade, of one draw; `upper` (draw, method, sign), the
        rank correlation with head and decoder redrawn, of `DRAWS` draws.
    """
    settings = {"methods": RANDOMISED, "draws": DRAWS}
    return _found(run, variant, seed, scene, "randomisation", settings, partial(_randomised, seed=seed))


def survival(run: Run, variant: str, seeds: Sequence[int], scenes: Sequence[str]) -> xr.DataArray:
    """Rank correlation of the maps left after the head and the decoder are redrawn, (seed, scene, method, sign).

    The mean over draws.
    """
    left = [
        [randomisation(run, variant, seed, scene)["upper"].mean("draw", skipna=False) for scene in scenes]
        for seed in seeds
    ]
    rows = [xr.concat(row, xr.Variable("scene", list(scenes))) for row in left]
    return xr.concat(rows, xr.Variable("seed", list(seeds)))


def board(run: Run, variant: str, seed: int, scene: str, pixels: int = 3) -> xr.Dataset:
    """The leaderboard of all methods for one network and scene (`hsiutils.attribution.leaderboard.leaderboard`)."""
    settings = {"methods": tuple(METHODS), "patch": PATCH, "pixels": pixels}
    return _found(run, variant, seed, scene, "leaderboard", settings, partial(_ranked, seed=seed, pixels=pixels))


def _audited(model: UNet, image: Tensor) -> xr.Dataset:
    return audit(model, image, patch=PATCH).isel(image=0)


def _randomised(model: UNet, image: Tensor, seed: int) -> xr.Dataset:
    methods = {name: METHODS[name] for name in RANDOMISED}
    region, upper = question(model, image).region, upper_layers(model)[-1]
    found = parameter_randomisation(model, image, region, methods, layers=stops(model), seed=seed)
    drawn = [found["spearman"].sel(layer=upper, drop=True)]
    for draw in np.random.SeedSequence(seed).generate_state(DRAWS - 1):
        again = parameter_randomisation(model, image, region, methods, layers=[upper], seed=int(draw))
        drawn.append(again["spearman"].sel(layer=upper, drop=True))
    return found.assign(upper=xr.concat(drawn, "draw"))


def _ranked(model: UNet, image: Tensor, seed: int, pixels: int) -> xr.Dataset:
    methods: dict[str, Callable[..., Any]] = {**METHODS, "occlusion": partial(METHODS["occlusion"], patch=PATCH)}
    return leaderboard(model, image, question(model, image, pixels), methods, seed=seed)


def _found(
    run: Run,
    variant: str,
    seed: int,
    scene: str,
    kind: str,
    settings: dict[str, Any],
    build: Callable[[UNet, Tensor], xr.Dataset],
) -> xr.Dataset:
    (trained,) = pipeline.models(run, [(variant, seed)], progress=False)
    inputs = {"model": trained.key, "data": pipeline.data_key(run), "scene": scene, "seed": seed, **settings}

    def fill(folder: Path) -> None:
        image, _ = pipeline.inputs(run, variant, [scene])[0]
        build(load_trained(trained.folder).model, image).to_netcdf(folder / _FILE, engine="h5netcdf")

    made = store.artefact(kind, inputs, _MODULES, fill)
    return xr.load_dataset(made.folder / _FILE, engine="h5netcdf")
