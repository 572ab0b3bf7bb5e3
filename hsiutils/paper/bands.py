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
from hsiutils.attribution.linearise import MEMORY, linearise
from hsiutils.attribution.result import Decomposition
from hsiutils.attribution.targets import margin
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.data.inputs import variant
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.merits import rank_correlation
from hsiutils.paper.study import Subject, study

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

SCENES = 8
"""Test scenes on which regions feed each other, bands are taken away and spectra are exchanged, by default."""
BAND_SCENES = 3
"""Test scenes that are cut by band and by layer, by default: one pass a band and layer."""
REFERENCE_SCENES = 16
"""Training scenes whose mean spectrum is the average pixel."""
SOURCES = (*CLASSES, "Unlabelled")
LIGHTS = ("sunlit", "shadowed")
EXCHANGED = ("Vegetation", "Road")
SPECTRA = ("own", "own mean", "the other's mean")
AVERAGE, BIASES = "average pixel", "biases"
NODES = 32
"""Of the spectra's path, by default."""
LADDER = (4, 16, 64)
"""Nodes at which completeness is asked, by default: each step four times the last."""


def feeding(run: "Run", name: str, seed: int, most: int = SCENES) -> xr.Dataset:
    """What the pixels of every class add to the logits over every class: `feeding_of` along scene."""
    build, scenes = partial(_against_average, measure=feeding_of), spaced(run.data.names("test"), most)
    return study(run, "feeding", build, (name, seed), scenes)


def spectra(run: "Run", name: str, seed: int, most: int = BAND_SCENES) -> xr.Dataset:
    """What every band and every layer's bias adds to the logits over every class: `spectra_of` along scene."""
    build, scenes = partial(_against_average, measure=spectra_of), spaced(run.data.names("test"), most)
    return study(run, "spectra", build, (name, seed), scenes)


def without_band(run: "Run", name: str, seed: int, class_name: str = "Vegetation", most: int = SCENES) -> xr.Dataset:
    """What every band adds to a class's margin, and what the margin loses without it: `without_band_of` along scene."""
    build, scenes = partial(_against_average, measure=without_band_of), spaced(run.data.names("test"), most)
    return study(run, "without-band", build, (name, seed), scenes, class_name=class_name)


def swapped(run: "Run", name: str, seed: int, most: int = SCENES) -> xr.Dataset:
    """What the network makes of vegetation with road's mean spectrum, and the reverse: `swapped_of` along scene."""
    return study(run, "swapped", _swapped, (name, seed), spaced(run.data.names("test"), most))


def band_maps(run: "Run", name: str, scene: str, target: str) -> xr.DataArray:
    """What every band adds to a class's margin at every pixel, by the first network: (band, y, x) float32."""
    build = partial(_against_average, measure=_band_maps_of)
    found = study(run, "band-maps", build, (name, run.seed), [scene], target=target)
    return found["contribution"].isel(scene=0, drop=True)


def walked(run: "Run", name: str, class_name: str, most: int, nodes: int = NODES) -> xr.Dataset:
    """Path spectra of the run's first network of a variant, over some test scenes: `walked_of` along scene."""
    build, scenes = partial(_against_average, measure=walked_of), spaced(run.data.names("test"), most)
    return study(run, "path", build, (name, run.seed), scenes, class_name=class_name, nodes=nodes)


def completeness(run: "Run", name: str, ladder: Sequence[int] = LADDER) -> Mapping[int, float]:
    """Completeness of the path by number of nodes, of the run's first network of a variant on one test scene.

    The largest error at any pixel and class, relative to the largest change of any logit.
    """
    build, scenes = partial(_against_average, measure=_completeness_of), spaced(run.data.names("test"), 1)
    found = study(run, "completeness", build, (name, run.seed), scenes, ladder=list(ladder))
    return dict(zip(ladder, found["completeness"].isel(scene=0).values.tolist(), strict=True))


def _against_average(subject: Subject, measure: Callable[..., xr.Dataset], **settings: Any) -> xr.Dataset:
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
    """Decompose one scene by band, from zero and from the average pixel, and by layer; parameters as of `feeding_of`.

    Returns
    -------
    Dataset
        `contribution` (origin, band, target, class), origins "zero" and "average"; `layers` (layer, target, class),
        every layer's bias; `logit`, `pixels`, `relative`, `checked` as in `feeding_of`.
    """
    plain = decompose(model, x, biases="layers")
    by_origin = {"zero": plain.contribution, "average": decompose(model, x, reference=average).contribution}
    places = target_masks(truth, light)
    origins = [_means(part, places) for part in by_origin.values()]
    return xr.Dataset(
        {
            "contribution": xr.concat(origins, dim=xr.Variable("origin", list(by_origin))),
            "layers": _means(plain.bias, places),
            "logit": _means(plain.logit, places),
        }
    ).assign(pixels=_pixels(places), **_closure(plain))


