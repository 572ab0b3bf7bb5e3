"""The same streets through another camera, read by networks that know HSI-Drive's only.

The test scenes are rendered again through other filters: three sister cameras', and a mosaic of 4 x 4 plain peaks; and
through the same filters at other places of the mosaic, where the nearest bands are the same bands, and what is lost is
no matter of spectra. All else stays: lens, chip, light, materials, the optics before the chip, and the way to
reflectance by a white reference, which each camera takes for itself. Nothing is trained. The other camera's bands are
given to the network as they come where they are as many, by nearest centres, or resampled by both cameras' responses
(`hsiutils.data.sensor.band_map`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.analysis.estimates import Estimate, within
from hsiutils.analysis.intervals import with_mean
from hsiutils.data.cube import mapped
from hsiutils.data.inputs import FittedVariant
from hsiutils.data.sensor import HSI_DRIVE, Sensor, band_map, bands_from_table, sister_cameras
from hsiutils.data.source import Source, open_dataset
from hsiutils.models.metrics import confusion, iou, predict
from hsiutils.models.unet import UNet
from hsiutils.paper.merits import with_both
from hsiutils.paper.run import Run, centres_behind, simulated
from hsiutils.paper.studies import Point, Study

INPUTS = ("25", "25-PN")
MAPPINGS: tuple[Literal["native", "nearest", "resampled"], ...] = ("native", "nearest", "resampled")
OWN, MOVED, MEAN = "its own", "its filters, moved", "mean"
_GAP = "25-PN less 25"


def mosaic_4x4(lowest_nm: float = 600.0, highest_nm: float = 975.0) -> Sensor:
    """A camera of 16 plain bands, evenly between two wavelengths, on a 4 x 4 mosaic of as many tiles as HSI-Drive's."""
    edges = np.linspace(lowest_nm, highest_nm, 17)
    filters = pd.DataFrame({"centre_nm": (edges[:-1] + edges[1:]) / 2})
    bands = bands_from_table(filters.assign(fwhm_nm=12.0, quantum_efficiency=0.2, share=0.9))
    frame = 4 * HSI_DRIVE.tiles[0], 4 * HSI_DRIVE.tiles[1]
    return replace(HSI_DRIVE, name="plain 4x4", mosaic=(4, 4), bands=bands, frame_shape=frame, active_origin=(0, 0))


def moved() -> Sensor:
    """HSI-Drive's camera with each filter at the opposite place of the mosaic."""
    bands = [replace(band, index=place) for place, band in enumerate(HSI_DRIVE.bands[::-1])]
    return replace(HSI_DRIVE, name="moved", bands=tuple(bands))


def cameras() -> dict[str, Sensor]:
    """The other cameras, by what they are called here."""
    sisters = {f"sister {name}": camera for name, camera in sister_cameras().items()}
    return {MOVED: moved(), **sisters, "plain 4x4": mosaic_4x4()}


def camera_counts(run: Run, name: str, seed: int) -> xr.Dataset:
    """Confusion of one network on the test scenes through each camera: (camera, mapping, scene, truth, predicted).

    `OWN` is the camera it was trained with; resampled to itself, it shows what resampling alone costs. Not there is
    what cannot be: 16 bands as they come.

    Raises
    ------
    ValueError
        If the scenes are real, and cannot be taken again.
    """
    run.require_simulated("taken again through another camera")
    trained, scenes = run.model(name, seed), run.data.names("test")
    if trained.variant is None:
        raise ValueError(f"the training of variant {name} kept no input")
    own, filter_nm, taken, rows = run.data.sensor, run.simulation.long_pass_nm, _taken(run, scenes), []
    for data in taken.values():
        as_many = len(data.sensor.bands) == len(own.bands)
        of, to = (_behind(filter_nm, sensor) for sensor in (data.sensor, own))
        maps = {how: band_map(of, to, how, long_pass_nm=filter_nm) for how in MAPPINGS[not as_many :]}
        parts = [_confusion(trained.model, trained.variant, data, scenes, own, one) for one in maps.values()]
        rows.append(xr.concat(parts, xr.Variable("mapping", list(maps))))
    found = xr.concat(rows, xr.Variable("camera", list(taken)), join="outer")
    return found.to_dataset(name="confusion")


