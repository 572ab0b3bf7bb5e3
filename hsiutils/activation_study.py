"""What the networks of a run look at: the measures of `hsiutils.analysis` on the test scenes, kept in the store.

Everything goes over all test scenes. One artefact a network holds sums per scene, never maps; figures, bootstraps and
the ledger follow from them without another forward pass. Networks that are missing one are looked at side by side.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd
import xarray as xr

from hsiutils import analysis, pipeline, store
from hsiutils.dataset import SceneDataset
from hsiutils.metrics import iou
from hsiutils.pipeline import Run
from hsiutils.train import load_trained
from hsiutils.unet import UNet

PAPER_VARIANTS = ("1", "3", "25", "25-PN")
"""Inputs that the paper compares; the 25-channel model without PN stands beside them to tell PN from bands."""

FIELD_PIXELS = 2
"""Pixels of each test scene whose receptive fields are measured: one backward pass a layer and pixel."""

Build = Callable[[UNet, SceneDataset], xr.Dataset]


def spaced(names: Sequence[str], most: int) -> list[str]:
    """At most so many names, evenly spaced through the list, the first among them.

    Raises
    ------
    ValueError
        If `most` is less than one.
    """
    if most < 1:
        raise ValueError(f"expected at least one scene, got {most}")
    count = min(most, len(names))
    return [names[index * len(names) // count] for index in range(count)]


def head_sums(run: Run, name: str, seed: int) -> xr.Dataset:
    """The head, and sums of the activations that it reads over each class of each test scene.

    Returns
    -------
    "head" of `hsiutils.analysis.survey`: with the weights, the bias, and how closely they make the logit.
    """
    return _surveyed(run, name, seed, "head")


def edge_sums(run: Run, name: str, seed: int) -> xr.Dataset:
    """`hsiutils.analysis.edge_statistics` of conv2d_1, the tensor that the skip connection carries."""
    return _surveyed(run, name, seed, "edges")


def skip_sums(run: Run, name: str, seed: int) -> xr.Dataset:
    """`hsiutils.analysis.skip_statistics`: what skip and upsampled half add to the margins, by true class; and gap."""
    return _surveyed(run, name, seed, "skip")


def skip_edge_sums(run: Run, name: str, seed: int) -> xr.Dataset:
    """`hsiutils.analysis.skip_edges`: what either half adds at the borders of each class."""
    return _surveyed(run, name, seed, "skip_edges")


def knocked(run: Run, name: str, seed: int) -> xr.Dataset:
    """`hsiutils.analysis.knock_out` of every channel before the head, set to its mean over all labelled pixels."""
    sums = head_sums(run, name, seed)
    means = sums["total"].sum(["scene", "region"]) / sums["pixels"].sum()
    return _measured(
        run,
        name,
        seed,
        "knock-out",
        lambda model, scenes: analysis.knock_out(model, scenes, "mean", means, scenes.names),
    )


def fields(run: Run, name: str, seed: int, pixels: int = FIELD_PIXELS) -> pd.DataFrame:
    """`hsiutils.analysis.effective_fields` at pixels drawn from every test scene."""

    def build(model: UNet, scenes: SceneDataset) -> xr.Dataset:
        table = analysis.effective_fields(model, scenes, run.seed, pixels=pixels, names=scenes.names)
        return xr.Dataset.from_dataframe(table.astype({"theoretical": float}))

    sums = _measured(run, name, seed, "fields", build, {"pixels": pixels, "draw": run.seed})
    return sums.to_dataframe().reset_index(drop=True)


def choose_models(run: Run, wanted: Sequence[str]) -> list[str]:
    """Variants to show: those wanted, else the paper's that the run has, else all of the run.

    Raises
    ------
    ValueError
        If the run has no such variant.
    """
    unknown = [name for name in wanted if name not in run.variants]
    if unknown:
        raise ValueError(f"models {', '.join(unknown)}: this run has {', '.join(run.variants)}; add them to variants")
    return list(wanted) or [name for name in PAPER_VARIANTS if name in run.variants] or list(run.variants)


def scene_scores(counts: xr.Dataset) -> pd.Series:
    """Mean IoU of each scene over the classes that it shows or that are predicted in it, by name.

    Parameters
    ----------
    counts : of `knocked`; only the intact network counts.
    """
    return iou(counts["intact"]).mean("class").to_series().rename("mean IoU")


def choose_scenes(scores: pd.Series, wanted: str) -> list[str]:
    """The scene that is wanted, by name or by a rule of `hsiutils.analysis.pick`; then the worst and the best.

    Parameters
    ----------
    scores : of `scene_scores`.

    Raises
    ------
    ValueError
        If `wanted` is neither a scene's name nor a rule.
    """
    if wanted.startswith("nf") and wanted not in scores.index:
        raise ValueError(f"scene {wanted!r} is not among the {len(scores)} test scenes, such as {scores.index[0]}")
    first = wanted if wanted in scores.index else analysis.pick(scores, wanted)
    return list(dict.fromkeys([first, analysis.pick(scores, "worst"), analysis.pick(scores, "best")]))


def contribution_maps(run: Run, name: str, seed: int, scene: str) -> xr.Dataset:
    """`hsiutils.analysis.contributions` of one network for one scene: what every channel adds to every logit."""
    image, _ = pipeline.inputs(run, name, [scene])[0]
    return analysis.contributions(pipeline.model(run, name, seed).model, image)


def layer_maps(run: Run, name: str, seed: int, scene: str, layer: str) -> xr.Dataset:
    """Activations of any layer for one scene: before and after normalisation and ReLU, (channel, y, x).

    Raises
    ------
    KeyError
        If there is no such layer.
    """
    image, _ = pipeline.inputs(run, name, [scene])[0]
    model = pipeline.model(run, name, seed).model
    both = {
        label: analysis.activation_maps(model, image[None], layer, after).isel(scene=0, drop=True)
        for label, after in (("before", False), ("after", True))
    }
    return xr.Dataset(both)


def over_networks(
    run: Run, measure: Callable[[Run, str, int], xr.Dataset], variants: Sequence[str] | None = None
) -> xr.Dataset:
    """A measure of every network of some variants (the run's by default), with the dimensions variant and seed."""
    names = list(run.variants if variants is None else variants)
    _surveys(run, list(product(names, run.seeds)))  # missing ones are trained, and looked at, side by side
    rows = [
        xr.concat([measure(run, name, seed) for seed in run.seeds], dim=xr.Variable("seed", list(run.seeds)))
        for name in names
    ]
    return xr.concat(rows, dim=xr.Variable("variant", names))


def _measured(
    run: Run, name: str, seed: int, kind: str, build: Build, settings: dict[str, int] | None = None
) -> xr.Dataset:
    (trained,) = pipeline.models(run, [(name, seed)], progress=False)
    made = store.artefact(
        kind,
        {"model": trained.key, "data": pipeline.data_key(run), **(settings or {})},
        _MODULES,
        lambda folder: _write(build(load_trained(trained.folder).model, _inputs(run, name)), folder),
    )
    return xr.load_dataset(made.folder / _SUMS, engine="h5netcdf")


def _surveyed(run: Run, name: str, seed: int, kind: str) -> xr.Dataset:
    (made,) = _surveys(run, [(name, seed)])
    return xr.load_dataset(made.folder / f"{kind}.nc", engine="h5netcdf")


def _surveys(run: Run, pairs: Sequence[tuple[str, int]]) -> list[store.Artefact]:
    """`hsiutils.analysis.survey` of networks (variant, seed); those that are missing take one pass together."""
    trained = pipeline.models(run, pairs, progress=False)
    data = pipeline.data_key(run)
    requests = [store.Request("survey", {"model": one.key, "data": data}, _MODULES) for one in trained]

    def build(folders: dict[int, Path]) -> None:
        networks = [load_trained(trained[index].folder).model for index in folders]
        inputs = [_inputs(run, pairs[index][0]) for index in folders]
        subjects = [analysis.Subject(*pair) for pair in zip(networks, inputs, strict=True)]
        for folder, sums in zip(folders.values(), analysis.survey(subjects, _tests(run)), strict=True):
            for kind, one in sums.items():
                _write(one, folder, f"{kind}.nc")

    return store.artefacts(requests, build)


_MODULES = ("hsiutils.analysis", "hsiutils.dataset")
_SUMS = "sums.nc"


def _write(sums: xr.Dataset, folder: Path, name: str = _SUMS) -> None:
    # netCDF has no booleans.
    attrs = {key: int(value) if isinstance(value, bool) else value for key, value in sums.attrs.items()}
    sums.assign_attrs(attrs).to_netcdf(folder / name, engine="h5netcdf")


@cache
def _tests(run: Run) -> list[str]:
    return pipeline.data(run).names("test")


@cache
def _inputs(run: Run, name: str) -> SceneDataset:
    return pipeline.inputs(run, name, _tests(run))


def similarity_sums(run: Run) -> xr.Dataset:
    """`hsiutils.analysis.moments` of all networks, with two nulls for the first of each variant, on the same scenes.

    Sources are named by `source_name`.
    """
    pairs = list(product(run.variants, run.seeds))
    trained = pipeline.models(run, pairs, progress=False)

    def build(folder: Path) -> None:
        _write(analysis.moments(dict(_sources(run, pairs)), names=_tests(run), seed=run.seed), folder)

    made = store.artefact(
        "similarity",
        {"models": [one.key for one in trained], "data": pipeline.data_key(run), "seed": run.seed},
        _MODULES,
        build,
    )
    return xr.load_dataset(made.folder / _SUMS, engine="h5netcdf")


def source_name(variant: str, seed: int, shuffle: str = "none") -> str:
    """Name of one network, or of a null made of it, among the sources of `similarity_sums`."""
    return f"{variant}, seed {seed}" + ("" if shuffle == "none" else f", {shuffle}")


def _sources(run: Run, pairs: Iterable[tuple[str, int]]) -> Iterable[tuple[str, analysis.Source]]:
    for name, seed in pairs:
        model, inputs = pipeline.model(run, name, seed).model, _inputs(run, name)
        yield source_name(name, seed), analysis.Source(model, inputs)
        if seed == run.seed:
            yield source_name(name, seed, "moved"), analysis.Source(model, inputs, "moved")
            if len(inputs) > 1:
                yield source_name(name, seed, "other scene"), analysis.Source(model, inputs, "other scene")
