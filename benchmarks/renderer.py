"""Three static scenes against Mitsuba 3: the same geometry, materials and light through another renderer.

Mitsuba (variant scalar_spectral) follows light through all reflections; the simulator has the sun, the part of the sky
that a point sees, and one reflection by the mean surroundings. So there are two comparisons: of sun and sky alone,
without any reflection between surfaces, and of all light. Both renderers see the scenes through the 25 bands of the
book's camera. Run from the repository's root, in the environment of benchmarks/renderer-requirements.txt:

    python -m benchmarks.renderer --out data/results/mitsuba.json
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mitsuba as mi
import numpy as np

from hsiutils.data.atomic import write_atomically
from hsiutils.simulate import radiance
from hsiutils.simulate.builder import Pose, Stage, box
from hsiutils.simulate.compose import FIELD_OF_VIEW, Horizon, Scene
from hsiutils.simulate.frame import Simulation
from hsiutils.simulate.geometry import Ellipsoid
from hsiutils.simulate.light import FOG, GRID_NM, STANDARD, Illumination, Sky, illuminate
from hsiutils.simulate.materials import WAVELENGTHS_NM, reflectance
from hsiutils.simulate.radiance import gather_light, ray_signal
from hsiutils.simulate.roads import Curve, Road, Zone
from hsiutils.simulate.surfaces import Surfaces
from hsiutils.simulate.trace import trace

SHAPE = (54, 90)
"""(rows, columns) of rays, and of Mitsuba's pixels."""
PITCH, HEIGHT_M = np.radians(4.0), 1.4
ORIGIN = Pose(0.0, 0.0)
SPLIT = "train"
LONGEST = {"sun and sky": 2, "all light": 16}
"""Comparison -> segments of Mitsuba's longest path, from a light to the camera."""
FARTHEST_M, FEWEST = 60.0, 40
"""Surfaces beyond, and those of fewer pixels, are not compared."""


@dataclass(frozen=True)
class Setting:
    """A scene: its sun by azimuth (from ahead, clockwise) and elevation, degrees, and what stands on level asphalt."""

    title: str
    azimuth: float
    elevation: float
    boxes: tuple[tuple[str, tuple[float, float, float, float], float], ...] = ()
    """Material, (left, right, rear, front) and height, metres."""
    balls: tuple[tuple[str, tuple[float, float, float], float], ...] = ()
    """Material, centre and radius, metres."""

    @property
    def sun(self) -> np.ndarray:
        turn, up = np.radians([self.azimuth, self.elevation])
        return np.array([np.cos(up) * np.sin(turn), np.cos(up) * np.cos(turn), np.sin(up)])


SETTINGS = {
    "wall": Setting("level ground and one wall", -110.0, 40.0, (("concrete", (3.0, 4.0, 5.0, 45.0), 4.0),)),
    "canyon": Setting(
        "a street between two rows of houses",
        75.0,
        48.0,
        (("brick", (-17.0, -5.0, -6.0, 80.0), 9.0), ("brick", (5.0, 17.0, -6.0, 80.0), 9.0)),
    ),
    "green": Setting(
        "a hedge and round crowns above the ground",
        150.0,
        45.0,
        (("conifer", (-6.0, -4.5, 4.0, 50.0), 2.0),),
        tuple(("leaves", (4.5, y, 3.2), 2.0) for y in (11.0, 18.0, 26.0, 35.0)),
    ),
}


def illumination(setting: Setting) -> Illumination:
    """The standard sun and sky, the sky even over the dome, in air that hides nothing."""
    light = illuminate(STANDARD, 0)
    sky = Sky(setting.sun, (FOG,), light.diffuse[None], light.sky.clouds)
    return Illumination(setting.sun, light.direct, sky, np.zeros_like(GRID_NM))


def ours(setting: Setting, weights: np.ndarray) -> tuple[Surfaces, dict[str, np.ndarray]]:
    """What the simulator's rays meet, without texture, and what they carry, (rows, columns, bands) a comparison."""
    stage = Stage(np.random.default_rng(0))
    ground, names = stage.slot("asphalt", 1), {}
    for shape in (*setting.boxes, *setting.balls):
        names[shape[0]] = names.get(shape[0]) or stage.slot(shape[0], 1)
    for material, base, height in setting.boxes:
        stage.begin()
        stage.add(box(ORIGIN, base, 0.0, height), names[material])
    for material, centre, radius in setting.balls:
        stage.begin()
        stage.add(Ellipsoid(np.array(centre), np.full(3, radius)), names[material])
    lane = Zone(ground, "asphalt")
    none = np.zeros((0, 4), np.float32)
    road = Road(
        curve=Curve(),
        edges=np.array([1e5], np.float32),
        zones=(lane, lane, lane),
        sides=(-1e5, 1e5),
        depths=(1.0, 1.0),
        lanes=((0.0, 1),),
        own=0,
        marks=(),
        paint=ground,
        patches=none,
        patch=ground,
        lids=none[:, :2],
        lid=ground,
        kerb=ground,
        puddle=ground,
    )
    horizon = Horizon(1e5, 2.0, 0.0, (ground,), 0)
    scene = Scene(stage, road, horizon, (PITCH, 0.0, 0.0, HEIGHT_M), 0.0, 0.0)
    met = trace(scene, SHAPE, setting.sun, True)
    one = np.ones(SHAPE, np.float32)
    met = replace(met, slots=tuple(replace(slot, sample=0) for slot in met.slots), brightness=one, mix=0 * one)
    light = illumination(setting)
    every = ray_signal(met, light, gather_light(met, light, weights, SPLIT))
    with patch.object(radiance, "_surroundings", lambda *_: np.zeros((6, GRID_NM.size))):
        single = ray_signal(met, light, gather_light(met, light, weights, SPLIT))
    return met, {"sun and sky": single.astype(float), "all light": every.astype(float)}


