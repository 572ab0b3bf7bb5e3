"""Ground truth for attributions: a street is rendered again with one material, or the light of one band, changed.

Only the simulator can do this. The change of the network's input is then physical (the lens blurs it, the surroundings
and the glare of the lens carry some of it further), and its effect on every logit is simply measured. What a method's
map foretells of it is `hsiutils.attribution.effects`. Streets are taken by a camera without noise, at the exposure of
the unchanged street: else noise and exposure meter would change every pixel.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter
from torch import Tensor

from hsiutils.analysis.activations import spaced
from hsiutils.attribution.effects import effects, everywhere, foretells, judged, nulls
from hsiutils.attribution.leaderboard import FLIPPED, cost, largest_region, leakage, robustness
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.result import Attribution
from hsiutils.data import raw
from hsiutils.data.names import split_of
from hsiutils.paper.study import Subject, study
from hsiutils.simulate.camera import Exposure, expose, meter, tile_mean
from hsiutils.simulate.draws import generator
from hsiutils.simulate.frame import Simulation, lay_out, references
from hsiutils.simulate.light import Illumination
from hsiutils.simulate.radiance import band_signal
from hsiutils.simulate.surfaces import Float64, Slot, Surfaces

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

SCENES, DISTURBED = 20, 5
"""Test scenes that are rendered again, at most; and of which, one in so many, that are disturbed for `robustness`."""
ASKED = 3
"""Scenes are asked in turn about the class with the most pixels, the second, the third."""
LEAST = 0.005
"""Share of the image that a material must have to be swapped."""
DIMMED = 0.2
"""Share of a band's light that is taken away."""
NODES, SAMPLES, PATCH = 8, 8, 32
"""Of Integrated Gradients, SmoothGrad, and occlusion: few, and large, so that many scenes can be asked."""
MATERIAL, LIGHT = "material", "light"
DISTURBANCES: Final = ("noise", "brightness", "blur", FLIPPED)
_WALLS: Final = ("plaster", "brick", "concrete", "tile", "shingle")


@dataclass(frozen=True)
class Swap:
    """One region's material, which may be of several families, becomes another; texture, dirt and shape stay.

    `shift` is added to the number of each physical sample: of the same family, another paint.
    """

    name: str
    of: tuple[str, ...]
    to: str
    shift: int = 7

    def __call__(self, slot: Slot) -> Slot:
        """The slot after the swap."""
        return replace(slot, material=self.to, sample=slot.sample + self.shift) if slot.material in self.of else slot


_ROAD: Final = ("asphalt", "asphalt_patch", "parking")
_CROWNS: Final = ("leaves", "conifer")
SWAPS: Final = (
    Swap("road to concrete", _ROAD, "concrete"),
    Swap("road to gravel", _ROAD, "gravel"),
    Swap("marks to asphalt", ("street_paint",), "asphalt"),
    Swap("cars to other paint", ("car_paint",), "car_paint"),
    Swap("crowns to other leaves", _CROWNS, "leaves"),
    Swap("crowns to litter", _CROWNS, "litter"),
    Swap("grass to dry grass", ("grass",), "dry_grass"),
    Swap("grass to soil", ("grass",), "soil"),
    Swap("walls to leaves", _WALLS, "leaves"),
)


@dataclass(frozen=True, eq=False)
class Street:
    """A simulated scene that can be taken again with something changed.

    Attributes
    ----------
    name : of the scene.
    simulation : its settings, without noise.
    surfaces, light : what the rays meet, and the light on it.
    rate : (rows, columns) electrons per second of the active area.
    time_s : exposure time that the meter asks for; every picture is taken with it.
    """

    name: str
    simulation: Simulation
    surfaces: Surfaces
    light: Illumination
    rate: Float64
    time_s: float

    @classmethod
    def of(cls, name: str, simulation: Simulation) -> "Street":
        """Lay out the scene of this name; a ValueError if HSI-Drive v2.0 has none of that name."""
        quiet = replace(simulation, noise=False)
        surfaces, light, _ = lay_out(name, quiet)
        rate = _arriving(name, surfaces, light, quiet)
        return cls(name, quiet, surfaces, light, rate, meter(rate, quiet.camera))

    def cube(self, rate: Float64 | None = None) -> xr.DataArray:
        """The cube (band, y, x) of the street, or of other electrons per second."""
        settings, (white, dark) = self.simulation, _references(self.simulation)
        electrons = self.rate if rate is None else rate
        shot = expose(electrons, self.time_s, settings.camera, generator(settings.seed, self.name, "noise"))
        ratio = white.time_s / self.time_s if settings.compensate_exposure else 1.0
        return raw.reflectance_cube(
            shot.frame, settings.sensor, white.frame, dark.frame, ratio, settings.displaced, source="simulated"
        )

    def repainted(self, swap: Swap) -> Float64:
        """Electrons per second with a material swapped."""
        surfaces = replace(self.surfaces, slots=tuple(map(swap, self.surfaces.slots)))
        return _arriving(self.name, surfaces, self.light, self.simulation)

    def dimmed(self, band: int, share: float = DIMMED) -> Float64:
        """Electrons per second when the light of one band loses a share, be it sun, sky or lamp."""
        sensor = self.simulation.sensor
        left = np.ones(len(sensor.bands))
        left[band] -= share
        return np.asarray(self.rate * np.tile(left.reshape(sensor.mosaic), sensor.tiles))

    def covered(self, swap: Swap) -> float:
        """Share of the image that has the material of a swap."""
        own = np.array([slot.material in swap.of for slot in self.surfaces.slots] + [False])
        return float(tile_mean(own[self.surfaces.slot], self.simulation.rays).mean())


@cache
def _references(simulation: Simulation) -> tuple[Exposure, Exposure]:
    return references(simulation)


