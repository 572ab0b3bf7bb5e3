"""The wheel works outside the checkout, and the base library without the packages of the extras."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BASE = ("data", "models", "attribution", "analysis", "plots")
"""Rooms that need no extra."""
PACKAGES = {
    "simulate": ["pvlib", "earthlib"],
    "book": ["papermill", "nbformat", "ipykernel", "IPython", "jupyter_book", "sphinx", "distributed"],
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
    build = [sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('..')"]
    subprocess.run(build, cwd=folder / "source", check=True, capture_output=True)  # noqa: S603
    (wheel,) = folder.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "installed", "zip")
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
    code = """
import hsiutils
from hsiutils.data.names import name_table
from hsiutils.data.sensor import HSI_DRIVE
print(hsiutils.__file__, len(HSI_DRIVE.bands), len(name_table()))
"""
    assert python(code).split() == [str(installed / "hsiutils" / "__init__.py"), "25", "752"]
    in_checkout = [path for path in (ROOT / "hsiutils").rglob("*.*") if "__pycache__" not in str(path)]
    assert not [path for path in in_checkout if not (installed / path.relative_to(ROOT)).is_file()]


def test_the_console_script_and_the_module_say_the_same(outside, installed: Path) -> None:
    (wheel,) = distributions(path=[str(installed)])
    (entry,) = wheel.entry_points
    assert (entry.group, entry.name) == ("console_scripts", "hsiutils")
    script = outside(sys.executable, "-c", f"from {entry.module} import {entry.attr}; {entry.attr}()", "--help")
    module = outside(sys.executable, "-m", "hsiutils", "--help")
    assert script.returncode == module.returncode == 0
    for said in (script.stdout, module.stdout):
        assert [command for command in ("data", "train", "book", "claims") if command not in said] == []
    assert script.stdout.split("─ Options")[1] == module.stdout.split("─ Options")[1]


MAIN = """
from hsiutils.__main__ import main
def told(*words):
    sys.argv = ["hsiutils", *words]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 1
"""
"""The whole program, which ends with an error that it tells in a line."""


def test_what_needs_a_checkout_says_so_before_any_work(outside, tmp_path: Path) -> None:
    words = (["book"], ["validate"], ["chapter", "3", "out.ipynb"], ["record"])
    done = outside(sys.executable, "-c", f"import sys{MAIN}for words in {words}: told(*words)")
    assert (done.returncode, done.stdout) == (0, "")
    needed = "the book needs a checkout of its repository, with _toc.yml, _config.yml and book/"
    assert [needed in line for line in done.stderr.splitlines()] == [True] * len(words)
    assert not (tmp_path / "store").exists()


def test_data_commands_work_anywhere(python, outside) -> None:
    draw = "write_dataset(Path('set'), draw_names(1), Simulation(tiles=(8, 16)), workers=1, progress=False)"
    python(f"from pathlib import Path\nfrom hsiutils.simulate import Simulation, draw_names, write_dataset\n{draw}")
    checked = outside(sys.executable, "-m", "hsiutils", "data", "check", "set")
    assert "0 errors" in checked.stdout
    assert checked.returncode == 0


def without(*extras: str) -> str:
    """Python that does not find the packages of extras."""
    return f"""
import sys
hidden = {[name for extra in extras for name in PACKAGES[extra]]}
from importlib.machinery import PathFinder
class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, *args):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, *args)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
"""


def test_the_base_library_imports_without_the_extras(python) -> None:
    paths = [path for room in BASE for path in (ROOT / "hsiutils" / room).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    lines = [f"import {name.removesuffix('.__init__')}" for name in names] + ["import hsiutils.book.commands"]
    python(without("simulate", "book", "zarr") + "\n".join(lines))


def test_a_missing_extra_is_named(outside) -> None:
    """One after the other in one process, in which torch is imported once."""
    asked = {
        "simulate": ["import hsiutils.simulate.frame", "import hsiutils.paper.run"],
        "book": ["import hsiutils.book.chapters", MAIN + "told('train')"],
        "zarr": ["from hsiutils.data.export import to_zarr; to_zarr(None, 'x')"],
    }
    lines = [without()]
    for extra, codes in asked.items():
        lines.append(f"hidden = {PACKAGES[extra]}")
        for code in codes:
            lines.append("for name in [n for n in sys.modules if n.partition('.')[0] in [*hidden, 'hsiutils']]:")
            lines.append("    del sys.modules[name]")
            lines.append(f"try: exec({code!r})\nexcept ModuleNotFoundError as error: print(error, file=sys.stderr)")
    done = outside(sys.executable, "-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr
    named = [extra for extra, codes in asked.items() for _ in codes]
    assert len(named) == len(done.stderr.splitlines()), done.stderr
    for extra, line in zip(named, done.stderr.splitlines(), strict=True):
        assert f"pip install 'hsiutils[{extra}]'" in line
