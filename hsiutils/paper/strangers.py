"""Networks that nobody here trained, audited: what the book's page for strangers shows.

A fully convolutional network of torchvision's blocks and one with squeeze and excitation, both with weights at random;
and a Keras network for lanes of the road, by M. Virgo (github.com/mvirgo/MLND-Capstone, MIT), where its file is given,
else a small Keras file of the same layers. Larger ones are in a committed record.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hsiutils.attribution.verdicts import Case, answer, case, verdicts
from hsiutils.data.cube import pseudocolour
from hsiutils.models.examples import fcn, squeeze, write_chain
from hsiutils.models.strangers import open_network
from hsiutils.paper.benchmarks import read_benchmark
from hsiutils.paper.results import RESULTS
from hsiutils.simulate import simulate_dataset

RECORD = RESULTS / "strangers.json"
"""Written by benchmarks/strangers.py."""
FEW = ("linear decomposition", "CAM", "gradient x input", "HiResCAM", "GradCAM")
"""Methods that are asked of every network: they take few passes."""


class Stranger(NamedTuple):
    """A network, and where it comes from."""

    name: str
    origin: str
    case: Case


def road(seed: int = 0, size: tuple[int, int] = (80, 160)) -> NDArray[np.float32]:
    """A simulated scene in three colours (near infrared), each 0 to 1: (3, rows, columns)."""
    with tempfile.TemporaryDirectory() as folder:
        data = simulate_dataset(folder, 1, seed, size, workers=1, progress=False)
        picture = pseudocolour(data.cube(data.names()[0]))
    return np.asarray(picture.transpose("rgb", "y", "x").values, dtype=np.float32)


def strangers(image: NDArray[np.float32], lane: str | Path = "") -> list[Stranger]:
    """Three networks, each with an image (3, rows, columns), 0 to 1, in its own units.

    Parameters
    ----------
    image : of 80 x 160 pixels, if the lane network is given.
    lane : file of the lane network (full_CNN_model.h5); empty for a small Keras file of the same layers.
    """
    with tempfile.TemporaryDirectory() as folder:
        keras = open_network(lane or write_chain(Path(folder) / "chain.h5", size=image.shape[1:]))
    weights = "blocks of torchvision's FCN-ResNet, small, weights at random"
    origin = "Keras file of M. Virgo, trained on video of real roads" if lane else "Keras file, weights at random"
    return [
        Stranger("FCN", weights, case(fcn(), image)),
        Stranger("lane network" if lane else "Keras chain", origin, case(keras, 255 * image if lane else image)),
        Stranger("squeeze and excitation", f"{weights}, one gate", case(squeeze(), image)),
    ]


def compared(networks: list[Stranger]) -> tuple[pd.DataFrame, dict[str, str], dict[str, xr.Dataset]]:
    """How far the sums of `FEW` methods are from the logits of each network, and why one is not exact, by name.

    Returns
    -------
    DataFrame, dict, dict
        One row a network: `network`, `origin`, `numbers` in it, `exact` in words, the methods whose sum `adds up`, and
        of each method the mean of |sum - logit| over the mean of |logit|, at the layer before the logits; NaN where it
        cannot be asked. The reasons of those that are not exact, and the audits, by name.
    """
    rows, why, audits = [], {}, {}
    for name, origin, asked in networks:
        found, reason = answer(asked, FEW, patch=40)
        audits[name] = found
        table = verdicts(found).drop_duplicates("method", keep="last").set_index("method")
        closing = [method for method in FEW if table["adds_up"].get(method)]
        numbers = sum(each.numel() for each in asked.model.parameters())
        row = {"network": name, "origin": origin, "numbers": numbers, "exact": "no" if reason else "yes"}
        sums = {method: table["relative"].get(method, np.nan) for method in FEW}
        rows.append(row | {"adds up": ", ".join(closing)} | sums)
        if reason:
            why[name] = reason
    return pd.DataFrame(rows), why, audits


def recorded(record: Path = RECORD) -> tuple[pd.DataFrame, str]:
    """Large networks of other libraries from the committed record; in words where and when it was made.

    Returns
    -------
    DataFrame with one row a network: `network`, `numbers` in it, largest residual over the size of the sum in `float64`
    and `float32`, and `forwards` that one part of a decomposition costs in float32.
    """
    found = read_benchmark(record, ("networks", "versions", "date"))
    rows = [
        {
            "network": name,
            "numbers": one["parameters"],
            **{dtype: one[dtype]["largest_relative_residual"] for dtype in ("float64", "float32")},
            "forwards": one["float32"]["forwards_a_tangent"],
        }
        for name, one in found["networks"].items()
    ]
    made = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    size = " x ".join(map(str, found["image"][1:]))
    return pd.DataFrame(rows), f"{made}; images of {size} pixels, {found['date']}"
