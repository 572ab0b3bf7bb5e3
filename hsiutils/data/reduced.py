"""A data set with fewer, larger pixels: large images for networks and measures that are sized for small ones."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.data.cube import make_cube
from hsiutils.data.sensor import cubes_only
from hsiutils.data.source import Source


@dataclass(frozen=True, eq=False, kw_only=True)
class Reduced(Source):
    """The scenes of `whole`; `factor` by `factor` of its pixels are one. Made by `Reduced.of`.

    Rows and columns that fill no block, at the lower and right edge, are left out.
    """

    whole: Source
    factor: int

    expected = "not found by its files: a data set that was opened is made smaller"

    @classmethod
    def of(cls, whole: Source, factor: int) -> Self:
        """A data set whose images have `factor` times fewer rows and columns.

        Raises
        ------
        ValueError
            If the factor is below 1, or leaves nothing of an image.
        """
        rows, columns = (side // max(factor, 1) for side in whole.sensor.tiles)
        if factor < 1 or not rows or not columns:
            raise ValueError(f"factor: expected 1 to {min(whole.sensor.tiles)}, the shorter side, got {factor}")
        known = {name: getattr(whole, name) for name in ("root", "layout", "classes", "units", "table", "left_out")}
        own = whole.sensor
        sensor = replace(cubes_only(own.name, own.wavelengths_nm, (rows, columns)), bands=own.bands)
        return cls(sensor=sensor, whole=whole, factor=factor, **known)

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """No folder holds one."""
        return False

    @classmethod
    def open(cls, root: Path) -> Self:
        """See `Reduced.of`."""
        raise NotImplementedError(cls.expected)

    @property
    def origin(self) -> str:
        """See `Source.origin`."""
        return self.whole.origin

    def cube(self, name: str) -> xr.DataArray:
        """See `Source.cube`; the mean of each block."""
        rows, columns = (self.factor * side for side in self.sensor.tiles)
        values = self.whole.cube(name).values[:, :rows, :columns]
        # (band, rows, columns) -> (band, y, block, x, block)
        blocks = values.reshape(len(values), self.sensor.tiles[0], self.factor, self.sensor.tiles[1], self.factor)
        history = f"{self.layout}: {name}, mean of {self.factor} x {self.factor} pixels"
        return make_cube(blocks.mean((2, 4)), self.sensor, units=self.units, source=self.origin, history=history)

    def labels(self, name: str) -> NDArray[np.uint8]:
        """See `Source.labels`; that of the pixel in the middle of each block."""
        rows, columns = self.sensor.tiles
        first = self.factor // 2
        return np.ascontiguousarray(
            self.whole.labels(name)[first :: self.factor, first :: self.factor][:rows, :columns]
        )

    def files(self, name: str) -> tuple[Path, ...]:
        """See `Source.files`."""
        return self.whole.files(name)

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        return f"{self.whole.fingerprint()}/{self.factor}"
