"""A whole scene as the rays through the lens meet it: the front door of the simulator's geometry."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.classes import SKY
from hsiutils.data.names import Conditions
from hsiutils.simulate.builder import GROUND_ID
from hsiutils.simulate.compose import HORIZON_ID, Scene, compose
from hsiutils.simulate.geometry import Index, Perspective
from hsiutils.simulate.ground import GroundHits, ground_slots, ground_texture, meet_ground, wetness
from hsiutils.simulate.surfaces import Float32, Float64, Surfaces, coordinates_on, texture_table, textured
from hsiutils.simulate.visibility import Hits, SkyView, rasterise, sun_visible


def build_surfaces(
    conditions: Conditions,
    seed: int,
    shape: tuple[int, int],
    sun: Float64,
    direct_light: bool,
    widening: float = 1.0,
) -> Surfaces:
    """Draw a scene, which conditions and seed decide, and follow one ray through the middle of each pixel.

    Parameters
    ----------
    shape : (rows, columns) of rays. The horizontal field of view is fixed and pixels are square, so that more of both
        are the same picture with more rays.
    sun : (3,) unit vector towards the sun; x right, y ahead, z up.
    direct_light : whether there is sunlight to cast shadows; if not, `sun_visible` is zero.
    widening : factor on the width of road marks, see `Simulation.widening`.

    Raises
    ------
    ValueError
        If `shape` is empty or `sun` is no unit vector.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (rows, columns) of rays, at least one of each, got {shape}")
    if np.shape(sun) != (3,) or not abs(np.linalg.norm(sun) - 1) < 1e-3:
        raise ValueError(f"sun must be a unit vector of world axes x right, y ahead, z up, got {sun!r}")
    return trace(compose(conditions, seed, widening), shape, np.asarray(sun, dtype=float), direct_light)


class _Rays:
    """All rays of a camera, flat, and what they have met so far; a ray that meets nothing is left as sky."""

    def __init__(self, camera: Perspective) -> None:
        rows, columns = (index.ravel() for index in np.indices(camera.shape))
        self.origin = camera.position.astype(np.float32)[:, None]
        self.direction = camera.direction.at(rows, columns)  # not normalised
        self.spacing = np.float32(1 / camera.focal)  # distance between neighbouring rays at t = 1, metres
        self.slot, self.object_id = np.full(rows.size, -1, dtype=np.int32), np.zeros(rows.size, dtype=np.int32)
        self.t, self.normal = np.full(rows.size, np.inf, dtype=np.float32), np.zeros((3, rows.size), dtype=np.float32)
        self.sun, self.sky, self.brightness = (np.ones(rows.size, dtype=np.float32) for _ in range(3))
        self.mix, self.water = (np.zeros(rows.size, dtype=np.float32) for _ in range(2))

    def points(self, index: Index) -> Float32:
        """World points (3, n) that chosen rays meet."""
        return np.asarray(self.origin + self.t[index] * self.direction[:, index])


def trace(scene: Scene, shape: tuple[int, int], sun: Float64, direct_light: bool) -> Surfaces:
    """Follow the rays of the scene's camera; parameters and result as in `build_surfaces`."""
    camera, parts = scene.camera(shape), scene.stage.parts
    rays, table, sky_view = _Rays(camera), texture_table(scene.stage.slots), SkyView.of(parts)
    hits = rasterise(camera, parts)
    on_ground = _follow_to_ground(scene, rays, hits.t.ravel(), table)
    rays.sky[on_ground] = sky_view.on_ground(rays.points(on_ground))
    on_solids, leaves = _follow_to_solids(scene, rays, hits, table, sky_view)
    _follow_to_horizon(scene, rays)
    met = np.concatenate([on_ground, on_solids])
    if direct_light:
        rays.sun[met] = sun_visible(parts, sun, rays.points(met), rays.normal[:, met], rays.t[met])
        facing = sun.astype(np.float32) @ rays.normal[:, on_solids] > 0
        # A convex body hides the sun from the faces turned away; leaves let some through.
        rays.sun[on_solids[~facing & ~leaves]] = 0
    else:
        rays.sun[:] = 0
    labels = np.array([*scene.stage.labels, SKY], dtype=np.uint8)
    length = np.sqrt(np.einsum("ij,ij->j", rays.direction, rays.direction))
    return Surfaces(
        slots=tuple(scene.stage.slots),
        slot=rays.slot.reshape(shape),
        label=labels[rays.slot].reshape(shape),
        object_id=rays.object_id.reshape(shape),
        depth_m=(rays.t * length).reshape(shape),
        direction=(rays.direction / length).reshape(3, *shape),
        normal=rays.normal.reshape(3, *shape),
        sun_visible=rays.sun.reshape(shape),
        sky_view=np.clip(rays.sky, 0, 1).reshape(shape),
        brightness=rays.brightness.reshape(shape),
        mix=rays.mix.reshape(shape),
        water=rays.water.reshape(shape),
    )


