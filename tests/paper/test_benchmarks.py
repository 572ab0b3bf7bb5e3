import json

import numpy as np
import pytest

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.benchmarks import (
    RECORDS,
    audit_times,
    decompositions,
    faults,
    growth,
    machine,
    made,
    memory_growth,
    mutants,
    reading_rates,
)
from hsiutils.paper.camera_check import EMVA_RECORD, RENDERER_RECORD, against_renderer, camera_on_bench, sharpness
from hsiutils.paper.run import centres_behind
from hsiutils.paper.trainings import full_size_times, step_rounds, step_times
from hsiutils.simulate import Simulation
from hsiutils.simulate.bench import BOUNDS, asked, characterise, on_bench, photon_transfer

RECORD = {
    "network": {"image": [96, 192], "filters": 8},
    "machine": {"device": "CPU", "threads": 1},
    "date": "2026-01-02",
    "audit": {
        "logits": 92160,
        "before the head": {"audit_s": 0.5, "peer_s_extrapolated": 7200.0, "times_faster": 14400.0},
    },
}


def test_a_record_becomes_a_row_a_layer(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(RECORD))
    found = audit_times([tmp_path / "one.json"])
    assert list(found) == ["image", "filters", "layer", "audit", "loop", "ratio"]
    assert found.to_numpy().tolist() == [["96 x 192", 8, "before the head", 0.5, 2.0, 14400.0]]
    assert machine([tmp_path / "one.json"]) == "CPU, threads: 1, 2026-01-02"


def test_the_committed_records_meet_the_bound():
    """At least a thousand times faster than the loop, at either layer and size."""
    found = audit_times()
    assert len(found) == 2 * len(RECORDS)
    assert (found["ratio"] > 1000).all()
    assert (abs(found["ratio"] * found["audit"] / 3600 / found["loop"] - 1) < 1e-9).all()


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_what_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json: no benchmark record .* benchmarks/README\.md"):
        audit_times([path])


def test_the_reference_implementation_finds_the_camera_that_was_asked_for():
    """The record is of the camera of today, and the package and the bench agree on the same frames."""
    record, camera = json.loads(EMVA_RECORD.read_text()), on_bench(Simulation().camera)
    wanted = asked(camera) | {"photo response non-uniformity": camera.non_uniformity}
    for name, measured in record["measured"].items():
        assert record["asked"][name] == pytest.approx(wanted[name]), "run benchmarks/camera.py again"
        assert measured == pytest.approx(wanted[name], rel=BOUNDS.get(name, 0.05))
    own = characterise(photon_transfer(camera, record["seed"], record["levels"]))
    for name, measured in record["same_frames_by_bench"].items():
        assert own[name] == pytest.approx(measured, rel=1e-6)
        assert record["measured"][name] == pytest.approx(measured, rel=1e-6)
    assert made(EMVA_RECORD).startswith("emva1288 1.0.2, 2026-")


def test_the_bench_of_the_book():
    table, curve = camera_on_bench(levels=30)
    assert (table["deviation (%)"].abs() <= table["bound (%)"]).all()
    assert table.loc[0, "quantity"] == "system gain (DN/e-)"
    np.testing.assert_allclose(curve["measured"].iloc[:10], curve["asked"].iloc[:10], rtol=0.05)
    assert curve["measured"].iloc[-1] < 0.01 * curve["asked"].iloc[-1], "no photon noise is left in a full well"
    sharp, worst = sharpness()
    assert list(sharp.index) == sorted(centres_behind(600.0, HSI_DRIVE))
    assert worst < 0.03


def test_the_committed_scenes_of_the_other_renderer():
    rows, agreement = against_renderer()
    assert set(rows["light"]) == {"sun", "shade"}
    assert rows["scene"].nunique() == 3
    assert agreement["all light"][0] < 0.05
    assert made(RENDERER_RECORD).startswith("mitsuba 3.")
    assert json.loads(RENDERER_RECORD.read_text())["bands_nm"] == pytest.approx(HSI_DRIVE.wavelengths_nm)


