"""Scenes converted by two workers of a cluster, one of them killed midway: as by one process. All else: tests/slow."""

from pathlib import Path

from clusters import one_killed, two_workers
from kills import contents
from tiny_hsi_drive import NAMES, write_matlab_release

from hsiutils.data.export import to_zarr
from hsiutils.data.source import open_dataset


def test_a_conversion_with_a_worker_killed_is_as_without_a_cluster(tmp_path: Path) -> None:
    data = open_dataset(write_matlab_release(tmp_path / "set"))
    pattern = "there.zarr/written/[0-9]*"
    with two_workers() as cluster, one_killed(cluster, tmp_path, pattern, len(NAMES)):
        to_zarr(data, tmp_path / "there.zarr", workers=1, progress=False)
    to_zarr(data, tmp_path / "here.zarr", workers=1, progress=False)
    there, here = (contents(tmp_path / f"{place}.zarr") for place in ("there", "here"))
    assert there.keys() == here.keys()
    assert there == here
