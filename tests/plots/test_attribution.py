import holoviews as hv
import numpy as np
import xarray as xr

from hsiutils.plots.attribution import band_pages, cascade, contribution_spectra, methods_table, residual_pages

WAVELENGTHS = [800.0, 600.0, 700.0]


def test_curves_ascend_in_wavelength_with_mean_and_range_over_seeds():
    seeds = [[[8.0], [6.0], [7.0]], [[10.0], [8.0], [9.0]]]
    values = xr.DataArray(seeds, {"target": ["Vegetation"]}, ("seed", "band", "target"))
    chart = contribution_spectra({"25": values}, WAVELENGTHS)
    (curve,) = [c for c in chart.traverse(lambda element: element, [hv.Curve]) if type(c) is hv.Curve]  # not its Area
    assert curve.dimension_values(0).tolist() == [600, 700, 800]
    assert curve.dimension_values(1).tolist() == [7, 8, 9]
    (area,) = chart.traverse(lambda element: element, [hv.Area])
    assert area.dimension_values(1).tolist() == [6, 7, 8]
    assert area.dimension_values(2).tolist() == [8, 9, 10]
    chart = contribution_spectra({"25": values.isel(seed=0)}, WAVELENGTHS)  # one network has no range
    assert not chart.traverse(lambda element: element, [hv.Area])
    plot = hv.renderer("bokeh").get_plot(next(iter(chart))).state
    assert (plot.below[0].axis_label, plot.left[0].axis_label) == ("wavelength (nm)", "added to the margin (logits)")


def test_pages_go_up_the_spectrum_on_one_scale():
    maps = np.zeros((3, 300, 8))
    maps[1], maps[0, 0, 0] = -1, 1
    found = band_pages({"25": xr.DataArray(maps, dims=("band", "y", "x"))}, WAVELENGTHS, step=2)
    assert list(found.frames) == [(600,), (800,)]
    red, _, blue = found.frames[600,].tiles["25"].transpose(2, 0, 1)
    assert red.shape == (100, 3)  # thinned
    assert blue.mean() > red.mean()  # speaks against


def test_residuals_have_a_page_a_method_and_a_tile_a_class():
    names = {"method": ["CAM", "GradCAM"], "class": ["Road"]}
    shares = xr.DataArray(np.zeros((2, 1, 120, 60)), names, ("method", "class", "y", "x"))
    shares[1] = 1
    chart = residual_pages(shares, np.full((120, 60, 3), 9, dtype=np.uint8))
    assert list(chart.frames) == [("CAM",), ("GradCAM",)]
    tiles = chart.frames["CAM",].tiles
    assert {name: tile.shape for name, tile in tiles.items()} == dict.fromkeys(("scene", "Road"), (40, 20, 3))
    white, red = (chart.frames[name,].tiles["Road"][20, 10] for name in ("CAM", "GradCAM"))
    assert min(white) > 240
    assert red[0] > red[2]


def test_the_cascade_goes_down_the_layers_with_a_curve_a_method():
    coords = {"method": ["CAM", "GradCAM"], "layer": ["head", "base"]}
    left = xr.DataArray([[1.0, 0.5], [1.0, 0.9]], coords, ("method", "layer"))
    chart = cascade(left)
    assert chart.Curve.GradCAM.dimension_values(1).tolist() == [1.0, 0.9]
    assert hv.renderer("bokeh").get_plot(chart).state.below[0].major_label_overrides == {0: "head", 1: "base"}


def test_methods_stand_by_rising_residual():
    names = ["residual", "sanity", "class_sensitivity", "faithfulness", "band_faithfulness"]
    board = xr.Dataset({name: ("method", [2.0, 1.0]) for name in names}, {"method": ["GradCAM", "CAM"]})
    table = methods_table(board.assign(passes=("method", ["layer", "backward"])))
    assert table["method"].tolist() == ["CAM", "GradCAM"]
    assert list(table) == ["method", "residual", "redrawn", "classes", "in - out", "bands", "passes"]
