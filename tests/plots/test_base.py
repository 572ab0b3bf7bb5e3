import re

import holoviews as hv
import numpy as np
import pytest

from hsiutils.plots.base import PALETTE, colour, pages, show
from hsiutils.plots.pictures import Picture


def test_a_figure_carries_its_description_escaped_and_is_refused_without():
    assert colour(len(PALETTE)) == PALETTE[0]  # the palette starts over
    assert len(set(PALETTE)) == 8
    page = show(hv.Curve([1, 2]), 'Left "a" < right')._repr_html_()
    assert 'aria-label="Left &quot;a&quot; &lt; right"' in page
    assert "docs_json" in page
    with pytest.raises(ValueError, match="description"):
        show(hv.Curve([1, 2]), "  ")


def test_pages_work_without_a_server_and_the_first_is_the_first_given():
    frames = {(scene, rank): Picture({scene: np.zeros((2, 3, 3), np.uint8)}) for scene in "za" for rank in (1, 4, 9)}
    page = show(pages(frames, "scene", "<rank>"), "Six.")._repr_html_()
    assert re.findall(r'data-page="([^"]+)"( hidden)?', page)[:2] == [("0-0", ""), ("0-1", " hidden")]
    assert page.count("<img") == 6
    assert '<label>scene <select><option value="0">z</option><option value="1">a</option></select></label>' in page
    assert "<label>&lt;rank&gt; <input" in page
    assert 'max="2" value="0" data-values="1|4|9"' in page  # numbers have a slider
    assert "docs_json" in show(pages({"b": hv.Curve([1, 2])}, "name"), "One.")._repr_html_()
    del frames["a", 4]
    with pytest.raises(ValueError, match="pages by scene, rank: expected an element for each"):
        pages(frames, "scene", "rank")
