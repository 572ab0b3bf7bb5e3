"""The camera: lens, exposure, noise and converter, from electrons per second to a raw frame; and its annotator.

Electronic figures are those of the CMV2000 data sheet (ams): read noise 13 e-, dark current 125 e-/s, response
non-uniformity below 1 %. Photon noise is Poisson on the electrons; the converter reaches its end at full well.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.data.classes import LABELS, MARKS, ROAD, UNLABELLED
from hsiutils.data.sensor import HSI_DRIVE, Sensor
from hsiutils.simulate.compose import FIELD_OF_VIEW
from hsiutils.simulate.light import GRID_NM
from hsiutils.simulate.surfaces import Float32, Float64

_PLANCK_TIMES_C = 1.98644586e-25  # J m
PIXEL_M = 5.5e-6
_PURE: Final = 0.75
"""Smallest share of a tile's rays that agree; below it the tile is a border, and stays unlabelled."""


@dataclass(frozen=True)
class Camera:
    """Lens, sensor and electronics.

    Attributes
    ----------
    long_pass_nm : edge of a filter before the chip, nm; None for the bare sensor.
    field_of_view : horizontal, edge to edge, radians.
    f_number, transmission : of the lens.
    blur_px : standard deviation of the point spread before the pixel, in sensor pixels of 5.5 um. Of a C-mount lens of
        15 mm (this field of view) at f/2.8 its design has 3.4 um, if half the contrast is left at 55 line pairs a
        millimetre, as is usual in the visible; a focus that shifts by 25 um between 600 and 975 nm blurs by
        25 / 2.8 / 4 = 2.2 um; diffraction, 0.42 wavelength x f-number, by 0.9 um: together 4.2 um or .76 pixels. A car
        that turns by 3 degrees a second moves the image by two pixels (of 0.38 mrad) in 15 ms: .6 as a standard
        deviation. With both 1.0, or half the contrast at 34 line pairs a millimetre. It is the same number for a
        resized sensor, whose edges then span as many pixels as on the real chip.
    glare : share of the light that lens and windscreen scatter over the whole image (ISO 9358 veiling glare).
    dark_dn : what the converter reads without light.
    dark_current_e : per second.
    metering : mean signal that the exposure aims at, as a share of full well. Not published; about a quarter brings the
        mean reflectance near the released one (a factor for the whole set, the same in every band).
    longest_s, shortest_s : limits of the exposure time; the longest fits 11 frames per second.
    non_uniformity : standard deviation of the pixels' gain.
    photon_noise : whether electrons are counted; else the frame holds what is expected of them.
    displaced : whether every band sees its own place in the tile. Else all bands of a tile see the same: the square of
        one pixel at the tile's centre, through the same lens.
    """

    sensor: Sensor = HSI_DRIVE
    long_pass_nm: float | None = None
    field_of_view: float = FIELD_OF_VIEW
    f_number: float = 2.8
    transmission: float = 0.9
    blur_px: float = 1.0
    glare: float = 0.03
    read_noise_e: float = 13.0
    dark_dn: float = 64.0
    dark_current_e: float = 125.0
    metering: float = 0.26
    longest_s: float = 0.09
    shortest_s: float = 1e-5
    non_uniformity: float = 0.008
    photon_noise: bool = True
    displaced: bool = True

    @property
    def dn_per_electron(self) -> float:
        """Gain: the converter's range above dark over the full well."""
        return (self.sensor.saturation_dn - self.dark_dn) / self.sensor.full_well_e

    @cached_property
    def weights(self) -> Float64:
        """(bands, wavelengths) electrons per second for a radiance of 1 W m-2 nm-1 sr-1 over 1 nm, on `GRID_NM`.

        Irradiance behind a lens of f-number N is pi T L / (4 N^2); a photon carries h c / wavelength. The area is that
        of a real pixel for a resized sensor too: exposure times and noise then are those of the real camera.
        """
        photons = GRID_NM * 1e-9 / _PLANCK_TIMES_C
        behind_lens = np.pi * self.transmission / (4 * self.f_number**2) * PIXEL_M**2
        return np.asarray(self.sensor.responses(GRID_NM, self.long_pass_nm) * photons * behind_lens)

    def point_spread(self, rays: tuple[int, int]) -> tuple[Float32, Float32]:
        """Shares of rays in the pixels of a tile, down and across: the lens's Gaussian, widened by the pixel's square.

        Parameters
        ----------
        rays : (rows, columns) of rays in a tile.

        Returns
        -------
        Two (pixels of a tile, rays of a tile + 2 reach): rows of sum 1, from `reach` rays before the tile on.
        """
        # A ray samples a point, however many there are; the pixel averages over its square, whose variance is 1/12.
        sigma = np.sqrt(self.blur_px**2 + 1 / 12)
        found = []
        for count, pixels in zip(rays, self.sensor.mosaic, strict=True):
            reach = int(np.ceil(2.5 * sigma * count / pixels))
            place = (np.arange(-reach, count + reach) + 0.5) * pixels / count  # in pixels, from the tile's edge
            pixel = np.arange(pixels) if self.displaced else np.full(pixels, (pixels - 1) / 2)
            profile = np.exp(-(((place - pixel[:, None] - 0.5) / sigma) ** 2) / 2)
            found.append((profile / profile.sum(axis=1, keepdims=True)).astype(np.float32))
        return found[0], found[1]

    def veiled(self, signal: Float32) -> Float32:
        """Signal (rows, columns) of whole tiles with each band's own mean scattered over it."""
        (rows, columns), (down, across) = self.sensor.tiles, self.sensor.mosaic
        tiles = signal.reshape(rows, down, columns, across)
        mean = tiles.mean(axis=(0, 2), keepdims=True, dtype=float)
        return np.asarray((1 - self.glare) * tiles + self.glare * mean, np.float32).reshape(signal.shape)

    @cached_property
    def vignetting(self) -> Float64:
        """(rows, columns) share of light that the lens passes: cos^4 of the field angle, and mild shading."""
        rows, columns = self.sensor.active_shape
        focal = columns / 2 / np.tan(self.field_of_view / 2)
        down, right = np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
        off_axis = (down[:, None] ** 2 + right[None, :] ** 2) / focal**2  # tangent squared
        cosine_squared = 1 / (1 + off_axis)
        return np.asarray(cosine_squared**2 * (1 - 0.15 * (1 - cosine_squared)))


