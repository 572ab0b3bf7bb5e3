"""What the explorer's page is told and shows: in numbers, and in a browser without a network."""

import base64
import json
import re
import shutil
import subprocess
import zlib
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from explorer_page import TELL, agrees
from networks import image, shaken

from hsiutils.data.classes import CLASSES, HSI_DRIVE_CLASSES, VOID
from hsiutils.models.unet import UNetConfig
from hsiutils.paper.explorer import explored_of, switched
from hsiutils.plots.explorer import exactly, explorer, packed

SMALL = UNetConfig(channels=4, depth=2, filters=2, class_names=CLASSES)
STATIC = Path(__file__).parents[2] / "book" / "_static"
CENTRES = np.array([700.0, 650, 900, 800])
CAPTIONS = {"first": "first, planted", "second": "second, <planted>"}
AVERAGE = np.array([0.2, 0.1, 0.3, 0.4])


def one_input(seed):
    """Two scenes of a random network, of 6 x 8 pixels, a quarter of which is kept."""
    network, truth = shaken(SMALL, seed=seed), np.arange(48).reshape(6, 8) % 5
    truth[0] = VOID
    light = np.linspace(0, 1, 48).reshape(6, 8)
    sets = switched(CENTRES, 2)
    scenes = [
        explored_of(network, image(SMALL, 6, 8, seed=s), truth, light if s else None, AVERAGE, sets, 12) for s in (0, 1)
    ]
    found = xr.concat(scenes, xr.Variable("scene", ["first", "second"]))
    found["member"] = ("off", "band"), [[int(band in off) for band in range(4)] for off in sets]
    found["average"] = "band", AVERAGE
    return found.assign_coords(wavelength=("band", CENTRES)).assign_attrs(units=f"unit {seed}")


@pytest.fixture(scope="module")
def inputs():
    return {"a": one_input(0), "b": one_input(1)}


@pytest.fixture(scope="module")
def shown(inputs):
    pictures = {name: np.full((6, 8, 3), 99, np.uint8) for name in ("first", "second")}
    return explorer(inputs, pictures, HSI_DRIVE_CLASSES, CAPTIONS, "Tap a pixel.")


