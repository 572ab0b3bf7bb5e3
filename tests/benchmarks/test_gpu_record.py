import json

import pytest
import xarray as xr

from benchmarks.gpu_record import main, networks, tried
from hsiutils.paper.trainings import gpu_costs, gpu_networks


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The whole script on a processor, as small as it gets."""
    base = tmp_path_factory.mktemp("gpu")
    small = "--scenes 5 --tiles 16 32 --filters 2 --epochs 1 --variants 1 25-PN --seeds 1 --audited 1 --workers 1"
    main(["--out", str(base / "out" / "gpu.json"), "--work", str(base / "work"), "--device", "cpu", *small.split()])
    return base / "out"


def test_the_record_is_small_and_holds_every_network(record):
    assert sum(path.stat().st_size for path in record.iterdir()) < 1 << 20
    found = json.loads((record / "gpu.json").read_text())
    assert [(one["variant"], one["seed"]) for one in found["networks"]] == [("1", 0), ("25-PN", 0)]
    assert found["scenes"]["train"] > found["scenes"]["test"] > 0
    for network in found["networks"]:
        assert 0 <= network["mean_iou"] <= 1
        assert network["residual_of_logit"]["GradCAM conv2d_21"] > 0
    with xr.open_dataset(record / "gpu.nc", engine="h5netcdf") as counts:
        assert counts["confusion"].sizes["network"] == 2
        assert int(counts["confusion"].sum()) > 0


def test_chapter_3_reads_the_record_or_says_that_there_is_none(record, tmp_path):
    table, words = gpu_networks(record / "gpu.json")
    assert list(table.index) == ["1", "25-PN"]
    assert "CPU" in words
    assert table["low"].isna().all(), "one test scene has no interval"
    table, words = gpu_networks(tmp_path / "record.json")
    assert table.empty
    assert "no such record" in words


def test_the_committed_means_lie_within_their_intervals():
    table, _ = gpu_networks()
    assert (table["low"] < table["mean"]).all()
    assert (table["mean"] < table["high"]).all()
    assert table.drop(columns=["low", "high", "seeds", "mean"]).mean(axis=1).to_numpy() == pytest.approx(table["mean"])


def test_chapter_9_says_what_was_measured_with_the_first_network(record, tmp_path):
    found = json.loads((record / "gpu.json").read_text())
    assert len(found["feeding"]["epoch_s"]) == len(found["feeding"]["epoch_on_one_batch_s"]) == 5
    words = gpu_costs(record / "gpu.json")
    told = ("checkpoint and validation not", "The step of the table", "(", "checkpoint", "prediction", "2,560 logits")
    assert all(what in line for what, line in zip(told, words, strict=True))
    assert len(gpu_costs(record / "gpu.json", steps_alone=tmp_path / "none.json")) == len(words) - 1
    assert "no such record" in gpu_costs(tmp_path / "none.json")[0]


def test_what_cannot_be_measured_is_said_and_the_rest_goes_on(capsys):
    assert "division by zero" in tried(lambda number: {"half": 1 // number}, 0)["failed"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_networks_come_seed_by_seed_until_the_time_is_over(monkeypatch):
    clock = iter([0.0, 0.0, 40.0, 40.0, 70.0, 70.0, 100.0])
    monkeypatch.setattr("benchmarks.gpu_record.time.perf_counter", lambda: next(clock))
    assert list(networks(["a", "b"], 2, 99)) == [("a", 0), ("b", 0)]