def test_deviations_are_summed_up_over_bands_and_surfaces(tmp_path):
    part = {"material": "brick", "light": "sun", "sun and sky": [0.01, -0.02, 0.03], "all light": [0.0, 0.1, -0.4]}
    (tmp_path / "one.json").write_text(json.dumps({"scenes": [{"title": "a wall", "surfaces": [part, part]}]}))
    rows, agreement = against_renderer(tmp_path / "one.json")
    assert rows.loc[1].to_dict() == {
        "scene": "a wall",
        "surface": "brick",
        "light": "sun",
        "sun and sky (%)": "+1.0 (-2.0 to +3.0)",
        "all light (%)": "+0.0 (-40.0 to +10.0)",
    }
    assert agreement == {"sun and sky": (0.02, 0.03), "all light": (0.1, 0.4)}
    with pytest.raises(ValueError, match=r"one\.json: no benchmark record \(KeyError\('versions'\)\)"):
        made(tmp_path / "one.json")


def test_decompositions_and_rounds_are_those_of_the_records(tmp_path):
    table = decompositions()
    np.testing.assert_allclose(table["decomposition"] / table["forward"], table["passes"], rtol=0.1)  # medians of both
    assert list(table["image"]) == ["96 x 192", "224 x 416"]
    rounds = step_rounds()
    medians = rounds.groupby("training")["ms an image"].median()
    assert medians.to_dict() == pytest.approx(step_times()[0]["ms an image"].to_dict(), abs=0.01)
    assert step_rounds(tmp_path / "none.json").empty


def test_steps_and_predictions_are_beside_ours_of_the_same_round(tmp_path):
    rounds = {"this tree": [9.0, 9.0, 9.0], "this tree, steps alone": [1.0, 2.0, 4.0]}
    rounds |= {"this tree, float32": [9.0, 9.0, 9.0], "this tree, float32, steps alone": [2.0, 4.0, 8.0]}
    rounds |= {"Keras 3, float32": [3.0, 6.0, 16.0], "Keras 3, float32, prediction": [4.0, 4.0, 5.0]}
    rounds |= {"this tree, prediction": [2.0, 2.0, 1.0]}
    found = {"rounds": rounds, "machine": {"processor": "x"}, "date": "2026-01-02", "precision": "bf16-mixed"}
    found |= {"share_of_convolution_rate": 0.25, "batch": {"this tree": 2}}
    (tmp_path / "one.json").write_text(json.dumps(found))
    table, words = full_size_times([tmp_path / "one.json", tmp_path / "none.json"])
    assert list(table["by"]) == ["ours, bfloat16", "ours, float32", "Keras 3, float32"]
    np.testing.assert_array_equal(table["step"], [2000, 4000, 6000])
    np.testing.assert_array_equal(table["of our step"], [1, 2, 3])
    np.testing.assert_array_equal(table["prediction"], [np.nan, 2000, 4000])
    np.testing.assert_array_equal(table["of our prediction"], [np.nan, 1, 2])
    assert words == [
        "one core of x, 2026-01-02: 3 rounds, 2 images a step; ours runs at 25% of the rate of the machine's best "
        "convolution"
    ]
    assert full_size_times([tmp_path / "none.json"])[0].empty


def test_rates_of_reading_are_of_memory(tmp_path):
    rates = {"copy in memory": 8.0, "bytes of a file": 7.0, "mat": 1.0, "npy": 2.0, "PN": 0.5}
    rates |= {"mat, loadmat an item": 4.0, "npy, numpy.load": 2.0}
    found = {"machine": {"processor": "x"}, "date": "2026-01-02", "disk_mb_s": 3.0, "mb_s": rates}
    (tmp_path / "reading.json").write_text(json.dumps(found))
    table, words = reading_rates(tmp_path / "reading.json")
    assert table.loc["PN", "of memory"] == 1 / 16
    assert "read, .mat at 0.25 of the rate of loadmat an item and .npy at 1.00 of the rate of numpy.load. x" in words
    table, words = reading_rates(tmp_path / "none.json")
    assert table.empty
    assert "no such record" in words
    table, _ = reading_rates()
    assert (table["of memory"] <= 1).all()