def _taken(run: Run, scenes: Sequence[str]) -> dict[str, Source]:
    """The scenes through the run's own camera and through the others."""
    found = {OWN: run.data}
    for name, camera in cameras().items():
        chip = camera.resized(run.profile.tiles)
        made = simulated(scenes, replace(run.simulation, chip=chip))
        found[name] = open_dataset(made.folder, sensor=chip)
    return found


def _behind(long_pass_nm: float | None, sensor: Sensor) -> Sensor:
    """The camera with its bands named by the peaks that the optics let pass, as who takes the nearest band would."""
    centres = centres_behind(long_pass_nm, sensor).tolist()
    bands = (replace(band, centre_nm=centre) for band, centre in zip(sensor.bands, centres, strict=True))
    return replace(sensor, bands=tuple(bands))


def _confusion(
    model: UNet, inputs: FittedVariant, data: Source, scenes: Sequence[str], own: Sensor, weights: NDArray[np.float64]
) -> xr.DataArray:
    """Of (scene, truth, predicted) where the cubes, mapped to the network's own camera, are its input."""
    rows = []
    for name in scenes:
        seen = inputs.apply(mapped(data.cube(name), weights, own)).values  # (channel, y, x)
        truth = data.classes.merge(data.labels(name))
        rows.append(confusion(predict(model, seen[None])[0], truth, data.classes.names))
    return xr.concat(rows, xr.Variable("scene", list(scenes)))


def _grid(run: Run) -> Sequence[Point]:
    return [Point(run, name, seed, {"input": name}) for name in INPUTS for seed in run.seeds]


