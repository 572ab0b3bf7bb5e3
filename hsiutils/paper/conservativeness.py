"""Chapter 4's measurements of a run's networks, each an artefact: audits, randomisation, and the leaderboard.

An audit is of every pixel and class, `survival` of the two classes that cover most of each of several scenes. The
cascade and the leaderboard ask about one class and region of a scene (`hsiutils.attribution.leaderboard.Question`).
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

from hsiutils.analysis.activations import spaced
from hsiutils.analysis.estimates import Estimate, fisher, jackknife
from hsiutils.attribution.audit import audit
from hsiutils.attribution.checks import Mode, compared, parameter_randomisation, randomised_networks, rank_correlations
from hsiutils.attribution.leaderboard import leaderboard, question, upper_layers
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import Target, region
from hsiutils.data.classes import VOID
from hsiutils.models.unet import UNet
from hsiutils.paper.study import Subject, over_networks, study
from hsiutils.paper.words import counted

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

RANDOMISED = ("CAM", "GradCAM", "linear decomposition", "Guided BackProp", "Guided GradCAM")
"""Methods whose maps are compared with those of other weights: the paper's, and what they stand against."""
ZEROS = "map of zeros"
SCENES = 1
"""Test scenes that are audited for each seed. Every pixel and class of a scene counts, and the spread is over seeds."""
REDRAWN_SCENES, QUESTIONS = 4, 2
"""Test scenes on which maps are compared with those of other weights, drawn for each; and classes asked about there."""
PATCH = 16
"""Side of occlusion's patches, pixels: with smaller ones it costs more than all other methods together."""


def subject(run: "Run") -> str:
    """Variant that is explained: the paper's 25 channels with PN where the run has it, else the run's last."""
    return "25-PN" if "25-PN" in run.variants else run.variants[-1]


def audited_scenes(run: "Run", count: int = SCENES) -> list[str]:
    """At most so many test scenes, evenly spaced through their list, each in the middle of its part."""
    return spaced(run.data.names("test"), count, centred=True)


def residuals(
    run: "Run", variant: str, seed: int, scene: str, methods: Sequence[str] | None = None, *, trained: bool = True
) -> xr.Dataset:
    """Audit of one network on one scene, with the map of zeros as its last method, which any claim must tell apart.

    Of these methods, or all; and of the network as it is, or as its training found it. Variables of
    `hsiutils.attribution.audit.audit`, without its axis image.
    """
    options = {"patch": PATCH, "methods": methods, "trained": trained}
    return with_zeros(_of_scene(run, "audit", _audited, variant, seed, scene, **options))


def with_zeros(found: xr.Dataset) -> xr.Dataset:
    """Residuals and logits of one image's audit, with `ZEROS` as the last method."""
    logits = found[["logit", "region_logit"]]
    zeros = (-logits).rename(logit="residual", region_logit="region_residual").expand_dims({"method": [ZEROS]})
    return xr.concat([found[["residual", "region_residual"]].reset_coords(drop=True), zeros], "method").merge(logits)


def at_layer(name: str) -> str:
    """A method of an audit with its layer in brackets, as pages show it.

    >>> at_layer("gradient x input input"), at_layer("CAM conv2d_21"), at_layer(ZEROS)
    ('gradient x input (input)', 'CAM (conv2d_21)', 'map of zeros')
    """
    method, _, layer = name.rpartition(" ")
    return name if name == ZEROS else f"{method} ({layer})"


def in_units(found: xr.Dataset) -> xr.DataArray:
    """The residual at every pixel in units of the class's logit, (method, class, y, x).

    The unit is the root mean square of the logit over the scene; NaN where that is zero.
    """
    unit = (found["logit"].astype(float) ** 2).mean(["y", "x"]) ** 0.5
    return found["residual"] / unit.where(unit > 0)


def explained(found: xr.Dataset) -> xr.DataArray:
    """Share R2 of a logit's variation over the pixels that a method's sums explain, (method, class).

    1 - var(sum - logit) / var(logit) over the pixels: 1 where the map sums to the logit, up to one number a class; 0
    for a map of zeros, or one whose sum is the same for every pixel; below 0 where taking the sum for the logit is
    worse than that. From both the mean over the classes is taken first: a number added to all logits of a pixel is seen
    by no softmax, and is not seen here by a method whose sums are linear in the logit. NaN where nothing varies.
    """
    over = ["y", "x"]
    left, own = (found[name].astype(float) for name in ("residual", "logit"))
    spread = (own - own.mean("class")).var(over)
    return 1 - (left - left.mean("class", skipna=False)).var(over, skipna=False) / spread.where(spread > 0)


