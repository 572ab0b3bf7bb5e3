"""The wheel works outside the checkout, and the base library without the packages of the extras."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = ("data", "models", "attribution", "analysis", "plots")
"""Rooms that need no extra."""
PACKAGES = {
    "simulate": ["pvlib", "earthlib"],
    "book": ["papermill", "nbformat", "nbclient", "ipykernel", "IPython", "jupyter_book", "sphinx", "distributed"],
    "zarr": ["zarr", "dask", "distributed"],
}
"""What an extra brings, by the names that are imported."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources and unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hsiutils", folder / "source" / "hsiutils", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", folder, folder / "source"]
    subprocess.run(build, check=True)  # noqa: S603
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *offline, "--target", folder / "installed", wheel], check=True)  # noqa: S603
    shutil.rmtree(folder / "source")
    return folder / "installed"


@pytest.fixture
def outside(installed: Path, tmp_path: Path):
    """Run words of a command outside the checkout, with the unpacked wheel before what the environment holds."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(installed), "HSIUTILS_STORE": str(tmp_path / "store")}
        environment |= {"HOME": str(tmp_path), "COLUMNS": "200"}
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)  # noqa: S603

    return run


@pytest.fixture
def python(outside):
    def run(code: str) -> str:
        done = outside(sys.executable, "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_package_and_its_data_are_there(python, installed: Path) -> None:
    assert Path(python("import hsiutils; print(hsiutils.__file__)").strip()).is_relative_to(installed)
    read = "from hsiutils.data.sensor import HSI_DRIVE; from hsiutils.data.names import name_table"
    assert python(f"{read}; print(len(HSI_DRIVE.bands), len(name_table()))") == "25 752\n"
    assert int(python("from hsiutils.paper.claims import read_claims; print(len(read_claims()))")) >= 20
    in_checkout = {
        path.relative_to(ROOT) for path in (ROOT / "hsiutils").rglob("*.*") if "__pycache__" not in str(path)
    }
    assert not [path for path in in_checkout if not (installed / path).is_file()]


def test_the_console_script_and_the_module_say_the_same(outside, installed: Path) -> None:
    script = outside(sys.executable, str(installed / "bin" / "hsiutils"), "--help")
    module = outside(sys.executable, "-m", "hsiutils", "--help")
    assert script.returncode == module.returncode == 0
    for said in (script.stdout, module.stdout):
        assert [command for command in ("data", "train", "book", "claims") if command not in said] == []
    assert script.stdout.split("─ Options")[1] == module.stdout.split("─ Options")[1]


@pytest.mark.parametrize(
    "words",
    [["book"], ["validate"], ["chapter", "3", "out.ipynb"], ["record"]],
    ids=lambda words: words[0],
)
def test_what_needs_a_checkout_says_so_before_any_work(words: list[str], outside, tmp_path: Path) -> None:
    done = outside(sys.executable, "-m", "hsiutils", *words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "the book needs a checkout of its repository, with _toc.yml, _config.yml and book/" in done.stderr
    assert not (tmp_path / "store").exists()


def test_data_commands_work_anywhere(python, outside) -> None:
    draw = "write_dataset(Path('set'), draw_names(3), Simulation(tiles=(8, 16)), workers=1, progress=False)"
    python(f"from pathlib import Path\nfrom hsiutils.simulate import Simulation, draw_names, write_dataset\n{draw}")
    checked = outside(sys.executable, "-m", "hsiutils", "data", "check", "set")
    assert "0 errors" in checked.stdout
    assert checked.returncode == 0


def without(*extras: str) -> str:
    """Python that does not find the packages of extras."""
    hidden = {name for extra in extras for name in PACKAGES[extra]}
    return f"""
import sys
from importlib.machinery import PathFinder
class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, *args):
        return None if name.partition(".")[0] in {hidden} else super().find_spec(name, *args)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
"""


def test_the_base_library_imports_without_the_extras(python) -> None:
    modules = [path for room in BASE for path in (ROOT / "hsiutils" / room).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules]
    lines = [f"import {name.removesuffix('.__init__')}" for name in names] + ["import hsiutils.book.commands"]
    python(without("simulate", "book", "zarr") + "\n".join(lines))


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("simulate", "import hsiutils.simulate.frame"),
        ("simulate", "import hsiutils.paper.run"),
        ("book", "import hsiutils.book.chapters"),
        ("zarr", "from hsiutils.data.export import to_zarr; to_zarr(None, 'x')"),
        ("book", "sys.argv = ['hsiutils', 'train']; from hsiutils.__main__ import main; main()"),
    ],
)
def test_a_missing_extra_is_named(extra: str, code: str, outside) -> None:
    done = outside(sys.executable, "-c", without(extra) + code)
    assert done.returncode == 1
    assert f"pip install 'hsiutils[{extra}]'" in done.stderr.splitlines()[-1]
    assert "main()" not in code or done.stderr.count("\n") == 1  # the command line tells it in one line
