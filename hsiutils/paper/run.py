"""What a run of the book is made with: its sizes, its scenes and its networks, each an artefact.

Everything asks for what it needs, so a chapter can start anywhere and runs alone. Profiles say how much of everything:
the same code path from a smoke test to the paper's full size.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hsiutils import simulate
from hsiutils.data.cluster import in_worker
from hsiutils.data.inputs import FittedVariant, variant
from hsiutils.data.sensor import Sensor
from hsiutils.data.source import Scenes, Source, open_dataset
from hsiutils.models.files import Trained, load_trained
from hsiutils.models.recipe import AUTHORS, Recipe, precision
from hsiutils.models.train import train_network
from hsiutils.models.unet import UNetConfig
from hsiutils.paper import published, store
from hsiutils.paper.cluster import side_by_side


@dataclass(frozen=True)
class Profile:
    """Sizes of a run.

    Attributes
    ----------
    scenes : simulated images in all, cut into train, val and test as HS3-Bench cuts the real ones (.6, .2, .2).
    tiles : (rows, columns) of a simulated cube; the lens and its field of view stay the same.
    variants : network inputs that are compared.
    models : networks trained of each variant, from different seeds; the spread over them is shown with every score.
    depth, filters : of the U-Net.
    norm_momentum : weight of the newest batch in the statistics of batch normalisation. Keras' 0.01 needs hundreds of
        steps to forget where it started; short trainings take 0.1.
    recipe : of its training.
    dropout : share of activations that is dropped in training.
    kernel : size of its convolutions, pixels.
    """

    name: str
    scenes: int
    tiles: tuple[int, int]
    variants: tuple[str, ...]
    models: int
    depth: int
    filters: int
    norm_momentum: float
    recipe: Recipe
    dropout: float = 0.5
    kernel: int = 3

    def network(self, classes: Sequence[str]) -> UNetConfig:
        """The U-Net for these classes; training sets its channels to those of the input."""
        return UNetConfig(
            classes=len(classes),
            depth=self.depth,
            filters=self.filters,
            kernel=self.kernel,
            norm_momentum=self.norm_momentum,
            dropout=self.dropout,
            class_names=tuple(classes),
        )


VARIANTS = ("1", "3", "25", "25-PN")
"""The paper's four inputs."""
_SMOKE = Profile(
    name="smoke",
    scenes=20,
    tiles=(32, 64),
    variants=VARIANTS,
    models=3,
    depth=5,
    filters=2,
    norm_momentum=0.1,
    recipe=Recipe(epochs=2, batch=2, learning_rate=3e-3, schedule="one-cycle", precision="32-true"),
)
_QUICK = Profile(
    name="quick",
    scenes=130,
    tiles=(96, 192),
    variants=VARIANTS,
    models=3,
    depth=5,
    filters=8,
    norm_momentum=0.1,
    recipe=Recipe(
        epochs=36,  # with fewer, some networks of 25-PN find no road marks at all
        batch=4,
        learning_rate=3e-3,
        schedule="one-cycle",
        weight_power=(1.0, 0.0),
        dice=1.0,
        flip=True,
        keep="last",
        validate_every=4,
    ),
    dropout=0.0,
)
_RECORD = replace(
    _QUICK,
    name="record",
    models=8,
    recipe=replace(_QUICK.recipe, epochs=100, validate_every=10),
)
"""The scenes and the recipe of quick, but longer training of more networks: what the committed record is made with."""
_PAPER = Profile(
    name="paper",
    scenes=752,
    tiles=(216, 409),
    variants=VARIANTS,
    models=3,
    depth=5,
    filters=32,
    norm_momentum=0.01,
    recipe=replace(AUTHORS, precision="32-true"),
)
PROFILES = (_SMOKE, _QUICK, _RECORD, _PAPER)