def summary(run: "Run", variant: str, scenes: Sequence[str]) -> xr.Dataset:
    """`explained` (seed, scene, method, class), and the `largest` residual, `in_units`, without the last of these."""

    def measure(run: "Run", variant: str, seed: int) -> xr.Dataset:
        parts = [residuals(run, variant, seed, scene) for scene in scenes]
        largest = [abs(in_units(part)).max(["class", "y", "x"]) for part in parts]
        tables = [
            xr.Dataset({"explained": explained(one), "largest": most}) for one, most in zip(parts, largest, strict=True)
        ]
        return xr.concat(tables, xr.Variable("scene", list(scenes)))

    return over_networks(run, measure, [variant]).isel(variant=0, drop=True)


def randomisation(run: "Run", variant: str, seed: int, scene: str) -> xr.Dataset:
    """Cascading randomisation of one network on one scene (`hsiutils.attribution.checks.parameter_randomisation`)."""
    return _of_scene(run, "randomisation", _randomised, variant, seed, scene, methods=RANDOMISED)


def stops(model: UNet, x: Tensor) -> list[str]:
    """Keras names at which the cascade through a U-Net is looked at.

    The head, the last layers of the three highest decoder blocks, the end of `upper_layers`, the base, and the second
    layer of all, whose output the first skip connection carries; each once, where they are fewer.
    """
    config = model.config
    ends = [second for _, second in reversed(config.blocks)]
    found = [config.head, *ends[: min(3, config.depth)], upper_layers(model, x)[-1], config.base, config.blocks[0][1]]
    return list(dict.fromkeys(found))


def survival(run: "Run", variant: str, scenes: Sequence[str]) -> xr.Dataset:
    """How alike the map of a network, rows (seed), is to that of another of the variant, columns (partner).

    Spearman's rank correlations (scene, method, seed, partner) of the signed maps of the mean logit of a class on its
    true pixels, mean over the two classes that a scene shows most of. `redrawn`, the partner's head and decoder
    drawn anew: on the diagonal the network's own, elsewhere what any weights would give. `trained`, the partner as it
    is: how alike two trainings are.
    """
    return study(run, "survival", _survived, [(variant, seed) for seed in run.seeds], scenes, methods=RANDOMISED)


def kept(found: xr.Dataset) -> Estimate:
    """How much closer a map is to its own with head and decoder redrawn than to that of another training, -1 to 1.

    Of one method's `survival`: a difference of Fisher's z, brought back by tanh. Below 0 the map is made of what was
    redrawn, above 0 of what was not. It is 0 for a map that reads no weights, such as an edge filter's, and for noise.
    Pairs share networks, so the interval is of the jackknife over seeds. A ValueError where nothing is known, as of a
    map of zeros, or with one network.
    """
    z = _by_pair(found)

    def gap(chosen: Sequence[int]) -> float:
        here = z.isel(seed=chosen, partner=chosen)
        return float(here["own redrawn"].mean() - here["another training"].mean())

    return jackknife(gap, z.sizes["seed"], correlations=True)


def survival_table(found: xr.Dataset) -> pd.DataFrame:
    """One row a method of `survival`: mean correlation of its maps with each kind of partner, and `kept`, in words."""
    table = _by_pair(found).mean(["seed", "partner"]).map(np.tanh).to_dataframe()
    table["kept"] = [str(kept(found.sel({"method": name}))) if _known(found, name) else "" for name in table.index]
    return table


CHECKED = {-1: "Passes the check", 0: "Not decided", 1: "Fails the check"}
"""What the sign of `kept` says."""


def checked_in_words(found: xr.Dataset) -> list[str]:
    """Which methods of `survival` pass the check, which fail, and of which it decides nothing; a line each."""
    known = [str(name) for name in found["method"].values if _known(found, name)]
    signs = {name: kept(found.sel({"method": name})).sign for name in known}
    lines = ((words, [name for name in known if signs[name] == sign]) for sign, words in CHECKED.items())
    return [f"{words}: {', '.join(names)}" for words, names in lines if names]


def curves_in_words(curves: xr.DataArray, found: xr.Dataset, layer: str) -> list[str]:
    """What the curves (method, layer) of one cascade hold down to a layer, beside the draws of `survival`, in words."""
    own = found["redrawn"].where(found["seed"] == found["partner"])
    means = survival_table(found)["own redrawn"]
    draws = found.sizes["scene"] * found.sizes["seed"]
    said = [
        f"A curve is one draw of weights and one class. The check is of the mean over {counted(draws, 'draw')}, each "
        "of two classes, and asks whether that mean is below what two trainings have in common. Single draws scatter. "
        f"With head and decoder redrawn (down to {layer}), what is left of a map, in the figure and in the check:"
    ]
    for name in map(str, curves["method"].values):
        each = own.sel({"method": name})
        if each.notnull().any():
            said.append(
                f"{name}: {float(curves.sel({'method': name, 'layer': layer})):+.2f} in the figure; mean "
                f"{means[name]:+.2f}, single draws {float(each.min()):+.2f} to {float(each.max()):+.2f}, in the check"
            )
    return said


