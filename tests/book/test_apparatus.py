"""What stands around a page's text: where it comes from, how to repeat it, where it can be edited and launched."""

import inspect
import re
import shlex
import subprocess
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from sphinx.ext.napoleon import Config, NumpyDocstring
from typer.testing import CliRunner

import hsiutils as hu
from hsiutils.__main__ import app
from hsiutils.book import apparatus, chapters, pages, project
from hsiutils.book.apparatus import checked_out, provenance, repeat_command
from hsiutils.paper import store


def made(folder: Path, source: Path, parameters: dict) -> None:
    (folder / source.name).write_text("{}")


def test_a_page_says_its_data_profile_seed_day_commit_and_keys(store_root):
    chapter = chapters.find_chapter("4")
    parameters = {"profile": "smoke", "seed": 3, "data_root": "/data/<HSI>"}
    inputs = {"parameters": parameters, "data": "abcd", "made for": "this test"}
    one = store.artefact("chapter", partial(made, source=chapter, parameters=parameters), inputs)
    said = provenance(one.folder / chapter.name, "1234567 with changes")
    day, version = one.manifest["made"][:10], metadata.version("hsiutils")
    assert (
        f"Real scenes, profile smoke, seed 3, run on {day} in 0 s, hsiutils {version}, commit 1234567 with changes<"
        in said
    )
    assert f"this page {one.key}, scenes abcd<" in said
    assert f"python {store.versions(())['python']}" in said
    assert "/data/&lt;HSI&gt;" in said


def test_of_a_notebook_from_elsewhere_only_the_command_is_known(tmp_path):
    said = provenance(tmp_path / "a3_audit_your_network.ipynb")
    assert "<p>Simulated scenes</p>" in said
    assert "<pre>hsiutils chapter a3</pre>" in said


@pytest.mark.parametrize(
    ("number", "parameters"),
    [
        (
            "5",
            {"profile": "smoke", "seed": 1, "variants": ["3", "bands:1,2"], "class_name": "Road Marks"},
        ),
        ("a3", {"model": "hsiutils.models.examples:fcn", "image": None, "layers": ["a: b", "c,'d"]}),
        ("ledger", {}),
    ],
)
def test_the_command_on_a_page_runs_that_chapter_with_these_parameters(number, parameters, monkeypatch):
    ran = {}
    monkeypatch.setattr(pages, "chapter_pages", lambda source, given, *_: ran.update(given[0], source=source))
    chapter = chapters.find_chapter(number)
    result = CliRunner().invoke(app, shlex.split(repeat_command(chapter, parameters))[1:], catch_exceptions=False)
    assert result.exit_code == 0
    assert ran.pop("source") == chapter
    assert ran == parameters


def test_the_commit_is_named_and_changes_are_told(tmp_path):
    assert checked_out(tmp_path) == ""

    def git(*words: str) -> str:
        own = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(own, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    head = git("rev-parse", "--short", "HEAD")
    assert checked_out(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert checked_out(tmp_path) == f"{head} with changes"


@pytest.mark.parametrize("address", ["", "https://github.com/somebody/book"])
def test_links_and_launch_buttons_are_there_with_a_repository_only(address):
    config = SimpleNamespace(html_theme_options={"repository_url": address})
    apparatus._choose_buttons(None, config)
    options = config.html_theme_options
    wanted = ["use_issues_button", "use_repository_button", "use_edit_page_button"]
    assert [options.get(name, False) for name in wanted] == [bool(address)] * 3
    assert {"binderhub_url", "colab_url"} & set(options.get("launch_buttons", {})) == (
        {"binderhub_url", "colab_url"} if address else set()
    )


def test_the_page_of_the_library_has_every_name_of_the_front_door():
    page = (project() / "book" / "api.md").read_text()
    assert sorted(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)) == sorted(hu.__all__)


def halve(x: int) -> float:
    """Halve `x`, also |x|.

    Parameters
    ----------
    x : a number; of
        two lines.

    Returns
    -------
    Half of it,
    in a line.

    Examples
    --------
    >>> `x` | y
    """
    return x / 2


def test_docstrings_are_read_as_they_are_meant():
    lines = inspect.getdoc(halve).splitlines()
    apparatus._as_napoleon_reads(None, "function", "halve", halve, None, lines)
    read = str(NumpyDocstring(lines, Config(), what="function"))
    assert "Halve ``x``, also \\|x\\|." in read
    assert ":param x: a number; of\n          two lines.\n" in read
    assert ":returns: Half of it, in a line.\n:rtype: float\n" in read
    assert ">>> `x` | y" in read
