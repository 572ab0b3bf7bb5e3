"""Every method asked the same about one image: closure, randomisation, class sensitivity, faithfulness, time.

The network is any that methods take; one that returns more than logits is asked inside
`hsiutils.attribution.hooks.picked`. The questions are for one class over the region that the network gives to it
(`Question`), so that all methods answer for the same numbers. Nothing here is a benchmark of a whole data set: it is
what one can check by eye and by hand.

What `hsiutils.paper.studies.leaderboard` asks on many scenes is here, too: `leakage`, `robustness` and `cost`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from hsiutils.attribution.checks import (
    SIGNS,
    band_ablation,
    drawn_layers,
    insertion_deletion,
    pixel_map,
    randomised_networks,
    similarity,
)
from hsiutils.attribution.hooks import INPUT, ask, called, layer_of
from hsiutils.attribution.linearise import usual_layers
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import Target, pixel, region

Attribute = Callable[..., Attribution]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about one image: the mean logit of a class over its region, and of the class that is second there.

    Also the class's logit at single pixels of the region, at places (row, column). The unit of residuals, `scale`, is
    the root mean square of the class's logit over the image: |logit| alone would make a residual huge wherever a logit
    crosses zero.
    """

    region: Target
    rival: Target
    pixels: tuple[Target, ...]
    places: tuple[tuple[int, int], ...]
    scale: float


def largest_region(model: nn.Module, x: Tensor, place: int = 0) -> Target:
    """Mean logit of the class with the most pixels (place 0), the second, ..., over those the network gives to it.

    Of the last class that has any, where there are fewer; x is (channels, h, w).
    """
    chosen = ask(model, x[None])[0].argmax(0)
    pixels = chosen.flatten().bincount()
    seen = [int(index) for index in pixels.argsort(descending=True, stable=True) if pixels[index]]
    index = seen[min(place, len(seen) - 1)]
    return region(model, x, index, chosen == index, mean=True)


