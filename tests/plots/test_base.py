import re

import holoviews as hv
import pytest

from hsiutils.plots.base import PALETTE, colour, pages, show


def test_a_figure_carries_its_description_escaped_and_is_refused_without():
    assert colour(len(PALETTE)) == PALETTE[0]  # the palette starts over
    assert len(set(PALETTE)) == 8
    page = show(hv.Curve([1, 2]), 'Left "a" < right')._repr_html_()
    assert 'aria-label="Left &quot;a&quot; &lt; right"' in page
    assert "docs_json" in page
    with pytest.raises(ValueError, match="description"):
        show(hv.Curve([1, 2]), "  ")


@pytest.mark.parametrize(("keys", "by"), [(["z", "a"], ["scene"]), ([("z", 1), ("a", 1)], ["scene", "rank"])])
def test_pages_work_without_a_server_and_the_first_is_the_first_given(keys, by):
    chart = pages({key: hv.Curve([1, 2]) for key in keys}, *by)
    assert next(iter(chart.data)) in (keys[0], (keys[0],))
    assert [dimension.name for dimension in chart.kdims] == by
    page = show(chart, "Two.")._repr_html_()
    assert re.search(r"Slider|Select", page)
    assert all(name in page for name in by)