def profile(name: str) -> Profile:
    """Return a profile by its name, which a ValueError lists if there is no such one."""
    for candidate in PROFILES:
        if candidate.name == name:
            return candidate
    raise ValueError(f"unknown profile {name!r}: expected one of {', '.join(known.name for known in PROFILES)}")


def departures(own: Profile) -> pd.DataFrame:
    """Every setting in which a profile departs from the authors' training; index `setting`, by columns who has it."""
    both = pd.DataFrame({"authors": _in_words(profile("paper")), "this run": _in_words(own)})
    return both[both["authors"] != both["this run"]].rename_axis("setting")


def _in_words(own: Profile) -> dict[str, str]:
    """The settings of a training, for reading."""
    recipe, best = own.recipe, own.recipe.keep == "best"
    rates = {
        "step": f"{recipe.learning_rate:g}, times {recipe.drop_factor:g} after epoch {recipe.drop_epoch}",
        "one-cycle": f"up to {recipe.learning_rate:g} and down to zero, once",
    }
    return {
        "images": f"{own.scenes}",
        "pixels": f"{own.tiles[0]} x {own.tiles[1]}",
        "filters of the first block": f"{own.filters}",
        "pooling steps": f"{own.depth}",
        "size of the convolutions": f"{own.kernel} x {own.kernel}",
        "dropout": f"{own.dropout:g}",
        "weight of a batch in the running batch statistics": f"{own.norm_momentum:g}",
        "epochs": f"{recipe.epochs}" if own.name != "paper" else "not published",
        "images a step": f"{recipe.batch}",
        "learning rate": rates[recipe.schedule],
        "penalty on kernels": f"{recipe.l2:g}",
        "class weights": f"{recipe.class_weights}, to the power "
        + " falling to ".join(f"{power:g}" for power in dict.fromkeys(recipe.weight_power)),
        "loss": "cross-entropy" + (f" + {recipe.dice:g} x soft Dice" if recipe.dice else ""),
        "mirrored images": "half" if recipe.flip else "none",
        "spread of log brightness that is added": f"{recipe.brightness:g}",
        "order of the images": "by the network's seed" if recipe.order_seed is None else f"by seed {recipe.order_seed}",
        "weights kept": "best weighted IoU on the validation scenes" if best else "those of the last epoch",
        "early stop": f"after {recipe.patience} validations of no progress" if best else "none",
        "validation": f"every {recipe.validate_every} epochs" if recipe.validate_every > 1 else "every epoch",
        "number format": {"32-true": "float32"}.get(found := precision(recipe.precision), found.replace("-", ", ")),
    }


LEFT_OUT = "left out"
"""The split of scenes that a run with `splits` of its own does not use."""