def _known(found: xr.Dataset, name: str) -> bool:
    """Whether `kept` of a method can be told."""
    means = _by_pair(found.sel({"method": name}))
    return bool(means["own redrawn"].notnull().any() and means["another training"].notnull().any())


def _by_pair(found: xr.Dataset) -> xr.Dataset:
    """Fisher's z of `survival`, mean over scenes, each (seed, partner) with NaN at the other pairs."""
    z = fisher(found).mean("scene")
    own = z["seed"] == z["partner"]
    redrawn, trained = z["redrawn"], z["trained"].where(~own)
    parts = {"own redrawn": redrawn.where(own), "another's redrawn": redrawn.where(~own), "another training": trained}
    return xr.Dataset(parts)


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


def _audited(subject: Subject, patch: int, methods: Sequence[str] | None, trained: bool) -> xr.Dataset:
    model = (subject if trained else subject.untrained()).model
    return subject.by_scene(lambda image, *_: audit(model, image, methods, patch=patch).isel(image=0))


def _randomised(subject: Subject, methods: Sequence[str]) -> xr.Dataset:
    model, asked = subject.model, {name: METHODS[name] for name in methods}

    def cascade(image: Tensor, *_: Any) -> xr.Dataset:
        target = question(model, image).region
        return parameter_randomisation(model, image, target, asked, layers=stops(model, image), seed=subject.seed)

    return subject.by_scene(cascade)


def _survived(subjects: Sequence[Subject], methods: Sequence[str]) -> xr.Dataset:
    models, seeds, scenes = [one.model for one in subjects], [one.seed for one in subjects], count()
    asked = {name: METHODS[name] for name in methods}

    def compare(image: Tensor, truth: NDArray[Any], *_: Any) -> xr.Dataset:
        last = upper_layers(models[0], image)[-1]
        redrawn = redrawn_by(models, image, seeds, next(scenes), "cascading", last)
        classes, pixels = np.unique(truth[truth != VOID], return_counts=True)
        most = classes[pixels.argsort()[::-1]][:QUESTIONS]
        targets = [region(models[0], image, int(index), truth == index, mean=True) for index in most]
        found = xr.concat([pairs_of_maps(models, redrawn, image, one, asked) for one in targets], "question")
        over: xr.Dataset = fisher(found).mean("question")
        return over.map(np.tanh)

    return subjects[0].by_scene(compare).assign_coords(seed=seeds, partner=seeds)


def redrawn_by(
    models: Sequence[nn.Module], x: Tensor, seeds: Sequence[int], scene: int, mode: Mode, last: str
) -> list[nn.Module]:
    """Each network with its layers redrawn in the order of the mode, by its seed and the scene's number."""
    draws = [int(np.random.SeedSequence([seed, scene]).generate_state(1)[0]) for seed in seeds]
    pairs = zip(models, draws, strict=True)
    return [next(randomised_networks(model, x, mode, draw, [last]))[1] for model, draw in pairs]


def pairs_of_maps(
    models: Sequence[nn.Module],
    redrawn: Sequence[nn.Module],
    x: Tensor,
    target: Target,
    methods: Mapping[str, Callable[..., Attribution]],
) -> xr.Dataset:
    """Rank correlations (method, seed, partner) of maps with those of partners, `redrawn` and `trained`.

    Of the places that `hsiutils.attribution.checks.compared` leaves of a method's maps.
    """
    every, found = len(models), []
    for method in methods.values():
        found_by = (method(network, x, target).map.values for network in (*models, *redrawn))
        maps = compared(np.stack([values.ravel() for values in found_by]))
        found.append(rank_correlations(maps)[:every])  # (seed, partner and partner redrawn)
    values, dims = np.stack(found), ("method", "seed", "partner")
    parts = {"trained": (dims, values[:, :, :every]), "redrawn": (dims, values[:, :, every:])}
    return xr.Dataset(parts, {"method": list(methods)})


def _ranked(subject: Subject, patch: int, pixels: int) -> xr.Dataset:
    model = subject.model
    methods: dict[str, Callable[..., Any]] = {**METHODS, "occlusion": partial(METHODS["occlusion"], patch=patch)}
    return subject.by_scene(
        lambda image, *_: leaderboard(model, image, question(model, image, pixels), methods, seed=subject.seed)
    )
