"""Does a part foretell what the network does without it? The end task by which chapter 7's maps are judged.

Parts that sum to the logit need not tell what happens when the input changes: complete and linear attributions can be
no better than chance at that, and asking the network can be cheaper (Bilodeau et al. 2022, arXiv 2212.11870). So what
a map says of a band, a patch or a class's pixels is held against what the margin loses when these are replaced; beside
it stands what a few questions to the network foretell of many: coarser parts, whose loss is shared out evenly.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from hsiutils.analysis.activations import spaced
from hsiutils.analysis.estimates import within
from hsiutils.attribution.checks import rank_correlations
from hsiutils.attribution.hooks import ask
from hsiutils.attribution.linearise import linearise
from hsiutils.attribution.perturbation import patches
from hsiutils.attribution.targets import margin
from hsiutils.data.classes import VOID
from hsiutils.paper.bands import against_average, wavelengths
from hsiutils.paper.merits import with_both
from hsiutils.paper.study import study

if TYPE_CHECKING:
    from hsiutils.paper.run import Run

SCENES = 20
"""Test scenes of the record."""
CUTS = ("bands", "patches", "classes")
REFERENCES = ("zero", "average", "grey")
"""What takes a part's place: zero, the average pixel of training scenes, or each pixel's own mean over its bands."""
MAP, FROM_ZERO, FEWER = "map", "map from zero", "fewer questions"
PREDICTORS = (MAP, FROM_ZERO, FEWER)
"""The map read from the reference, or from zero whatever the reference; coarser parts."""
ROWS, COARSER = 2, 5
"""Rows of square patches, ROWS x ROWS of which a coarser question takes together; and bands that it does."""
GAPS = {name: f"{MAP} less {name}" for name in ("chance", FEWER)}
LEAST = 32
"""Pixels that a class must have in a scene to be asked about."""
_BATCH = 8


def foretold(run: "Run", name: str, seed: int, most: int = SCENES) -> xr.Dataset:
    """What parts foretell of one network's margins, over some test scenes: sums of `scores` along scene."""
    build, scenes = partial(against_average, measure=foretold_of), spaced(run.data.names("test"), most)
    order = wavelengths(run, name).argsort().tolist()
    return study(run, "foretold", build, (name, seed), scenes, order=order)