def _arriving(name: str, surfaces: Surfaces, light: Illumination, simulation: Simulation) -> Float64:
    camera, split = simulation.camera, split_of(name)
    spread = camera.point_spread(simulation.rays)
    signal = band_signal(surfaces, light, camera.weights, split, simulation.rays, spread)
    return np.asarray(camera.veiled(signal) * camera.vignetting)


def changes(street: Street) -> tuple[list[str], list[str], list[xr.DataArray | None]]:
    """Names, kinds and cubes of all changes of a street; None for a material that it hardly has."""
    swapped = [street.cube(street.repainted(swap)) if street.covered(swap) >= LEAST else None for swap in SWAPS]
    bands = range(len(street.simulation.sensor.bands))
    dimmed = [street.cube(street.dimmed(band)) for band in bands]
    names = [*(swap.name for swap in SWAPS), *(f"band {band}" for band in bands)]
    return names, [MATERIAL] * len(SWAPS) + [LIGHT] * len(dimmed), [*swapped, *dimmed]


def disturbed(cube: xr.DataArray, seed: int) -> dict[str, xr.DataArray]:
    """What should leave a map as it is: noise of 2 % of a band's mean, 20 % more light, blur, and mirroring."""
    values = cube.values
    noise = np.random.default_rng(seed).normal(0, 0.02, values.shape) * np.nanmean(values, (1, 2), keepdims=True)
    made = (values + noise, 1.2 * values, gaussian_filter(values, (0, 0.7, 0.7)), values[:, :, ::-1])
    return {name: cube.copy(data=one.astype(values.dtype)) for name, one in zip(DISTURBANCES, made, strict=True)}


def methods() -> dict[str, Callable[..., Attribution]]:
    """Every method with the settings of this study."""
    own: dict[str, dict[str, Any]] = {
        "Integrated Gradients": {"nodes": NODES},
        "SmoothGrad": {"samples": SAMPLES},
        "occlusion": {"patch": PATCH},
    }
    same = "SegGradCAM"  # GradCAM, of a region
    return {name: partial(method, **own.get(name, {})) for name, method in METHODS.items() if name != same}


def answers(run: "Run", variant: str, seed: int) -> xr.Dataset:
    """What every method foretells of the changes of many streets, and what else the leaderboard asks.

    Each scene is asked about the mean logit of one class over its region, see `ASKED`.

    Returns
    -------
    Dataset over scene, method, kind (of change), change and disturbance: `rank`, `size`, `error`, `effect` of
    `hsiutils.attribution.effects.judged`; `leakage`; `robustness`, on every fifth scene and of methods that take few
    passes; `forwards` and `memory`, the `cost` of one map, counted on the last scene; `logit_error` and `logit_effect`
    of `everywhere`, for all classes and pixels.

    Raises
    ------
    ValueError
        If the scenes are real, and cannot be rendered again.
    """
    run.require_simulated("rendered again with another material")
    scenes = spaced(run.data.names("test"), SCENES)
    return study(run, "physics", _answered, (variant, seed), scenes, simulation=run.simulation)


def _answered(subject: Subject, simulation: Simulation) -> xr.Dataset:
    parts = [_of_street(subject, Street.of(name, simulation), number) for number, name in enumerate(subject.names)]
    model, last = subject.model, subject.scenes[len(subject.names) - 1][0]
    target = largest_region(model, last)
    paid = [cost(model, last, partial(own, model, last, target)) for own in methods().values()]
    counted = xr.Dataset(
        {name: ("method", values) for name, values in zip(("forwards", "memory"), np.transpose(paid), strict=True)},
        {"method": list(methods())},
    )
    found = xr.concat(parts, xr.Variable("scene", subject.names))
    return found.merge(counted.reindex_like(found["method"]))


def _of_street(subject: Subject, street: Street, number: int) -> xr.Dataset:
    """The answers for one scene, by its place among all."""
    model, (draw,) = subject.model, np.random.SeedSequence([subject.seed, number]).generate_state(1)
    x, other = _input(subject, street.cube()), subject.scenes[(number - 1) % len(subject.names)][0]
    names, kinds, cubes = changes(street)
    there = [place for place, cube in enumerate(cubes) if cube is not None]
    others = torch.stack([_input(subject, cube) for cube in cubes if cube is not None])
    target = largest_region(model, x, number % ASKED)
    true = np.full((1, len(names)), np.nan)
    true[:, there] = effects(model, x, others, [target])
    disturb = disturbed(street.cube(), int(draw)) if number % DISTURBED == 0 else {}
    images = {name: _input(subject, cube) for name, cube in disturb.items()}
    said, leaks, robust = {}, [], np.full((0, len(DISTURBANCES)), np.nan)
    for name, method in {**methods(), **nulls(other, int(draw))}.items():
        found = method(model, x, target)
        said[name] = np.full_like(true, np.nan)
        said[name][:, there] = foretells(model, x, others, found)
        leaks.append(leakage(model, x, target, found))
        few = name not in METHODS or METHODS[name].passes != "input"
        row = robustness(model, x, target, method, images) if few else {}
        robust = np.vstack([robust, [row.get(one, np.nan) for one in DISTURBANCES]])
    more = {"leakage": ("method", leaks), "robustness": (("method", "disturbance"), robust)}
    scores = judged(said, true, kinds).merge(xr.Dataset(more, {"disturbance": list(DISTURBANCES)}))
    whole = everywhere(model, x, others).assign_coords(change=[names[place] for place in there])
    return scores.merge(whole.reindex(change=names).assign_coords(of=("change", kinds)))


def _input(subject: Subject, cube: xr.DataArray) -> Tensor:
    return torch.from_numpy(subject.scenes.inputs.apply(cube).values)
