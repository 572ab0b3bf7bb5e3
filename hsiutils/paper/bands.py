"""Chapter 7's measurements: who speaks for a class, by band, by place, by layer, and along a path.

Decompositions are exact, and go over some of the test scenes only, evenly spaced. The path runs from the average pixel
to the image: integrated gradients of one number, the mean margin of a class over its pixels in one light, need one
backward pass a node. How far the path is from summing to the logits is asked at every pixel and class, for a ladder of
nodes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from hsiutils.analysis.activations import spaced
from hsiutils.attribution.decompose import decompose, margins
from hsiutils.attribution.gradients import integrated_gradients
from hsiutils.attribution.hooks import ask
from hsiutils.attribution.linearise import bias_names, linearise
from hsiutils.attribution.result import TOLERANCE, Decomposition, closure_scale, dtype_name
from hsiutils.attribution.targets import margin
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.data.inputs import variant
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.study import Subject, study

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

SCENES = 8
"""Test scenes on which regions feed each other, bands are taken away and spectra are exchanged, by default."""
BAND_SCENES = 3
"""Test scenes that are cut by band and by layer, by default."""
REFERENCE_SCENES = 16
"""Training scenes whose mean spectrum is the average pixel."""
SOURCES = (*CLASSES, "Unlabelled")
LIT, LIGHTS = "Vegetation", ("sunlit", "shadowed")
"""The class that is asked about in sun and in shadow."""
EXCHANGED = ("Vegetation", "Road")
SPECTRA = ("own", "own mean", "the other's mean")
AVERAGE, BIASES = "average pixel", "biases"
NODES = 16
"""Of the spectra's path, by default."""
LADDER = (2, 8, 32)
"""Nodes at which completeness is asked, by default: each step four times the last."""


def feeding(run: "Run", name: str, seed: int, most: int = SCENES) -> xr.Dataset:
    """What the pixels of every class add to the logits over every class: `feeding_of` along scene."""
    build, scenes = partial(against_average, measure=feeding_of), spaced(run.data.names("test"), most)
    return study(run, "feeding", build, (name, seed), scenes)


def spectra(run: "Run", name: str, seed: int, most: int = BAND_SCENES) -> xr.Dataset:
    """What every band and every layer's bias adds to the margin over every class: `spectra_of` along scene."""
    build, scenes = partial(against_average, measure=spectra_of), spaced(run.data.names("test"), most)
    return study(run, "spectra", build, (name, seed), scenes)


def swapped(run: "Run", name: str, seed: int, most: int = SCENES) -> xr.Dataset:
    """What the network makes of vegetation with road's mean spectrum, and the reverse: `swapped_of` along scene."""
    return study(run, "swapped", _swapped, (name, seed), spaced(run.data.names("test"), most))


def band_maps(run: "Run", name: str, scene: str, target: str) -> xr.Dataset:
    """What every band adds to a class's margin at every pixel, by the first network.

    `contribution` (band, y, x) float32; `relative`, the largest closure residual over every pixel and class of the
    decomposition by band, and `checked`, their number.
    """
    build = partial(against_average, measure=_band_maps_of)
    return study(run, "band-maps", build, (name, run.seed), [scene], target=target).isel(scene=0, drop=True)


def walked(run: "Run", name: str, class_name: str, most: int = 1, nodes: int = NODES) -> xr.Dataset:
    """Path spectra of the run's first network of a variant, over some test scenes: `walked_of` along scene."""
    build, scenes = partial(against_average, measure=walked_of), spaced(run.data.names("test"), most)
    return study(run, "path", build, (name, run.seed), scenes, class_name=class_name, nodes=nodes)


def completeness(run: "Run", name: str, ladder: Sequence[int] = LADDER) -> Mapping[int, float]:
    """Completeness of the path by number of nodes, of the run's first network of a variant on one test scene.

    The largest error at any pixel and class, relative to the largest change of any logit.
    """
    build, scenes = partial(against_average, measure=_completeness_of), spaced(run.data.names("test"), 1)
    found = study(run, "completeness", build, (name, run.seed), scenes, ladder=list(ladder))
    return dict(zip(ladder, found["completeness"].isel(scene=0).values.tolist(), strict=True))


