"""environment.yml, pyproject.toml and requirements.lock say the same."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def declared() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["test"]
    return {Requirement(line).name.lower(): str(Requirement(line).specifier) for line in lines}


def test_every_direct_dependency_is_pinned_exactly():
    loose = {name: pin for name, pin in declared().items() if not re.fullmatch(r"==[\w.]+", pin)}
    assert not loose


def test_conda_says_the_same():
    pip = next(
        entry
        for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
        if "pip" in entry and isinstance(entry, dict)
    )["pip"]
    own = [line for line in pip if not line.startswith("-")]
    assert {Requirement(line).name.lower(): str(Requirement(line).specifier) for line in own} == declared()


def test_lock_holds_every_direct_dependency_at_its_pin():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] not in "# "]
    locked: dict[str, set[str]] = {}
    for line in lines:
        requirement = Requirement(line)
        locked.setdefault(requirement.name.lower(), set()).add(str(requirement.specifier))
    assert all(locked[name] == {pin} for name, pin in declared().items())
    unwanted = ("nvidia", "cuda", "triton", "tensorflow", "jax")  # Keras runs on the torch that is there
    assert not [name for name in locked if name.startswith(unwanted)]


def test_python_version_agrees():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    assert "python=3.11" in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
