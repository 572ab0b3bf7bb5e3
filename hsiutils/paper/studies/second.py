"""A second data set: whether GradCAM breaks because of the spectra, or on colour images as well.

The audit of chapter 4 once more, of class activation maps and of the exact decomposition, on networks of three kinds of
images: HSI-Drive's, scenes by a simulated colour camera, and real colour images such as CamVid, where a folder of them
is given (`hsiutils study second --data-root FOLDER`). Each network is audited as it was trained, and as it was before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hsiutils import simulate
from hsiutils.analysis.estimates import mean_over_seeds
from hsiutils.attribution.audit import AUDITED
from hsiutils.data.reduced import Reduced
from hsiutils.data.rgb_folder import CENTRES_NM, RGBImages
from hsiutils.data.sensor import Band, Sensor
from hsiutils.data.source import Source
from hsiutils.models.metrics import scores
from hsiutils.paper.conservativeness import ZEROS, audited_scenes, explained, in_units, residuals, subject
from hsiutils.paper.run import Run
from hsiutils.paper.studies import Point, Study
from hsiutils.paper.table1 import counts_of

REAL = "real colour"
"""What the name of a set of real colour images begins with on the axis `data`."""
SIMULATED = "simulated colour"
METHODS = tuple(name for name in AUDITED if name == "linear decomposition" or ("CAM" in name and name != "XGradCAM"))
"""Class activation maps, but for XGradCAM, which sums to what HiResCAM does; and the exact decomposition."""
STATES = ["trained", "untrained"]
PIXELS = 120
"""Pixels whose sums are kept beside their logits."""
_GRID_NM = np.arange(400.0, 701.0, 10.0)
_WIDTH_NM, _PEAK = 90.0, 0.4
"""Full width at half maximum of a colour filter, and electrons per photon at its middle; both nominal."""
_SMALL = (40, (48, 96))
"""Scenes, at most half the profile's, and their size, that are simulated for the colour camera: it needs no more."""


def _colour_band(index: int, centre_nm: float) -> Band:
    response = _PEAK * np.exp(-4 * np.log(2) * ((_GRID_NM - centre_nm) / _WIDTH_NM) ** 2)
    return Band(index, centre_nm, curve=tuple(zip(_GRID_NM.tolist(), response.tolist(), strict=True)))


COLOUR = Sensor(
    name="colour camera",
    mosaic=(2, 2),
    frame_shape=(432, 818),
    active_origin=(0, 0),
    tiles=(216, 409),
    bands=tuple(_colour_band(index, CENTRES_NM[colour]) for index, colour in enumerate((0, 1, 1, 2))),
)
"""Red, green, green and blue in a Bayer mosaic, behind a filter that stops the infrared; HSI-Drive's view."""
ONE_OF_EACH = "bands:0,1,3"
"""Red, one green and blue: the other green is the same once more."""


@dataclass(frozen=True)
class ColourRun(Run):
    """A run on colour images; those of a `data_root` are made about as small as the profile's."""

    @cached_property
    def data(self) -> Source:
        """See `Run.data`."""
        whole = super().data
        factor = round(float(np.sqrt(np.prod(whole.sensor.tiles) / np.prod(self.profile.tiles))))
        return Reduced.of(whole, factor) if factor > 1 else whole


