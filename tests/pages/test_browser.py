"""Every page of a built site in a browser without a network: light and dark, wide and narrow, by every control.

`make test` builds the pages of what nbval ran, and names their folder in PAGES. Without it nothing is tested here.
"""

import html
import json
import os
import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from explorer_page import TELL, agrees
from playwright.sync_api import sync_playwright

from hsiutils.book.chapters import settings
from hsiutils.paper.explorer import explorable, explored

SITE = Path(os.environ["PAGES"]).resolve() if os.environ.get("PAGES") else None
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
NAMES = sorted(path.name for path in (SITE / "book").glob("*.html")) if SITE else []
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
RULES = {"label-content-name-mismatch": {"enabled": True}, "color-contrast": {"enabled": False}}
LOOKS = """(() => {
    const all = (root) => [...root.querySelectorAll('*')].flatMap((one) =>
        one.shadowRoot ? [one, ...all(one.shadowRoot)] : [one])
    const looks = new Map()
    for (const one of all(document.body)) {
        if (one.closest('mjx-container')) continue
        if (!one.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue
        if (![...one.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim())) continue
        const {color, fontSize, fontWeight} = getComputedStyle(one)
        const look = [color, fontSize, fontWeight]
        for (let behind = one; behind; behind = behind.parentElement ?? behind.getRootNode().host) {
            const {backgroundColor, backgroundImage, opacity, position} = getComputedStyle(behind)
            look.push(backgroundColor, backgroundImage, opacity, position)
        }
        const alike = look.filter((value, place) => value !== look[place - 4]).join()
        looks.set(alike, [...(looks.get(alike) ?? []), one])
    }
    return [...looks.values()].flatMap((alike) => alike.slice(0, 2))
})()"""
"""Of all texts that are alike in colour, size and everything behind them, the first two. Formulas have their text's."""
FADED = """[...document.querySelectorAll('.hsi-goes-on')].filter((one) => one.scrollWidth <= one.clientWidth + 4)
    .map((one) => one.outerHTML.slice(0, 200))"""
"""What fades as if it went on, and does not scroll."""
CRAMPED = """(() => {
    const wide = (one, share) => one.offsetWidth > share * one.closest('table, section').clientWidth
    const all = (css) => [...document.querySelectorAll(css)].filter((one) => one.checkVisibility())
    const goesOn = (one) => one.closest('table').scrollWidth > one.closest('table').clientWidth
    return [...all('.hsi-table th.row_heading').filter((one) => goesOn(one) && wide(one, 0.5)),
            ...all('aside.margin').filter((one) => !wide(one, 0.9)),
            ...all('mjx-container[display]').filter((one) => one.scrollWidth > one.clientWidth + 1)]
        .map((one) => one.outerHTML.slice(0, 200))
})()"""
"""On a phone: first columns that leave no room for others, notes beside their text, formulas that are cut."""
ESTIMATE = re.compile(r"(N)\xa0\((N)\xa0to\xa0(N)\)".replace("N", r"[+-]?\d[\d.e+-]*"))
PAGE_BYTES, SCRIPT_BYTES = 2_000_000, 3_000_000
"""Of a page's own file, and of all scripts that it asks for."""

pytestmark = [
    pytest.mark.skipif(SITE is None, reason="PAGES names no built site; `make test` builds one"),
    pytest.mark.skipif(
        BROWSER is None and not os.environ.get("CI"), reason="no Chromium here, and CHROMIUM names none; CI installs it"
    ),
]


@pytest.fixture(scope="module")
def browser():
    assert BROWSER is not None, "CI has a Chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture
