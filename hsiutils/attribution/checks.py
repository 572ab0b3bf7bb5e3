"""Does a map depend on what the network has learned, and does the network do what the map says.

Parameter randomisation (Adebayo 2018, arXiv 1810.03292): a map that stays as it was while the layers above are redrawn
explains the picture, not the network. Maps are compared by Spearman's rank correlation (NaN where one is the same
everywhere), with their signs and of their absolute values: 1 is the same map.

After 2018 the order of the layers, noise in the maps and the measure of likeness were found to bias that test: from
the head down, what lies below is kept, and carries the picture. Hedstroem et al. (arXiv 2401.06465, 2405.02383) redraw
from the bottom up, compare maps averaged over noisy copies (sMPRT, `smoothed`), or compare no maps at all but ask
whether a map grows more complex when all is redrawn (eMPRT, `complexity`).

Faithfulness: insertion and deletion of pixels, and replacement of bands, judge what a change of the input does, not
whether contributions sum to the logit. The reference that takes the place of what is removed is an argument.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.stats import entropy, rankdata
from torch import Tensor, nn

from hsiutils.attribution.hooks import ask, called, copied, padded_size, to_image
from hsiutils.attribution.linearise import input_image
from hsiutils.attribution.perturbation import BATCH, band_occlusion
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import Target, one_image, reference_image
from hsiutils.models.unet import UNet

Mode = Literal["cascading", "independent", "bottom-up"]
SIGNS: tuple[str, ...] = ("signed", "absolute")
"""The two readings of a map that are compared."""
RANKED = 50_000
"""Values of a large map that are ranked, about: sorting all would take longer than the map itself."""


def parameter_randomisation(
    model: nn.Module,
    x: Tensor,
    target: Target,
    methods: Mapping[str, Callable[..., Attribution]],
    *,
    mode: Mode = "cascading",
    layer: str | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """How much of each method's map survives when layers of a copy of the network are redrawn, from the head down.

    Parameters
    ----------
    methods : name -> (model, x, target, layer) -> Attribution, e.g. from `hsiutils.attribution.methods.METHODS`.
    mode : "cascading" redraws a layer together with all those above it, "bottom-up" with all those below it,
        "independent" each layer alone.
    layer : handed to the methods.
    layers : to stop at, by the names of `drawn_layers`; None for all. Cascading redraws those in between too.
    seed : of the new weights.

    Returns
    -------
    Dataset of `spearman` (method, layer, sign) between the map before and after; layer in the order from the head down.
    """
    before = {name: method(model, x, target, layer).map for name, method in methods.items()}
    names, rows = [], []
    for name, twin in randomised_networks(model, x, mode, seed, layers):
        names.append(name)
        after = {key: method(twin, x, target, layer).map for key, method in methods.items()}
        rows.append([similarity(before[key], after[key]) for key in methods])
    values = np.asarray(rows).transpose(1, 0, 2)  # (layer, method, sign) -> (method, layer, sign)
    coords = {"method": list(methods), "layer": names, "sign": list(SIGNS)}
    return xr.Dataset({"spearman": (tuple(coords), values)}, coords)


def drawn_layers(model: nn.Module, x: Tensor) -> dict[str, tuple[nn.Module, ...]]:
    """What can be drawn anew, name -> modules, from the head down as one image goes through.

    Of a `UNet` each convolution with its batch normalisation, by Keras name; of another network each module with
    weights, by torch name, where it is called last. What is never called is left out.
    """
    parts = _parts(model)
    names = {modules[0]: name for name, modules in parts.items()}
    order = reversed(called(model, one_image(x, "x")))
    return {names[module]: parts[names[module]] for module in order if module in names}


def randomised_networks(
    model: nn.Module, x: Tensor, mode: Mode = "cascading", seed: int = 0, layers: Sequence[str] | None = None
) -> Iterator[tuple[str, nn.Module]]:
    """Copies of a network with layers as they were before training, in the order of the mode; the model stays as it is.

    Weights are drawn anew and statistics unlearned: as a `UNet` begins, in another network by `reset_parameters` of its
    modules, as torch's have. The image x tells the order of the layers.

    Yields the name (see `drawn_layers`) of the last layer redrawn, and the network, in evaluation mode. A ValueError if
    there is no such mode or layer, or a layer cannot be drawn anew.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(map(repr, get_args(Mode)))}, got {mode!r}")
    order = list(drawn_layers(model, x))
    chosen = order if layers is None else list(layers)
    if missing := [name for name in chosen if name not in order]:
        raise ValueError(f"no layers {missing} with weights in the network; it has {', '.join(order)}")
    if mode == "bottom-up":
        order.reverse()
    # A stream of its own: the network may have been started from this very seed, and what it learned remembers that.
    (stream,) = np.random.SeedSequence([seed, len(order)]).generate_state(1)
    lowest = max(map(order.index, chosen), default=-1)
    fresh = _untrained(model, int(stream), chosen if mode == "independent" else order[: lowest + 1])
    for place, name in enumerate(order):
        if name in chosen:
            twin = copied(model).eval()
            parts = _parts(twin)
            for lower in [name] if mode == "independent" else order[: place + 1]:
                for old, new in zip(parts[lower], fresh[lower], strict=False):  # a normalisation may be folded in
                    old.load_state_dict(new.state_dict())
            yield name, twin