def against_average(subject: Subject, measure: Callable[..., xr.Dataset], **settings: Any) -> xr.Dataset:
    """A measure along scene, of the parts of a scene as in `Subject.by_scene`, the average pixel, and the settings."""
    return subject.by_scene(partial(measure, subject.model, average=average_pixel(subject), **settings))


def average_pixel(subject: Subject) -> NDArray[np.float64]:
    """Mean over training scenes of what the network is given, (channels,): what contributions are read from."""
    scenes = subject.inputs(spaced(subject.data.names("train"), REFERENCE_SCENES))
    means = [scenes[index][0].double().mean((1, 2)).numpy() for index in range(len(scenes))]  # (channels) each
    return np.asarray(np.mean(means, axis=0))


def feeding_of(
    model: UNet, x: Tensor, truth: NDArray[Any], light: NDArray[Any] | None, average: NDArray[np.float64]
) -> xr.Dataset:
    """Decompose one scene by its true classes, against the average pixel.

    Parameters
    ----------
    x : (channels, h, w).
    truth : (h, w) class indices.
    light : (h, w) share of the sun; None where nobody knows.
    average : (channels,) reference spectrum in the input's units.

    Returns
    -------
    Dataset
        `contribution` (source, target, class), mean over the target's pixels; sources are the classes, the unlabelled
        pixels, the average pixel and the biases, and they sum to `logit` (target, class); `pixels` (target);
        `relative`, the largest closure residual over every pixel and class; `checked`, their number.
    """
    codes = np.where(truth == VOID, len(CLASSES), truth).astype(int)
    found = decompose(model, x, codes, reference=average)
    places = target_masks(truth, light)
    regions = found.contribution.rename(region="source").reindex(source=range(len(SOURCES)), fill_value=0)
    rest = found.bias.rename(layer="source").assign_coords(source=[len(SOURCES) + 1, len(SOURCES)])
    parts = xr.concat([regions, rest], dim="source").sortby("source")
    named = parts.assign_coords(source=[*SOURCES, AVERAGE, BIASES])
    kept = {"contribution": _means(named, places), "logit": _means(found.logit, places)}
    return xr.Dataset(kept).assign(pixels=_pixels(places), **_closure(found))


def spectra_of(
    model: UNet, x: Tensor, truth: NDArray[Any], light: NDArray[Any] | None, average: NDArray[np.float64]
) -> xr.Dataset:
    """What every band and every layer's bias adds to the mean margin that a class has over its own pixels, exactly.

    One reverse pass a target; parameters as of `feeding_of`. Targets are the classes, and `LIT` in sun and in shadow.

    Returns
    -------
    Dataset
        `contribution` (origin, band, target), origins "zero" and "average"; `layers` (layer, target), every layer's
        bias; `margin` (target), which bands from zero and layers sum to; NaN where a target has no pixels. `pixels`
        (target); `relative`, the largest residual, and `checked`, the number of sums.
    """
    masks, at = _own_masks(truth, light), linearise(model, x, exact=True)
    names = bias_names(at)
    start = torch.as_tensor(average, dtype=at.image.dtype)[:, None, None]
    away = {"zero": at.image.double(), "average": (at.image - start).double()}
    unknown = [np.full((2, len(x)), np.nan), np.full(len(names), np.nan), np.nan]
    rows, residuals = [], []
    for key, mask in masks.items():
        if not mask.any():
            rows.append(unknown)
            continue
        target = margin(model, x, key.partition(",")[0], mask)
        pulled, value = at.pull(target.weights), float(target.value(at.logits[None].double()))
        bands = np.stack([(pulled.gradient * distance).sum((1, 2)).numpy() for distance in away.values()])
        layers = np.array([pulled.biases[module] for module in names])
        parts = np.concatenate([bands[0], layers])
        residuals.append(abs(parts.sum() - value) / max(float(closure_scale(value, parts)), np.finfo(float).tiny))
        rows.append([bands, layers, value])
    if x.dtype != torch.float64 and max(residuals, default=0) > TOLERANCE[np.dtype(dtype_name(x.dtype))]:
        return spectra_of(model.unhooked().double(), x.double(), truth, light, average)  # as a decomposition would
    bands, layers, values = (np.stack(part) for part in zip(*rows, strict=True))
    found = xr.Dataset(
        {
            "contribution": (("target", "origin", "band"), bands),
            "layers": (("target", "layer"), layers),
            "margin": ("target", values),
        },
        {"target": list(masks), "origin": list(away), "layer": list(names.values())},
    )
    return found.assign(pixels=_pixels(masks), relative=max(residuals, default=np.nan), checked=len(residuals))


