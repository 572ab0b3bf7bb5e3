"""Does a network hold in conditions of which it saw no scene? A season, a weather, a daytime, a kind of road left out.

Every network learns from equally many scenes: the first of one order of which every beginning has all conditions in
their shares (`CONTROL`), or the first of this order that are not, say, of winter. The two have most scenes in common,
and are compared on the same scenes of winter, of which neither has seen any: what is lost is what scenes of winter are
worth in training. On all other scenes the two should be alike; where they are not, one is the better network by luck,
or by the scenes that took winter's place, in winter as well. So that loss is taken off, and what is left is judged.

From so few scenes a training may not find a rare class at all, which is luck and no matter of conditions. So no loss is
given for a class that one of an input's networks does not find, and means are over the classes that all find.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.analysis.estimates import Estimate, with_trainings, within
from hsiutils.analysis.intervals import interval, with_mean
from hsiutils.data.names import Conditions, name_table
from hsiutils.models.metrics import iou
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of
from hsiutils.simulate import draw_names

INPUTS: tuple[str, ...] = ("1", "3", "25", "25-PN")
CONDITIONS = {"winter": "season", "sunny": "weather", "sunset": "daytime", "highway": "scene"}
"""What is left out, one of each kind, and which trait of a scene's name that is."""
PAIRS = (
    *(("3", "1"), ("25", "1"), ("25", "3"), ("25-PN", "3"), ("25-PN", "25")),
    *((name, other) for name in INPUTS[4:] for other in ("25", "25-PN")),
)
"""Inputs whose losses are compared: the one of more bands or with PN first."""
CONTROL, WHOLE, MEAN = "control", "all scenes", "mean"
UNSEEN, NULL, NET = "where never seen", "on all other scenes", "less the null"
"""Where a loss is: on scenes of the condition; on all others, where none should be; the first less the second."""
_FOUND = 1.0
"""Least IoU, percent, of a class that a network can be said to find."""
_VALIDATE = 16
"""One in so many of the scenes validates, since those of the data set's own validation split are tested on."""


def has(scene: str, condition: str) -> bool:
    """Whether a scene is of one of `CONDITIONS`, by its name."""
    return bool(getattr(Conditions.parse(scene), CONDITIONS[condition]) == condition)


