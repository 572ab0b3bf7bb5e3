"""The explorer: tap a pixel, and see its spectrum and every part of its logits; switch bands off, and see what is left.

It runs in the page, without a server or a network: `explorer` packs what `_static/explorer.js` of the book shows. All
logits and parts are whole numbers of one step, rounded so that the parts sum to the logit in what is printed, too.
"""

import base64
import html
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from hsiutils.data.classes import VOID, Classes
from hsiutils.plots.pictures import SAFE

CUTS = {"bands": "start", "regions": "start", "channels": "head"}
"""Parts of a logit, and the rest that sums with them to it."""
LEVELS = 1000
"""Steps of a spectrum, from zero to the largest value of the input."""


@dataclass(frozen=True)
class Explorer:
    """An explorer that a notebook shows as HTML; in the book's pages it comes to life.

    Attributes
    ----------
    meta : what the page is told in words and lists: names, classes with their colours, wavelengths, sizes, pictures.
    numbers : all the rest, by scene and input, as `packed`.
    """

    meta: Mapping[str, Any]
    numbers: str
    alt: str

    def _repr_html_(self) -> str:
        told = json.dumps(self.meta, ensure_ascii=False).replace("<", "\\u003c")
        return (
            f'<div class="hsi-explorer" role="group" aria-label="{html.escape(self.alt, quote=True)}">'
            "<p>The explorer needs the built page, and a browser of 2023 or later with JavaScript.</p>"
            f'<script type="application/json">{told}</script>'
            f'<script type="application/octet-stream">{self.numbers}</script></div>'
        )


def explorer(
    found: Mapping[str, xr.Dataset],
    pictures: Mapping[str, NDArray[np.uint8]],
    classes: Classes,
    captions: Mapping[str, str],
    alt: str,
) -> Explorer:
    """Show what networks make of single pixels, side by side.

    Parameters
    ----------
    found : `hsiutils.paper.explorer.explored` by input, of the same scenes, pixels and bands.
    pictures : each scene as RGB (rows, columns, 3), by name.
    classes : of the networks' logits.
    captions : what each scene is, by name: which data, and what is known of it.
    alt : description for those who cannot see it; must not be empty.

    Raises
    ------
    ValueError
        If inputs do not have the same scenes, pixels and bands; parts do not sum to their logit; or `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("an explorer needs a description (alt) for those who cannot see it")
    first, *others = found.values()
    for name in ("scene", "row", "column", "wavelength", "member"):
        if not all(np.array_equal(first[name], other[name]) for other in others):
            raise ValueError(f"inputs {', '.join(found)} must be explored alike, and differ in their {name}")
    decimals = _decimals(max(float(abs(one["logit"]).max()) for one in found.values()))
    tables, inputs = [], []
    for name, one in found.items():
        level = max(float(one["spectrum"].max()), float(one["average"].max()), 1e-6) / LEVELS
        average = np.round(one["average"].values / level).astype(int).tolist()
        inputs.append({"name": name, "unit": one.attrs["units"], "level": level, "average": average})
        scenes = [one.isel(scene=index) for index in range(one.sizes["scene"])]
        tables += [_table(scene, 10.0**-decimals, level, len(classes)) for scene in scenes]
    names = [str(name) for name in first["scene"].values]
    meta = {
        "decimals": decimals,
        "classes": list(classes.names),
        "colours": colours(classes),
        "inputs": inputs,
        "wavelengths": [round(float(centre), 1) for centre in first["wavelength"].values],
        "sets": [np.flatnonzero(row).tolist() for row in first["member"].values],
        "rows": np.unique(first["row"].values).tolist(),
        "columns": np.unique(first["column"].values).tolist(),
        "channels": [one.sizes["channel"] for one in found.values()],
        "scenes": [{"name": captions[name], "picture": png(pictures[name])} for name in names],
    }
    return Explorer(meta, packed(np.concatenate(tables)), alt)


def _table(scene: xr.Dataset, step: float, level: float, classes: int) -> NDArray[np.int64]:
    """Everything of one scene and input as whole numbers, (rows, place): what explorer.js takes apart again.

    By class the logit, each cut with its rest, what the linear reading misses of every set, and GradCAM's residual;
    then the spectrum, the true class (`classes` where there is none), and the sun's share in percent, -1 if not known.
    """
    logit = whole(scene["logit"].values / step)
    rows, bands = [logit], logit[None]
    for cut, rest in CUTS.items():
        parts = scene[cut].transpose(..., "class", "place").values
        own = scene[rest].broadcast_like(scene["logit"]).transpose("class", "place").values
        exact = exactly(np.concatenate([parts, own[None]]) / step, logit)
        rows.append(exact.reshape(-1, logit.shape[-1]))
        bands = exact[:-1] if cut == "bands" else bands
    # (off, band), (band, class, place) -> (off, class, place)
    linear = logit - np.einsum("ob,bcp->ocp", scene["member"].values, bands)
    asked = whole(scene["without"].transpose("off", "class", "place").values / step)
    rows.append((asked - linear).reshape(-1, logit.shape[-1]))
    rows.append(whole(scene["gradcam"].values / step))
    rows.append(whole(scene["spectrum"].transpose("band", "place").values / level))
    truth, sun = scene["truth"].values, scene["sunlit"].values
    rows.append(np.where(truth == VOID, classes, truth)[None])
    rows.append(whole(np.where(np.isfinite(sun), 100 * sun, -1))[None])
    return np.concatenate(rows).astype(np.int64)


def exactly(parts: ArrayLike, total: ArrayLike) -> NDArray[np.int64]:
    """Round parts (n, ...) to whole numbers that sum to a whole total (...): each up or down, by largest remainder.

    A ValueError if the parts themselves miss the total by more than rounding it explains.
    """
    values, wanted = np.asarray(parts, dtype=np.float64), np.asarray(total)
    if np.any(missed := abs(values.sum(axis=0) - wanted) > 0.51):
        raise ValueError(f"parts do not sum to their total at {missed.sum()} of {missed.size} places")
    down = np.floor(values)
    lacking = wanted - down.sum(axis=0)
    rank = np.argsort(np.argsort(down - values, axis=0, kind="stable"), axis=0)
    return np.asarray(down + (rank < lacking), dtype=np.int64)


def packed(table: NDArray[np.int64]) -> str:
    """Whole numbers (rows, place) as text: differences along place, zigzag, byte after byte, deflated, in base64."""
    change = np.diff(table, axis=1, prepend=0).astype(np.int32)
    bytewise = ((change << 1) ^ (change >> 31)).astype("<u4").view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(np.ascontiguousarray(bytewise).tobytes(), 9)).decode()


def whole(values: ArrayLike) -> NDArray[np.int64]:
    """The nearest whole numbers."""
    return np.asarray(np.rint(values), dtype=np.int64)


def _decimals(largest: float) -> int:
    """Behind the point: two, more for logits below 1."""
    return max(2, 2 - int(np.floor(np.log10(largest)))) if largest > 0 else 2


def colours(classes: Classes) -> list[str]:
    """What classes are drawn in: `SAFE`, or a data set's own colours."""
    named = zip(classes.names, classes.colours, strict=True)
    return [SAFE.get(name) or "#{:02x}{:02x}{:02x}".format(*own) for name, own in named]


def png(rgb: NDArray[np.uint8]) -> str:
    """A picture (rows, columns, 3) as an address that a page can hold."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
