"""pyproject.toml, requirements.lock and environment.yml say the same, and name all that is imported."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "data": ["zarr"],
    "simulate": ["simulate"],
    "paper": ["simulate", "book"],
    "book": ["simulate", "book"],
    "__main__": ["simulate", "book"],
}
"""Extras whose packages a room may import; the other rooms are the base library."""


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = map(Requirement, lines)
    return {canonicalize_name(each.name): each for each in parsed if each.name != PROJECT["name"]}


def declared(*extras: str) -> dict[str, Requirement]:
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return requirements(lines)


DISTRIBUTIONS = {name: [*map(canonicalize_name, found)] for name, found in packages_distributions().items()}
EVERYTHING = declared(*PROJECT["optional-dependencies"])


def test_the_library_is_bounded_below_and_above_and_pins_nothing():
    loose = {
        name: each
        for name, each in EVERYTHING.items()
        if not {">="} <= {part.operator for part in each.specifier} <= {">=", "<"}
    }
    assert not loose
    assert all("<" in str(each.specifier) for name, each in EVERYTHING.items() if name != "setuptools")


def test_the_lock_is_exact_and_within_the_bounds():
    locked: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line and line[0] not in "# ":
            locked.setdefault(canonicalize_name(Requirement(line).name), []).append(Requirement(line))
    assert all(re.fullmatch(r"==[\w.]+", str(each.specifier)) for found in locked.values() for each in found)
    for name, each in EVERYTHING.items():
        (found,) = locked[name]
        assert each.specifier.contains(str(found.specifier).removeprefix("==")), f"{found} is outside {each}"
    unwanted = ("nvidia", "cuda", "triton", "tensorflow", "jax")  # Keras runs on the torch that is there
    assert not [name for name in locked if name.startswith(unwanted)]


def test_conda_takes_the_versions_of_the_lock_and_of_python():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert (PROJECT["requires-python"], "python=3.11" in entries) == (">=3.11", True)
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    own = requirements([line for line in pip if not line.startswith("-")])
    assert own.keys() == EVERYTHING.keys()
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in map(str, own.values()) if line not in locked] == []


@pytest.mark.parametrize("path", sorted((ROOT / "hsiutils").rglob("*.py")), ids=lambda path: path.stem)
def test_what_a_room_imports_is_declared_for_it(path):
    allowed = declared(*EXTRAS.get(path.relative_to(ROOT / "hsiutils").parts[0].removesuffix(".py"), []))
    third_party = imported(path) - set(sys.stdlib_module_names) - {"hsiutils"}
    assert [name for name in third_party if not set(DISTRIBUTIONS[name]) & allowed.keys()] == []


def imported(path: Path) -> set[str]:
    """Top-level names of all imports in a file, those inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    from_ = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in plain + from_}


def test_workflows_and_the_image_run_make_targets_only():
    targets = set(re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    flows = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
    steps = [step for flow in flows for job in flow["jobs"].values() for step in job["steps"]]
    runs = [step["run"] for step in steps if "run" in step]
    assert {"make test", "make book", "make upgrade"} == set(runs)
    image = (ROOT / "Dockerfile").read_text()
    called = re.findall(r"make[ \",]+(\w+)", "\n".join([*runs, image[image.index("COPY") :]]))
    assert {"setup", "book", "test"} <= set(called) <= targets


def test_binder_installs_the_lock_without_a_gpu():
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert lines[1:] == ["-r ../requirements.lock", "-e ."]
    assert "cpu" in lines[0]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert (ROOT / ".binder" / "runtime.txt").read_text().strip() == f"python-{least}"
    assert f"FROM python:{least}-" in (ROOT / "Dockerfile").read_text()
