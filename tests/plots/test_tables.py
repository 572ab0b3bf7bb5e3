import numpy as np
import pandas as pd
import xarray as xr

from hsiutils.plots.tables import beside, cards, estimates, ranges, seed_columns, sortable, spoken, table, verdicts


def test_columns_that_sort_have_readable_numbers():
    frame = pd.DataFrame({"method": ["a", "b"], "in - out": [1e-7, None], "whole seconds": [0.5, 1.0]}, index=[7, 9])
    text = sortable(frame, "All.", {"whole seconds": 3}).to_html()
    assert 'class="hsi-table hsi-sortable"' in text
    assert all(f">{cell}<" in text for cell in ("1.0e-07", "-", "0.500", "1.000", "All."))
    assert ">7<" not in text


def test_a_table_without_rows_says_why_and_a_named_index_has_its_name_in_the_one_row_of_heads():
    frame = pd.DataFrame(columns=["variant", "difference"])
    html = table(frame, "Differences.", {"difference": "{:.2f}"}, empty="one network").to_html()
    assert "one network" in html
    assert "difference<" not in html
    frame = pd.DataFrame({"mean": [1.0]}, index=pd.Index(["25-PN"], name="input"))
    text = table(frame, "Of what.").to_html()
    head = text.split("<thead>")[1].split("</thead>")[0]
    assert head.count("<tr>") == 1
    assert ">input<" in head
    assert 'class="row_heading' in text
    assert frame.index.name == "input"


def test_table_says_what_is_unknown_and_keeps_columns_of_sentences_wide():
    frame = pd.DataFrame({"says": ["a sentence of the paper, which takes some room", "short"], "a": [1.234, np.nan]})
    text = table(frame, "Of what.", {"a": "{:.1f}"}).to_html()
    assert all(part in text for part in ("Of what.", ">1.2<", ">unknown<", 'class="hsi-table"'))
    assert text.count("hsi-words") == 2
    assert "hsi-words" not in table(frame[["a"]], "Of what.").to_html()
    frame = pd.DataFrame({"method": ["a"], "n": [3], "x": [1.234], "y": [5.678]})
    assert all(f">{text}<" in table(frame, "All.", "{:.1f}").to_html() for text in ("3", "1.2", "5.7"))


def test_findings_have_one_row_each():
    rows = [("s", "over seeds", 0.5, -0.1, 1.1, "cannot be told"), ("s", "over scenes", 0.5, 0.1, 0.9, "holds")]
    columns = ["statement", "interval", "difference", "low", "high", "verdict"]
    told = verdicts(pd.DataFrame(rows, columns=columns))
    texts = [text.replace("\u00a0", " ") for text in told.iloc[0]]
    assert texts == ["s", "+0.50", "-0.10 to +1.10", "cannot be told", "+0.10 to +0.90", "above 0"]
    assert (
        spoken(pd.DataFrame(rows, columns=columns), "none")
        == "s: +0.50 [-0.10, +1.10] over seeds: cannot be told from 0"
    )
    alone = [(*rows[0][:3], np.nan, np.nan, rows[0][5]), rows[1]]
    assert spoken(pd.DataFrame(alone, columns=columns), "none") == "s: +0.50 [+0.10, +0.90] over scenes: above 0"
    none = verdicts(pd.DataFrame(alone, columns=columns)).iloc[0]
    assert [text.replace("\u00a0", " ") for text in none][2:] == ["-", "-", "+0.10 to +0.90", "above 0"]
    assert "one network on one scene" in spoken(pd.DataFrame(alone[:1], columns=columns), "none")
    assert spoken(pd.DataFrame(columns=columns), "none") == "none"
    assert verdicts(pd.DataFrame(columns=columns)).empty


def test_ranges_are_text_with_their_scale():
    found = pd.DataFrame({"mean": [0.1234], "least": [0.1], "most": [0.2], "low": [0.11], "high": [0.15]}, ["1"])
    one, other = ranges(found, "a", 100, 1), ranges(found * np.nan, "bc")
    assert [text.replace("\u00a0", " ") for text in one.loc["1"]] == ["12.3 (11.0 to 15.0)", "10.0 to 20.0"]
    assert other.loc["1"].tolist() == ["unknown", "unknown"]
    both = beside([one, other])
    assert both.columns.is_unique
    assert [name.strip("\u200b") for name in both.columns] == ["a", "seeds", "bc", "seeds"]


def test_estimates_take_their_own_bounds_or_the_frames():
    columns = {"iou": [0.5, np.nan], "iou_low": 0.25, "iou_high": 0.75, "rho": 1.0, "low": 0.0, "high": np.nan}
    frame = pd.DataFrame(columns)
    assert estimates(frame, "iou", "{:.0f}", 100) == ["50\u00a0(25\u00a0to\u00a075)", "unknown"]
    assert estimates(frame, "rho", "{:.0f}")[0] == "1\u00a0(unknown)"


def test_columns_of_seeds_show_a_spread_only_where_there_is_one():
    values = xr.DataArray([[1.0, 5.0], [3.0, 6.0]], dims=("seed", "method"))
    columns = seed_columns(values, "mean", "least", "most")
    found = {name: list(column.values) for name, column in columns.items()}
    assert found == {"mean": [2.0, 5.5], "least": [1.0, 5.0], "most": [3.0, 6.0]}
    assert list(seed_columns(values[:1], "mean", "least", "most")) == ["mean"]


def test_a_row_becomes_a_card_with_what_it_says_and_nothing_that_runs():
    verdicts = ["not reproduced: 1", "undecided (few)"]
    rows = {"says": ["a <b> & c", "d"], "run": verdicts, "why": ["x", ""], "page": [3, 4]}
    html = cards(pd.DataFrame(rows), "says", ["run"], {"page": ["3.html", "4.html"]}, ["why"])._repr_html_()
    first, second = html.split("<li>")[1:]
    assert "<h3>a &lt;b&gt; &amp; c</h3>" in first
    assert 'class="hsi-badge not-reproduced"' in first
    assert 'class="hsi-badge undecided"' in second
    assert '<a href="3.html">3</a>' in first
    assert first.count("<details>") == 1
    assert "<details>" not in second  # there is nothing to unfold
