"""What the page in which the network itself runs holds of a run: one network, one scene, and the light on it.

The scene is kept in whole steps, as the page has it, and torch is asked about the same steps: what the page says and
what the library says can be held against each other. What the page loads when asked is too large for it: a notebook
carries it beside the page's HTML, and building the pages makes files of it (`hsiutils.book.live`).
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.hooks import ask
from hsiutils.attribution.result import Decomposition
from hsiutils.data.classes import Classes
from hsiutils.data.cube import make_cube
from hsiutils.data.inputs import FittedVariant, variant
from hsiutils.data.names import Conditions
from hsiutils.data.sensor import Sensor
from hsiutils.data.source import open_dataset
from hsiutils.models.unet import UNet, parameter_count
from hsiutils.paper.bands import average_pixel
from hsiutils.paper.conservativeness import audited_scenes
from hsiutils.paper.explorer import explorable
from hsiutils.paper.graph import holds, live_graph
from hsiutils.paper.robustness import TURN_DEG, sunny
from hsiutils.paper.study import Subject, sunlit
from hsiutils.plots.explorer import colours, png
from hsiutils.simulate.light import draw_circumstances, illuminate

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

MOST = 2_100_000
"""Parameters of a network that fits into a page's 12 MB with its runtime and a scene: 8 filters, depth 5."""
STEPS, SHARES = 65_535, 254
"""Of the largest reflectance of the scene, and of the sun's share."""
FEWEST = 30
"""Pixels that must fall into shadow for a scene to be checked."""
MIME = "application/vnd.hsiutils.live+json"
"""Of what the page loads: by name the width of its numbers, bytes, and the numbers in base64."""


@dataclass(frozen=True, eq=False)
class Live:
    """A network and a scene to change.

    Attributes
    ----------
    scene : its name; `sensor` is its camera.
    cube : (bands, h, w) float32 reflectance, not negative, in whole steps of `step`; of the scene's upper left, whose
        sides are multiples of the network's stride.
    labels : (h, w) true classes, VOID where there is none.
    share : (h, w) float32 of the sun that reaches each pixel, in whole steps; NaN where nobody knows.
    sun : (bands,) what the sun alone adds to level ground, in units of what the whole sky does; None without a sun.
    average : (bands,) of the network's input, see `hsiutils.paper.bands.average_pixel`.
    checked : `shaded` of the sunny test scenes.
    """

    network: UNet
    inputs: FittedVariant
    sensor: Sensor
    scene: str
    cube: NDArray[np.float32]
    step: float
    labels: NDArray[np.uint8]
    share: NDArray[np.float32]
    sun: NDArray[np.float64] | None
    average: NDArray[np.float64]
    wavelengths: NDArray[np.float64]
    checked: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def graph(self) -> bytes:
        """The network and the way back through it: `hsiutils.paper.graph.live_graph`."""
        rows, columns = self.cube.shape[1:]
        made: bytes = live_graph(self.network, self.inputs, self.average, (rows, columns)).SerializeToString()
        return made

    def asked(self, cube: ArrayLike, off: Sequence[int] = ()) -> NDArray[np.float32]:
        """What torch says of a changed scene with some bands at the average pixel: logits (classes, h, w)."""
        return np.asarray(ask(self.network, self._entered(cube, off)[None])[0])

    def decomposed(self, cube: ArrayLike, off: Sequence[int] = ()) -> Decomposition:
        """Its logits by band, read from the average pixel."""
        return decompose(self.network, self._entered(cube, off), reference=self.average)

    def _entered(self, cube: ArrayLike, off: Sequence[int]) -> Tensor:
        x = torch.from_numpy(self.inputs.apply(make_cube(cube, self.sensor)).values)
        bands = list(off)
        x[bands] = torch.as_tensor(self.average, dtype=x.dtype)[bands, None, None]
        return x


def living(run: "Run") -> str | None:
    """The input whose first network a page can hold: the last of `explorable` that fits; None without any."""
    fit = [name for name in explorable(run) if holds(variant(name), len(run.data.sensor.bands))]
    return fit[-1] if fit and parameter_count(run.model(fit[-1]).model) <= MOST else None