def _parts(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """The modules that are drawn anew together, by name."""
    if isinstance(model, UNet):
        return {name: tuple(part for part in unit[:2] if part is not None) for name, unit in model.units().items()}
    learned = {name: module for name, module in model.named_modules() if module.state_dict()}
    return {
        name: (module,)
        for name, module in learned.items()
        if hasattr(module, "reset_parameters") or any(True for _ in module.parameters(recurse=False))
    }


def _untrained(model: nn.Module, seed: int, layers: Sequence[str]) -> dict[str, tuple[nn.Module, ...]]:
    """The `_parts` of a network before training; a ValueError if one of these layers cannot be drawn anew."""
    if isinstance(model, UNet):
        return _parts(UNet(model.config, torch.Generator().manual_seed(seed)))
    parts = _parts(copied(model).cpu())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, (module,) in parts.items():
            if (redraw := getattr(module, "reset_parameters", None)) is not None:
                redraw()
            elif name in layers:
                raise ValueError(
                    f"layer {name!r} cannot be drawn anew: {type(module).__name__} has weights of its own and no "
                    "method reset_parameters() that draws them, as torch's layers have; give it one"
                )
    return parts


def smoothed(
    method: Callable[..., Attribution], copies: int = 8, noise: float = 0.1, seed: int = 0
) -> Callable[..., Attribution]:
    """A method whose map is the mean over noisy copies of the input, as sMPRT compares: its noise averages out.

    `noise` is a standard deviation as a share of the input's range; every call draws the same copies from `seed`.
    """

    def mean(model: nn.Module, x: Tensor, target: Target, layer: str | None = None) -> Attribution:
        draw = torch.Generator().manual_seed(seed)
        spread = noise * float(x.max() - x.min())
        noisy = [x + spread * torch.randn(x.shape, generator=draw).to(x) for _ in range(copies)]
        found = [method(model, copy, target, layer) for copy in noisy]
        return replace(found[0], map=xr.concat([one.map for one in found], "copy").mean("copy"))

    return mean


def complexity(values: ArrayLike, bins: int = 100) -> float:
    """Entropy, in nats, of the histogram of a map's values, as eMPRT measures; 0 if it is the same everywhere."""
    counts, _ = np.histogram(np.asarray(values, dtype=np.float64), bins=bins)
    return float(entropy(counts))


def similarity(one: xr.DataArray, other: xr.DataArray) -> NDArray[np.float64]:
    """Spearman's rank correlation of two maps of the same shape, by `SIGNS` (2,).

    Of the places that `compared` leaves.
    """
    seen = compared(np.stack([one.values.ravel(), other.values.ravel()]))
    return np.array([rank_correlations(pair)[0, 1] for pair in (seen, abs(seen))])


def compared(maps: NDArray[Any]) -> NDArray[Any]:
    """Maps (n, places) without places at which all are zero, as most are where maps end at one region.

    Of more than `RANKED` places every so many are kept, since sorting is what costs.
    """
    seen = maps[:, maps.any(0)]
    return seen[:, :: max(-(-seen.shape[1] // RANKED), 1)]


def rank_correlations(values: NDArray[Any]) -> NDArray[np.float64]:
    """Spearman's rank correlation of every pair of rows (n, numbers): (n, n), NaN where one is the same everywhere."""
    if not values.size:
        return np.full((len(values), len(values)), np.nan)
    ranks = rankdata(values, axis=1)
    ranks[np.ptp(values, axis=1) == 0] = np.nan
    return np.asarray(np.corrcoef(ranks))


def insertion_deletion(
    model: nn.Module,
    x: Tensor,
    target: Target,
    attribution: Attribution,
    *,
    reference: ArrayLike | Tensor = 0.0,
    steps: int = 16,
) -> xr.Dataset:
    """The target's value while pixels are put in, or taken out, in the order of a map: highest first (Petsiuk 2018).

    A map on a coarser grid is upsampled; bands are summed. Equal values keep the order of the pixels.

    Parameters
    ----------
    attribution : of this image, with axes y and x.
    reference : what stands where pixels are absent: a number, a spectrum (channels,) or an image (channels, h, w).
    steps : points of the curves after the first.

    Returns
    -------
    Dataset of `value` (curve, fraction): "insertion" goes from the reference image to the image, "deletion" the other
    way; `area` (curve) under the curve of (value - reference's) / (image's - reference's), so that what the order does
    shows and the logit's size does not, NaN where both are the same; `score`, insertion's area less deletion's, above
    zero where the map finds what matters.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    image = input_image(model, x)
    start = reference_image(reference, image)
    values = pixel_map(model, attribution, image)
    ranks = rankdata(-values, method="ordinal").reshape(values.shape) - 1  # 0 for the highest, (h, w)
    fractions = np.linspace(0, 1, steps + 1)
    present = [torch.as_tensor(ranks < round(share * ranks.size)).to(image.device) for share in fractions]
    insertion = _values(model, target, [torch.where(mask, image, start) for mask in present])
    deletion = _values(model, target, [torch.where(mask, start, image) for mask in present])
    value = np.stack([insertion, deletion])
    change = insertion[-1] - insertion[0]
    shares = (value - insertion[0]) / change if change else np.full_like(value, np.nan)
    area = np.asarray(np.trapezoid(shares, fractions, axis=1))
    return xr.Dataset(
        {"value": (("curve", "fraction"), value), "area": (("curve",), area), "score": ((), area[0] - area[1])},
        {"curve": ["insertion", "deletion"], "fraction": fractions},
    )


def band_ablation(
    model: nn.Module, x: Tensor, target: Target, claimed: Attribution, *, reference: ArrayLike | Tensor = 0.0
) -> xr.Dataset:
    """What a method says of each band, summed over space, against what happens when the band is replaced.

    Dataset of `claimed` and `change` (band,), the latter the fall of the target's value when the band is that of the
    reference, a number, a spectrum (channels,) or an image (channels, h, w); `spearman`, their rank correlation, NaN
    where one of them is the same for all bands.
    """
    if claimed.map.sizes.get("band") != x.shape[-3]:
        raise ValueError(
            f"{claimed.method}: a map with {x.shape[-3]} bands is needed, got dims {dict(claimed.map.sizes)}"
        )
    space = [dim for dim in claimed.map.dims if dim != "band"]
    said = claimed.map.sum(space, dtype=np.float64).values
    change = band_occlusion(model, x, target, reference=reference).map.values.astype(np.float64)
    variables = {
        "claimed": ("band", said),
        "change": ("band", change),
        "spearman": ((), rank_correlations(np.stack([said, change]))[0, 1]),
    }
    return xr.Dataset(cast(Mapping[Any, Any], variables))


def pixel_map(model: nn.Module, attribution: Attribution, image: Tensor) -> NDArray[np.float64]:
    """A map as one number a pixel of the image, (h, w): bands summed, coarser grids upsampled, padding cropped."""
    if not {"y", "x"} <= set(attribution.map.dims):
        raise ValueError(f"{attribution.method}: a map in space is needed, got dims {attribution.map.dims}")
    if not np.isfinite(attribution.map.values).all():
        raise ValueError(f"{attribution.method}: the map holds values that are not finite, and orders nothing")
    others = [dim for dim in attribution.map.dims if dim not in ("y", "x")]
    values = attribution.map.sum(others, dtype=np.float64).transpose("y", "x").values
    _, height, width = image.shape
    if values.shape == (height, width):
        return np.asarray(values)
    rows, columns = padded_size(model, (height, width))
    if isinstance(model, UNet) and any(full % part for full, part in zip((rows, columns), values.shape, strict=True)):
        raise ValueError(f"{attribution.method}: a map of {values.shape} is of no layer of an image {(height, width)}")
    whole = to_image(torch.as_tensor(values)[None, None], (rows, columns), (height, width))
    return np.asarray(whole[0, 0].numpy())


def _values(model: nn.Module, target: Target, images: list[Tensor]) -> NDArray[np.float64]:
    batches = [torch.stack(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate([target.value(ask(model, batch)).double().cpu().numpy() for batch in batches])
