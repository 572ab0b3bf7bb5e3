import holoviews as hv
import numpy as np
import pandas as pd
import planted
import pytest
import xarray as xr

from hsiutils.analysis.activations import contributions, head_table
from hsiutils.data.classes import CLASSES
from hsiutils.plots import activations as plots

WEIGHTS = head_table(planted.planted())["weight"]


def test_bars_point_to_the_side_of_their_sign_and_are_as_long_as_their_size():
    values = xr.DataArray([1.0, -0.5, 0.0, 0.25, 0.0], {"class": list(CLASSES)}, ("class",))
    picture = plots.weight_bars(values, (50, 80)).astype(int)
    red, blue = picture[..., 0] - picture[..., 2] > 40, picture[..., 2] - picture[..., 0] > 40
    length = [[side[10 * k + 5].sum() for k in range(5)] for side in (red, blue)]
    np.testing.assert_allclose(length, [[18, 0, 0, 5, 0], [0, 9, 0, 0, 0]], atol=1)
    assert red[5].nonzero()[0].min() >= 20 > blue[15].nonzero()[0].min()
    assert not (red | blue)[:, 40:].any()  # where names and numbers stand


def test_a_page_shows_scene_activation_weights_and_contribution(monkeypatch):
    found = contributions(planted.planted(), planted.scene(0)[0])
    scene = np.full((26, 39, 3), 7, dtype=np.uint8)
    note = {planted.RED_EDGE: "weight +4.00"}
    chart = plots.contribution_pages({"s": found}, {"s": scene}, "Vegetation", WEIGHTS, {1: planted.RED_EDGE}, note)
    page = chart.frames["s", 1]
    tiles, numbers = list(page.tiles), page.notes["weights"]
    assert tiles[:3] == ["scene", "activation", "weights"]
    assert tiles[3].startswith("contribution, ±")
    assert numbers[:3] == ["Road -2.00", "Road Marks +0.00", "Vegetation +4.00"]
    assert ">Vegetation +4.00<" in page._repr_html_()
    assert page.title.endswith("Vegetation\nweight +4.00")
    assert {tile.shape for tile in page.tiles.values()} == {(26, 39, 3)}
    monkeypatch.setattr(plots, "PAGE_PIXELS", 26 * 39)  # many pages are thinned
    chart = plots.contribution_pages({"s": found}, {"s": scene}, "Road", WEIGHTS, {1: 0}, {0: ""})
    assert chart.frames["s", 1].tiles["scene"].shape == (13, 20, 3)


def test_pictures_of_a_page_stay_within_their_pixels():
    assert plots.thinning(100, (96, 192)) == 1
    step = plots.thinning(384, (216, 409))
    assert 384 * 216 * 409 / step**2 <= plots.PAGE_PIXELS < 384 * 216 * 409 / (step - 1) ** 2


def test_a_deep_layers_few_cells_are_drawn_large_enough():
    maps = xr.DataArray(np.arange(18.0).reshape(1, 3, 6), dims=("channel", "y", "x"), coords={"channel": [5]})
    page = plots.layer_pages({"s": xr.Dataset({"before": maps - 9, "after": maps})}).frames["s", 5]
    assert len(page.tiles["after"]) >= plots.LEAST_ROWS
    assert list(page.tiles) == ["before normalisation and ReLU", "after"]


def test_a_violin_ends_where_its_values_do():
    frame = pd.DataFrame({"layer": ["a"] * 5 + ["b"] * 6, "size": [1.0, 2, 3, 4, 9, 5, 6, 7, 8, 9, np.nan]})
    plot = hv.renderer("bokeh").get_plot(plots.violins(frame, "layer", "size", xlabel="layer", ylabel="size (pixels)"))
    drawn = np.concatenate([np.ravel(line) for line in plot.handles["patches_1_source"].data["ys"]])
    assert drawn.min() >= 1 - 1e-6
    assert drawn.max() <= 9 + 1e-6


@pytest.mark.parametrize(("seeds", "labels"), [(2, {"mean over seeds", "one seed"}), (1, {"the network"})])
def test_one_network_is_not_drawn_as_a_mean(seeds, labels):
    each = xr.DataArray(np.ones((1, seeds)), {"variant": ["25-PN"]}, ("variant", "seed"))
    bounds = pd.DataFrame({"mean": [1.0], "low": [0.5], "high": [2.0]}, index=["25-PN"])
    drawn = plots.spread(each, bounds, "input", "figure (1)")
    assert {part.label for part in drawn if isinstance(part, hv.Scatter)} == labels