def live(run: "Run", name: str) -> Live:
    """The first network of an input, and the simulated test scene on which `relit` comes nearest to the simulator.

    Without such a one the test scene that is most nearly half in the sun, half not; where nobody knows of a sun, or it
    is seen nowhere, that of chapter 4's first audit.
    """
    names = run.data.names("test")
    shares = {each: found[0] for each in names if (found := sunlit(run.data, [each])) is not None}
    lit = {each: float(np.nanmean(share)) for each, share in shares.items() if np.isfinite(share).any()}
    scene = min(lit, key=lambda each: abs(lit[each] - 0.5)) if any(lit.values()) else audited_scenes(run, 1)[0]
    checked = shaded(run) if run.data_root is None else {}
    scene = min(checked, key=lambda each: checked[each][0] / checked[each][1], default=scene)
    model, scenes = run.model(name).model, run.inputs(name, [scene])
    cube = run.data.cube(scene)
    rows, columns = (size - size % model.config.stride for size in cube.shape[1:])
    values = np.nan_to_num(cube.values[:, :rows, :columns].astype(np.float64)).clip(0)
    step = float(values.max() / STEPS)
    share = np.asarray(shares.get(scene, np.full(cube.shape[1:], np.nan)))
    return Live(
        model,
        scenes.inputs,
        run.data.sensor,
        scene,
        (np.rint(values / step) * step).astype(np.float32),
        step,
        scenes[0][1].numpy()[:rows, :columns].astype(np.uint8),
        (np.rint(share[:rows, :columns] * SHARES) / SHARES).astype(np.float32),
        sun_over_sky(run, scene) if run.data_root is None else None,
        average_pixel(Subject(name, run.seed, model, scenes, run.data)),
        run.centres_nm,
        checked,
    )


def sun_over_sky(run: "Run", scene: str) -> NDArray[np.float64] | None:
    """What the sun alone adds to level ground, over what the whole sky does, in each band of a simulated scene.

    None if the sun is hidden.
    """
    own = run.simulation
    light = illuminate(draw_circumstances(Conditions.parse(scene), own.seed), own.seed, own.light_spread)
    sun, sky = own.camera.weights @ (light.direct * max(light.sun[2], 0.0)), own.camera.weights @ light.diffuse
    return np.asarray(sun / sky) if sun.any() else None


def relit(cube: ArrayLike, share: ArrayLike, to: float, sun: ArrayLike) -> NDArray[np.float64]:
    """Reflectance (bands, h, w) as the camera would give it if another share of the sun reached the pixels.

    As of level ground that sees the whole sky: times (1 + `to` r) / (1 + `share` r), with r = `sun` by band. That is
    exact for a matt surface that lies so; a wall, or a street with houses on both sides, has more or less sky than
    that. Pixels of unknown share stay.
    """
    ratio, known = np.asarray(sun)[:, None, None], np.isfinite(share)
    return np.asarray(cube * (1 + np.where(known, to, 0) * ratio) / (1 + np.where(known, share, 0) * ratio))


def shaded(run: "Run") -> dict[str, tuple[float, float]]:
    """How far pixels that fall into shadow are from `relit`, by sunny test scene: `shade_error` under a turned sun."""
    names, errors = sunny(run), {}
    other = open_dataset(run.turned(names, TURN_DEG).folder, sensor=run.simulation.chip) if names else run.data
    for name in names:
        lit, dark = (data.cube(name).values.astype(np.float64) for data in (run.data, other))
        shares = [found[0] for data in (run.data, other) if (found := sunlit(data, [name])) is not None]
        sun, fall = sun_over_sky(run, name), (shares[0] > 0.9) & (shares[1] < 0.1)
        if sun is not None and np.count_nonzero(fall) >= FEWEST:
            errors[name] = shade_error(lit, dark, shares[0], fall, sun)
    return errors


def shade_error(
    lit: ArrayLike, dark: ArrayLike, share: ArrayLike, fall: NDArray[np.bool_], sun: ArrayLike
) -> tuple[float, float]:
    """Error of a relit mean spectrum's shape, and of one that is left as it was: root mean square over bands.

    `lit` and `dark` (bands, h, w) are a scene before and after the pixels `fall` (h, w) lost the sun. Of the mean,
    because single dark pixels are noise; of the shape, a band's share of the sum, because exposure changes with light.
    """
    means = [np.asarray(cube)[:, fall].mean(axis=1) for cube in (dark, relit(lit, share, 0.0, sun), lit)]
    true, *others = (mean / mean.sum() for mean in means)
    relit_error, left = (float(np.sqrt(np.mean((other / true - 1) ** 2))) for other in others)
    return relit_error, left


