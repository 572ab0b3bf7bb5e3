"""The audit on colour images: planted audits, and the whole study on a few pixels of each kind of data."""

import dataclasses

import numpy as np
import planted
import pytest
import xarray as xr
from other_kinds import rgb_set

from hsiutils.attribution.audit import audit
from hsiutils.paper.conservativeness import ZEROS, with_zeros
from hsiutils.paper.studies import second

LAST = "conv2d_9"  # of depth 2


@pytest.fixture(scope="module")
def figures():
    """Of a network that was never trained, of three channels and biases that are not zero."""
    found = audit(planted.trained_like(), planted.scene(0)[0], second.METHODS).isel(image=0)
    return second.closing(with_zeros(found))


def test_what_is_conservative_closes_and_what_is_not_does_not_without_any_spectrum(figures):
    share, explained = (figures[name].to_series() for name in ("share", "explained"))
    for closed in (f"CAM {LAST}", "linear decomposition input"):
        assert figures["largest"].sel({"method": closed}) < 1e-4
    assert share[ZEROS] == pytest.approx(1)
    assert explained[[f"HiResCAM {LAST}", f"GradCAM {LAST}", ZEROS]].values == pytest.approx([1, 0, 0], abs=1e-4)
    assert share[f"HiResCAM {LAST}"] > 0.01  # it lacks the head's bias, one number a class
    sums = figures["sums"].sel({"method": [f"HiResCAM {LAST}", f"CAM {LAST}", f"GradCAM signed {LAST}"]})
    off = (sums - figures["logits"]).std("pixel").values[:2]  # the same number at every pixel, and none
    assert [*off, float(sums[2].std("pixel"))] == pytest.approx([0, 0, 0], abs=1e-4)
    assert figures["logits"].std("pixel") > 0.1


def test_no_interval_of_an_r2_leaves_what_it_can_be(figures):
    wild = xr.DataArray([0.03, -1.44, -0.77], dims="seed")
    one = figures.drop_dims("pixel").expand_dims(data=["colour"], state=second.STATES)
    table = second.comparison(one.assign(explained=one["explained"] + 0 * wild).where(one["method"] != ZEROS, wild))
    row = table.set_index("method and layer").loc[ZEROS]
    assert row["low"] < -2
    assert table["high"].max() == 1
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()


@pytest.fixture(scope="module")
def made(tiny_run, tmp_path_factory):
    """The study on HSI-Drive's tiny scenes, on those of a colour camera, and on a folder of colour images."""
    folder = rgb_set(tmp_path_factory.mktemp("given"))
    profile = dataclasses.replace(tiny_run.profile, models=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second, "_SMALL", (5, (16, 32)))
        for module in ("studies", "run"):
            patch.setattr(
                f"hsiutils.paper.{module}.side_by_side",
                lambda calls, *_: {name: call() for name, call in calls.items()},
            )
        return second.beside(dataclasses.replace(tiny_run, profile=profile), str(folder))


def test_every_data_set_is_audited_trained_and_untrained(made, tiny_run, monkeypatch):
    found, words = made
    assert words == "measured in this run"
    names = [str(name) for name in found["data"].values]
    assert names[:2] == ["simulated HSI-Drive, 25-PN", second.SIMULATED]
    assert names[2].startswith(second.REAL)
    assert found["classes"].isel(seed=0).values.tolist() == [5, 5, 11]
    assert dict(found["explained"].sizes) | {"data": 3, "seed": 1, "state": 2} == dict(found["explained"].sizes)
    assert (found["share"].sel({"method": f"CAM {LAST}"}) < 1e-4).all()
    np.testing.assert_allclose(found["share"].sel({"method": ZEROS}), 1, rtol=1e-5)
    table = second.comparison(found)
    assert len(table) == 3 * found.sizes["method"]
    monkeypatch.setattr(second.Study, "make", lambda *_, **__: found.isel(data=[0, 1]))
    with pytest.raises(ValueError, match="expected colour images with labels, such as CamVid's"):
        second.beside(tiny_run, str(tiny_run.data.root))
    closed = table[table["method and layer"] == "linear decomposition input"]
    assert (closed[["value", "untrained"]] > 0.999).all(axis=None)


def test_real_colour_images_come_from_the_record_where_there_is_one(tiny_run, made, monkeypatch):
    found, _ = made
    monkeypatch.setattr(second.Study, "make", lambda *_, **__: found.isel(data=[0, 1]))
    real = found.isel(data=[2])
    for record, expected in ((real, real), (None, found.isel(data=[0, 1]))):
        monkeypatch.setattr(second.Study, "shown", lambda *_, record=record: (record, "words"))
        shown, words = second.beside(tiny_run)
        xr.testing.assert_identical(shown, expected)
        assert words == "words"


def test_the_colour_camera_sees_three_colours_and_no_infrared():
    response = second.COLOUR.responses(np.arange(400.0, 1001.0, 10))
    assert (response[:, 31:] == 0).all()
    assert (response[1] == response[2]).all()
    np.testing.assert_array_equal(400 + 10 * response.argmax(1), [610, 540, 540, 460])
