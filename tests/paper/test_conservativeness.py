import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

from hsiutils.attribution.methods import METHODS
from hsiutils.paper import conservativeness as study
from hsiutils.paper import store
from hsiutils.paper.study import FILE

LAST = "conv2d_9"  # of depth 2


def test_the_subject_is_pn_where_there_is_one_on_as_many_test_scenes_as_there_are(tiny_run):
    assert study.subject(tiny_run) == "25-PN"
    assert study.subject(dataclasses.replace(tiny_run, variants=("1", "3"))) == "3"
    names = tiny_run.data.names("test")
    assert set(study.audited_scenes(tiny_run, 1)) <= set(names)
    assert study.audited_scenes(tiny_run, 99) == names
    with pytest.raises(ValueError, match="at least one scene"):
        study.audited_scenes(tiny_run, 0)


def test_residuals_are_in_units_of_the_classs_logit():
    logit = xr.DataArray([[[3.0, -4.0]], [[0.0, 0.0]]], dims=("class", "y", "x"))
    residual = xr.DataArray([[[[5.0, -5.0]], [[1.0, 1.0]]]], dims=("method", "class", "y", "x"))
    found = xr.Dataset({"logit": logit, "residual": residual})
    unit = np.sqrt(12.5)
    assert study.in_units(found).values[0, 0, 0] == pytest.approx([5 / unit, -5 / unit])
    assert study.relative(found).values[0, 0, 0] == pytest.approx([5 / unit] * 2)
    assert np.isnan(study.relative(found).values[0, 1]).all()


def test_summary_tells_the_head_from_gradcam(tiny_run):
    scenes = study.audited_scenes(tiny_run, 1)
    found = study.summary(tiny_run, "25-PN", scenes)
    assert found["median"].dims == ("seed", "scene", "method")
    assert (found["largest"].sel({"method": f"CAM {LAST}"}) < 1e-4).all()
    assert (found["median"].sel({"method": f"GradCAM {LAST}"}) > 1e-2).all()
    assert (found["largest"] >= found["median"]).all()


def test_survival_is_read_where_head_and_decoder_are_redrawn(tiny_run):
    scenes = study.audited_scenes(tiny_run, 1)
    found = study.randomisation(tiny_run, "25-PN", 0, scenes[0])
    left = study.survival(tiny_run, "25-PN", scenes)
    drawn = found["upper"]
    assert drawn.sizes["draw"] == study.DRAWS
    np.testing.assert_array_equal(drawn[0].values, found["spearman"].sel(layer="conv2d_transpose").values)
    assert len(np.unique(drawn.sel({"method": "gradient", "sign": "signed"}))) == study.DRAWS
    np.testing.assert_allclose(left.sel(seed=0).isel(scene=0).values, drawn.values.mean(0))
    assert tuple(left["method"].values) == study.RANDOMISED


def test_the_board_has_every_method_and_comes_back_byte_for_byte_with_its_times_beside_it(
    tiny_run, monkeypatch, tmp_path
):
    (scene,) = study.audited_scenes(tiny_run, 1)
    files, times = [], []
    trained = tiny_run.networks([("25-PN", 0)], progress=False)
    monkeypatch.setattr(type(tiny_run), "networks", lambda *_, **__: trained)  # or another store would train its own
    for name in ("one", "two"):
        monkeypatch.setenv(store.ROOT, str(tmp_path / name))
        found = study.board(tiny_run, "25-PN", 0, scene, pixels=1)
        assert set(found["method"].values) == set(METHODS)
        assert "seconds" not in found
        (manifest,) = (tmp_path / name).glob("leaderboard/*/manifest.json")
        files.append((manifest.parent / FILE).read_bytes())
        times.append(json.loads(manifest.read_text())["remarks"]["data_vars"]["seconds"]["data"])
    assert files[0] == files[1]
    assert times[0] != times[1]
    monkeypatch.setattr(study, "leaderboard", None)  # would fail if it were computed again
    xr.testing.assert_identical(found, study.board(tiny_run, "25-PN", 0, scene, pixels=1))