@dataclass(frozen=True)
class Run:
    """What a run of the book is made with.

    Attributes
    ----------
    profile : sizes.
    seed : of the simulated scenes and of the first model of each variant.
    data_root : folder of HSI-Drive; None for simulated scenes.
    variants : network inputs to compare, by name.
    weights : published Keras file (`hsiutils.paper.published`), which then is the run's only network; `variants` names
        its one input. None for networks that the run trains. The ledger judges what several trainings say, and is not
        made for such a run.
    simulated : settings of the simulated scenes; seed and tiles are the run's own, and a chip is resized to these.
        Other settings are another data set, with networks of its own.
    splits : pairs of a split, "train", "val" or "test", and the scenes in it, in place of the data set's own; scenes in
        none are left out. Empty for the data set's own.

    Raises
    ------
    ValueError
        If there are `weights`, and not exactly one variant; or a scene is in two splits.
    """

    profile: Profile
    seed: int = 0
    data_root: Path | None = None
    variants: tuple[str, ...] = ()
    weights: Path | None = None
    simulated: simulate.Simulation = field(default_factory=simulate.Simulation)
    splits: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        given = Counter(name for _, names in self.splits for name in names)
        if twice := sorted(name for name, count in given.items() if count > 1):
            raise ValueError(f"splits: a scene can be in one only; more than once come {', '.join(twice[:3])}")
        if self.weights is not None and len(self.variants) != 1:
            named = ", ".join(self.variants) or "none"
            raise ValueError(f"{self.weights} is one network, and takes one input variant; got {named}")

    @property
    def seeds(self) -> tuple[int, ...]:
        """One seed for every model of a variant."""
        return tuple(range(self.seed, self.seed + (self.profile.models if self.weights is None else 1)))

    @property
    def first(self) -> str:
        """What the first network of a variant is called: by its seed, or by its file."""
        return f"seed {self.seed}" if self.weights is None else self.weights.name

    @property
    def replicates(self) -> str:
        """How many networks stand behind a figure of one variant, in words."""
        count = len(self.seeds)
        return f"{count} seeds" if count > 1 else "one network, no spread over seeds"

    @cached_property
    def data(self) -> Source:
        """The data set, opened once; simulated scenes are rendered first if they are not there."""
        if self.data_root is None:
            data = open_dataset(self._scenes.folder, sensor=self.simulation.chip)
        else:
            data = open_dataset(self.data_root)
        if not self.splits:
            return data
        given = {name: split for split, names in self.splits for name in names}
        return data.with_splits(dict.fromkeys(data.names(), LEFT_OUT) | given)

    @property
    def simulation(self) -> simulate.Simulation:
        """Settings of the simulated scenes."""
        tiles, chip = self.profile.tiles, self.simulated.chip
        if chip is not None and chip.tiles != tiles:
            chip = chip.resized(tiles)
        return replace(self.simulated, seed=self.seed, tiles=tiles, chip=chip)

    @property
    def centres_nm(self) -> NDArray[np.float64]:
        """`centres_behind` the simulated filter; of real data, whose filter is not known, the published centres."""
        simulated = self.data.origin == "simulated"
        return centres_behind(self.simulation.long_pass_nm if simulated else None, self.data.sensor)

    @property
    def data_key(self) -> str:
        """Name that changes whenever the data set does."""
        return self._scenes.key if self.data_root is None else self.data.fingerprint()

    @cached_property
    def _scenes(self) -> store.Artefact:
        return simulated(simulate.draw_names(self.profile.scenes, self.seed), self.simulation, progress=True)

    def simulating(self, **changes: Any) -> "Run":
        """The run on scenes with other settings of `hsiutils.simulate.Simulation`; ValueError if they are real."""
        self.require_simulated("made otherwise", f"{', '.join(changes)}: ")
        return replace(self, simulated=replace(self.simulated, **changes))

    def require_simulated(self, what: str, asked: str = "") -> None:
        """A ValueError if the scenes are real, which cannot be rendered: in words what for, and who asked."""
        if self.data_root is not None:
            raise ValueError(f"{asked}only simulated scenes can be {what}, not {self.data_root}")

    def turned(self, names: Sequence[str], degrees: float) -> store.Artefact:
        """Simulated scenes of these names once more, with the sun this much further round and all else the same."""
        own = self.simulation
        return simulated(names, replace(own, sun_turn_deg=own.sun_turn_deg + degrees))

    def networks(self, wanted: Sequence[tuple[str, int]], progress: bool = True) -> list[store.Artefact]:
        """Return the artefacts of networks (variant, seed), training those that are missing side by side.

        Raises
        ------
        RuntimeError
            If some trainings fail, naming variant and seed; the others are kept.
        """
        if self.weights is not None:
            return [self._published(self.weights, name, seed) for name, seed in wanted]
        asked = {(name, seed): self._training(name, seed) for name, seed in wanted}
        found = {network: made for network, request in asked.items() if (made := store.find(**request))}
        missing = {
            f"variant {name}, seed {seed}": partial(store.artefact, **request, resumable=True)
            for (name, seed), request in asked.items()
            if (name, seed) not in found
        }
        trained = side_by_side(missing, "networks", workers(), progress)
        return [found.get((name, seed)) or trained[f"variant {name}, seed {seed}"] for name, seed in wanted]

    def _training(self, name: str, seed: int) -> dict[str, Any]:
        """What the store is asked for a network with."""
        own, config = self.profile, self.profile.network(self.data.classes.names)
        build = partial(train_network, name=name, seed=seed, data=self.data, config=config, recipe=own.recipe)
        scenes = {split: self.data.names(split) for split in ("train", "val")}
        inputs = {"data": self.data_key, "scenes": scenes, "config": config, "recipe": own.recipe}
        inputs["precision"] = precision(own.recipe.precision)  # that of this machine
        return {"kind": "model", "build": build, "inputs": {**inputs, "variant": variant(name), "seed": seed}}

    def _published(self, path: Path, name: str, seed: int) -> store.Artefact:
        """The artefact of `weights`, by what the file holds and not by its name."""
        if seed not in self.seeds:
            raise ValueError(f"{path} is one network, counted as seed {self.seed}; there is none of seed {seed}")
        if not path.is_file():
            raise FileNotFoundError(f"no Keras weights at {path}")
        scenes = self.data.names("train")  # which set the limits of the input
        inputs = {"data": self.data_key, "scenes": scenes, "variant": variant(name), "weights": self._weights_hash}
        return store.artefact("model", partial(published.keep, path=path, name=name, data=self.data), inputs)

    @cached_property
    def _weights_hash(self) -> str | None:
        return None if self.weights is None else store.file_hash(self.weights)

    def train(self, progress: bool = True) -> None:
        """Train every network of the run that is not there yet; as `networks`."""
        self.networks([(name, seed) for name in self.variants for seed in self.seeds], progress)

    def model(self, name: str, seed: int | None = None) -> Trained:
        """One network of a variant, with its fitted input; of the run's first seed by default."""
        (made,) = self.networks([(name, self.seed if seed is None else seed)])
        return load_trained(made.folder)

    def inputs(self, name: str, scenes: Sequence[str]) -> Scenes:
        """Scenes as the networks of a variant are given them."""
        (made,) = self.networks([(name, self.seed)])
        fitted = _fitted(made.folder)
        if fitted is None:
            raise ValueError(f"the training of variant {name} kept no input")
        return self.data.scenes(scenes, fitted)

    def remarks(self) -> tuple[str, ...]:
        """What to know of the run's networks before reading on: nothing of those that it trains itself."""
        if self.weights is None:
            return ()
        return published.remarks(self.weights, self.inputs(self.variants[0], []).inputs, self.data.origin)


