from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from networks import image, shaken

from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import pixel
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.unet import UNetConfig
from hsiutils.paper import explorer

SMALL = UNetConfig(channels=3, depth=2, filters=2, class_names=CLASSES)
AVERAGE = np.array([0.2, -0.1, 0.3])
TRUTH = np.repeat(np.array([[0, 0, 0, 2, 2, 3, 3, VOID, VOID]]), 7, axis=0)  # of no class Road Marks and Other
SETS = [[0], [1], [2], [0, 2]]


@pytest.fixture(scope="module")
def network():
    return shaken(SMALL)


@pytest.fixture(scope="module")
def x():
    return image(SMALL, 7, 9, seed=4)


@pytest.fixture(scope="module")
def found(network, x):
    return explorer.explored_of(network, x, TRUTH, None, AVERAGE, SETS, pixels=20)


def at(found, values):
    """(..., h, w) at the pixels that are kept."""
    return np.asarray(values)[..., found["row"].values, found["column"].values]


def test_every_cut_sums_to_the_networks_logit_and_gradcam_to_a_number_of_its_own(network, x, found):
    logits = at(found, network(x[None])[0].detach())
    np.testing.assert_allclose(found["logit"], logits, rtol=1e-6)
    for cut, rest in (("bands", "start"), ("regions", "start"), ("channels", "head")):
        total = (found[cut].sum(cut[:-1]) + found[rest]).transpose("class", "place")
        np.testing.assert_allclose(total, logits, rtol=1e-5, atol=1e-5)
    assert (found["regions"].sel(region=[1, 4]) == 0).all()
    place = 7
    row, column = (int(found[name][place]) for name in ("row", "column"))
    one = METHODS["GradCAM"](network, x, pixel(network, x, "Sky", row, column), SMALL.last)
    assert float(found["gradcam"].sel({"class": "Sky"})[place]) == pytest.approx(one.residual, abs=1e-5)
    assert np.ptp((found["gradcam"] + found["logit"]).values, axis=1) == pytest.approx(np.zeros(5), abs=1e-5)


def test_without_bands_the_network_itself_is_asked(network, x, found):
    changed = x.clone()
    for band in (0, 2):
        changed[band] = AVERAGE[band]
    np.testing.assert_allclose(found["without"][3], at(found, network(changed[None])[0].detach()), rtol=1e-6)
    linear = found["logit"] - found["bands"][0] - found["bands"][2]
    assert abs(linear - found["without"][3]).max() > 1e-3  # gates switch


def test_pixels_are_those_of_a_square_grid_amid_their_cells():
    rows, columns = explorer.grid((7, 9), 20)
    assert (rows.tolist(), columns.tolist()) == ([1, 3, 5], [1, 3, 5, 7])
    assert [part.tolist() for part in explorer.grid((1, 2), 5)] == [[0], [0, 1]]


def test_ranges_are_of_neighbouring_wavelengths():
    centres = np.array([900.0, 600, 700, 950])
    assert explorer.switched(centres, 2) == [[0], [1], [2], [3], [1, 2], [0, 3]]
    assert explorer.switched(centres[:1], 2) == [[0]]


def test_changes_of_class_are_counted_by_who_foresaw_them():
    """Planted: two classes, three pixels, two bands, of which the first decides the linear reading."""
    logit = xr.DataArray([[[1.0, 1.0, 1.0], [0, 0, 0]]], dims=("scene", "class", "place"))
    part = xr.DataArray([[[[2.0, 0, 2.0], [0, 0, 0]], np.zeros((2, 3))]], dims=("scene", "band", "class", "place"))
    asked = logit.expand_dims(off=3, axis=1).copy()
    asked[0, 0, 0] = [-1, -1, 1]  # without the first band the network changes two pixels
    member = xr.DataArray([[1, 0], [0, 1], [1, 1]], dims=("off", "band"))
    found = xr.Dataset({"logit": logit, "bands": part, "without": asked, "member": member})
    counted = explorer.foreseen(found)
    assert counted.loc["one band"].tolist() == pytest.approx([100 * 2 / 6, 50, 100 / 6])
    assert counted.loc["a range of bands"].tolist() == pytest.approx([0, np.nan, 200 / 3], nan_ok=True)
    one, several = explorer.findings({"25": found}, "simulated")
    assert "25, without one band: the network changes its class at 33.3 % of the pixels of these 1 simulated" in one
    assert "foretells 50 % of these changes, and changes that do not come at 16.7 % of the pixels." in one
    assert "nan" not in several


def test_inputs_are_explored_whose_channels_are_bands(tiny_run):
    for variants, expected in (
        (("1", "25", "25-PN", "PCA-3"), ["25", "25-PN"]),
        (("1", "3", "25+I"), ["3"]),
        (("PCA-1",), []),
    ):
        assert explorer.explorable(replace(tiny_run, variants=variants)) == expected


def test_scenes_in_which_the_sun_is_seen_are_shown_where_there_are_any():
    def shown(*lit, most=3):
        truth = {name: xr.Dataset({"sunlit": (("y", "x"), [[np.nan, name in lit]])}) for name in "abcdef"}
        data = SimpleNamespace(names=lambda split: list("abcdef"), truth=truth.get if lit else lambda name: None)
        return explorer.shown_scenes(SimpleNamespace(data=data), most)

    assert shown() == ["d", "b", "e"]  # nobody knows
    assert shown("a", "c", "e", "f") == ["d", "c", "f"]
    assert shown("a", most=1) == ["d"]


def test_a_run_is_explored_with_spectra_in_units_of_the_input_and_wavelengths(tiny_run):
    found = explorer.explored(tiny_run, "25-PN", most=1, pixels=32)
    assert dict(found["member"].sizes) == {"off": 30, "band": 25}
    assert found["member"].sum("off").values.tolist() == [2] * 25
    shares = found["spectrum"].sum("band")
    assert ((shares > 0.5) & (shares < 1.0001)).all()  # of the pixel's sum, where nothing is clipped
    assert found["wavelength"].sizes == {"band": 25}
    assert found.attrs["units"] == "share of the sum over bands"
    with pytest.raises(ValueError, match="no wavelengths"):
        explorer.explored(tiny_run, "PCA-3")
