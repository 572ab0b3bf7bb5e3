"""The simulated camera on a test bench, as a real one is measured: what it delivers, against what was asked for.

Noise follows EMVA Standard 1288, release 4.0 (2021): pairs of frames at many exposure times, under even light and in
the dark. Sharpness follows ISO 12233 (e-SFR): many rows sample an edge that is slanted against the pixels; the Fourier
transform of its derivative is the modulation transfer function (MTF).

The frames come from the functions that take the scenes, `camera.expose` and `radiance.band_signal`. What was asked for
is worked out from the camera's figures by formulae that take no part in rendering. At last, what noise and the
displacement of the bands do to PN.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.constants import c, h
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.special import ndtr

from hsiutils.data.classes import CLASSES, HSI_DRIVE_CLASSES
from hsiutils.data.cube import pn
from hsiutils.data.raw import demosaic, reflectance_cube, translate_to_centre
from hsiutils.simulate.camera import PIXEL_M, Camera, expose, pixel_gains
from hsiutils.simulate.draws import generator
from hsiutils.simulate.frame import Simulation, lay_out, photograph, references
from hsiutils.simulate.light import GRID_NM, STANDARD, illuminate
from hsiutils.simulate.radiance import band_signal
from hsiutils.simulate.surfaces import Float64, Slot, Surfaces

BOUNDS: Final = {
    "system gain": 0.02,
    "saturation capacity": 0.02,
    "full well": 0.02,
    "dark noise": 0.05,
    "dark current": 0.05,
    "quantum efficiency": 0.05,
}
"""Largest relative deviation of what is measured from what was asked for."""
MTF_BOUND: Final = 0.03
_LINEAR: Final = 0.7
"""Gain and responsivity are fitted up to this part of saturation (EMVA 1288)."""
_EDGE_TILES: Final = (120, 16)
_EDGE_TANGENT: Final = float(np.tan(np.radians(5.0)))
_BIN_PX, _REACH_PX = 0.25, 14.0


@dataclass(frozen=True)
class Level:
    """One exposure: its time, photons on a pixel, and pairs of frames (rows, columns) of the active area, DN."""

    time_s: float
    photons: float
    bright: tuple[Float64, Float64]
    dark: tuple[Float64, Float64]


def on_bench(camera: Camera, band: int = 12, tiles: tuple[int, int] = (54, 102)) -> Camera:
    """The camera with one band's filter before all its pixels, which then are alike, and as many tiles as needed."""
    bands = (camera.sensor.bands[band],) * len(camera.sensor.bands)
    return replace(camera, sensor=replace(camera.sensor, bands=bands).resized(tiles))


def exposures(camera: Camera, seed: int = 0, levels: int = 60) -> Iterator[Level]:
    """Expose a camera `on_bench` to even light of its filter's wavelength, for longer and longer.

    Half of the levels lie between 0.85 and 1.06 of full well, where the noise has its maximum.
    """
    sensor, rng = camera.sensor, generator(seed, "bench")
    (top, left), (rows, columns) = sensor.active_origin, sensor.active_shape
    colour, longest_s = _colour(camera), 0.9 * camera.longest_s
    electrons = camera.weights[0, colour]  # per second, at a radiance of one
    radiance = sensor.full_well_e / longest_s / electrons
    reaching = radiance * np.pi * camera.transmission / (4 * camera.f_number**2) * PIXEL_M**2  # W on a pixel
    photons = reaching * GRID_NM[colour] * 1e-9 / (h * c)
    rate = radiance * electrons * pixel_gains(camera, rng)
    half = levels // 2
    for share in np.concatenate([np.linspace(0.02, 0.83, levels - half), np.linspace(0.85, 1.06, half)]):
        time_s = float(share) * longest_s
        shots = [expose(light, time_s, camera, rng).frame for light in (rate, rate, 0 * rate, 0 * rate)]
        one, two, three, four = (shot[top : top + rows, left : left + columns].astype(float) for shot in shots)
        yield Level(time_s, float(photons) * time_s, (one, two), (three, four))


