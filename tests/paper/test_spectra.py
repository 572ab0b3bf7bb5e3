"""Questions to single spectra: the files of HSICityV2-Benchmark, the record, and the run's scenes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hsiutils.analysis.pixels import pixel_confusion
from hsiutils.paper.spectra import (
    INPUTS,
    QUESTIONS,
    answers,
    classifiers,
    findings,
    pixel_inputs,
    read_hsicity,
    read_record,
    real_answers,
    run_counts,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "hsicity_spectra"


@pytest.fixture
def folder(tmp_path):
    """Twelve images of four classes: grey spectra, one line for a class, brighter from image to image."""
    codes = np.tile([0, 8, 10, 13], 12)
    light = np.repeat(np.geomspace(0.1, 1, 12), 4)
    values = np.full((48, 128), 0.5) + 0.02 * np.random.default_rng(0).standard_normal((48, 128))
    for number, code in enumerate((0, 8, 10, 13)):
        values[codes == code, 60 + 15 * number : 75 + 15 * number] += 0.3
    np.save(tmp_path / "X_train_hsi.npy", (values * light[:, None]).astype(np.float32))
    np.save(tmp_path / "y_train_hsi.npy", codes)
    return tmp_path


def test_files_become_spectra_of_the_camera(folder):
    spectra, wavelengths = read_hsicity(folder)
    assert spectra.values.shape == (48, 23)
    assert 450 < wavelengths.min() < wavelengths.max() < 950
    assert spectra.classes == ("Road", "Vegetation", "Sky", "Other")
    np.testing.assert_array_equal(spectra.truth, np.tile([0, 1, 2, 3], 12))
    np.testing.assert_array_equal(spectra.scene, np.repeat(np.arange(12), 4))


def test_a_flat_spectrum_reads_the_same_in_every_band(folder):
    np.save(folder / "X_train_hsi.npy", np.full((48, 128), 0.25, np.float32))
    np.testing.assert_allclose(read_hsicity(folder)[0].values, 0.25, rtol=1e-6)


def test_answers_hold_scores_and_gains(folder):
    spectra, wavelengths = read_hsicity(folder)
    table = real_answers(spectra, wavelengths)
    mean = table[table["class"] == "mean"].set_index(["classifier", "what"])
    assert set(mean.index.get_level_values("what")) == set(INPUTS) | {f"{one} - {other}" for one, other in QUESTIONS}
    for one, other in QUESTIONS:
        of = mean.loc["linear"]["value"]
        assert of[f"{one} - {other}"] == pytest.approx(of[one] - of[other])
    assert mean.loc[("linear", "PN"), "value"] > 90  # the line of each class is there at every brightness
    assert mean.loc[("linear", "1"), "value"] < 50


def test_findings_say_on_which_side_of_zero_each_interval_lies():
    ends = {("linear", "real"): (-2, -1), ("nonlinear", "real"): (1, 2), ("linear", "simulated"): (-1, 1)}
    rows = [(what, *where, *bounds) for what in ("PN - all", "3 - 1") for where, bounds in ends.items()]
    assert findings(pd.DataFrame(rows, columns=["what", "classifier", "data", "low", "high"])) == [
        "PN in the place of raw bands: gains with (real spectra, nonlinear); loses with (real spectra, linear); "
        "is not told from zero with (simulated spectra, linear)",
        "brightness beside PN: not asked",
    ]


def test_missing_or_other_files_are_refused(folder):
    np.save(folder / "y_train_hsi.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"got \(48, 128\) and \(3,\)"):
        read_hsicity(folder)
    (folder / "y_train_hsi.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"expected the spectra of HSICityV2-Benchmark"):
        read_hsicity(folder)
    with pytest.raises(ValueError, match=r"X_train_hsi\.npy"):
        read_hsicity(folder / "nowhere")


def test_the_record_is_read_and_others_are_refused(tmp_path):
    table, made = read_record()
    assert "HSICityV2" in made
    assert {"classifier", "what", "class", "value", "low", "high"} == set(table)
    (tmp_path / "other.json").write_text(json.dumps({"answers": []}))
    with pytest.raises(ValueError, match="no record of real spectra"):
        read_record(tmp_path / "other.json")


def test_the_runs_scenes_answer_too(tiny_run):
    counts = run_counts(tiny_run, per_class=3)
    assert counts.sizes["scene"] <= len(tiny_run.data.names("test"))
    assert tuple(counts["input"].values) == INPUTS
    assert (counts.sum(["truth", "predicted"]) == counts.sum(["truth", "predicted"])[0, 0]).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real spectra are not here: their licence is not known")
def test_the_record_follows_from_the_real_spectra():
    """The linear classifier's answers, recomputed; the other one takes minutes."""
    spectra, wavelengths = read_hsicity(SHARED)
    assert len(np.unique(spectra.scene)) == 1051
    linear = {"linear": classifiers(spectra)["linear"]}
    found = answers(pixel_confusion(linear, pixel_inputs(wavelengths), spectra)).set_index(["what", "class"])
    table, _ = read_record()
    kept = table[table["classifier"] == "linear"].set_index(["what", "class"])
    for bound in ("value", "low", "high"):
        np.testing.assert_allclose(found[bound].loc[kept.index], kept[bound], atol=0.02)
