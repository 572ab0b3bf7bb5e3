"""The light of a scene: when and where it was taken, what the sky let through, and how far one could see.

Clear skies are SPECTRL2 (Bird and Riordan 1986) as pvlib has it. An overcast sky passes a grey share of the same
global irradiance, all of it diffuse: whiter than a blue sky, as clouds are. Fog and haze follow Koschmieder's law, with
the wavelength dependence of Kim, McArthur and Korevaar (2001).

Each part of the diffuse light (molecules, haze, clouds) has one spectrum and one pattern over the dome. The patterns
are those of the CIE standard general sky (ISO 15469:2004): a gradation from zenith to horizon times an indicatrix
around the sun. Each is normalised so that it lays exactly its own irradiance on a horizontal plane.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pvlib import atmosphere, solarposition
from pvlib.spectrum import spectrl2

from hsiutils.data.names import Conditions
from hsiutils.simulate.draws import generator
from hsiutils.simulate.surfaces import Float32, Float64

GRID_NM: Final = np.arange(400.0, 1000.5, 1.0)
"""Wavelengths of every spectrum of light, nm; fine enough for the narrowest filter (2.7 nm wide)."""
SUN_RADIUS: Final = np.deg2rad(0.2666)
"""Angular radius of the sun's disc at the mean distance, radians."""
DISC_SR: Final = 2 * np.pi * (1 - np.cos(SUN_RADIUS))
_UNEVEN_RAD: Final = np.deg2rad(2.5)
"""Standard deviation of the slopes of coats, panes and puddles, times two: what they make of the sun's disc."""
LATITUDE, LONGITUDE = 43.26, -2.93
"""Bilbao, degrees."""
_FIRST_DAY: Final = {"winter": 355, "spring": 79, "summer": 172, "fall": 266}
_VAPOUR_CM: Final = {"winter": (0.7, 1.6), "spring": (1.0, 2.2), "summer": (1.8, 3.2), "fall": (1.2, 2.6)}
_VISIBILITY_M: Final = {"sunny": (15e3, 45e3), "cloudy": (8e3, 30e3), "wet": (2e3, 10e3), "foggy": (60.0, 400.0)}
_TRANSMITTANCE: Final = {"cloudy": (0.2, 0.5), "wet": (0.12, 0.35), "foggy": (0.2, 0.5)}
"""Share of the clear-sky global irradiance that comes through (Kasten and Czeplak 1980: about 0.25 when overcast)."""


@dataclass(frozen=True)
class Pattern:
    """One standard sky: (1 + a exp(b / cos Z)) (1 + c (exp(d g) - exp(d pi/2)) + e cos^2 g).

    Z is the zenith angle and g the angle to the sun. `texture` is how strongly the cloud field modulates it:
    0 smooth, 1 clouds with gaps between them.
    """

    a: float
    b: float
    c: float = 0.0
    d: float = -1.0
    e: float = 0.0
    texture: float = 0.0

    def radiance(self, height: Float64, away: Float64, opacity: Float64) -> Float64:
        """Relative radiance where cos Z, g (radians) and the opacity of the cloud field are these."""
        gradation = 1 + self.a * np.exp(self.b / height)
        forward = np.exp(self.d * away) - np.exp(self.d * np.pi / 2)
        indicatrix = 1 + self.c * forward + self.e * np.cos(away) ** 2
        return np.asarray(gradation * indicatrix * (1 - self.texture + self.texture * opacity))


MOLECULES = Pattern(a=-1.0, b=-0.32, e=1.0)
"""Gradation of the clear sky (type 12) with the Rayleigh phase function 1 + cos^2."""
HAZE = Pattern(a=-1.0, b=-0.32, c=10.0, d=-3.0, e=0.45)
"""Type 12, clear: forward scattering brightens the sky around the sun."""
BROKEN_CLOUDS = Pattern(a=0.0, b=-1.0, c=2.0, d=-1.5, e=0.15, texture=1.0)
"""Type 11 without gradation, on the clouds only."""
OVERCAST = Pattern(a=4.0, b=-0.70, texture=0.35)
"""Type 1: three times as bright at the zenith as at the horizon; thinner and thicker places in the deck."""
FOG = Pattern(a=0.0, b=-1.0)
"""Type 5: uniform."""


