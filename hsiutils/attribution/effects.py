"""What a method's map foretells of a change of the image, against what the change does to the network.

A part of a map is taken at its word: if the part of the image that it stands for changes by a share, the part of the
logit that it is said to make changes by that share. For a map of every band and pixel that is the multiplier, part over
input, times the change; a gradient is a multiplier as it is. A map that has no bands, or no space, is asked about whole
pixels or bands: by how much of itself each has changed, by projection. So a linear network's contributions foretell
every change exactly, and who only says where something matters foretells a rank.

Whose map is not in units of a logit has no error, only a rank.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_gradient_magnitude
from torch import Tensor, nn

from hsiutils.attribution.checks import pixel_map, rank_correlations
from hsiutils.attribution.hooks import INPUT, ask
from hsiutils.attribution.linearise import linearise
from hsiutils.attribution.result import Attribution, as_map
from hsiutils.attribution.targets import Target

Attribute = Callable[..., Attribution]
"""(model, x, target) -> Attribution."""
PER_UNIT = {"gradient", "SmoothGrad", "Guided BackProp", "Guided GradCAM", "noise", "another scene"}
"""Methods whose maps are per unit of the input."""
IN_LOGITS = {
    *("linear decomposition", "CAM", "HiResCAM", "gradient", "gradient x input", "SmoothGrad", "Integrated Gradients"),
    *("DeepLIFT", "LRP epsilon", "LRP gamma", "occlusion", "band occlusion"),
}
"""Methods whose maps are shares of a logit, or logits per unit of the input."""
NULLS = ("noise", "size of the change", "edges", "another scene")
"""What knows nothing of the network, or of the image: any method must tell itself apart from these."""


def foretells(model: nn.Module, x: Tensor, others: Tensor, found: Attribution) -> NDArray[np.float64]:
    """By how much the target changes, by a map of the image x, (channels, h, w), as it becomes others (n, ...): (n,).

    NaN where the map is not finite. Where the image is zero a share of it says nothing, and nothing is foretold.
    """
    change = (others - x).double().cpu().numpy()
    image, values = x.double().cpu().numpy(), found.map
    if not np.isfinite(values.values).all():
        return np.full(len(others), np.nan)
    if found.method in PER_UNIT:
        per_unit = values.transpose("band", "y", "x").values.astype(np.float64)
        return np.asarray(np.einsum("kcyx,cyx->k", change, per_unit))
    whole: tuple[int, ...] = ()  # axes along which the map has one number
    if set(values.dims) == {"band", "y", "x"}:
        parts = values.transpose("band", "y", "x").values.astype(np.float64)
    elif "y" in values.dims:
        parts, whole = pixel_map(model, found, x)[None], (0,)
    else:
        parts, whole = values.values.astype(np.float64)[:, None, None], (1, 2)
    along = (change * image).sum(tuple(axis + 1 for axis in whole), keepdims=True)
    size = (image**2).sum(whole, keepdims=True)
    shares = np.divide(along, size, out=np.zeros_like(along), where=size > 0)
    return np.asarray((shares * parts).sum((1, 2, 3)))


def effects(model: nn.Module, x: Tensor, others: Tensor, targets: Sequence[Target]) -> NDArray[np.float64]:
    """By how much targets change as the image x, (channels, h, w), becomes others (n, ...): (targets, n)."""
    before = ask(model, x[None])
    change = torch.cat([ask(model, some) for some in torch.split(others, 4)]).double() - before.double()
    return torch.stack([target.value(change) for target in targets]).cpu().numpy()


def everywhere(model: nn.Module, x: Tensor, others: Tensor) -> xr.Dataset:
    """The first-order answer for every logit at once: the network's affine map at x, applied to the change.

    For one target it is what gradient x input, the linear decomposition and LRP epsilon foretell.

    Returns
    -------
    Dataset of `logit_error` and `logit_effect` (change): sums over all classes and pixels of (foretold - true)^2 and of
    true^2.
    """
    at, before, rows = linearise(model, x), ask(model, x[None]), []
    for some in torch.split(others, 4):
        true, said = (ask(model, some) - before).double(), at.push(some - x).double()
        rows.append(torch.stack([(said - true).square().sum((1, 2, 3)), true.square().sum((1, 2, 3))]))
    error, effect = torch.cat(rows, 1).cpu().numpy()
    return xr.Dataset({"logit_error": ("change", error), "logit_effect": ("change", effect)})


def rank_agreement(said: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Spearman's rank correlation (n,) with (n,), of at least three effects.

    Zero for who says the same of every change; NaN where the truth is the same, or what is said is not finite.
    """
    if len(true) < 3 or np.ptp(true) == 0 or not np.isfinite(said).all():
        return float("nan")
    return float(rank_correlations(np.stack([said, true]))[0, 1]) if np.ptp(said) > 0 else 0.0