def opened(browser):
    """Open a page; at the end nothing may have been asked of the network, and nothing complained of."""
    contexts, heard = [], []

    def open_page(name, theme="light", width=1366):
        contexts.append(
            browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=theme, offline=True, reduced_motion="reduce"
            )
        )
        page = contexts[-1].new_page()
        page.on("console", lambda said: heard.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on(
            "request", lambda one: None if one.url.startswith(("file:", "data:", "blob:")) else heard.append(one.url)
        )
        page.on("requestfailed", lambda one: heard.append(f"{one.url}: {one.failure}"))
        page.goto((SITE / "book" / name).as_uri(), wait_until="load")
        page.wait_for_selector("html[data-drawn]", state="attached")
        page.evaluate("window.MathJax?.startup.promise")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


def violations(page, rules):
    """What axe finds critical or serious: rule, how many, the first. Contrast is dear, and asked of each look alone."""
    page.evaluate(AXE)
    options = {"preload": False, "resultTypes": ["violations"]}
    asked = [f"{LOOKS}, {json.dumps(options | {'runOnly': ['color-contrast']})}"]
    if rules:
        asked.append(f"document, {json.dumps(options | {'rules': RULES})}")
    found = [one for what in asked for one in page.evaluate(f"axe.run({what})")["violations"]]
    grave = [one for one in found if one["impact"] in ("critical", "serious")]
    return {one["id"]: (len(one["nodes"]), one["nodes"][0]["target"], one["nodes"][0]["html"][:200]) for one in grave}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole_accessible_and_as_wide_as_its_window(name, theme, opened):
    page = opened(name, theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert violations(page, rules=theme == "light") == {}
    # An icon that is not there, and a box for code that shows nothing.
    assert page.locator("svg .missing").count() == 0
    assert page.locator(".cell.tag_hide-input:not(:has(.cell_output))").count() == 0
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_timeout(300)
    assert violations(page, rules=theme == "light") == {}
    assert page.evaluate(CRAMPED) == []
    page.set_viewport_size({"width": 360, "height": 900})
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_button_shows_which_theme_it_is(theme, opened):
    page, seen = opened("index.html", theme), []
    button = page.locator(".theme-switch-button:visible")
    for _ in range(3):
        seen += button.locator("svg:visible").evaluate_all("(all) => all.map((one) => one.dataset.mode)")
        assert page.evaluate("document.documentElement.dataset.mode") == seen[-1]
        button.click()
    assert sorted(seen) == ["auto", "dark", "light"]


@pytest.mark.parametrize("name", NAMES)
def test_every_control_moves(name, opened):
    page = opened(name)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    charts = page.locator(".hsi-plot:visible")
    page.wait_for_function(
        "([...charts]) => charts.every((one) => one.querySelector('[data-root-id] > *'))", arg=charts.element_handles()
    )
    page.set_viewport_size({"width": 1200, "height": 900})
    page.wait_for_timeout(1000)
    page.wait_for_function(f"{FADED}.length === 0")
    read = "(all) => all.map((one) => [one.parentElement.textContent, one.value])"
    for select in page.locator("main select").all():
        for option in select.locator("option").all()[::-1]:
            select.select_option(option.get_attribute("value"))
            # The scenes of two figures are one choice.
            chosen = [tuple(one) for one in page.eval_on_selector_all(".hsi-controls select", read)]
            assert len(set(chosen)) == len({choices for choices, _ in chosen})
            assert len(set(chosen)) < len(chosen) or not name.startswith("05")
    for slider in page.locator("main input[type=range]").all():
        first = slider.get_attribute("aria-valuetext")
        slider.press("End")
        assert slider.get_attribute("aria-valuetext") != first
        assert slider.locator("+ output").text_content() == slider.get_attribute("aria-valuetext")
    for pages in page.locator(".hsi-pages").all():
        assert pages.locator("> [data-page]:visible").count() == 1
    for tab in page.locator(".sd-tab-set > label").all():
        tab.click()
    for table in page.locator("table.hsi-sortable").all():
        for head in table.locator("thead th").all():
            head.locator("button").press("Enter")
            assert head.get_attribute("aria-sort") == "ascending"


def test_every_estimate_lies_in_its_interval():
    """As `hsiutils.plots.tables.estimates` writes them, with spaces that no line break parts."""
    texts = {name: html.unescape((SITE / "book" / name).read_text()) for name in NAMES}
    found = [(name, *one) for name, text in texts.items() for one in ESTIMATE.findall(text)]
    assert len(found) > 100
    assert [one for one in found if not float(one[2]) <= float(one[1]) <= float(one[3])] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_light_enough(name, opened):
    assert (SITE / "book" / name).stat().st_size <= PAGE_BYTES
    sources = opened(name).evaluate("[...document.scripts].map((one) => one.src).filter((one) => one)")
    assert sum(Path(source.split("?")[0].removeprefix("file://")).stat().st_size for source in sources) <= SCRIPT_BYTES


def test_the_explorer_says_what_the_library_says_at_taps_and_without_bands(opened):
    given = {name.lower(): os.environ.get(name, "") for name in ("PROFILE", "DATA_ROOT")}
    run = settings(
        profile=given["profile"] or "smoke", seed=int(os.environ.get("SEED", 0)), data_root=given["data_root"]
    )
    inputs = {name: explored(run, name) for name in explorable(run)}
    first = next(iter(inputs.values()))
    rows, columns = (sorted(set(first[name].values.tolist())) for name in ("row", "column"))
    page = opened("index.html", width=390)
    page.wait_for_function("document.querySelector('.hsi-said')?.textContent")
    canvas, chosen = page.locator(".hsi-scene canvas"), str(first["class"].values[0])
    page.locator(".hsi-explorer select").select_option("0")
    page.locator(".hsi-explorer [data-class='0']").first.click()

    def agree(place, off):
        told = page.evaluate(TELL)
        for index, found in enumerate(inputs.values()):
            agrees(told, index, found.isel(scene=0, place=place), off, chosen)

    size = canvas.evaluate("(one) => [one.width / 4, one.height / 4, one.clientWidth, one.clientHeight]")
    row, column = len(rows) // 3, 2 * len(columns) // 3
    at = {"x": (columns[column] + 0.5) / size[0] * size[2], "y": (rows[row] + 0.5) / size[1] * size[3]}
    canvas.click(position=at)
    place = row * len(columns) + column
    agree(place, [])
    page.locator(".hsi-explorer [data-bands='7']").click()
    agree(place, [7])
    canvas.press("ArrowDown")
    agree(place + len(columns), [7])
    page.locator(".hsi-on").click()
    agree(place + len(columns), [])
