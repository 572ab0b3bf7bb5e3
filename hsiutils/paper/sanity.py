"""What completeness does not buy, in chapter 4: the sanity checks after 2018, and walls.

Hedstroem et al. (arXiv 2401.06465, 2405.02383) found that the order of the layers, noise and the measure of likeness
decide what parameter randomisation says. Here half of a network is redrawn from the head down or from the bottom up,
maps are compared as they are or averaged over noisy copies, and each against its own null: the map of another network
that was redrawn as well. And it is asked whether maps grow more complex when all is redrawn. Walls are of
`hsiutils.attribution.walls`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from hsiutils.analysis.estimates import Estimate, fisher, jackknife, mean_over_seeds
from hsiutils.analysis.intervals import interval
from hsiutils.attribution.checks import Mode, complexity, drawn_layers, smoothed
from hsiutils.attribution.hooks import INPUT
from hsiutils.attribution.leaderboard import upper_layers
from hsiutils.attribution.methods import METHODS, Method
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import region
from hsiutils.attribution.walls import behind
from hsiutils.data.classes import VOID
from hsiutils.paper.conservativeness import RANDOMISED, audited_scenes, pairs_of_maps, redrawn_by
from hsiutils.paper.study import Subject, study

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

SCENES, WALLS = 4, 20
"""Test scenes of the record of the checks, and of that of walls."""
COPIES = 3
"""Noisy copies of the image that smoothed maps are averaged over."""
CHECKS: Mapping[str, tuple[Mode, bool]] = {
    "head down": ("cascading", False),
    "bottom up": ("bottom-up", False),
    "bottom up, smoothed": ("bottom-up", True),
}
"""Which half is redrawn, from which end, and whether maps are averaged over noisy copies."""
COMPLEXITY = "complexity"
WALLED = (
    *("linear decomposition", "gradient x input", "DeepLIFT", "Guided BackProp"),
    *(name for name, method in METHODS.items() if method.layered and not name.startswith(("Seg", "Guided"))),
)
"""Methods that are asked what is behind a wall: some of the input, and every class activation map."""


def revisited(run: "Run", variant: str, seed: int, most: int = SCENES) -> xr.Dataset:
    """All checks of the networks of a variant together; `seed` counts for nothing, they are of all seeds.

    Returns
    -------
    Dataset
        `redrawn` and `trained` (scene, check, method, network, partner), as of `conservativeness.survival`;
        `complexity` (scene, state, method, network) of maps of trained networks and of the same redrawn throughout.
    """
    networks = [(variant, own) for own in run.seeds]
    return study(run, "sanity", _revisited, networks, audited_scenes(run, most), methods=RANDOMISED)


def _revisited(subjects: Sequence[Subject], methods: Sequence[str]) -> xr.Dataset:
    models, seeds, scenes = [one.model for one in subjects], [one.seed for one in subjects], count()
    build = partial(_of_scene, models, {name: METHODS[name] for name in methods}, seeds=seeds, scenes=scenes)
    return subjects[0].by_scene(build)


def _of_scene(
    models: Sequence[nn.Module],
    methods: Mapping[str, Method],
    image: Tensor,
    truth: NDArray[Any],
    *_: Any,
    seeds: Sequence[int],
    scenes: "count[int]",
) -> xr.Dataset:
    """All checks of one scene: of the mean logit of the class that it shows most of, on its true pixels."""
    number, known = next(scenes), truth[truth != VOID]
    most = int(np.bincount(known.astype(int)).argmax())
    target = region(models[0], image, most, truth == most, mean=True)
    layers, upper = list(drawn_layers(models[0], image)), len(upper_layers(models[0], image))
    ends: dict[Mode, str] = {"cascading": layers[upper - 1], "bottom-up": layers[upper]}
    parts = []
    for mode, smooth in CHECKS.values():
        redrawn = redrawn_by(models, image, seeds, number, mode, ends[mode])
        asked: Mapping[str, Callable[..., Attribution]] = methods
        if smooth:
            asked = {name: smoothed(method, COPIES, seed=number) for name, method in methods.items()}
        parts.append(pairs_of_maps(models, redrawn, image, target, asked))
    found = xr.concat(parts, xr.Variable("check", list(CHECKS))).rename(seed="network")
    throughout = redrawn_by(models, image, seeds, number, "cascading", layers[-1])
    values = [
        [[complexity(method(one, image, target).map) for one in state] for method in methods.values()]
        for state in (models, throughout)
    ]
    coords = {"state": ["trained", "redrawn"]}
    return found.assign_coords(coords).assign({COMPLEXITY: (("state", "method", "network"), np.asarray(values))})


def walls(run: "Run", variant: str, seed: int, most: int = WALLS) -> xr.Dataset:
    """`hsiutils.attribution.walls.behind` along scene, with a wall in front of the right third of the image."""
    return study(run, "walls", _walled, (variant, seed), audited_scenes(run, most), methods=WALLED)


def _walled(subject: Subject, methods: Sequence[str]) -> xr.Dataset:
    asked = {name: METHODS[name] for name in methods}

    def one(image: Tensor, *_: Any) -> xr.Dataset:
        height, width = image.shape[1:]
        seen = np.tile(np.arange(width) < 2 * width // 3, (height, 1))
        return behind(subject.model, image, seen, asked)

    return subject.by_scene(one)


def behind_walls(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """One row a map of `walls`, of networks along seed: method, layer, and its share behind the wall.

    The share is a mean over scenes and networks, value, with its 95 % interval over scenes, low and high; and the least
    and most of single networks.
    """
    over = ["scene", "seed"]
    told = interval(found["share"], lambda drawn: drawn["value"].mean(over), seed=seed, method="percentile")
    networks = found["share"].mean("scene")
    told = told.assign(least=networks.min("seed"), most=networks.max("seed"))
    return told.to_dataframe().reset_index(drop=True)


def left(found: xr.Dataset, check: str, method: str) -> Estimate:
    """How much more a map is like its own network's redrawn one than like another's, -1 to 1: what is left of it.

    A difference of Fisher's z, brought back by tanh, with the interval of the jackknife over networks. At 0 nothing of
    the network is left in the map; above 0 the map is made of what was not redrawn. ValueError where nothing is known.
    """
    z = fisher(found["redrawn"].sel({"check": check, "method": method}, drop=True)).mean("scene")
    z = z.transpose("network", "partner").values

    def gap(chosen: Sequence[int]) -> float:
        here = z[np.ix_(list(chosen), list(chosen))]
        own = np.eye(len(here), dtype=bool)
        return float(here[own].mean() - here[~own].mean())

    return jackknife(gap, len(z), correlations=True)


def rise(found: xr.Dataset, method: str) -> Estimate:
    """Relative rise of a map's complexity when all is redrawn (eMPRT), mean over networks, with Student's interval."""
    before, after = _complexities(found, method)
    return mean_over_seeds(((after - before) / before.where(before > 0)).mean("scene"))


def reacts(found: xr.Dataset, method: str) -> Estimate:
    """How much a map's complexity changes when all is redrawn, above its null, nats; of either sign of the change.

    The null is how far another network's redrawn map is from the own one: what two draws of weights differ by. Above 0
    what was learned shows in the complexity. With the interval of the jackknife over networks.
    """
    trained, redrawn = (one.transpose("network", "scene").values for one in _complexities(found, method))
    own, null = abs(redrawn - trained).mean(1), abs(redrawn[:, None] - redrawn).mean(2)

    def gap(chosen: Sequence[int]) -> float:
        here = null[np.ix_(list(chosen), list(chosen))]
        return float(own[list(chosen)].mean() - here[~np.eye(len(here), dtype=bool)].mean())

    return jackknife(gap, len(own))


def _complexities(found: xr.Dataset, method: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Of maps of trained networks, and of the same redrawn throughout."""
    values = found[COMPLEXITY].sel({"method": method}, drop=True)
    return values.sel(state="trained", drop=True), values.sel(state="redrawn", drop=True)


