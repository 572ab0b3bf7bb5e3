"""From a name to a frame: scene, light, camera, labels and truth."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.names import Conditions, split_of
from hsiutils.data.sensor import HSI_DRIVE, Sensor
from hsiutils.simulate.camera import (
    Camera,
    Exposure,
    expose,
    label_tiles,
    meter,
    pixel_gains,
    reference,
    tile_majority,
    tile_mean,
)
from hsiutils.simulate.draws import generator
from hsiutils.simulate.light import STANDARD, Circumstances, Illumination, draw_circumstances, illuminate
from hsiutils.simulate.materials import NAMES
from hsiutils.simulate.radiance import band_signal
from hsiutils.simulate.surfaces import Surfaces
from hsiutils.simulate.trace import build_surfaces

VERSION = 5
"""Of the generator: raise it when the same seed gives other bytes, so that nothing old is mixed with it."""


@dataclass(frozen=True)
class Simulation:
    """Everything, beside the name of an image, that decides its bytes.

    Attributes
    ----------
    seed : of every random choice.
    tiles : (rows, columns) of the cube; fewer than the real 216 x 409 mean larger pixels behind the same lens.
    long_pass_nm : edge of a long-pass filter before the chip, nm; None for none. HSI-Drive does not say whether it has
        one; its published mean reflectance per band does. Band 22 peaks at 564 and at 838 nm and is as bright as the
        bands around 838 nm, which vegetation makes only if the green peak is cut off: the means of 12
        simulated scenes correlate with the 25 published ones at 0.85 with a filter at 600 nm, at 0.69 without.
    metering : exposure target, share of full well.
    blur_px : standard deviation of the lens's point spread, in sensor pixels; see `Camera`.
    glare : share of the light that is scattered over the image; see `Camera`.
    rays_a_pixel : rays along one side of a sensor pixel.
    light_spread : how far the colour of the light departs from scene to scene, see `light.illuminate`.
    sun_turn_deg : how far the sun stands further round than the clock says, with the sky that belongs to it; all else
        stays, so that two sets which differ in it show the same streets in another light.
    exposure_jitter : standard deviation of the logarithm of the exposure time about what the meter asks for.
    wide_marks : whether marks are as many pixels wide as behind the real chip when there are fewer tiles.
    compensate_exposure : whether the cubes undo the exposure time. HSI-Drive's do not seem to: their mean reflectance,
        0.46, and their range up to 4 fit frames divided by one white reference whatever the exposure was.
    chip : another camera of `tiles` tiles, which takes the same streets and light through its own filters; its bands
        need their peaks. None for HSI-Drive's.
    noise : whether the camera has any: of photons, of reading, dark current and its noise, and unlike pixels; and a
        converter of 12 bits. Without, frames and references have 16 bits, whose steps are 0.2 electrons; a full well
        still cuts off.
    displaced : whether the bands of a tile see places of their own, which cubes then bring to the tile's centre by
        interpolation, which also evens out some noise. Else they are co-located, see `Camera`, and not interpolated.

    Raises
    ------
    ValueError
        If the metering is no share of full well, or the chip has other tiles or a band without a peak.
    """

    seed: int = 0
    tiles: tuple[int, int] = HSI_DRIVE.tiles
    long_pass_nm: float | None = 600.0
    metering: float = 0.26
    blur_px: float = 1.0
    glare: float = 0.03
    rays_a_pixel: float = 1.0
    light_spread: float = 3.0
    sun_turn_deg: float = 0.0
    exposure_jitter: float = 0.0
    wide_marks: bool = True
    compensate_exposure: bool = False
    chip: Sensor | None = None
    noise: bool = True
    displaced: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.metering < 1:
            raise ValueError(f"metering must be a share of full well between 0 and 1, got {self.metering}")
        if self.chip is None:
            return
        if self.chip.tiles != self.tiles:
            raise ValueError(f"a camera of {self.tiles} tiles is needed, got {self.chip.tiles}: give tiles=chip.tiles")
        if blind := [band.index for band in self.chip.bands if not (band.peaks or band.curve)]:
            raise ValueError(f"{self.chip.name}: bands {blind} have no peak, so they would see nothing")

    @property
    def sensor(self) -> Sensor:
        """The chip: its own, or HSI-Drive's, with other pixels if need be."""
        own = self.chip or (HSI_DRIVE if self.tiles == HSI_DRIVE.tiles else HSI_DRIVE.resized(self.tiles))
        return own if self.noise else replace(own, bits=16)

    @property
    def camera(self) -> Camera:
        """Chip, filter and lens."""
        own = Camera(
            self.sensor,
            self.long_pass_nm,
            metering=self.metering,
            blur_px=self.blur_px,
            glare=self.glare,
            displaced=self.displaced,
        )
        if self.noise:
            return own
        return replace(own, photon_noise=False, read_noise_e=0.0, dark_current_e=0.0, non_uniformity=0.0)

    @property
    def widening(self) -> float:
        """Factor on the width of road marks that gives them about as many pixels as behind the real chip.

        The square root of the ratio of pixels: larger pixels also lose the far, thin ones, and so half of the gap.
        """
        return max(1.0, float(np.sqrt(HSI_DRIVE.tiles[1] / self.tiles[1]))) if self.wide_marks else 1.0

    @property
    def rays(self) -> tuple[int, int]:
        """(rows, columns) of rays in a tile."""
        rows, columns = (round(self.rays_a_pixel * side) for side in self.sensor.mosaic)
        return rows, columns