def unpacked(text, places):
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(4, -1).astype(np.int64)
    zigzag = (planes * np.array([[1], [1 << 8], [1 << 16], [1 << 24]])).sum(0)
    return np.where(zigzag % 2, -(zigzag + 1) // 2, zigzag // 2).reshape(-1, places).cumsum(1)


def test_numbers_survive_packing():
    table = np.array([[0, -1, 70_000, -2_000_000], [5, 5, 5, 5]])
    np.testing.assert_array_equal(unpacked(packed(table), 4), table)


def test_parts_are_rounded_up_or_down_so_that_their_sum_is_the_rounded_total():
    parts = np.random.default_rng(0).normal(0, 50, (26, 5, 40))
    parts[3] = 0
    total = np.rint(parts.sum(0)).astype(int)
    rounded = exactly(parts, total)
    np.testing.assert_array_equal(rounded.sum(0), total)
    assert abs(rounded - parts).max() < 1
    assert (rounded[3] == 0).all()  # what is not there gets nothing
    with pytest.raises(ValueError, match="do not sum to their total at 1 of 200"):
        exactly(parts, total + np.eye(5, 40, dtype=int) * np.eye(5)[:, :1])


def test_the_page_holds_sums_that_are_the_networks_logits(inputs, shown):
    meta = shown.meta
    step, places = 10.0 ** -meta["decimals"], len(meta["rows"]) * len(meta["columns"])
    table = unpacked(shown.numbers, places)
    size = len(table) // 4
    for index, (name, scene) in enumerate((name, scene) for name in inputs for scene in (0, 1)):
        found, rows = inputs[name].isel(scene=scene), table[index * size :]
        logit, rows = rows[:5], rows[5:]
        np.testing.assert_allclose(step * logit, found["logit"], atol=0.51 * step)
        for parts in (5, 7, 3):  # 4 bands, 6 regions, 2 channels, each with its rest
            np.testing.assert_array_equal(rows[: 5 * parts].reshape(parts, 5, -1).sum(0), logit)
            rows = rows[5 * parts :]
    assert meta["sets"] == [[0], [1], [2], [3], [0, 1], [2, 3]]
    assert meta["inputs"][1]["unit"] == "unit 1"


def test_what_does_not_fit_together_is_refused(inputs):
    pictures = {name: np.zeros((6, 8, 3), np.uint8) for name in ("first", "second")}
    other = inputs["b"].assign_coords(wavelength=("band", CENTRES + 1))
    with pytest.raises(ValueError, match="inputs a, b must be explored alike, and differ in their wavelength"):
        explorer(inputs | {"b": other}, pictures, HSI_DRIVE_CLASSES, CAPTIONS, "Tap.")
    with pytest.raises(ValueError, match="needs a description"):
        explorer(inputs, pictures, HSI_DRIVE_CLASSES, CAPTIONS, " ")
    wrong = inputs["b"].assign(bands=inputs["b"]["bands"] + 1)
    with pytest.raises(ValueError, match="parts do not sum"):
        explorer(inputs | {"b": wrong}, pictures, HSI_DRIVE_CLASSES, CAPTIONS, "Tap.")


CHROMIUM = shutil.which("chromium")
TAPS = """
addEventListener("DOMContentLoaded", () => {
  const wait = setInterval(() => {
    if (!document.querySelector(".hsi-said")?.textContent) return;
    clearInterval(wait);
    const said = [];
    const tell = () => said.push((TELL)());
    const scene = document.querySelector(".hsi-scene canvas"), select = document.querySelector("select");
    const key = (name) => scene.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
    select.value = 1;
    select.dispatchEvent(new Event("change"));
    ["ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowDown"].forEach(key);
    document.querySelector('[data-class="3"]').click();
    tell();
    document.querySelector('[data-bands="2"]').click();
    tell();
    document.querySelector('[data-bands="1"]').click();
    tell();
    document.querySelector(".hsi-on").click();
    document.querySelector('[data-bands="0,1"]').click();
    const box = scene.getBoundingClientRect();
    scene.dispatchEvent(new MouseEvent("click", { clientX: box.right - 1, clientY: box.bottom - 1, bubbles: true }));
    tell();
    document.body.innerHTML = "<pre></pre>";
    document.querySelector("pre").textContent = JSON.stringify(said);
  }, 20);
});
""".replace("TELL", TELL)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_without_a_network_shows_what_the_library_says(inputs, shown, tmp_path):
    page, html = tmp_path / "page.html", shown._repr_html_()
    head = f'<meta charset="utf-8"><link rel="stylesheet" href="{(STATIC / "book.css").as_uri()}">'
    scripts = f'<script src="{(STATIC / "explorer.js").as_uri()}"></script><script>{TAPS}</script>'
    page.write_text(f"<!doctype html><html><head>{head}{scripts}</head><body>{html}</body></html>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'user'}", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    command = [CHROMIUM, *options, "--window-size=500,900", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert "Uncaught" not in done.stderr
    assert not re.search(r"https?://", html)
    told = json.loads(unescape(re.search(r"<body[^>]*><pre>(.*)</pre>", done.stdout, re.DOTALL)[1]))
    corner, end = len(shown.meta["columns"]), -1  # of the second row the first pixel; the last of all
    for step, off, place in zip(told, ([], [2], [1, 2], [0, 1]), (corner, corner, corner, end), strict=True):
        for index, name in enumerate(inputs):
            found = inputs[name].isel(scene=1, place=place)
            agrees(step, index, found, off, "Sky")
    assert told[0]["scenes"] == list(CAPTIONS.values())  # as text, whatever letters a name has
    assert "not about this choice" in told[2]["words"][1]
    assert f"column {shown.meta['columns'][0]}: labelled" in told[0]["words"][0]
    assert "in the sun" in told[3]["words"][0]
    assert {step["wide"] for step in told} <= {500, 485}  # nothing is wider than the page
