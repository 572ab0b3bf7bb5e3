import numpy as np
import pytest
import torch
import xarray as xr
from networks import image

from hsiutils.attribution.decompose import decompose, margins
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper import bands, claims
from hsiutils.paper.claims import MEASURES, NotTestable
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


def test_bands_and_layers_sum_to_the_logit(network, x):
    found = bands.spectra_of(network, x, TRUTH, LIGHT, AVERAGE)
    zero = found["contribution"].sel(origin="zero").sum("band") + found["layers"].sum("layer")
    np.testing.assert_allclose(zero.sel(target="Sky"), found["logit"].sel(target="Sky"), rtol=1e-9)
    assert list(found["origin"].values) == ["zero", "average"]


def feeds(vegetation, road, scenes=1):
    """Planted: what vegetation adds to the Road logit over vegetation, and road over road."""
    values = np.zeros((scenes, 5, 5, 5))
    values[:, 2, 2, 0], values[:, 0, 0, 0] = vegetation, road
    pixels = (("scene", "target"), np.full((scenes, 5), 10))
    coords = {key: list(CLASSES) for key in ("source", "target", "class")}
    return xr.Dataset({"contribution": (("scene", *coords), values), "pixels": pixels}, coords)


def test_self_feed_is_minus_when_vegetation_speaks_against_road():
    assert float(bands.self_feed(feeds(-1, 3))) == pytest.approx(-0.25)
    assert float(bands.self_feed(feeds(2, 2))) == pytest.approx(0.5)
    assert np.isnan(bands.self_feed(feeds(0, 0)))
    found = feeds(-1, 3)  # whatever the scale, and what all logits share
    assert float(bands.self_feed(found.assign(contribution=7 * found["contribution"]))) == pytest.approx(-0.25)
    assert float(bands.self_feed(found.assign(contribution=found["contribution"] + 5))) == pytest.approx(-0.25)


def test_scenes_weigh_by_their_pixels_and_empty_ones_not_at_all():
    found = feeds(1, 1, scenes=2)
    found["contribution"].values[0], found["contribution"].values[1] = 1, 4
    found["pixels"].values[:] = [[1, 0, 3, 0, 0], [2, 0, 0, 0, 0]]
    found["contribution"].values[1, :, 2] = np.nan
    mean = bands.pooled(found).isel(source=0, drop=True).isel({"class": 0}, drop=True)
    np.testing.assert_allclose(mean.sel(target=["Road", "Vegetation"]), [3, 1])
    assert np.isnan(mean.sel(target="Sky"))


def test_own_margin_takes_each_targets_own_class():
    values = xr.DataArray(np.eye(5), dims=("target", "class"), coords={"target": list(CLASSES), "class": list(CLASSES)})
    np.testing.assert_allclose(bands.own_margin(values), 1)
    lit = values.assign_coords(target=[f"{name}, sunlit" for name in CLASSES])
    np.testing.assert_allclose(bands.own_margin(lit, ["Sky, sunlit"]), [1])


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
    first = bands.spectra(tiny_run, "25-PN", 0, most=1)
    assert first.sizes["band"] == 25
    assert first.identical(bands.spectra(tiny_run, "25-PN", 0, most=1))
    scene = tiny_run.data.names("test")[0]
    maps = bands.band_maps(tiny_run, "25-PN", scene, "Vegetation")
    assert maps.shape == (25, 16, 32)
    inside = bands.target_masks(tiny_run.inputs("25-PN", [scene])[0][1].numpy(), None)["Vegetation"]
    if inside.any():
        average = first["contribution"].sel(origin="average").isel(scene=0)
        mean = bands.own_margin(average, ["Vegetation"]).isel(target=0)
        np.testing.assert_allclose(maps.values[:, inside].mean(1), mean, rtol=1e-3, atol=1e-5)


def test_the_measure_compares_few_channels_with_many(tiny_run, monkeypatch):
    with pytest.raises(NotTestable, match="needs variant 1"):
        MEASURES["vegetation_feeds_road"](tiny_run)
    coords = {"variant": ["1", "3", "25-PN"], "seed": [0, 1]}
    planted = xr.DataArray([[0.5, 0.6], [0.3, 0.4], [-0.5, -0.4]], coords, ("variant", "seed"))
    monkeypatch.setattr(claims, "_compared", lambda run, measure: None)
    monkeypatch.setattr(claims, "self_feed", lambda found: planted)
    assert MEASURES["vegetation_feeds_road"](None).mean == pytest.approx(0.45 + 0.45)


def test_wavelengths_are_those_of_the_channels(tiny_run):
    centres = tiny_run.data.sensor.wavelengths_nm
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
    assert list(found["target"].values) == ["Vegetation", "Vegetation, sunlit", "Vegetation, shadowed"]
    for key, mask in {"Vegetation": TRUTH == 2, "Vegetation, sunlit": (TRUTH == 2) & (LIGHT >= 0.5)}.items():
        expected = own.values[:, mask].mean(1)
        np.testing.assert_allclose(found["contribution"].sel(target=key), expected, rtol=1e-5, atol=1e-9)
        assert int(found["pixels"].sel(target=key)) == mask.sum()
    residual = margins(every.residual).sel({"class": "Vegetation"}).values
    assert float(found["residual"].sel(target="Vegetation")) == pytest.approx(residual[TRUTH == 2].mean(), rel=1e-4)


def test_places_without_pixels_are_unknown(network, x):
    found = bands.walked_of(network, x, TRUTH, None, AVERAGE, "Vegetation", nodes=1)
    assert np.isfinite(found["contribution"].sel(target="Vegetation")).all()
    assert np.isnan(found["contribution"].sel(target="Vegetation, sunlit")).all()
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
