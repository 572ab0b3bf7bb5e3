"""Does it help to undo how filters overlap? A spectral correction of the camera's bands, asked of single pixels.

A filter lets through its peak, often a second one, and a little of everything. The correction is a matrix that makes of
all bands those of the peaks alone; HSI-Drive declares that none was applied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsiutils.analysis.pixels import Spectra, pixel_confusion, scene_spectra
from hsiutils.data.sensor import Sensor, band_map
from hsiutils.data.source import Source
from hsiutils.paper import store
from hsiutils.paper.spectra import classifiers, normalised
from hsiutils.paper.study import FILE, neighbours, read

if TYPE_CHECKING:
    from hsiutils.paper.run import Run


def correction_matrix(sensor: Sensor, long_pass_nm: float | None = None, noise: float = 1e-3) -> NDArray[np.float64]:
    """The matrix that makes of a camera's bands those of their strongest peaks alone (`hsiutils.data.sensor.band_map`).

    What is fitted are the responses themselves, by regularised least squares, and no likely spectra.

    Parameters
    ----------
    sensor : whose filters' peaks are known.
    long_pass_nm : edge of the filter before the chip; a peak below it does not count. None for no filter.
    noise : of a band, as a share of the bands' mean variance; more of it corrects less.

    Returns
    -------
    (bands, bands), rows of sum one: corrected from measured, in native order.

    Raises
    ------
    ValueError
        If a band has no peak behind the filter.
    """
    bands = []
    for band in sensor.bands:
        if not (passed := [peak for peak in band.peaks if peak.centre_nm > (long_pass_nm or 0)]):
            raise ValueError(
                f"{sensor.name}: band {band.index} has no peak above {long_pass_nm or 0:g} nm to correct to"
            )
        bands.append(replace(band, peaks=(replace(max(passed, key=lambda peak: peak.share), share=1.0),)))
    ideal = replace(sensor, name=f"{sensor.name}, peaks alone", bands=tuple(bands))
    return band_map(sensor, ideal, long_pass_nm=long_pass_nm, correlation_nm=0, noise=noise)


def corrected_counts(run: "Run", per_class: tuple[int, int] = (6, 12)) -> xr.DataArray:
    """Confusion of the run's test pixels with and without correction, raw and with PN.

    Parameters
    ----------
    per_class : pixels of each class of each training scene, and of each test scene.

    Returns
    -------
    DataArray (classifier, input, scene, truth, predicted); inputs "raw", "raw, corrected", "PN", "PN, corrected".
    """
    splits = {split: run.data.names(split) for split in ("train", "test")}
    matrix = correction_matrix(run.data.sensor, run.simulation.long_pass_nm).round(9).tolist()
    build = partial(_count, data=run.data, splits=splits, matrix=matrix, per_class=per_class, seed=run.seed)
    asked = {"scenes": splits, "matrix": matrix, "per_class": per_class, "seed": run.seed}
    counts = read(store.artefact("corrected", build, {"data": run.data_key, **asked}).folder / FILE)
    named = counts.assign_coords(scene=[splits["test"][place] for place in counts["scene"].values])
    return neighbours(run.data, named)["counts"]


def _count(
    folder: Path,
    data: Source,
    splits: Mapping[str, Sequence[str]],
    matrix: Sequence[Sequence[float]],
    per_class: tuple[int, int],
    seed: int,
) -> None:
    learn, test = (
        scene_spectra(data, splits[split], count, seed)
        for split, count in zip(("train", "test"), per_class, strict=True)
    )
    kinds = classifiers(learn)
    plain = pixel_confusion(kinds, {"raw": _same, "PN": normalised}, learn, test)
    mended, asked = (
        Spectra(one.values @ np.transpose(matrix), one.truth, one.scene, one.classes) for one in (learn, test)
    )
    corrected = pixel_confusion(kinds, {"raw, corrected": _same, "PN, corrected": normalised}, mended, asked)
    xr.concat([plain, corrected], "input").to_dataset(name="counts").to_netcdf(folder / FILE, engine="h5netcdf")


def _same(values: NDArray[np.floating]) -> NDArray[np.floating]:
    return values
