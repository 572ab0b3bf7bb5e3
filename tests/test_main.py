import os
import resource
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import xarray as xr
from typer.testing import CliRunner

from hsiutils import __main__ as cli
from hsiutils import book
from hsiutils.book import build, chapters, pages
from hsiutils.paper import studies

runner = CliRunner()


@pytest.fixture
def tiny(tiny_run, monkeypatch):
    monkeypatch.setattr(cli, "_run", lambda *args, **kwargs: tiny_run)
    return tiny_run


def invoke(*words):
    result = runner.invoke(cli.app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_help_lists_every_step():
    listed = invoke("--help")
    for step in ("data", "train", "evaluate", "chapter", "book", "claims", "validate", "study"):
        assert step in listed


def test_studies_are_listed_and_a_grid_with_what_is_missing(tiny, monkeypatch):
    assert "pn-strength" in invoke("study")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "")
    shown = invoke("study", "pn-strength", "--points", "--scheduler", "tcp://host:1")
    assert "25-PN@0.4" in shown
    assert "of 14 points are missing" in shown
    assert os.environ["DASK_SCHEDULER_ADDRESS"] == "tcp://host:1"


def test_a_study_writes_its_record(tiny, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(studies.Study, "keep", lambda study, run, folder: seen.append((study.name, run, folder)))
    assert "channels.nc" in invoke("study", "channels", "--output", str(tmp_path))
    assert seen == [("channels", tiny, tmp_path)]


def test_train_and_evaluate_print_table_1(tiny):
    assert "4 networks are trained" in invoke("train")
    said = invoke("evaluate")
    assert "simulated scenes" in said
    assert "93.24" in said.replace("\n", "")


def test_a_network_is_audited_on_every_scene_of_a_data_set(tiny, tmp_path, capsys, monkeypatch):
    (made,) = tiny.networks([("3", 0)])
    root, out = str(tiny.data.root), str(tmp_path / "audit.zarr")
    asked = ("--method", "GradCAM", "--workers", "1")
    said = invoke("audit", str(made.folder), root, out, *asked)
    names = tiny.data.names("test")
    assert f"{len(names)} simulated scenes audited: {out}" in said
    with xr.open_zarr(out) as found:
        assert found["scene"].values.tolist() == names
        assert set(found["name"].values) == {"GradCAM"}
    other = ("audit", "hsiutils.models.examples:fcn", root, str(tmp_path / "b.zarr"))
    monkeypatch.setattr(sys, "argv", ["hsiutils", *other])
    with pytest.raises(SystemExit):
        cli.main()
    assert "such as --inputs 25-PN" in capsys.readouterr().err
    assert "1 simulated scene" in invoke(*other, "--inputs", "3", *asked) or len(names) > 1


@pytest.mark.parametrize("command", ["claims", "book"])
def test_a_verdict_is_printed_for_every_claim_and_the_place_of_the_book(command, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "build_book", lambda run, say: tmp_path / "index.html")
    said = invoke(command)
    assert "cannot be" in said
    assert "undecided" in said or "reproduced" in said
    assert ("index.html" in said) == (command == "book")


def test_a_chapter_becomes_a_notebook_or_pages_with_its_options_and_parameters(tmp_path, monkeypatch):
    ran, built, opened = [], [], []
    monkeypatch.setattr(chapters, "run_chapter", lambda source, out, given: ran.append((source.stem, out.name, given)))
    monkeypatch.setattr(pages, "chapter_pages", lambda *given: built.append(given[:3]) or tmp_path / "page.html")
    monkeypatch.setattr(cli.webbrowser, "open", lambda address: opened.append(address))
    monkeypatch.chdir(tmp_path)
    invoke("chapter", "3", "out.ipynb", "--seed", "5", "-p", "variants=[3]")
    assert ran == [("03_training", "out.ipynb", {"seed": 5, "variants": ["3"]})]
    assert "No browser" in invoke("chapter", "5", "folder", "-p", "class_name=Sky,Road", "--open")
    assert opened == [(tmp_path / "page.html").as_uri()]
    ((source, wanted, folder),) = built
    assert (source.stem, folder) == ("05_activations", tmp_path / "folder")
    assert wanted == [{"class_name": "Sky"}, {"class_name": "Road"}]
    invoke("chapter", "5", "--profile", "smoke", "-p", "class_name=Sky")
    assert built[1][2] == book.project() / "_build" / "chapters" / "05_activations-profile=smoke-class_name=Sky"


def test_a_notebook_that_is_no_chapter_has_no_page_and_a_folder_is_no_notebook(tmp_path, monkeypatch, capsys):
    own, folder = tmp_path / "own.ipynb", tmp_path / "folder.ipynb"
    folder.mkdir()
    nbformat.write(nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}}), own)
    for output, message in (("pages", "is no chapter of the book, and has no page"), (str(folder), "is a folder")):
        monkeypatch.setattr(sys, "argv", ["hsiutils", "chapter", str(own), output])
        with pytest.raises(SystemExit):
            cli.main()
        assert message in capsys.readouterr().err