def _follow_to_ground(scene: Scene, rays: _Rays, nearest: Float32, table: Float32) -> Index:
    """Settle the rays that meet the ground before any solid and this side of the horizon; return which."""
    road = scene.road
    index = np.flatnonzero(rays.direction[2] < -1e-4)
    reach = rays.origin[2] / -rays.direction[2, index]
    index = index[reach * np.hypot(*rays.direction[:2, index]) < scene.horizon.distance_m]
    hits = meet_ground(road, rays.origin, rays.direction[:, index])
    first = hits.t < nearest[index]
    index = index[first]
    hits = GroundHits(hits.t[first], hits.zone[first], hits.u[first], hits.v[first], hits.normal[:, first])
    slot = ground_slots(road, hits)
    rays.t[index], rays.normal[:, index] = hits.t, hits.normal
    rays.brightness[index], rays.mix[index] = ground_texture(road, table, slot, hits, rays.t[index] * rays.spacing)
    water = wetness(road, hits, scene.film, scene.puddles)
    slot[water == 1] = road.puddle
    rays.slot[index], rays.water[index], rays.object_id[index] = slot, water, GROUND_ID
    return np.asarray(index)


def _follow_to_solids(
    scene: Scene, rays: _Rays, hits: Hits, table: Float32, sky_view: SkyView
) -> tuple[Index, NDArray[np.bool_]]:
    """Settle the rays that meet a solid first; return which, and whether they met leaves."""
    index = np.flatnonzero((hits.part.ravel() >= 0) & (rays.object_id == 0))
    # One part after the other: each knows its normals and finish.
    index = index[np.argsort(hits.part.ravel()[index], kind="stable")]
    order, faces = hits.part.ravel()[index], hits.face.ravel()[index]
    rays.t[index] = hits.t.ravel()[index]
    points = rays.points(index)
    slot, normal, leaves = np.empty_like(order), np.empty_like(points), np.empty(order.shape, dtype=bool)
    for start, end in pairwise(np.flatnonzero(np.diff(order, prepend=-1, append=-1))):
        part, run = scene.stage.parts[order[start]], slice(start, end)
        slot[run] = np.array(part.slots, dtype=np.int32)[faces[run]]
        if part.finish is not None:
            slot[run] = part.finish(part.solid, points[:, run], faces[run], slot[run])
        normal[:, run] = part.solid.normals(points[:, run], faces[run])
        rays.object_id[index[run]], leaves[run] = part.object_id, part.porosity > 0
    rays.slot[index], rays.normal[:, index] = slot, normal
    place, spacing = coordinates_on(points, normal), rays.t[index] * rays.spacing
    rays.brightness[index], rays.mix[index] = textured(table[:, slot], place, spacing, blotches_m=(1.3, 0.3))
    rays.sky[index[~leaves]] = sky_view.on_surfaces(points[:, ~leaves], normal[:, ~leaves])
    rays.sky[index[leaves]] = sky_view.in_crowns(points[:, leaves], normal[:, leaves])
    # What rain falls on gets wet; walls and undersides mostly do not.
    rays.water[index] = np.clip(scene.film * normal[2], 0, 1)
    return index, np.asarray(leaves)


def _follow_to_horizon(scene: Scene, rays: _Rays) -> None:
    """Settle the rays that end at the hills around; the rest go to the sky."""
    index = np.flatnonzero(rays.object_id == 0)
    t, slot = scene.horizon.meet(rays.origin, rays.direction[:, index])
    met = np.isfinite(t)
    index = index[met]
    rays.t[index], rays.slot[index], rays.object_id[index] = t[met], slot[met], HORIZON_ID
    # A hillside leans back by 45 degrees: half up, half towards the camera.
    x, y, _ = rays.direction[:, index]
    level = np.hypot(x, y)
    slope = np.stack([-x / level, -y / level, np.ones_like(level)]) / np.float32(np.sqrt(2))
    rays.normal[:, index] = slope
    rays.sky[index] = 0.8 * (1 + slope[2]) / 2  # its own trees leave 0.8 of the sky in front of it free
    rays.brightness[index] = scene.horizon.brightness(rays.points(index))
    rays.water[index] = scene.film * slope[2]
