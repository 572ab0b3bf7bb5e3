"""Another mosaic camera in the place of HSI-Drive's: a `Sensor` from a band table, its limits, scenes seen by it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hsiutils.cube import normalise
from hsiutils.sensor import RANGE_NM, Band, Peak, Sensor
from hsiutils.simulate import Simulation
from hsiutils.variants import fit_variant, variant

NOT_MEASURED = float("inf")
"""Clip limit of a band before `measure_limits`: no input can be scaled to it, so that it is not forgotten."""

_PEAK = ("fwhm_nm", "quantum_efficiency", "share")


def bands_from_table(table: pd.DataFrame) -> tuple[Band, ...]:
    """Bands of a camera from a table with a row a filter, in row-major order of the mosaic.

    Parameters
    ----------
    table : `centre_nm`; optionally `fwhm_nm`, `quantum_efficiency` (0..1 at the peak) and `share` (part of the whole
        response that lies in the peak, 0..1), which a simulation needs, and `clip_max`. A second peak goes into columns
        that end in 2, empty where a filter has only one.

    Raises
    ------
    ValueError
        If a column is missing, or a value cannot be.
    """
    if "centre_nm" not in table:
        raise ValueError(f"band table: expected a column centre_nm, found {list(table.columns)}")
    return tuple(_band(number, row.dropna().to_dict()) for number, (_, row) in enumerate(table.iterrows()))


def _band(number: int, row: dict[str, float]) -> Band:
    low, high = RANGE_NM
    if not low <= row.get("centre_nm", np.nan) <= high:
        raise ValueError(f"band table, band {number}: centre_nm {row.get('centre_nm')} outside {low:g}..{high:g} nm")
    peaks = [peak for end in ("", "2") if (peak := _peak(number, row, end)) is not None]
    if sum(peak.share for peak in peaks) > 1:
        raise ValueError(f"band table, band {number}: the shares of the peaks add up to more than one")
    return Band(number, row["centre_nm"], row.get("clip_max", NOT_MEASURED), tuple(peaks))


def _peak(number: int, row: dict[str, float], end: str) -> Peak | None:
    found = {key: row[f"{key}{end}"] for key in _PEAK if f"{key}{end}" in row}
    if not found:
        return None
    if missing := [f"{key}{end}" for key in ("centre_nm", *_PEAK) if f"{key}{end}" not in row]:
        raise ValueError(f"band table, band {number}: a peak needs {', '.join(missing)}, too")
    if found["fwhm_nm"] <= 0 or not 0 < found["quantum_efficiency"] <= 1 or not 0 < found["share"] <= 1:
        raise ValueError(f"band table, band {number}: a peak must be of positive width, height and share, got {found}")
    return Peak(row[f"centre_nm{end}"], **found)


def measure_limits(
    cubes: Iterable[xr.DataArray], sensor: Sensor, percentile: float = 99.9, seed: int = 0
) -> NDArray[np.float64]:
    """Clip limits of every band after PN, measured on cubes: a high percentile of a random sample of pixels.

    Not the maximum: in every band of HSI-Drive the published limit is below the published maximum. The few brightest
    pixels are glints and noise, and would squeeze all others into a corner of the network's input range.

    Parameters
    ----------
    cubes : reflectance, training scenes only; read once, one at a time.
    sensor : that took them.
    percentile : 50..100.
    seed : of the sample.

    Returns
    -------
    (bands,) dimensionless, native order.
    """
    fitted = fit_variant(variant("all"), map(normalise, cubes), sensor, percentile=percentile, seed=seed)
    return np.array(fitted.high)


def with_limits(sensor: Sensor, limits: ArrayLike) -> Sensor:
    """The same camera with these clip limits, one positive number a band.

    Raises
    ------
    ValueError
        If there is not one positive number a band.
    """
    values = np.asarray(limits, dtype=float)
    if values.shape != (len(sensor.bands),) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{sensor.name}: expected {len(sensor.bands)} positive clip limits, got {values.tolist()}")
    bands = tuple(replace(band, clip_max=float(limit)) for band, limit in zip(sensor.bands, values, strict=True))
    return replace(sensor, bands=bands)


@dataclass(frozen=True)
class OtherCamera(Simulation):
    """Settings of simulated scenes that another chip takes; the same streets and light, other filters.

    Attributes
    ----------
    chip : the camera, of `tiles` tiles; its bands need their peaks.
    """

    chip: Sensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chip is None or self.chip.tiles != self.tiles:
            raise ValueError(f"a camera of {self.tiles} tiles is needed, got {self.chip and self.chip.tiles}")
        if blind := [band.index for band in self.chip.bands if not band.peaks]:
            raise ValueError(f"{self.chip.name}: bands {blind} have no peak, so they would see nothing")

    @property
    def sensor(self) -> Sensor:
        """The chip."""
        assert self.chip is not None  # noqa: S101 - checked above; told to the type checker
        return self.chip


def take(chip: Sensor, *, seed: int = 0, long_pass_nm: float | None = None) -> OtherCamera:
    """Settings of a simulation with that camera; see `hsiutils.simulate.write_dataset`."""
    return OtherCamera(seed=seed, tiles=chip.tiles, long_pass_nm=long_pass_nm, chip=chip)
