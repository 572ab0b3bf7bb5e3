import numpy as np
import pytest
import torch
import xarray as xr
from networks import image
from planted import spectral_network

from hsiutils.attribution.decompose import decompose, margins
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper import bands
from hsiutils.paper.study import over_networks

SMALL = UNetConfig(channels=3, depth=2, filters=2, class_names=CLASSES)
AVERAGE = np.array([0.2, -0.1, 0.3])
TRUTH = np.repeat(np.array([[0, 0, 2, 2, 3, 3, VOID, VOID]]), 8, axis=0)
LIGHT = np.repeat(np.array([[1.0], [0.5], [0.2], [np.nan]]), 2, axis=0) * np.ones((8, 8))


@pytest.fixture(scope="module")
def network():
    return UNet(SMALL, torch.Generator().manual_seed(3)).double().eval()


@pytest.fixture(scope="module")
def x():
    return image(SMALL, 8, 8, seed=4)


def test_sources_sum_to_the_mean_logit_of_every_region(network, x):
    found = bands.feeding_of(network, x, TRUTH, LIGHT, AVERAGE)
    logits = network(x[None])[0].detach().numpy()
    expected = logits[:, TRUTH == 2].mean(1)
    np.testing.assert_allclose(found["contribution"].sum("source").sel(target="Vegetation"), expected, rtol=1e-9)
    np.testing.assert_allclose(found["logit"].sel(target="Vegetation"), expected, rtol=1e-9)
    assert float(found["relative"]) < 1e-10
    assert int(found["checked"]) == 5 * 64
    assert np.isnan(found["logit"].sel(target="Other")).all()
    assert (found["contribution"].sel(source="Other", target="Road") == 0).all()


def test_a_source_is_what_its_pixels_change_against_the_average(network, x):
    """Derivative of the mean logit by the source's pixels, times their distance from the average pixel."""
    free = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(free[None])[0, 0, :, 2:4].mean(), free)
    expected = float((gradient * (x - torch.as_tensor(AVERAGE)[:, None, None]))[:, :, 2:4].sum())
    found = bands.feeding_of(network, x, TRUTH, None, AVERAGE)["contribution"]
    assert float(found.sel(source="Vegetation", target="Vegetation", **{"class": "Road"})) == pytest.approx(expected)


def test_light_splits_the_targets_where_it_is_known():
    keys = ("Vegetation", "Vegetation, sunlit", "Vegetation, shadowed")
    masks, dark = bands.target_masks(TRUTH, LIGHT), bands.target_masks(TRUTH, None)
    assert [masks[key].sum() for key in keys] == [16, 8, 4]  # half the sun is sunlit; the rest is not known
    assert [dark[key].sum() for key in keys] == [16, 0, 0]


def test_bands_and_layers_sum_to_the_margin(network, x):
    found = bands.spectra_of(network, x, TRUTH, LIGHT, AVERAGE)
    zero = found["contribution"].sel(origin="zero").sum("band") + found["layers"].sum("layer")
    np.testing.assert_allclose(zero.sel(target="Sky"), found["margin"].sel(target="Sky"), rtol=1e-9)
    assert float(found["relative"]) < 1e-10
    assert int(found["checked"]) == 5  # three classes, and vegetation in sun and in shadow
    assert np.isnan(found["margin"].sel(target="Other"))
    for origin, reference in (("zero", 0), ("average", AVERAGE)):  # backward mode meets forward mode
        every = margins(decompose(network, x, reference=reference).contribution).sel({"class": "Vegetation"})
        for place, mask in {"Vegetation": TRUTH == 2, "Vegetation, sunlit": (TRUTH == 2) & (LIGHT >= 0.5)}.items():
            own = found["contribution"].sel(origin=origin, target=place)
            np.testing.assert_allclose(own, every.values[:, mask].mean(1), rtol=1e-9)


def feeds(vegetation, road, scenes=1):
    """Planted: what vegetation adds to the Road logit over vegetation, and road over road."""
    values = np.zeros((scenes, 5, 5, 5))
    values[:, 2, 2, 0], values[:, 0, 0, 0] = vegetation, road
    pixels = (("scene", "target"), np.full((scenes, 5), 10))
    coords = {key: list(CLASSES) for key in ("source", "target", "class")}
    return xr.Dataset({"contribution": (("scene", *coords), values), "pixels": pixels}, coords)


