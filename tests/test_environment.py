"""pyproject.toml, requirements.lock and environment.yml say the same, name all that is imported and no more.

And all of it is free to use beside code under the MIT licence.
"""

import ast
import json
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions
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


def test_what_a_page_runs_is_pinned_with_its_hash():
    folder = ROOT / "tools" / "runtime"
    (wanted,) = json.loads((folder / "package.json").read_text())["dependencies"].items()
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    locked = {path: one for path, one in packages.items() if path}
    assert (wanted[0], locked[f"node_modules/{wanted[0]}"]["version"]) == ("onnxruntime-web", wanted[1])
    assert all(one["integrity"].startswith("sha512-") and "resolved" not in one for one in locked.values())


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


@cache
def imported(path: Path) -> set[str]:
    """Top-level names of all imports in a file, those inside functions too."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    from_ = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in plain + from_}


UNIMPORTED = {
    "h5netcdf": "xarray opens netCDF with it, by its name",
    "zarr": "xarray and dask open stores with it, by its name",
    "ipykernel": "chapters run in its kernels",
    "sphinxcontrib-bibtex": "_config.yml names it",
    "sphinx-mathjax-offline": "its files go into the pages",
    "pytest-cov": "an option of make test",
    "pytest-xdist": "an option of make test",
    "nbval": "an option of pytest for chapters",
    "ruff": "make style",
    "mypy": "make types",
    "import-linter": "make style",
    "types-pyyaml": "mypy reads it",
    "setuptools": "builds the wheel",
    "onnx": "torch writes ONNX with it",
    "onnxscript": "torch writes ONNX with it",
    "playwright": "imported where it is installed",
    "axe-playwright-python": "imported where it is installed",
}
"""What is declared and imported by name nowhere, and what it is for."""


def test_nothing_is_declared_that_nothing_needs():
    files = [path for folder in ("hsiutils", "tests") for path in (ROOT / folder).rglob("*.py")]
    known = {name for path in files for top in imported(path) for name in DISTRIBUTIONS.get(top, [])}
    unimported = EVERYTHING.keys() - known
    assert unimported <= UNIMPORTED.keys(), "drop it, or say what it is for"
    assert not UNIMPORTED.keys() - EVERYTHING.keys()


FREE = {
    *(
        "MIT",
        "MIT-CMU",
        "ISC",
        "0BSD",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "Apache-2.0",
        "LLVM-exception",
        "PSF-2.0",
    ),
    *("Zlib", "BSL-1.0", "CC0-1.0", "CC-BY-4.0"),
    "MPL-2.0",  # binds changes of its own files alone
}
"""Licences, by their SPDX names, of what code under the MIT licence may need and stand beside."""
SPDX = {
    "MIT License": "MIT",
    "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""And what older packages call them."""
READ = {
    "docutils": "public domain, BSD and PSF; under the GPL is its mode for Emacs alone, which nothing here uses",
    "namex": "Apache-2.0, by the file that comes with it",
    "axe-playwright-python": "MIT, by the file that comes with it; axe-core inside is MPL-2.0",
}
"""Read by hand, for the metadata do not say, or say of one file what is not true of the others."""


def licences(name: str) -> set[str]:
    """SPDX names in the metadata of an installed package; of old ones in their classifiers, else as they put it."""
    known = metadata(name)
    said = known.get("License-Expression")
    classified = [
        one.rpartition(" :: ")[2] for one in known.get_all("Classifier") or [] if one.startswith("License ::")
    ]
    words = [said] if said else classified or [known.get("License") or "unknown"]
    return {SPDX.get(part, part) for one in words for part in re.split(r" AND | OR | WITH ", one)}


def test_what_is_locked_may_be_used_beside_code_under_the_mit_licence():
    lines = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
    wanted = {canonicalize_name(each.name) for each in lines if each.marker is None or each.marker.evaluate()}
    found = {}
    for name in wanted - READ.keys():
        try:
            found[name] = licences(name)
        except PackageNotFoundError:  # the lock is newer than this environment
            continue
    assert {name: own for name, own in found.items() if not own <= FREE} == {}
    assert len(found) > 0.9 * len(wanted)
    assert READ.keys() <= wanted


def test_workflows_and_the_image_run_make_targets_only():
    targets = set(re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    flows = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
    steps = [step for flow in flows for job in flow["jobs"].values() for step in job["steps"]]
    runs = [step["run"] for step in steps if "run" in step]
    assert {"make test", "make book", "make coverage", "make upgrade", "make audit"} == set(runs)
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