def foretold_of(
    model: nn.Module,
    x: Tensor,
    truth: NDArray[Any],
    light: NDArray[Any] | None,
    average: NDArray[np.float64],
    order: list[int],
) -> xr.Dataset:
    """Replace every part of one scene, and compare what the margins lose with what was foretold.

    Parameters
    ----------
    x : (channels, h, w).
    truth : (h, w) class indices.
    light : not used.
    average : (channels,) mean spectrum of training scenes, in the input's units.
    order : channels by wavelength; neighbours are taken together by coarser questions.

    Returns
    -------
    Dataset of the variables of `scores`, (cut, reference, predictor): zero where a predictor says nothing of a cut.
    """
    classes, pixels = np.unique(truth[truth != VOID], return_counts=True)
    shown = [int(index) for index, count in zip(classes, pixels, strict=True) if count >= LEAST]
    empty = scores(np.empty((0, 0)), np.empty((0, 0)))
    table = {key: np.zeros((len(CUTS), len(REFERENCES), len(PREDICTORS))) for key in empty}
    if shown:
        at = linearise(model, x, exact=True)
        targets = [margin(model, x, index, truth == index) for index in shown]
        slopes = torch.stack([at.pull(one.weights).gradient for one in targets])  # (targets, channels, h, w)
        weights = torch.stack([one.weights for one in targets]).to(x)  # (targets, classes, h, w)
        whole = _Asked(at.model, x, weights)
        mean = torch.as_tensor(average).to(x)[:, None, None]
        starts = [torch.zeros_like(x), mean.expand_as(x), x.mean(0).expand_as(x)]
        for row, (parts, groups) in enumerate(_cuts(x, truth, order)):
            said = [_parts(slopes * (x - start), parts) for start in starts]
            for column, start in enumerate(starts):
                lost = whole.lost(parts, start)
                told: dict[str, NDArray[np.float64]] = {MAP: said[column], FROM_ZERO: said[0]}
                if groups is not None:
                    coarse = [parts[groups == group].any(0) for group in range(int(groups.max()) + 1)]
                    told[FEWER] = (whole.lost(torch.stack(coarse), start) / np.bincount(groups))[:, groups]
                for place, predictor in enumerate(PREDICTORS):
                    if predictor in told:
                        for key, value in scores(lost, told[predictor]).items():
                            table[key][row, column, place] = value
    dims = ("cut", "reference", "predictor")
    coords = {"cut": list(CUTS), "reference": list(REFERENCES), "predictor": list(PREDICTORS)}
    return xr.Dataset({key: (dims, values) for key, values in table.items()}, coords)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A network that is asked about one image (channels, h, w), by targets (targets, classes, h, w)."""

    model: nn.Module
    image: Tensor
    weights: Tensor

    def lost(self, parts: Tensor, start: Tensor) -> NDArray[np.float64]:
        """What each target loses when a part (n, channels or 1, h or 1, w or 1) is as in `start`: (targets, n)."""
        images = (torch.where(some, start, self.image) for some in torch.split(parts, _BATCH))
        before = self._values(self.image[None])
        return np.asarray((before - torch.cat([self._values(one) for one in images])).T.numpy())

    def _values(self, images: Tensor) -> Tensor:
        return torch.einsum("ncyx,tcyx->nt", ask(self.model, images).double(), self.weights.double())


def _cuts(x: Tensor, truth: NDArray[Any], order: list[int]) -> Iterator[tuple[Tensor, NDArray[np.intp] | None]]:
    """Of each of `CUTS` the parts (n, channels or 1, h or 1, w or 1), true inside, and the group that each is in."""
    channels, height, width = x.shape
    yield torch.eye(channels, dtype=torch.bool)[:, :, None, None], np.argsort(order) // COARSER
    small, large = (patches(height, width, max(height // rows, 1)) for rows in (ROWS, 1))
    inside = _regions(small)
    _, groups = np.unique([int(large[one[0]][0]) for one in inside], return_inverse=True)
    yield inside, groups
    yield _regions(torch.as_tensor(np.asarray(truth, dtype=np.int64))), None


def _regions(labels: Tensor) -> Tensor:
    """(h, w) labels -> (regions, 1, h, w), true inside."""
    known = torch.as_tensor(np.unique(labels.numpy()))
    return known[:, None, None, None] == labels


def _parts(contributions: Tensor, parts: Tensor) -> NDArray[np.float64]:
    """Contributions (targets, channels, h, w) summed over each of some parts: (targets, n)."""
    if parts.shape[-1] == 1:  # bands
        return np.asarray(contributions.double().sum((2, 3)).numpy())
    inside = parts[:, 0].flatten(1).double()  # (n, h w)
    return np.asarray((contributions.double().sum(1).flatten(1) @ inside.T).numpy())


def scores(lost: NDArray[np.float64], said: NDArray[np.float64]) -> dict[str, float]:
    """Sums over targets from which every figure follows, of what was lost and what was said, both (targets, parts).

    `rank`, Spearman's correlations over the parts, and `ranked`, how many are known; `lost2`, `said2` and `both`, sums
    of squares and of products; `chance`, what `both` is on average if the parts are exchanged at random.
    """
    each = np.array([rank_correlations(np.stack(pair))[0, 1] for pair in zip(lost, said, strict=True)])
    count = lost.shape[1]
    return {
        "rank": float(np.nansum(each)),
        "ranked": float(np.isfinite(each).sum()),
        "lost2": float((lost**2).sum()),
        "said2": float((said**2).sum()),
        "both": float((lost * said).sum()),
        "chance": float((lost.sum(1) * said.sum(1)).sum() / count) if count else 0.0,
    }


def figures(found: xr.Dataset) -> xr.Dataset:
    """Figures of `foretold`, over its scenes together; NaN where nothing was said or lost.

    `rank`, the mean rank correlation; `slope`, what is lost for each logit that was said, 1 if calibrated; `explained`,
    1 - sum (lost - said)^2 / sum lost^2, which is 0 of a predictor that says nothing happens; and `chance`, what is
    explained on average if the parts are exchanged at random.
    """
    total = found.sum("scene")
    known = total.where((total["lost2"] > 0) & (total["said2"] > 0))
    missed = {key: known["lost2"] + known["said2"] - 2 * known[key] for key in ("both", "chance")}
    return xr.Dataset(
        {
            "rank": known["rank"] / known["ranked"].where(known["ranked"] > 0),
            "slope": known["both"] / known["said2"],
            "explained": 1 - missed["both"] / known["lost2"],
            "chance": 1 - missed["chance"] / known["lost2"],
        }
    )


def estimated(found: xr.Dataset, seed: int) -> xr.Dataset:
    """`figures` along `measure`, with intervals over seeds and scenes together: value, low, high.

    Further measures are what `GAPS` names: by how much more the map explains than another predictor, or chance.
    """

    def all_of(sums: xr.Dataset) -> xr.DataArray:
        each = figures(sums)
        by_map = each.sel(predictor=MAP, drop=True)
        gaps = {
            GAPS["chance"]: by_map["explained"] - by_map["chance"],
            GAPS[FEWER]: by_map["explained"] - each["explained"].sel(predictor=FEWER, drop=True),
        }
        return each.assign(gaps).to_dataarray("measure")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one network has no spread, and a table says so
        told = with_both(found, all_of, seed)
    ends = {"rank": (-1.0, 1.0), "explained": (-np.inf, 1.0), "chance": (-np.inf, 1.0)}
    known = [ends.get(str(name), (-np.inf, np.inf)) for name in told["measure"].values]
    least, most = xr.DataArray(known, dims=("measure", "end")).transpose("end", ...)
    return within(told, least, most)


def rows(told: xr.Dataset, measure: str) -> pd.DataFrame:
    """A measure of `estimated`, where it is known: cut, input, reference, predictor, value, low and high."""
    frame = told.sel(measure=measure, drop=True).to_dataframe().reset_index().rename(columns={"variant": "input"})
    return frame.dropna(subset="value")[["cut", "input", "reference", "predictor", "value", "low", "high"]]


def finding(told: xr.Dataset) -> list[str]:
    """What `estimated` says of each input: where the map beats chance, and where a few questions beat the map.

    Chance is a map whose parts are exchanged, which does worse than saying that nothing happens; a third sentence says
    where the map explains more than that, 0.
    """
    words = {1: "more", -1: "less", 0: "neither, as far as can be told,"}
    said = []
    for name in map(str, told["variant"].values):
        own = told.sel(variant=[name], predictor=[MAP])
        for other, gap in GAPS.items():
            frame = rows(own, gap)
            signs = np.sign(frame["low"]).where(np.sign(frame["low"]) == np.sign(frame["high"]), 0)
            cells = {text: in_place(frame[signs == sign]) for sign, text in words.items()}
            parts = [f"{text} for {where}" for text, where in cells.items() if where]
            said.append(f"{name}: beside {other} the map explains {'; '.join(parts)}.")
        frame = rows(own, "explained")
        where = in_place(frame[frame["low"] > 0]) or "nothing"
        said.append(f"{name}: beside saying that nothing happens the map explains more for {where}.")
    return said


def in_place(frame: pd.DataFrame, form: str = "") -> str:
    """Cuts, each with what took its place in brackets, of some `rows`, in words; with their values by a format."""
    each = frame.assign(
        words=[f"{format(row.value, form)} by " * bool(form) + row.reference for row in frame.itertuples()]
    )
    return ", ".join(f"{cut} ({', '.join(own['words'])})" for cut, own in each.groupby("cut", sort=False))