@dataclass(frozen=True)
class CloudField:
    """A frozen random field on a layer above: a sum of plane waves (modes, 2), about normal, with no period.

    Wave vectors are per height of the layer, of which a share `cover` is cloud.
    """

    waves: Float64
    phases: Float64
    amplitudes: Float64
    cover: float

    @classmethod
    def draw(cls, cover: float, rng: np.random.Generator, modes: int = 28) -> "CloudField":
        """Draw a field; power falls with the wave number as in turbulence (amplitude ~ k^-5/6 per octave)."""
        length, turn = np.exp(rng.uniform(np.log(0.7), np.log(14), modes)), rng.uniform(0, 2 * np.pi, modes)
        waves = np.stack([length * np.cos(turn), 0.6 * length * np.sin(turn)], axis=1)
        amplitudes = length ** (-5 / 6)
        amplitudes *= np.sqrt(2 / np.sum(amplitudes**2))
        return cls(waves, rng.uniform(0, 2 * np.pi, modes), amplitudes, cover)

    def thickness(self, direction: Float64) -> Float32:
        """Standardised thickness (mean 0, variance 1) of the layer in each direction (3, ...) above the horizon."""
        # A layer over a round earth: the path to it stays finite at the horizon.
        reach = 1 / (np.maximum(direction[2], 0) + 0.06)
        x, y = ((direction[axis] * reach).astype(np.float32) for axis in (0, 1))
        total = np.zeros_like(x)
        for wave in np.column_stack([self.waves, self.phases, self.amplitudes]).astype(np.float32):
            east, north, phase, amplitude = wave
            total += amplitude * np.cos(east * x + north * y + phase)
        return np.asarray(total)

    def opacity(self, direction: Float64) -> Float64:
        """0 in the gaps, 1 in the clouds, soft at the rims."""
        threshold = -2.2 + 4.4 * (1 - self.cover)
        return np.asarray(1 / (1 + np.exp(-5 * (self.thickness(direction) - threshold))))


@dataclass(frozen=True)
class Sky:
    """Radiance over the dome: sum over parts of irradiance x pattern."""

    sun: Float64  # (3,) unit vector towards the sun, world axes
    patterns: tuple[Pattern, ...]  # one for each part
    irradiance: Float64  # (parts, wavelengths) that each part lays on a horizontal plane, W m-2 nm-1
    clouds: CloudField  # textures the patterns which ask for it

    def shape(self, direction: Float64) -> Float64:
        """Radiance of every part per unit of its horizontal irradiance, 1/sr: (parts, ...); zero below the horizon.

        Directions (3, ...) are unit vectors away from the eye.
        """
        return np.asarray(self._unscaled(direction) * self._scale.reshape(-1, *(1,) * (direction.ndim - 1)))

    def on_disc(self, direction: Float64) -> NDArray[np.bool_]:
        """Whether a direction (3, ...) hits the sun's disc."""
        return np.asarray(np.tensordot(self.sun, direction, 1) > np.cos(SUN_RADIUS))

    def glint(self, direction: Float64) -> Float64:
        """The sun in a mirror that is not quite even, in units of its disc, for mirrored directions (3, ...)."""
        away = np.arccos(np.clip(np.tensordot(self.sun, direction, 1), -1, 1))
        return np.asarray(DISC_SR / (2 * np.pi * _UNEVEN_RAD**2) * np.exp(-((away / _UNEVEN_RAD) ** 2) / 2))

    @cached_property
    def horizon(self) -> Float64:
        """(parts,) mean of `shape` around the horizon, 1/sr: what haze and fog show in the distance."""
        turn, height = np.arange(72) / 72 * 2 * np.pi, 0.02
        level = np.sqrt(1 - height**2)
        ring = np.stack([level * np.sin(turn), level * np.cos(turn), np.full(turn.size, height)])
        return np.asarray(self.shape(ring).mean(axis=1))

    @cached_property
    def _scale(self) -> Float64:
        direction, weight = hemisphere()
        return np.asarray(1 / (self._unscaled(direction) @ weight))

    def _unscaled(self, direction: Float64) -> Float64:
        height = np.maximum(direction[2], 1e-3)
        away = np.arccos(np.clip(np.tensordot(self.sun, direction, 1), -1, 1))
        textured = any(pattern.texture for pattern in self.patterns)
        opacity = self.clouds.opacity(direction) if textured else np.zeros_like(height)
        return np.stack([one.radiance(height, away, opacity) * (direction[2] > 0) for one in self.patterns])


