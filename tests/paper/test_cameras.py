"""Other cameras: what is rendered, how it is given to a network, and what planted counts are found to lose."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import xarray as xr

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.studies import cameras
from hsiutils.paper.studies.cameras import MAPPINGS, MEAN, MOVED, OWN, losses, mosaic_4x4, reached, resampling_gains
from hsiutils.paper.table1 import counts_of


def test_the_plain_mosaic_has_even_bands():
    camera = mosaic_4x4()
    assert (camera.mosaic, camera.tiles, len(camera.bands)) == ((4, 4), HSI_DRIVE.tiles, 16)
    np.testing.assert_allclose(np.diff(camera.wavelengths_nm), 375 / 16)
    peaks = camera.responses(camera.wavelengths_nm).argmax(axis=1)
    assert peaks.tolist() == list(range(16))
    assert len(cameras.cameras()) == 5
    facts = cameras.facts(600.0)
    assert facts["bands"].tolist() == [25, 25, 25, 25, 25, 16]
    assert (facts.loc[[OWN, MOVED], "(at most)"] == 0).all()


def test_the_same_streets_are_read_through_each_camera(tiny_run, monkeypatch):
    monkeypatch.setattr(cameras, "cameras", lambda: {MOVED: cameras.moved(), "plain 4x4": mosaic_4x4()})
    names = tiny_run.data.names("test")
    taken = cameras._taken(tiny_run, names)
    own, other = (np.mean([taken[camera].cube(name) for name in names], (0, 2, 3)) for camera in (OWN, MOVED))
    # Of a tiny scene only the mean spectrum is alike: every band sees another place of its large tile.
    assert np.abs(other[::-1] - own).mean() < 0.8 * np.abs(other - own).mean()
    for name in names:
        np.testing.assert_array_equal(taken[MOVED].labels(name), taken[OWN].labels(name))
    found = cameras.camera_counts(tiny_run, "25-PN", 0)["confusion"]
    assert found.sel(camera="plain 4x4", mapping="native").isnull().all()
    assert found.notnull().sum() == 8 * len(names) * 25
    own = counts_of(tiny_run, "25-PN", 0)["confusion"].sel(region="all")
    for how in ("native", "nearest"):
        np.testing.assert_array_equal(found.sel(camera=OWN, mapping=how), own)
    with pytest.raises(ValueError, match="only simulated scenes"):
        cameras.camera_counts(replace(tiny_run, data_root=tiny_run.data.root), "25-PN", 0)


@pytest.fixture
def planted() -> xr.Dataset:
    """A record: raw loses 30 points through the other camera, PN ten; of both resampling takes half back."""
    inputs, names, seeds, scenes = ["25", "25-PN"], ["Road", "Sky"], [0, 1, 2], ["a", "b", "c", "d"]
    counts = np.full((3, 3, 2, 3, 4, 2, 2), np.nan)
    for i, j, k, seed, scene in product(range(3), range(3), range(2), range(3), range(4)):
        lost = (i > 0) * (30, 10)[k] * (0.5 if MAPPINGS[j] == "resampled" else 1) + 4 * seed
        counts[i, j, k, seed, scene] = [[96 - lost, 4 + lost], [0, 100]]
    counts[1, 0] = np.nan
    dims = {"camera": [OWN, "other", MOVED], "mapping": list(MAPPINGS), "input": inputs, "seed": seeds, "scene": scenes}
    return xr.DataArray(counts, dims | {"truth": names, "predicted": names}).to_dataset(name="confusion")


def test_what_a_camera_costs_is_found(planted):
    order = ["camera", "mapping", "input", "class"]
    worth = reached(planted, seed=0).set_index(order)["value"]
    assert worth[OWN, "native", "25", "Road"] == pytest.approx(92)
    assert worth["other", "resampled", "25", "Road"] == pytest.approx(77)
    assert not any(camera == "other" and how == "native" for camera, how, *_ in worth.index)
    lost = losses(planted, seed=0).set_index(order)
    expected = {("nearest", "25"): 30, ("nearest", "25-PN"): 10, ("resampled", "25-PN less 25"): -10}
    for (how, name), value in expected.items():
        cell = lost.loc[("other", how, name, "Road")]
        assert cell["value"] == pytest.approx(value)
        assert (cell["low"], cell["high"]) == pytest.approx((value, value))  # every network loses the same
    np.testing.assert_allclose(lost.loc[OWN]["value"], 0, atol=1e-9)
    assert {MEAN, "Road", "Sky"} == set(lost.index.get_level_values("class"))
    gained = resampling_gains(planted, seed=0).set_index(order)["value"]
    assert gained["other", "nearest", "25", "Road"] == pytest.approx(15)
    tables = losses(planted, seed=0), resampling_gains(planted, seed=0)
    own, told, _ = cameras.findings(tables[0])
    assert own.startswith("Resampled to itself, its own camera costs")
    assert own.endswith("points of mean IoU.")
    assert "PN carries over better" in told
    assert told.endswith("25-PN loses most of Road, 5.0 points.")
    how, pn, places = cameras.advice(*tables)
    assert "in 2 of 2 cases" in how
    still = how.partition("then still costs is ")[2].removesuffix(" points of mean IoU.")
    line = cameras.in_a_line(planted, seed=0)
    assert line.startswith("Behind 1 other cameras, their bands resampled to the old ones, the same networks lose ")
    assert line.endswith(f"points of mean IoU: {still}")
    assert "less is lost than without through 1 of 1 other cameras, and more through 0" in pn
    assert places.startswith(
        "The same filters at other places of the mosaic, put in order again (each band is the nearest), cost 25 ["
    )
