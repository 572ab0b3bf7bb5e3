"""What the live page is told of a run: the same numbers as torch sees, and light by the simulator's own sun and sky."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from hsiutils.data.classes import HSI_DRIVE_CLASSES
from hsiutils.paper import live


@pytest.fixture(scope="module")
def found(tiny_run):
    return live.live(tiny_run, "25-PN")


def test_the_last_input_of_bands_is_shown_if_it_fits(tiny_run, monkeypatch):
    assert live.living(tiny_run) == "25-PN"
    assert live.living(replace(tiny_run, variants=("3",))) is None
    monkeypatch.setattr(live, "MOST", 10)
    assert live.living(tiny_run) is None


def test_the_scene_in_whole_steps_is_the_networks_own(tiny_run, found):
    x, labels = tiny_run.inputs("25-PN", [found.scene])[0]
    assert found.cube.min() >= 0
    assert np.rint(found.cube / found.step).max() == live.STEPS
    np.testing.assert_allclose(found.asked(found.cube), found.network(x[None])[0].detach(), atol=1e-2)
    np.testing.assert_array_equal(found.labels, labels)


def test_the_scene_is_the_one_most_nearly_half_in_the_sun(tiny_run, monkeypatch):
    names = tiny_run.data.names("test")
    shares = dict.fromkeys(names, np.full((16, 32), np.nan)) | {names[-1]: np.full((16, 32), 0.25)}
    monkeypatch.setattr(live, "sunlit", lambda data, asked: [shares[name] for name in asked])
    found = live.live(tiny_run, "25-PN")
    assert found.scene == names[-1]
    assert np.unique(found.share * live.SHARES).tolist() == [64]  # in whole steps
    monkeypatch.setattr(live, "sunlit", lambda data, asked: None)  # real scenes
    assert live.live(tiny_run, "25-PN").sun is None


def test_bands_that_are_off_say_nothing_and_the_rest_sums_to_the_logit(found):
    parts = found.decomposed(found.cube, [2, 7])
    assert (parts.contribution.sel(band=[2, 7]) == 0).all()
    total = parts.contribution.sum("band") + parts.bias.sum("layer")
    np.testing.assert_allclose(total, found.asked(found.cube, [2, 7]), atol=1e-4)


def test_light_is_turned_by_the_ratio_of_sun_and_sky():
    cube, share, sun = np.ones((2, 1, 3)), np.array([[0.0, 1.0, np.nan]]), np.array([1.0, 3.0])
    np.testing.assert_allclose(live.relit(cube, share, 1, sun)[:, 0], [[2, 1, 1], [4, 1, 1]])
    np.testing.assert_allclose(live.relit(cube, share, 0, sun)[:, 0], [[1, 0.5, 1], [1, 0.25, 1]])
    half, there = live.relit(cube, share, 0.5, sun), np.where(np.isnan(share), share, 0.5)
    np.testing.assert_allclose(live.relit(half, there, 0, sun), live.relit(cube, share, 0, sun))


def test_relighting_is_held_against_a_scene_that_lost_the_sun():
    rng = np.random.default_rng(0)
    lit, share, sun = rng.uniform(0.2, 1, (3, 4, 5)), np.ones((4, 5)), np.array([1.0, 2.0, 4.0])
    fall = np.zeros((4, 5), bool)
    fall[1:3] = True
    dark = 0.7 * live.relit(lit, share, 0, sun)  # under another exposure
    own, left = live.shade_error(lit, dark, share, fall, sun)
    assert own == pytest.approx(0, abs=1e-12)
    assert left > 0.1
    dark[0, fall] *= 2  # light from elsewhere
    assert live.shade_error(lit, dark, share, fall, sun)[0] > 0.1


def test_the_scene_on_which_relighting_does_best_is_shown_and_the_others_are_counted(tiny_run, monkeypatch):
    one, two = tiny_run.data.names("test")[:2]
    monkeypatch.setattr(live, "shaded", lambda run: {one: (0.02, 0.01), two: (0.01, 0.04)})
    monkeypatch.setattr(live, "sun_over_sky", lambda run, scene: np.ones(25))
    found = live.live(tiny_run, "25-PN")
    assert found.scene == two
    own, others = live.findings(replace(found, share=np.ones_like(found.share)), "simulated")[2:]
    assert "1.0 % from the relit one in shape, and 4.0 % from what it was" in own
    assert "than leaving the spectrum as it was in 1 of 2 sunny test scenes, and this one is the best of them" in others
    picture = np.zeros((*found.cube.shape[1:], 3), np.uint8)
    shown = live.live_page(found, scene="a scene", classes=HSI_DRIVE_CLASSES, picture=picture, alt="A network.")
    assert shown.meta["trusted"] == others, "the control itself says it"
    assert live.trusted(replace(found, checked={})) == ""


def test_sunny_scenes_are_checked_where_pixels_fall_into_shadow(tiny_run, monkeypatch):
    assert live.shaded(tiny_run) == {}  # it is sunny in none
    scene = next(name for name in tiny_run.data.names() if name[3] == "1")
    monkeypatch.setattr(live, "sunny", lambda run: [scene])
    monkeypatch.setattr(live, "FEWEST", 1)
    found = live.shaded(tiny_run)
    assert all(np.isfinite(errors).all() for errors in found.values())
    assert set(found) <= {scene}


def test_the_sky_is_bluer_than_the_sun(tiny_run):
    sunny, cloudy = (next(n for n in tiny_run.data.names() if n[3] == w) for w in "12")
    ratio = live.sun_over_sky(tiny_run, sunny)
    assert np.corrcoef(ratio, tiny_run.centres_nm)[0, 1] > 0.5
    assert live.sun_over_sky(tiny_run, cloudy) is None


def test_what_the_sun_does_is_told_beside_a_grey_dimming(found):
    sun = np.linspace(1, 9, 25)
    share = np.ones_like(found.share)
    coloured, grey = live.findings(replace(found, sun=sun, share=share), "simulated")[:2]
    assert f"of the {share.size} sunlit pixels of this simulated scene" in coloured
    assert "25-PN changes its class" in coloured
    assert float(re.search(r"at (\S+) %", grey)[1]) == 0  # PN cancels it
    (none,) = live.findings(replace(found, sun=None), "real")
    assert none == "No sun is seen in this real scene, so its light cannot be turned down."


def test_a_notebook_carries_what_the_page_loads_beside_its_html(found):
    picture = np.zeros((*found.cube.shape[1:], 3), np.uint8)
    shown = live.live_page(found, scene="a <scene>", classes=HSI_DRIVE_CLASSES, picture=picture, alt='A "network".')
    bundle = shown._repr_mimebundle_(include=None, exclude=None)
    text = bundle["text/html"]
    assert bundle["text/plain"] == 'A "network".'
    assert "<scene>" not in text
    meta = json.loads(re.search(r"<script[^>]*>(.*)</script>", text)[1])
    assert meta["scene"] == "a <scene>"
    assert len(text) < 20_000
    width, cube = bundle[live.MIME]["cube"]
    values = np.frombuffer(base64.b64decode(cube), f"<u{width}") * meta["step"]
    np.testing.assert_array_equal(values.astype(np.float32).reshape(meta["shape"]), found.cube)
    assert base64.b64decode(bundle[live.MIME]["network"][1]) == found.graph()
    with pytest.raises(ValueError, match="needs a description"):
        live.live_page(found, scene="a", classes=HSI_DRIVE_CLASSES, picture=picture, alt=" ")
