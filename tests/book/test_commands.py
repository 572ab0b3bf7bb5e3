import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spectral
import xarray as xr
from PIL import Image
from tiny_hsi_drive import NAMES, values_of, write_matlab_release, write_scene
from typer.testing import CliRunner, Result

from hsiutils import __main__ as cli
from hsiutils.book import chapters, commands
from hsiutils.data import export
from hsiutils.data.files import read_cube
from hsiutils.data.layouts import LAYOUTS
from hsiutils.data.source import open_dataset
from hsiutils.simulate import Simulation, write_dataset

COMMANDS = ("make", "check", "info", "convert", "quicklook", "raw")
NAME = NAMES[2]


@pytest.fixture(autouse=True)
def wide(monkeypatch) -> None:
    """So that no path is broken over lines."""
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_matlab_release(tmp_path / "set")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("commands") / "set"
    write_dataset(root, ["nf3122_147", "nf1111_576"], Simulation(tiles=(8, 16)), workers=1, progress=False)
    return root


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["data", *map(str, words)])


def said(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(monkeypatch, capsys, *words: object) -> str:
    """What is on stderr when the whole program ends."""
    monkeypatch.setattr(sys, "argv", ["hsiutils", "data", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    assert command in said("--help")
    assert f"Example: python -m hsiutils data {command}" in said(command, "--help")


def test_make_says_what_there_is(tiny_run, monkeypatch) -> None:
    asked = {}
    monkeypatch.setattr(chapters, "settings", lambda **given: asked.update(given) or tiny_run)
    found = said("make", "--profile", "smoke", "--seed", "3")
    assert asked == {"profile": "smoke", "seed": 3, "data_root": ""}
    assert "10 simulated scenes" in found
    assert "train" in found
    softer = said("make", "--blur-px", "2")
    assert "10 simulated scenes" in softer
    assert softer.splitlines()[0] != found.splitlines()[0], "another data set"


class TestCheck:
    def test_errors_are_listed_with_what_to_do_for_people_and_programs(self, root: Path) -> None:
        assert "0 errors, 0 warnings" in said("check", root)
        path = root / "Image_dataset" / "cubes_fl32" / f"{NAME}_TC.mat"
        path.write_bytes(path.read_bytes()[:300])
        people, csv, records = (run("check", root, "--format", form) for form in ("table", "csv", "json"))
        assert people.exit_code == csv.exit_code == records.exit_code == 1
        for part in (f"{NAME}_TC.mat", "expected: 25 bands of", "to do: fetch the file again", "1 error, 0 warnings"):
            assert part in people.stdout
        found = pd.read_csv(io.StringIO(csv.stdout))  # and nothing else
        assert found.loc[found["severity"] == "error", "scene"].tolist() == [NAME]
        assert [one["scene"] for one in json.loads(records.stdout) if one["severity"] == "error"] == [NAME]

    def test_a_long_list_is_cut_and_counted(self, root: Path, monkeypatch) -> None:
        monkeypatch.setattr(commands, "_MOST", 1)
        for name in NAMES[:3]:
            (root / "Image_dataset" / "labels" / f"{name}.png").unlink()
        result = run("check", root)
        assert "and 3 more; --format csv prints all" in result.stdout  # a note on the size, too

    def test_nothing_there(self, tmp_path: Path, monkeypatch, capsys) -> None:
        assert run("check", tmp_path).exit_code == 1
        assert "no such folder" in refused(monkeypatch, capsys, "check", tmp_path / "nowhere")


class TestInfo:
    def test_tables_for_people_and_one_document_for_programs(self, root: Path) -> None:
        found = said("info", root)
        for part in ("v2.0 MATLAB", "5 (1 train, 1 val, 3 test)", "Road Marks"):
            assert part in found
        assert "Share of the labelled" not in said("info", root, "--no-classes")
        found = json.loads(said("info", root, "--format", "json"))
        assert {"what": "origin", "value": "real"} in found["What it is"]
        assert len(found) == 3
        assert said("info", root, "--format", "csv").startswith("what,value\n")

    def test_another_layout(self, root: Path, monkeypatch, capsys) -> None:
        for name in NAMES:
            write_scene(root / "Image_dataset", name, cubes="cubes_fl32/MF", suffix="_MF_TC.mat")
        assert "v2.0 MATLAB MF" in said("info", root, "--layout", "v2.0 MATLAB MF", "--no-classes")
        asked = ("info", root, "--layout", "v7")
        assert "layout v7 here; it holds v2.0 MATLAB, v2.0 MATLAB MF" in refused(monkeypatch, capsys, *asked)


class TestConvert:
    def test_to_zarr(self, root: Path, tmp_path: Path) -> None:
        out = tmp_path / "drive.zarr"
        assert "5 scenes of v2.0 MATLAB (real) written as zarr" in said("convert", root, out, "--workers", 2)
        with xr.open_dataset(out) as found:
            np.testing.assert_array_equal(found["cube"].sel(scene=NAME), values_of(NAME))

    @pytest.mark.parametrize(("to", "layout"), [("matlab", "v2.0 MATLAB"), ("python", "v2.0 Python")])
    def test_to_a_released_layout(self, to: str, layout: str, root: Path, tmp_path: Path) -> None:
        said("convert", root, tmp_path / "out", "--to", to, "--split", "test")
        found = open_dataset(tmp_path / "out")
        assert (found.layout, found.names()) == (layout, open_dataset(root).names("test"))

    def test_to_envi_in_every_order(self, root: Path, tmp_path: Path) -> None:
        said("convert", root, tmp_path, "--to", "envi", "--name", NAME, "--order", "native", "--interleave", "bip")
        image = spectral.open_image(str(tmp_path / "cubes" / f"{NAME}.hdr"))
        assert image.metadata["interleave"] == "bip"
        np.testing.assert_array_equal(image.read_band(3), values_of(NAME)[3])

    def test_wrong_words(self, root: Path, tmp_path: Path, monkeypatch, capsys) -> None:
        out = tmp_path / "out"
        for words, message in {
            ("--name", "nf9999_999"): "no scene nf9999_999",
            ("--split", "tset"): "no scene in split 'tset'",
        }.items():
            assert message in refused(monkeypatch, capsys, "convert", root, out, *words)
        assert run("convert", root, out, "--to", "hdf").exit_code == 2
        assert "would be written over" in refused(monkeypatch, capsys, "convert", root, root, "--to", "matlab")

    def test_stopping_by_hand_says_how_to_go_on(self, root: Path, tmp_path: Path, monkeypatch) -> None:
        def stopped(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(export, "to_zarr", stopped)
        result = run("convert", root, tmp_path / "drive.zarr")
        assert result.exit_code == 130
        assert "the same command goes on where it stopped" in result.stdout


def test_a_contact_sheet(root: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "new" / "sheet.png"
    assert "3 scenes (real)" in said("quicklook", root, out, "--split", "test", "--columns", 2, "--width", 60)
    with Image.open(out) as sheet:
        assert sheet.size[0] == 2 * (2 * 60 + 8) + 8
    assert "ends in .png" in refused(monkeypatch, capsys, "quicklook", root, tmp_path / "sheet.jpg")


class TestRaw:
    def test_a_simulated_set_knows_its_references_and_a_wrong_exposure_is_found(self, simulated: Path) -> None:
        found = said("raw", simulated)
        assert found.count("same") == 2
        assert "2 scenes; the factor to the released cube runs from 1 to 1." in found
        asked = ("raw", simulated, "--name", "nf1111_576", "--exposure", 4, "--white-exposure", 1)
        assert "the same up to one factor, 4: exposures differ" in said(*asked)
        records = json.loads(said(*asked, "--format", "json"))
        assert len(records) == 25
        assert {"band", "nm", "correlation", "scale", "rms", "inside", "border"} <= records[0].keys()

    def test_own_references_and_cubes_in_the_released_layout(self, simulated: Path, tmp_path: Path) -> None:
        own = ("--white", simulated / "references" / "white.bin", "--dark", 64)
        said("raw", simulated, "--name", "nf1111_576", *own, "--out", tmp_path)
        layout, drive = LAYOUTS[0], open_dataset(simulated)
        made = read_cube(tmp_path / "nf1111_576_TC.mat", layout, 25, (8, 16))
        np.testing.assert_allclose(made, drive.cube("nf1111_576"), rtol=0.1, atol=0.02)
        assert run("raw", simulated, *own, "--median", "--out", tmp_path).exit_code == 0
        assert (tmp_path / "nf3122_147_MF_TC.mat").is_file()

    def test_one_frame_alone(self, tmp_path: Path) -> None:
        frame = tmp_path / "nf1111_576.bin"
        frame.write_bytes(np.full((1088, 2048), 564, dtype="<u2").tobytes())
        found = said("raw", frame, "--white", 1064, "--dark", 64, "--out", tmp_path)
        assert "reflectance 0.5 to 0.5" in found
        assert read_cube(tmp_path / "nf1111_576_TC.mat", LAYOUTS[0], 25, (216, 409)).mean() == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((), "give --white and --dark"),
            (("--white", "1000"), "give --dark"),
            (("--white", "nowhere.bin", "--dark", "0"), "reference nowhere.bin: neither a number nor a file"),
            (("--white", "1000", "--dark", "0"), "no raw frames of these scenes"),
            (("--white", "1000", "--dark", "0", "--exposure", "3"), "two positive times, or neither"),
        ],
    )
    def test_what_is_lacking_is_named(self, words, message: str, root: Path, monkeypatch, capsys) -> None:
        assert message in refused(monkeypatch, capsys, "raw", root, *words)
