from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hsiutils.analysis.intervals import interval
from hsiutils.paper.merits import median_fields
from hsiutils.paper.study import neighbours

STREET = ["nf1111_573", "nf1111_574", "nf1111_575", "nf1121_576", "nf1122_649"]


def of(origin, names):
    return neighbours(
        SimpleNamespace(origin=origin), xr.Dataset({"value": ("scene", np.arange(float(len(names))))}, {"scene": names})
    )


def test_real_scenes_that_were_filmed_one_after_the_other_are_drawn_together():
    found = of("real", STREET)
    assert found["sequence"].values.tolist() == [0, 0, 0, 1, 2]
    assert interval(found, lambda drawn: drawn["value"].mean("scene"), seed=0).attrs["drawn"] == 3


@pytest.mark.parametrize(("origin", "names"), [("simulated", STREET), ("real", ["stuttgart_1", "stuttgart_2"])])
def test_others_are_drawn_alone(origin, names):
    assert "sequence" not in of(origin, names).coords


def test_receptive_fields_of_one_street_are_drawn_together():
    rows = {"layer": "conv2d_1", "scene": STREET, "diameter": [1.0, 1.0, 1.0, 5.0, 9.0]}
    table = neighbours(SimpleNamespace(origin="real"), xr.Dataset.from_dataframe(pd.DataFrame(rows)))
    frame = table.to_dataframe().reset_index(drop=True)
    assert frame["sequence"].tolist() == [0, 0, 0, 1, 2]
    together, apart = (median_fields(one, 0) for one in (frame, frame.drop(columns="sequence")))
    assert together["median"].tolist() == apart["median"].tolist() == [1.0]
    assert together["high"].item() >= apart["high"].item()
