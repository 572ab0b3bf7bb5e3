import json

import pytest
import xarray as xr

from benchmarks.gpu_record import main, networks
from hsiutils.paper.benchmarks import gpu_networks


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
    table, words = gpu_networks(tmp_path / "record.json")
    assert table.empty
    assert "no such record" in words


def test_networks_come_seed_by_seed_until_the_time_is_over(monkeypatch):
    clock = iter([0.0, 0.0, 40.0, 40.0, 70.0, 70.0, 100.0])
    monkeypatch.setattr("benchmarks.gpu_record.time.perf_counter", lambda: next(clock))
    assert list(networks(["a", "b"], 2, 99)) == [("a", 0), ("b", 0)]
