"""Evidence: what the networks of a run do, counted by network and scene, from which every claim is judged.

What is costly, or needs networks, is gathered here; `hsiutils.paper.measures` makes figures of it by arithmetic alone.
So evidence of another day, kept in a file, is judged by the same code as that of a run.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import xarray as xr

from hsiutils.analysis.similarity import likeness
from hsiutils.paper import activations, conservativeness, merits, robustness, table1
from hsiutils.paper.merits import FEW, MANY
from hsiutils.paper.results import RESULTS
from hsiutils.paper.studies import Study, cameras, conditions, designs, second
from hsiutils.paper.study import over_networks

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

Figure = TypeVar("Figure")
Gather = Callable[["Run"], xr.Dataset]
KINDS: dict[str, Gather] = {}
"""Kinds of evidence, by name; of a run, each gives a Dataset or raises `NotTestable`."""
STUDIES: dict[str, Study] = {
    study.name: study for study in (second.STUDY, designs.STUDY, conditions.STUDY, cameras.STUDY)
}
"""Studies by name, whose committed record is evidence, too, and the same whatever the run."""


class NotTestable(Exception):
    """A claim cannot be tested with this evidence; the message says why."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a ledger is judged by: a Dataset of each of `KINDS` and `STUDIES`, asked for by its name and then kept.

    Attributes
    ----------
    origin : of the scenes, "real" or "simulated".
    variants, seeds : of the networks; the first seed also draws resamples.
    find : a kind's Dataset, or in words why there is none.
    """

    origin: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    find: Callable[[str], xr.Dataset | str]
    known: dict[str, xr.Dataset | str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: "Run") -> "Evidence":
        """Of a run: gathered when it is asked for."""
        return cls(run.data.origin, run.variants, run.seeds, partial(_gathered, run))

    def __getitem__(self, kind: str) -> xr.Dataset:
        """The Dataset of a kind, or the record of a study; `NotTestable` if there is none."""
        if kind not in self.known:
            self.known[kind] = _record(STUDIES[kind]) if kind in STUDIES else self.find(kind)
        found = self.known[kind]
        if isinstance(found, str):
            raise NotTestable(found)
        return found


def _gathered(run: "Run", kind: str) -> xr.Dataset | str:
    try:
        return KINDS[kind](run)
    except NotTestable as reason:
        return str(reason)


def _record(study: Study) -> xr.Dataset | str:
    found, words = study.shown(RESULTS)
    return words if found is None else found


def require(wanted: Collection[str], has: Collection[str]) -> None:
    """`NotTestable` unless a run has these inputs."""
    if missing := [name for name in wanted if name not in has]:
        raise NotTestable(f"needs variant {', '.join(map(repr, missing))}; this run has {', '.join(has)}")


def told(figure: Callable[..., Figure], *values: Any, **options: Any) -> Figure:
    """A figure; what no network of a run has is a claim that cannot be tested."""
    try:
        return figure(*values, **options)
    except ValueError as reason:
        raise NotTestable(str(reason)) from reason


def gathers(function: Gather) -> Gather:
    """Decorator of a function that gathers evidence: its name is what claims ask for."""
    KINDS[function.__name__] = function
    return function


@gathers
def counts(run: "Run") -> xr.Dataset:
    """Confusion (variant, seed, region, scene, truth, predicted) and counts at borders, of `table1.evaluation`."""
    return table1.evaluation(run, progress=False)


@gathers
def spreads(run: "Run") -> xr.Dataset:
    """How much each class varies in each test scene: `spread` (scene, class)."""
    return table1.class_spreads(run).to_dataset(name="spread")


@gathers
def relit(run: "Run") -> xr.Dataset:
    """Pixels that pass between sun and shade, and those that change class: (variant, seed, scene, class)."""
    require(("25", "25-PN"), run.variants)
    return told(over_networks, run, robustness.relit_changes, ["25", "25-PN"])


@gathers
def relit_pixels(run: "Run") -> xr.Dataset:
    """The same of a linear classifier of single pixels: (input, scene, class)."""
    inputs = ["all", "PN"]
    parts = [told(robustness.pixel_relit_changes, run, what) for what in inputs]
    return xr.concat(parts, xr.Variable("input", inputs))


@gathers
def edges(run: "Run") -> xr.Dataset:
    """Confusion of road and marks at their edge and elsewhere: (variant, seed, scene, place, truth, predicted)."""
    require(("25", "25-PN"), run.variants)
    return over_networks(run, robustness.edge_counts, ["25", "25-PN"])


@gathers
def head(run: "Run") -> xr.Dataset:
    """Largest relative difference between a logit and the sum of its contributions: `gap` (variant, seed, scene)."""
    return over_networks(run, activations.head_sums)[["gap"]]


@gathers
def readings(run: "Run") -> xr.Dataset:
    """Rank correlations of readings of channels and the IoU lost without them: (variant, seed, class)."""

    def correlated(*network: Any) -> xr.Dataset:
        return merits.readings(activations.head_sums(*network), activations.knocked(*network))

    return over_networks(run, correlated, _of_the_paper(run))


@gathers
def pairs(run: "Run") -> xr.Dataset:
    """How alike two networks are, one place a pair: the columns of `likeness`."""
    table = likeness(activations.similarity_sums(run), _of_the_paper(run), run.seeds)
    return xr.Dataset.from_dataframe(table)


@gathers
def materials(run: "Run") -> xr.Dataset:
    """Variance inside Other that true materials explain, percent: `explained` (variant, seed)."""
    return merits.explained(told(_compared, run, activations.material_sums)).to_dataset(name="explained")


@gathers
def input_edges(run: "Run") -> xr.Dataset:
    """Sums along label borders of the input, which every seed shares: (variant, seed, scene, class, channel, ...)."""
    sums = _compared(run, activations.input_edges).isel(seed=[0])
    return sums.sel(distance=abs(sums["distance"]) < 1)


@gathers
def explained(run: "Run") -> xr.Dataset:
    """Share of a logit's variation that methods' sums explain: `explained` (seed, scene, method, class)."""
    variant = conservativeness.subject(run)
    found = conservativeness.summary(run, variant, conservativeness.audited_scenes(run))
    return found[["explained"]].assign_attrs(last=run.model(variant).model.config.last)


@gathers
def survival(run: "Run") -> xr.Dataset:
    """Correlations of maps with those of redrawn and of other networks: (scene, method, seed, partner)."""
    scenes = conservativeness.audited_scenes(run, conservativeness.REDRAWN_SCENES)
    return conservativeness.survival(run, conservativeness.subject(run), scenes)


def _of_the_paper(run: "Run") -> list[str]:
    return [name for name in activations.PAPER_VARIANTS if name in run.variants]


def _compared(run: "Run", measure: Callable[..., xr.Dataset]) -> xr.Dataset:
    """A measure of the networks that the paper's sentences on its Figs. 5 and 6 compare."""
    require((*FEW, *MANY), run.variants)
    return over_networks(run, measure, [*FEW, *MANY])