@dataclass(frozen=True)
class Frame:
    """One simulated image.

    Attributes
    ----------
    exposure : the raw frame, its exposure time and saturation.
    labels : (tile rows, tile columns) codes 0..10.
    truth : for analysis only, each (tile rows, tile columns): `sunlit` (share of the tile that the sun shines on, 0..1;
        NaN where there is none or the sky is seen), `depth_m` (of the tile's middle; inf for sky), `material` (index
        into `materials.NAMES`; -1 for sky) and `object_id` (0 for sky).
    circumstances : time, air and weather that were drawn.
    """

    name: str
    split: str
    exposure: Exposure
    labels: NDArray[np.uint8]
    truth: dict[str, NDArray[Any]]
    circumstances: Circumstances

    def describe(self) -> dict[str, Any]:
        """JSON-able account of the frame."""
        drawn = {**asdict(self.circumstances), "time": self.circumstances.time.isoformat()}
        exposure = {"exposure_s": self.exposure.time_s, "saturated": self.exposure.saturated}
        return {"name": self.name, "split": self.split, **exposure, "circumstances": drawn}


def render(name: str, simulation: Simulation) -> Frame:
    """Simulate the image of that name.

    Raises
    ------
    ValueError
        If HSI-Drive v2.0 has no image of that name.
    """
    return photograph(name, *lay_out(name, simulation), simulation)


def lay_out(name: str, simulation: Simulation) -> tuple[Surfaces, Illumination, Circumstances]:
    """What the rays of the image of that name meet, the light on it, and its circumstances."""
    split_of(name)  # refuses an unknown name before any work
    conditions = Conditions.parse(name)
    drawn = draw_circumstances(conditions, simulation.seed)
    circumstances = replace(drawn, heading_deg=drawn.heading_deg - simulation.sun_turn_deg)
    light = illuminate(circumstances, simulation.seed, simulation.light_spread)
    rows, columns = (count * rays for count, rays in zip(simulation.tiles, simulation.rays, strict=True))
    sunny = bool(light.direct.any())
    surfaces = build_surfaces(conditions, simulation.seed, (rows, columns), light.sun, sunny, simulation.widening)
    return surfaces, light, circumstances


def photograph(
    name: str, surfaces: Surfaces, light: Illumination, circumstances: Circumstances, simulation: Simulation
) -> Frame:
    """Expose, label and record surfaces that are already known, under a light that is.

    Raises
    ------
    ValueError
        If the surfaces are not of as many rays as the simulation has.
    """
    camera, split, rays = simulation.camera, split_of(name), simulation.rays
    expected = simulation.tiles[0] * rays[0], simulation.tiles[1] * rays[1]
    if surfaces.slot.shape != expected:
        raise ValueError(f"{simulation.tiles} tiles of {rays} rays need {expected} rays, got {surfaces.slot.shape}")
    signal = band_signal(surfaces, light, camera.weights, split, rays, camera.point_spread(rays))
    arriving = camera.veiled(signal) * (camera.vignetting * pixel_gains(camera, generator(simulation.seed, "gains")))
    noise = generator(simulation.seed, name, "noise")
    truth = truth_of(surfaces, light, rays)
    jitter = simulation.exposure_jitter * generator(simulation.seed, name, "exposure").standard_normal()
    time_s = float(np.clip(meter(arriving, camera) * np.exp(jitter), camera.shortest_s, camera.longest_s))
    unseen = np.isfinite(truth["depth_m"]) & (truth["depth_m"] > circumstances.visibility_m)
    return Frame(
        name=name,
        split=split,
        exposure=expose(arriving, time_s, camera, noise),
        # Nobody can label what the fog hides.
        labels=np.where(unseen, 0, label_tiles(surfaces.label, rays)).astype(np.uint8),
        truth=truth,
        circumstances=circumstances,
    )


def truth_of(surfaces: Surfaces, light: Illumination, tile: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """What only the simulator knows of every tile; see `Frame`."""
    facing = np.einsum("i,i...->...", light.sun, surfaces.normal) > 0
    sunlit = tile_mean(surfaces.sun_visible * facing, tile)
    unanswerable = tile_mean(surfaces.slot < 0, tile) > 0.5 if light.direct.any() else True
    family = np.array([NAMES.index(slot.material) for slot in surfaces.slots] + [-1])[surfaces.slot]
    middle = (slice(tile[0] // 2, None, tile[0]), slice(tile[1] // 2, None, tile[1]))
    return {
        "sunlit": np.where(unanswerable, np.nan, sunlit).astype(np.float32),
        "depth_m": surfaces.depth_m[middle].astype(np.float32),
        "material": tile_majority(family, tile).astype(np.int16),
        "object_id": tile_majority(surfaces.object_id, tile),
    }


def references(simulation: Simulation) -> tuple[Exposure, Exposure]:
    """White and dark frame of the camera, taken once for a data set.

    White is a perfect diffuser that fills the view, under the standard sun, through the same lens, exposed so that the
    brightest pixels are at 85 % of full well.
    """
    camera, sensor = simulation.camera, simulation.sensor
    radiance = illuminate(STANDARD, simulation.seed).horizontal / np.pi
    flat = np.tile((camera.weights @ radiance).reshape(sensor.mosaic), sensor.tiles)
    flat = flat * camera.vignetting * pixel_gains(camera, generator(simulation.seed, "gains"))
    time_s = 0.85 * sensor.full_well_e / float(np.quantile(flat, 0.999))
    rng = generator(simulation.seed, "references")
    return reference(flat, time_s, camera, rng), reference(np.zeros(sensor.active_shape), time_s, camera, rng)