def test_what_a_class_feeds_itself_keeps_its_sign_and_ignores_scale_and_what_all_logits_share():
    found = feeds(-1, -3).assign(logit=feeds(2, 2)["contribution"].sum("source"))
    expected = bands.fed_to(found)
    for name, value in (("Vegetation", -1), ("Road", -3)):
        assert float(expected.sel(source=name, target=name)) == pytest.approx(value / np.sqrt(8 / 5))
    logits = found[["contribution", "logit"]]
    for changed in (7 * logits, logits + 5):
        xr.testing.assert_allclose(bands.fed_to(found.assign(changed)), expected)


def test_a_spectrum_is_followed_and_texture_is_not():
    truth = np.repeat([[0, 0, 2, 2, VOID]], 4, axis=0)
    spectra = np.array([[2.0, 1, 0, 0, 0], [0, 0, 2, 1, 0]])  # (band, column): road is bright in one, vegetation not
    cube = xr.DataArray(np.repeat(spectra[:, None].astype(np.float32), 4, axis=1), dims=("band", "y", "x"))
    found = bands.swapped_of(spectral_network([1.0, -1.0]), lambda given: given, cube, truth).expand_dims("scene")
    vegetation, road = (bands.with_other_spectrum(found, place) for place in ("Vegetation", "Road"))
    assert vegetation["predicted"].values.tolist() == [0, 0, 100]
    assert road["predicted"].values.tolist() == [100, 100, 0]
    assert vegetation["margin"].values == pytest.approx([-1.5, -1.5, 1.5])
    # A network that does not look at the bands says the same whatever stands there.
    blind = bands.swapped_of(spectral_network([0.0, 0.0]), lambda given: given, cube, truth).expand_dims("scene")
    assert bands.with_other_spectrum(blind, "Vegetation")["margin"].values.tolist() == [0, 0, 0]
    alone = bands.swapped_of(
        spectral_network([1.0, -1.0]), lambda given: given, cube, np.where(truth == 2, VOID, truth)
    )
    assert not alone["pixels"].any()
    assert np.isnan(bands.with_other_spectrum(alone.expand_dims("scene"), "Road")["predicted"]).all()


def test_scenes_weigh_by_their_pixels_and_empty_ones_not_at_all():
    found = feeds(1, 1, scenes=2)
    found["contribution"].values[0], found["contribution"].values[1] = 1, 4
    found["pixels"].values[:] = [[1, 0, 3, 0, 0], [2, 0, 0, 0, 0]]
    found["contribution"].values[1, :, 2] = np.nan
    mean = bands.pooled(found).isel(source=0, drop=True).isel({"class": 0}, drop=True)
    np.testing.assert_allclose(mean.sel(target=["Road", "Vegetation"]), [3, 1])
    assert np.isnan(mean.sel(target="Sky"))


def test_shares_of_the_layers_are_shares(network, x):
    found = bands.spectra_of(network, x, TRUTH, None, AVERAGE).expand_dims("scene")
    shares = bands.layer_shares(found)
    seen = shares.sel(target=["Road", "Vegetation", "Sky"])
    np.testing.assert_allclose(seen.sum("layer"), 1)
    gathered = bands.stages(shares, 2).sel(target="Road")
    assert float(gathered.sum()) == pytest.approx(1)
    encoder = seen.sel(layer=["conv2d", "conv2d_1", "conv2d_2", "conv2d_3"], target="Road")
    assert float(gathered.sel(stage="encoder biases")) == pytest.approx(float(encoder.sum()))
    assert float(gathered.sel(stage="head bias")) == pytest.approx(float(seen.sel(layer="conv2d_10", target="Road")))
    assert np.isnan(shares.sel(target="Other")).all()
    own = 100 * seen.sel(layer="input")
    said = f"the input carries {float(own.min()):.0f} to {float(own.max()):.0f} % of a class's margin"
    assert said in bands.carried({"a": found, "b": found.expand_dims(seed=[0, 1])})


def test_rank_agreement_is_the_mean_over_pairs():
    up = np.arange(5.0)
    assert bands.rank_agreement(np.array([up, up**3])) == pytest.approx(1)
    assert bands.rank_agreement(np.array([up, up, -up])) == pytest.approx(-1 / 3)
    assert np.isnan(bands.rank_agreement(np.array([up, np.full(5, np.nan)])))
    assert np.isnan(bands.rank_agreement(np.array([[1.0], [2.0]])))


