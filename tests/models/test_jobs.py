import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset
from toyscenes import toy_scenes

from hsiutils.models.segmenter import Recipe
from hsiutils.models.train import Job, JobsFailed, fit, fit_many
from hsiutils.models.unet import UNetConfig

CONFIG = UNetConfig(channels=3, depth=2, filters=4, norm_momentum=0.2)
RECIPE = Recipe(epochs=3, batch=4, learning_rate=1e-2, schedule="one-cycle")


class DeadlyOnce(Dataset):
    """Kills the process that reads it in the third epoch, as the kernel does when memory runs out; but only once."""

    def __init__(self, mark):
        self.scenes, self.mark, self.reads = toy_scenes(8, 1), mark, 0

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        self.reads += 1
        if self.reads > 3 * len(self) and not self.mark.exists():  # one pass counts labels
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.scenes[index]


def job(folder, seed=0, train=None, config=CONFIG):
    return Job(train or toy_scenes(8, 1), toy_scenes(4, 2), config, RECIPE, seed, folder)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Four jobs, of which one cannot work and one has its process killed under it."""
    folder = tmp_path_factory.mktemp("jobs")
    jobs = [
        job(folder / "killed", seed=0, train=DeadlyOnce(folder / "mark")),
        job(folder / "wrong", config=replace(CONFIG, channels=7)),
        job(folder / "b", seed=1),
        job(folder / "c", seed=2),
    ]
    with pytest.raises(JobsFailed) as failed:
        fit_many(jobs, workers=1, progress=False)
    return folder, failed.value, jobs


def test_failing_job_is_named_and_the_others_finish(outcome):
    folder, failed, _ = outcome
    assert list(failed.errors) == [folder / "wrong"]
    assert "1 of 4 trainings failed" in str(failed)
    assert "ValueError: UNet expects (n, 7, h, w)" in str(failed)
    assert all((folder / name / "history.csv").is_file() for name in ("killed", "b", "c"))


def test_killed_process_resumes_and_ends_where_one_thread_alone_does(outcome, tmp_path):
    folder, _, _ = outcome
    assert (folder / "mark").exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for seed, name in ((0, "killed"), (1, "b")):
            fit(toy_scenes(8, 1), toy_scenes(4, 2), CONFIG, RECIPE, seed, tmp_path / name, progress=False, device="cpu")
            for file in ("weights.safetensors", "history.csv"):
                assert (folder / name / file).read_bytes() == (tmp_path / name / file).read_bytes()
    finally:
        torch.set_num_threads(threads)


def test_histories_come_in_the_order_of_jobs_with_one_bar(outcome, capsys):
    folder, _, jobs = outcome
    histories = fit_many([jobs[3], jobs[2]], workers=2)
    for history, name in zip(histories, ("c", "b"), strict=True):
        assert len(history) == 3
        assert history["train_loss"].iloc[-1] == pytest.approx(last_loss(folder / name))
    assert "6/6" in capsys.readouterr().err


def last_loss(folder: Path) -> float:
    lines = (folder / "history.csv").read_text().splitlines()
    return float(lines[-1].split(",")[lines[0].split(",").index("train_loss")])


def test_jobs_need_folders_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="share a folder"):
        fit_many([job(tmp_path), job(tmp_path, seed=1)])


def test_no_jobs_no_work():
    assert fit_many([], progress=False) == []