def hemisphere(rings: int = 90, sectors: int = 180) -> tuple[Float64, Float64]:
    """Directions (3, n) over the upper half-space and their weights cos(Z) d(omega), which sum to pi."""
    squared = (np.arange(rings) + 0.5) / rings  # of the sine of Z: equal steps in projected solid angle
    turn = (np.arange(sectors) + 0.5) / sectors * 2 * np.pi
    sine, azimuth = (grid.ravel() for grid in np.meshgrid(np.sqrt(squared), turn, indexing="ij"))
    direction = np.stack([sine * np.sin(azimuth), sine * np.cos(azimuth), np.sqrt(1 - sine**2)])
    return direction, np.full(direction.shape[1], np.pi / direction.shape[1])


@dataclass(frozen=True)
class Circumstances:
    """What the name leaves open, drawn for one image."""

    weather: str
    time: pd.Timestamp  # UTC
    heading_deg: float  # direction in which the car drives, clockwise from north
    aerosol: float  # optical depth at 500 nm
    vapour_cm: float  # precipitable water
    ozone_cm: float  # column at standard pressure
    visibility_m: float  # distance at which contrast has fallen to 2 %
    cloud_cover: float  # share of the sky, 0..1; 1 hides the sun
    transmittance: float  # of the cloud deck or fog, 0..1; 1 without one


@dataclass(frozen=True)
class Illumination:
    """Spectral light at the scene; every spectrum is on `GRID_NM`."""

    sun: Float64  # (3,) unit vector towards the sun, world axes
    direct: Float64  # (n,) irradiance of a plane facing the sun, W m-2 nm-1; zero when the sun is hidden
    sky: Sky  # radiance of the dome, whose parts sum to `diffuse`
    extinction: Float64  # (n,) of the air along the line of sight, 1/m

    @property
    def diffuse(self) -> Float64:
        """(n,) diffuse irradiance of a horizontal plane, W m-2 nm-1."""
        return np.asarray(self.sky.irradiance.sum(axis=0))

    @property
    def horizontal(self) -> Float64:
        """(n,) global irradiance of a horizontal plane, W m-2 nm-1."""
        return np.asarray(self.direct * max(self.sun[2], 0.0) + self.diffuse)


STANDARD: Final = Circumstances(
    weather="sunny",
    time=pd.Timestamp("2021-03-20T12:20:00", tz="UTC"),
    heading_deg=0.0,
    aerosol=0.1,
    vapour_cm=1.4,
    ozone_cm=0.34,
    visibility_m=30e3,
    cloud_cover=0.0,
    transmittance=1.0,
)
"""A clear noon at the equinox in Bilbao: the light under which the white reference is taken."""