def findings(found: Live, origin: str) -> list[str]:
    """What taking the sun away does to the classes of this scene, beside a mere dimming by as much, in sentences."""
    name, lit = found.inputs.variant.name, found.share >= 0.5
    if found.sun is None or not lit.any():
        return [f"No sun is seen in this {origin} scene, so its light cannot be turned down."]
    shaded = relit(found.cube, found.share, 0.0, found.sun)
    dimmed = found.cube * (shaded.sum(0) / np.maximum(found.cube.sum(0), found.step))
    own, *others = (found.asked(cube).argmax(0) for cube in (found.cube, shaded, dimmed))
    sky, grey = (100 * float((other != own)[lit].mean()) for other in others)
    return [
        f"In the light of the sky alone, as in shadow, {name} changes its class at {sky:.1f} % of the {lit.sum()} "
        f"sunlit pixels of this {origin} scene.",
        f"Dimmed by as much, but in all bands alike, it changes its class at {grey:.1f} % of them.",
        *_checked(found),
    ]


def _checked(found: Live) -> list[str]:
    """What `shaded` found of the scene that is shown, and of the others, in a sentence each."""
    if found.scene not in found.checked:
        return []
    own, left = found.checked[found.scene]
    return [
        f"Is that light right? The simulator rendered this street again with the sun {TURN_DEG:.0f} degrees further "
        f"round. Where sunlit pixels fell into shadow, their mean spectrum is {100 * own:.1f} % from the relit one in "
        f"shape, and {100 * left:.1f} % from what it was.",
        trusted(found),
    ]


def trusted(found: Live) -> str:
    """How far `relit` is to be trusted, in a sentence for the one who uses it; empty where it was not checked."""
    if not found.checked:
        return ""
    nearer = sum(own < left for own, left in found.checked.values())
    return (
        f"Relighting is nearer to the simulator's shadow than leaving the spectrum as it was in {nearer} of "
        f"{len(found.checked)} sunny test scenes, and this one is the best of them: what other surfaces throw into a "
        "shadow is left out."
    )


@dataclass(frozen=True)
class LivePage:
    """What a notebook shows: `meta` in words and lists; `loaded` what comes when asked, with its numbers' width."""

    meta: Mapping[str, Any]
    loaded: Mapping[str, tuple[int, bytes]]
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        told = json.dumps(self.meta, ensure_ascii=False).replace("<", "\\u003c")
        shown = (
            f'<div class="hsi-explorer hsi-live" role="group" aria-label="{html.escape(self.alt, quote=True)}">'
            "<p>The network needs the built page, and a browser of 2023 or later with JavaScript.</p>"
            f'<script type="application/json">{told}</script></div>'
        )
        loaded = {name: [width, base64.b64encode(values).decode()] for name, (width, values) in self.loaded.items()}
        return {"text/html": shown, "text/plain": self.alt, MIME: loaded}  # else its repr, with all that is loaded


def live_page(found: Live, *, scene: str, classes: Classes, picture: NDArray[np.uint8], alt: str) -> LivePage:
    """A network to run in the page (`_static/live.js` of the book).

    Parameters
    ----------
    found : the network and the scene.
    scene : what it is, with which data.
    picture : (rows, columns, 3) the scene, whose upper left is shown.
    alt : description for those who cannot see it; must not be empty.

    Raises
    ------
    ValueError
        If `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("a network in the page needs a description (alt) for those who cannot see it")
    _, rows, columns = found.cube.shape
    meta = {
        "name": found.inputs.variant.name,
        "scene": scene,
        "classes": list(classes.names),
        "colours": colours(classes),
        "wavelengths": found.wavelengths.round(1).tolist(),
        "shape": list(found.cube.shape),
        "step": found.step,
        "sun": None if found.sun is None else found.sun.tolist(),
        "trusted": trusted(found),
        "picture": png(picture[:rows, :columns]),
    }
    share = np.where(np.isfinite(found.share), np.rint(np.nan_to_num(found.share) * SHARES), 255)
    loaded = {
        "network": (4, found.graph()),
        "cube": (2, np.rint(found.cube / found.step).astype("<u2").tobytes()),
        "share": (1, share.astype(np.uint8).tobytes()),
        "truth": (1, found.labels.tobytes()),
    }
    return LivePage(meta, loaded, alt)
