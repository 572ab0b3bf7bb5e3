from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hsiutils.data.classes import HSI_DRIVE_CLASSES
from hsiutils.data.cube import make_cube
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.sensor import (
    agreeing,
    daylight,
    known_statistics,
    likeness,
    long_pass_evidence,
    measured,
)
from hsiutils.simulate import draw_names, simulate_dataset


def test_the_camera_knows_how_the_simulators_daylight_moves_its_bands() -> None:
    np.testing.assert_allclose(HSI_DRIVE.daylight, daylight(), atol=1e-5)
    np.testing.assert_allclose(np.sum(HSI_DRIVE.daylight, axis=1), 0, atol=1e-4)


def test_the_filter_brings_the_mean_spectrum_nearer_to_the_released_one(tiny_run):
    evidence = long_pass_evidence(tiny_run, scenes=6).set_index("filter")["correlation"]
    assert evidence["long-pass at 600 nm"] > evidence["none"]
    assert evidence.between(-1, 1).all()


@pytest.fixture(scope="module")
def likenesses(tmp_path_factory):
    """The table of the simulator as it is, behind too sharp a lens, and under light that hardly varies."""
    names, wrong = draw_names(8), {"own": {}, "lens": {"blur_px": 0.3}, "light": {"light_spread": 1.0}}
    tables = {}
    for key, settings in wrong.items():
        data = simulate_dataset(tmp_path_factory.mktemp(key), 8, tiles=(48, 96), workers=1, progress=False, **settings)
        tables[key] = likeness(data, names).set_index("figure")
    return tables


def test_no_row_that_was_fitted_counts_as_agreement(likenesses):
    table = likenesses["own"]
    fitted, tests = table["row"] == "fitted", table["row"] == "test"
    assert (table.loc[fitted, "agrees"] == "").all()
    assert (tests == (table["chosen with it"] == "")).all()
    assert set(table.loc[fitted & (table["real"] > 0), "chosen with it"]) >= {"metering", "spread of light"}
    assert (table.loc[~fitted, "agrees"] != "").equals(table.loc[~fitted, "real"].notna())
    assert (table["source"] != "").all()
    assert (table["low"] <= table["here"] + 1e-9).all()
    assert (table["here"] <= table["high"] + 1e-9).all()


def test_what_was_seen_while_choosing_is_counted_apart(likenesses):
    seen = likenesses["own"].query("row == 'seen'")
    assert "roughness of PN over that of intensity, vegetation" in seen.index  # a ratio of two fitted rows
    assert set(seen.index) >= {"PN of vegetation between images", "PN of vegetation between images, by quartiles"}
    rows = [("test", "nearly"), ("test", "yes"), ("test", "no"), ("test", ""), ("fitted", ""), *[("seen", "yes")] * 2]
    table = pd.DataFrame(rows, columns=["row", "agrees"])
    assert agreeing(table) == (
        "of 3 tests that were not seen while choosing, 2 agree (1 of them nearly); of 2 that were seen, 2, "
        "which counts for little"
    )
    for rows, words in (((1, 2), "1 agrees;"), ((0, 2), "1 agrees, and only nearly;"), ((2, 2), "0 agree;")):
        assert f"of 2 tests that were not seen while choosing, {words}" in agreeing(table.iloc[list(rows)])


def test_what_lies_within_a_tenth_agrees_nearly(likenesses):
    table = likenesses["own"].query("agrees != ''")
    off = pd.concat([table["low"] - table["real"], table["real"] - table["high"]], axis=1).max(axis=1)
    assert (table["agrees"] == "yes").equals(off <= 0)
    assert (table["agrees"] == "nearly").equals((off > 0) & (off <= 0.1 * table["real"]))


@pytest.mark.parametrize(
    ("wrong", "figure"),
    [
        ("lens", "roughness of PN over that of intensity, vegetation"),
        ("light", "PN of vegetation between images, by quartiles"),
    ],
)
def test_a_wrong_simulator_fails_rows_that_were_not_fitted(likenesses, wrong, figure):
    agrees = {key: table.loc[figure, "agrees"] for key, table in likenesses.items()}
    assert agrees["own"] in {"yes", "nearly"}
    assert agrees[wrong] == "no"


def test_statistics_of_planted_scenes():
    """Two scenes of one flat class each, one of them twice as bright and tilted."""
    flat = np.broadcast_to(np.full(25, 0.4)[:, None, None], (25, 10, 10))
    tilted = flat * (2 * (1 + 0.1 * np.where(np.arange(25) % 2, 1, -1)))[:, None, None]
    source = SimpleNamespace(
        cube=lambda name: make_cube(flat if name == "flat" else tilted, HSI_DRIVE),
        labels=lambda name: np.full((10, 10), 1, np.uint8),
        classes=HSI_DRIVE_CLASSES,
    )
    found = measured(source, ["flat", "tilted"])
    of = {one.name: float(one.of(found[one.needs.split()])) for one in known_statistics()}
    assert of["share of Road"] == 1
    assert of["mean reflectance"] == pytest.approx(0.4 * (1 + 2 * 0.996) / 2)
    assert of["reflectance of road between images"] == pytest.approx((0.72 - 0.4) / (0.72 + 0.4))  # in most bands
    assert of["PN of road between images"] == pytest.approx(0.05, abs=0.005)
    assert of["roughness of PN, road"] == pytest.approx(0, abs=1e-3)
    assert np.isnan(of["roughness of PN, vegetation"])
