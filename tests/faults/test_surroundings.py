"""Places and machines that are not as they should be: clear words, or quiet success."""

import os
import subprocess
import sys
import time
from pathlib import Path

import kills
import pytest
from filelock import FileLock
from tiny_hsi_drive import NAMES, write_matlab_release

from hsiutils.data.atomic import replacing, write_atomically
from hsiutils.data.source import open_dataset
from hsiutils.paper import store


def fill(folder: Path) -> None:
    (folder / "value.txt").write_text("42")


def made(root: Path) -> str:
    return (store.artefact("thing", fill, {"a": 1}, root=root).folder / "value.txt").read_text()


def test_spaces_and_umlauts(tmp_path: Path) -> None:
    assert made(tmp_path / "Müllers Ablage, 2. Stück") == "42"
    data = open_dataset(write_matlab_release(tmp_path / "Größe & Co", NAMES[:2]))
    assert data.cube(NAMES[0]).shape == (25, 4, 6)


def test_a_clock_that_jumps_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the future are as good as others, and nothing is made again for their sake."""
    root = tmp_path / "store"
    folder = store.artefact("thing", fill, {"a": 1}, root=root).folder
    monkeypatch.setattr(time, "time", lambda: 1.0)
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    later = time.monotonic_ns() + 10**18
    os.utime(folder / "value.txt", ns=(later, later))
    assert made(root) == "42"
    os.utime(folder / "value.txt", ns=(0, 0))
    assert made(root) == "42"


def test_the_lock_of_a_dead_process_locks_nothing(tmp_path: Path) -> None:
    """It goes with the process; the file that stays says nothing."""
    folder = store.artefact("thing", fill, {"a": 1}, root=tmp_path).folder
    lock = folder.with_suffix(".lock")
    code = f"import os; from filelock import FileLock; FileLock({str(lock)!r}).acquire(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603
    assert lock.exists()
    (folder / "value.txt").write_text("4")
    assert made(tmp_path) == "42"
    with FileLock(lock, timeout=1):
        pass


def test_what_a_dead_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as living:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        living.write_text("half")
        left = tmp_path / living.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
        left.write_text("left")
        folder = tmp_path / left.name.replace("a.txt", "b.txt")
        folder.mkdir()
        write_atomically(tmp_path / "a.txt", "other")
        write_atomically(tmp_path / "b.txt", "other")
        assert not left.exists()
        assert not folder.exists()
        assert living.read_text() == "half"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


@pytest.fixture
def full_disk(tmp_path: Path):
    """A disk of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("only root mounts a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607


def big(folder: Path) -> None:
    write_atomically(folder / "big.bin", bytes(1 << 20))


def test_a_full_disk_is_said_and_leaves_no_half_file(full_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically(full_disk / "a.bin", bytes(1 << 20))
    assert not list(full_disk.iterdir())
    (full_disk / "filler").write_bytes(bytes(200 << 10))
    with pytest.raises(OSError, match="No space left on device"):
        kills.simulate(full_disk)
    assert not [path for path in full_disk.rglob(".*") if path.is_file()]


def test_a_data_set_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    root = write_matlab_release(tmp_path / "set", NAMES[:2])
    before = sorted(root.rglob("*"))
    mount = ["mount", "--bind", "-o", "ro", str(root), str(root)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("only root mounts a folder for reading alone")
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            (root / "x").write_text("x")
        data = open_dataset(root)
        assert [data.labels(name).shape for name in data.names()] == [(4, 6)] * 2
        assert data.fingerprint()
    finally:
        subprocess.run(["umount", str(root)], check=True)  # noqa: S603, S607
    assert sorted(root.rglob("*")) == before


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    code = "import hsiutils as hu, hsiutils.plots.tables; from hsiutils.paper import store; print(store.default_root())"
    home = {**os.environ, "HOME": "/dev/null/home", "HSIUTILS_STORE": str(tmp_path / "store")}
    done = subprocess.run([sys.executable, "-c", code], env=home, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "store")
