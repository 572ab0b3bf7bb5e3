"""From what every ray meets, and the light that falls on it, to the electrons that its filter lets through.

Light and reflectance are multiplied wavelength by wavelength, but only once for each part of a scene: every `Slot`
has a row of band integrals for each kind of light, and a ray merely adds them up with its own geometry. A sensor pixel
has one filter, so only that band is worked out for it, there and at the neighbours that the lens blurs into it.

Small laws of light at surfaces: Fresnel reflection, mirrors, wet surfaces.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hsiutils.simulate.light import DISC_SR, GRID_NM, Illumination
from hsiutils.simulate.materials import reflectance
from hsiutils.simulate.pigments import WAVELENGTHS_NM
from hsiutils.simulate.surfaces import Surfaces

WATER_INDEX = 1.33
GLASS_INDEX = 1.52


def fresnel(cosine: ArrayLike, index: float) -> NDArray[np.float64]:
    """Reflectance of a smooth dielectric for unpolarised light.

    Parameters
    ----------
    cosine : of the angle of incidence, 0..1.
    index : refractive index of the medium, seen from air.
    """
    inside = np.clip(np.asarray(cosine, dtype=float), 0, 1)
    refracted = np.sqrt(index**2 - 1 + inside**2)
    across = (inside - refracted) / (inside + refracted)
    along = (index**2 * inside - refracted) / (index**2 * inside + refracted)
    return np.asarray((across**2 + along**2) / 2)


def pane(cosine: ArrayLike, index: float = GLASS_INDEX) -> NDArray[np.float64]:
    """Reflectance of a clear pane: both faces, with all inner reflections, 2F / (1 + F)."""
    one = fresnel(cosine, index)
    return np.asarray(2 * one / (1 + one))


def mirror(direction: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Direction (3, ...) that a mirror with this normal sends a ray to."""
    return np.asarray(direction - 2 * np.sum(direction * normal, axis=0) * normal)


def wet(reflectance: ArrayLike, index: float = WATER_INDEX) -> NDArray[np.float64]:
    """Reflectance of a rough surface under a film of water, without the reflection on the film.

    Light that the surface scatters is partly reflected back at the inner face of the film and has another chance of
    being absorbed (Angstrom 1925; Lekner and Dorf 1988): (1 - F)(1 - p) R / (1 - p R), with F the diffuse reflectance
    of the film from outside and p from inside.
    """
    dry = np.asarray(reflectance, dtype=float)
    outside = _diffuse_fresnel(index)
    inside = 1 - (1 - outside) / index**2
    return np.asarray((1 - outside) * (1 - inside) * dry / (1 - inside * dry))


def _diffuse_fresnel(index: float, nodes: int = 200) -> float:
    """Fresnel reflectance for light from all directions, cosine weighted."""
    squared = (np.arange(nodes) + 0.5) / nodes
    return float(fresnel(np.sqrt(squared), index).mean())


Array = NDArray[np.float64]
Image = NDArray[np.float32]
GLOSS: Final = {"glass": GLASS_INDEX, "car_paint": 1.5, "water": WATER_INDEX}
"""Families with a smooth face, and its refractive index; everything else scatters like paper (Lambert)."""
_MOST = 0.98
"""No texture makes a surface reflect more than this."""


@dataclass(frozen=True)
class Light:
    """Band integrals of the light of one scene, electrons per second.

    Attributes
    ----------
    surfaces : (slots, bands, 12) radiance of each slot; columns are the four states dry, dry blend, wet, wet blend,
        each under direct light at normal incidence, the whole sky, and the surroundings.
    emitters : (bands, parts + 2) radiance of each part of the sky per unit of its shape, of the sun's disc, and of the
        surroundings.
    airlight : (bands,) radiance of an endless column of air.
    extinction : (bands,) 1/m.
    strongest : (slots, 2) largest reflectance of slot and blend.
    """

    surfaces: Image
    emitters: Image
    airlight: Image
    extinction: Image
    strongest: Array