def question(model: nn.Module, x: Tensor, pixels: int = 3) -> Question:
    """Ask about the class with the most pixels, at pixels evenly spaced through its region in reading order.

    x is (channels, h, w). A ValueError if `pixels` is not positive, or the network has one class only.
    """
    if pixels < 1:
        raise ValueError(f"expected at least one pixel, got {pixels}")
    logits, asked = ask(model, x[None])[0], largest_region(model, x)
    if len(logits) < 2:
        raise ValueError("a question needs two classes to tell apart, and the network has one")
    largest, mask = int(asked.weights.flatten(1).any(1).nonzero()), asked.weights.any(0).to(logits.device)
    means = logits[:, mask].mean(1)
    means[largest] = -torch.inf
    places = [(int(row), int(column)) for row, column in mask.nonzero().cpu()]
    spaced = tuple(places[(2 * k + 1) * len(places) // (2 * pixels)] for k in range(pixels))
    return Question(
        asked,
        region(model, x, int(means.argmax()), mask, mean=True),
        tuple(pixel(model, x, largest, *place) for place in spaced),
        spaced,
        float(logits[largest].square().mean().sqrt()),
    )


def upper_layers(model: nn.Module, x: Tensor) -> list[str]:
    """The layers with weights above the last one on the smallest grid, from the head down: of a U-Net, its decoder.

    Names as of `hsiutils.attribution.checks.drawn_layers`; where nothing is above, the head alone. x is (channels, h,
    w).
    """
    base, layers, order = usual_layers(model, x)[-2:][0], drawn_layers(model, x), called(model, x)
    below = -1 if base == INPUT else order.index(layer_of(model, base))
    above = [name for name, modules in layers.items() if order.index(modules[0]) > below]
    return above or list(layers)[:1]


def pixel_maps(model: nn.Module, x: Tensor, asked: Question, names: tuple[str, ...] = ("CAM", "GradCAM")) -> xr.Dataset:
    """Maps before the head for the logit of each pixel of a question.

    `map` (method, pixel, y, x) on that layer's padded grid, `total` and `residual` (method, pixel), `logit` (pixel);
    coordinates `row` and `column` of pixel.
    """
    found = [[METHODS[name](model, x, target) for target in asked.pixels] for name in names]
    rows, columns = zip(*asked.places, strict=True)
    return xr.Dataset(
        {
            "map": (("method", "pixel", "y", "x"), np.stack([[one.map.values for one in row] for row in found])),
            "total": (("method", "pixel"), [[one.total for one in row] for row in found]),
            "residual": (("method", "pixel"), [[one.residual for one in row] for row in found]),
            "logit": (("pixel",), [one.logit for one in found[0]]),
        },
        {"method": list(names), "row": ("pixel", list(rows)), "column": ("pixel", list(columns))},
    )


def leaderboard(
    model: nn.Module, x: Tensor, asked: Question, methods: Mapping[str, Attribute], *, seed: int = 0, steps: int = 10
) -> xr.Dataset:
    """Hold methods, (model, x, target) -> Attribution, side by side on one image (channels, h, w).

    Each is asked at the layer that it takes by itself, and raises what it raises where it is not for this network: CAM
    needs a head, others exact gates. `seed` is that of the redrawn weights, and `steps` those of the
    insertion and deletion curves.

    Dataset over method: `residual`, median over the question's pixels of |total - logit| in units of its scale;
    `sanity`, rank correlation of the signed maps before and after the `upper_layers` are redrawn, near zero where the
    map depends on what they learned; `class_sensitivity`, rank correlation of the signed maps for the region's class
    and its rival, 1 where the map does not see the class; `faithfulness`, insertion's area less deletion's, for maps in
    space; `band_faithfulness`, rank correlation of a band's part and the logit's fall without it, for maps with bands;
    `seconds` that the region's map took here. NaN where a question does not apply or its answer is not defined.
    """
    twin = next(randomised_networks(model, x, seed=seed, layers=upper_layers(model, x)[-1:]))[1]
    rows = [_answers(model, twin, x, asked, method, steps) for method in methods.values()]
    answers = {name: ("method", [row[name] for row in rows]) for name in rows[0]}
    found = xr.Dataset(answers, {"method": list(methods)})
    found["seconds"].attrs["units"] = "s"
    return found


def _answers(
    model: nn.Module, twin: nn.Module, x: Tensor, asked: Question, method: Attribute, steps: int
) -> dict[str, float]:
    started = time.perf_counter()
    found = method(model, x, asked.region)
    seconds = time.perf_counter() - started
    residuals = [abs(method(model, x, target).residual) / asked.scale for target in asked.pixels]
    redrawn, rival = method(twin, x, asked.region), method(model, x, asked.rival)
    answers = {
        "residual": float(np.median(residuals)),
        "sanity": float(similarity(found.map, redrawn.map)[SIGNS.index("signed")]),
        "class_sensitivity": float(similarity(found.map, rival.map)[SIGNS.index("signed")]),
        "faithfulness": np.nan,
        "band_faithfulness": np.nan,
        "seconds": seconds,
    }
    if np.isfinite(found.map).all():
        if "y" in found.map.dims:
            curves = insertion_deletion(model, x, asked.region, found, steps=steps)
            answers["faithfulness"] = float(curves["score"])
        if "band" in found.map.dims and len(x) > 2:
            answers["band_faithfulness"] = float(band_ablation(model, x, asked.region, found)["spearman"])
    return answers


FLIPPED = "flip"
"""Name of the change of an image that mirrors it."""


def leakage(model: nn.Module, x: Tensor, target: Target, found: Attribution, share: float = 0.1) -> float:
    """How much of what happens when a map's highest pixels are taken out happens elsewhere, 0..1; NaN without space.

    The pixels become the image's mean spectrum. Elsewhere are the pixels of which the target weighs no logit: there the
    logit of the class that the network sees changes by some amount, in the mean, and so does the target, which should
    be a mean of logits. The result is the first over the sum of both. NaN also where the target is everywhere.
    """
    if "y" not in found.map.dims or not np.isfinite(found.map.values).all():
        return float("nan")
    values = pixel_map(model, found, x)
    order = np.argsort(-values, axis=None, kind="stable")[: round(share * values.size)]
    gone = torch.zeros(values.size, dtype=torch.bool)
    gone[torch.as_tensor(order)] = True
    before, after = ask(
        model, torch.stack([x, torch.where(gone.view(values.shape).to(x.device), x.mean((1, 2), keepdim=True), x)])
    ).double()
    seen = before.argmax(0, keepdim=True)
    other = (after.gather(0, seen) - before.gather(0, seen))[0][~target.weights.any(0).to(x.device)].abs().mean()
    own = target.value((after - before)[None])[0].abs()
    return float(other / (other + own))


def robustness(
    model: nn.Module, x: Tensor, target: Target, method: Attribute, changed: Mapping[str, Tensor]
) -> dict[str, float]:
    """Rank correlation of a method's map with that of each changed image (channels, h, w), by name.

    Bands are summed where there is space; the image called `FLIPPED` is the mirrored one, whose target and map are
    mirrored, too. A map that does not read the image is as robust as can be.
    """
    before = _in_space(model, x, method(model, x, target))
    found = {}
    for name, image in changed.items():
        turned = name == FLIPPED
        asked = Target(target.weights.flip(-1), target.name) if turned else target
        after = _in_space(model, image, method(model, image, asked))
        after = after[..., ::-1] if turned and after.ndim == 2 else after
        found[name] = float(similarity(xr.DataArray(before), xr.DataArray(after))[SIGNS.index("signed")])
    return found


def _in_space(model: nn.Module, x: Tensor, found: Attribution) -> np.ndarray:
    """A map as numbers a pixel of the image, or as it is where it has no space or holds what is no number."""
    spatial = "y" in found.map.dims and np.isfinite(found.map.values).all()
    return pixel_map(model, found, x) if spatial else found.map.values


def cost(model: nn.Module, x: Tensor, call: Callable[[], object]) -> tuple[float, float]:
    """What a call costs, in forward passes of one image: its multiplications, and the most memory that it holds.

    Counted, not timed, so that every machine finds the same: multiplications of convolutions and matrix products, and
    bytes of tensors alive at once among those that are made.
    """
    (one, held), (every, most) = _counted(lambda: ask(model, x[None])), _counted(call)
    return every / one, most / held


def _counted(call: Callable[[], object]) -> tuple[int, int]:
    with Counted() as counted:
        call()
    return counted.multiplications, counted.peak


class Counted(TorchDispatchMode):
    """Counts what runs inside it.

    Attributes
    ----------
    multiplications : of convolutions and matrix products, times two, as torch's counter of floating-point operations.
    peak : bytes of tensors alive at once, at most, of those that were made.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiplications = self.peak = self._most = 0
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry and not getattr(out, "void", False):  # of zeros nothing is done
            self.multiplications += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = getattr(leaf, "value", leaf).untyped_storage()  # a Flow holds its value
                own = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._most += storage.nbytes() - self._alive.get(own, 0)
                self._alive[own] = storage.nbytes()
        if self._most > self.peak:  # and only then is it worth to see which are alive
            self._alive = {
                own: size
                for own, size in self._alive.items()
                if not own.expired()  # type: ignore[no-untyped-call]
            }
            self._most = sum(self._alive.values())
            self.peak = max(self.peak, self._most)
        return out