def draw_circumstances(conditions: Conditions, seed: int) -> Circumstances:
    """Draw day, time, heading, air and clouds for what the name says; same seed and name, same draw.

    Midday is the middle two fifths of the day; dawn and sunset are what is before and after it, but for the 20 minutes
    in which the sun is hardly up. Two fair days in five have clouds.
    """
    rng = generator(seed, conditions.name, "circumstances")
    day = int(_FIRST_DAY[conditions.season] + rng.integers(91))  # days of a season
    midnight = pd.Timestamp("2021-01-01", tz="UTC") + pd.Timedelta(days=(day - 1) % 365)
    events = solarposition.sun_rise_set_transit_spa(pd.DatetimeIndex([midnight]), LATITUDE, LONGITUDE).iloc[0]
    half_day = (events["sunset"] - events["sunrise"]).total_seconds() / 7200
    low_sun, around_noon = float(rng.uniform(1 / 3, 0.6 * half_day)), float(rng.uniform(-0.4, 0.4) * half_day)
    choices = {"dawn": ("sunrise", low_sun), "midday": ("transit", around_noon), "sunset": ("sunset", -low_sun)}
    event, hours = choices[conditions.daytime]
    weather, overcast = conditions.weather, conditions.weather != "sunny"
    low, high = np.log(_VISIBILITY_M[weather])
    return Circumstances(
        weather=weather,
        time=(events[event] + pd.Timedelta(hours=hours)).round("s"),
        heading_deg=float(rng.uniform(0, 360)),
        aerosol=float(np.exp(rng.uniform(np.log(0.04), np.log(0.5)))),
        vapour_cm=float(rng.uniform(*_VAPOUR_CM[conditions.season])),
        ozone_cm=float(rng.uniform(0.27, 0.40)),
        visibility_m=float(np.exp(rng.uniform(low, high))),
        cloud_cover=1.0 if overcast else float(max(0.0, rng.uniform(-0.6, 0.4))),
        transmittance=float(rng.uniform(*_TRANSMITTANCE[weather])) if overcast else 1.0,
    )


def illuminate(circumstances: Circumstances, seed: int, spread: float = 1.0) -> Illumination:
    """Sun, sky and air for the circumstances; the seed draws the shapes of the clouds.

    Parameters
    ----------
    spread : exponent on how the colour of the light departs from that of `STANDARD`, sun and sky alike: 0 gives every
        scene the same mean colour, 1 the air's own, more than 1 a redder low sun and deeper water bands than that.
        The default of 3 was fitted, to how the colour of real roads and vegetation varies from image to image
        (`hsiutils.paper.sensor`); SPECTRL2 alone gives half of that.
    """
    position = solarposition.get_solarposition(circumstances.time, LATITUDE, LONGITUDE).iloc[0]
    zenith, azimuth = float(position["apparent_zenith"]), float(position["azimuth"])
    up, turn = np.deg2rad(90 - zenith), np.deg2rad(azimuth - circumstances.heading_deg)
    sun = np.array([np.cos(up) * np.sin(turn), np.cos(up) * np.cos(turn), np.sin(up)])
    sunny, cover = circumstances.weather == "sunny", circumstances.cloud_cover
    # Under clouds the air is moister, and light crosses it more than once: deeper water bands (Siegel et al. 1999).
    direct, diffuse = _clear_sky(circumstances, zenith, circumstances.aerosol, 1.0 if sunny else 1.8)
    horizontal = direct * sun[2] + diffuse
    patterns: tuple[Pattern, ...]
    if sunny:
        # Blue sky, haze, and fair-weather clouds, which shine with a share of the whole global irradiance.
        molecular = np.minimum(diffuse, _clear_sky(circumstances, zenith, 1e-6, 1.0)[1])
        patterns, parts = (MOLECULES, HAZE), [(1 - cover) * molecular, (1 - cover) * (diffuse - molecular)]
        if cover > 0:
            patterns, parts = (*patterns, BROKEN_CLOUDS), [*parts, 0.35 * cover * horizontal]
    else:
        patterns = (FOG if circumstances.weather == "foggy" else OVERCAST,)
        direct, parts = np.zeros_like(direct), [circumstances.transmittance * horizontal]
    clouds = CloudField.draw(cover, generator(seed, str(circumstances.time), "clouds"))
    if spread != 1:
        ratio = (direct * sun[2] + np.sum(parts, axis=0)) / illuminate(STANDARD, 0).horizontal
        factor = (ratio / ratio[GRID_NM >= 600].mean()) ** (spread - 1)
        direct, parts = direct * factor, [part * factor for part in parts]
    sky = Sky(sun, patterns, np.stack(parts), clouds)
    return Illumination(sun, direct, sky, extinction(circumstances.visibility_m))