def band_signal(
    surfaces: Surfaces,
    illumination: Illumination,
    weights: Array,
    split: str,
    mosaic: tuple[int, int],
    blur: Array,
) -> Image:
    """Signal of every sensor pixel behind its own filter, after the lens.

    Parameters
    ----------
    surfaces : one ray a sensor pixel of the active area.
    weights : (bands, wavelengths) electrons per second for a radiance of 1 W m-2 nm-1 sr-1, on `GRID_NM`.
    split : whose materials to use: "train", "val" or "test".
    mosaic : (rows, columns) of a tile.
    blur : (2 k + 1, 2 k + 1) point spread function in sensor pixels, sum 1.

    Returns
    -------
    (rows, columns) electrons per second.
    """
    light = gather_light(surfaces, illumination, weights, split)
    band = band_map(surfaces.slot.shape, mosaic)
    coefficients = ray_coefficients(surfaces, illumination, light)
    reach = blur.shape[0] // 2
    padded = np.pad(coefficients, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    slot = np.pad(surfaces.slot, reach, mode="edge")
    depth = np.pad(np.where(surfaces.slot < 0, 0, surfaces.depth_m).astype(np.float32), reach, mode="edge")
    rows, columns = band.shape
    total = np.zeros(band.shape, np.float32)
    for (down, right), share in np.ndenumerate(blur):
        view = (slice(down, down + rows), slice(right, right + columns))
        total += np.float32(share) * _seen(light, padded[view], slot[view], depth[view], band)
    return total


def _seen(light: Light, coefficients: Image, slot: NDArray[np.int32], depth: Image, band: NDArray[np.intp]) -> Image:
    """Radiance of each ray in one given band, through the air in between."""
    own = light.surfaces.shape[2]
    near = np.einsum("ijk,ijk->ij", coefficients[..., :own], light.surfaces[slot, band])
    near += np.einsum("ijk,ijk->ij", coefficients[..., own:], light.emitters[band])
    clear = np.exp(-depth * light.extinction[band])
    return np.asarray(clear * near + (1 - clear) * light.airlight[band])


def band_map(shape: tuple[int, ...], mosaic: tuple[int, int]) -> NDArray[np.intp]:
    """Band of every sensor pixel of the active area: (row % rows) * columns + column % columns of the mosaic."""
    rows, columns = np.arange(shape[0]) % mosaic[0], np.arange(shape[1]) % mosaic[1]
    return np.asarray(rows[:, None] * mosaic[1] + columns[None, :], dtype=np.intp)


def gather_light(surfaces: Surfaces, illumination: Illumination, weights: Array, split: str) -> Light:
    """Integrate light times reflectance over every filter, for every slot of the scene."""
    spectra = _slot_spectra(surfaces, split)
    surroundings = _surroundings(surfaces, illumination, spectra[:, 0])
    kinds = np.stack([illumination.direct, illumination.diffuse, surroundings])
    on_nodes = np.einsum("bw,lw,nw->lbn", weights, kinds, _hats(), optimize=True) / np.pi
    states = np.stack([spectra[:, 0], spectra[:, 1], wet(spectra[:, 0]), wet(spectra[:, 1])], axis=1)
    table = np.einsum("svn,lbn->sbvl", states, on_nodes, optimize=True)
    sky = illumination.sky
    emitters = np.vstack([sky.irradiance, illumination.direct / DISC_SR, surroundings / np.pi])
    return Light(
        surfaces=np.asarray(table.reshape(*table.shape[:2], -1), np.float32),
        emitters=np.asarray(weights @ emitters.T, np.float32),
        airlight=np.asarray(weights @ (sky.horizon @ sky.irradiance), np.float32),
        extinction=np.asarray((weights @ illumination.extinction) / weights.sum(axis=1), np.float32),
        strongest=spectra.max(axis=2),
    )


def _slot_spectra(surfaces: Surfaces, split: str) -> Array:
    """(slots, 2, 61) reflectance of each slot and of its blend; without a blend, twice its own."""
    own = [reflectance(slot.material, slot.sample, split) for slot in surfaces.slots]
    blend = [reflectance(slot.blend or slot.material, slot.sample, split) for slot in surfaces.slots]
    return np.stack([own, blend], axis=1) if own else np.zeros((1, 2, len(WAVELENGTHS_NM)))


def _hats() -> Array:
    """(61, wavelengths) weights that interpolate a reflectance from its 10 nm nodes onto `GRID_NM`."""
    return np.stack([np.interp(GRID_NM, WAVELENGTHS_NM, node) for node in np.eye(len(WAVELENGTHS_NM))])


def _surroundings(surfaces: Surfaces, illumination: Illumination, spectra: Array) -> Array:
    """Radiant exitance of what stands around: W m-2 nm-1.

    The part of a hemisphere that is not sky is filled with surfaces like those that the camera sees, lit like its
    ground: one bounce, with the mean reflectance and the mean share of sun and sky of this scene.
    """
    solid = surfaces.slot >= 0
    if not solid.any():
        return np.zeros_like(GRID_NM)
    count = np.bincount(surfaces.slot[solid], minlength=len(spectra))
    mean = np.interp(GRID_NM, WAVELENGTHS_NM, count @ spectra / count.sum())
    level = solid & (surfaces.normal[2] > 0.7)
    ground = level if level.any() else solid
    beam = illumination.direct * max(illumination.sun[2], 0.0) * float(surfaces.sun_visible[ground].mean())
    return np.asarray(mean * (beam + illumination.diffuse * float(surfaces.sky_view[ground].mean())))


def ray_coefficients(surfaces: Surfaces, illumination: Illumination, light: Light) -> Image:
    """How much of each column of `Light` every ray sees: (rows, columns, 12 + parts + 2).

    A smooth face (glass, coats, water) reflects its Fresnel share like a mirror and lets the rest through to the body.
    """
    solid = surfaces.slot >= 0
    share = _mirror_share(surfaces)
    body = _body(surfaces, illumination, light) * ((1 - share) * solid)
    columns = [*body, *_emitters(surfaces, illumination, share)]
    return np.ascontiguousarray(np.moveaxis(np.asarray(columns, np.float32), 0, -1))


def _body(surfaces: Surfaces, illumination: Illumination, light: Light) -> Array:
    """(12, rows, columns): state of the surface (wet or dry, blend or not) times the light that it gets."""
    facing = np.einsum("i,i...->...", illumination.sun, surfaces.normal)
    lit = np.stack([np.maximum(facing, 0) * surfaces.sun_visible, surfaces.sky_view, 1 - surfaces.sky_view])
    wetness = film(surfaces.water)
    dry = 1 - wetness
    brightest = light.strongest[surfaces.slot].max(axis=-1)
    texture = np.minimum(surfaces.brightness, _MOST / np.maximum(brightest, 1e-6))
    own, blend = (1 - surfaces.mix) * texture, surfaces.mix * texture
    state = np.stack([dry * own, dry * blend, wetness * own, wetness * blend])
    return np.asarray((state[:, None] * lit[None]).reshape(12, *surfaces.slot.shape))


def film(water: Image) -> Array:
    """Share of a surface that a film covers: pores fill first, so half of standing water already darkens it all."""
    return np.asarray(np.minimum(2 * water.astype(float), 1))


def _mirror_share(surfaces: Surfaces) -> Array:
    """Share of light that each ray's surface reflects like a mirror: Fresnel, for smooth faces and standing water."""
    index = np.array([GLOSS.get(slot.material, 0.0) for slot in surfaces.slots] + [0.0])[surfaces.slot]
    cosine = np.maximum(-np.sum(surfaces.direction * surfaces.normal, axis=0), 0)
    share = np.zeros(surfaces.slot.shape)
    for value in np.unique(index[index > 0]):
        here = index == value
        law = pane if value == GLASS_INDEX else fresnel
        # Dirt (the blend) is matt.
        share[here] = law(cosine[here], float(value)) * (1 - surfaces.mix[here])
    pooled = (surfaces.water > 0) & (surfaces.slot >= 0)
    share[pooled] = np.maximum(share[pooled], fresnel(cosine[pooled], WATER_INDEX) * surfaces.water[pooled])
    return share


def _emitters(surfaces: Surfaces, illumination: Illumination, share: Array) -> Array:
    """(parts + 2, rows, columns): the sky itself, and what smooth faces mirror of sky, sun and surroundings.

    There is no second ray: a mirror sees the sky where it looks upwards, as far as the point's sky view goes, and
    the mean surroundings otherwise.
    """
    parts = len(illumination.sky.patterns)
    result = np.zeros((parts + 2, *surfaces.slot.shape))
    above = surfaces.slot < 0
    outward = surfaces.direction[:, above].astype(float)
    result[:parts, above] = illumination.sky.shape(outward)
    result[parts, above] = illumination.sky.on_disc(outward)
    shiny = share > 0
    reflected = mirror(surfaces.direction[:, shiny].astype(float), surfaces.normal[:, shiny].astype(float))
    open_sky = np.where(reflected[2] > 0, surfaces.sky_view[shiny], 0)
    result[:parts, shiny] = share[shiny] * open_sky * illumination.sky.shape(reflected)
    result[parts, shiny] = share[shiny] * surfaces.sun_visible[shiny] * illumination.sky.on_disc(reflected)
    result[parts + 1, shiny] = share[shiny] * (1 - open_sky)
    return result