def _reduce(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """The counts by input and seed; NaN where a camera's bands cannot be taken so."""
    return found["camera_counts"].astype("float32")


def reached(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """IoU (%) through each camera: rows of camera, mapping, input, class (with `MEAN`), value, low, high.

    Intervals are over scenes, drawn again with `seed`, and trainings together.
    """
    return within(_table(found, _iou, seed), 0, 100)


def losses(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """Points of IoU that the same network loses against its own camera, on the same scenes; rows as of `reached`.

    Among the inputs is "25-PN less 25": below zero, PN carries over better.
    """

    def figure(counts: xr.Dataset) -> xr.DataArray:
        lost = _lost(counts)
        with_pn, without = (lost.sel(input=name, drop=True) for name in INPUTS[::-1])
        return xr.concat([lost, (with_pn - without).expand_dims(input=[_GAP])], "input")

    return _table(found, figure, seed)


def resampling_gains(found: xr.Dataset, seed: int) -> pd.DataFrame:
    """Points of IoU that resampling gains over the nearest bands, and over bands as they come; rows as of `reached`."""

    def figure(counts: xr.Dataset) -> xr.DataArray:
        values = _iou(counts)
        over = values.sel(mapping=list(MAPPINGS[:-1]))
        return values.sel(mapping=MAPPINGS[-1], drop=True) - over

    return _table(found, figure, seed)


def facts(long_pass_nm: float | None = None) -> pd.DataFrame:
    """The cameras behind a long-pass filter: bands, range, widths, heights, how far peaks are from its own."""
    own, rows = centres_behind(long_pass_nm, HSI_DRIVE), {}
    for name, camera in ({OWN: HSI_DRIVE} | cameras()).items():
        centres = centres_behind(long_pass_nm, camera)
        behind = [peak for band in camera.bands for peak in band.peaks if peak.centre_nm > (long_pass_nm or 0)]
        away = np.abs(own[:, np.newaxis] - centres).min(axis=1)
        rows[name] = {
            "bands": len(centres),
            "from (nm)": centres.min(),
            "to (nm)": centres.max(),
            "width (nm, median)": np.median([peak.fwhm_nm for peak in behind]),
            "height (%, median)": 100 * np.median([peak.quantum_efficiency for peak in behind]),
            "nearest peak (nm away, median)": np.median(away),
            "(at most)": away.max(),
        }
    return pd.DataFrame(rows).T.rename_axis("camera").astype({"bands": int})


def findings(lost: pd.DataFrame) -> list[str]:
    """A sentence a camera, of the mean over classes, bands resampled: of `losses`. Its own camera is the null."""
    costs = _means(lost)
    verdicts = {1: "PN carries over worse", -1: "PN carries over better", 0: "with PN or without cannot be told apart"}
    said = []
    for camera in dict.fromkeys(lost["camera"]):
        left = " and ".join(f"{costs[camera, 'resampled', name]} with {name}" for name in INPUTS)
        if camera == OWN:
            said.append(f"Resampled to itself, its own camera costs {left} points of mean IoU.")
            continue
        gap, own = costs[camera, "resampled", _GAP], lost[(lost["camera"] == camera) & (lost["input"] == INPUTS[-1])]
        worst = own[own["mapping"] == "resampled"].set_index("class")["value"]
        said.append(
            f"{camera} costs, resampled, {left}: {verdicts[gap.sign]}. {INPUTS[-1]} loses most of {worst.idxmax()}, "
            f"{worst.max():.1f} points."
        )
    return said


def advice(lost: pd.DataFrame, gained: pd.DataFrame) -> list[str]:
    """What follows for who chooses a camera, counted over the other cameras: of `losses` and `resampling_gains`."""
    costs, gains = _means(lost), _means(gained)
    others = [camera for camera in dict.fromkeys(lost["camera"]) if camera not in (OWN, MOVED)]
    helps = sum(gains[camera, "nearest", name].sign > 0 for camera in others for name in INPUTS)
    still = _still(costs, others)
    signs = [costs[camera, "resampled", _GAP].sign for camera in others]
    return [
        f"Resampling by both cameras' responses beats the nearest bands in {helps} of {len(others) * len(INPUTS)} "
        f"cases (a camera and an input); what another camera then still costs is {still} points of mean IoU.",
        f"With PN less is lost than without through {signs.count(-1)} of {len(others)} other cameras, and more through "
        f"{signs.count(1)}.",
        *_of_places(costs),
    ]


def in_a_line(found: xr.Dataset, seed: int) -> str:
    """What other cameras cost at best, least to most of them, by input: of the record."""
    lost = losses(found, seed)
    others = [camera for camera in dict.fromkeys(lost["camera"]) if camera not in (OWN, MOVED)]
    return (
        f"Behind {len(others)} other cameras, their bands resampled to the old ones, the same networks lose "
        f"points of mean IoU: {_still(_means(lost), others)}"
    )


def _still(costs: dict[tuple[str, str, str], Estimate], others: Sequence[str]) -> str:
    """Means of what each of some cameras costs, resampled, least to most, by input, and of how many it can be told."""
    left = {name: [costs[camera, "resampled", name] for camera in others] for name in INPUTS}
    return " and ".join(
        f"{min(one.mean for one in own):.1f} to {max(one.mean for one in own):.1f} with {name} (told from zero through "
        f"{sum(one.sign > 0 for one in own)} of {len(own)})"
        for name, own in left.items()
    )


def _of_places(costs: dict[tuple[str, str, str], Estimate]) -> list[str]:
    """What the places of the bands cost, which is no matter of spectra."""
    told = [f"{costs[MOVED, 'nearest', name]} with {name}" for name in INPUTS if (MOVED, "nearest", name) in costs]
    if not told:
        return []
    return [
        "The same filters at other places of the mosaic, put in order again (each band is the nearest), cost "
        f"{' and '.join(told)} points of mean IoU: no matter of spectra, but of where in a pixel each band is seen."
    ]


def _means(table: pd.DataFrame) -> dict[tuple[str, str, str], Estimate]:
    own = table[table["class"] == MEAN]
    keys = own[["camera", "mapping", "input"]].itertuples(index=False, name=None)
    bounds = own[["value", "low", "high"]].itertuples(index=False, name=None)
    return {key: Estimate(value, low, high, 0) for key, (value, low, high) in zip(keys, bounds, strict=True)}


def _iou(counts: xr.Dataset) -> xr.DataArray:
    """Percent (camera, mapping, input, seed, class)."""
    return with_mean(100 * iou(counts["confusion"].sum("scene")))


def _lost(counts: xr.Dataset) -> xr.DataArray:
    values = _iou(counts)
    return values.sel(camera=OWN, mapping="native", drop=True) - values


def _table(found: xr.Dataset, figure: Callable[[xr.Dataset], xr.DataArray], seed: int) -> pd.DataFrame:
    order = ["camera", "mapping", "input", "class"]
    return with_both(found[["confusion"]], figure, seed).to_dataframe(order).reset_index().dropna(subset="value")


STUDY = Study(
    file="cameras.nc",
    about="the same streets through three sister cameras, a 4 x 4 mosaic and moved filters; networks of HSI-Drive's",
    grid=_grid,
    measures=(camera_counts,),
    reduce=_reduce,
)
