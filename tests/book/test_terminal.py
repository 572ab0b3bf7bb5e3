from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import typer
from rich.console import Console

from hsiutils.book.terminal import Shell, tree, write_demonstration
from hsiutils.data.check import check_dataset
from hsiutils.data.compare import kind, read_reference, remade
from hsiutils.data.raw import reflectance_cube
from hsiutils.data.source import open_dataset

app = typer.Typer()


@app.command()
def write(name: str, content: str = "text") -> None:
    Path(name).write_text(content)
    Console(force_jupyter=False).print(f"[bold]written[/]: {name}   ")
    typer.echo("100 %", err=True)


@app.command()
def fail(how: str) -> None:
    print("so far")
    if how == "told":
        raise ValueError("not this, " * 12)
    if how == "status":
        raise typer.Exit(3)
    raise KeyError(how)


@pytest.fixture
def shell() -> Iterator[Shell]:
    made = Shell("python -m thing", app)
    yield made
    made.close()
    assert not made.folder.exists()


def test_a_command_is_shown_with_its_output_and_works_in_the_folder(shell, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a notebook's kernel does
    shell("python -m thing write a.txt --content 'two words'")
    assert capsys.readouterr().out == "$ python -m thing write a.txt --content 'two words'\nwritten: a.txt\n\n"
    assert (shell.folder / "a.txt").read_text() == "two words"
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.iterdir())


def test_other_programs_run_there_too(shell, capsys):
    shell("python -m thing write a.txt", "cat a.txt", "mkdir b")
    assert capsys.readouterr().out.endswith("$ cat a.txt\ntext\n\n$ mkdir b\n\n")
    with pytest.raises(FileNotFoundError):
        shell("no-such-program")


def test_a_long_command_is_cut_as_a_shell_allows_and_runs_whole(shell, capsys):
    words = " ".join(["word"] * 30)
    shell(f"python -m thing write a.txt --content '{words}'")
    shown = capsys.readouterr().out.partition("\nwritten")[0]
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.replace(" \\\n    ", " ") == f"$ python -m thing write a.txt --content '{words}'"
    assert (shell.folder / "a.txt").read_text() == words


def test_errors_are_told_as_the_program_tells_them(shell, capsys):
    shell("python -m thing fail told", "python -m thing fail status")
    said = capsys.readouterr().out
    assert "so far\nError: not this, not this" in said
    assert max(map(len, said.splitlines())) <= 88
    assert "not this,\n[exit status 1]\n" in said
    assert said.endswith("so far\n[exit status 3]\n\n")
    shell("python -m thing write")
    assert "Missing argument" in capsys.readouterr().out


def test_a_fault_of_the_program_is_not_hidden(shell):
    with pytest.raises(KeyError, match="bug"):
        shell("python -m thing fail bug")


def test_a_tree_names_folders_first_and_counts_what_it_leaves_out(tmp_path):
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "deep" / "deeper" / "hidden.txt").touch()
    for number in range(4):
        (tmp_path / f"{number}.txt").touch()
    assert tree(tmp_path, deepest=2, most=2) == "deep/\n    deeper/\n0.txt\n1.txt\n... 2 more"


def test_the_demonstration_is_a_sound_set_in_the_released_layout_with_references(tmp_path):
    drive = open_dataset(write_demonstration(tmp_path, scenes=3, tiles=(8, 16)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["HSI-Drive", "dark.bin", "white.bin"]
    assert (drive.layout, drive.origin) == ("v2.0 MATLAB", "simulated")
    assert set(drive.table["split"]) == {"train", "val", "test"}
    assert (check_dataset(drive.root)["severity"] == "note").all()
    references = {one: read_reference(tmp_path / f"{one}.bin", drive.sensor) for one in ("white", "dark")}
    chain = partial(reflectance_cube, **references)
    assert kind(remade(drive, drive.names()[0], chain)[1]) == "same"
