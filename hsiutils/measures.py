"""What the ledger's claims are measured by: one small function a claim, of a run."""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
import xarray as xr
from scipy import stats

from hsiutils import pipeline
from hsiutils.metrics import scores
from hsiutils.pipeline import Run
from hsiutils.scene_statistics import class_variability, statistics
from hsiutils.uncertainty import Estimate, difference, mean_over_seeds


class NotTestable(Exception):
    """A claim cannot be tested with this run; the message says why."""


Measure = Callable[[Run], Estimate]


def _cell(variant: str, name: str) -> Measure:
    def measure(run: Run) -> Estimate:
        if run.data_root is None:
            raise NotTestable("the paper's value belongs to the real HSI-Drive; these scenes are simulated")
        return mean_over_seeds(_iou(run, variant, name))

    return measure


def marks_fall(run: Run) -> Estimate:
    """IoU of Road Marks, 3 channels minus 25 with PN, points."""
    return difference(_iou(run, "3", "Road Marks"), _iou(run, "25-PN", "Road Marks"))


def vegetation_rise(run: Run) -> Estimate:
    """IoU of Vegetation, 25 channels with PN minus 3, points."""
    return difference(_iou(run, "25-PN", "Vegetation"), _iou(run, "3", "Vegetation"))


def variability_gain(run: Run) -> Estimate:
    """Spearman correlation over the classes of class variability and IoU gained from 1 to 25 channels, by seed."""
    drive = pipeline.data(run)
    variability = class_variability(statistics(drive, drive.names("train"))).values
    gain = _scores(run, "25")["iou"].values - _scores(run, "1")["iou"].values  # (seed, class)
    known = np.isfinite(variability) & np.isfinite(gain).all(axis=0)
    if known.sum() < 3:
        raise NotTestable(f"only {known.sum()} classes occur in both training and test scenes")
    return mean_over_seeds([stats.spearmanr(variability[known], row[known]).statistic for row in gain])


def pn_robustness(run: Run) -> Estimate:
    """Mean IoU lost from sunlit to shadowed pixels, 25 channels minus 25 with PN, points."""
    return difference(_lost_in_shadow(run, "25"), _lost_in_shadow(run, "25-PN"))


def pn_edge_cost(run: Run) -> Estimate:
    """Boundary IoU of Road Marks, 25 channels minus 25 with PN, points."""
    one, other = (_scores(run, name)["boundary_iou"].sel({"class": "Road Marks"}) * 100 for name in ("25", "25-PN"))
    return difference(_finite(one), _finite(other))


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "marks_3": _cell("3", "Road Marks"),
        "marks_25pn": _cell("25-PN", "Road Marks"),
        "vegetation_3": _cell("3", "Vegetation"),
        "vegetation_25pn": _cell("25-PN", "Vegetation"),
        "marks_fall": marks_fall,
        "vegetation_rise": vegetation_rise,
        "variability_gain": variability_gain,
        "pn_robustness": pn_robustness,
        "pn_edge_cost": pn_edge_cost,
    }
)
"""Measures by the name that data/claims.yaml uses."""


@cache
def _evaluation(run: Run) -> xr.Dataset:
    return pipeline.evaluation(run, progress=False)


def _scores(run: Run, variant: str, region: str = "all") -> xr.Dataset:
    """Scores of one variant's networks, (seed, class)."""
    if variant not in run.variants:
        raise NotTestable(f"needs variant {variant!r}; this run has {', '.join(run.variants)}")
    counts = _evaluation(run)
    if region not in counts["region"].values:
        raise NotTestable("needs to know where the sun shines, which only simulated scenes tell")
    return scores(counts.sel(variant=variant, region=region, drop=True))


def _iou(run: Run, variant: str, name: str) -> xr.DataArray:
    return _finite(_scores(run, variant)["iou"].sel({"class": name}) * 100)


def _lost_in_shadow(run: Run, variant: str) -> xr.DataArray:
    sun, shadow = (_scores(run, variant, region)["iou"] for region in ("sunlit", "shadowed"))
    both = np.isfinite(sun) & np.isfinite(shadow)  # the same classes on both sides, or the means do not compare
    return _finite((sun.where(both).mean("class") - shadow.where(both).mean("class")) * 100)


def _finite(values: xr.DataArray) -> xr.DataArray:
    if not np.isfinite(values).any():
        raise NotTestable("the class does not occur in the test scenes")
    return values
