"""What is wrong with one cube, label image or raw frame of HSI-Drive: every fault as a row of a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hsiutils.cubefiles import read_cube, read_labels, stored_dtype
from hsiutils.layouts import Layout
from hsiutils.raw import read_frame
from hsiutils.sensor import Sensor

Severity = Literal["error", "warning", "note"]

REFLECTANCE = (0.0, 4.0)
"""Range of the released v2.0 cubes: reflectance against a white reference in other light is not bounded by one."""

_OUTSIDE = 0.01
"""Share of values beyond the range that noise and highlights explain."""

_FETCH = "fetch the file again"


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes
    ----------
    severity : "error" (the data cannot be read, or would be read wrongly), "warning" (it can, but look) or "note".
    scene : name, or "" for what concerns the whole data set.
    file : where.
    found, expected : in words.
    advice : what to do.
    """

    severity: Severity
    scene: str
    file: Path
    found: str
    expected: str
    advice: str


def check_cube(scene: str, path: Path, layout: Layout, bands: int, tiles: tuple[int, int]) -> Iterator[Finding]:
    """Faults of one cube: unreadable, of another shape or type, or with values that its layout does not have.

    Parameters
    ----------
    scene : name, for the findings.
    path, layout, bands, tiles : see `hsiutils.cubefiles.read_cube`.
    """
    expected = f"{bands} bands of {tiles[0]} x {tiles[1]} pixels ({layout.name})"
    try:
        values, dtype = read_cube(path, layout, bands, tiles), stored_dtype(path, layout)
    except Exception as error:  # on a garbled header the parsers raise whatever they trip over
        yield Finding("error", scene, path, _without_path(error, path), expected, f"{_FETCH}, or move it away")
        return
    wanted = "uint16" if layout.name.endswith("u16") else "float32"
    if dtype != wanted:
        loss = "rounded to whole numbers" if dtype[0] in "iu" else "larger than they need be"
        yield Finding("warning", scene, path, f"values stored as {dtype}", wanted, f"values may be {loss}; {_FETCH}")
    yield from _odd_values(scene, path, layout, values)


def _odd_values(scene: str, path: Path, layout: Layout, values: NDArray[np.float32]) -> Iterator[Finding]:
    unmeasured = ~np.isfinite(values)
    if unmeasured.any():
        found = f"{unmeasured.sum()} values in {unmeasured.any(axis=0).sum()} pixels are not finite"
        yield Finding("error", scene, path, found, "finite values", f"{_FETCH}; such pixels become zero under PN")
        values = np.where(unmeasured, np.float32(0), values)
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    if constant := np.flatnonzero(low == high).tolist():
        found = f"one value throughout in bands {constant}"
        yield Finding("error", scene, path, found, "an image in every band", f"{_FETCH}, or leave the scene out")
    elif layout.units.startswith("reflectance"):
        yield from _no_reflectance(scene, path, values, low, high)
    elif low.min() < 0 or (high.max() > 1 and "u16" not in layout.name):
        found = f"values from {low.min():.3g} to {high.max():.3g}"
        yield Finding("warning", scene, path, found, f"{layout.units}: 0 to 1", "see whether it is of this release")


def _no_reflectance(
    scene: str, path: Path, values: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> Iterator[Finding]:
    """Values that some other step of the chain leaves behind."""
    expected, mixed = "reflectance", "a file of another release or step among these; fetch the one of this release"
    if np.all(low == 0) and np.allclose(high, 1.0, rtol=0, atol=1e-6):
        yield Finding("error", scene, path, "every band runs from 0 to 1: band-wise scaled", expected, mixed)
        return
    if np.abs(values.sum(axis=0) - 1).max() < 1e-3:
        yield Finding("error", scene, path, "every pixel sums to one: PN was applied already", expected, mixed)
        return
    outside = float(np.mean((values < REFLECTANCE[0]) | (values > REFLECTANCE[1])))
    if outside > _OUTSIDE:
        low_limit, high_limit = REFLECTANCE
        found = f"{outside:.1%} of the values outside {low_limit:g}..{high_limit:g}, median {np.median(values):.3g}"
        advice = "raw numbers, or a wrong white reference: see how the file was made"
        yield Finding("error" if outside > 0.5 else "warning", scene, path, found, expected, advice)


def check_labels(scene: str, path: Path, tiles: tuple[int, int]) -> Iterator[Finding]:
    """Faults of one label image: unreadable, coloured, of another size, with unknown codes, or empty."""
    try:
        codes = read_labels(path, tiles)
    except Exception as error:  # as above
        found, expected = _without_path(error, path), f"codes 0..10, {tiles[0]} x {tiles[1]} pixels"
        yield Finding("error", scene, path, found, expected, f"{_FETCH}, or move it and its cube away")
        return
    if not codes.any():
        advice = "nothing to train on or to score: leave the scene out"
        yield Finding("warning", scene, path, "no pixel is labelled", "labelled pixels", advice)


def check_frame(scene: str, path: Path, sensor: Sensor) -> Iterator[Finding]:
    """Faults of one raw frame: cut short, of another sensor, or in another byte order."""
    expected = f"{sensor.frame_shape[0]} x {sensor.frame_shape[1]} little-endian uint16 of {sensor.bits} bits"
    try:
        read_frame(path, sensor)
    except (OSError, ValueError) as error:
        yield Finding("error", scene, path, _without_path(error, path), expected, _FETCH)


def _without_path(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ") or type(error).__name__