def photon_transfer(camera: Camera, seed: int = 0, levels: int = 60) -> pd.DataFrame:
    """Mean and temporal variance of the pairs of frames of all `exposures`, in the light and in the dark.

    Returns
    -------
    One row a level: `time_s`, `photons` (a pixel), `mean`, `variance`, `dark_mean`, `dark_variance` (DN, DN squared).
    """
    rows = []
    for level in exposures(camera, seed, levels):
        bright, dark = _pair(*level.bright), _pair(*level.dark)
        rows.append((level.time_s, level.photons, *bright, *dark))
    return pd.DataFrame(rows, columns=["time_s", "photons", "mean", "variance", "dark_mean", "dark_variance"])


def _pair(first: Float64, second: Float64) -> tuple[float, float]:
    """Mean of two frames, and the variance of a pixel from one to the other: their fixed pattern drops out."""
    apart = float(first.mean() - second.mean())
    return float(first.mean() + second.mean()) / 2, float(np.mean((first - second) ** 2) - apart**2) / 2


def characterise(curve: pd.DataFrame) -> dict[str, float]:
    """Figures of a camera from its `photon_transfer` by the formulae of EMVA 1288, in the order of `BOUNDS`.

    Gain is DN an electron; capacity, well and noise are electrons; dark current electrons per second. Saturation
    capacity is where the variance is largest, and full well where the mean ends.
    """
    signal, noise = curve["mean"] - curve["dark_mean"], curve["variance"] - curve["dark_variance"]
    saturated = int(curve["variance"].argmax())
    linear = signal <= _LINEAR * signal[saturated]
    gain = _slope(signal[linear], noise[linear])
    efficiency = _slope(curve["photons"][linear], signal[linear]) / gain
    growth, offset = np.polyfit(curve["time_s"], curve["dark_mean"], 1)
    dark_variance = np.polyfit(curve["time_s"], curve["dark_variance"], 1)[1]
    return {
        "system gain": gain,
        "saturation capacity": efficiency * float(curve["photons"][saturated]),
        "full well": float(curve["mean"].iloc[-1] - offset) / gain,
        "dark noise": float(np.sqrt(dark_variance - 1 / 12)) / gain,  # without that of the converter's steps
        "dark current": float(growth) / gain,
        "quantum efficiency": efficiency,
    }


def _slope(x: pd.Series, y: pd.Series) -> float:
    """Of the straight line through the origin."""
    return float((x * y).sum() / (x * x).sum())


def asked(camera: Camera) -> dict[str, float]:
    """What `characterise` should find of a camera `on_bench`."""
    sensor = camera.sensor
    return {
        "system gain": camera.dn_per_electron,
        "saturation capacity": noisiest(sensor.full_well_e, camera.non_uniformity),
        "full well": sensor.full_well_e,
        "dark noise": camera.read_noise_e,
        "dark current": camera.dark_current_e,
        "quantum efficiency": float(sensor.responses(GRID_NM[[_colour(camera)]], camera.long_pass_nm)[0, 0]),
    }


def noisiest(full_well_e: float, non_uniformity: float) -> float:
    """Mean signal, electrons, at which photon noise that a full well cuts off is largest: EMVA's saturation capacity.

    It is below the well, because the larger half of the noise is lost there: the variance of a Gaussian cut at `well`,
    averaged over pixels whose gains differ.
    """
    mean = np.linspace(0.8, 1.05, 2001)[:, None] * full_well_e
    spread = np.linspace(-3, 3, 61)
    expected = mean * (1 + non_uniformity * spread)
    cut = (full_well_e - expected) / np.sqrt(expected)
    density, below = np.exp(-(cut**2) / 2) / np.sqrt(2 * np.pi), ndtr(cut)
    lost = -density + cut * (1 - below)  # mean of min(z, cut)
    variance = expected * (below - cut * density + cut**2 * (1 - below) - lost**2)
    share = np.exp(-(spread**2) / 2)
    return float(mean[(variance @ share).argmax(), 0])


def emva_table(curve: pd.DataFrame, claimed: Camera) -> pd.DataFrame:
    """The camera of a `photon_transfer` against what is claimed of one `on_bench`.

    Returns
    -------
    A row for each of `BOUNDS`: `asked`, `measured`, `deviation` (relative), `bound`, `within`.
    """
    table = pd.DataFrame({"asked": asked(claimed), "measured": characterise(curve)})
    table["deviation"] = table["measured"] / table["asked"] - 1
    table["bound"] = pd.Series(BOUNDS)
    return table.assign(within=table["deviation"].abs() <= table["bound"])