def swapped_of(
    model: UNet, inputs: Callable[[xr.DataArray], xr.DataArray], cube: xr.DataArray, truth: NDArray[Any]
) -> xr.Dataset:
    """Ask a network again with the mean spectrum of road in vegetation's place, and the reverse.

    Parameters
    ----------
    inputs : makes the network's input of a cube: spectra are exchanged in the raw bands, before any normalisation.
    cube : (band, y, x).
    truth : (y, x) class indices.

    Returns
    -------
    Dataset
        `predicted` (place, spectrum), pixels of the place that are predicted Road, and `margin`, the sum of Road's
        margin over them; `pixels` (place). Spectra: the pixels' own, their own mean in the scene, which takes away
        texture and nothing else, and the other class's mean. All zero where the scene lacks either class.
    """
    names = model.config.names
    masks = {place: truth == names.index(place) for place in EXCHANGED}
    known = all(mask.any() for mask in masks.values())
    means = {place: cube.values[:, mask].mean(axis=1) for place, mask in masks.items()} if known else {}  # (band,)
    predicted, total = (np.zeros((len(EXCHANGED), len(SPECTRA))) for _ in range(2))
    for row, (place, other) in enumerate([EXCHANGED, EXCHANGED[::-1]] if known else []):
        for column, spectrum in enumerate((None, means[place], means[other])):
            given = cube.copy()
            if spectrum is not None:
                given.values[:, masks[place]] = spectrum[:, None]
            logits = ask(model, torch.from_numpy(inputs(given).values)[None])[0]
            predicted[row, column] = (logits.argmax(0).numpy()[masks[place]] == names.index("Road")).sum()
            total[row, column] = margin(model, logits, "Road", masks[place]).value(logits[None]) * masks[place].sum()
    dims, coords = ("place", "spectrum"), {"place": list(EXCHANGED), "spectrum": list(SPECTRA)}
    pixels = [int(mask.sum()) if known else 0 for mask in masks.values()]
    found = {"predicted": (dims, predicted), "margin": (dims, total), "pixels": (dims[:1], pixels)}
    return xr.Dataset(found, coords)


def _swapped(subject: Subject) -> xr.Dataset:
    model, scenes = subject.model, subject.scenes
    parts = [
        swapped_of(model, scenes.inputs.apply, subject.data.cube(name), scenes[index][1].numpy())
        for index, name in enumerate(subject.names)
    ]
    return xr.concat(parts, dim=xr.Variable("scene", subject.names))


def target_masks(truth: NDArray[Any], light: NDArray[Any] | None) -> dict[str, NDArray[np.bool_]]:
    """Where the logits are averaged: every true class, and each of them in sun and in shadow.

    A pixel is sunlit if at least half the sun reaches it, as in the scores. Without known light there is neither.
    """
    share = np.full(truth.shape, np.nan) if light is None else light
    shine = {"": np.ones(truth.shape, dtype=bool), ", sunlit": share >= 0.5, ", shadowed": share < 0.5}
    return {f"{name}{tail}": (truth == i) & mask for tail, mask in shine.items() for i, name in enumerate(CLASSES)}


def _own_masks(truth: NDArray[Any], light: NDArray[Any] | None) -> dict[str, NDArray[np.bool_]]:
    """Of `target_masks` every class, and `LIT` in sun and in shadow."""
    masks = target_masks(truth, light)
    return {key: masks[key] for key in (*CLASSES, *(f"{LIT}, {light}" for light in LIGHTS))}