def test_powers_of_growth_are_told_beside_the_largest_terms(tmp_path):
    path, table = tmp_path / "growth.json", growth(tmp_path / "none.json")[0]
    assert table.empty
    row = {"sizes": [10, 80], "forward_passes": [2.0, 9.0], "bound": 2, "counted": 1.5, "memory": 1.0}
    slow, fast = ({"exponent": one, "low": one - 0.1, "high": one + 0.1} for one in (1.2, 2.4))
    rows = [row | {"task": "audit", "along": "pixels", "timed": fast}, row | {"task": "x", "along": "y", "timed": slow}]
    found = {"machine": {"processor": "p"}, "date": "2026-01-02", "growth": rows}
    path.write_text(json.dumps(found | {"memory": {"limits_mib": [16, 32], "peaks_mib": [22.2, 30.1], "map_mib": 4}}))
    table, words = growth(path)
    assert table.loc[0, ["to", "passes", "at most", "time", "low", "memory"]].tolist() == [80, 9, 2, 2.4, 2.3, 1]
    assert words == (
        "By the clock 1 of 2 grow no faster than theory says. The steepest is the audit with pixels, to the power 2.40 "
        "(2.30 to 2.50); its multiplications grow to the power 1.50, their largest term to the power 2. Given a limit, "
        "GradCAM's audit takes 18 of 16, 26 of 32 MiB beyond its affine map, within the limit in 1 of 2. p, one "
        "thread, 2026-01-02."
    )
    path.write_text(
        json.dumps(found | {"memory": {"limits_mib": [16], "peaks_mib": [None], "map_mib": None}})
    )  # not on Linux
    assert "takes what was not measured MiB" in growth(path)[1]


def test_the_committed_growth_is_no_faster_than_theory_says():
    table, _ = growth()
    assert len(table) == 12
    assert (table["counted"] < table["at most"] + 0.1).all()
    assert (table["low"] < table["at most"]).all()
    assert (table["to"] >= 6 * table["from"]).all()


def test_growth_of_memory_is_told_beside_what_is_planted(tmp_path):
    def task(name, slope):
        peaks = [(count, 3 + slope * count / 1e3) for count in (50, 200, 800)] * 2
        return {"task": name, "peaks_mb": peaks, "kb_a_scene": slope, "low": slope - 1, "high": slope + 1}

    path, table = tmp_path / "memory.json", memory_growth(tmp_path / "none.json")[0]
    assert table.empty
    found = {"machine": {"processor": "x"}, "date": "2026-01-02", "tiles": [16, 32], "scene_kb": 55.3}
    for slope, verdict in ((55, "which is seen"), (7, "which is NOT seen")):
        tasks = [task("convert", 2), task("evaluate", 8), task("planted: kept", slope)]
        path.write_text(json.dumps(found | {"tasks": tasks}))
        table, words = memory_growth(path)
        assert verdict in words
        assert "most grows evaluate, by 8.0 kB a scene" in words
    assert table.loc["convert", ["50 scenes (MB)", "most", "most (MB)"]].tolist() == pytest.approx([3.1, 800, 4.6])


def test_faults_are_counted_and_their_want_is_said(tmp_path):
    path = tmp_path / "faults.json"
    table, words = faults(path)
    assert table.empty
    assert "make test-slow" in words
    found = {"date": "2026-01-02", "machine": {"processor": "x", "cores": 2}, "seconds": 120, "failed": 0}
    path.write_text(json.dumps(found | {"kills": {"train": 3, "convert_zarr": 4}, "inputs": {"mat": 1000}}))
    table, words = faults(path)
    assert table["times"].tolist() == [3, 4, 1000]
    assert table["of"].tolist() == ["train", "convert zarr", "mat"]
    assert words == (
        "Tried: 7 killed, then done again, 1,000 damaged files read. Tests that failed: 0. "
        "2026-01-02, 2 cores of x, 2 minutes."
    )


def test_planted_faults_are_counted_by_module_and_what_was_not_seen_is_told_apart(tmp_path):
    path = tmp_path / "mutants.json"
    table, words = mutants(path)
    assert table.empty
    assert "make mutants" in words
    modules = {"hsiutils/a.py": {"mutants": 10, "killed": 7, "timeout": 1, "survived": 2}}
    modules |= {"hsiutils/b.py": {"mutants": 30, "killed": 30}}
    reasons = ["equivalent: the same type", "equivalent: the same number", ""]
    found = {"date": "2026-01-02", "versions": {"mutmut": "3"}, "seconds": 120, "modules": modules}
    path.write_text(json.dumps(found | {"survivors": [{"reason": reason} for reason in reasons]}))
    table, words = mutants(path)
    assert table.values.tolist() == [["a.py", 10, 8, 2, 80.0], ["b.py", 30, 30, 0, 100.0], ["all", 40, 38, 2, 95.0]]
    assert words.startswith("Of those not seen: 2 change nothing; 1 were not looked at. The record")


def test_of_the_faults_planted_here_tests_see_85_percent_in_every_module():
    table, _ = mutants()
    assert table["seen (%)"].min() >= 85