def _colour(camera: Camera) -> int:
    """Index into `GRID_NM` of the wavelength that the bench shines."""
    return int(np.abs(GRID_NM - camera.sensor.bands[0].centre_nm).argmin())


def edge_mtf(distance: ArrayLike, value: ArrayLike) -> tuple[Float64, Float64]:
    """Modulation transfer function from samples of an edge.

    Parameters
    ----------
    distance : (n,) of each sample from the edge, along its normal, sensor pixels; densely spread within 14 pixels.
    value : (n,) what was seen there.

    Returns
    -------
    Frequencies (cycles a pixel, 0 to 0.5) and MTF (1 at zero), corrected for bins and differences.

    Raises
    ------
    ValueError
        If a bin of a quarter pixel has no sample.
    """
    place, level = np.asarray(distance, dtype=float), np.asarray(value, dtype=float)
    centres = np.arange(-_REACH_PX, _REACH_PX, _BIN_PX) + _BIN_PX / 2
    near = np.abs(place) < _REACH_PX
    index = ((place[near] + _REACH_PX) / _BIN_PX).astype(int)
    count = np.bincount(index, minlength=len(centres))
    if not count.all():
        raise ValueError(f"edge_mtf: {(count == 0).sum()} of {len(count)} bins have no sample; use a taller edge")
    # Samples are not evenly spread within a bin: its mean belongs to their mean place.
    where, seen = (np.bincount(index, one[near], len(centres)) / count for one in (place, level))
    spread = np.diff(np.interp(centres, where, seen))
    frequency = np.linspace(0, 0.5, 501)
    wave = np.exp(-2j * np.pi * frequency[:, None] * (centres[1:] - _BIN_PX / 2))
    transfer = np.abs(wave @ spread) / abs(spread.sum())
    return frequency, np.asarray(transfer / np.sinc(frequency * _BIN_PX) ** 2)


def mtf50(frequency: Float64, transfer: Float64) -> float:
    """First frequency at which an MTF falls below one half; NaN if it does not."""
    below = np.flatnonzero(transfer < 0.5)
    if not below.size:
        return float("nan")
    pair = slice(below[0] - 1, below[0] + 1)
    return float(np.interp(-0.5, -transfer[pair], frequency[pair]))


def edge_table(simulation: Simulation, claimed: Simulation | None = None) -> pd.DataFrame:
    """MTF50 of every band from a slanted edge, painted and asphalt, behind lens and mosaic of a simulation.

    Parameters
    ----------
    claimed : whose lens the measurement is held against; by default the simulation's own.

    Returns
    -------
    A row a band in native order: `nm`, `asked` (Gaussian lens times square pixel) and `measured`, cycles a pixel,
    `deviation` (relative), `within`.
    """
    simulation = replace(simulation, tiles=_EDGE_TILES, chip=None)
    camera, rays = simulation.camera, simulation.rays
    mosaic = camera.sensor.mosaic
    pixels, light = camera.sensor.active_shape, illuminate(STANDARD, 0)
    signal = band_signal(_edge(rays, pixels), light, camera.weights, "train", rays, camera.point_spread(rays))
    away = _distance(pixels, pixels)
    frequency = np.linspace(0, 0.5, 501)
    sigma = (claimed or simulation).blur_px
    theory = np.exp(-2 * (np.pi * sigma * frequency) ** 2) * np.sinc(frequency)
    rows = []
    for index, band in enumerate(camera.sensor.bands):
        row, column = camera.sensor.mosaic_position(index)
        own = (slice(row, None, mosaic[0]), slice(column, None, mosaic[1]))
        rows.append((band.centre_nm, mtf50(frequency, theory), mtf50(*edge_mtf(away[own], signal[own]))))
    table = pd.DataFrame(rows, columns=["nm", "asked", "measured"]).rename_axis("band")
    table["deviation"] = table["measured"] / table["asked"] - 1
    return table.assign(within=table["deviation"].abs() <= MTF_BOUND)


