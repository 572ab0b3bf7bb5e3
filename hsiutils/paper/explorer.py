"""What the book's explorer holds of a network: every part of every logit at the pixels of a grid, three scenes.

Cut by band, by true class of the source pixels and by channel before the head, all exact, and read from the average
pixel. Beside them what the network itself says when bands are gone: asked again, for each band and for ranges of them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from hsiutils.analysis.activations import spaced
from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.hooks import activations, ask
from hsiutils.data.classes import VOID
from hsiutils.data.cube import HEADROOM
from hsiutils.data.inputs import variant
from hsiutils.models.unet import UNet
from hsiutils.paper.bands import average_pixel, wavelengths
from hsiutils.paper.conservativeness import audited_scenes
from hsiutils.paper.study import Subject, study, sunlit

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

SCENES = 3
"""Test scenes that are explored, by default."""
PIXELS = 520
"""Pixels of a scene that are kept, at most: those of a square grid."""
RANGES = 5
"""Ranges of neighbouring bands that are switched off together, beside every band alone."""


def explorable(run: "Run") -> list[str]:
    """The inputs of a run to look at: 25 bands and the same after PN, or its last whose channels are all bands."""
    spectral = [name for name in run.variants if variant(name).pca is None and not variant(name).extra]
    return [name for name in spectral if name in ("25", "25-PN")] or spectral[-1:]


def explored(run: "Run", name: str, most: int = SCENES, pixels: int = PIXELS) -> xr.Dataset:
    """The first network of a variant on some test scenes: `explored_of` along scene.

    With `spectrum` (scene, band, place), and of the average pixel `average` (band), clipped as the network's inputs
    are but not scaled, in the attribute `units`; `member` (off, band), 1 where a set of bands holds one; and the
    coordinate `wavelength` of band, nm (`hsiutils.paper.bands.wavelengths`).
    """
    centres, kind = wavelengths(run, name), variant(name).normalisation
    units = {"none": run.data.units, "PN": "share of the sum over bands"}.get(kind, f"after {kind}")
    settings = {"sets": switched(centres, RANGES), "pixels": pixels}
    found = study(run, "explorer", _explored, (name, run.seed), shown_scenes(run, most), **settings)
    return found.assign_coords(wavelength=("band", centres)).assign_attrs(units=units)


def shown_scenes(run: "Run", most: int = SCENES) -> list[str]:
    """The test scene of chapter 4's first audit, and others evenly spaced through those in which the sun is seen.

    Through all others where nobody knows, or it is seen in none.
    """
    names, first = run.data.names("test"), audited_scenes(run, 1)
    shares = {name: sunlit(run.data, [name]) for name in names}
    lit = [name for name, share in shares.items() if share is not None and np.nanmax(share[0], initial=0) > 0]
    others = [name for name in lit or names if name not in first]
    return first + (spaced(others, most - 1, centred=True) if most > 1 else [])


def switched(centres: NDArray[np.float64], ranges: int) -> list[list[int]]:
    """Channels that are switched off together: each alone, then those of equally large ranges of wavelength."""
    order = np.argsort(centres, kind="stable")
    parts = [part for part in np.array_split(order, ranges) if len(part) > 1]
    return [[band] for band in range(len(centres))] + [sorted(part.tolist()) for part in parts]


def _explored(subject: Subject, sets: list[list[int]], pixels: int) -> xr.Dataset:
    average, inputs = average_pixel(subject), subject.scenes.inputs
    found = subject.by_scene(partial(explored_of, subject.model, average=average, sets=sets, pixels=pixels))
    found["average"] = "band", average.astype(np.float32)
    member = [[int(band in off) for band in range(len(average))] for off in sets]
    low, high = (xr.DataArray(np.asarray(limit, dtype=np.float32), dims="band") for limit in (inputs.low, inputs.high))
    for name in ("spectrum", "average"):
        found[name] = low + (found[name] + 1) / (2 * HEADROOM) * (high - low)
    return found.assign(member=(("off", "band"), member))


def explored_of(
    model: UNet,
    x: Tensor,
    truth: NDArray[Any],
    light: NDArray[Any] | None,
    average: NDArray[np.float64],
    sets: Sequence[Sequence[int]],
    pixels: int = PIXELS,
) -> xr.Dataset:
    """Every part of every logit of one scene, at the pixels of a grid.

    Parameters
    ----------
    x : (channels, h, w).
    truth : (h, w) class indices.
    light : (h, w) share of the sun; None where nobody knows.
    average : (channels,) reference spectrum in the input's units.
    sets : channels that are switched off together, which is to set them to the average everywhere.
    pixels : at most so many are kept.

    Returns
    -------
    Dataset
        float32 over place (pixels, row after row) and class: `logit`; `bands` (band, ...) and `start`, what the affine
        map makes of an image of average pixels, biases included, sum to it; so do `regions` (region, ...), the true
        classes and last the unlabelled, and `start`; and `channels` (channel, ...), weight times activation before the
        head, and `head` (class), its bias. `without` (off, ...), the logits of the network asked again; `gradcam`, the
        sum of GradCAM's map before the head, without its ReLU, less the logit. `spectrum` (band, place) is the
        input; `truth` and `sunlit` (place), the latter NaN where nobody knows; coordinates `row`, `column`.
    """
    rows, columns = grid(x.shape[1:], pixels)
    names, config = list(model.config.names), model.config

    def at(values: Any) -> NDArray[np.float32]:
        """(..., h, w) -> (..., place)."""
        kept = np.asarray(values)[..., rows[:, None], columns]
        return kept.reshape(*kept.shape[:-2], -1).astype(np.float32)

    by_band = decompose(model, x, reference=average)
    by_region = decompose(model, x, np.where(truth == VOID, len(names), truth).astype(int), reference=average)
    regions = by_region.contribution.reindex(region=range(len(names) + 1), fill_value=0)
    with activations(model, [config.last]) as seen:
        ask(model, x[None])
    weights = model.head.weight.detach().flatten(1)  # (classes, k)
    before = torch.as_tensor(at(seen[config.last][0]))  # of the padded size; (k, place)
    channels = torch.einsum("ck,kp->kcp", weights.float(), before)
    left = audit(model, x, ["GradCAM signed"], [config.last])["residual"].values[0, 0]
    start = torch.as_tensor(average, dtype=x.dtype)[:, None, None].expand_as(x)
    without = np.stack([at(ask(model, _lacking(x, start, off)[None])[0]) for off in sets])
    each = ("class", "place")
    return xr.Dataset(
        {
            "logit": (each, at(by_band.logit)),
            "bands": (("band", *each), at(by_band.contribution)),
            "start": (each, at(by_band.bias.sum("layer"))),
            "regions": (("region", *each), at(regions)),
            "channels": (("channel", *each), channels.numpy()),
            "head": ("class", cast(Tensor, model.head.bias).detach().float().numpy()),
            "without": (("off", *each), without),
            "gradcam": (each, at(left)),
            "spectrum": (("band", "place"), at(x)),
            "truth": ("place", at(truth).astype(np.int16)),
            "sunlit": ("place", at(np.full(truth.shape, np.nan) if light is None else light)),
        },
        {
            "class": names,
            "row": ("place", np.repeat(rows, len(columns))),
            "column": ("place", np.tile(columns, len(rows))),
        },
    )


def foreseen(found: xr.Dataset) -> pd.DataFrame:
    """How well the linear reading says which class the network gives a pixel when bands are off; of `explored`.

    One row each for "one band" and "a range of bands", pooled over sets, scenes and pixels, in percent: `changed`,
    pixels whose class the network changes; `foretold`, of these, those that the linear reading gives the network's new
    class, NaN where nothing changes; `invented`, pixels whose class only the linear reading changes.
    """
    linear = found["logit"] - xr.dot(found["member"].astype(np.float32), found["bands"], dim="band")
    own, read, asked = (logits.argmax("class") for logits in (found["logit"], linear, found["without"]))
    alone, changed = found["member"].sum("band") == 1, asked != own
    rows = {}
    for kind, chosen in (("one band", alone), ("a range of bands", ~alone)):
        new, said, kept = (one.transpose("off", ...)[chosen.values] for one in (changed, read == asked, read == own))
        right = 100 * float((new & said).sum() / new.sum()) if new.any() else np.nan
        invented = (~new & ~kept.broadcast_like(new)).mean()
        rows[kind] = {"changed": 100 * float(new.mean()), "foretold": right, "invented": 100 * float(invented)}
    return pd.DataFrame(rows).T.rename_axis("off")


def findings(found: Mapping[str, xr.Dataset], origin: str) -> list[str]:
    """What `foreseen` says of each input and kind, in a sentence; of scenes that are "simulated" or "real"."""
    sentences = []
    for name, one in found.items():
        for kind, row in foreseen(one).iterrows():
            head = f"{name}, without {kind}: the network changes its class at {row.changed:.1f} % of the pixels"
            right = f" {row.foretold:.0f} % of these changes, and" if row.changed else ""
            wrong = f"changes that do not come at {row.invented:.1f} % of the pixels."
            scenes = f"of these {one.sizes['scene']} {origin} scenes. The linear reading foretells"
            sentences.append(f"{head} {scenes}{right} {wrong}")
    return sentences


def grid(shape: Sequence[int], pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a square grid of at most so many pixels of an image (h, w), each amid its cell."""
    step = 1
    while np.prod([len(range(step // 2, size, step)) for size in shape]) > pixels:
        step += 1
    rows, columns = (np.arange(step // 2, size, step) for size in shape)
    return rows, columns


def _lacking(x: Tensor, start: Tensor, off: Sequence[int]) -> Tensor:
    """An image with some channels set to those of another."""
    changed = x.clone()
    changed[list(off)] = start[list(off)]
    return changed