def without_band_of(
    model: UNet,
    x: Tensor,
    truth: NDArray[Any],
    light: NDArray[Any] | None,
    average: NDArray[np.float64],
    class_name: str,
) -> xr.Dataset:
    """Each band's part in a class's mean margin over its own pixels, and what is lost when the network lacks the band.

    Parameters as of `feeding_of`.

    Returns
    -------
    Dataset
        `part` (origin, band, target), exact, read from the origins "zero" and "average"; `lost` (origin, band, target),
        the margin less that of the network asked again with the band set to the origin everywhere; `pixels` (target);
        all for the class's pixels, all, in sun and in shadow, NaN where there are none.
    """
    masks = {key: mask for key, mask in target_masks(truth, light).items() if key.partition(",")[0] == class_name}
    origins = {"zero": torch.zeros(len(x), dtype=x.dtype), "average": torch.as_tensor(average, dtype=x.dtype)}
    at, asked = linearise(model, x, exact=True), {}
    own, removed = at.logits[None], torch.eye(len(x), dtype=torch.bool)[:, :, None, None]
    for origin, start in origins.items():
        blocks = torch.split(removed, at.tangents_within(MEMORY))  # (n, band, 1, 1) -> (n, class, h, w)
        lacking = (torch.where(bands, start[:, None, None], x) for bands in blocks)
        asked[origin] = torch.cat([ask(at.model, images) for images in lacking])
    unknown = np.full((len(origins), len(x)), np.nan)
    parts, lost = [], []
    for mask in masks.values():
        if not mask.any():
            parts.append(unknown)
            lost.append(unknown)
            continue
        target = margin(model, x, class_name, mask)
        slope, whole = at.pull(target.weights).gradient, target.value(own)  # (band, h, w), (1,)
        away = [at.image - start[:, None, None].to(at.image) for start in origins.values()]
        parts.append(np.stack([(slope * distance).sum((1, 2)).numpy() for distance in away]))
        lost.append(np.stack([(whole - target.value(logits)).numpy() for logits in asked.values()]))
    dims, coords = ("target", "origin", "band"), {"target": list(masks), "origin": list(origins)}
    found = xr.Dataset({"part": (dims, np.stack(parts)), "lost": (dims, np.stack(lost))}, coords)
    return found.assign(pixels=_pixels(masks))


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


def foretold(found: xr.Dataset) -> xr.DataArray:
    """Rank correlation over the bands of their parts, and of what the margin loses without them: (reading, target).

    Of `without_band`. A band that is taken away holds the average pixel's value; the last reading sets it to zero.
    """
    parts, lost = pooled(found, "part"), pooled(found, "lost")
    pairs = {"average": ("average", "average"), "zero": ("zero", "average"), "zero, set to zero": ("zero", "zero")}
    rows = [
        rank_correlation(parts.sel(origin=one, drop=True), lost.sel(origin=other, drop=True), "band")
        for one, other in pairs.values()
    ]
    return xr.concat(rows, dim=xr.Variable("reading", list(pairs)))


def with_other_spectrum(found: xr.Dataset, place: str) -> xr.Dataset:
    """What one class's pixels are taken for with their own spectra, their mean and the other class's, of `swapped`.

    Dataset (spectrum) of predicted, the share of the pixels predicted Road, %; margin, Road's mean margin there.
    """
    own = found.sel(place=place, drop=True).sum("scene")
    pixels = own["pixels"].where(own["pixels"] > 0)
    return xr.Dataset({"predicted": 100 * own["predicted"] / pixels, "margin": own["margin"] / pixels})


def own_margin(values: xr.DataArray, targets: Sequence[str] = CLASSES) -> xr.DataArray:
    """Of (..., target, class), the margin of each target's own class: (..., target)."""
    margin = margins(values)
    own = [margin.sel({"target": name, "class": name.partition(",")[0]}, drop=True) for name in targets]
    return xr.concat(own, dim=xr.Variable("target", list(targets)))


def layer_shares(found: xr.Dataset) -> xr.DataArray:
    """Where the bias speaks: each layer's share of all that is added to the own margins, by size: (layer, target).

    Contributions are taken from zero input, so that bands (together, as layer "input") and biases are on one footing.
    """
    layers = own_margin(pooled(found, "layers"))
    bands = own_margin(pooled(found).sel(origin="zero", drop=True)).sum("band", skipna=False)
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
    """`contribution` (band, y, x) of every band to a class's margin in one scene, float32."""
    parts = margins(decompose(model, x, reference=average).contribution).sel({"class": target}, drop=True)
    return parts.astype(np.float32).to_dataset(name="contribution")


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
        `contribution` (band, target) for the class's pixels, all, in sun and in shadow, NaN where there are none;
        `pixels` (target); `residual` (target), the sum over bands less the margin's change from the reference.
    """
    masks = {key: mask for key, mask in target_masks(truth, light).items() if key.partition(",")[0] == class_name}
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
