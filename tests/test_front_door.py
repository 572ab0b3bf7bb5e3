"""`import hsiutils as hu`: the names that it has, where they come from, and what asking for them costs."""

import ast
import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hsiutils as hu

PACKAGE = Path(hu.__file__).parent
WITH_EXAMPLES = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if "    >>> " in path.read_text()]
INVENTORY = """
    HSI_DRIVE METHODS Affine Attribution Classes Decomposition Sensor Target UNet UNetConfig attribute audit
    audit_scenes check_dataset class_map decompose evaluate fit_inputs load_model margin open_dataset open_network pixel
    pn predict reflectance_cube region scores simulate_dataset train
"""
"""What users may rely on; a name goes only with an entry in the CHANGELOG."""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout


def test_the_names_are_those_of_the_inventory() -> None:
    assert sorted(hu.__all__) == sorted(INVENTORY.split())
    assert set(hu.__all__) == set(hu.MODULES) <= set(dir(hu))


def test_type_checkers_see_the_names_where_they_are_found_at_run_time() -> None:
    tree = ast.parse(Path(hu.__file__).read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert {alias.name: node.module for node in checked.body for alias in node.names} == hu.MODULES


def test_another_name_is_an_error_that_lists_these() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Unet'; it has HSI_DRIVE, METHODS"):
        getattr(hu, "Unet")  # noqa: B009 (what a user types)


@pytest.mark.parametrize("name", sorted({*hu.__all__} - {"HSI_DRIVE", "METHODS"}))
def test_a_name_is_documented_with_an_example(name: str) -> None:
    shown = getattr(hu, name).__doc__
    assert "\n    Examples\n    --------\n    >>> " in shown
    assert "+SKIP" not in shown


@pytest.mark.parametrize("module", [".".join(path.with_suffix("").parts) for path in sorted(WITH_EXAMPLES)])
def test_examples_run(module: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(
        import_module(f"hsiutils.{module}"), extraglobs={"hu": hu}, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried > 0
    assert failed == 0


def test_importing_is_lazy() -> None:
    heavy = "[name for name in ('torch', 'xarray', 'numpy', 'captum', 'holoviews') if name in sys.modules]"
    assert python(f"import hsiutils, sys; dir(hsiutils); print({heavy})") == "[]\n"
    assert python("import hsiutils as hu, sys; hu.HSI_DRIVE; print('torch' in sys.modules)") == "False\n"


def test_lightning_is_imported_only_by_who_trains() -> None:
    """It takes as long as all else together, in every chapter."""
    slow = ("pytorch_lightning", "torchmetrics", "hsiutils.models.segmenter")
    found = {
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and (getattr(node, "module", None) or node.names[0].name).startswith(slow)
    }
    assert found == {"segmenter.py"}
