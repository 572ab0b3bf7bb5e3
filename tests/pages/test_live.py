"""The network that runs in the page, in a browser without a network: what it says after each change, against torch."""

import json
import os
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from hsiutils.book.chapters import settings
from hsiutils.book.live import runtime
from hsiutils.paper.live import live, living, relit, trusted

SITE = Path(os.environ["PAGES"]).resolve() if os.environ.get("PAGES") else None
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
LOADED_BYTES = 12_000_000
TOLERANCE = 1e-4
"""Of what the page says, relative to the largest number of its kind."""
TELL = """() => {
    const root = document.querySelector('.hsi-live'), { logits, bands, start, map } = root.live
    const text = (one) => one.textContent, said = text(root.querySelector('.hsi-said'))
    const cells = [...root.querySelectorAll('.hsi-logits tbody tr')].map((row) => [...row.cells].map(text))
    return { logits, bands: [...bands], start: [...start], map: [...map], cells, said }
}"""

pytestmark = [
    pytest.mark.skipif(SITE is None, reason="PAGES names no built site; `make test` builds one"),
    pytest.mark.skipif(
        (BROWSER is None or runtime() is None) and not os.environ.get("CI"),
        reason="no Chromium here, or no runtime in the environment (`make setup` brings it); CI has both",
    ),
]