def _clear_sky(
    circumstances: Circumstances, zenith: float, aerosol: float, vapour_path: float
) -> tuple[Float64, Float64]:
    """Direct normal and diffuse horizontal irradiance, W m-2 nm-1 on `GRID_NM`."""
    spectra = spectrl2(
        apparent_zenith=zenith,
        aoi=zenith,
        surface_tilt=0.0,
        ground_albedo=0.2,
        surface_pressure=101_325.0,
        relative_airmass=atmosphere.get_relative_airmass(zenith, model="kastenyoung1989"),
        precipitable_water=circumstances.vapour_cm * vapour_path,
        ozone=circumstances.ozone_cm,
        aerosol_turbidity_500nm=aerosol,
        dayofyear=circumstances.time.day_of_year,
    )
    direct, diffuse = (np.interp(GRID_NM, spectra["wavelength"], spectra[key][:, 0]) for key in ("dni", "dhi"))
    return direct, diffuse


def extinction(visibility_m: float) -> Float64:
    """Extinction coefficient on `GRID_NM`, 1/m: 3.912 / V at 550 nm, times (550 / wavelength)^q of Kim et al. 2001."""
    if visibility_m <= 0:
        raise ValueError(f"visibility must be positive, metres, got {visibility_m}")
    distance = visibility_m / 1000
    exponent = np.interp(distance, [0.5, 1.0, 6.0], [0.0, 0.5, 1.3])
    return np.asarray(3.912 / visibility_m * (550 / GRID_NM) ** exponent)


LAMPS: Final = ("led_red", "bulb_red", "led_white", "bulb_white")
"""Lamps that can be lit, as materials name them."""


def lamp_radiance(lamp: str, sample: int) -> Float64:
    """Radiance of the face of a lit lamp on `GRID_NM`, W m-2 nm-1 sr-1.

    Tail and brake lamps have 3,000 to 30,000 cd/m2; running lights and dipped beams, off their axis, 10,000 to 100,000.
    Red diodes peak at 618-635 nm, 18 nm wide; white ones are blue diodes with a yellow phosphor, and end before the
    infrared; bulbs are black bodies of 2,900 K, behind a red filter or none. Retroreflectors are left out: a plate of
    50 cd/m2 a lux at .3 degrees between lamp and camera, which are .75 m apart, sends back 35 cd/m2 of a dipped beam of
    8,000 cd at any distance below 100 m, and by day it has 200 to 20,000 anyway.
    """
    rng = np.random.default_rng([*lamp.encode(), sample])
    kind, colour = lamp.split("_")
    if kind == "bulb":
        spectrum = (GRID_NM / 560) ** -5 / np.expm1(1.43878e7 / (GRID_NM * 2900))
        spectrum = spectrum / (1 + np.exp((595 - GRID_NM) / 6)) if colour == "red" else spectrum
    elif colour == "red":
        spectrum = np.exp(-(((GRID_NM - rng.uniform(618, 635)) / 7.6) ** 2) / 2)
    else:
        spectrum = np.exp(-(((GRID_NM - 450) / 9) ** 2) / 2) + 0.5 * np.exp(-(((GRID_NM - 560) / 55) ** 2) / 2)
    # The eye's sensitivity, to a few per cent (Wyman, Sloan and Shirley 2013).
    lobes = ((0.821, 568.8, 46.9, 40.5), (0.286, 530.9, 16.3, 31.1))
    eye = sum(
        height * np.exp(-(((GRID_NM - peak) / np.where(peak > GRID_NM, below, above)) ** 2) / 2)
        for height, peak, below, above in lobes
    )
    luminance = (3e3 if colour == "red" else 1e4) * 10 ** rng.random()
    return np.asarray(luminance / 683 * spectrum / np.sum(spectrum * eye))