def nulls(other: Tensor, seed: int) -> dict[str, Attribute]:
    """Maps that know nothing of what they are asked, by `NULLS`.

    Noise, per unit of the input, drawn anew for every class; the same number everywhere, which foretells by how
    much brighter the image gets; the image's edges; and the gradient for the same target in another image, `other`
    (channels, h, w).
    """

    def noise(model: nn.Module, x: Tensor, target: Target) -> Attribution:
        classes = target.weights.flatten(1).any(1).nonzero().flatten().tolist()
        drawn = np.random.default_rng([seed, *classes]).normal(size=tuple(x.shape))
        return Attribution("noise", INPUT, xr.DataArray(drawn, dims=("band", "y", "x")), 0.0)

    def size(model: nn.Module, x: Tensor, target: Target) -> Attribution:
        return Attribution("size of the change", INPUT, as_map(torch.ones_like(x[0]), ("y", "x")), 0.0)

    def edges(model: nn.Module, x: Tensor, target: Target) -> Attribution:
        values = gaussian_gradient_magnitude(x.double().mean(0).cpu().numpy(), 1.0)
        return Attribution("edges", INPUT, xr.DataArray(values, dims=("y", "x")), 0.0)

    def elsewhere(model: nn.Module, x: Tensor, target: Target) -> Attribution:
        at = linearise(model, other)
        values = as_map(at.pull(target.weights).gradient, ("band", "y", "x"))
        return Attribution("another scene", INPUT, values, 0.0)

    return dict(zip(NULLS, (noise, size, edges, elsewhere), strict=True))


def judged(said: Mapping[str, NDArray[np.float64]], true: NDArray[np.float64], kinds: Sequence[str]) -> xr.Dataset:
    """Score what methods foretell of changes, kind by kind.

    Parameters
    ----------
    said : by method, (targets, changes).
    true : (targets, changes); NaN where there was no such change.
    kinds : of each change.

    Returns
    -------
    Dataset over method and kind: `rank`, the agreement of what was foretold with its sign, mean over targets; `size`,
    of absolute values; `error`, the sum over targets and changes of (foretold - true)^2, NaN where a map is not in
    logits; and `effect` (kind), the sum of true^2, the error of who foretells nothing.
    """
    names, found = list(dict.fromkeys(kinds)), []
    masks = [np.array([kind == name for kind in kinds]) & np.isfinite(true).all(0) for name in names]
    for method, own in said.items():
        pairs = [(own[:, mask], true[:, mask]) for mask in masks]
        signed = [[rank_agreement(*pair) for pair in zip(*both, strict=True)] for both in pairs]
        sizes = [[rank_agreement(abs(one), abs(other)) for one, other in zip(*both, strict=True)] for both in pairs]
        missed = [float(((one - other) ** 2).sum()) if method in IN_LOGITS else np.nan for one, other in pairs]
        found.append([[_mean(row) for row in signed], [_mean(row) for row in sizes], missed])
    values, dims = np.array(found), ("method", "kind")
    scores = {name: (dims, values[:, place]) for place, name in enumerate(("rank", "size", "error"))}
    effect = [float((true[:, mask] ** 2).sum()) for mask in masks]
    return xr.Dataset(scores | {"effect": ("kind", effect)}, {"method": list(said), "kind": names})


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