class Page:
    """The page, and beside it the scene as torch is to be asked about it."""

    def __init__(self, page, found):
        self.page, self.found = page, found
        self.cube, self.share, self.off = found.cube.copy(), found.share.copy(), []
        self.place = tuple(size // 2 for size in self.share.shape)
        self.chart = page.locator(".hsi-live .hsi-chart")
        self.order = np.argsort(found.wavelengths, kind="stable")

    def settle(self):
        self.page.wait_for_function("document.querySelector('.hsi-live').dataset.state === 'ready'")

    def tap(self, row, column):
        box = self.page.locator(".hsi-tap").bounding_box()
        height, width = self.share.shape
        at = {"x": (column + 0.5) * box["width"] / width, "y": (row + 0.5) * box["height"] / height}
        self.page.locator(".hsi-tap").click(position=at)
        self.place = row, column

    def press(self, control, key):
        self.page.locator(f".hsi-live [data-of={control}]").press(key)

    def errors(self):
        """How far the page is from torch in logits, contributions and what is left, and at how many pixels in class."""
        self.settle()
        told, (row, column) = self.page.evaluate(TELL), self.place
        logits, parts = self.found.asked(self.cube, self.off), self.found.decomposed(self.cube, self.off)
        at = {"y": row, "x": column}
        pairs = [
            (told["logits"], logits[:, row, column]),
            (np.reshape(told["bands"], (len(logits), -1)), parts.contribution.isel(at).transpose("class", "band")),
            (told["start"], parts.bias.sum("layer").isel(at)),
        ]
        worst = [float(abs(np.asarray(own) - np.asarray(torchs)).max() / abs(logits).max()) for own, torchs in pairs]
        classes = float(np.mean(np.asarray(told["map"]) != logits.argmax(0).ravel()))
        names = list(self.found.network.config.names)
        assert f"says {names[int(np.argmax(told['logits']))]}" in told["said"]
        for cells, logit in zip(told["cells"], told["logits"], strict=True):
            bands, start, total, shown = (float(cell.replace("\N{MINUS SIGN}", "-")) for cell in cells[1:5])
            assert bands + start == pytest.approx(total, abs=1.6e-2)
            assert shown == pytest.approx(logit, abs=6e-3)
            assert total == pytest.approx(shown, abs=1.1e-2)  # the parts sum to the logit, in what is printed, too
        return [*worst, classes]

    def agrees(self):
        *worst, classes = self.errors()
        assert max(worst) < TOLERANCE
        assert classes < 1e-3  # two logits may be all but equal


def test_the_page_says_what_torch_says_of_every_change():
    assert BROWSER is not None, "CI has a Chromium"
    assert runtime() is not None, "`make setup` brings it"
    given = {name.lower(): os.environ.get(name, "") for name in ("PROFILE", "DATA_ROOT")}
    run = settings(
        profile=given["profile"] or "smoke", seed=int(os.environ.get("SEED", 0)), data_root=given["data_root"]
    )
    found, heard, asked = live(run, living(run)), [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_context(viewport={"width": 1366, "height": 900}, offline=True).new_page()
        tab.on("console", lambda said: heard.append(said.text) if said.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda one: asked.append(one.url))
        tab.on("requestfailed", lambda one: heard.append(f"{one.url}: {one.failure}"))
        tab.goto((SITE / "book" / "a5_live.html").as_uri(), wait_until="load")
        assert not any("_static/live/" in url for url in asked)  # not before it is wanted
        tab.locator(".hsi-live button").click()
        tab.wait_for_function("document.querySelector('.hsi-live').dataset.state === 'ready'", timeout=60_000)
        loaded = [Path(url.removeprefix("file://").partition("?")[0]) for url in asked if "_static/live/" in url]
        assert 1_000_000 < sum(path.stat().st_size for path in loaded) <= LOADED_BYTES
        beside = tab.locator(".hsi-live fieldset", has=tab.locator("[data-of=sun]"))
        assert found.sun is None or trusted(found) in beside.inner_text()
        changes(Page(tab, found))
        accessible(tab)
        browser.close()
    assert heard == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def changes(page):
    """Move, paint, relight, switch, and go back; after each step page and torch are compared."""
    page.agrees()
    sunny = page.found.share >= 0.5 if page.found.sun is not None else True
    said = abs(page.found.decomposed(page.cube).contribution).sum(("band", "class"))
    row, column = np.unravel_index(int(np.argmax(said.values * sunny)), page.share.shape)  # where bands say most
    page.tap(row, column)
    page.agrees()
    page.chart.focus()
    band = page.order[len(page.order) // 2]
    top = 1.5 * max(float(page.cube[:, row, column].max()), 0.01)
    for _ in range(5):
        page.chart.press("ArrowUp")
    assert min(page.errors()[:2]) > TOLERANCE  # torch has not heard of it: this the comparison must see
    page.cube[band, row, column] += top / 10
    page.agrees()

    box = page.chart.bounding_box()
    low, high = page.found.wavelengths.min() - 12, page.found.wavelengths.max() + 12
    band = page.order[4]
    x = 42 + (box["width"] - 50) * (page.found.wavelengths[band] - low) / (high - low)
    page.page.mouse.click(box["x"] + x, box["y"] + 40)
    page.cube[band, row, column] = top * (112 - 40) / 90
    page.agrees()

    page.press("brush", "ArrowRight")
    around = (slice(None), slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
    if page.found.sun is not None:
        page.press("sun", "Home")
        page.cube[around] = relit(page.cube[around], page.share[around[1:]], 0.0, page.found.sun)
        page.share[around[1:]] = np.where(np.isnan(page.share[around[1:]]), np.nan, 0)
        page.agrees()
    page.off = [int(page.order[10])]
    page.page.locator(f".hsi-live [data-band='{page.off[0]}']").click()
    page.agrees()
    page.page.locator(".hsi-live .hsi-again").click()
    page.cube, page.off = page.found.cube, []
    page.agrees()


def accessible(tab):
    """Nothing that axe finds, in the light and in the dark; no wider than a phone."""
    tab.set_viewport_size({"width": 390, "height": 900})
    tab.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    for theme in ("light", "dark"):
        tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        options = {"preload": False, "resultTypes": ["violations"]}
        violations = tab.evaluate(f"axe.run('.hsi-live', {json.dumps(options)})")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
    tab.set_viewport_size({"width": 360, "height": 900})
    tab.wait_for_timeout(100)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