def _distance(shape: tuple[int, int], pixels: tuple[int, int]) -> Float64:
    """Distance from the edge, sensor pixels, of all cells of a grid (rows, columns) over an image of so many pixels."""
    down, across = (size * ((np.arange(n) + 0.5) / n - 0.5) for n, size in zip(shape, pixels, strict=True))
    return np.asarray((across - _EDGE_TANGENT * down[:, None]) / np.hypot(1, _EDGE_TANGENT))


def _edge(rays: tuple[int, int], pixels: tuple[int, int]) -> Surfaces:
    """A level target right before the lens: street paint to the left of the edge, asphalt to the right."""
    shape = _EDGE_TILES[0] * rays[0], _EDGE_TILES[1] * rays[1]
    up = np.zeros((3, *shape), np.float32)
    up[2] = 1
    zero, one = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    return Surfaces(
        slots=(Slot("street_paint", None, 1), Slot("asphalt", None, 0)),
        slot=(_distance(shape, pixels) > 0).astype(np.int32),
        label=np.ones(shape, np.uint8),
        object_id=np.ones(shape, np.int32),
        depth_m=zero,
        direction=-up,
        normal=up,
        sun_visible=one,
        sky_view=one,
        brightness=one,
        mix=zero,
        water=zero,
    )


def pn_errors(names: Sequence[str], simulation: Simulation) -> pd.DataFrame:
    """How far PN departs from that of a camera without noise whose bands see the same place.

    A scene is exposed twice: half the squared difference is the sensor's noise. Without noise it is seen by the mosaic,
    and by a camera of co-located bands: the difference is the displacement that translation to centre leaves.

    Returns
    -------
    A row for the pixels inside of each class, and for those beside another class: `where`, `pixels`, `noise` and
    `displacement`, root mean squares over pixels and bands in units of the mean PN.
    """
    white, dark = references(simulation)
    found = [_pn_squares(name, simulation, (white.frame, dark.frame)) for name in names]
    # (scenes, rows, columns) and (scenes, of, rows, columns)
    labels, squares = (np.array(values) for values in zip(*found, strict=True))
    classes = HSI_DRIVE_CLASSES.merge(labels)
    beside = maximum_filter(classes, (0, 3, 3)) != minimum_filter(classes, (0, 3, 3))
    rows = []
    for index, where in enumerate((*CLASSES, "beside another class or none")):
        mask = (classes == index) & ~beside if index < len(CLASSES) else beside
        if mask.any():
            errors = [float(len(simulation.sensor.bands) * np.sqrt(squares[:, of][mask].mean())) for of in (0, 1)]
            rows.append((where, int(mask.sum()), *errors))
    return pd.DataFrame(rows, columns=["where", "pixels", "noise", "displacement"])


def _pn_squares(
    name: str, simulation: Simulation, white_dark: tuple[NDArray[np.uint16], NDArray[np.uint16]]
) -> tuple[NDArray[np.uint8], Float64]:
    """Labels (rows, columns); squared errors of PN by noise and displacement (2, rows, columns), mean over bands."""
    camera, sensor, rays = simulation.camera, simulation.sensor, simulation.rays
    surfaces, light, circumstances = lay_out(name, simulation)
    frame = photograph(name, surfaces, light, circumstances, simulation)
    displaced, ideal = (
        band_signal(surfaces, light, camera.weights, frame.split, rays, one.point_spread(rays))
        for one in (camera, replace(camera, displaced=False))
    )
    arriving, time_s = camera.veiled(displaced) * camera.vignetting, frame.exposure.time_s
    shots = [expose(arriving, time_s, camera, np.random.default_rng(seed)).frame for seed in (0, 1)]
    one, other = (pn(reflectance_cube(shot, sensor, *white_dark)).values for shot in shots)
    wall = camera.weights @ illuminate(STANDARD, simulation.seed).horizontal / np.pi  # white, electrons a second
    flat = np.tile(wall.reshape(sensor.mosaic), sensor.tiles)
    moved = pn(translate_to_centre(demosaic(displaced / flat, sensor), sensor)) - pn(demosaic(ideal / flat, sensor))
    return frame.labels, np.stack([np.mean((one - other) ** 2 / 2, axis=0), np.mean(moved.values**2, axis=0)])
