import numpy as np
import pytest
import xarray as xr

from hsiutils.data.classes import CLASSES
from hsiutils.paper.table1 import PAPER, differences, iou_by_seed, slope_within, table1, variability_slope, wide


def counts(right):
    """Confusions in which `right[variant][seed]` of 100 road pixels are found and the others taken for Other."""
    road = np.array(list(right.values()), dtype=float)  # (variant, seed)
    matrix = np.zeros((*road.shape, 1, 5, 5))
    matrix[..., 0, 0, 0], matrix[..., 0, 0, 4], matrix[..., 0, 4, 4] = road, 100 - road, 100
    coords = {"variant": list(right), "seed": range(road.shape[1]), "region": ["all"]}
    edges = xr.DataArray(matrix.sum(axis=4), {**coords, "class": list(CLASSES)})
    confusion = xr.DataArray(matrix, {**coords, "truth": list(CLASSES), "predicted": list(CLASSES)})
    return xr.Dataset({"confusion": confusion, "boundary_intersection": edges, "boundary_union": edges})


def test_cells_hold_mean_and_range_over_seeds():
    table = table1(counts({"3": [80, 90], "25-PN": [50, 50]}))
    road = table[(table["variant"] == "3") & (table["class"] == "Road")].iloc[0]
    assert (road["mean"], road["lowest"], road["highest"]) == (85, 80, 90)
    assert np.isnan(road["paper"])


def test_known_cells_of_the_paper_are_shown_and_no_others():
    table = table1(counts({"1": [1], "3": [1], "25-PN": [1]}))
    known = {(row["variant"], row["class"]): row["paper"] for _, row in table.iterrows() if row["paper"] > 0}
    assert known == PAPER
    assert "unknown" in wide(table).loc["1", "Road"]
    assert wide(table).loc["3", "Road Marks"] == "none | 93.24"


def test_mean_leaves_out_classes_that_do_not_occur():
    values = iou_by_seed(counts({"3": [80]}))
    by_class = values.set_index("class")["iou"]
    assert by_class["Road"] == 80
    assert by_class["Other"] == pytest.approx(100 * 100 / 120)
    assert np.isnan(by_class["Sky"])
    assert by_class["mean"] == pytest.approx((80 + 100 * 100 / 120) / 2)


def test_only_differences_outside_the_seed_noise_are_told_apart():
    values = iou_by_seed(counts({"3": [80, 81, 82], "25": [50, 51, 52], "1": [60, 85, 95]}))
    gaps = differences(values).set_index(["variant", "against", "class"])
    assert gaps.loc[("3", "25", "Road"), "told apart"]
    assert gaps.loc[("3", "25", "Road"), "difference"] == pytest.approx(30)
    assert not gaps.loc[("3", "1", "Road"), "told apart"]
    assert ("3", "25", "Sky") not in gaps.index
    alone = differences(iou_by_seed(counts({"3": [80, 81]})))
    assert alone[alone["told apart"]].empty  # a column of truth values also without rows
    assert list(alone[alone["told apart"]]) == list(alone)


def test_the_slope_finds_what_is_planted_within_scenes_and_not_what_scenes_share():
    rng = np.random.default_rng(0)
    scenes, classes = [f"s{i}" for i in range(30)], list("abcde")
    coords = {"scene": scenes, "class": classes}
    spread = xr.DataArray(rng.random((30, 5)), coords)
    shared = xr.DataArray(3 * rng.standard_normal(30), {"scene": scenes}) + 5 * spread.mean("class")
    noise = xr.DataArray(0.1 * rng.standard_normal((30, 5)), coords)
    found = slope_within(spread, 2 * spread + shared + noise)
    assert found.low < 2 < found.high
    assert found.high - found.low < 0.5
    with pytest.raises(ValueError, match="no scene has two classes"):
        slope_within(spread, spread.where(spread["class"] == "a"))


def test_what_one_class_does_in_all_scenes_is_no_slope():
    """Two networks that say one class everywhere, the second the class that varies most: a gain of one class."""
    classes = list("abcde")
    spread = xr.DataArray(
        np.tile([0.2, 0.3, 0.4, 0.5, 0.9], (30, 1)), dims=("scene", "class"), coords={"class": classes}
    )
    gain = xr.DataArray(np.tile([-8.0, 0, 0, 0, 8.0], (30, 1)), dims=("scene", "class"), coords={"class": classes})
    exchanged = gain.copy(data=gain.values[:, [1, 4, 2, 0, 3]])
    found = slope_within(spread, exchanged + 0.01 * np.random.default_rng(0).standard_normal((30, 5)))
    assert found.low < 0 < found.high


def test_more_channels_gain_more_where_a_class_varies_more():
    """A planted evaluation: many channels are right more often, the more a class varies."""
    names, classes = list("uvwxyz"), list(CLASSES)
    spread = np.linspace(0.1, 0.9, 5)

    def matrix(right):
        wrong = (1000 - right) / 4
        return np.array([[right[i] if i == j else wrong[i] for j in range(5)] for i in range(5)]).astype(int)

    few, many = np.full(5, 500.0), 500 + 400 * spread
    values = np.stack(
        [[[matrix(right)] * len(names)] for right in (few, many)]
    )  # (variant, seed, scene, truth, predicted)
    coords = {"variant": ["1", "25"], "seed": [0], "scene": names, "truth": classes, "predicted": classes}
    counts = xr.DataArray(values, coords).expand_dims(region=["all"]).to_dataset(name="confusion")
    rising = xr.DataArray(np.tile(spread, (6, 1)), {"scene": names, "class": classes})
    assert variability_slope(counts, rising).low > 0
    assert variability_slope(counts, rising.copy(data=rising.values[:, ::-1])).high < 0
