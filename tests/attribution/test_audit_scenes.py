"""The audit of a whole data set, scene by scene, against the audit of one batch."""

import numpy as np
import pytest
import torch
import xarray as xr
from networks import shaken
from tiny_hsi_drive import NAMES as ALL
from tiny_hsi_drive import write_matlab_release

from hsiutils.attribution import audit_scenes as module
from hsiutils.attribution.audit import audit
from hsiutils.attribution.audit_scenes import audit_scenes
from hsiutils.data.inputs import fit_inputs
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import open_dataset
from hsiutils.models.unet import UNetConfig

NAMES = list(ALL[:3])
MODEL = shaken(UNetConfig(channels=3, classes=4, depth=1, filters=2), torch.float32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    data = open_dataset(write_matlab_release(tmp_path_factory.mktemp("set")))
    return data.scenes(NAMES, fit_inputs("3", data))


def audited(scenes, store, model=MODEL, **options):
    return audit_scenes(model, scenes, store, ["CAM", "GradCAM"], workers=1, progress=False, **options)


def test_each_scene_is_audited_as_alone_and_summed_up(scenes, tmp_path):
    threads = torch.get_num_threads()
    with xr.open_zarr(audited(scenes, tmp_path / "audit.zarr", maps=True)) as found:
        found.load()
    assert torch.get_num_threads() == threads
    expected = audit(MODEL, torch.stack([x for x, _ in scenes]), ["CAM", "GradCAM"])
    assert found["scene"].values.tolist() == NAMES
    assert found["split"].values.tolist() == [scenes.source.table.at[name, "split"] for name in NAMES]
    assert found.attrs["exact"] == 1
    for name in ("residual", "logit", "region_residual", "region_logit"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
    assert found["method"].values.tolist() == expected["method"].values.tolist()
    assert found["layer"].values.tolist() == expected["layer"].values.tolist()
    np.testing.assert_allclose(found["rms_logit"], np.sqrt((found["logit"] ** 2).mean(("y", "x"))), rtol=1e-5)
    exact, rough = (found["rms_residual"].sel({"method": found["name"] == name}) for name in ("CAM", "GradCAM"))
    assert float(exact.max()) < 1e-4 < float(rough.max())


def test_it_goes_on_where_it_stopped_and_takes_no_other_network_or_question(scenes, tmp_path, monkeypatch):
    store, asked, one = tmp_path / "audit.zarr", [], module._audited
    monkeypatch.setattr(module, "_audited", lambda name, **given: asked.append(name) or one(name, **given))
    whole = audited(scenes, tmp_path / "whole.zarr")
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_audited", lambda name, **given: 1 / (name != NAMES[1]) and one(name, **given))
        with pytest.raises(ZeroDivisionError):
            audited(scenes, store)
    audited(scenes, store)
    assert asked == NAMES[1:3]
    with xr.open_zarr(store) as found, xr.open_zarr(whole) as expected:
        xr.testing.assert_identical(found.load(), expected.load())
        assert "residual" not in found
    audited(scenes, store)
    assert asked == NAMES[1:3]
    other = shaken(MODEL.config, torch.float32, seed=1)
    for model, options in ((other, {}), (MODEL, {"upsample": True}), (MODEL, {"maps": True})):
        with pytest.raises(DatasetError, match="asked for something else"):
            audited(scenes, store, model, **options)


def test_wrong_words_are_refused_before_a_store_is_made(scenes, tmp_path):
    with pytest.raises(ValueError, match="no audit of GradCam"):
        audit_scenes(MODEL, scenes, tmp_path / "a.zarr", ["GradCam"], workers=1)
    with pytest.raises(ValueError, match="expected at least one"):
        audited(scenes.source.scenes([], scenes.inputs), tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
