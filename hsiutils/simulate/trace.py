"""Following the rays of a camera through a scene.

A whole scene as the rays through the lens meet it: the front door of the simulator's geometry.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.classes import SKY
from hsiutils.data.names import Conditions
from hsiutils.simulate.builder import GROUND_ID, Part
from hsiutils.simulate.compose import HORIZON_ID, Scene, compose
from hsiutils.simulate.geometry import Faces
from hsiutils.simulate.ground import ground_slots, ground_texture, meet_ground, wetness
from hsiutils.simulate.raster import Hits, rasterise, sun_visible
from hsiutils.simulate.sky_view import Openness
from hsiutils.simulate.surfaces import Surfaces
from hsiutils.simulate.textures import Field, on_solids, texture_table

Index = NDArray[np.intp]
_HILLSIDE_SKY: Final = 0.8
"""Share of the sky in front of a wooded hillside that its own trees leave free."""


@dataclass
class _Rays:
    """All rays of a view, flat, and what they have met so far; a ray that meets nothing is left as sky.

    Attributes
    ----------
    origin : (3, 1) of the lens. direction : (3, n), not normalised.
    length : (n,) of the directions. spacing : distance between neighbouring rays at t = 1, metres.
    """

    origin: Field
    direction: Field
    spacing: float
    length: Field = field(init=False)
    slot: NDArray[np.int32] = field(init=False)
    object_id: NDArray[np.int32] = field(init=False)
    t: Field = field(init=False)
    normal: Field = field(init=False)
    sun: Field = field(init=False)
    sky: Field = field(init=False)
    brightness: Field = field(init=False)
    mix: Field = field(init=False)
    water: Field = field(init=False)

    def __post_init__(self) -> None:
        count = self.direction.shape[1]
        self.length = np.sqrt(np.einsum("ij,ij->j", self.direction, self.direction))
        self.slot, self.object_id = np.full(count, -1, dtype=np.int32), np.zeros(count, dtype=np.int32)
        self.t, self.brightness = np.full(count, np.inf, dtype=np.float32), np.ones(count, dtype=np.float32)
        self.normal = np.zeros((3, count), dtype=np.float32)
        self.sun, self.sky = np.ones(count, dtype=np.float32), np.ones(count, dtype=np.float32)
        self.mix, self.water = np.zeros(count, dtype=np.float32), np.zeros(count, dtype=np.float32)

    def points(self, index: Index) -> Field:
        """World points (3, n) that chosen rays meet."""
        return np.asarray(self.origin + self.t[index] * self.direction[:, index])

    def spread(self, index: Index) -> Field:
        """Distance between neighbouring rays where chosen ones end, metres."""
        return np.asarray(self.t[index] * np.float32(self.spacing))


def look(scene: Scene, shape: tuple[int, int], sun: NDArray[np.float64], direct_light: bool) -> Surfaces:
    """Follow the rays of the scene's camera; parameters and result as in `scene.build_surfaces`."""
    camera, parts = scene.camera(shape), scene.stage.parts
    rows, columns = (index.ravel() for index in np.indices(shape))
    rays = _Rays(camera.position.astype(np.float32)[:, None], camera.direction.at(rows, columns), 1 / camera.focal)
    table, openness = texture_table(scene.stage.slots), Openness.of(parts)
    hits = rasterise(camera, parts)
    on_ground = _follow_to_ground(scene, rays, hits.t.ravel(), table)
    rays.sky[on_ground] = openness.on_ground(rays.points(on_ground))
    on_solids, leaves = _follow_to_solids(scene, rays, hits, table, openness)
    _follow_to_horizon(scene, rays)
    met = np.concatenate([on_ground, on_solids])
    if direct_light:
        rays.sun[met] = sun_visible(parts, sun, rays.points(met), rays.normal[:, met], rays.t[met])
        facing = sun.astype(np.float32) @ rays.normal[:, on_solids] > 0
        # A convex body hides the sun from the faces turned away; leaves let some through.
        rays.sun[on_solids[~facing & ~leaves]] = 0
    else:
        rays.sun[:] = 0
    return _as_surfaces(scene, rays, shape)


def _follow_to_ground(scene: Scene, rays: _Rays, nearest: Field, table: NDArray[np.float32]) -> Index:
    """Settle the rays that meet the ground before any solid and this side of the horizon; return which."""
    road = scene.corridor.road
    index = np.flatnonzero(rays.direction[2] < -1e-4)
    reach = rays.origin[2] / -rays.direction[2, index]
    index = index[reach * np.hypot(*rays.direction[:2, index]) < scene.horizon.distance_m]
    hits = meet_ground(road, rays.origin, rays.direction[:, index])
    first = hits.t < nearest[index]
    index, hits = index[first], hits.chosen(first)
    slot = ground_slots(road, hits)
    rays.t[index], rays.normal[:, index] = hits.t, hits.normal
    rays.brightness[index], rays.mix[index] = ground_texture(road, table, slot, hits, rays.spread(index))
    water = wetness(road, hits, scene.film, scene.puddles)
    slot[water == 1] = road.puddle
    rays.slot[index], rays.water[index], rays.object_id[index] = slot, water, GROUND_ID
    return np.asarray(index)