def _grid(run: Run) -> Sequence[Point]:
    """Real colour images alone where the run's data are such."""
    if run.data_root is not None and isinstance(run.data, RGBImages):
        given = ColourRun(run.profile, run.seed, run.data_root, ("all",))
        networks: dict[str, tuple[Run, str]] = {f"{REAL}: {run.data_root.name}": (given, "all")}
    else:
        own, variant, (scenes, tiles) = run.profile, subject(run), _SMALL
        few = min(own.scenes // 2, scenes), (min(own.tiles[0], tiles[0]), min(own.tiles[1], tiles[1]))
        camera = simulate.Simulation(long_pass_nm=None, chip=COLOUR)
        small = ColourRun(replace(own, scenes=few[0], tiles=few[1]), run.seed, None, (ONE_OF_EACH,), simulated=camera)
        networks = {f"{run.data.origin} HSI-Drive, {variant}": (run, variant), SIMULATED: (small, ONE_OF_EACH)}
    return [Point(one, name, seed, {"data": data}) for data, (one, name) in networks.items() for seed in run.seeds]


def audited(run: Run, variant: str, seed: int) -> xr.Dataset:
    """Audit of one network on one scene, and its mean IoU.

    Returns
    -------
    Dataset
        Of (state, method), "trained" and "untrained": `explained`, R2 of the sums, median over the classes; `share`,
        root mean square of the residual in units of the logit; `largest` residual in these units, of any pixel. `sums`
        (state, method, pixel) and `logits` (state, pixel) of one class, less their means over the classes. `mean_iou`,
        percent, and `classes`, their number.
    """
    (scene,) = audited_scenes(run, 1)
    # Of the run's own data all methods, as chapter 4 asks: it need not be done again.
    asked = METHODS if isinstance(run, ColourRun) else None
    parts = [
        residuals(run, variant, seed, scene, asked),
        residuals(run, variant, seed, scene, METHODS, trained=False),
    ]
    found = xr.concat([closing(one.sel({"method": _own(one)})) for one in parts], xr.Variable("state", STATES))
    counts = counts_of(run, variant, seed).sel(region="all", drop=True)
    return found.assign(mean_iou=100 * scores(counts)["mean_iou"], classes=counts.sizes["truth"])


def _own(found: xr.Dataset) -> list[str]:
    names = map(str, found["method"].values)
    return [name for name in names if name.rpartition(" ")[0] in METHODS or name == ZEROS]


def closing(found: xr.Dataset) -> xr.Dataset:
    """Figures of one audit, as `audited` gives them, of each method."""
    over, units = ["class", "y", "x"], in_units(found)
    logits = found["logit"] - found["logit"].mean("class")
    sums = found["residual"] + found["logit"]
    sums = sums - sums.mean("class")
    most = int(found["logit"].argmax("class").to_series().value_counts().index[0])  # the class of most pixels
    shape = logits.sizes["y"], logits.sizes["x"]
    rows, columns = np.unravel_index(np.linspace(0, shape[0] * shape[1] - 1, PIXELS).astype(int), shape)
    at: dict[str, Any] = {"class": most, "y": xr.Variable("pixel", rows), "x": xr.Variable("pixel", columns)}
    chosen = {name: one.isel(at, drop=True) for name, one in {"sums": sums, "logits": logits}.items()}
    figures = {
        "explained": explained(found).median("class"),
        "share": (units**2).mean(over) ** 0.5,
        "largest": abs(units).max(over),
    }
    return xr.Dataset(figures | chosen).reset_coords(drop=True)


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """As `audited`, (data, seed, ...); of the pixels only the first seed's, of trained networks."""
    kept = found["audited"]
    one = kept[["sums", "logits"]].isel(seed=0).sel(state="trained", drop=True).reset_coords(drop=True)
    return kept.drop_vars(["sums", "logits"]).merge(one).astype(np.float32)


STUDY = Study(
    file="second.nc",
    about="a second data set, of colour images: do maps sum to the logits there?",
    grid=_grid,
    measures=(audited,),
    reduce=_reduce,
)


def beside(run: Run, folder: str = "") -> tuple[xr.Dataset, str]:
    """The study of real colour images, and in words where it comes from.

    Parameters
    ----------
    folder : of colour images with labels, such as CamVid's, which are measured beside the run's own data; empty for the
        committed record, or where there is none, for the run's own data and a simulated colour camera's.

    Raises
    ------
    ValueError
        If the folder holds another kind of data.
    """
    if not folder:
        recorded, words = STUDY.shown()
        return (STUDY.make(run, progress=False), words) if recorded is None else (recorded, words)
    given = replace(run, data_root=Path(folder).expanduser().resolve())
    if not isinstance(given.data, RGBImages):
        raise ValueError(f"{folder}: expected colour images with labels, such as CamVid's, got {given.data.layout}")
    both = [STUDY.make(one, progress=False) for one in (run, given)]
    return xr.concat(both, "data", join="outer"), "measured in this run"


def comparison(found: xr.Dataset) -> pd.DataFrame:
    """A row a data set and method: R2 of trained networks (interval over seeds) and untrained ones, and residuals."""
    rows = []
    for data in found["data"].values:
        for method in found["method"].values:
            one = found.sel({"data": data, "method": method})
            values = one["explained"].sel(state="trained")
            if not np.isfinite(values).any():
                continue
            estimate = mean_over_seeds(values).within(most=1)
            rows.append(
                {
                    "data": data,
                    "method and layer": method,
                    **{"value": estimate.mean, "low": estimate.low, "high": estimate.high},
                    "untrained": float(one["explained"].sel(state="untrained").mean()),
                    "residual": float(one["share"].sel(state="trained").mean()),
                    "largest": float(one["largest"].sel(state="trained").max()),
                }
            )
    return pd.DataFrame(rows)
