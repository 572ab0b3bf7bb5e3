"""What the explorer says in a browser, held against the library."""

import re

import numpy as np
import pytest

TELL = """() => {
  const all = (css) => [...document.querySelectorAll(`.hsi-explorer ${css}`)];
  return {
    words: all(".hsi-said, .hsi-agree").map((one) => one.textContent),
    logits: all("section").map((one) => [...one.querySelectorAll("tbody tr")].map(
      (row) => [...row.cells].map((cell) => cell.textContent))),
    bars: all("section ul").map((list) => [...list.children].map((row) => row.lastElementChild.textContent)),
    gradcam: all(".hsi-channels p").map((one) => one.textContent),
    wide: document.documentElement.scrollWidth,
    scenes: [...document.querySelector(".hsi-explorer select").options].map((one) => one.textContent),
  };
}"""


def agrees(told, index, found, off, name):
    """Assert that the column `index` says what was found at a pixel, with the bands `off`, of the class `name`."""
    linear = found["logit"] - found["bands"].isel(band=off).sum("band")
    known, asked = found["member"].values.tolist(), [float(band in off) for band in range(found.sizes["band"])]
    without = found["without"][known.index(asked)] if asked in known else None if off else found["logit"]
    rows = [[number(cell) for cell in row[1:]] for row in told["logits"][index]]
    bands, start, logit, read, said = zip(*rows, strict=True)
    np.testing.assert_allclose(logit, found["logit"], atol=0.0051)
    np.testing.assert_allclose(np.add(bands, start), logit, atol=1e-9)  # exact in what is printed
    np.testing.assert_allclose(read, linear, atol=0.01 * (1 + len(off)))
    assert (without is None) == (said == (None,) * len(rows))
    if without is not None:
        np.testing.assert_allclose(said, without, atol=0.0051)
    own = float(found["logit"].sel({"class": name}))
    regions, channels = ([number(text) for text in bars] for bars in told["bars"][2 * index : 2 * index + 2])
    for bars in (regions, channels):
        assert sum(bars[:-1]) == pytest.approx(bars[-1])
        assert bars[-1] == pytest.approx(own, abs=0.0051)
    np.testing.assert_allclose(regions[: found.sizes["region"]], found["regions"].sel({"class": name}), atol=0.011)
    left = re.search(r"misses this logit by (\S+)\.", told["gradcam"][index])[1]
    assert number(left) == pytest.approx(float(found["gradcam"].sel({"class": name})), abs=0.0051)


def number(text):
    """None for what the network was not asked."""
    return None if text == "?" else float(text.replace("\N{MINUS SIGN}", "-"))