@lru_cache
def _fitted(network: Path) -> FittedVariant | None:
    """The input that a network of the store was trained on: read once, and without its weights from then on."""
    return load_trained(network).variant


def centres_behind(long_pass_nm: float | None, sensor: Sensor) -> NDArray[np.float64]:
    """Centre of the peak by which each band sees behind a long-pass filter, nm, native order; None for no filter.

    A band is named by one peak. Where the filter stops that, the other is left: band 22 of HSI-Drive then sees at
    839 nm, and not at 564.
    """
    centres = sensor.wavelengths_nm
    if long_pass_nm is not None:
        for band in sensor.bands:
            if passed := [peak for peak in band.peaks if peak.centre_nm > long_pass_nm]:
                centres[band.index] = max(passed, key=lambda peak: peak.share).centre_nm
    return centres


def workers() -> int:
    """Processes to use: one a core; in a worker of a cluster, which has one core, one."""
    return 1 if in_worker() else os.cpu_count() or 1


def simulated(names: Sequence[str], settings: simulate.Simulation, progress: bool = False) -> store.Artefact:
    """Return the data set of these scenes, rendering what is not there; with a bar, if `progress` asks for it."""
    build = partial(
        simulate.write_dataset, names=list(names), simulation=settings, workers=workers(), progress=progress
    )
    return store.artefact("data", build, {"names": list(names), "simulation": settings}, resumable=True)
