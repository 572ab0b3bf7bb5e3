import holoviews as hv
import pandas as pd

from hsiutils.plots.tables import sortable, table


def test_columns_sort_and_numbers_stay_readable():
    hv.extension("bokeh")
    frame = pd.DataFrame({"method": ["a", "b"], "residual": [1e-7, None], "seconds": [0.5, 1.0]})
    table = hv.renderer("bokeh").get_plot(sortable(frame, {"seconds": 3})).handles["table"]
    assert table.index_position is None
    assert all(column.sortable for column in table.columns)
    formats = {column.field: type(column.formatter).__name__ for column in table.columns}
    assert formats == {"method": "StringFormatter", "residual": "ScientificFormatter", "seconds": "NumberFormatter"}
    assert {column.field: column.formatter for column in table.columns}["seconds"].format == "0.000"


def test_names_of_columns_may_be_words():
    hv.extension("bokeh")
    frame = pd.DataFrame({"method": ["a", "b"], "left after redrawing": [0.5, None], "in - out": [0.5, 1.0]})
    shown = hv.renderer("bokeh").get_plot(sortable(frame, {"left after redrawing": 2})).handles["table"]
    formats = {column.title: type(column.formatter).__name__ for column in shown.columns}
    assert formats["left after redrawing"] == "NumberFormatter"
    assert formats["in - out"] == "ScientificFormatter"


def test_a_table_without_rows_says_why():
    frame = pd.DataFrame(columns=["variant", "difference"])
    html = table(frame, "Differences.", {"difference": "{:.2f}"}, empty="one network").to_html()
    assert "one network" in html
    assert "Differences." in html
    assert "difference<" not in html