def trainings(run: Run) -> dict[str, Run]:
    """The run with the training scenes of `CONTROL`, and with those of which each condition is left out.

    Fewer scenes are seen more often: all trainings have about as many steps as one of all scenes.

    Raises
    ------
    ValueError
        If too few training scenes are not of one of the conditions.
    """
    own = set(run.data.names("train"))
    order = [name for name in draw_names(len(name_table()), run.seed) if name in own]
    kept = {CONTROL: order} | {one: [name for name in order if not has(name, one)] for one in CONDITIONS}
    scarce = min(kept, key=lambda one: len(kept[one]))
    judge = max(1, len(kept[scarce]) // _VALIDATE)
    learn = len(kept[scarce]) - judge
    if learn < 1:
        raise ValueError(f"{run.data.root}: of {len(own)} training scenes only {learn + judge} are not {scarce}")
    splits = {one: (("train", tuple(all_[:learn])), ("val", tuple(all_[learn:][:judge]))) for one, all_ in kept.items()}
    recipe = run.profile.recipe
    every = recipe.validate_every  # the last epoch is judged
    epochs = every * round(recipe.epochs * len(own) / learn / every)
    longer = replace(run.profile, recipe=replace(recipe, epochs=epochs))
    return {one: replace(run, profile=longer, splits=own_splits) for one, own_splits in splits.items()}


def unseen_counts(run: Run, name: str, seed: int) -> xr.Dataset:
    """Confusion (scene, truth, predicted) on every validation and test scene of the data set, and what was learned.

    `learned` (condition) counts the training scenes of each condition, `learned_in_all` all of them.
    """
    whole, scenes = replace(run, splits=()).data, run.data.names("train")
    counts = counts_of(run, name, seed, [*whole.names("val"), *whole.names("test")])
    of_each = [sum(has(scene, condition) for scene in scenes) for condition in CONDITIONS]
    learned = {"learned": ("condition", of_each), "learned_in_all": len(scenes)}
    return counts[["confusion"]].sel(region="all", drop=True).assign_coords(condition=list(CONDITIONS)).assign(learned)


def _grid(run: Run) -> Sequence[Point]:
    """One training of each. Those of all scenes are the book's own, whose seeds tell how far trainings differ."""
    points = [
        Point(own, name, run.seed, {"trained": one, "input": name})
        for one, own in trainings(run).items()
        for name in INPUTS
    ]
    known = [name for name in INPUTS if name in run.variants]
    return points + [Point(run, name, seed, {"trained": WHOLE, "input": name}) for name in known for seed in run.seeds]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """The counts by trained, input and seed; NaN where there is no such network."""
    return found["unseen_counts"].astype("float32")


def losses(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """Points of IoU that are lost where a condition was never seen: control less the other, on the same scenes.

    Parameters
    ----------
    found : the record.
    seed : of the resampling.

    Returns
    -------
    Rows of where, condition, input and class, with `MEAN` over each of condition and class: value, low, high; scenes,
    how many there are. `where` is `UNSEEN`, `NULL` or `NET`, their difference, of the same networks and draws. The
    interval is over scenes (drawn again) and trainings (`_variance`) together. Values are NaN where a network of the
    input does not find the class, and means over classes are without it, for all inputs.
    """
    ordered = found.sel(input=[name for name in INPUTS if name in found["input"]])  # a record has them by the alphabet
    return _table(ordered, _loss, seed, inputs=1)


def compared(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """Points that one input loses more than another, for `PAIRS`: as `losses`, with `input` as "25 less 3".

    Below zero the first generalises better.
    """
    return _table(found, _gaps, seed, inputs=2)


def learned(found: xr.Dataset) -> str:
    """How many scenes the networks of a record learned from, in a sentence."""
    control = found.sel(trained=CONTROL).isel(input=0, seed=0)
    known = _of(found)["condition"].values
    of_each = ", ".join(f"{int(control['learned'].sel(condition=one))} of {one}" for one in known)
    return f"Every network learned from {int(control['learned_in_all'])} scenes; among the control's are {of_each}."


def found_by_all(found: xr.Dataset) -> xr.DataArray:
    """Whether all networks of an input that are compared find a class on some scenes: bool (input, class)."""
    return (100 * iou(_trained(found).sum("scene")) >= _FOUND).all("trained")


def findings(lost: pd.DataFrame, gaps: pd.DataFrame) -> list[str]:
    """Sentences on the means over conditions and classes of `losses` and `compared`; verdicts are on `NET`."""
    verdicts = {1: "the first generalises worse", -1: "the first generalises better", 0: "the two cannot be told apart"}
    own = lost[(lost["where"] == NULL) & (lost["class"] == MEAN)]
    apart = own[(own["low"] > 0) | (own["high"] < 0)]
    named = ", ".join(f"{row.input} {row.condition} ({row.value:+.1f})" for row in apart.itertuples())
    costs, pairs = ({where: _means(table, where) for where in (UNSEEN, NULL, NET)} for table in (lost, gaps))
    return [
        *(
            f"{name}: a condition never seen costs {one} points of mean IoU; on all other scenes, the null, the same "
            f"networks lose {costs[NULL][name]}; less the null, {costs[NET][name]}."
            for name, one in costs[UNSEEN].items()
        ),
        *(
            f"{pair}: {gap} points of this loss, {pairs[NULL][pair]} in the null; less the null, {net}: "
            f"{verdicts[net.sign]}{_without(lost) if net.sign else ''}."
            for (pair, gap), net in zip(pairs[UNSEEN].items(), pairs[NET].values(), strict=True)
        ),
        f"On all other scenes {len(apart)} of {len(own)} losses, means among them, can be told from zero"
        f"{': ' * bool(named)}{named}; chance makes one in 20.",
        *(
            f"{name} is in no mean, for a network of {which} does not find it; by itself it is shown for the other "
            "inputs."
            for name, which in _not_found(lost).items()
        ),
    ]


def luck(found: xr.Dataset, lost: pd.DataFrame) -> list[str]:
    """Of inputs whose mean loss on all other scenes, `NULL`, is not zero: what each of their networks reaches there."""
    reached = 100 * iou((_trained(found) * _of(found).sel(where=NULL)).sum("scene"))
    means = reached.where(found_by_all(found).all("input")).mean(["class", "condition"])
    return [
        f"{name} on these scenes: its control has {float(means.sel(input=name, trained=CONTROL)):.1f} % mean IoU, its "
        f"others have {float(others.min()):.1f} to {float(others.max()):.1f}."
        for name, null in _means(lost, NULL).items()
        if null.sign
        for others in [means.sel(input=name).drop_sel(trained=CONTROL)]
    ]


def _trained(found: xr.Dataset) -> xr.DataArray:
    """Counts of the control and of the network without each condition, of the run's first seed: every training's."""
    known = [one for one in (CONTROL, *CONDITIONS) if one in found["trained"]]
    return found["confusion"].isel(seed=0, drop=True).sel(trained=known)


def _without(lost: pd.DataFrame) -> str:
    """Beside a comparison: what its means leave out."""
    lacking = _not_found(lost)
    return "".join(f", {name} left out, which a network of {which} does not find" for name, which in lacking.items())


def _not_found(lost: pd.DataFrame) -> dict[str, str]:
    """Classes that networks do not find, and of which inputs."""
    lacking = lost[(lost["where"] == NET) & (lost["condition"] == MEAN) & lost["value"].isna()]
    return {name: ", ".join(own["input"]) for name, own in lacking.groupby("class") if name != MEAN}


def advice(lost: pd.DataFrame, gaps: pd.DataFrame) -> list[str]:
    """What follows for who chooses an input; arguments and verdicts as of `findings`."""
    costs, pairs = _means(lost, NET), _means(gaps, NET)
    net = lost[(lost["where"] == NET) & (lost["class"] == MEAN) & (lost["condition"] != MEAN)]
    seen = {name: int((own["low"] > 0).sum()) for name, own in net.groupby("condition", sort=False)}
    unsure = [f"{name}: {own}" for name, own in _means(lost, UNSEEN).items() if name in costs and own.sign <= 0]
    costly = [name for name, own in costs.items() if own.sign > 0]
    better, worse = ([pair for pair, gap in pairs.items() if gap.sign == sign] for sign in (-1, 1))
    told = [
        f"{word} for {', '.join(f'{pair} ({pairs[pair].mean:+.1f} points)' for pair in which)}"
        for which, word in ((better, "smaller"), (worse, "larger"))
        if which
    ]
    return [
        f"A condition without training scenes costs IoU with {len(costly)} of {len(costs)} inputs"
        + (f" ({', '.join(f'{name}: {costs[name].mean:.1f}' for name in costly)} points" if costly else " (points")
        + ", less what is lost on all other scenes).",
        f"By condition, of {len(costs)} inputs so many have a loss that is told from zero: "
        + ", ".join(f"{name} {count}" for name, count in seen.items())
        + (f". The mean loss with the null left in is not, for {'; '.join(unsure)}." if unsure else "."),
        f"Of two inputs (the first less the second), the loss less that on all other scenes is {'; '.join(told)}"
        f"{_without(lost)}."
        if told
        else "Between no two inputs can the losses be told apart, once those on all other scenes are taken off: none "
        "is the one that generalises.",
    ]


def _means(table: pd.DataFrame, where: str) -> dict[str, Estimate]:
    own = table[(table["where"] == where) & (table["condition"] == MEAN) & (table["class"] == MEAN)]
    columns = own[["value", "low", "high", "scenes"]].itertuples(index=False, name=None)
    return {name: Estimate(*values) for name, values in zip(own["input"], columns, strict=True)}


def _table(found: xr.Dataset, figure: Callable[..., xr.DataArray], seed: int, inputs: int) -> pd.DataFrame:
    counts, (variance, freedom) = _pairs(found), _variance(found)
    figure = partial(figure, found=found_by_all(found))
    bounds = interval(counts, figure, seed=seed, resamples=400, method="percentile", pools=True)
    scenes = counts["of"].sum("scene")
    scenes = xr.concat([scenes, scenes.min("where").expand_dims(where=[NET])], "where")
    every = xr.full_like(scenes.isel(condition=[0]), counts.sizes["scene"]).assign_coords(condition=[MEAN])
    scenes = xr.concat([scenes, every], "condition")
    most = 100 * inputs * xr.DataArray([1, 1, 2], {"where": [UNSEEN, NULL, NET]}, ("where",))
    both = within(with_trainings(bounds, inputs * variance, freedom, scenes), -most, most).assign(scenes=scenes)
    order = ["where", "condition", "input", "class"]
    return both.to_dataframe(order).reset_index()[[*order, "value", "low", "high", "scenes"]]


def _variance(found: xr.Dataset) -> tuple[xr.DataArray, int]:
    """Variance (where, condition, class) of a loss from one training to the next, and its degrees of freedom.

    Each network was trained once. How far another training would be is told by those of all scenes, which have several
    seeds: on the same scenes, pooled over inputs. A loss has two such errors; its mean over conditions has one of the
    control, and independent ones of the others.
    """
    if WHOLE not in found["trained"]:
        unknown = _loss(_pairs(found), found_by_all(found)).isel(input=0, drop=True)
        return xr.full_like(unknown, np.nan), 0
    trained = found["confusion"].sel(trained=WHOLE, drop=True)
    reached = _with_net(100 * iou((trained * _of(found)).sum("scene")))
    counted = reached.where(found_by_all(found).all("input"))
    reached = with_mean(reached, of=counted)
    there = reached.where(
        trained.notnull().any(["scene", "truth", "predicted"])
    )  # (where, condition, input, seed, class)
    one = there.var("seed", ddof=1).mean("input")
    mean = there.mean("condition").var("seed", ddof=1).mean("input") + one.mean("condition") / one.sizes["condition"]
    freedom = int((trained.notnull().any(["scene", "truth", "predicted"]).sum("seed") - 1).clip(min=0).sum())
    return xr.concat([2 * one, mean.expand_dims({"condition": [MEAN]})], "condition"), freedom


def _of(found: xr.Dataset) -> xr.DataArray:
    """Whether a scene is of a condition, `UNSEEN`, or not, `NULL`: (where, scene, condition), of those there are."""
    names = [str(name) for name in found["scene"].values]
    known = [one for one in CONDITIONS if one in found["trained"] and any(has(name, one) for name in names)]
    of = np.array([[has(name, one) for one in known] for name in names], dtype=bool)
    return xr.DataArray([of, ~of], {"where": [UNSEEN, NULL], "scene": names, "condition": known})


def _with_net(values: xr.DataArray) -> xr.DataArray:
    """Values at `UNSEEN` and `NULL`, and their difference, `NET`, along `where`."""
    net = values.sel(where=UNSEEN, drop=True) - values.sel(where=NULL, drop=True)
    return xr.concat([values, net.expand_dims(where=[NET])], "where")


def _pairs(found: xr.Dataset) -> xr.Dataset:
    """Counts on the scenes of each condition and on all others, of control and other.

    `confusion` (where, scene, condition, network, input, ...); `of` (where, scene, condition) says which scenes.
    """
    of = _of(found)
    trained = _trained(found)
    other = trained.sel(trained=of["condition"].values).rename(trained="condition")
    control = trained.sel(trained=CONTROL, drop=True).expand_dims(condition=of["condition"].values)
    counts = xr.concat([control, other], xr.Variable("network", [CONTROL, "other"])) * of
    keep = {name: values for name, values in found.coords.items() if values.dims == ("scene",)}
    return xr.Dataset({"confusion": counts, "of": of}).assign_coords(keep)


def _loss(counts: xr.Dataset, found: xr.DataArray) -> xr.DataArray:
    reached = 100 * iou(counts["confusion"].sum("scene"))
    loss = _with_net(reached.sel(network=CONTROL, drop=True) - reached.sel(network="other", drop=True))
    return with_mean(with_mean(loss.where(found), of=loss.where(found.all("input"))), "condition")


def _gaps(counts: xr.Dataset, found: xr.DataArray) -> xr.DataArray:
    loss = _loss(counts, found)
    known = [pair for pair in PAIRS if set(pair) <= set(loss["input"].values)]
    rows = [loss.sel(input=one, drop=True) - loss.sel(input=other, drop=True) for one, other in known]
    return xr.concat(rows, xr.Variable("input", [f"{one} less {other}" for one, other in known]))


STUDY = Study(
    file="conditions.nc",
    about="a season, a weather, a daytime, a kind of road that no training scene shows, against as many scenes of all",
    grid=_grid,
    measures=(unseen_counts,),
    reduce=_reduce,
)