def test_validate_exits_as_nbval_does_and_renews_a_chapter(tiny, monkeypatch):
    renewed, targets = [], []
    monkeypatch.setattr(build, "validate", lambda run, target: targets.append(target) or 3)
    monkeypatch.setattr(build, "renew_outputs", lambda notebook, run: renewed.append(notebook.stem))
    assert runner.invoke(cli.app, ["validate"]).exit_code == 3
    assert runner.invoke(cli.app, ["validate", "--pages", "pages"]).exit_code == 3
    assert targets == [None, Path("pages").resolve()]
    invoke("validate", "--renew", "3")
    assert renewed == ["03_training"]


def test_record_says_what_was_kept(tiny, tmp_path):
    said = invoke("record", "--output", str(tmp_path)).replace("\n", "")
    assert "profile tiny, seed 0, simulated scenes, 2 networks for each input" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims_record.json", "claims_record.nc"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "--profile", "fast"],
            "parameter profile: expected text, one of smoke, quick, record, paper; got 'fast'",
        ),
        (["chapter", "42", "out.ipynb"], "no chapter '42'"),
        (
            ["data", "make", "--data-root", "nowhere-at-all"],
            "expected text, a folder that is there; or empty; got 'now",
        ),
        (["chapter", "3", "out.ipynb", "-p", "sed"], "expected NAME=VALUE"),
        (["chapter", "3", "-p", "sed=1"], "did you mean 'seed'"),
        (["chapter", "3", "--seed", "1", "-p", "seed=1"], "parameter seed comes twice"),
        (["chapter", "5", "-p", "class_name=sky"], "parameter class_name: expected text, one of Road, "),
        (
            ["chapter", "7", "--profile", "smoke", "-p", "scenes=1,999"],
            "a whole number, 1 to 4, the test scenes; got 999",
        ),
        (["chapter", "5", "out.ipynb", "-p", "class_name=Sky,Road"], "one notebook, and 2 are asked for"),
        (["chapter", "5", "/dev/null"], "/dev/null is a file: name a folder"),
        (["chapter", "5", "/dev/null/out.ipynb"], "/dev/null"),
        (["chapter", "5", "/etc"], "/etc holds other files"),
    ],
)
def test_wrong_words_are_told_in_a_line_without_traceback(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hsiutils", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    shown = capsys.readouterr().err
    assert stop.value.code == 1
    assert message in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--help"], ["data", "check", "--help"]])
def test_help_takes_little_time(words):
    def cpu():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = cpu()
    done = subprocess.run([sys.executable, "-m", "hsiutils", *words], capture_output=True, text=True, check=True)  # noqa: S603
    assert "Usage: python -m hsiutils" in done.stdout
    assert cpu() - before < 1.5  # seconds; with torch it is 4


def test_an_error_without_words_shows_where_it_came_from(monkeypatch):
    def late():
        raise TimeoutError

    monkeypatch.setattr(cli, "app", late)
    with pytest.raises(TimeoutError):
        cli.main()
