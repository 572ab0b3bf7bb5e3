"""The ground: where rays meet it, and what it is made of there."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.roads import Road
from hsiutils.simulate.surfaces import Float32, Noise, textured

_CRACKS: Final = Noise(seed=3)
_PUDDLES: Final = Noise(seed=4)


@dataclass(frozen=True)
class GroundHits:
    """Where rays (n,) meet the ground: parameter, strip of the road, road coordinates, and outward normal (3, n)."""

    t: Float32
    zone: NDArray[np.intp]
    u: Float32
    v: Float32
    normal: Float32


def meet_ground(road: Road, origin: Float32, direction: Float32) -> GroundHits:
    """Follow rays down to the carriageway, to a raised pavement, or to the face of a kerb between them.

    They start at `origin` (3, 1), above the ground; their direction (3, n) is downwards.
    """
    height = max(zone.height for zone in road.zones)
    low = _on_level(road, origin, direction, 0.0)
    if not height:
        return low
    high = _on_level(road, origin, direction, height)
    raised = np.array([zone.height > 0 for zone in road.zones])
    on_top = raised[high.zone]
    # Above the carriageway when passing kerb height, below the pavement at its own level: it ran into the kerb, whose
    # face looks square to the road, towards the side that the ray came from.
    on_face = ~on_top & raised[low.zone]
    t = np.where(on_top, high.t, np.where(on_face, (low.t + high.t) / 2, low.t))
    slope = road.curve.direction(low.u[on_face])
    square = np.stack([np.ones_like(slope), -slope, np.zeros_like(slope)]) / np.sqrt(1 + slope**2)
    normal = low.normal
    normal[:, on_face] = np.sign(high.v[on_face] - low.v[on_face]) * square
    zone, u, v = (np.where(on_top, a, b) for a, b in ((high.zone, low.zone), (high.u, low.u), (high.v, low.v)))
    return GroundHits(t, zone, u, v, normal)


def _on_level(road: Road, origin: Float32, direction: Float32, height: float) -> GroundHits:
    t = (np.float32(height) - origin[2]) / direction[2]
    u = origin[1] + t * direction[1]
    v = road.curve.across(origin[0] + t * direction[0], u)
    normal = np.zeros((3, t.size), dtype=np.float32)
    normal[2] = 1
    return GroundHits(t, road.zone(u, v), u, v, normal)


def _of_kind(road: Road, hits: GroundHits, *kinds: str) -> NDArray[np.bool_]:
    return np.asarray(np.array([zone.kind in kinds for zone in road.zones])[hits.zone])


def ground_slots(road: Road, hits: GroundHits) -> NDArray[np.int32]:
    """What lies or is painted on the ground at each hit, apart from puddles."""
    slot = np.array([zone.slot for zone in road.zones], dtype=np.int32)[hits.zone]
    asphalt = np.flatnonzero(_of_kind(road, hits, "asphalt"))
    u, v, surface = hits.u[asphalt], hits.v[asphalt], slot[asphalt]
    for start, end, left, right in road.patches:
        surface[(u > start) & (u < end) & (v > left) & (v < right)] = road.patch
    for mark in road.marks:
        surface[mark.covers(u, v)] = road.paint
    for place in road.lids:
        surface[(u - place[0]) ** 2 + (v - place[1]) ** 2 < 0.33**2] = road.lid
    slot[asphalt] = surface
    slot[hits.normal[2] == 0] = road.kerb
    return slot


def ground_texture(
    road: Road, table: Float32, slot: NDArray[np.int32], hits: GroundHits, spacing: Float32
) -> tuple[Float32, Float32]:
    """Brightness and mix of the ground: the materials' own texture, wheel tracks, cracks, and joints.

    The table is that of `hsiutils.simulate.surfaces.texture_table`; spacing (n,) is metres from ray to ray.
    """
    brightness, mix = textured(table[:, slot], (hits.u, hits.v), spacing, blotches_m=(2.3, 0.45))
    asphalt, paving = _of_kind(road, hits, "asphalt"), _of_kind(road, hits, "paving")
    brightness[asphalt] *= _driven(road, hits.u[asphalt], hits.v[asphalt], spacing[asphalt])
    # Dark joints of paving slabs 0.4 m wide.
    joint = (np.mod(hits.u[paving], 0.4) < 0.03) | (np.mod(hits.v[paving], 0.4) < 0.03)
    brightness[paving] *= (1 - 0.25 * joint * (spacing[paving] < 0.1)).astype(np.float32)
    return brightness, mix


def _driven(road: Road, u: Float32, v: Float32, spacing: Float32) -> Float32:
    """Tyres polish and darken two tracks in each lane; cracks run along the zero line of a noise."""
    lanes = np.array([v for v, _ in road.lanes], dtype=np.float32)
    beside = v - lanes[np.searchsorted((lanes[1:] + lanes[:-1]) / 2, v)]
    track = np.exp(-(((np.abs(beside) - 0.8) / 0.28) ** 2))  # 0.8 m: half of a car's track width
    crack = np.abs(_CRACKS.plane(u, v, 3.0)) * 3.0 / 6 < np.maximum(0.015, spacing / 2)
    faded = np.clip(0.03 / np.maximum(spacing, 1e-6), 0, 1)
    return np.asarray((1 - 0.09 * track) * (1 - 0.3 * faded * crack), dtype=np.float32)


def wetness(road: Road, hits: GroundHits, film: float, puddles: float) -> Float32:
    """Water on the ground, 0 dry .. 1 standing.

    `film` is the mean wetness of what does not stand under water, 0..1; `puddles` roughly the share of the sealed
    surface that does.
    """
    water = np.zeros(hits.u.shape, dtype=np.float32)
    if film <= 0:
        return water
    water += np.clip(film + 0.15 * _PUDDLES.plane(hits.u, hits.v, 2.0), 0, 0.9)
    sealed = _of_kind(road, hits, "asphalt", "bare") & (hits.normal[2] > 0)
    hollow = 0.9 * _PUDDLES.plane(hits.u, hits.v, 6.0) + 0.45 * _PUDDLES.plane(hits.u, hits.v, 1.2)
    # Roads are cambered: water gathers along the edges.
    gutter = np.min(np.abs(hits.v - road.edges[:, None]), axis=0) < 0.7
    water[sealed & (hollow + 0.5 * gutter > 2.6 - 12 * puddles)] = 1.0
    return water
