"""The mosaic camera: where each band sits on the chip, and how it responds to light.

The default is HSI-Drive's imec CMV2K-SSM5x5-600_1000. Band centres are the data set's own; peak widths, heights and
shares come from the factory calibration of a sister sensor of the same design (bands.csv). How its bands move with the
daylight follows from SPECTRL2 (`hsiutils.paper.sensor.daylight`).

Another camera comes from imec's calibration file (`read_calibration`) with its measured curves, from a band table
(`bands_from_table`), is one of three `sister_cameras`, or is known by its cubes alone (`cubes_only`). `band_map` tells
what one camera's bands say of another's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

NOT_MEASURED = float("inf")
"""Clip limit of a band for which nobody published one: inputs learn it from the training scenes."""


@dataclass(frozen=True)
class Peak:
    """One transmission peak of a Fabry-Perot filter."""

    centre_nm: float
    fwhm_nm: float
    quantum_efficiency: float
    share: float
    """Part of the band's whole response, 400-1000 nm, that lies in this peak (0..1)."""


@dataclass(frozen=True)
class Band:
    """One filter of the mosaic."""

    index: int
    centre_nm: float
    clip_max: float = NOT_MEASURED
    """Upper clip limit of this band after per-pixel normalisation (dimensionless)."""
    peaks: tuple[Peak, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    """Measured response: (wavelength in nm, electrons per photon), rising; it stands in for the peaks."""
    daylight: tuple[float, ...] = ()
    """How its centred log-ratio moves in more skylight, and under a lower sun; empty where nobody knows."""


@dataclass(frozen=True)
class Sensor:
    """Geometry and electronics of a snapshot-mosaic sensor.

    Attributes
    ----------
    mosaic : (rows, columns) of one tile; band `i` sits at row `i // columns`, column `i % columns` of it.
    frame_shape : (rows, columns) of a raw frame, in sensor pixels.
    active_origin : (row, column) of the first sensor pixel of the active area.
    tiles : (rows, columns) of tiles in the active area: the size of the cube.
    bands : in native, row-major mosaic order, which is not ascending in wavelength.
    full_well_e : electrons at saturation.
    bits : of the analogue-to-digital converter.

    Examples
    --------
    >>> import hsiutils as hu
    >>> sensor = hu.HSI_DRIVE.resized((54, 102))  # the same lens and mosaic, fewer and larger pixels
    >>> sensor.active_shape, sensor.wavelengths_nm[:3]
    ((270, 510), array([888.48, 897.66, 879.13]))
    """

    name: str
    mosaic: tuple[int, int]
    frame_shape: tuple[int, int]
    active_origin: tuple[int, int]
    tiles: tuple[int, int]
    bands: tuple[Band, ...]
    full_well_e: float = 11_000.0
    bits: int = 12

    def __post_init__(self) -> None:
        if len(self.bands) != (wanted := self.mosaic[0] * self.mosaic[1]):
            raise ValueError(f"{self.name}: a {self.mosaic} mosaic has {wanted} bands, got {len(self.bands)}")
        for axis, what in enumerate(("rows", "columns")):
            needed = self.active_origin[axis] + self.active_shape[axis]
            if self.tiles[axis] < 1 or needed > self.frame_shape[axis]:
                area = f"active area needs {needed} {what} for {self.tiles[axis]} tiles"
                raise ValueError(f"{self.name}: {area}, the frame has {self.frame_shape[axis]}")

    @property
    def active_shape(self) -> tuple[int, int]:
        """(rows, columns) of the active area in sensor pixels."""
        return self.tiles[0] * self.mosaic[0], self.tiles[1] * self.mosaic[1]

    @property
    def wavelengths_nm(self) -> NDArray[np.float64]:
        """Band centres in native order, nm."""
        return np.array([band.centre_nm for band in self.bands])

    @property
    def ascending(self) -> NDArray[np.intp]:
        """Band indices sorted by wavelength."""
        return np.argsort(self.wavelengths_nm, kind="stable")

    @property
    def clip_max(self) -> NDArray[np.float64]:
        """Upper clip limits after per-pixel normalisation, native order."""
        return np.array([band.clip_max for band in self.bands])

    @property
    def daylight(self) -> tuple[tuple[float, ...], ...]:
        """Directions (2, bands) in which daylight moves centred log-ratios; a ValueError where they are not known."""
        if not all(band.daylight for band in self.bands):
            raise ValueError(f"nobody knows how daylight moves the bands of {self.name}: give them `Band.daylight`")
        return tuple(zip(*(band.daylight for band in self.bands), strict=True))

    @property
    def saturation_dn(self) -> int:
        """Largest digital number."""
        return (1 << self.bits) - 1

    def mosaic_position(self, band: int) -> tuple[int, int]:
        """(row, column) of a band inside its tile."""
        return divmod(band, self.mosaic[1])

    def resized(self, tiles: tuple[int, int]) -> "Sensor":
        """The same camera with fewer (or more) tiles behind the same lens: same field of view, larger pixels."""
        margin = tuple(whole - active for whole, active in zip(self.frame_shape, self.active_shape, strict=True))
        frame = (tiles[0] * self.mosaic[0] + margin[0], tiles[1] * self.mosaic[1] + margin[1])
        return replace(self, name=f"{self.name}@{tiles[0]}x{tiles[1]}", tiles=tiles, frame_shape=frame)

    def responses(self, wavelength_nm: ArrayLike, long_pass_nm: float | None = None) -> NDArray[np.float64]:
        """Quantum efficiency of every band against wavelength.

        A measured curve is interpolated, and zero outside. A Fabry-Perot peak is a Lorentzian of its width and height;
        what the peaks do not account for is a floor, even over 400-1000 nm, sized so that each peak keeps its measured
        share of the whole response.

        Parameters
        ----------
        wavelength_nm : (n,) nm
        long_pass_nm : edge of an interference long-pass in front of the chip, nm, whose transmission is 50 % there and
            goes from 10 to 90 % within about 9 nm; None for no filter.

        Returns
        -------
        (bands, n) electrons per photon.
        """
        wavelength = np.asarray(wavelength_nm, dtype=float)
        response = np.stack([_band_response(band, wavelength) for band in self.bands])
        if long_pass_nm is not None:
            response *= 1 / (1 + np.exp(-(wavelength - long_pass_nm) / 2))
        return response


RANGE_NM = (400.0, 1000.0)
"""Where silicon behind these filters responds at all."""


def _band_response(band: Band, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    if band.curve:
        known, response = np.transpose(band.curve)
        return np.asarray(np.interp(wavelength, known, response, left=0.0, right=0.0))
    (low, high), curve, area = RANGE_NM, np.zeros_like(wavelength), 0.0
    for peak in band.peaks:
        curve += peak.quantum_efficiency / (1 + ((wavelength - peak.centre_nm) / (peak.fwhm_nm / 2)) ** 2)
        area += np.pi / 2 * peak.fwhm_nm * peak.quantum_efficiency
    if covered := sum(peak.share for peak in band.peaks):
        curve += area * (1 - covered) / covered / (high - low)
    return np.where((wavelength < low) | (wavelength > high), 0.0, curve)


@cache
def band_table() -> pd.DataFrame:
    """HSI-Drive's 25 bands: centres, clip limits, released statistics, and the sister sensor's peaks. Do not modify."""
    with resources.files("hsiutils.data").joinpath("bands.csv").open() as file:
        return pd.read_csv(file, index_col="index")


def _hsi_drive_bands() -> tuple[Band, ...]:
    bands = []
    for index, row in band_table().iterrows():
        peaks = [Peak(*(row[f"sister_peak{n}_{key}"] for key in ("nm", "fwhm_nm", "qe", "share"))) for n in (1, 2)]
        # The sister sensor's peaks lie 0.9-3.5 nm off; move both so that the first sits at HSI-Drive's own centre.
        offset = row["centre_nm"] - row["sister_peak1_nm"]
        moved = tuple(replace(peak, centre_nm=peak.centre_nm + offset) for peak in peaks)
        daylight = (row["daylight_sky"], row["daylight_low_sun"])
        bands.append(Band(int(str(index)), row["centre_nm"], row["pn_clip_max"], moved, daylight=daylight))
    return tuple(bands)


HSI_DRIVE = Sensor(
    name="imec CMV2K-SSM5x5-600_1000",
    mosaic=(5, 5),
    frame_shape=(1088, 2048),
    active_origin=(3, 0),
    tiles=(216, 409),
    bands=_hsi_drive_bands(),
)
"""The camera of HSI-Drive (doi 10.1109/SSCI52147.2023.10371793)."""


_COLUMNS = ("centre_nm", "fwhm_nm", "quantum_efficiency", "share")
_WIDTHS_NM = (1.0, 300.0)
"""Widths that a filter of such a camera can have."""


def cubes_only(name: str, centres_nm: ArrayLike, tiles: tuple[int, int]) -> Sensor:
    """A camera of which only the cubes are known: their band centres (nm, in the order of the cubes) and size.

    It has no frame around the cubes, no clip limits and no response; its bands lie side by side in a mosaic of one row.
    """
    centres = np.asarray(centres_nm, dtype=float).tolist()
    if not all(200 <= centre <= 3000 for centre in centres):
        raise ValueError(f"{name}: expected band centres in nanometres, got {centres}")
    bands = tuple(Band(index, centre) for index, centre in enumerate(centres))
    return Sensor(name, (1, len(bands)), (tiles[0], tiles[1] * len(bands)), (0, 0), tiles, bands)


def bands_from_table(table: pd.DataFrame) -> tuple[Band, ...]:
    """Bands of a camera from a table with a row a filter, in row-major order of the mosaic.

    Parameters
    ----------
    table : `centre_nm`; optionally `fwhm_nm`, `quantum_efficiency` (0..1 at the peak) and `share` (part of the whole
        response that lies in the peak, 0..1; what imec's files call contribution is another quantity), which a
        simulation needs, and `clip_max`. A second peak goes into columns that end in 2, empty where a filter has only
        one. Text is read as numbers, with a decimal comma, too.

    Raises
    ------
    ValueError
        If a column is missing, a value cannot be, or an index says another order than the rows.
    """
    if "centre_nm" not in table:
        raise ValueError(f"band table: expected a column centre_nm, found {list(table.columns)}")
    count = len(table)
    for what, order in (("index", table.index), *((key, table[key]) for key in ("index", "band") if key in table)):
        if set(order) in ({*range(count)}, {*range(1, count + 1)}) and list(order) != sorted(order):
            advice = "sort the rows by it; where the rows are right, drop it (reset_index(drop=True))"
            raise ValueError(
                f"band table: the rows are not in the order of their {what}, {list(order)[:5]}...: {advice}"
            )
    known = [f"{key}{end}" for end in ("", "2") for key in _COLUMNS] + ["clip_max"]
    numbers = table[[key for key in known if key in table]].apply(_as_numbers)
    return tuple(_band(number, row.dropna().to_dict()) for number, (_, row) in enumerate(numbers.iterrows()))


@cache
def sister_cameras() -> dict[str, Sensor]:
    """Three other cameras of HSI-Drive's family, by design and number, such as "665_975-13.8.15.1".

    They have the chip of HSI-Drive's camera, and the filters of sister_cameras.csv (which names the sources): nothing
    else differs. Their clip limits nobody measured.
    """
    with resources.files("hsiutils.data").joinpath("sister_cameras.csv").open() as file:
        rows = pd.read_csv(file, comment="#").groupby("camera")
    named = {str(camera): bands_from_table(filters.set_index("index")) for camera, filters in rows}
    return {name: replace(HSI_DRIVE, name=f"imec CMV2K-SSM5x5-{name}", bands=bands) for name, bands in named.items()}


def band_map(
    of: Sensor,
    to: Sensor,
    how: Literal["native", "nearest", "resampled"] = "resampled",
    *,
    long_pass_nm: float | None = None,
    correlation_nm: float = 100.0,
    noise: float = 1e-3,
) -> NDArray[np.float64]:
    """What to make of one camera's cubes for a network that was trained on another's (see `hsiutils.data.cube.mapped`).

    "native" leaves the bands as they come; "nearest" takes for each band the one with the nearest centre; "resampled"
    is the linear least squares estimate of each band from all of the other camera's, by both cameras' responses
    (Wiener estimate): with A and B the responses of both, each of area one, and C the covariance of spectra,
    B C A' (A C A' + noise)^-1. Its rows are scaled to sum to one, so that white stays white.

    Parameters
    ----------
    of, to : the camera that took the cubes, and the one that they shall look as if they came from.
    long_pass_nm : of the filter in front of both; see `Sensor.responses`.
    correlation_nm : C falls by e over so many nm; with 0, spectra are white noise, and what is fitted are the responses
        themselves. Real spectra are smooth: on measured road scenes (HSICityV2-Benchmark, HSI-Drive's bands from those
        of a sister camera) 100 nm leave an eighth to a half of the error that 0 leaves.
    noise : of a band, as a share of the bands' mean variance; more of it gives smaller weights.

    Returns
    -------
    (bands of `to`, bands of `of`), to be multiplied by a pixel's values.

    Raises
    ------
    ValueError
        If native bands are not as many, or a response that is needed is not known.
    """
    bands = len(to.bands), len(of.bands)
    if how == "native":
        if bands[0] != bands[1]:
            raise ValueError(f"native bands: {of.name} has {bands[1]}, {to.name} {bands[0]}; use nearest or resampled")
        return np.eye(bands[0])
    if how == "nearest":
        nearest = np.abs(to.wavelengths_nm[:, np.newaxis] - of.wavelengths_nm).argmin(axis=1)
        return np.asarray(np.eye(bands[1])[nearest])
    wavelength = np.arange(RANGE_NM[0], RANGE_NM[1] + 1)
    known = []
    for sensor in (of, to):
        response = sensor.responses(wavelength, long_pass_nm)
        if not (area := response.sum(axis=1, keepdims=True)).all():
            raise ValueError(
                f"{sensor.name}: bands {np.flatnonzero(area == 0).tolist()} have no response to resample by"
            )
        known.append(response / area)
    (a, b), apart = known, np.abs(wavelength[:, np.newaxis] - wavelength)
    covariance = np.exp(-apart / correlation_nm) if correlation_nm else np.eye(len(wavelength))
    own = a @ covariance @ a.T
    own += noise * np.trace(own) / bands[1] * np.eye(bands[1])
    weights = np.linalg.solve(own, a @ covariance @ b.T).T
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _as_numbers(column: "pd.Series[float]") -> "pd.Series[float]":
    try:
        text = not pd.api.types.is_numeric_dtype(column)
        return pd.to_numeric(column.str.strip().str.replace(",", ".") if text else column)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"band table, column {column.name}: expected numbers, found {column.tolist()[:3]}") from error


def _band(number: int, row: dict[str, float]) -> Band:
    band, (low, high) = f"band table, band {number}", RANGE_NM
    peaks = []
    for end in ("", "2"):
        centre, *others = (row.get(f"{key}{end}") for key in _COLUMNS)
        if not (low <= (centre or np.nan) <= high) and (centre is not None or not end):
            raise ValueError(f"{band}: centre_nm{end} {centre} outside {low:g}..{high:g} nm; is it in nanometres?")
        if all(value is None for value in others):
            continue
        if missing := [f"{key}{end}" for key in _COLUMNS if f"{key}{end}" not in row]:
            raise ValueError(f"{band}: a peak needs {', '.join(missing)}, too")
        peak = Peak(*(row[f"{key}{end}"] for key in _COLUMNS))
        narrowest, widest = _WIDTHS_NM
        if not (narrowest <= peak.fwhm_nm <= widest and 0 < peak.quantum_efficiency <= 1 and 0 < peak.share <= 1):
            expected = f"fwhm_nm {narrowest:g}..{widest:g}, quantum_efficiency and share above 0 and up to 1"
            raise ValueError(f"{band}: expected {expected}, got {peak}")
        peaks.append(peak)
    if sum(peak.share for peak in peaks) > 1:
        raise ValueError(f"{band}: the shares of the peaks add up to more than one")
    if not (limit := row.get("clip_max", NOT_MEASURED)) > 0:
        raise ValueError(f"{band}: clip_max must be positive, got {limit}")
    return Band(number, row["centre_nm"], limit, tuple(peaks))


def read_calibration(path: Path | str, optics: bool = True) -> Sensor:
    """The camera that imec's calibration file (XML) describes, with the measured response of every band.

    Read are geometry, bits, full well, the strongest peak of each filter as its centre, and the curves, of files with
    `filter_zones` (responses are electrons per photon) and without (older; responses are in units of their own, so that
    they tell bands apart, and not how many electrons there are). With `optics` they are multiplied by the transmission
    of the filters in front of the chip that the file lists.

    Raises
    ------
    ValueError
        If the file is no calibration of a mosaic sensor, or something is missing.
    """
    path = Path(path)
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 - no entity is fetched, and expat bounds their expansion
        zones = root.findall("filter_info/filter_zones/filter_zone") or root.findall("filter_info")
        if len(zones) != 1 or zones[0].get("layout") != "MOSAIC" or root.tag != "sensor_calibration":
            raise ValueError(f"expected one MOSAIC zone, found {[zone.get('layout') for zone in zones]}")
        (zone,) = zones
        mosaic = _number(zone, "pattern_height"), _number(zone, "pattern_width")
        if (_number(zone, "filter_height"), _number(zone, "filter_width")) != (1, 1):
            raise ValueError("filters of several pixels each")
        bands = dict(_calibrated(root, zone, optics))
        if sorted(bands) != list(range(mosaic[0] * mosaic[1])):
            raise ValueError(f"expected {mosaic[0] * mosaic[1]} bands, found {sorted(bands)}")
        return Sensor(
            name=root.get("sensor_id") or path.stem,
            mosaic=mosaic,
            frame_shape=(_number(root, "sensor_info/height"), _number(root, "sensor_info/width")),
            active_origin=(_number(zone, "filter_area/offset_y"), _number(zone, "filter_area/offset_x")),
            tiles=(_number(zone, "filter_area/height") // mosaic[0], _number(zone, "filter_area/width") // mosaic[1]),
            bands=tuple(bands[index] for index in sorted(bands)),
            full_well_e=float(_number(root, "sensor_info/full_well_capacity_e", 11_000)),
            bits=_number(root, "sensor_info/bit_depth", _number(root, "sensor_info/input_bpp", 0))
            or _number(root, "filter_info/calibration_info/bit_depth", 12),
        )
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path}: no calibration of a mosaic sensor that can be read: {error}") from error


def _calibrated(root: ElementTree.Element, zone: ElementTree.Element, optics: bool) -> Iterator[tuple[int, Band]]:
    """Place in the mosaic and band of every filter."""
    info, front = root.find("filter_info/calibration_info"), []
    for part in (*root.iter("rejection_filter"), *root.findall("system_info/optical_components/optical_component")):
        through = _numbers(part.find("filter_response" if part.tag == "rejection_filter" else "response"))
        front.append((_wavelengths(part, len(through)), through.clip(min=0)))
    for band in zone.findall("bands/band"):
        index = int(band.get("pattern_position_index") or band.get("index") or -1)
        peak = max(band.iter("peak"), key=lambda one: float(one.findtext("QE") or 0), default=band)
        found, centre = band.find("response"), peak.findtext("wavelength_nm")
        response = _numbers(band.find("response_composition") if found is None else found).clip(min=0)
        wavelength = _wavelengths(info, len(response))
        if centre is None or not len(response) or not np.isfinite(response).all():
            raise ValueError(f"band {index}: expected a centre and finite responses, found {centre} and {response[:3]}")
        for own, through in front if optics else ():
            response = response * np.interp(wavelength, own, through)
        yield index, Band(index, float(centre), curve=tuple(zip(wavelength.tolist(), response.tolist(), strict=True)))


def _wavelengths(element: ElementTree.Element | None, count: int) -> NDArray[np.float64]:
    """Of so many samples, nm: as listed, or evenly from the first to the last."""
    listed = _numbers(None if element is None else element.find("sample_points_nm"))
    if len(listed):
        if len(listed) != count:
            raise ValueError(f"{count} responses at {len(listed)} wavelengths")
        return listed
    for key in ("measurement_range", "wavelength_range", "wavelength"):
        start, end = ("" if element is None else element.findtext(f"{key}_{one}_nm") for one in ("start", "end"))
        if start and end:
            return np.linspace(float(start), float(end), count)
    raise ValueError("responses without wavelengths")


def _numbers(element: ElementTree.Element | None) -> NDArray[np.float64]:
    """In an element's attribute, in its own text, or in a child's; none of what is not there."""
    text = "" if element is None else element.get("values") or element.findtext("data") or element.text or ""
    return np.array(text.replace(",", " ").split(), dtype=float)


def _number(element: ElementTree.Element, path: str, default: int | None = None) -> int:
    text = element.findtext(path) or element.findtext(f"{path}_px") or default
    if text is None:
        raise ValueError(f"no {path}")
    return round(float(text))
