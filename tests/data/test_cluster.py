"""Calls side by side in two processes of dask's, of which one is killed and one call cannot work."""

import os
from functools import partial

import dask
import pytest
import torch
from calls import training
from distributed import Client, LocalCluster

from hsiutils.data import cluster
from hsiutils.paper.cluster import side_by_side


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calls")
    calls = {
        "killed": partial(training, folder / "killed", 0, dies_in=2),
        "wrong": partial(training, folder / "wrong", 0, channels=7),
        "b": partial(training, folder / "b", 1),
        "c": partial(training, folder / "c", 2),
    }
    with pytest.MonkeyPatch.context() as patch:
        written = []
        patch.setattr("tqdm.std.tqdm.display", lambda bar, *_, **__: written.append(bar.n))
        patch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        before = dict(os.environ)
        with pytest.raises(RuntimeError) as failed:
            side_by_side(calls, "trainings", 2)
        assert os.environ == before
    return folder, str(failed.value), written


def test_a_failing_call_is_named_and_the_others_are_complete(outcome):
    folder, failed, _ = outcome
    first, *causes = failed.splitlines()
    assert first == "1 of 4 trainings failed, the others are complete:"
    assert causes == [f"  wrong: ValueError: {causes[0].partition('ValueError: ')[2]}"]
    assert "expected an image (7, 16, 24)" in causes[0]
    assert all((folder / name / "history.csv").is_file() for name in ("killed", "b", "c"))


def test_a_killed_process_is_replaced_and_goes_on_to_the_same_bytes_as_one_thread_alone(outcome, tmp_path):
    folder, _, _ = outcome
    assert (folder / "killed.killed").exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for seed, name in ((0, "killed"), (1, "b")):
        assert training(tmp_path / name, seed) == [1, 1, 2, 3]
        for file in ("weights.safetensors", "history.csv"):
            assert (folder / name / file).read_bytes() == (tmp_path / name / file).read_bytes()
    torch.set_num_threads(threads)


def test_the_bar_counts_epochs_and_ends_full(outcome):
    _, _, written = outcome
    assert written[-1] == pytest.approx(4)
    assert any(abs(share % 1 - 1 / 3) < 0.01 or abs(share % 1 - 2 / 3) < 0.01 for share in written)


@pytest.fixture
def threads():
    """A cluster in threads of this process: quickly started, and as good for what is asked of it here."""
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options) as made:
        yield made


def where():
    return cluster.in_worker(), side_by_side({"inner": cluster.in_worker}, "answers", 1)


def test_a_cluster_by_its_address_or_of_the_caller_is_taken_and_calls_within_calls_stay_there(threads, monkeypatch):
    torch_threads = torch.get_num_threads()
    expected = {"one": (True, {"inner": True})}
    monkeypatch.setattr(cluster, "_local", None)
    monkeypatch.setenv(cluster.SCHEDULER, threads.scheduler_address)
    assert side_by_side({"one": where}, "answers", 1, progress=False) == expected
    monkeypatch.delenv(cluster.SCHEDULER)
    with dask.config.set({"scheduler-address": threads.scheduler_address}):
        assert side_by_side({"one": where}, "answers", 1, progress=False) == expected
    with Client(threads):
        assert side_by_side({"one": where}, "answers", 1, progress=False) == expected
    torch.set_num_threads(torch_threads)


def test_nothing_to_do_starts_nothing_and_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert side_by_side({}, "answers", 2) == {}
    with pytest.raises(ModuleNotFoundError, match="pip install distributed"):
        side_by_side({"one": where}, "answers", 1)


def test_each_process_sees_a_gpu_of_its_own(outcome):
    folder, _, _ = outcome
    seen = "".join(path.read_text() for path in folder.glob("*.gpu")).splitlines()
    assert set(seen) == {"4 None", "7 None"}  # and keeps freed memory for the next step


def unable(number):
    raise ArithmeticError(number)


def test_many_failures_are_counted_and_some_are_named(threads):
    with Client(threads), pytest.raises(RuntimeError) as failed:
        cluster.scene_by_scene(unable, [f"nf{number}" for number in range(12)], 1, progress=False)
    first, *named, last = str(failed.value).splitlines()
    assert first == "12 of 12 scenes failed, the others are complete:"
    assert len(named) == 10
    assert last == "  and 2 more"


def test_without_a_cluster_the_first_failure_is_raised_as_it_is():
    with pytest.raises(ArithmeticError, match="nf0"):
        cluster.scene_by_scene(unable, ["nf0", "nf1"], 1, progress=False)
    cluster.tell(0.5)  # to nobody
