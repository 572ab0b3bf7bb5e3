import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from planted import spectral_network

from hsiutils.paper import foretold
from hsiutils.paper.studies import foretold as record

TRUTH = np.repeat([[0, 0, 0, 0, 2, 2, 2, 2]], 16, axis=0).repeat(2, axis=1)
ORDER = list(range(10))
WEIGHTS = [4.0, 3.0, 2.0, 1.0, 0.5, -1.0, -2.0, 0.0, 0.0, 5.0]


def scene(seed=0):
    return torch.rand(10, 16, 16, generator=torch.Generator().manual_seed(seed)) + 0.5


def of(weights, x):
    network = spectral_network(weights)
    return foretold.foretold_of(network, x, TRUTH, None, np.linspace(0.1, 0.9, 10), ORDER).expand_dims("scene")


@pytest.fixture(scope="module")
def linear():
    """A network that is linear over these images: what it loses without a part is the part."""
    return foretold.figures(of(WEIGHTS, scene()))


def test_of_a_linear_network_parts_foretell_the_loss_exactly(linear):
    own = linear.sel(predictor=foretold.MAP)
    for key in ("rank", "slope", "explained"):
        np.testing.assert_allclose(own[key], 1, atol=1e-5)
    assert (own["chance"] < 0.9).all()


def test_another_network_than_ours_is_asked_the_same_way():
    generator = torch.Generator().manual_seed(5)
    network = torch.nn.Conv2d(10, 3, 1).eval()
    for parameter in network.parameters():
        parameter.data.normal_(generator=generator)
    found = foretold.foretold_of(network, scene(), TRUTH, None, np.linspace(0.1, 0.9, 10), ORDER).expand_dims("scene")
    own = foretold.figures(found).sel(predictor=foretold.MAP)
    np.testing.assert_allclose(own["explained"], 1, atol=1e-5)
    assert (found["ranked"].sel(cut="bands", predictor=foretold.MAP) == 2).all()  # classes 0 and 2


def test_parts_from_another_reference_do_not(linear):
    crossed = linear.sel(predictor=foretold.FROM_ZERO)
    np.testing.assert_allclose(crossed["explained"].sel(reference="zero"), 1, atol=1e-5)
    assert (crossed["explained"].sel(reference="grey") < 0.5).all()


def test_fewer_questions_know_the_sum_and_not_the_parts(linear):
    coarse = linear.sel(predictor=foretold.FEWER, reference="zero")
    assert 0 < float(coarse["explained"].sel(cut="bands")) < 0.9
    assert float(coarse["explained"].sel(cut="patches")) == pytest.approx(0.5, abs=0.1)  # half of them say nothing
    assert np.isnan(coarse["rank"].sel(cut="patches"))  # they are all told the same
    assert np.isnan(coarse["explained"].sel(cut="classes"))


def test_a_band_that_is_ignored_is_foretold_and_a_network_that_ignores_all_has_nothing_to_tell():
    found = of([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], scene())
    one = foretold.figures(found).sel(cut="bands", reference="average", predictor=foretold.MAP)
    assert float(one["explained"]) == pytest.approx(1, abs=1e-5)
    assert np.isnan(foretold.figures(of([0.0] * 10, scene()))["explained"]).all()
    nobody = foretold.foretold_of(spectral_network(WEIGHTS), scene(), np.full((16, 16), 255), None, np.zeros(10), ORDER)
    assert not nobody["ranked"].any()


def test_chance_is_what_exchanged_parts_explain():
    draw = np.random.default_rng(0)
    lost = draw.normal(size=(2, 8)) + 1
    said = lost + 0.1 * draw.normal(size=(2, 8))
    expected = foretold.scores(lost, said)["chance"]
    drawn = [(lost * draw.permuted(said, axis=1)).sum() for _ in range(4000)]
    assert expected == pytest.approx(np.mean(drawn), rel=0.05)
    assert foretold.scores(lost, said)["ranked"] == 2


def test_sentences_say_where_the_map_beats_chance_and_where_questions_beat_it():
    parts = [of([value * factor for value in WEIGHTS], scene(seed)) for seed, factor in enumerate((1, 1.1, 0.9, 1, 1))]
    scenes = xr.concat(parts, "scene").drop_vars("scene", errors="ignore")
    found = xr.concat([scenes, scenes * 1.05], "seed").expand_dims(variant=["25"])
    told = foretold.estimated(found, 0)
    chance, fewer, nothing = foretold.finding(told)
    assert "nothing happens the map explains more for bands (zero" in nothing
    assert chance.startswith("25: beside chance the map explains more for bands (zero, average")
    assert "beside fewer questions the map explains more for bands (zero" in fewer
    assert "classes" not in fewer
    frame = foretold.rows(told, "rank")
    assert set(frame["predictor"]) == set(foretold.PREDICTORS)
    two = pd.DataFrame({"cut": ["bands", "bands"], "reference": ["zero", "grey"], "value": [0.5, -0.25]})
    assert foretold.in_place(two, "+.2f") == "bands (+0.50 by zero, -0.25 by grey)"


def test_the_measure_is_kept_and_makes_a_record(tiny_run):
    found = foretold.foretold(tiny_run, "25-PN", 0, most=1)
    assert dict(found.sizes) == {"scene": 1, "cut": 3, "reference": 3, "predictor": 3}
    assert found.identical(foretold.foretold(tiny_run, "25-PN", 0, most=1))
    points = record.STUDY.grid(tiny_run)
    assert [(one.variant, one.seed) for one in points] == [("25-PN", 0), ("25-PN", 1)]
    both = dataclasses.replace(tiny_run, variants=("25", "25-PN"))
    assert [one.variant for one in record.STUDY.grid(both)] == ["25", "25", "25-PN", "25-PN"]
    reduced = record.STUDY.reduce({"foretold": found.expand_dims(variant=["25-PN"], seed=[0])})
    assert reduced["lost2"].dtype == np.float32