@dataclass(frozen=True)
class Exposure:
    """One raw frame (DN, `sensor.frame_shape`), its exposure time, and the share of active pixels at full well."""

    frame: NDArray[np.uint16]
    time_s: float
    saturated: float


def meter(rate: NDArray[np.floating], camera: Camera) -> float:
    """Exposure time, s, at which the mean of the clipped signal is the metering level; rate: electrons per second."""
    spot = np.sort(rate.ravel()[::7].astype(float))  # 7 has no factor in common with a mosaic of 5
    low, high = camera.shortest_s, camera.longest_s
    for _ in range(40):
        middle = np.sqrt(low * high)
        level = np.minimum(spot * middle, camera.sensor.full_well_e).mean() / camera.sensor.full_well_e
        low, high = (middle, high) if level < camera.metering else (low, middle)
    return float(np.sqrt(low * high))


def pixel_gains(camera: Camera, rng: np.random.Generator) -> Float32:
    """Relative gain of every pixel of the active area: the chip's own fixed pattern."""
    return 1 + np.float32(camera.non_uniformity) * rng.standard_normal(camera.sensor.active_shape, np.float32)


def expose(rate: NDArray[np.floating], time_s: float, camera: Camera, rng: np.random.Generator) -> Exposure:
    """Take one frame of electrons per second on the active area (rows, columns), with photon and read noise.

    Raises
    ------
    ValueError
        If `rate` does not have the size of the active area.
    """
    sensor = camera.sensor
    if rate.shape != sensor.active_shape:
        raise ValueError(f"the active area of {sensor.name} is {sensor.active_shape}, got a signal of {rate.shape}")
    wanted = np.zeros(sensor.frame_shape)
    (top, left), (rows, columns) = sensor.active_origin, sensor.active_shape
    active = (slice(top, top + rows), slice(left, left + columns))
    wanted[active] = rate
    expected = (wanted + camera.dark_current_e) * time_s
    electrons = rng.poisson(expected) if camera.photon_noise else expected
    # Read noise acts after the well: a full pixel scatters below the converter's end, never above.
    noise = camera.read_noise_e * rng.standard_normal(wanted.shape, np.float32)
    held = np.minimum(electrons, sensor.full_well_e) + noise
    levels = np.clip(np.rint(camera.dark_dn + camera.dn_per_electron * held), 0, sensor.saturation_dn)
    return Exposure(levels.astype(np.uint16), time_s, float(np.mean(electrons[active] >= sensor.full_well_e)))


def reference(rate: NDArray[np.floating], time_s: float, camera: Camera, rng: np.random.Generator) -> Exposure:
    """Mean of sixteen frames, as references are taken; DN rounded."""
    shots = [expose(rate, time_s, camera, rng) for _ in range(16)]
    mean = np.rint(np.mean([shot.frame for shot in shots], axis=0)).astype(np.uint16)
    return Exposure(mean, time_s, float(np.mean([shot.saturated for shot in shots])))


def label_tiles(label: NDArray[np.uint8], tile: tuple[int, int]) -> NDArray[np.uint8]:
    """Label image of the cube from the class of every ray: majority of each tile, 0 along uncertain borders.

    Uncertain is a tile of mixed classes, and a tile next to another class, since demosaicing draws on both sides.
    Marks against road are drawn to the edge, as the real annotators did: they are often just two tiles wide.
    From codes 1..10 (rows, columns) of rays to codes 0..10 (tile rows, tile columns); `tile` is rows, columns of rays.
    """
    shares = np.stack([tile_mean(label == one.code, tile) for one in LABELS])
    winner = shares.argmax(axis=0).astype(np.uint8)
    unclear = shares.max(axis=0) < _PURE
    # Whether any of the four neighbours has another class, road and its marks counting as one.
    surface = np.where(winner == MARKS, ROAD, winner)
    padded = np.pad(surface, 1, mode="edge")
    for side in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        unclear |= side != surface
    return np.where(unclear, UNLABELLED, winner).astype(np.uint8)


def tile_mean(values: NDArray[np.generic], tile: tuple[int, int]) -> Float64:
    """Mean of every tile of an image whose size is a whole number of tiles."""
    rows, columns = values.shape[0] // tile[0], values.shape[1] // tile[1]
    return np.asarray(values.reshape(rows, tile[0], columns, tile[1]).mean(axis=(1, 3), dtype=float))


def tile_majority(values: NDArray[np.integer], tile: tuple[int, int]) -> NDArray[np.int32]:
    """Most frequent value of every tile; the smallest of several."""
    rows, columns = values.shape[0] // tile[0], values.shape[1] // tile[1]
    rays = np.sort(values.reshape(rows, tile[0], columns, tile[1]).swapaxes(1, 2).reshape(rows, columns, -1), axis=-1)
    place = np.arange(rays.shape[-1], dtype=np.int16)
    begins = np.diff(rays, axis=-1, prepend=rays[..., :1] - 1) != 0
    length = place - np.maximum.accumulate(np.where(begins, place, 0), axis=-1)
    return np.take_along_axis(rays, length.argmax(axis=-1)[..., None], axis=-1)[..., 0].astype(np.int32)
