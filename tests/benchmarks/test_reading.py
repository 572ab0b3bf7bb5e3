import json

from benchmarks.reading import main


def test_every_way_has_a_rate(tmp_path):
    main(["--out", str(tmp_path / "reading.json"), "--tiles", "8", "16", "--rounds", "2"])
    record = json.loads((tmp_path / "reading.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["reading.json"]
    assert {"copy in memory", "mat, loadmat an item", "Zarr, a scene", "PN", "simulated scene"} <= record["mb_s"].keys()
    assert all(len(own) == 2 for own in record["rounds"].values())
    assert min(record["mb_s"].values()) > 0