def test_studies_of_a_run_are_kept_and_close(tiny_run):
    found = over_networks(tiny_run, bands.feeding, tiny_run.variants, most=2)
    assert dict(found.sizes) | {"variant": 2, "seed": 2, "scene": 2, "source": 8} == dict(found.sizes)
    assert float(found["relative"].max()) < 1e-4
    swaps = over_networks(tiny_run, bands.swapped, ["3"], most=2)
    assert (swaps["predicted"] <= swaps["pixels"]).all()
    first = bands.spectra(tiny_run, "25-PN", 0, most=1)
    assert first.sizes["band"] == 25
    assert first.identical(bands.spectra(tiny_run, "25-PN", 0, most=1))
    scene = tiny_run.data.names("test")[0]
    found = bands.band_maps(tiny_run, "25-PN", scene, "Vegetation")
    maps = found["contribution"]
    assert maps.shape == (25, 16, 32)
    assert float(found["relative"]) < 1e-4
    correlation = bands.band_correlation(tiny_run, "25-PN")
    np.testing.assert_allclose(np.diag(correlation), 1)
    inside = bands.target_masks(tiny_run.inputs("25-PN", [scene])[0][1].numpy(), None)["Vegetation"]
    if inside.any():
        mean = first["contribution"].sel(origin="average", target="Vegetation").isel(scene=0)
        np.testing.assert_allclose(maps.values[:, inside].mean(1), mean, rtol=1e-3, atol=1e-5)


def test_wavelengths_are_those_of_the_channels(tiny_run):
    centres = tiny_run.centres_nm
    np.testing.assert_array_equal(bands.wavelengths(tiny_run, "3"), centres[[12, 23, 15]])
    np.testing.assert_array_equal(bands.wavelengths(tiny_run, "all-PN"), centres)
    for name in ("PCA-2", "25+I"):
        with pytest.raises(ValueError, match="not all bands"):
            bands.wavelengths(tiny_run, name)


def test_the_spectra_are_the_means_of_the_path_of_every_logit(network, x):
    """Forward mode for all logits, and backward mode for the mean margin, meet."""
    found = bands.walked_of(network, x, TRUTH, LIGHT, AVERAGE, "Vegetation", nodes=6)
    every = decompose(network, x, reference=AVERAGE, nodes=6)
    own = margins(every.contribution).sel({"class": "Vegetation"})
    assert list(found["target"].values) == ["Vegetation, sunlit", "Vegetation, shadowed"]
    sunny = (TRUTH == 2) & (LIGHT >= 0.5)
    mean = found.sel(target="Vegetation, sunlit")
    np.testing.assert_allclose(mean["contribution"], own.values[:, sunny].mean(1), rtol=1e-5, atol=1e-9)
    assert int(mean["pixels"]) == sunny.sum()
    residual = margins(every.residual).sel({"class": "Vegetation"}).values
    assert float(mean["residual"]) == pytest.approx(residual[sunny].mean(), rel=1e-4)


def test_places_without_pixels_are_unknown(network, x):
    found = bands.walked_of(network, x, TRUTH, None, AVERAGE, "Vegetation", nodes=1)
    assert list(found["target"].values) == ["Vegetation"]  # nobody knows the light
    assert np.isfinite(found["contribution"]).all()
    assert np.isnan(bands.walked_of(network, x, TRUTH, None, AVERAGE, "Other", nodes=1)["contribution"]).all()


def test_spectra_and_completeness_are_kept(tiny_run, monkeypatch):
    first = bands.walked(tiny_run, "25-PN", "Vegetation", most=2, nodes=1)
    ladder = bands.completeness(tiny_run, "25-PN", (1, 32))
    assert first.sizes["scene"] == min(2, len(tiny_run.data.names("test")))
    assert ladder[1] > ladder[32] > 0
    monkeypatch.setattr(bands, "walked_of", None)  # would fail if it were computed again
    monkeypatch.setattr(bands, "decompose", None)
    assert first.identical(bands.walked(tiny_run, "25-PN", "Vegetation", most=2, nodes=1))
    assert ladder == bands.completeness(tiny_run, "25-PN", (1, 32))