def spectrum(wavelengths: np.ndarray, values: np.ndarray) -> dict[str, str]:
    def words(numbers: np.ndarray) -> str:
        return ", ".join(f"{number:.9g}" for number in numbers)

    return {"type": "irregular", "wavelengths": words(wavelengths), "values": words(values)}


def theirs(setting: Setting, weights: np.ndarray, samples: int, depth: int) -> np.ndarray:
    """(rows, columns, bands) of Mitsuba, in the same unit."""
    transform, light = mi.ScalarTransform4f, illumination(setting)

    def paint(material: str) -> dict[str, Any]:
        values = np.clip(reflectance(material, 0, SPLIT), 0, 1)
        return {"type": "diffuse", "reflectance": spectrum(WAVELENGTHS_NM, values)}

    film = {"type": "specfilm", "height": SHAPE[0], "width": SHAPE[1], "rfilter": {"type": "box"}}
    film |= {f"band{index:02d}": spectrum(GRID_NM, one / weights.max()) for index, one in enumerate(weights)}
    # Mitsuba's own axes are of no matter: x right, y ahead, z up as in the simulator, seen from the same place.
    towards = [0.0, float(np.cos(PITCH)), HEIGHT_M - float(np.sin(PITCH))]
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": depth, "rr_depth": 64},
        "camera": {
            "type": "perspective",
            "fov": float(np.degrees(FIELD_OF_VIEW)),
            "fov_axis": "x",
            "to_world": transform().look_at(origin=[0.0, 0.0, HEIGHT_M], target=towards, up=[0.0, 0.0, 1.0]),
            "film": film,
            "sampler": {"type": "independent", "sample_count": samples, "seed": 0},
        },
        "sky": {"type": "constant", "radiance": spectrum(GRID_NM, light.diffuse / np.pi)},
        "sun": {
            "type": "directional",
            "direction": [float(value) for value in -setting.sun],
            "irradiance": spectrum(GRID_NM, light.direct),
        },
        "ground": {"type": "rectangle", "to_world": transform().scale([2e4, 2e4, 1.0]), "bsdf": paint("asphalt")},
    }
    for number, (material, (left, right, rear, front), height) in enumerate(setting.boxes):
        middle = [(left + right) / 2, (rear + front) / 2, height / 2]
        half = [(right - left) / 2, (front - rear) / 2, height / 2]
        placed = transform().translate(middle).scale(half)
        scene[f"box{number}"] = {"type": "cube", "to_world": placed, "bsdf": paint(material)}
    for number, (material, centre, radius) in enumerate(setting.balls):
        scene[f"ball{number}"] = {"type": "sphere", "center": list(centre), "radius": radius, "bsdf": paint(material)}
    return np.array(mi.render(mi.load_dict(scene)), dtype=float) * weights.max()


def compare(setting: Setting, weights: np.ndarray, samples: int) -> list[dict[str, Any]]:
    """Median of every kind of surface, in the sun and in the shade, and its deviation from Mitsuba's by band."""
    met, seen = ours(setting, weights)
    other = {kind: theirs(setting, weights, samples, depth) for kind, depth in LONGEST.items()}
    facing = np.einsum("i,i...->...", setting.sun, met.normal)
    lit = {"sun": (facing > 0.05) & (met.sun_visible > 0.99), "shade": (facing <= 0) | (met.sun_visible < 0.01)}
    rows = []
    for slot, part in enumerate(met.slots):
        for light, where in lit.items():
            chosen = where & (met.depth_m < FARTHEST_M) & (met.slot == slot)
            if chosen.sum() < FEWEST:
                continue
            row: dict[str, Any] = {"material": part.material, "light": light, "pixels": int(chosen.sum())}
            for kind in LONGEST:
                mine, reference = (np.median(image[kind][chosen], axis=0) for image in (seen, other))
                row[kind] = [round(float(value), 5) for value in mine / reference - 1]
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=2048, help="rays a pixel of Mitsuba")
    options = parser.parse_args()
    mi.set_variant("scalar_spectral")
    camera, started = Simulation().camera, time.perf_counter()
    scenes = [
        {
            "name": name,
            "title": setting.title,
            "sun_azimuth_deg": setting.azimuth,
            "sun_elevation_deg": setting.elevation,
        }
        | {"surfaces": compare(setting, camera.weights, options.samples)}
        for name, setting in SETTINGS.items()
    ]
    record = {
        "variant": "scalar_spectral",
        "samples": options.samples,
        "longest_path": LONGEST,
        "pixels": list(SHAPE),
        "seed": 0,
        "bands_nm": [float(value) for value in camera.sensor.wavelengths_nm],
        "scenes": scenes,
        "seconds": round(time.perf_counter() - started),
        "machine": {"device": "CPU", "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {name: importlib.metadata.version(name) for name in ("mitsuba", "drjit", "numpy")},
        "date": time.strftime("%Y-%m-%d"),
    }
    if options.out:
        write_atomically(options.out, json.dumps(record, indent=1) + "\n")
    for kind in LONGEST:
        print(kind)
        for scene in scenes:
            for row in scene["surfaces"]:
                low, middle, high = (f"{value:+.3f}" for value in np.percentile(row[kind], [0, 50, 100]))
                print(
                    f"{scene['name']:8} {row['material']:10} {row['light']:6} {row['pixels']:5} {low} {middle} {high}"
                )
        every = np.abs([row[kind] for scene in scenes for row in scene["surfaces"]])
        print(f"median {np.median(every):.3f}, largest {every.max():.3f}")


if __name__ == "__main__":
    main()
