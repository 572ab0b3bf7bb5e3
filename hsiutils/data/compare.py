"""Raw frames made into cubes again, with references of one's own, and held against the released cubes.

The release says which steps led to its cubes, but not with which white reference and exposures. So a cube made here
may differ from the released one by a factor, by a factor a band, or at the border, and each of these has a cause of
its own. Source of the chain: HSI-Drive v2.0 data description (doi 10.1109/SSCI52147.2023.10371793).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from hsiutils.data.cube import require_cube
from hsiutils.data.hsidrive import HSIDrive
from hsiutils.data.layouts import DatasetError
from hsiutils.data.raw import read_frame
from hsiutils.data.sensor import Sensor

PLACES = ("everywhere", "inside", "border")
SAME = 1e-3
"""Relative difference below which two cubes count as the same: a few times less than one step of 12 bits in a signal
at a quarter of the range."""
KINDS = {
    "same": "the same cube (relative difference {relative:.1e})",
    "one factor": "the same up to one factor, {factor:.4g}: exposures differ, or a release undid them",
    "border": "the same inside up to a factor of {inside:.4g}: the border follows another rule",
    "factor a band": "the same up to a factor a band, {low:.3g} to {high:.3g}: the white reference differs",
    "offset a band": "the same up to a factor and an offset a band: the dark reference differs",
    "other": "another cube: {left:.1%} are left over after the best factor, {factor:.4g}; correlation from "
    "{correlation:.3f} on: white reference, dark reference or a filter differ",
}
"""How two cubes of a scene can differ, and what that points to."""
_BY_BAND = ("mean_difference", "rms_difference", "largest_difference", "correlation", "scale", "left_over")
_OVER_ALL = ("relative", "one_scale", "one_left_over")
Array = NDArray[np.float64]
Chain = Callable[..., xr.DataArray]
"""`hsiutils.data.raw.reflectance_cube` with its references, by functools.partial."""


def read_reference(given: str | Path | float, sensor: Sensor) -> float | NDArray[np.uint16]:
    """A white or dark reference: a number (DN, also as text), or a `.bin` frame of that camera.

    Raises
    ------
    DatasetError
        If it is neither, or the file does not hold one frame.
    """
    try:
        number = float(str(given))
    except ValueError:  # no number, so a file
        if not Path(str(given)).exists():
            raise DatasetError(f"reference {given}: neither a number nor a file; expected DN, or a frame") from None
        return read_frame(str(given), sensor)
    if not 0 <= number < np.inf:
        raise DatasetError(f"reference {given}: expected a number of DN from 0 on")
    return number


def exposure_ratio(exposure: float | None, white_exposure: float | None) -> float:
    """Exposure time of the white reference over that of the frame, in one unit; 1 if neither is given, not just one."""
    if exposure is None and white_exposure is None:
        return 1.0
    if exposure is None or white_exposure is None or not (0 < exposure < np.inf and 0 < white_exposure < np.inf):
        raise ValueError(f"exposures: expected two positive times, or neither; got {exposure} and {white_exposure}")
    return white_exposure / exposure


def compare(made: xr.DataArray, released: xr.DataArray, border: int = 1) -> xr.Dataset:
    """Hold two cubes of one scene against each other, band by band.

    Parameters
    ----------
    made, released : (band, y, x), the same bands and size. Pixels that are not finite in both are left out.
    border : width of what counts as border, pixels: there the translation to centre extrapolates.

    Returns
    -------
    Dataset with, over (band, place) and place one of `PLACES`,

        mean_difference, rms_difference, largest_difference    made - released, in their units
        correlation    of the values; NaN where one is constant
        scale          the factor that brings `made` nearest to `released` (least squares)
        left_over      RMS of scale * made - released over the RMS of released

    and, over place, `one_scale` and `one_left_over`: the same with one factor for all bands, and `relative`, without
    any. Attribute `compared`: the share of values that were finite in both.

    Raises
    ------
    ValueError
        If the arrays are no cubes, or differ in bands or size, or share no finite value.
    """
    for cube in (made, released):
        require_cube(cube)
    if made.shape != released.shape or not np.array_equal(made["band"], released["band"]):
        raise ValueError(f"cubes of {made.shape} and {released.shape} (band, y, x): expected the same bands and size")
    ours, theirs = (np.asarray(cube.values, dtype=np.float64) for cube in (made, released))
    finite = np.isfinite(ours) & np.isfinite(theirs)
    if not finite.any():
        raise ValueError("the cubes share no finite value; is the white reference dark everywhere?")
    inside = np.zeros(ours.shape[1:], dtype=bool)
    inside[border : -border or None, border : -border or None] = True
    areas = (np.ones_like(inside), inside, ~inside)  # as `PLACES`
    each = [[_numbers(a[area], b[area]) for a, b in zip(ours, theirs, strict=True)] for area in areas]
    whole = [_numbers(ours[:, area].ravel(), theirs[:, area].ravel()) for area in areas]
    return xr.Dataset(
        {key: (("place", "band"), [[one[key] for one in bands] for bands in each]) for key in _BY_BAND}
        | {key: ("place", [one[key.removeprefix("one_")] for one in whole]) for key in _OVER_ALL},
        coords={"place": list(PLACES), "band": made["band"], "wavelength": ("band", made["wavelength"].values)},
        attrs={"compared": float(finite.mean()), "units": str(made.attrs.get("units", ""))},
    )


def _numbers(made: Array, released: Array) -> dict[str, float]:
    """What `compare` says of one set of values; NaN where there is nothing to say it of."""
    both = np.isfinite(made) & np.isfinite(released)
    ours, theirs = made[both], released[both]
    if not ours.any() or not theirs.any():
        return dict.fromkeys((*_BY_BAND, "relative"), np.nan)
    difference, scale = ours - theirs, (ours @ theirs) / (ours @ ours)
    rms, left, size = (np.sqrt(np.mean(one**2)) for one in (difference, scale * ours - theirs, theirs))
    spread = ours.std() * theirs.std()
    correlation = np.mean((ours - ours.mean()) * (theirs - theirs.mean())) / spread if spread else np.nan
    largest = difference[np.abs(difference).argmax()]
    values = (difference.mean(), rms, largest, correlation, scale, left / size, rms / size)
    return dict(zip((*_BY_BAND, "relative"), map(float, values), strict=True))


def difference_table(comparison: xr.Dataset) -> pd.DataFrame:
    """A comparison as a table: one row a band in the order of wavelength, indexed by band.

    `bias` and `rms` are the mean and the RMS difference, `inside` and `border` the RMS there, in units of the cubes.
    """
    here = comparison.sortby("wavelength")
    whole, rms = here.sel(place="everywhere"), here["rms_difference"]
    columns = {"nm": here["wavelength"], "bias": whole["mean_difference"], "rms": whole["rms_difference"]}
    columns |= {place: rms.sel(place=place) for place in PLACES[1:]}
    columns |= {"correlation": whole["correlation"], "scale": whole["scale"], "left over": whole["left_over"]}
    values = {name: column.values for name, column in columns.items()}
    return pd.DataFrame(values, index=pd.Index(here["band"].values, name="band"))


def kind(comparison: xr.Dataset) -> str:
    """What the difference is, as a key of `KINDS`."""
    whole, inside = (comparison.sel(place=place) for place in PLACES[:2])
    if whole["relative"] <= SAME:
        return "same"
    if whole["one_left_over"] <= SAME:
        return "one factor"
    if inside["one_left_over"] <= SAME:
        return "border"
    if whole["left_over"].max() <= SAME:
        return "factor a band"
    if whole["correlation"].min() >= 1 - SAME**2:
        return "offset a band"
    return "other"


def verdict(comparison: xr.Dataset) -> str:
    """One sentence: how far the cubes are the same, and what the rest points to."""
    whole = comparison.sel(place="everywhere")
    return KINDS[kind(comparison)].format(
        relative=float(whole["relative"]),
        factor=float(whole["one_scale"]),
        inside=float(comparison["one_scale"].sel(place="inside")),
        low=float(whole["scale"].min()),
        high=float(whole["scale"].max()),
        left=float(whole["one_left_over"]),
        correlation=float(whole["correlation"].min()),
    )


def remade(data: HSIDrive, name: str, chain: Chain) -> tuple[xr.DataArray, xr.Dataset]:
    """The cube of a scene made from its raw frame, and how it compares with the released one.

    DatasetError if the scene has no raw frame, or a file cannot be read, or the released cube holds no reflectance.
    """
    if data.units != "reflectance":
        raise DatasetError(f"{data.root}: {data.layout} holds {data.units} values; raw frames give reflectance")
    made = chain(data.frame(name), data.sensor, source=data.origin)
    return made, compare(made, data.cube(name))


def remade_table(data: HSIDrive, names: Sequence[str], chain: Chain, progress: bool = False) -> pd.DataFrame:
    """Every scene's raw frame against its released cube: one row a scene, indexed by name.

    `scale` is the factor that brings the made cube nearest to the released one, `left over` what remains after it, as a
    share of the released values: everywhere, inside and at the border.
    """
    rows = {}
    for name in tqdm(names, unit="scene", disable=not progress):
        _, comparison = remade(data, name, chain)
        whole, inside, border = (comparison.sel(place=place) for place in PLACES)
        rows[name] = {
            "correlation": float(whole["correlation"].mean()),
            "scale": float(whole["one_scale"]),
            "left over": float(whole["one_left_over"]),
            "inside": float(inside["one_left_over"]),
            "border": float(border["one_left_over"]),
            "difference": kind(comparison),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("scene")
