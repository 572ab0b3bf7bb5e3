import numpy as np
import pytest
from striped_scene import AVERAGE, LIGHT, TRUTH, small_image, small_network

from hsiutils.attribution.decompose import decompose_path, margins
from hsiutils.paper import bands as path_study
from hsiutils.paper import run as pipeline
from hsiutils.paper.bands import completeness, walked, walked_of


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def x():
    return small_image()


def test_the_spectra_are_the_means_of_the_path_of_every_logit(network, x):
    """Forward mode for all logits, and backward mode for the mean margin, meet."""
    found = walked_of(network, x, TRUTH, LIGHT, AVERAGE, "Vegetation", nodes=6)
    every = decompose_path(network, x, AVERAGE, nodes=6)
    own = margins(every)["contribution"].sel({"class": "Vegetation"})
    assert list(found["target"].values) == ["Vegetation", "Vegetation, sunlit", "Vegetation, shadowed"]
    for key, mask in {"Vegetation": TRUTH == 2, "Vegetation, sunlit": (TRUTH == 2) & (LIGHT >= 0.5)}.items():
        expected = own.values[:, mask].mean(1)
        np.testing.assert_allclose(found["contribution"].sel(target=key), expected, rtol=1e-5, atol=1e-9)
        assert int(found["pixels"].sel(target=key)) == mask.sum()
    residual = margins(every[["residual"]].rename(residual="r"))["r"].sel({"class": "Vegetation"}).values
    assert float(found["residual"].sel(target="Vegetation")) == pytest.approx(residual[TRUTH == 2].mean(), rel=1e-4)


def test_places_without_pixels_are_unknown(network, x):
    found = walked_of(network, x, TRUTH, None, AVERAGE, "Vegetation", nodes=1)
    assert np.isfinite(found["contribution"].sel(target="Vegetation")).all()
    assert np.isnan(found["contribution"].sel(target="Vegetation, sunlit")).all()
    assert np.isnan(walked_of(network, x, TRUTH, None, AVERAGE, "Other", nodes=1)["contribution"]).all()


def test_spectra_and_completeness_are_kept(tiny_run, monkeypatch):
    first = walked(tiny_run, "25-PN", "Vegetation", most=2, nodes=1)
    ladder = completeness(tiny_run, "25-PN", (1, 32))
    assert first.sizes["scene"] == min(2, len(pipeline.data(tiny_run).names("test")))
    assert ladder[1] > ladder[32] > 0
    monkeypatch.setattr(path_study, "walked_of", None)  # would fail if it were computed again
    monkeypatch.setattr(path_study, "decompose_path", None)
    assert first.identical(walked(tiny_run, "25-PN", "Vegetation", most=2, nodes=1))
    assert ladder == completeness(tiny_run, "25-PN", (1, 32))