def sanity_table(found: xr.Dataset) -> pd.DataFrame:
    """One row a method: what is `left` by each check, the `rise` of complexity, and whether it `reacts`, in words."""
    rows = {}
    for method in map(str, found["method"].values):
        words = {f"left, {check}": _told(left, found, check, method) for check in found["check"].values}
        complex_by = {"rise of complexity": rise, "change above its null (nats)": reacts}
        rows[method] = words | {column: _told(figure, found, method) for column, figure in complex_by.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


GUIDED = ("Guided BackProp", "Guided GradCAM")


def finding(found: xr.Dataset, methods: Sequence[str] = (*GUIDED, "GradCAM")) -> list[str]:
    """Which checks say that something of the network is left in a method's map, in a line a method."""
    said = []
    for method in methods:
        signs = {str(check): left(found, check, method).sign for check in found["check"].values}
        kept = [check for check, sign in signs.items() if sign > 0]
        words = {1: "the map gets more complex", 0: "the map's complexity changes", -1: "the map gets simpler"}
        shown = reacts(found, method).sign > 0
        grown = f"{words[rise(found, method).sign]}, by more" if shown else "its complexity is not shown to change more"
        said.append(
            f"{method}: that something of the network is left is shown by {_checks(kept, len(signs))}. With all layers "
            f"redrawn, {grown} than two draws of weights differ."
        )
    return said


def sentence(found: xr.Dataset) -> str:
    """What of the paper's sentence is shown: guided maps stay what they were, of GradCAM's nothing is shown to stay."""
    holds = [
        str(check)
        for check in found["check"].values
        if all(left(found, check, method).sign > 0 for method in GUIDED) and left(found, check, "GradCAM").sign <= 0
    ]
    every = _checks(holds, found.sizes["check"])
    return f"The paper's sentence, that GradCAM's map changes and the guided maps do not, is shown by {every}."


def _checks(names: Sequence[str], every: int) -> str:
    """Some of the checks, in words."""
    return f"{len(names)} of {every} checks ({'; '.join(names)})" if names else f"none of {every} checks"


def walls_in_words(shares: pd.DataFrame, area: float) -> list[str]:
    """The least and the most of `behind_walls` at each layer; an even map has the share of the area."""
    said = []
    for layer, own in shares.groupby("layer", sort=False):
        least, most = own["value"].min(), own["value"].max()
        where = "at the input" if layer == INPUT else f"at {layer}"
        if most < 0.0005:
            said.append(f"Maps {where}: none has anything behind the wall.")
            continue
        ends = []
        for share in (least, most):
            names = own.loc[np.isclose(own["value"], share, atol=5e-4), "method"]
            ends.append(f"{100 * share:.0f} % ({', '.join(names)})")
        said.append(
            f"Maps {where}: {' to '.join(ends)} of their mass is behind the wall; a map that is the same everywhere "
            f"has {100 * area:.0f} %."
        )
    return said


def _told(figure: Any, *values: Any) -> str:
    try:
        return str(figure(*values))
    except ValueError:
        return "undefined"
