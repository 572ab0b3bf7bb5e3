import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import planted
import pytest
import torch
import xarray as xr

from hsiutils.attribution.audit import audit
from hsiutils.attribution.checks import randomised_networks
from hsiutils.attribution.leaderboard import upper_layers
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import region
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


def audited(logits, **residuals):
    """An audit by hand, of residuals (class, y, x)."""
    dims = ("class", "y", "x")
    parts = xr.concat([xr.DataArray(one, dims=dims) for one in residuals.values()], "method")
    return xr.Dataset({"logit": (dims, logits), "residual": parts.assign_coords(method=list(residuals))})


def test_residuals_are_in_units_of_the_classs_logit():
    found = audited([[[3.0, -4.0]], [[0.0, 0.0]]], GradCAM=[[[5.0, -5.0]], [[1.0, 1.0]]])
    unit = np.sqrt(12.5)
    assert study.in_units(found).values[0, 0, 0] == pytest.approx([5 / unit, -5 / unit])
    assert np.isnan(study.in_units(found).values[0, 1]).all()


def test_what_sums_explain_is_one_of_conservative_maps_and_nothing_of_empty_ones():
    logit = np.random.default_rng(0).normal(size=(3, 6, 7))
    bias = np.array([1.0, 5.0, -9.0])[:, None, None]
    half, constant = logit / 2, np.broadcast_to(bias, logit.shape)
    sums = {"logit": logit, "less the bias": logit - bias, "zeros": 0 * logit, "mean": constant, "half": half}
    values = {"logit": 1, "less the bias": 1, "zeros": 0, "mean": 0, "half": 0.75, "negative": -3, "undefined": np.nan}
    sums |= {"negative": -logit, "undefined": logit * np.nan}  # 1 - var((f - 1) y) / var(y) for a factor f
    for gauge in (0, bias):
        found = study.explained(audited(logit + gauge, **{name: one - logit - gauge for name, one in sums.items()}))
        np.testing.assert_allclose(found, np.tile(np.array([list(values.values())]).T, 3), atol=1e-12)
    assert np.isnan(study.explained(audited(np.ones((2, 3, 3)), one=np.ones((2, 3, 3))))).all()


def test_what_gradcam_explains_stays_under_a_number_added_to_all_logits_of_a_pixel():
    model, image, draw = planted.trained_like(), planted.scene(0)[0], torch.Generator().manual_seed(0)
    found = []
    for _ in range(2):
        found.append(audit(model, image, ["GradCAM signed", "CAM"], ["conv2d_1"]).isel(image=0))
        model.head.weight.data += torch.randn(1, *model.head.weight.shape[1:], generator=draw)
        model.head.bias.data += torch.randn(len(model.head.bias), generator=draw)
    before, after = found
    assert abs(after["logit"] - before["logit"]).max() > 1
    np.testing.assert_allclose(study.explained(after), study.explained(before), atol=1e-4)
    assert abs(study.explained(before).sel({"method": "GradCAM signed conv2d_1"})).max() > 1e-3


def test_summary_tells_the_head_from_gradcam_and_not_gradcam_from_zeros(tiny_run):
    found = study.summary(tiny_run, "25-PN", study.audited_scenes(tiny_run, 1))
    assert found["explained"].dims == ("seed", "scene", "method", "class")
    assert (found["largest"].sel({"method": f"CAM {LAST}"}) < 1e-4).all()
    explained = {name: found["explained"].sel({"method": name}) for name in found["method"].values}
    for name in (f"CAM {LAST}", f"HiResCAM {LAST}", "linear decomposition input"):
        np.testing.assert_allclose(explained[name], 1, atol=1e-4)
    for name in (f"GradCAM {LAST}", f"GradCAM signed {LAST}", study.ZEROS):
        np.testing.assert_allclose(explained[name], 0, atol=1e-4)


@pytest.fixture(scope="module")
def maps():
    """Methods planted for what they read, and the real ones."""

    def edges(model, x, target):
        return np.diff(x.numpy(), axis=2)

    def encoder(model, x, target):
        with torch.no_grad():
            return model.encoder[0].conv1(x[None])[0].numpy()

    draw = np.random.default_rng(0)
    planted_maps = {"edges": edges, "encoder": encoder}
    planted_maps |= {"zeros": lambda *_: np.zeros((4, 5)), "noise": lambda *_: draw.normal(size=(4, 50))}
    wrapped = {
        name: lambda *asked, of=of: SimpleNamespace(map=xr.DataArray(of(*asked))) for name, of in planted_maps.items()
    }
    return wrapped | {name: METHODS[name] for name in ("GradCAM", "Guided BackProp")}


def kept(models, maps):
    """Of networks as if they were trainings of one variant, on a few planted scenes."""
    parts = []
    for number in range(4):
        image, truth = planted.scene(number)
        target = region(models[0], image, planted.VEGETATION, truth == planted.VEGETATION)
        last = upper_layers(models[0], image)[-1:]
        twins = [next(randomised_networks(m, image, seed=9 * number + i, layers=last))[1] for i, m in enumerate(models)]
        parts.append(study.pairs_of_maps(models, twins, image, target, maps))
    seeds = list(range(len(models)))
    found = xr.concat(parts, "scene").assign_coords(seed=seeds, partner=seeds)
    return {name: study.kept(found.sel({"method": name})) for name in maps if name != "zeros"}, found


