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


def test_a_named_index_has_its_name_in_the_one_row_of_heads():
    frame = pd.DataFrame({"mean": [1.0]}, index=pd.Index(["25-PN"], name="input"))
    text = table(frame, "Of what.").to_html()
    head = text.split("<thead>")[1].split("</thead>")[0]
    assert head.count("<tr>") == 1
    assert ">input<" in head
    assert 'class="row_heading' in text
    assert frame.index.name == "input"


def test_columns_of_sentences_are_kept_wide():
    frame = pd.DataFrame({"says": ["a sentence of the paper, which takes some room", "short"], "value": [1.0, 2.0]})
    text = table(frame, "Of what.").to_html()
    assert text.count("hsi-words") == 2
    assert "hsi-words" not in table(frame[["value"]], "Of what.").to_html()
