import numpy as np
import pandas as pd

from hsiutils.plots import tables as wording


def test_findings_are_told_in_one_row_each():
    rows = [("s", "over seeds", 0.5, -0.1, 1.1, "cannot be told"), ("s", "over scenes", 0.5, 0.1, 0.9, "holds")]
    told = wording.told(pd.DataFrame(rows, columns=["statement", "interval", "difference", "low", "high", "verdict"]))
    texts = [text.replace("\u00a0", " ") for text in told.iloc[0]]
    assert texts == ["s", "+0.50", "-0.10 to +1.10", "cannot be told", "+0.10 to +0.90", "above 0"]
    assert wording.told(pd.DataFrame(columns=["statement", "interval", "difference", "low", "high", "verdict"])).empty


def test_ranges_are_text_with_their_scale():
    found = pd.DataFrame({"mean": [0.1234], "least": [0.1], "most": [0.2], "low": [0.11], "high": [0.15]}, ["1"])
    one, other = wording.ranges(found, "a", 100, 1), wording.ranges(found * np.nan, "bc")
    assert [text.replace("\u00a0", " ") for text in one.loc["1"]] == ["12.3 (11.0 to 15.0)", "10.0 to 20.0"]
    assert other.loc["1"].tolist() == ["unknown", "unknown"]
    both = wording.beside([one, other])
    assert both.columns.is_unique
    assert [name.strip("\u200b") for name in both.columns] == ["a", "seeds", "bc", "seeds"]