def test_a_cascade_is_looked_at_where_the_u_net_has_its_levels():
    deep, flat = (planted.trained_like(depth=depth) for depth in (2, 0))
    image = planted.scene(0)[0]
    assert study.stops(deep, image) == ["conv2d_10", "conv2d_9", "conv2d_7", "conv2d_transpose", "conv2d_5", "conv2d_1"]
    assert study.stops(flat, image) == ["conv2d_2", "conv2d_1"]


def test_maps_of_what_was_redrawn_are_told_from_maps_of_what_was_not(maps):
    """Trainings that agree, because they are one network, a little shaken."""
    models = [planted.trained_like() for _ in range(4)]
    for seed, model in enumerate(models):
        shake = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.data *= 1 + 0.1 * torch.randn(parameter.shape, generator=shake)
    answers, found = kept(models, maps)
    assert answers["GradCAM"].high < 0 < answers["encoder"].low
    assert answers["edges"].mean == pytest.approx(0, abs=1e-6)
    assert answers["noise"].low < 0 < answers["noise"].high
    with pytest.raises(ValueError, match="no finite value"):
        study.kept(found.sel({"method": "zeros"}))
    table = study.survival_table(found)
    assert table.loc["encoder", "own redrawn"] == pytest.approx(1)
    assert table.loc["GradCAM", "another training"] > 0.5 > abs(table.loc["GradCAM", "another's redrawn"])
    assert table.loc["zeros", "kept"] == ""
    passed, undecided, failed = study.checked_in_words(found)
    assert passed.startswith("Passes the check: ")
    assert "GradCAM" in passed
    assert "noise" in undecided
    assert "encoder" in failed
    curves = xr.DataArray([[0.5]] * len(maps), {"method": list(maps), "layer": ["base"]}, ("method", "layer"))
    first, *lines = study.curves_in_words(curves, found, "base")
    assert "mean over 16 draws, each of two classes" in first
    assert "encoder: +0.50 in the figure; mean +1.00, single draws +1.00 to +1.00, in the check" in lines
    assert not any(line.startswith("zeros") for line in lines)


def test_networks_that_agree_on_nothing_do_not_pass(maps):
    answers, _ = kept([planted.trained_like(seed) for seed in range(4)], maps)
    assert answers["GradCAM"].high > 0
    assert answers["Guided BackProp"].high > 0


def test_survival_compares_the_networks_of_a_variant(tiny_run):
    found = study.survival(tiny_run, "25-PN", study.audited_scenes(tiny_run, 2))
    assert tuple(found["method"].values) == study.RANDOMISED
    assert dict(found.sizes) == {"scene": 2, "method": len(study.RANDOMISED), "seed": 2, "partner": 2}
    trained, redrawn = found["trained"].transpose("seed", "partner", ...), found["redrawn"]
    np.testing.assert_allclose(trained.values[[0, 1], [0, 1]], 1)
    np.testing.assert_allclose(trained.values[0, 1], trained.values[1, 0])
    assert (redrawn.isel(scene=0) != redrawn.isel(scene=1)).all()
    assert (redrawn.isel(partner=0) != redrawn.isel(partner=1)).all()
    alone = study.kept(found.sel({"method": "GradCAM"}))
    assert (abs(alone.mean) < 1, np.isnan(alone.low)) == (True, True)


def test_the_board_has_every_method_and_comes_back_byte_for_byte_with_its_times_beside_it(
    tiny_run, monkeypatch, tmp_path
):
    (scene,) = study.audited_scenes(tiny_run, 1)
    files, times, few = [], [], ("GradCAM", "linear decomposition", "occlusion")
    monkeypatch.setattr(study, "METHODS", {name: METHODS[name] for name in few})
    trained = tiny_run.networks([("25-PN", 0)], progress=False)
    monkeypatch.setattr(type(tiny_run), "networks", lambda *_, **__: trained)  # or another store would train its own
    for name in ("one", "two"):
        monkeypatch.setenv(store.ROOT, str(tmp_path / name))
        found = study.board(tiny_run, "25-PN", 0, scene, pixels=1)
        assert tuple(found["method"].values) == few
        assert "seconds" not in found
        (manifest,) = (tmp_path / name).glob("leaderboard/*/manifest.json")
        files.append((manifest.parent / FILE).read_bytes())
        times.append(json.loads(manifest.read_text())["remarks"]["data_vars"]["seconds"]["data"])
    assert files[0] == files[1]
    assert times[0] != times[1]
    monkeypatch.setattr(study, "leaderboard", None)  # would fail if it were computed again
    xr.testing.assert_identical(found, study.board(tiny_run, "25-PN", 0, scene, pixels=1))