def band_correlation(run: "Run", name: str) -> NDArray[np.float64]:
    """Correlation of a variant's channels over pixels of `REFERENCE_SCENES` training scenes: (channels, channels)."""
    scenes = run.inputs(name, spaced(run.data.names("train"), REFERENCE_SCENES))
    pixels = [scenes[index][0][:, ::2, ::2].flatten(1).numpy() for index in range(len(scenes))]
    return np.asarray(np.corrcoef(np.concatenate(pixels, axis=1), dtype=np.float64))


def wavelengths(run: "Run", name: str) -> NDArray[np.float64]:
    """Where the bands of a variant's channels see most, nm, in their order (`Run.centres_nm`)."""
    chosen, centres = variant(name), run.centres_nm
    if chosen.pca is not None or chosen.extra:
        raise ValueError(f"variant {name}: its channels are not all bands, and have no wavelengths; name another")
    return centres if chosen.bands is None else centres[list(chosen.bands)]


def pooled(found: xr.Dataset, variable: str = "contribution") -> xr.DataArray:
    """Mean over the pixels of each target of all scenes together; NaN where no scene has any."""
    pixels = found["pixels"]
    total = (found[variable].fillna(0) * pixels).sum("scene")
    return total / pixels.sum("scene").where(lambda count: count > 0)


def fed_to(found: xr.Dataset, target: str = "Road", targets: Sequence[str] = CLASSES) -> xr.DataArray:
    """What the pixels of each source add to one class's margin over the pixels of each of the targets.

    In units of the network's own margin of that class, its root mean square over the targets: (..., source, target).
    """
    parts, whole = (margins(pooled(found, key)).sel({"class": target}, drop=True) for key in ("contribution", "logit"))
    size = (whole.sel(target=list(targets)) ** 2).mean("target") ** 0.5
    share: xr.DataArray = parts.sel(target=list(targets)) / size.where(size > 0)
    return share.transpose(..., "source", "target")


def with_other_spectrum(found: xr.Dataset, place: str) -> xr.Dataset:
    """What one class's pixels are taken for with their own spectra, their mean and the other class's, of `swapped`.

    Dataset (spectrum) of predicted, the share of the pixels predicted Road, %; margin, Road's mean margin there.
    """
    own = found.sel(place=place, drop=True).sum("scene")
    pixels = own["pixels"].where(own["pixels"] > 0)
    return xr.Dataset({"predicted": 100 * own["predicted"] / pixels, "margin": own["margin"] / pixels})


def layer_shares(found: xr.Dataset) -> xr.DataArray:
    """Where the bias speaks: each layer's share of all that is added to the own margins, by size: (layer, target).

    Contributions are taken from zero input, so that bands (together, as layer "input") and biases are on one footing.
    """
    own = found.sel(target=list(CLASSES))
    layers = pooled(own, "layers")
    bands = pooled(own).sel(origin="zero", drop=True).sum("band", skipna=False)
    parts = abs(xr.concat([bands.expand_dims(layer=["input"]), layers], dim="layer"))
    return parts / parts.sum("layer", skipna=False)


def stages(shares: xr.DataArray, depth: int) -> xr.DataArray:
    """Gather `layer_shares` of a U-Net of some depth into input and biases of encoder, base, decoder and head."""
    config = UNetConfig(depth=depth)
    names = ("input", "encoder biases", "base biases", "decoder biases", "head bias")
    of_layer = {"input": names[0], config.head: names[4]}
    of_layer |= dict.fromkeys([name for block in config.blocks[:depth] for name in block], names[1])
    of_layer |= dict.fromkeys(config.blocks[depth], names[2])
    named = xr.DataArray([of_layer.get(str(layer), names[3]) for layer in shares["layer"].values], dims="layer")
    parts = [shares.where(named == name, 0).sum("layer", skipna=False) for name in names]
    return xr.concat(parts, dim=xr.Variable("stage", list(names)))


