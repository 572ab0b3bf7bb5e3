import holoviews as hv
import pandas as pd

from hsiutils.plots.tables import sortable


def test_columns_sort_and_numbers_stay_readable():
    hv.extension("bokeh")
    frame = pd.DataFrame({"method": ["a", "b"], "in - out": [1e-7, None], "whole seconds": [0.5, 1.0]})
    table = hv.renderer("bokeh").get_plot(sortable(frame, {"whole seconds": 3})).handles["table"]
    assert table.index_position is None
    assert all(column.sortable for column in table.columns)
    formats = {column.title: column.formatter for column in table.columns}
    kinds = {name: type(formatter).__name__ for name, formatter in formats.items()}
    assert kinds == {"method": "StringFormatter", "in - out": "ScientificFormatter", "whole seconds": "NumberFormatter"}
    assert formats["whole seconds"].format == "0.000"
