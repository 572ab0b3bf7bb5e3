"""From what every ray meets, and the light that falls on it, to the electrons that its filter lets through.

Light and reflectance are multiplied wavelength by wavelength, but only once for each part of a scene: every `Slot`
has a row of band integrals for each kind of light, and a ray merely adds them up with its own geometry. A sensor pixel
has one filter, so only that band is worked out for it, there and at the neighbours that the lens blurs into it.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from hsiutils.simulate.light import DISC_SR, GRID_NM, LAMPS, Illumination, lamp_radiance
from hsiutils.simulate.materials import WAVELENGTHS_NM, reflectance
from hsiutils.simulate.surfaces import Float32, Float64, Surfaces

WATER_INDEX, GLASS_INDEX = 1.33, 1.52
GLOSS: Final = {"glass": GLASS_INDEX, "car_paint": 1.5, "water": WATER_INDEX, **dict.fromkeys(LAMPS, GLASS_INDEX)}
"""Families with a smooth face, and its refractive index; everything else scatters like paper (Lambert)."""
_MOST = 0.98
"""No texture makes a surface reflect more than this."""
_SAMPLED = 20_000
"""Rays that are enough to know what stands around."""
_STRIP = 8
"""Tile rows that are worked out at a time."""


def fresnel(cosine: ArrayLike, index: float) -> Float64:
    """Reflectance of a smooth dielectric of a refractive index, seen from air, for unpolarised light.

    The cosine, 0..1, is that of the angle of incidence.
    """
    inside = np.clip(np.asarray(cosine, dtype=float), 0, 1)
    refracted = np.sqrt(index**2 - 1 + inside**2)
    across = (inside - refracted) / (inside + refracted)
    along = (index**2 * inside - refracted) / (index**2 * inside + refracted)
    return np.asarray((across**2 + along**2) / 2)


def pane(cosine: ArrayLike, index: float = GLASS_INDEX) -> Float64:
    """Reflectance of a clear pane: both faces, with all inner reflections, 2F / (1 + F)."""
    one = fresnel(cosine, index)
    return np.asarray(2 * one / (1 + one))


def wet(reflectance: ArrayLike, index: float = WATER_INDEX) -> Float64:
    """Reflectance of a rough surface under a film of water, without the reflection on the film.

    Light that the surface scatters is partly reflected back at the inner face of the film and has another chance of
    being absorbed (Angstrom 1925; Lekner and Dorf 1988): (1 - F)(1 - p) R / (1 - p R), with F the diffuse reflectance
    of the film from outside and p from inside.
    """
    dry = np.asarray(reflectance, dtype=float)
    squared = (np.arange(200) + 0.5) / 200  # of the cosine: all directions, weighted by it
    outside = float(fresnel(np.sqrt(squared), index).mean())
    inside = 1 - (1 - outside) / index**2
    return np.asarray((1 - outside) * (1 - inside) * dry / (1 - inside * dry))


@dataclass(frozen=True)
class Light:
    """Band integrals of the light of one scene, electrons per second.

    Surfaces have a radiance in four states (dry, dry blend, wet, wet blend), each under direct light at normal
    incidence, the whole sky, and the surroundings of a face in each of six directions, and at last a light of their
    own. Emitters are the parts of the sky, per unit of their shape, the sun's disc, and the mean surroundings.
    """

    surfaces: Float32  # (slots, bands, 4 * 8 + 1)
    emitters: Float32  # (bands, parts + 2)
    airlight: Float32  # (bands,) radiance of an endless column of air
    extinction: Float32  # (bands,) 1/m
    strongest: Float32  # (slots,) largest reflectance of slot and blend


def band_signal(
    surfaces: Surfaces,
    illumination: Illumination,
    weights: Float64,
    split: str,
    rays: tuple[int, int],
    spread: tuple[Float32, Float32],
) -> Float32:
    """Electrons per second (rows, columns) of every sensor pixel behind its own filter, after the lens.

    Parameters
    ----------
    surfaces : a whole number of tiles of the active area.
    weights : (bands, wavelengths) electrons per second for a radiance of 1 W m-2 nm-1 sr-1, on `GRID_NM`.
    split : whose materials to use: "train", "val" or "test".
    rays : (rows, columns) of rays in a tile.
    spread : point spread function down and across a tile: for each of its pixels the shares (pixels, rays + 2 reach)
        of the tile's rays, and of those as far as `reach` beyond it; see `Camera.point_spread`.
    """
    light = gather_light(surfaces, illumination, weights, split)
    mosaic, reach = (len(spread[0]), len(spread[1])), (spread[0].shape[1] - rays[0]) // 2
    size = surfaces.slot.shape
    tiles = size[0] // rays[0], size[1] // rays[1]
    signal = np.empty((tiles[0], mosaic[0], tiles[1], mosaic[1]), np.float32)
    for first in range(0, tiles[0], _STRIP):  # not all at once: 25 bands of all rays are many bytes
        last = min(first + _STRIP, tiles[0])
        # Beyond the edge of the image, its last rays repeat.
        seen = np.clip(np.arange(first * rays[0] - reach, last * rays[0] + reach), 0, size[0] - 1)
        radiance = ray_signal(surfaces.chosen(seen), illumination, light)
        image = _resampled(radiance, (last - first, tiles[1]), rays, spread)
        signal[first:last] = image.reshape(*image.shape[:2], *mosaic).swapaxes(1, 2)
    return signal.reshape(tiles[0] * mosaic[0], tiles[1] * mosaic[1])


def ray_signal(surfaces: Surfaces, illumination: Illumination, light: Light) -> Float32:
    """What every ray carries in every band, through the air in between: (rows, columns, bands) electrons per second."""
    coefficients = ray_coefficients(surfaces, illumination, light)
    flat, slot = coefficients.reshape(-1, coefficients.shape[-1]), surfaces.slot.ravel()
    result = np.empty((len(flat), len(light.airlight)), np.float32)
    # One slot after the other, since each has a table of its own.
    order = np.argsort(slot.astype(np.int16), kind="stable")
    for start, end in pairwise(np.flatnonzero(np.diff(slot[order], prepend=-9, append=-9))):
        run = order[start:end]
        result[run] = flat[run] @ np.concatenate([light.surfaces[slot[run[0]]], light.emitters], axis=1).T
    depth = np.where(slot < 0, 0, surfaces.depth_m.ravel()).astype(np.float32)
    clear = -depth[:, None] * light.extinction
    np.exp(clear, out=clear)
    result -= light.airlight
    result *= clear
    result += light.airlight
    return result.reshape(*surfaces.slot.shape, -1)


def _resampled(
    radiance: Float32, tiles: tuple[int, int], rays: tuple[int, int], spread: tuple[Float32, Float32]
) -> Float32:
    """(tile rows, tile columns, bands) of rays (rows, columns, bands) by the point spread of each band's own pixel."""
    reach = (spread[1].shape[1] - rays[1]) // 2
    padded = np.pad(radiance, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    down = np.repeat(spread[0], len(spread[1]), axis=0).T  # (rays, bands)
    across = np.tile(spread[1], (len(spread[0]), 1)).T
    rows = np.zeros((tiles[0], *padded.shape[1:]), np.float32)
    for ray, share in enumerate(down):
        rows += padded[ray : ray + tiles[0] * rays[0] : rays[0]][: tiles[0]] * share
    result = np.zeros((*tiles, padded.shape[2]), np.float32)
    for ray, share in enumerate(across):
        result += rows[:, ray : ray + tiles[1] * rays[1] : rays[1]][:, : tiles[1]] * share
    return result


def gather_light(surfaces: Surfaces, illumination: Illumination, weights: Float64, split: str) -> Light:
    """Integrate light times reflectance over every filter, for every slot of the scene."""
    # (slots, 2, 61) reflectance of each slot and of its blend; without a blend, twice its own.
    pairs = [
        [reflectance(material, slot.sample, split) for material in (slot.material, slot.blend or slot.material)]
        for slot in surfaces.slots
    ]
    spectra = np.array(pairs) if pairs else np.zeros((1, 2, len(WAVELENGTHS_NM)))
    surroundings = _surroundings(surfaces, illumination, spectra[:, 0])
    kinds = np.vstack([illumination.direct, illumination.diffuse, surroundings])
    # (61, wavelengths) weights that interpolate a reflectance from its 10 nm nodes onto the light's grid.
    hats = np.stack([np.interp(GRID_NM, WAVELENGTHS_NM, node) for node in np.eye(len(WAVELENGTHS_NM))])
    on_nodes = np.einsum("bw,lw,nw->lbn", weights, kinds, hats, optimize=True) / np.pi
    states = np.stack([spectra[:, 0], spectra[:, 1], wet(spectra[:, 0]), wet(spectra[:, 1])], axis=1)
    table = np.einsum("svn,lbn->sbvl", states, on_nodes, optimize=True)
    lamps = np.zeros((len(spectra), len(weights), 1))
    for index, slot in enumerate(surfaces.slots):
        if slot.material in LAMPS:
            lamps[index, :, 0] = weights @ lamp_radiance(slot.material, slot.sample)
    sky = illumination.sky
    emitters = np.vstack([sky.irradiance, illumination.direct / DISC_SR, surroundings.mean(axis=0) / np.pi])
    return Light(
        surfaces=np.concatenate([table.reshape(*table.shape[:2], -1), lamps], axis=2).astype(np.float32),
        emitters=np.asarray(weights @ emitters.T, np.float32),
        airlight=np.asarray(weights @ (sky.horizon @ sky.irradiance), np.float32),
        extinction=np.asarray((weights @ illumination.extinction) / weights.sum(axis=1), np.float32),
        strongest=np.asarray(spectra.max(axis=(1, 2)), np.float32),
    )


def _surroundings(surfaces: Surfaces, illumination: Illumination, spectra: Float64) -> Float64:
    """(6, wavelengths) radiant exitance of what stands around faces that look along x, y, z, -x, -y, -z: W m-2 nm-1.

    The part of a face's hemisphere that is not sky is filled with the surfaces that the camera sees, each by how much
    it looks towards the face: all of one opposite, half of one at right angles, nothing of one that looks the same way.
    They are lit by the sun and the sky that they see, and by their own surroundings, up to the third reflection.
    """
    solid = np.flatnonzero(surfaces.slot >= 0)
    if not solid.size:
        return np.zeros((6, GRID_NM.size))
    solid = solid[:: 1 + solid.size // _SAMPLED]
    slot, normal = surfaces.slot.ravel()[solid], surfaces.normal.reshape(3, -1)[:, solid]
    sun, sky = (each.ravel()[solid] for each in (surfaces.sun_visible, surfaces.sky_view))
    facing = np.maximum(illumination.sun @ normal, 0) * sun
    received = np.vstack([facing, sky, (1 - sky) * _sides(normal)])  # (8, n) of direct, diffuse and surroundings
    seen = (1 - np.vstack([normal, -normal])) / 2 + 1e-3  # (6, n) by a face along each axis
    order = np.argsort(slot, kind="stable")
    runs = [order[slice(*pair)] for pair in pairwise(np.flatnonzero(np.diff(slot[order], prepend=-9, append=-9)))]
    share = np.stack([seen[:, run] @ received[:, run].T for run in runs]) / seen.sum(axis=1)[:, None]  # (slots, 6, 8)
    own = np.stack([np.interp(GRID_NM, WAVELENGTHS_NM, spectra[slot[run[0]]]) for run in runs])
    around = np.zeros((6, GRID_NM.size))
    for _ in range(3):
        light = np.vstack([illumination.direct, illumination.diffuse, around])
        around = np.einsum("saw,sw->aw", share @ light, own)
    return around


def _sides(normal: Float32) -> Float32:
    """Weights (6, ...) of the directions x, y, z, -x, -y and -z for unit normals (3, ...): squares, which sum to 1."""
    return np.concatenate([np.maximum(normal, 0), np.maximum(-normal, 0)]) ** 2


def ray_coefficients(surfaces: Surfaces, illumination: Illumination, light: Light) -> Float32:
    """How much of each column of `Light` every ray sees: (rows, columns, 4 * 8 + 1 + parts + 2).

    A smooth face (glass, coats, water) reflects its Fresnel share like a mirror and lets the rest through to the body.
    The body's columns are the state of the surface (wet or dry, blend or not) times the light that it gets.
    """
    facing = np.einsum("i,i...->...", illumination.sun.astype(np.float32), surfaces.normal)
    beam, hidden = np.maximum(facing, 0) * surfaces.sun_visible, 1 - surfaces.sky_view
    lit = np.concatenate([beam[None], surfaces.sky_view[None], hidden * _sides(surfaces.normal)])
    # Pores fill first, so half of standing water already covers all of a surface with a film that darkens it.
    wetness = np.minimum(2 * surfaces.water, 1)
    brightest = light.strongest[surfaces.slot]
    texture = np.minimum(surfaces.brightness, _MOST / np.maximum(brightest, 1e-6))
    own, blend = (1 - surfaces.mix) * texture, surfaces.mix * texture
    state = np.stack([(1 - wetness) * own, (1 - wetness) * blend, wetness * own, wetness * blend])
    body = (state[:, None] * lit[None]).reshape(-1, *surfaces.slot.shape)  # (4, 8, ...) -> (32, ...)
    share = _mirror_share(surfaces)
    emitters = _emitters(surfaces, illumination, share)
    count = len(body)
    result = np.empty((*surfaces.slot.shape, count + 1 + len(emitters)), np.float32)
    np.multiply(np.moveaxis(body, 0, -1), ((1 - share) * (surfaces.slot >= 0))[..., None], out=result[..., :count])
    result[..., count] = surfaces.slot >= 0
    result[..., count + 1 :] = np.moveaxis(emitters, 0, -1)
    return result


def _mirror_share(surfaces: Surfaces) -> Float32:
    """Share of light that each ray's surface reflects like a mirror: Fresnel, for smooth faces and standing water."""
    index = np.array([GLOSS.get(slot.material, 0.0) for slot in surfaces.slots] + [0.0])[surfaces.slot]
    cosine = np.maximum(-np.sum(surfaces.direction * surfaces.normal, axis=0), 0)
    share = np.zeros(surfaces.slot.shape, np.float32)
    for value in np.unique(index[index > 0]):
        here = index == value
        law = pane if value == GLASS_INDEX else fresnel
        # Dirt (the blend) is matt.
        share[here] = law(cosine[here], float(value)) * (1 - surfaces.mix[here])
    pooled = (surfaces.water > 0) & (surfaces.slot >= 0)
    share[pooled] = np.maximum(share[pooled], fresnel(cosine[pooled], WATER_INDEX) * surfaces.water[pooled])
    return share


def _emitters(surfaces: Surfaces, illumination: Illumination, share: Float32) -> Float32:
    """(parts + 2, rows, columns): the sky itself, and what smooth faces mirror of sky, sun and surroundings.

    There is no second ray: a mirror sees the sky where it looks upwards, as far as the point's sky view goes, and
    the mean surroundings otherwise.
    """
    parts = len(illumination.sky.patterns)
    result = np.zeros((parts + 2, *surfaces.slot.shape), np.float32)
    above = surfaces.slot < 0
    outward = surfaces.direction[:, above].astype(float)
    result[:parts, above] = illumination.sky.shape(outward)
    result[parts, above] = illumination.sky.on_disc(outward)
    shiny = share > 0
    incoming, normal = (one[:, shiny].astype(float) for one in (surfaces.direction, surfaces.normal))
    reflected = incoming - 2 * np.sum(incoming * normal, axis=0) * normal
    open_sky = np.where(reflected[2] > 0, surfaces.sky_view[shiny], 0)
    result[:parts, shiny] = share[shiny] * open_sky * illumination.sky.shape(reflected)
    result[parts, shiny] = share[shiny] * surfaces.sun_visible[shiny] * illumination.sky.glint(reflected)
    result[parts + 1, shiny] = share[shiny] * (1 - open_sky)
    return result