def carried(found: Mapping[str, xr.Dataset]) -> str:
    """In words, how much of the own margins the input carries by `layer_shares`, of `spectra` by input."""
    shares = [100 * layer_shares(one).sel(layer="input") for one in found.values()]
    means = [share.mean("seed") if "seed" in share.dims else share for share in shares]
    least, most = (min(float(one.min()) for one in means), max(float(one.max()) for one in means))
    scenes = next(iter(found.values())).sizes["scene"]
    return (
        f"by size, the input carries {least:.0f} to {most:.0f} % of a class's margin over its own pixels, and "
        f"the biases of the layers the rest (inputs {', '.join(found)}; all classes; {scenes} scenes)"
    )


def rank_agreement(rows: NDArray[np.float64]) -> float:
    """Mean Spearman correlation of every pair of rows (n, bands); NaN where no pair has one."""
    good = [row for row in rows if np.isfinite(row).all() and np.ptp(row) > 0]
    pairs = [float(spearmanr(one, other).statistic) for one, other in combinations(good, 2) if len(one) > 1]
    return float(np.mean(pairs)) if pairs else float("nan")


def _means(values: xr.DataArray, places: Mapping[str, NDArray[np.bool_]]) -> xr.DataArray:
    """(..., y, x) -> (..., target): mean over each place in float64, NaN where it is empty."""
    masks = xr.DataArray(np.stack(list(places.values())), dims=("target", "y", "x"), coords={"target": list(places)})
    count = masks.sum(("y", "x"))
    total = xr.dot(values.astype(np.float64), masks.astype(np.float64), dim=("y", "x"))
    mean: xr.DataArray = total / count.where(count > 0)
    return mean


def _pixels(places: Mapping[str, NDArray[np.bool_]]) -> xr.DataArray:
    return xr.DataArray([int(m.sum()) for m in places.values()], dims="target", coords={"target": list(places)})


def _closure(found: Decomposition) -> dict[str, Any]:
    return {"relative": float(found.relative.max()), "checked": found.relative.size}


def _band_maps_of(model: UNet, x: Tensor, *_: object, average: NDArray[np.float64], target: str) -> xr.Dataset:
    """As `band_maps`, of one scene."""
    found = decompose(model, x, reference=average)
    parts = margins(found.contribution).sel({"class": target}, drop=True)
    return parts.astype(np.float32).to_dataset(name="contribution").assign(**_closure(found))


def _completeness_of(
    model: UNet, x: Tensor, *_: object, average: NDArray[np.float64], ladder: Sequence[int]
) -> xr.Dataset:
    """`completeness` (nodes) of the path to one scene, in the order of the ladder."""
    whole = np.zeros(x.shape[1:], dtype=int)
    found = [decompose(model, x, whole, reference=average, nodes=nodes).completeness for nodes in ladder]
    return xr.Dataset({"completeness": ("nodes", found)})


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

    Returns
    -------
    Dataset
        `contribution` (band, target) for the class's pixels in sun and in shadow, or all where nobody knows the light;
        NaN where there are none; `pixels` (target); `residual` (target), the sum over bands less the margin's change
        from the reference.
    """
    every, lit = target_masks(truth, light), [f"{class_name}, {name}" for name in LIGHTS]
    masks = {key: every[key] for key in ([class_name] if light is None else lit)}
    found = [_spectrum(model, x, mask, average, class_name, nodes) for mask in masks.values()]
    bands, residuals = zip(*found, strict=True)
    kept = {"contribution": (("target", "band"), np.stack(bands)), "residual": ("target", list(residuals))}
    return xr.Dataset(kept, {"target": list(masks)}).assign(pixels=_pixels(masks))


def _spectrum(
    model: UNet, x: Tensor, mask: NDArray[np.bool_], average: NDArray[np.float64], class_name: str, nodes: int
) -> tuple[NDArray[np.float64], float]:
    if not mask.any():
        return np.full(len(x), np.nan), float("nan")
    target = margin(model, x, class_name, mask)
    found = integrated_gradients(model, x, target, reference=average, nodes=nodes)
    return found.map.sum(("y", "x"), dtype=np.float64).values, found.residual