def _follow_to_solids(
    scene: Scene, rays: _Rays, hits: Hits, table: NDArray[np.float32], openness: Openness
) -> tuple[Index, NDArray[np.bool_]]:
    """Settle the rays that meet a solid first; return which, and whether they met leaves."""
    index = np.flatnonzero((hits.part.ravel() >= 0) & (rays.object_id == 0))
    # One part after the other: each knows its normals and finish.
    index = index[np.argsort(hits.part.ravel()[index], kind="stable")]
    part, face = hits.part.ravel()[index], hits.face.ravel()[index]
    rays.t[index] = hits.t.ravel()[index]
    points = rays.points(index)
    slot, normal, leaves = np.empty_like(part), np.empty_like(points), np.empty(part.shape, dtype=bool)
    for start, end in pairwise(np.flatnonzero(np.diff(part, prepend=-1, append=-1))):
        one = scene.stage.parts[part[start]]
        run = slice(start, end)
        slot[run], normal[:, run] = _surface_of(one, points[:, run], face[run])
        rays.object_id[index[run]], leaves[run] = one.object_id, one.porosity > 0
    rays.slot[index], rays.normal[:, index] = slot, normal
    rays.brightness[index], rays.mix[index] = on_solids(table, slot, points, normal, rays.spread(index))
    rays.sky[index[~leaves]] = openness.on_surfaces(points[:, ~leaves], normal[:, ~leaves])
    rays.sky[index[leaves]] = openness.in_crowns(points[:, leaves], normal[:, leaves])
    # What rain falls on gets wet; walls and undersides mostly do not.
    rays.water[index] = np.clip(scene.film * normal[2], 0, 1)
    return index, np.asarray(leaves)


def _surface_of(part: Part, points: Field, face: Faces) -> tuple[NDArray[np.int32], Field]:
    slot = np.array(part.slots, dtype=np.int32)[face]
    if part.finish is not None:
        slot = part.finish.slots(part.solid, points, face, slot)
    return np.asarray(slot), part.solid.normals(points, face)


def _follow_to_horizon(scene: Scene, rays: _Rays) -> None:
    """Settle the rays that end at the hills around; the rest go to the sky."""
    index = np.flatnonzero(rays.object_id == 0)
    direction = rays.direction[:, index]
    t, slot = scene.horizon.meet(rays.origin, direction)
    met = np.isfinite(t)
    index, t, direction = index[met], t[met], direction[:, met]
    rays.t[index], rays.slot[index], rays.object_id[index] = t, slot[met], HORIZON_ID
    # A hillside leans back by 45 degrees: half up, half towards the camera.
    level = np.hypot(direction[0], direction[1])
    slope = np.stack([-direction[0] / level, -direction[1] / level, np.ones_like(level)]) / np.float32(np.sqrt(2))
    rays.normal[:, index] = slope
    rays.sky[index] = _HILLSIDE_SKY * (1 + slope[2]) / 2
    rays.brightness[index] = scene.horizon.brightness(rays.points(index))
    rays.water[index] = scene.film * slope[2]


def _as_surfaces(scene: Scene, rays: _Rays, shape: tuple[int, int]) -> Surfaces:
    labels = np.array([*scene.stage.labels, SKY], dtype=np.uint8)
    return Surfaces(
        slots=tuple(scene.stage.slots),
        slot=rays.slot.reshape(shape),
        label=labels[rays.slot].reshape(shape),
        object_id=rays.object_id.reshape(shape),
        depth_m=(rays.t * rays.length).reshape(shape),
        direction=(rays.direction / rays.length).reshape(3, *shape),
        normal=rays.normal.reshape(3, *shape),
        sun_visible=rays.sun.reshape(shape),
        sky_view=np.clip(rays.sky, 0, 1).reshape(shape),
        brightness=rays.brightness.reshape(shape),
        mix=rays.mix.reshape(shape),
        water=rays.water.reshape(shape),
    )


def build_surfaces(
    conditions: Conditions, seed: int, shape: tuple[int, int], sun: NDArray[np.float64], direct_light: bool
) -> Surfaces:
    """Draw a scene and follow one ray through the middle of each pixel.

    Parameters
    ----------
    conditions : season, weather and kind of road; with `seed` they decide everything.
    shape : (rows, columns) of rays. The horizontal field of view is fixed and pixels are square, so that more of both
        are the same picture with more rays.
    sun : (3,) unit vector towards the sun; x right, y ahead, z up.
    direct_light : whether there is sunlight to cast shadows; if not, `sun_visible` is zero.

    Raises
    ------
    ValueError
        If `shape` is empty or `sun` is no unit vector.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (rows, columns) of rays, at least one of each, got {shape}")
    if np.shape(sun) != (3,) or not abs(np.linalg.norm(sun) - 1) < 1e-3:
        raise ValueError(f"sun must be a unit vector of world axes x right, y ahead, z up, got {sun!r}")
    return look(compose(conditions, seed), shape, np.asarray(sun, dtype=float), direct_light)
